//! The nano guard's graph with wanted rows of all kinds.

use std::path::Path;

use ndarray::Array2;

use super::*;
use crate::{
    Config, RuntimeConfig,
    model::{BlockId, HeadId, HeadSet, open},
    runtime::Runtime,
};

fn nano() -> Bundle {
    Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("export/nano/bundle")).unwrap()
}

fn opened(bundle: &Bundle, config: &Config) -> Result<Box<dyn Model>> {
    let runtime = Runtime::load(&RuntimeConfig::default())?;
    open::open(bundle, &runtime, config).map(|opened| opened.model)
}

fn model() -> Box<dyn Model> {
    let mut config = Config::default();
    (config.cache.mib, config.runtime.threads) = (4, 1);
    opened(&nano(), &config).unwrap()
}

fn set(heads: &[usize]) -> HeadSet {
    heads.iter().map(|head| HeadId::new(*head)).collect()
}

/// Two streams of 5 and 3 tokens from their beginning.
fn batch() -> RaggedBatch {
    let mut batch = RaggedBatch::new(4);
    batch.push(&[10, 20, 30, 40, 50], 0, &[BlockId::new(3)]);
    batch.push(&[60, 70, 80], 0, &[BlockId::new(1)]);
    batch
}

fn run(model: &mut dyn Model, wanted: &[&[usize]; 4]) -> StepLogits {
    let mut batch = batch();
    batch.wanted = wanted.iter().map(|rows| rows.to_vec()).collect();
    model.run(&batch).unwrap()
}

/// Each head for its own rows, with the bits that it has when all rows are wanted; also where heads that share an input want
/// different ones, and where nothing is wanted.
#[test]
fn wanted_rows_have_the_bits_of_all_rows() {
    let mut model = model();
    assert_eq!(model.heads(), 4);
    let every: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
    let all = run(&mut *model, &[every; 4]);
    assert_eq!(all.row_check.len(), 8);
    let cases: [[&[usize]; 4]; 7] = [
        [&[], &[], &[], &[]],
        [&[2], &[2], &[], &[]],
        [&[], &[], &[4, 7], &[4, 7]],
        [&[5, 6, 7], &[5, 6, 7], &[4], &[4]],
        [&[0, 3], &[1, 3, 7], every, &[]],
        [every, &[], &[7], &[0]],
        [&[], &[6], &[], every],
    ];
    for wanted in cases {
        let found = run(&mut *model, &wanted);
        for ((found, all), rows) in found.heads.iter().zip(&all.heads).zip(wanted) {
            let bits = |logits: &Array2<f32>| logits.mapv(f32::to_bits);
            assert_eq!(bits(found), bits(&all.select(Axis(0), rows)), "{wanted:?}");
        }
        assert_eq!(found.row_check, all.row_check, "{wanted:?}");
    }
}

#[test]
fn what_is_not_there_is_refused() {
    let mut model = model();
    let mut refused = |edit: fn(&mut RaggedBatch), expected: &str| {
        let mut batch = batch();
        edit(&mut batch);
        let error = model.run(&batch).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(|batch| batch.wanted[0] = vec![8], "rows or heads that are not there");
    refused(|batch| batch.wanted[3] = vec![usize::MAX], "rows or heads that are not there");
    refused(|batch| batch.wanted[1] = vec![3, 3], "rows or heads that are not there");
    refused(|batch| batch.wanted[2] = vec![3, 1], "rows or heads that are not there");
    refused(|batch| drop(batch.wanted.pop()), "rows or heads that are not there");
    refused(|batch| batch.wanted.push(vec![]), "rows or heads that are not there");
    refused(|batch| batch.input_ids[2] = -1, "an unknown token id");
    model.run(&batch()).unwrap();
}

/// Another graph is never taken instead.
#[test]
fn a_bundle_without_the_graph_is_an_error_that_names_the_provider() {
    let mut bundle = nano();
    let graph = bundle.manifest.graphs.remove("paged_cpu").unwrap();
    bundle.manifest.graphs.insert("paged_gpu".into(), graph);
    let error = opened(&bundle, &Config::default()).err().unwrap();
    assert!(matches!(&error, Error::Provider { provider, .. } if provider == "cpu"), "{error}");
    assert!(error.to_string().contains("has no graph for it"), "{error}");
}

/// What the runtime says of its own session.
#[test]
fn every_node_of_the_graph_is_on_the_processor() {
    let runtime = Runtime::load(&RuntimeConfig::default()).unwrap();
    let assigned = open::open(&nano(), &runtime, &Config::default()).unwrap().assigned;
    for own in &assigned {
        assert_eq!(own.provider, "CPUExecutionProvider");
        let attention = own.operators.iter().filter(|operator| *operator == "PagedAttention").count();
        assert_eq!(attention, 3, "{:?}", own.operators);
    }
    assert!(assigned.len() == 1 || runtime.library().to_string_lossy().contains("1.23"), "{}", assigned.len());
}

#[test]
fn logits_are_those_that_were_asked_for_by_id() {
    let mut model = model();
    let mut batch = batch();
    batch.want(set(&[2, 3]), 4..5);
    batch.want(set(&[0]), 5..8);
    let logits = model.run(&batch).unwrap();
    let shapes: Vec<_> = logits.heads.iter().map(Array2::dim).collect();
    assert_eq!(shapes, [(3, 3), (0, 8), (1, 3), (1, 9)]);
    assert_eq!(logits.first_not_finite(&batch, 0..8), None);
}
