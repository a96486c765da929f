use ndarray::array;

use super::*;

fn set(heads: &[usize]) -> HeadSet {
    heads.iter().map(|head| HeadId::new(*head)).collect()
}

#[test]
fn sets_of_heads_have_each_once() {
    let heads = |heads: HeadSet| heads.iter().map(HeadId::index).collect::<Vec<_>>();
    assert_eq!(heads(set(&[3, 0, 3, 15])), [0, 3, 15]);
    assert!(heads(HeadSet::default()).is_empty());
}

/// Five tokens of two streams: of head 0 the rows 1, 3 and 4 are wanted, of head 1 none, of head 2 row 3.
fn step() -> (RaggedBatch, StepLogits) {
    let mut batch = RaggedBatch::new(3);
    batch.push(&[1, 2, 3], 0, &[BlockId::new(0)]);
    batch.want(set(&[0]), 1..2);
    batch.push(&[4, 5], 0, &[BlockId::new(1)]);
    batch.want(set(&[0, 2]), 3..4);
    batch.want(set(&[0]), 4..5);
    let heads = vec![array![[1.0, 1.5], [3.0, 3.5], [4.0, 4.5]], Array2::zeros((0, 7)), array![[9.0]]];
    (batch, StepLogits { heads, row_check: vec![0.0; 5] })
}

#[test]
fn a_streams_rows_are_found_among_those_of_all() {
    let (batch, logits) = step();
    assert_eq!(logits.rows(&batch, HeadId::new(0), 0..3), array![[1.0, 1.5]]);
    assert_eq!(logits.rows(&batch, HeadId::new(0), 3..5), array![[3.0, 3.5], [4.0, 4.5]]);
    assert_eq!(logits.rows(&batch, HeadId::new(0), 2..3).nrows(), 0);
    assert_eq!(logits.rows(&batch, HeadId::new(1), 0..5).dim(), (0, 7));
    assert_eq!(logits.rows(&batch, HeadId::new(2), 3..4), array![[9.0]]);
}

#[test]
fn the_first_number_that_is_not_finite_counts() {
    let (batch, mut logits) = step();
    assert_eq!(logits.first_not_finite(&batch, 0..5), None);
    logits.heads[0][[2, 1]] = f32::NAN;
    assert_eq!(logits.first_not_finite(&batch, 0..5), Some(4));
    assert_eq!(logits.first_not_finite(&batch, 0..3), None, "another stream's");
    logits.heads[2][[0, 0]] = f32::NEG_INFINITY;
    assert_eq!(logits.first_not_finite(&batch, 3..5), Some(3));
    logits.row_check[2] = f32::INFINITY;
    assert_eq!(logits.first_not_finite(&batch, 0..5), Some(2));
    assert_eq!(logits.first_not_finite(&batch, 3..5), Some(3));
    logits.row_check[4] = f32::NAN;
    assert_eq!(logits.first_not_finite(&batch, 4..5), Some(4));
}

#[test]
fn logits_of_heads_by_id() {
    let logits: Logits = [(HeadId::new(2), array![[1.0], [2.0]])].into_iter().collect();
    assert_eq!(logits.head(HeadId::new(2)), array![[1.0], [2.0]]);
    assert_eq!(logits.head(HeadId::new(0)).dim(), (0, 0));
    assert_eq!(Logits::default().head(HeadId::new(2)).nrows(), 0);
}
