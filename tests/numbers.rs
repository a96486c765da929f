//! Numbers that are wrong: damage is found when a bundle is opened, also where digests do not show it; what gets past that
//! is an error, never a verdict.

mod common;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use common::{bundle, root};
use qwenguard::{CachePrecision, Config, Error, Guard, Message};
use toml::{Table, Value};

/// A bundle that may be damaged. With the copy the folder goes.
struct Copy(tempfile::TempDir);

/// Where a tensor is.
struct Place {
    file: &'static str,
    bytes: Range<usize>,
}

impl Copy {
    fn of(bundle: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(bundle).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Copy(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        let before = bytes.clone();
        edit(&mut bytes);
        assert!(bytes != before, "{file} was not changed");
        fs::write(self.path(file), bytes).unwrap();
    }

    fn edit_manifest(&self, edit: impl FnOnce(&mut Table)) {
        self.edit("guard.toml", |bytes| {
            let mut table: Table = std::str::from_utf8(bytes).unwrap().parse().unwrap();
            edit(&mut table);
            *bytes = table.to_string().into_bytes();
        });
    }

    /// The bytes of a tensor, by what follows its name in the graph's protocol buffer: small ones are there (field 9),
    /// large ones are in `weights.bin`, at an offset that is written there in digits.
    fn tensor(&self, name: &str) -> Place {
        let graph = fs::read(self.path("paged.onnx")).unwrap();
        let named = [&[0x42, name.len() as u8], name.as_bytes()].concat();
        let at = find(&graph, &named).unwrap_or_else(|| panic!("no tensor {name}")) + named.len();
        if graph[at] == 0x4a {
            // A length of two bytes, of seven bits each.
            let (low, high) = (graph[at + 1] as usize, graph[at + 2] as usize);
            assert!(low >= 0x80 && high < 0x80, "{name} is of another size");
            return Place { file: "paged.onnx", bytes: at + 3..at + 3 + (low & 0x7f | high << 7) };
        }
        let number = |key: &str| -> usize {
            let at = at + find(&graph[at..], key.as_bytes()).unwrap() + key.len();
            let digits = &graph[at + 2..][..graph[at + 1] as usize];
            std::str::from_utf8(digits).unwrap().parse().unwrap()
        };
        let offset = number("offset");
        Place { file: "weights.bin", bytes: offset..offset + number("length") }
    }

    fn edit_tensor(&self, name: &str, edit: impl FnOnce(&mut [u8])) {
        let Place { file, bytes: place } = self.tensor(name);
        self.edit(file, |bytes| edit(&mut bytes[place]));
    }

    fn open(&self, config: &Config) -> Result<Guard, Error> {
        Guard::open_with(self.0.path(), config)
    }

    /// Opening it without digests fails in the self-test, whatever the cache; with them, and by default, in any case.
    fn is_found(&self, what: &str) {
        for precision in [CachePrecision::Fp32, CachePrecision::Int8] {
            let mut config = Config { verify_files: false, ..Config::default() };
            config.cache.precision = precision;
            let error =
                self.open(&config).err().unwrap_or_else(|| panic!("{what}, {precision:?}: not found")).to_string();
            assert!(
                error.contains("self_test") && error.contains(&*self.0.path().to_string_lossy()),
                "{what}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        let error = self.open(&Config::default()).err().unwrap().to_string();
        assert!(error.contains("SHA-256"), "{what}: {error}");
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Bundles that every kind of damage is tried on.
fn bundles() -> Vec<PathBuf> {
    let mut bundles = vec![root().join("export/nano/bundle")];
    bundles.extend(["grouped-bf16", "multiquery-fp32"].map(|checkpoint| bundle(checkpoint, "int8")));
    bundles.extend(["odd-bf16", "deep-untied-bf16"].map(|checkpoint| bundle(checkpoint, "fp32")));
    bundles
}

/// The weights of a layer's first matrix, which have a suffix where they are quantised.
fn qkv(copy: &Copy, layer: usize) -> String {
    let manifest = fs::read_to_string(copy.path("guard.toml")).unwrap();
    let suffix = if manifest.contains("precision = \"fp32\"") { "" } else { ".packed" };
    format!("layers.{layer}.attn.qkv{suffix}")
}

/// Little damage is not hidden by the rounding of an 8-bit cache. (What is smaller, digests find.)
#[test]
fn a_page_of_zeros_is_found() {
    let bundle = root().join("export/nano/bundle");
    for layer in 0..3 {
        for matrix in ["attn.qkv", "mlp.gate_up"] {
            let copy = Copy::of(&bundle);
            let name = format!("layers.{layer}.{matrix}.packed");
            copy.edit_tensor(&name, |weights| {
                let middle = weights.len() / 2;
                weights[middle..][..4096].fill(0);
            });
            copy.is_found(&format!("4 KiB of {name}"));
        }
    }
}

#[test]
fn scales_of_ones_are_found() {
    for bundle in bundles().into_iter().take(3) {
        let copy = Copy::of(&bundle);
        copy.edit_tensor("layers.1.attn.qkv.scales", |scales| scales[..4].fill(0xff));
        copy.is_found(&format!("{}: a scale", bundle.display()));
    }
}

#[test]
fn a_layer_of_zeros_is_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        copy.edit_tensor(&qkv(&copy, 1), |values| values.fill(0));
        copy.is_found(&format!("{}: zeros", bundle.display()));
    }
}

#[test]
fn swapped_layers_are_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        let (first, second) = (copy.tensor(&qkv(&copy, 0)).bytes, copy.tensor(&qkv(&copy, 1)).bytes);
        copy.edit("weights.bin", |bytes| {
            let values = bytes[first.clone()].to_vec();
            bytes.copy_within(second.clone(), first.start);
            bytes[second].copy_from_slice(&values);
        });
        copy.is_found(&format!("{}: swapped", bundle.display()));
    }
}

/// What a crash of the exporting machine, or of a copying one, leaves.
#[test]
fn an_end_of_zeros_is_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        copy.edit("weights.bin", |bytes| {
            let end = bytes.len();
            bytes[end - end / 100..].fill(0);
        });
        copy.is_found(&format!("{}: the last percent", bundle.display()));
    }
}

/// The angles of another base.
#[test]
fn another_rope_theta_is_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        let manifest: Table = fs::read_to_string(copy.path("guard.toml")).unwrap().parse().unwrap();
        let model = &manifest["model"];
        let size = |name: &str| model[name].as_integer().unwrap() as usize;
        let (half, theta) = (size("head_dim") / 2, model["rope_theta"].as_float().unwrap() as f32 * 100.0);
        for (name, of) in [("rope.cos", f32::cos as fn(f32) -> f32), ("rope.sin", f32::sin)] {
            let table = (0..size("context") * half).flat_map(|index| {
                let (position, pair) = ((index / half) as f32, (index % half) as f32);
                of(position * theta.powf(-pair / half as f32)).to_le_bytes()
            });
            let table: Vec<u8> = table.collect();
            copy.edit_tensor(name, |angles| angles.copy_from_slice(&table));
        }
        copy.is_found(&format!("{}: rope", bundle.display()));
    }
}

/// An attribute of the attention: field 1 of an attribute is its name, field 2 a float, field 3 an integer.
fn edit_attribute(copy: &Copy, name: &str, value: &[u8]) {
    copy.edit("paged.onnx", |bytes| {
        let named = [&[0x0a, name.len() as u8], name.as_bytes()].concat();
        let at = find(bytes, &named).unwrap() + named.len();
        bytes[at..at + value.len()].copy_from_slice(value);
    });
}

#[test]
fn another_attention_is_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        let float = |value: f32| [&[0x15][..], &value.to_le_bytes()].concat();
        edit_attribute(&copy, "scale", &float(0.6));
        copy.is_found(&format!("{}: scale", bundle.display()));
    }
}

#[test]
fn a_permuted_vocabulary_is_found() {
    for bundle in bundles() {
        let copy = Copy::of(&bundle);
        copy.edit("tokenizer.json", |bytes| {
            let mut json: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let vocab = json["model"]["vocab"].as_object_mut().unwrap();
            // Every two tokens change places, so that the largest id stays.
            let count = vocab.len() as u64 / 2 * 2;
            for (_, id) in vocab.iter_mut() {
                let number = id.as_u64().unwrap();
                if number < count {
                    *id = (number ^ 1).into();
                }
            }
            *bytes = serde_json::to_vec(&json).unwrap();
        });
        copy.edit_manifest(|table| {
            let len = fs::metadata(copy.path("tokenizer.json")).unwrap().len();
            table["files"]["tokenizer.json"]["bytes"] = Value::Integer(len as i64);
        });
        copy.is_found(&format!("{}: vocabulary", bundle.display()));
    }
}

#[test]
fn a_wrong_self_test_is_named() {
    let logit = |table: &mut Table, logit: f64| {
        table["self_test"][0]["logits"]["query_risk"][1] = Value::Float(logit);
    };
    type Edit<'a> = (&'a dyn Fn(&mut Table), &'a str);
    let cases: [Edit; 9] = [
        (&|table| drop(table.remove("self_test")), "self_test: missing: export"),
        (&|table| table["self_test"] = Value::Array(vec![]), "self_test: missing: export"),
        (&|table| logit(table, 1e6), "self_test[0].logits.query_risk: the logits of \"The kettle"),
        (&|table| logit(table, f64::NAN), "self_test[0].logits.query_risk: not all logits are finite"),
        (&|table| logit(table, 1e300), "self_test[0].logits.query_risk: not all logits are finite"),
        (
            &|table| drop(table["self_test"][1]["logits"]["query_risk"].as_array_mut().unwrap().pop()),
            "self_test[1].logits.query_risk: 2 logits",
        ),
        (&|table| table["self_test"][2]["ids"][0] = Value::Integer(6144), "self_test[2].ids: 6144 is not below"),
        (&|table| table["self_test"][2]["ids"] = Value::Array(vec![]), "self_test[2].ids: 0 tokens"),
        (
            &|table| table["self_test"][3]["text"] = "another".into(),
            "self_test[3].ids: the tokens of \"another\" are [",
        ),
    ];
    for (edit, expected) in cases {
        let copy = Copy::of(&root().join("export/nano/bundle"));
        copy.edit_manifest(edit);
        let error = copy.open(&Config::default()).err().unwrap_or_else(|| panic!("accepted: {expected}"));
        assert!(matches!(error, Error::BundleField { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error} is not about {expected}");
    }
}

/// The self-test is no part of what a guard did.
#[test]
fn a_self_test_leaves_no_trace() {
    let path = root().join("export/nano/bundle");
    let without = Guard::open_with(&path, &Config { self_test: false, ..Config::default() }).unwrap();
    let with = Guard::open(&path).unwrap();
    assert_eq!(with.stats(), without.stats());
    let verdict = |guard: &Guard| {
        let mut stream = guard.stream().unwrap();
        stream.prompt(&[Message::user("Tell me how to break into my neighbour's house at night.")]).unwrap().verdict
    };
    assert_eq!(verdict(&with), verdict(&without));
    assert_eq!(with.stats().prefix_hit_tokens, 0);
}

/// A cache of the least size is enough for it.
#[test]
fn the_smallest_cache_runs_the_self_test() {
    let mut config = Config::default();
    config.cache.mib = 1;
    config.cache.precision = CachePrecision::Fp32;
    for bundle in bundles() {
        Guard::open_with(&bundle, &config).unwrap();
    }
}

fn damaged(bundle: &Path) -> Copy {
    let copy = Copy::of(bundle);
    copy.edit_tensor("layers.1.attn.qkv.scales", |scales| scales[..4].fill(0xff));
    copy
}

/// Whoever turns off all that looks at a bundle gets no verdict from what is broken.
#[test]
fn logits_that_are_not_finite_are_errors_that_name_the_bundle() {
    let config = Config { verify_files: false, self_test: false, ..Config::default() };
    for bundle in bundles().into_iter().take(3) {
        let copy = damaged(&bundle);
        let guard = copy.open(&config).unwrap();
        let mut stream = guard.stream().unwrap();
        let error = stream.prompt(&[Message::user("How do I clean the kitchen?")]).unwrap_err();
        let Error::Inference { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("not finite") && reason.contains(&guard.info().bundle), "{error}");
        // As it was before: a prompt is what it wants.
        assert!(matches!(stream.push_text(b"Wipe it."), Err(Error::WrongState { .. })));
        assert!(matches!(stream.prompt(&[Message::user("hi")]), Err(Error::Inference { .. })));
    }
}

/// The embedding of one token is damaged: streams that have it fail, in the step that has it; others go on. Weights of 4
/// bits are the runtime's operators' work, which may turn what is not a number into one.
#[test]
fn one_damaged_token_is_an_error_of_streams_that_have_it() {
    for precision in ["fp32", "int8", "int4"] {
        let original = bundle("grouped-bf16", precision);
        let copy = Copy::of(&original);
        let config = Config { verify_files: false, self_test: false, ..Config::default() };
        // Windows lets nobody write to a file that is mapped.
        let sound = Guard::open_with(&original, &config).unwrap();
        let id = sound.encode(" kitchen").unwrap()[0].id as usize;
        copy.edit_tensor("embed", |rows| {
            let row = rows.len() / 640;
            rows[id * row..][..row].fill(0xff);
        });
        let guard = copy.open(&config).unwrap();
        let prompt = [Message::user("How do I clean it?")];
        let prompted = |guard: &Guard| {
            let mut stream = guard.stream().unwrap();
            stream.prompt(&prompt).unwrap();
            stream
        };
        let (mut first, mut second, mut expected) = (prompted(&guard), prompted(&guard), prompted(&sound));
        first.push_text(b"Wipe the").unwrap();
        let error = first.push_text(b" kitchen kitchen and then the other rooms. ").unwrap_err();
        assert!(matches!(error, Error::Inference { .. }), "{precision}: {error}");
        let bad = guard.stream().unwrap().prompt(&[Message::user("The kitchen is dirty. What do I do now, and then?")]);
        assert!(matches!(bad, Err(Error::Inference { .. })), "{precision}: {bad:?}");
        let text = b"Wipe the floor and then the other rooms. ";
        expected.push_text(b"Wipe the").unwrap();
        let wanted = expected.push_text(&text[8..]).unwrap();
        assert_eq!(first.push_text(&text[8..]).unwrap().tokens, wanted.tokens, "{precision}");
        second.push_text(text).unwrap();
    }
}
