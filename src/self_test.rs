//! The self-test of a bundle: texts with their tokens and logits, as the exporter found them. Run before the engine starts,
//! it shows damaged weights, graphs and tokenizers, and kernels that compute wrong on this processor, before the first
//! verdict.

use std::ops::Range;

use crate::{
    Error, Result,
    bundle::{Bundle, Manifest, Precision, SelfTest},
    model::{BlockId, CacheFormat, HeadId, HeadSet, Layout, Model, Numbers, RaggedBatch, StepLogits},
    text::Tokenizer,
};

/// How far a logit may be from the exporter's, as a share of the largest magnitude of that head's logits in the text.
///
/// The exporter computes with the same weights in f32, without a cache. What differs here is, with int8 weights,
/// activations of 15 bits; with int4 weights activations of 8 bits; with an int8 cache the rounding of keys and values;
/// and the order of additions. Measured with every kernel; docs/benchmarks.md has the table.
///
/// A backend with weights of its own is compared with logits of other weights, so both roundings are between them:
/// docs/providers.md.
fn tolerance(precision: Precision, numbers: Numbers) -> f32 {
    match (precision, numbers) {
        (Precision::Fp32, Numbers::Bundle(CacheFormat::Fp32)) => 0.001,
        (Precision::Int8, Numbers::Bundle(CacheFormat::Fp32)) => 0.01,
        (Precision::Fp32 | Precision::Int8, Numbers::Bundle(CacheFormat::Int8)) => 0.25,
        (Precision::Int4, Numbers::Bundle(CacheFormat::Fp32)) => 0.2,
        (Precision::Int4, Numbers::Bundle(CacheFormat::Int8)) => 0.4,
        (Precision::Fp32, Numbers::Own { weight_bits: 32, .. }) => 0.001,
        (Precision::Fp32 | Precision::Int8, Numbers::Own { weight_bits: 8.., .. }) => 0.1,
        (_, Numbers::Own { .. }) => 0.5,
    }
}

/// Blocks of the f32 cache in which the texts are computed first, at least.
const BLOCKS: usize = 4;

/// Runs the bundle's self-test on a model that nobody uses yet. It leaves nothing but numbers in blocks that count as
/// never used.
///
/// All texts are computed in a small f32 cache, where little rounding hides little damage. If the model's own cache rounds
/// more, the longest text is computed in it as well: that shows kernels which read it wrong.
pub(crate) fn run(bundle: &Bundle, tokenizer: &Tokenizer, model: &mut dyn Model, numbers: Numbers) -> Result<()> {
    let tests = &bundle.manifest.self_test;
    check_ids(bundle, tokenizer)?;
    let longest = tests.iter().max_by_key(|test| test.ids.len()).map_or(&[][..], std::slice::from_ref);
    let blocks = longest.iter().map(|test| blocks_of(test, model.layout())).fold(BLOCKS, usize::max);
    let first = match numbers {
        Numbers::Bundle(_) => Numbers::Bundle(CacheFormat::Fp32),
        own @ Numbers::Own { .. } => own,
    };
    model.with_f32_cache(blocks, &mut |model| check_logits(bundle, tests, model, first))?;
    if numbers == first { Ok(()) } else { check_logits(bundle, longest, model, numbers) }
}

/// The tokens of all texts are the exporter's.
fn check_ids(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<()> {
    let tests = &bundle.manifest.self_test;
    for (index, test) in tests.iter().enumerate() {
        let found = tokenizer.ids(&test.text)?;
        if found != test.ids {
            let reason = format!(
                "the tokens of {:?} are {found:?}, expected {:?}: tokenizer.json is damaged, or another one",
                test.text, test.ids
            );
            return Err(bundle.field_error(&format!("self_test[{index}].ids"), reason));
        }
    }
    Ok(())
}

/// The logits of some texts are the exporter's, but for rounding.
fn check_logits(bundle: &Bundle, tests: &[SelfTest], model: &mut dyn Model, numbers: Numbers) -> Result<()> {
    let tolerance = tolerance(bundle.manifest.precision, numbers);
    let differences = differences(&bundle.manifest, tests, model).map_err(|error| match error {
        Error::Inference { reason, .. } => {
            bundle.field_error("self_test", format!("the model cannot be run: {reason}"))
        }
        other => other,
    })?;
    for (test, difference) in tests.iter().zip(differences) {
        if let Some(difference) = difference.into_iter().find(|difference| !difference.is_within(tolerance)) {
            let Difference { head, found, expected } = difference;
            let reason = format!(
                "the logits of {:?} are {found:.4?}, expected {expected:.4?}: the bundle is damaged, or this machine \
                 computes wrong",
                test.text
            );
            let all = &bundle.manifest.self_test;
            let index = all.iter().position(|other| other.ids == test.ids).unwrap_or(0);
            return Err(bundle.field_error(&format!("self_test[{index}].logits.{head}"), reason));
        }
    }
    Ok(())
}

/// What one head says of a text's last token, and what it should say.
struct Difference<'a> {
    head: &'a str,
    found: Vec<f32>,
    expected: &'a [f32],
}

impl Difference<'_> {
    /// The largest difference of a logit, as a share of the largest expected magnitude.
    fn share(&self) -> f32 {
        let largest = self.expected.iter().fold(f32::MIN_POSITIVE, |largest, logit| largest.max(logit.abs()));
        let pairs = self.found.iter().zip(self.expected);
        // What is not a number stays none.
        pairs.map(|(found, expected)| (found - expected).abs() / largest).fold(0.0, |a, b| if a > b { a } else { b })
    }

    fn is_within(&self, tolerance: f32) -> bool {
        self.found.len() == self.expected.len()
            && self.found.iter().all(|logit| logit.is_finite())
            && self.share() <= tolerance
    }
}

/// Computes all texts and compares each head. Texts are computed together, as far as they fit the cache: first all tokens
/// but the last, then the last ones, so that rows in company and rows that read the cache are both seen.
fn differences<'a>(
    manifest: &'a Manifest,
    tests: &'a [SelfTest],
    model: &mut dyn Model,
) -> Result<Vec<Vec<Difference<'a>>>> {
    let heads = (0..model.heads()).map(HeadId::new).collect();
    let layout = model.layout();
    let mut all = Vec::with_capacity(tests.len());
    let mut rest = tests;
    while !rest.is_empty() {
        let mut blocks = 0;
        let fitting = rest.iter().take_while(|test| {
            blocks += blocks_of(test, layout);
            blocks <= layout.blocks
        });
        let (group, later) = rest.split_at(fitting.count());
        if group.is_empty() {
            let Layout { blocks, block_tokens, .. } = layout;
            let reason = format!("{blocks} blocks of {block_tokens} tokens are too few for the bundle's self-test");
            return Err(Error::config("cache.mib", reason));
        }
        step(group, |test| 0..test.ids.len() - 1, HeadSet::default(), model)?;
        if let Some(logits) = step(group, |test| test.ids.len() - 1..test.ids.len(), heads, model)? {
            all.extend(group.iter().enumerate().map(|(row, test)| compare(manifest, test, &logits, row)));
        }
        rest = later;
    }
    Ok(all)
}

fn blocks_of(test: &SelfTest, layout: Layout) -> usize {
    test.ids.len().div_ceil(layout.block_tokens)
}

/// One step with some tokens of each text, all of which are read by these heads, or none if there are no such tokens.
fn step(
    tests: &[SelfTest],
    tokens: impl Fn(&SelfTest) -> Range<usize>,
    heads: HeadSet,
    model: &mut dyn Model,
) -> Result<Option<StepLogits>> {
    let mut batch = RaggedBatch::new(model.heads());
    // The last block goes to the first text: block numbers are not those that a mistake would give.
    let layout = model.layout();
    let mut free = tests.iter().map(|test| blocks_of(test, layout)).sum::<usize>();
    for test in tests {
        let tokens = tokens(test);
        let blocks: Vec<BlockId> = (0..blocks_of(test, layout)).map(|index| BlockId::new(free - 1 - index)).collect();
        free -= blocks.len();
        if !tokens.is_empty() {
            let first = batch.tokens();
            batch.push(&test.ids[tokens.clone()], tokens.start, &blocks);
            batch.want(heads, first..batch.tokens());
        }
    }
    if batch.tokens() == 0 { Ok(None) } else { model.run(&batch).map(Some) }
}

/// The heads that the text has logits of.
fn compare<'a>(manifest: &'a Manifest, test: &'a SelfTest, logits: &StepLogits, row: usize) -> Vec<Difference<'a>> {
    let heads = manifest.heads.iter().zip(&logits.heads).filter_map(|(head, found)| {
        let (head, expected) = test.logits.get_key_value(&head.name)?;
        Some(Difference { head, found: found.row(row).to_vec(), expected })
    });
    heads.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::{
        model::{
            cpu_ops::isa::Isa,
            paged::{PagedModel, PagedOptions},
        },
        runtime::Runtime,
    };

    fn bundles() -> Vec<PathBuf> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folder = |name: &str| fs::read_dir(root.join(name)).expect("run `make test-data`");
        let golden = ["target/golden", "target/golden-gen"].map(folder).into_iter().flatten();
        let mut bundles: Vec<PathBuf> =
            golden.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        bundles.extend(["export/nano/bundle", "export/nano-gen/bundle"].map(|bundle| root.join(bundle)));
        // More, such as one of the true size.
        bundles.extend(
            std::env::var("QWENGUARD_SELF_TEST_BUNDLES").iter().flat_map(|list| list.split(':')).map(PathBuf::from),
        );
        bundles.sort();
        bundles
    }

    /// Prints the table of docs/benchmarks.md: `cargo test --lib self_test -- --nocapture`.
    #[test]
    fn every_kernel_is_within_the_tolerance() {
        let runtime = Runtime::load(&crate::RuntimeConfig::default()).unwrap();
        for folder in bundles() {
            let bundle = Bundle::open(&folder).unwrap();
            for format in [CacheFormat::Fp32, CacheFormat::Int8] {
                let options = PagedOptions { format, cache_bytes: 16 << 20, threads: 1 };
                let limit = tolerance(bundle.manifest.precision, Numbers::Bundle(format));
                for isa in Isa::available() {
                    let mut model = PagedModel::on_cpu(&bundle, &runtime, &options, isa).unwrap().0;
                    let tests = &bundle.manifest.self_test;
                    let differences = differences(&bundle.manifest, tests, &mut model).unwrap();
                    let largest = differences.iter().flatten().map(Difference::share).fold(0.0, f32::max);
                    println!("{}: cache {format:?}, {}: {largest:.5} of {limit}", bundle.name(), isa.name());
                    let mut all = differences.iter().flatten();
                    assert!(all.all(|difference| difference.is_within(limit)), "{}, {}", bundle.name(), isa.name());
                }
            }
        }
    }
}
