//! A model of AMX that runs the kernel's own instructions, after the pseudocode of Intel's manual, on any processor.

use std::{cell::RefCell, collections::HashMap};

use super::{
    activations::{RowWriter, Terms},
    amx::{Group, QUAD_BYTES, ROW_BYTES, Shapes, Tiles, instructions, multiply},
    contract::{Kernel, Tile},
    portable,
};

/// The kernel in the model.
pub(super) const KERNEL: Kernel =
    Kernel { round: round_terms, tile: tile_model, tile_rows: 16, span: 256, ..portable::KERNEL };

unsafe fn round_terms(rows: RowWriter, row: usize, values: &[f32]) {
    // SAFETY: the caller's promises.
    unsafe { rows.set(Terms::Bytes, row, values) }
}

/// With the processor's own fused multiplication where it has one, as the kernel: mingw-w64's `fmaf` rounds twice.
unsafe fn tile_model(tile: Tile) {
    // SAFETY: the caller's promises; the model needs no processor, and the fused multiplication is there.
    unsafe { if is_x86_feature_detected!("fma") { tile_model_fused(tile) } else { multiply::<Model>(tile) } }
}

#[target_feature(enable = "fma")]
unsafe fn tile_model_fused(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe { multiply::<Model>(tile) }
}

macro_rules! list {
    ($($instruction:literal),+) => { &[$($instruction),+] };
}
const INSTRUCTIONS: &[&str] = instructions!(list);

/// A tile's memory, and the shape that it was given.
#[derive(Clone, Copy)]
struct Register {
    rows: usize,
    row_bytes: usize,
    bytes: [[u8; ROW_BYTES]; 16],
}

thread_local! {
    /// The tiles, while they have shapes.
    static TILES: RefCell<Option<[Register; 8]>> = const { RefCell::new(None) };
}

struct Model;

impl Tiles for Model {
    unsafe fn configure(shapes: &Shapes) {
        let tile = |at: usize| {
            let (rows, row_bytes) = (usize::from(shapes.rows[at]), usize::from(shapes.row_bytes[at]));
            assert!(rows <= 16 && row_bytes <= ROW_BYTES && row_bytes % 4 == 0, "shape of tile {at}");
            Register { rows, row_bytes, bytes: [[0; ROW_BYTES]; 16] }
        };
        TILES.set(Some(std::array::from_fn(tile)));
    }

    unsafe fn multiply(group: Group) {
        let registers = [
            ("terms", group.terms as usize),
            ("values", group.values as usize),
            ("lines", group.lines),
            ("line", group.line_bytes),
            ("row", ROW_BYTES),
            ("quad", QUAD_BYTES),
            ("products", group.products as usize),
        ];
        TILES.with_borrow_mut(|tiles| {
            let tiles = tiles.as_mut().expect("tiles without shapes");
            // SAFETY: the caller's promises.
            unsafe { run(tiles, HashMap::from(registers)) }
        });
    }

    unsafe fn release() {
        TILES.set(None);
    }
}

/// Runs the instructions.
unsafe fn run(tiles: &mut [Register; 8], mut registers: HashMap<&'static str, usize>) {
    let (mut next, mut zero) = (0, false);
    while let Some(instruction) = INSTRUCTIONS.get(next) {
        next += 1;
        let (name, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let operands: Vec<&str> = operands.split(", ").collect();
        match (name, &operands[..]) {
            ("2:", _) => {}
            ("add", [to, from]) => *registers.get_mut(braced(to)).unwrap() += number(&registers, from),
            ("dec", [of]) => {
                let count = registers.get_mut(braced(of)).unwrap();
                *count -= 1;
                zero = *count == 0;
            }
            ("jnz", ["2b"]) if zero => {}
            ("jnz", ["2b"]) => next = INSTRUCTIONS.iter().position(|line| *line == "2:").unwrap(),
            ("tilezero", [to]) => tiles[tile(to)].bytes = [[0; ROW_BYTES]; 16],
            ("tileloadd", [to, from]) => {
                let to = &mut tiles[tile(to)];
                to.bytes = [[0; ROW_BYTES]; 16];
                for row in 0..to.rows {
                    let from = address(&registers, from, row) as *const u8;
                    // SAFETY: the caller's promises.
                    unsafe { from.copy_to_nonoverlapping(to.bytes[row].as_mut_ptr(), to.row_bytes) };
                }
            }
            ("tilestored", [to, from]) => {
                let from = &tiles[tile(from)];
                for row in 0..from.rows {
                    let to = address(&registers, to, row) as *mut u8;
                    // SAFETY: the caller's promises.
                    unsafe { to.copy_from_nonoverlapping(from.bytes[row].as_ptr(), from.row_bytes) };
                }
            }
            ("tdpbsud", [sums, signed, unsigned]) => {
                let (signed, unsigned) = (tiles[tile(signed)], tiles[tile(unsigned)]);
                tdpbsud(&mut tiles[tile(sums)], &signed, &unsigned);
            }
            _ => panic!("no such instruction: {instruction}"),
        }
    }
}

/// Products of signed bytes with unsigned ones, four at a time, added to 32-bit sums.
fn tdpbsud(sums: &mut Register, signed: &Register, unsigned: &Register) {
    // Other shapes are an invalid instruction.
    assert!(sums.rows == signed.rows && sums.row_bytes == unsigned.row_bytes);
    assert_eq!(signed.row_bytes / 4, unsigned.rows);
    for row in 0..sums.rows {
        for quad in 0..signed.row_bytes / 4 {
            for lane in 0..sums.row_bytes / 4 {
                let sum = sums.bytes[row][4 * lane..].first_chunk_mut().unwrap();
                let products = (0..4).map(|at| {
                    i32::from(signed.bytes[row][4 * quad + at] as i8) * i32::from(unsigned.bytes[quad][4 * lane + at])
                });
                *sum = i32::from_le_bytes(*sum).wrapping_add(products.sum()).to_le_bytes();
            }
        }
    }
}

fn tile(name: &str) -> usize {
    name.strip_prefix("tmm").unwrap().parse().unwrap()
}

fn braced(name: &str) -> &str {
    name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap()
}

fn number(registers: &HashMap<&'static str, usize>, operand: &str) -> usize {
    operand.parse().unwrap_or_else(|_| registers[braced(operand)])
}

/// `[base + distance of rows]` or `[base + distance of rows + bytes]`.
fn address(registers: &HashMap<&'static str, usize>, operand: &str, row: usize) -> usize {
    let inner = operand.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap();
    let terms: Vec<usize> = inner.split(" + ").map(|term| number(registers, term)).collect();
    terms[0] + row * terms[1] + terms.get(2).unwrap_or(&0)
}

#[test]
fn a_product_of_tiles_is_that_of_the_manual() {
    let register = |rows, row_bytes| Register { rows, row_bytes, bytes: [[0; ROW_BYTES]; 16] };
    let (mut sums, mut signed, mut unsigned) = (register(2, 8), register(2, 8), register(2, 8));
    signed.bytes[1][..8].copy_from_slice(&[-128, 127, -1, 2, 3, 0, 0, 1].map(|term: i8| term as u8));
    // In a row: four inputs of the first output, then of the second.
    unsigned.bytes[0][..8].copy_from_slice(&[255, 255, 1, 1, 1, 2, 3, 4]);
    unsigned.bytes[1][..8].copy_from_slice(&[10, 20, 30, 40, 0, 0, 0, 200]);
    sums.bytes[1][..4].copy_from_slice(&1000i32.to_le_bytes());
    tdpbsud(&mut sums, &signed, &unsigned);
    let found = sums.bytes[1].as_chunks().0[..3].iter().map(|sum| i32::from_le_bytes(*sum)).collect::<Vec<_>>();
    let first = 1000 - 128 * 255 + 127 * 255 - 1 + 2 + 3 * 10 + 40;
    assert_eq!(found, [first, -128 + 2 * 127 - 3 + 8 + 200, 0]);
    assert_eq!(sums.bytes[0], [0; ROW_BYTES]);
}
