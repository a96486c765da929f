//! The kernel for AMX: tiles of up to 16 rows. No processor has run it yet: its tests run its instructions in a model of
//! the tiles (`amx_model`).

use std::{arch::asm, mem::MaybeUninit};

use half::bf16;

use super::{
    PANEL, QUAD,
    activations::{LINE, LOW_BITS, Line},
    contract::{Kernel, Tile},
    wide, x86,
};

/// The most rows that a tile of the processor has.
const TILE_ROWS: usize = 16;

/// The most bytes of a row of it.
pub(super) const ROW_BYTES: usize = 64;

/// Outputs that are side by side in it.
const LANES: usize = ROW_BYTES / QUAD;

/// AMX with 8-bit products, and AVX-512 with VNNI for what is not multiplied in tiles.
pub(super) const AMX: Kernel = Kernel { tile: tile_amx, tile_rows: TILE_ROWS, coarse: None, ..x86::AVX512_VNNI };

/// Few rows leave tiles nearly empty, and vectors multiply them to the same bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile_amx(tile: Tile) {
    // SAFETY: the caller's promises.
    unsafe {
        if tile.rows <= x86::AVX512_VNNI.tile_rows { (x86::AVX512_VNNI.tile)(tile) } else { multiply::<Amx>(tile) }
    }
}

/// What multiplies in tiles: the processor, or in tests a model of it.
pub(super) trait Tiles {
    /// Gives the tiles shapes.
    ///
    /// # Safety
    /// The processor has AMX, and this process the right to use it; so below.
    unsafe fn configure(shapes: &Shapes);

    /// Writes a group's products.
    ///
    /// # Safety
    /// The tiles have shapes; the pointers are good for as many rows and lines.
    unsafe fn multiply(group: Group);

    /// Takes the shapes away, so that the system has no tiles to save.
    ///
    /// # Safety
    /// See [`Tiles::configure`].
    unsafe fn release();
}

/// The shapes of tiles, as LDTILECFG reads them.
#[repr(C, align(64))]
pub(super) struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    pub(super) row_bytes: [u16; 16],
    pub(super) rows: [u8; 16],
}

impl Shapes {
    /// For so many rows: four tiles of products, the high terms and the low ones of a line, and the line's weights, which are
    /// two tiles of 16 outputs.
    fn of(rows: usize) -> Self {
        let (row, line, quads) = (ROW_BYTES as u16, LINE as u16, (LINE / QUAD) as u8);
        let mut shapes = Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.row_bytes[..8].copy_from_slice(&[row, row, row, row, line, line, row, row]);
        shapes.rows[..6].fill(rows as u8);
        shapes.rows[6..8].fill(quads);
        shapes
    }
}

/// One group of a panel, for the rows of a tile.
#[derive(Clone, Copy)]
pub(super) struct Group {
    /// Of the first row; the others follow.
    pub(super) terms: *const Line,
    /// Bytes from a line of a row to its next one.
    pub(super) line_bytes: usize,
    pub(super) values: *const u8,
    pub(super) lines: usize,
    pub(super) products: *mut Products,
}

/// Products of high terms, then of low ones: `[outputs / 16][rows][16]`.
#[repr(C, align(64))]
pub(super) struct Products([[[[i32; LANES]; TILE_ROWS]; PANEL / LANES]; 2]);

/// The instructions for a [`Group`], for the macro that takes them. Weights of a quad lie as a row of a tile wants them, and
/// so do terms of a row. Tiles 0 to 3 are high products left and right, then low ones.
macro_rules! instructions {
    ($take:ident) => {
        $take!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{terms} + {row}]",
            "tileloadd tmm5, [{terms} + {row} + 32]",
            "tileloadd tmm6, [{values} + {quad}]",
            "tileloadd tmm7, [{values} + {quad} + 64]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tdpbsud tmm1, tmm4, tmm7",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {terms}, {line}",
            "add {values}, 1024",
            "dec {lines}",
            "jnz 2b",
            "tilestored [{products} + {row}], tmm0",
            "tilestored [{products} + {row} + 1024], tmm1",
            "tilestored [{products} + {row} + 2048], tmm2",
            "tilestored [{products} + {row} + 3072], tmm3"
        )
    };
}
#[cfg(test)]
pub(super) use instructions;

/// Bytes of a panel's weights for one quad of inputs.
pub(super) const QUAD_BYTES: usize = PANEL * QUAD;

// The numbers in the instructions.
const _: () = assert!(LINE == 32 && LINE / QUAD * QUAD_BYTES == 1024 && size_of::<Products>() == 4096);

/// The processor's tiles.
struct Amx;

impl Tiles for Amx {
    #[inline(always)]
    unsafe fn configure(shapes: &Shapes) {
        // SAFETY: the caller's promises; the shapes are 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) shapes, options(readonly, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn multiply(group: Group) {
        macro_rules! run {
            ($($instruction:literal),+) => {
                asm!(
                    $($instruction,)+
                    terms = inout(reg) group.terms => _,
                    values = inout(reg) group.values => _,
                    lines = inout(reg) group.lines => _,
                    line = in(reg) group.line_bytes,
                    row = in(reg) ROW_BYTES,
                    quad = in(reg) QUAD_BYTES,
                    products = in(reg) group.products,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                )
            };
        }
        // SAFETY: the caller's promises.
        unsafe { instructions!(run) }
    }

    #[inline(always)]
    unsafe fn release() {
        // SAFETY: the caller's promises.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
    }
}

/// Adds a tile's products to the sums of its rows.
///
/// # Safety
/// See [`super::contract::TileFn`] and [`Tiles`].
#[inline(always)]
pub(super) unsafe fn multiply<T: Tiles>(tile: Tile) {
    assert!((1..=TILE_ROWS).contains(&tile.rows) && tile.lines_per_group > 0);
    let mut products = MaybeUninit::<Products>::uninit();
    // SAFETY: the caller's promises; `products` has room for 16 rows, and those of the tile are set.
    unsafe {
        T::configure(&Shapes::of(tile.rows));
        for group in 0..tile.groups {
            let line = group * tile.lines_per_group;
            T::multiply(Group {
                terms: tile.lines.add(line * tile.stride),
                line_bytes: tile.stride * size_of::<Line>(),
                values: tile.values.add(line * LINE * PANEL),
                lines: tile.lines_per_group,
                products: products.as_mut_ptr(),
            });
            add_group(&tile, group, products.as_ptr());
        }
        T::release();
    }
}

/// Adds a group's products to the sums of the rows, in the order of the other kernels.
///
/// # Safety
/// As [`multiply`]; the rows' products are set.
#[inline(always)]
unsafe fn add_group(tile: &Tile, group: usize, products: *const Products) {
    for row in 0..tile.rows {
        let at = group * tile.stride + row;
        // SAFETY: the promises of `TileFn`.
        let (unit, offset, scales, sums) = unsafe {
            let scales = &*tile.scales.add(group * PANEL).cast::<[bf16; PANEL]>();
            (*tile.units.add(at), *tile.offsets.add(at), scales, &mut *tile.sums.add(row))
        };
        // Not in place: compilers would not see that sums are apart from scales, and make no vectors.
        let mut results = [0.0; PANEL];
        for half in 0..PANEL / LANES {
            // SAFETY: the caller's promises.
            let [high, low] = [0, 1].map(|term| unsafe { &(*products).0[term][half][row] });
            for lane in 0..LANES {
                let column = half * LANES + lane;
                let product = ((high[lane] + offset) << LOW_BITS) + low[lane];
                results[column] = (product as f32).mul_add(wide(scales[column]) * unit, sums[column]);
            }
        }
        *sums = results;
    }
}
