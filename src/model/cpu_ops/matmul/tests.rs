//! Kernels against the oracle, and the operator within ONNX Runtime.

use std::ops::RangeInclusive;

use half::bf16;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    Bits, PackedWeights, Shape,
    activations::{Activations, Rounding},
    contract::{Kernel, Output},
    kernels::kernel,
    reference::{self, PlainWeights},
};
use crate::model::cpu_ops::isa::Isa;

/// A kind of weights: their bits, and whether they have zero points.
type Kind = (Bits, bool);

const KINDS: [Kind; 3] = [(Bits::Eight, false), (Bits::Four, false), (Bits::Four, true)];

/// Inputs, outputs and group. Miri runs the same tests on less.
const SHAPES: &[(usize, usize, usize)] = if cfg!(miri) {
    &[(40, 33, 32)]
} else {
    &[
        (32, 32, 32),
        (1, 1, 32),
        (37, 5, 32),
        (96, 33, 32),
        (200, 95, 64),
        (129, 64, 64),
        (300, 40, 128),
        (256, 130, 128),
    ]
};
const ROWS: &[usize] = if cfg!(miri) { &[1, 5] } else { &[1, 2, 3, 7, 16, 33, 59, 128] };

fn random_weights(rng: &mut SmallRng, shape: Shape, has_zero_points: bool) -> PlainWeights {
    let scales = shape.outputs * shape.groups();
    PlainWeights {
        shape,
        values: (0..shape.inputs * shape.outputs).map(|_| rng.random_range(range(shape.bits)) as i8).collect(),
        scales: (0..scales).map(|_| bf16::from_f32(rng.random_range(-0.02..0.02))).collect(),
        zero_points: has_zero_points.then(|| (0..scales).map(|_| rng.random_range(0..=15)).collect()),
    }
}

/// Every shape with every kind of weights.
fn shapes() -> impl Iterator<Item = (Shape, bool)> {
    SHAPES.iter().flat_map(|&(inputs, outputs, group)| {
        KINDS.map(|(bits, has_zero_points)| (Shape::new(bits, inputs, outputs, group).unwrap(), has_zero_points))
    })
}

fn range(bits: Bits) -> RangeInclusive<i32> {
    match bits {
        Bits::Four => -8..=7,
        Bits::Eight => -128..=127,
    }
}

/// Mostly small values with an outlier now and then, as activations are.
fn random_values(rng: &mut SmallRng, count: usize) -> Vec<f32> {
    let size = |rng: &mut SmallRng| if rng.random_ratio(1, 50) { 100.0 } else { 1.0 };
    (0..count).map(|_| size(rng) * rng.random_range(-1.0..1.0)).collect()
}

const ROUNDINGS: [Rounding; 2] = [Rounding::Fine, Rounding::Coarse];

/// A kernel, its name, and how it rounds.
#[derive(Clone, Copy)]
struct Named(&'static str, Kernel, Rounding);

/// Every kernel that runs here, with both roundings.
fn kernels() -> Vec<Named> {
    ROUNDINGS.into_iter().flat_map(kernels_of).collect()
}

fn kinds_and_roundings() -> impl Iterator<Item = (Kind, Rounding)> {
    KINDS.into_iter().flat_map(|kind| ROUNDINGS.map(|rounding| (kind, rounding)))
}

/// Every kernel that runs here, the portable one first. That of AMX runs in a model of the tiles, and itself where it can.
fn kernels_of(rounding: Rounding) -> Vec<Named> {
    let known = Isa::available().into_iter().chain(Isa::amx());
    #[allow(unused_mut, reason = "there is no model elsewhere")]
    let mut kernels: Vec<Named> = known.map(|isa| Named(isa.name(), kernel(isa), rounding)).collect();
    #[cfg(target_arch = "x86_64")]
    kernels.push(Named("amx, modelled", super::amx_model::KERNEL, rounding));
    kernels
}

fn multiply(Named(_, kernel, rounding): Named, weights: &PlainWeights, rows: &[f32]) -> Vec<f32> {
    let shape = weights.shape;
    let tensors = weights.pack();
    let packed = tensors.weights(shape);
    let count = rows.len() / shape.inputs;
    let mut rounded = Activations::default();
    // What another node left behind.
    rounded.reset(count + 3, Shape::new(Bits::Eight, shape.inputs + 40, 1, 32).unwrap(), Rounding::Fine).unwrap();
    rounded.reset(count, shape, rounding).unwrap();
    let writer = rounded.writer();
    for (index, row) in rows.chunks_exact(shape.inputs).enumerate() {
        // SAFETY: nobody else uses `rounded`.
        unsafe { kernel.round(writer, index, row) };
    }
    let mut results = vec![f32::NAN; count * shape.outputs];
    for task in (0..Kernel::tasks(shape, &rounded)).rev() {
        // SAFETY: `results` has the documented size and is ours.
        unsafe { kernel.multiply(&packed, &rounded, Output(results.as_mut_ptr()), task) };
    }
    results
}

/// Compares every kernel with the oracle.
fn check(weights: &PlainWeights, rows: &[f32]) {
    for rounding in ROUNDINGS {
        check_rounded(weights, rows, rounding);
    }
}

fn check_rounded(weights: &PlainWeights, rows: &[f32], rounding: Rounding) {
    let shape = weights.shape;
    let expected = rows
        .chunks_exact(shape.inputs)
        .flat_map(|row| reference::multiply(weights, &reference::round(row, shape.group, rounding)))
        .collect::<Vec<_>>();
    for kernel in kernels_of(rounding) {
        let found = multiply(kernel, weights, rows);
        for (index, (found, (wanted, size))) in found.into_iter().zip(&expected).enumerate() {
            // One rounding for each group, a few for its factor.
            let limit = size * f64::from(f32::EPSILON) * (shape.groups() + 4) as f64;
            assert!(
                (f64::from(found) - wanted).abs() <= limit,
                "{} {shape:?} {rounding:?}: result {index} is {found} instead of {wanted}",
                kernel.0
            );
        }
    }
}

#[test]
fn random_products_are_right() {
    let mut rng = SmallRng::seed_from_u64(1);
    for (shape, has_zero_points) in shapes() {
        let weights = random_weights(&mut rng, shape, has_zero_points);
        for &rows in ROWS {
            check(&weights, &random_values(&mut rng, rows * shape.inputs));
        }
    }
}

#[test]
fn largest_products_do_not_overflow() {
    let kinds = [(Bits::Eight, None), (Bits::Four, None), (Bits::Four, Some(0)), (Bits::Four, Some(15))];
    for (group, (bits, zero_point)) in [32, 64, 128].into_iter().flat_map(|group| kinds.map(|kind| (group, kind))) {
        let shape = Shape::new(bits, 2 * group, 33, group).unwrap();
        let scales = vec![bf16::from_f32(-0.5); shape.outputs * shape.groups()];
        let zero_points = zero_point.map(|zero| vec![zero; scales.len()]);
        let (low, high) = (*range(bits).start() as i8, *range(bits).end() as i8);
        for extremes in [[low, low], [high, high], [low, high], [high, low]] {
            let values = (0..shape.inputs * shape.outputs).map(|index| extremes[index % 2]).collect();
            let (scales, zero_points) = (scales.clone(), zero_points.clone());
            let weights = PlainWeights { shape, values, scales, zero_points };
            for signs in [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]] {
                let row = (0..shape.inputs).map(|index| signs[index % 2] * 1e4).collect::<Vec<_>>();
                check(&weights, &row);
                // The low terms at their extremes, too: 16256 levels are 1e4, so this is a level with -64 below a high.
                let row =
                    row.iter().enumerate().map(|(index, value)| if index % 3 == 0 { *value } else { value * 0.996 });
                check(&weights, &row.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn zeros_and_values_at_the_ends_of_the_range_are_right() {
    let mut rng = SmallRng::seed_from_u64(2);
    let weights = random_weights(&mut rng, Shape::new(Bits::Eight, 96, 40, 32).unwrap(), false);
    let row = random_values(&mut rng, 96);
    let scaled = |factor: f32| row.iter().map(|value| value * factor).collect::<Vec<_>>();
    check(&weights, &[vec![0.0; 96], row.clone(), vec![-0.0; 96]].concat());
    check(&weights, &[scaled(1e-28), row.clone(), scaled(1e30)].concat());
    // Denormal values, and those whose unit would be denormal, count as zero.
    for kernel in kernels() {
        for factor in [1e-36, 1e-40, f32::from_bits(1)] {
            let found = multiply(kernel, &weights, &[scaled(factor), row.clone()].concat());
            assert_eq!(found[..40], [0.0; 40], "{}", kernel.0);
            assert_eq!(found[40..], multiply(kernel, &weights, &row), "{}", kernel.0);
        }
        // A product beyond the range is infinite, or not a number when two such meet.
        let found = multiply(kernel, &weights, &[scaled(3e36), row.clone()].concat());
        assert_eq!(found[40..], multiply(kernel, &weights, &row), "{}", kernel.0);
    }
}

#[test]
fn values_that_are_not_finite_spoil_their_row_only() {
    let mut rng = SmallRng::seed_from_u64(3);
    let kinds = KINDS.map(|(bits, zero)| random_weights(&mut rng, Shape::new(bits, 70, 40, 32).unwrap(), zero));
    let rows = random_values(&mut rng, 5 * 70);
    for (kernel, weights) in kernels().into_iter().flat_map(|kernel| kinds.iter().map(move |kind| (kernel, kind))) {
        let whole = multiply(kernel, weights, &rows);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 33, 69] {
                let mut spoilt = rows.clone();
                spoilt[2 * 70 + at] = bad;
                let found = multiply(kernel, weights, &spoilt);
                assert!(found[2 * 40..3 * 40].iter().all(|value| value.is_nan()), "{}", kernel.0);
                assert_eq!(found[..2 * 40], whole[..2 * 40], "{}", kernel.0);
                assert_eq!(found[3 * 40..], whole[3 * 40..], "{}", kernel.0);
            }
        }
    }
}

/// A stream's verdicts must not depend on who shares its batch.
#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    let mut rng = SmallRng::seed_from_u64(4);
    for (shape, has_zero_points) in shapes() {
        let weights = random_weights(&mut rng, shape, has_zero_points);
        let Shape { inputs, outputs, .. } = shape;
        let count = if cfg!(miri) { 6 } else { 261 };
        let rows = random_values(&mut rng, count * inputs);
        for kernel in kernels() {
            let whole = multiply(kernel, &weights, &rows);
            let mut first = 0;
            while first < count {
                let last = (first + rng.random_range(1..=20)).min(count);
                let part = multiply(kernel, &weights, &rows[first * inputs..last * inputs]);
                assert_eq!(part, whole[first * outputs..last * outputs], "{} rows {first}..{last}", kernel.0);
                first = last;
            }
            for row in [0, count / 2, count - 1] {
                let alone = multiply(kernel, &weights, &rows[row * inputs..][..inputs]);
                assert_eq!(alone, whole[row * outputs..][..outputs], "{} row {row}", kernel.0);
            }
        }
    }
}

/// Integers are exact and groups are added up in the same order, with a fused multiplication: only the portable kernel,
/// which has none on x86-64, may differ.
#[test]
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
fn vector_kernels_agree_on_every_bit() {
    let mut rng = SmallRng::seed_from_u64(5);
    for ((bits, has_zero_points), rounding) in kinds_and_roundings() {
        let weights = random_weights(&mut rng, Shape::new(bits, 300, 70, 64).unwrap(), has_zero_points);
        let rows = random_values(&mut rng, 19 * 300);
        let results = kernels_of(rounding)
            .split_off(1)
            .into_iter()
            .map(|kernel| multiply(kernel, &weights, &rows))
            .collect::<Vec<_>>();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// A group alone is rounded as often without a fused multiplication, so the portable kernel gives the same bits, too.
#[test]
fn all_kernels_agree_on_every_bit_of_one_group() {
    let mut rng = SmallRng::seed_from_u64(7);
    for (group, (bits, has_zero_points)) in [32, 64, 128].into_iter().flat_map(|group| KINDS.map(|kind| (group, kind)))
    {
        let weights = random_weights(&mut rng, Shape::new(bits, group, 70, group).unwrap(), has_zero_points);
        for &rows in ROWS {
            let rows = random_values(&mut rng, rows * group);
            for rounding in [Rounding::Fine, Rounding::Coarse] {
                let alike = kernels().into_iter().filter(|kernel| kernel.2 == rounding);
                let results: Vec<_> = alike.map(|kernel| (kernel.0, multiply(kernel, &weights, &rows))).collect();
                for (name, found) in &results[1..] {
                    assert_eq!(*found, results[0].1, "{name}, {rounding:?}, group {group}");
                }
            }
        }
    }
}

#[test]
fn activations_lose_a_part_in_thirty_thousand_or_in_250() {
    let mut rng = SmallRng::seed_from_u64(6);
    for group in [32, 64, 128] {
        // The identity, so that results are what activations were rounded to.
        let shape = Shape::new(Bits::Eight, group, group, group).unwrap();
        let values = (0..group * group).map(|at| i8::from(at / group == at % group)).collect();
        let weights = PlainWeights { shape, values, scales: vec![bf16::ONE; group], zero_points: None };
        let row = random_values(&mut rng, group);
        let largest = row.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
        for kernel in kernels() {
            for (found, wanted) in multiply(kernel, &weights, &row).iter().zip(&row) {
                let levels = if kernel.2 == Rounding::Fine { 16256.0 } else { 127.0 };
                assert!((found - wanted).abs() <= largest / levels * 0.501, "{}: {found}, {wanted}", kernel.0);
            }
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    for (inputs, outputs, group) in [(0, 1, 32), (1, 0, 32), (64, 64, 16), (64, 64, 0), (usize::MAX, 1, 32)] {
        assert!(Shape::new(Bits::Eight, inputs, outputs, group).is_err(), "{inputs} {outputs} {group}");
    }
    let shape = Shape::new(Bits::Eight, 40, 33, 32).unwrap();
    let (values, scales) = (vec![0; 2 * 64 * 32], vec![bf16::ZERO; 2 * 2 * 32]);
    assert!(PackedWeights::new(shape, &values, &scales).is_ok());
    assert!(PackedWeights::new(shape, &values[1..], &scales).is_err());
    assert!(PackedWeights::new(shape, &values, &scales[1..]).is_err());
    let half = Shape::new(Bits::Four, 40, 33, 32).unwrap();
    let symmetric = PackedWeights::new(half, &values[..2 * 32 * 32], &scales).unwrap();
    assert!(PackedWeights::new(half, &values, &scales).is_err());
    assert!(symmetric.with_zero_points(&[0x88; 2 * 2 * 16]).is_ok());
    assert!(symmetric.with_zero_points(&[0x88; 2 * 2 * 16 - 1]).is_err());
    assert!(symmetric.with_zero_points(&[0x88; 2 * 2 * 32]).is_err());
    let whole = PackedWeights::new(shape, &values, &scales).unwrap();
    assert!(whole.with_zero_points(&[0x88; 2 * 2 * 16]).is_err());
}

/// Zero points of 8 are symmetric weights, to the bit.
#[test]
fn zero_points_of_eight_change_nothing() {
    let mut rng = SmallRng::seed_from_u64(10);
    for group in [32, 64, 128] {
        let symmetric = random_weights(&mut rng, Shape::new(Bits::Four, 150, 45, group).unwrap(), false);
        let eights = PlainWeights { zero_points: Some(vec![8; symmetric.scales.len()]), ..symmetric.clone() };
        let rows = random_values(&mut rng, 9 * 150);
        for kernel in kernels() {
            assert_eq!(multiply(kernel, &eights, &rows), multiply(kernel, &symmetric, &rows), "{}", kernel.0);
        }
    }
}

#[cfg(not(miri))]
mod operator {
    //! One node in a session of ONNX Runtime.

    use ort::{session::Session, value::Tensor};

    use super::*;
    use crate::{
        model::cpu_ops::operators,
        runtime::{Runtime, one_session_at_a_time},
    };

    /// A field of a protocol buffer: less than 2^14 bytes.
    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        // Two bytes for the size, whatever it is, are legal and simple.
        let size = content.len();
        assert!(size < 1 << 14);
        [&[field << 3 | 2, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8], content].concat()
    }

    /// A field of a protocol buffer: a number below 2^14.
    fn number(field: u8, value: u16) -> Vec<u8> {
        let key = u16::from(field) << 3;
        [key, value].into_iter().flat_map(|n| [(n & 0x7f) as u8 | 0x80, (n >> 7) as u8]).collect()
    }

    const FLOAT: u16 = 1;
    const BFLOAT16: u16 = 16;
    const UINT8: u16 = 2;
    const INT64: u16 = 7;

    /// A model of one node whose weights are inputs.
    fn model(operator: &str, inputs: &[(&str, u16)], attributes: [(&str, u16); 3]) -> Vec<u8> {
        let value = |name: &str, ty: u16| {
            let tensor = bytes(1, &number(1, ty));
            [bytes(1, name.as_bytes()), bytes(2, &tensor)].concat()
        };
        let attributes = attributes
            .map(|(name, value)| bytes(5, &[bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat()));
        let node = [
            inputs.iter().flat_map(|(name, _)| bytes(1, name.as_bytes())).collect(),
            bytes(2, b"y"),
            bytes(3, b"node"),
            bytes(4, operator.as_bytes()),
            attributes.concat(),
            bytes(7, b"ai.qwenguard"),
        ];
        let graph = [
            bytes(1, &node.concat()),
            bytes(2, b"graph"),
            inputs.iter().flat_map(|(name, ty)| bytes(11, &value(name, *ty))).collect(),
            bytes(12, &value("y", FLOAT)),
        ];
        let own = [bytes(1, b"ai.qwenguard"), number(2, 1)].concat();
        [number(1, 10), bytes(7, &graph.concat()), bytes(8, &number(2, 21)), bytes(8, &own)].concat()
    }

    fn session(kind: Kind, attributes: [(&str, u16); 3]) -> ort::Result<Session> {
        rounding_session(kind, attributes, Rounding::Fine)
    }

    fn rounding_session(kind: Kind, attributes: [(&str, u16); 3], rounding: Rounding) -> ort::Result<Session> {
        let (bits, has_zero_points) = kind;
        let inputs = [("a", FLOAT), ("values", UINT8), ("scales", BFLOAT16), ("zero_points", UINT8)];
        let inputs = if has_zero_points { &inputs[..] } else { &inputs[..3] };
        session_of(&model(super::super::operator::name_of(bits), inputs, attributes), rounding)
    }

    fn session_of(model: &[u8], rounding: Rounding) -> ort::Result<Session> {
        let runtime = Runtime::load(&Default::default()).unwrap();
        let _turn = one_session_at_a_time();
        let domain = operators(Isa::detect(), rounding)?;
        runtime.session_builder(3)?.with_operators(domain)?.commit_from_memory(model)
    }

    fn run(session: &mut Session, weights: &PlainWeights, dims: [usize; 2], rows: &[f32]) -> Result<Vec<f32>, String> {
        let tensors = weights.pack();
        let rows = Tensor::from_array((dims, rows.to_vec())).unwrap();
        let values = Tensor::from_array((weights.shape.values_dims(), tensors.values)).unwrap();
        let scales = Tensor::from_array((weights.shape.scales_dims(), tensors.scales)).unwrap();
        let mut inputs = ort::inputs!["a" => rows, "values" => values, "scales" => scales];
        if let Some(zero_points) = tensors.zero_points {
            let zero_points = Tensor::from_array((weights.shape.zero_points_dims(), zero_points)).unwrap();
            inputs.push(("zero_points".into(), zero_points.into()));
        }
        let outputs = session.run(inputs).map_err(|error| error.to_string())?;
        Ok(outputs["y"].try_extract_tensor::<f32>().unwrap().1.to_vec())
    }

    #[test]
    fn a_node_gives_the_kernels_results() {
        let mut rng = SmallRng::seed_from_u64(7);
        for (kind, rounding) in kinds_and_roundings() {
            let weights = random_weights(&mut rng, Shape::new(kind.0, 300, 1000, 32).unwrap(), kind.1);
            let mut session = rounding_session(kind, [("K", 300), ("N", 1000), ("group", 32)], rounding).unwrap();
            // Rounded by one thread and by several; of a head that nobody wants there are no rows.
            for count in [1, 130, 0, 7] {
                let rows = random_values(&mut rng, count * 300);
                let found = run(&mut session, &weights, [count, 300], &rows).unwrap();
                assert_eq!(found, multiply(Named("the best", kernel(Isa::detect()), rounding), &weights, &rows));
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut rng = SmallRng::seed_from_u64(8);
        let weights = random_weights(&mut rng, Shape::new(Bits::Eight, 64, 40, 32).unwrap(), false);
        let mut node = session((Bits::Eight, false), [("K", 64), ("N", 40), ("group", 32)]).unwrap();
        let error = run(&mut node, &weights, [2, 63], &[0.0; 2 * 63]).unwrap_err();
        assert!(error.contains("MatMulInt8 node: activations have the shape [2, 63]"), "{error}");
        let other = random_weights(&mut rng, Shape::new(Bits::Eight, 64, 72, 32).unwrap(), false);
        let error = run(&mut node, &other, [1, 64], &[0.0; 64]).unwrap_err();
        assert!(error.contains("do not fit"), "{error}");
        assert_eq!(run(&mut node, &weights, [1, 64], &[0.0; 64]).unwrap(), [0.0; 40]);
    }

    /// The bytes are as many, in other dimensions; or they are of another type.
    #[test]
    fn wrong_zero_points_are_errors() {
        let mut rng = SmallRng::seed_from_u64(11);
        let weights = random_weights(&mut rng, Shape::new(Bits::Four, 64, 40, 32).unwrap(), true);
        let attributes = [("K", 64), ("N", 40), ("group", 32)];
        let mut node = session((Bits::Four, true), attributes).unwrap();
        assert_eq!(run(&mut node, &weights, [1, 64], &[0.0; 64]).unwrap(), [0.0; 40]);
        let tensors = weights.pack();
        let inputs = || {
            ort::inputs![
                "a" => Tensor::from_array(([1, 64], vec![0f32; 64])).unwrap(),
                "values" => Tensor::from_array((weights.shape.values_dims(), tensors.values.clone())).unwrap(),
                "scales" => Tensor::from_array((weights.shape.scales_dims(), tensors.scales.clone())).unwrap(),
            ]
        };
        let mut others = inputs();
        others.push(("zero_points".into(), Tensor::from_array(([2, 1, 32], vec![0u8; 64])).unwrap().into()));
        let error = node.run(others).unwrap_err().to_string();
        assert!(error.contains("MatMulInt4 node: zero points [2, 1, 32] do not fit"), "{error}");
        let inputs = [("a", FLOAT), ("values", UINT8), ("scales", BFLOAT16), ("zero_points", FLOAT)];
        let error = session_of(&model("MatMulInt4", &inputs, attributes), Rounding::Fine).unwrap_err().to_string();
        assert!(error.contains("zero_points"), "{error}");
        let inputs = [("a", FLOAT), ("values", UINT8), ("scales", BFLOAT16), ("zero_points", UINT8)];
        let error = session_of(&model("MatMulInt8", &inputs, attributes), Rounding::Fine).unwrap_err().to_string();
        assert!(error.contains("MatMulInt8"), "{error}");
    }

    #[test]
    fn wrong_attributes_are_errors() {
        let error = session((Bits::Eight, false), [("K", 64), ("N", 40), ("group", 48)]).unwrap_err().to_string();
        assert!(error.contains("MatMulInt8 node: sizes"), "{error}");
        let error = session((Bits::Eight, false), [("K", 64), ("N", 40), ("groups", 32)]).unwrap_err().to_string();
        assert!(error.contains("attribute group is missing"), "{error}");
    }

    fn gather(session: &mut Session, weights: &PlainWeights, dims: Vec<i64>, ids: &[i64]) -> Result<Vec<f32>, String> {
        let tensors = weights.pack();
        let values = Tensor::from_array((weights.shape.values_dims(), tensors.values)).unwrap();
        let scales = Tensor::from_array((weights.shape.scales_dims(), tensors.scales)).unwrap();
        let ids = Tensor::from_array((dims, ids.to_vec())).unwrap();
        let outputs = session.run(ort::inputs![values, scales, ids]).map_err(|error| error.to_string())?;
        Ok(outputs["y"].try_extract_tensor::<f32>().unwrap().1.to_vec())
    }

    #[test]
    fn gathered_rows_are_those_of_the_weights() {
        let mut rng = SmallRng::seed_from_u64(9);
        let inputs = [("values", UINT8), ("scales", BFLOAT16), ("ids", INT64)];
        for (width, rows, group) in [(70, 1000, 32), (128, 33, 64), (129, 31, 128)] {
            let attributes = [("K", width as u16), ("N", rows as u16), ("group", group as u16)];
            let mut node = session_of(&model("GatherInt8", &inputs, attributes), Rounding::Fine).unwrap();
            let weights = random_weights(&mut rng, Shape::new(Bits::Eight, width, rows, group).unwrap(), false);
            for count in [1usize, 0, 50] {
                let ids: Vec<i64> = (0..count).map(|_| rng.random_range(0..rows as i64)).collect();
                let found = gather(&mut node, &weights, vec![count as i64], &ids).unwrap();
                let wanted = ids.iter().flat_map(|id| (0..width).map(|input| weights.weight(*id as usize, input)));
                assert_eq!(found, wanted.map(|weight| weight as f32).collect::<Vec<_>>());
            }
            for id in [-1, rows as i64, i64::MAX, i64::MIN] {
                let error = gather(&mut node, &weights, vec![2], &[0, id]).unwrap_err();
                assert!(error.contains(&format!("GatherInt8 node: there is no row {id} of {rows}")), "{error}");
            }
            let error = gather(&mut node, &weights, vec![1, 1], &[0]).unwrap_err();
            assert!(error.contains("GatherInt8 node: ids have the shape [1, 1]"), "{error}");
            let other = random_weights(&mut rng, Shape::new(Bits::Eight, width, rows + 64, group).unwrap(), false);
            assert!(gather(&mut node, &other, vec![1], &[0]).unwrap_err().contains("do not fit"));
        }
    }
}
