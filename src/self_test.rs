//! The self-test of a bundle: texts with their tokens and logits, as the exporter found them. Run before the engine starts,
//! it shows damaged weights, graphs and tokenizers, and kernels that compute wrong on this processor, before the first
//! verdict.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    Error, Result,
    bundle::{Bundle, Float, Manifest, Precision, SelfTest},
    config::Activations,
    model::{BlockId, CacheFormat, HeadId, HeadSet, Layout, Model, Numbers, RaggedBatch, StepLogits},
    text::Tokenizer,
};

/// How far a logit may be from the exporter's, as a share of the largest magnitude of that head's logits in the text.
///
/// The exporter computes with the same weights in f32, without a cache. What differs here is, with int8 and int4 weights,
/// activations of 15 bits, or of 8 if they are to be fast; with an int8 cache the rounding of keys and values; and the order of additions. Measured with
/// every kernel; docs/benchmarks.md has the table.
fn tolerance(precision: Precision, format: CacheFormat, activations: Activations) -> f32 {
    match (precision, format, activations) {
        (Precision::Fp32, CacheFormat::Fp32, _) => 0.001,
        (Precision::Int8 | Precision::Int4, CacheFormat::Fp32, Activations::Exact) => 0.01,
        (Precision::Int8 | Precision::Int4, _, Activations::Fast) => 0.6,
        (_, CacheFormat::Int8, _) => 0.25,
    }
}

/// The same of a backend with weights of its own. The exporter computes with these too, and rounds where the graph does:
/// what differs is the order of additions, and what a device sums in. docs/providers.md says what was measured.
fn own_tolerance(float: Float) -> f32 {
    match float {
        Float::Fp32 => 0.001,
        Float::Fp16 => OWN_FP16,
        Float::Bf16 => OWN_BF16,
    }
}

/// About four times the most that was measured, 0.058 on WebGPU.
const OWN_FP16: f32 = 0.2;

/// About five times what bf16 itself rounds, 0.075: no device was measured.
const OWN_BF16: f32 = 0.4;

/// What a backend is held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'a> {
    /// The name of its graph.
    pub(crate) graph: &'a str,
    pub(crate) numbers: Numbers,
}

impl Held<'_> {
    /// The logits of a text that it should give: those of its graph, if that has some of its own.
    fn logits<'t>(&self, test: &'t SelfTest) -> &'t BTreeMap<String, Vec<f32>> {
        test.graphs.get(self.graph).unwrap_or(&test.logits)
    }

    fn tolerance(&self, precision: Precision) -> f32 {
        match self.numbers {
            Numbers::Bundle(format, activations) => tolerance(precision, format, activations),
            Numbers::Own { float, .. } => own_tolerance(float),
        }
    }
}

/// Blocks of the f32 cache in which the texts are computed first, at least.
const BLOCKS: usize = 4;

/// Runs the bundle's self-test on a model that nobody uses yet. It leaves nothing but numbers in blocks that count as
/// never used.
///
/// All texts are computed in a small f32 cache, where little rounding hides little damage. If the model's own cache rounds
/// more, the longest text is computed in it as well: that shows kernels which read it wrong.
pub(crate) fn run(bundle: &Bundle, tokenizer: &Tokenizer, model: &mut dyn Model, held: Held) -> Result<()> {
    let tests = &bundle.manifest.self_test;
    check_ids(bundle, tokenizer)?;
    if let Numbers::Own { .. } = held.numbers
        && let Some(index) = tests.iter().position(|test| !test.graphs.contains_key(held.graph))
    {
        let reason = "missing: export the checkpoint again, with this version".to_owned();
        return Err(bundle.field_error(&format!("self_test[{index}].graphs.{}", held.graph), reason));
    }
    let longest = tests.iter().max_by_key(|test| test.ids.len()).map_or(&[][..], std::slice::from_ref);
    let blocks = longest.iter().map(|test| blocks_of(test, model.layout())).fold(BLOCKS, usize::max);
    let first = match held.numbers {
        Numbers::Bundle(_, activations) => Numbers::Bundle(CacheFormat::Fp32, activations),
        own @ Numbers::Own { .. } => own,
    };
    let in_f32 = Held { numbers: first, ..held };
    model.with_f32_cache(blocks, &mut |model| check_logits(bundle, tests, model, in_f32))?;
    if held.numbers == first { Ok(()) } else { check_logits(bundle, longest, model, held) }
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
fn check_logits(bundle: &Bundle, tests: &[SelfTest], model: &mut dyn Model, held: Held) -> Result<()> {
    let tolerance = held.tolerance(bundle.manifest.precision);
    let differences = differences(&bundle.manifest, tests, model, held).map_err(|error| match error {
        Error::Inference { reason, .. } => {
            // Where a device has a limit, what it says of it names neither the cache nor its size.
            let hint = match held.numbers {
                Numbers::Bundle(..) => "",
                Numbers::Own { .. } => "; if that is about memory or buffers, set cache.mib to less",
            };
            bundle.field_error("self_test", format!("the model cannot be run: {reason}{hint}"))
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
            let of =
                if test.graphs.contains_key(held.graph) { format!("graphs.{}", held.graph) } else { "logits".into() };
            return Err(bundle.field_error(&format!("self_test[{index}].{of}.{head}"), reason));
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
    held: Held,
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
            all.extend(group.iter().enumerate().map(|(row, test)| compare(manifest, held.logits(test), &logits, row)));
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

/// The heads that a text has logits of.
fn compare<'a>(
    manifest: &'a Manifest,
    wanted: &'a BTreeMap<String, Vec<f32>>,
    logits: &StepLogits,
    row: usize,
) -> Vec<Difference<'a>> {
    let heads = manifest.heads.iter().zip(&logits.heads).filter_map(|(head, found)| {
        let (head, expected) = wanted.get_key_value(&head.name)?;
        Some(Difference { head, found: found.row(row).to_vec(), expected })
    });
    heads.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;
    use crate::{
        Config,
        model::{
            cpu_ops::isa::Isa,
            open,
            paged::{PagedModel, PagedOptions},
            request::Backed,
        },
        runtime::Runtime,
    };

    /// The bundles in some folders, and more: such as one of the true size.
    fn folders(names: &[&str]) -> Vec<PathBuf> {
        let entries = names.iter().flat_map(|name| fs::read_dir(root().join(name)).expect("run `make test-data`"));
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        folders.extend(
            std::env::var("QWENGUARD_SELF_TEST_BUNDLES").iter().flat_map(|list| list.split(':')).map(PathBuf::from),
        );
        folders.sort();
        folders
    }

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn bundles() -> Vec<PathBuf> {
        let mut bundles = folders(&["target/golden", "target/golden-gen"]);
        bundles.extend(["export/nano/bundle", "export/nano-gen/bundle"].map(|bundle| root().join(bundle)));
        bundles
    }

    /// Prints the table of docs/benchmarks.md: `cargo test --lib self_test -- --nocapture`.
    #[test]
    fn every_kernel_is_within_the_tolerance() {
        let runtime = Runtime::load(&crate::RuntimeConfig::default()).unwrap();
        for folder in bundles() {
            let bundle = Bundle::open(&folder).unwrap();
            let formats = [CacheFormat::Fp32, CacheFormat::Int8];
            let all =
                [Activations::Exact, Activations::Fast].map(|activations| formats.map(|format| (format, activations)));
            for (format, activations) in all.into_iter().flatten() {
                let options = PagedOptions { format, cache_bytes: 16 << 20, threads: 1, activations };
                let limit = tolerance(bundle.manifest.precision, format, activations);
                let held = Held { graph: "paged_cpu", numbers: Numbers::Bundle(format, activations) };
                for isa in Isa::available().into_iter().chain(Isa::amx()) {
                    let mut model = PagedModel::on_cpu(&bundle, &runtime, &options, isa).unwrap().0;
                    let tests = &bundle.manifest.self_test;
                    let differences = differences(&bundle.manifest, tests, &mut model, held).unwrap();
                    let largest = differences.iter().flatten().map(Difference::share).fold(0.0, f32::max);
                    println!(
                        "{}: cache {format:?}, {activations:?}, {}: {largest:.5} of {limit}",
                        bundle.name(),
                        isa.name()
                    );
                    let mut all = differences.iter().flatten();
                    assert!(all.all(|difference| difference.is_within(limit)), "{}, {}", bundle.name(), isa.name());
                }
            }
        }
    }

    /// Opens a bundle on a graph of other numbers, and prints how far it is off.
    fn check_own_graph(folder: &Path, settings: &str) {
        let bundle = Bundle::open(folder).unwrap();
        let config = Config::from_toml(&format!("cache.mib = 32\n{settings}")).unwrap();
        let graph = open::graph_for(&bundle, &config).unwrap();
        let runtime = Runtime::load(&config.runtime).unwrap();
        let Backed { mut model, numbers, .. } = open::open(&bundle, &runtime, &config).unwrap();
        let held = Held { graph, numbers };
        let Numbers::Own { weight_bits, float } = numbers else { panic!("{graph} has the bundle's numbers") };
        let limit = own_tolerance(float);
        let differences = differences(&bundle.manifest, &bundle.manifest.self_test, &mut *model, held).unwrap();
        let largest = differences.iter().flatten().map(Difference::share).fold(0.0, f32::max);
        println!("{}: {graph}, {weight_bits} bits, {float:?}: {largest:.5} of {limit}", bundle.name());
        assert!(differences.iter().flatten().all(|difference| difference.is_within(limit)), "{}", bundle.name());
    }

    #[test]
    fn portable_graphs_are_within_the_tolerance() {
        for folder in folders(&["target/golden-portable"]) {
            check_own_graph(&folder, "runtime.graph = \"portable\"");
        }
    }

    /// Prints what docs/providers.md says was measured.
    #[test]
    #[ignore = "wants a provider: make test-webgpu"]
    fn graphs_of_a_provider_are_within_the_tolerance() {
        let provider = std::env::var("QWENGUARD_TEST_PROVIDER").expect("QWENGUARD_TEST_PROVIDER names a provider");
        for folder in folders(&["target/golden-gpu", "target/golden-gpu-gen"]) {
            check_own_graph(&folder, &format!("runtime.provider = {provider:?}"));
        }
    }
}
