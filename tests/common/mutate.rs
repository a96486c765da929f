//! Bundles, configurations and templates that are wrong in some place, and well sealed: digests and sizes are those of
//! the mutated files, so that a mutation gets to the code that reads it. Every case comes from its bytes alone.

use std::{collections::BTreeMap, fs, path::Path};

use qwenguard::{AnnotateOptions, Config, Decoding, Error, Guard, Message};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use toml::{Table, Value as Toml};

/// Choices, from given bytes as far as they go, then from a generator that starts with them (splitmix64).
pub(crate) struct Choices {
    bytes: Vec<u8>,
    at: usize,
    state: u64,
}

impl Choices {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let state = bytes.iter().fold(7, |state: u64, byte| state.wrapping_mul(0x100_0000_01B3) ^ u64::from(*byte));
        Choices { bytes: bytes.to_vec(), at: 0, state }
    }

    fn next(&mut self) -> u64 {
        if let Some(bytes) = self.bytes.get(self.at..self.at + 4) {
            self.at += 4;
            return bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, values: &[&'a T]) -> &'a T {
        values[self.below(values.len())]
    }

    /// A number that somebody forgot to think of.
    fn number(&mut self) -> i64 {
        const NUMBERS: [i64; 20] = [
            0,
            1,
            -1,
            2,
            3,
            7,
            8,
            31,
            64,
            255,
            4096,
            1 << 16,
            1 << 20,
            1 << 24,
            i32::MAX as i64,
            1 << 32,
            (1 << 59) + 6,
            i64::MAX,
            i64::MIN,
            1 << 62,
        ];
        match self.below(3) {
            0 => self.next() as i64 >> self.below(64),
            _ => NUMBERS[self.below(NUMBERS.len())],
        }
    }

    fn text(&mut self) -> String {
        let long = 1 << self.below(18);
        let texts =
            ["", "\0", "../../etc/passwd", "/etc/passwd", "weights.bin", "guard.toml", "é\u{301}", "a\nb", "%n%s"];
        match self.below(4) {
            0 => self.pick(&["x", "[", "(", "{", " ", "\u{10FFFF}", "\\"]).repeat(long),
            1 => self.number().to_string(),
            _ => self.pick(&texts).to_owned(),
        }
    }
}

/// The files of a bundle.
#[derive(Clone)]
pub(crate) struct Files(BTreeMap<String, Vec<u8>>);

/// What stands in a file's place.
const STRANGERS: [&str; 5] = ["fifo", "directory", "zero", "nothing", "loop"];

/// A mutated bundle, and the configuration to open it with.
pub(crate) struct Case {
    files: Files,
    stranger: Option<(String, &'static str)>,
    pub(crate) config: String,
    /// What was done, for people.
    pub(crate) story: Vec<&'static str>,
}

/// Opens what a case wrote, if it can be opened, and judges a short conversation. An error says why it cannot; errors of
/// judging are fine.
pub(crate) fn judge(folder: &Path, config: &str) -> Result<(), String> {
    let words = |error: Error| {
        let text = error.to_string();
        // Errors are one line, and name what is wrong.
        assert!(!text.is_empty() && text.lines().count() == 1 && text.len() < 10_000, "{text}");
        text
    };
    let config = Config::from_toml(config).map_err(words)?;
    let guard = Guard::open_with(folder, &config).map_err(words)?;
    let judged = || -> Result<(), Error> {
        let mut stream = guard.stream()?;
        stream.prompt(&[Message::system("Be kind."), Message::user("How do I clean the kitchen?")])?;
        stream.push_text("<think>\nWell.\n</think>\n\nStart with the coun".as_bytes())?;
        stream.push_text("ters, caf\u{e9} <|im_end|> and \u{1F600}.".as_bytes())?;
        stream.finish().map(drop)
    };
    if let Err(error) = judged() {
        words(error);
    }
    let messages = [Message::user("How do I clean the kitchen?"), Message::assistant("With a mop <|im_end|>.")];
    for decoding in [Decoding::Constrained, Decoding::LabelOnly, Decoding::Free] {
        if let Err(error) = guard.annotate(&messages, &AnnotateOptions { decoding, ..AnnotateOptions::default() }) {
            words(error);
        }
    }
    Ok(())
}

const CONFIG: &str = "self_test = true\n[runtime]\nthreads = 1\n[cache]\nmib = 4\n[engine]\nmax_streams = 4\n";

impl Files {
    pub(crate) fn read(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        Files(entries.map(|entry| (name(&entry), fs::read(entry.path()).unwrap())).collect())
    }

    fn edit(&mut self, file: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        if let Some(bytes) = self.0.get_mut(file) {
            *bytes = edit(std::mem::take(bytes));
        }
    }

    /// Writes sizes and digests into `guard.toml`, if it is still TOML.
    fn seal(&mut self) {
        let Some(mut manifest) = self.table() else { return };
        let Some(Toml::Table(entries)) = manifest.get_mut("files") else { return };
        for (name, entry) in entries.iter_mut() {
            let (Some(bytes), Toml::Table(entry)) = (self.0.get(name), entry) else { continue };
            let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            entry.insert("bytes".into(), Toml::Integer(bytes.len() as i64));
            entry.insert("sha256".into(), Toml::String(digest));
        }
        self.0.insert("guard.toml".into(), manifest.to_string().into_bytes());
    }

    fn table(&self) -> Option<Table> {
        std::str::from_utf8(&self.0["guard.toml"]).ok()?.parse().ok()
    }
}

impl Case {
    pub(crate) fn new(base: &Files, choices: &mut Choices) -> Self {
        let mut case = Case { files: base.clone(), stranger: None, config: CONFIG.into(), story: Vec::new() };
        if choices.one_in(2) {
            // What is checked when a bundle is opened must not be all that keeps a mutation away.
            case.config = case.config.replace("self_test = true", "self_test = false");
        }
        for _ in 0..1 + choices.below(3) {
            case.mutate(choices);
        }
        if !choices.one_in(20) {
            case.files.seal();
        }
        case
    }

    fn mutate(&mut self, choices: &mut Choices) {
        let files = &mut self.files;
        let what = match choices.below(16) {
            0..3 => {
                files.edit("guard.toml", |text| toml_values(text, choices));
                "values of guard.toml"
            }
            3 => {
                files.edit("guard.toml", |text| bytes(text, choices));
                "bytes of guard.toml"
            }
            4..6 => {
                files.edit("tokenizer.json", |text| json_values(text, choices));
                "values of tokenizer.json"
            }
            6 => {
                files.edit("tokenizer.json", |text| bytes(text, choices));
                "bytes of tokenizer.json"
            }
            7..10 => {
                files.edit("chat_template.jinja", |text| template(text, choices));
                "tokens of the template"
            }
            10..13 => {
                files.edit("paged.onnx", |graph| protobuf(graph, choices));
                "fields of the graph"
            }
            13 => {
                files.edit("paged.onnx", |graph| bytes(graph, choices));
                "bytes of the graph"
            }
            14 => {
                files.edit("weights.bin", |weights| bytes(weights, choices));
                "bytes of the weights"
            }
            _ if choices.one_in(3) => {
                let names = ["guard.toml", "paged.onnx", "weights.bin", "tokenizer.json", "chat_template.jinja"];
                self.stranger = Some((choices.pick(&names).to_owned(), choices.pick(&STRANGERS.map(|name| name))));
                "something else in a file's place"
            }
            _ => {
                self.config = config(choices);
                "settings"
            }
        };
        self.story.push(what);
    }

    pub(crate) fn write(&self, folder: &Path) {
        for (name, bytes) in &self.files.0 {
            fs::write(folder.join(name), bytes).unwrap();
        }
        if let Some((name, stranger)) = &self.stranger {
            let path = folder.join(name);
            fs::remove_file(&path).unwrap();
            match *stranger {
                "fifo" => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "directory" => fs::create_dir(&path).unwrap(),
                #[cfg(unix)]
                "zero" => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
                #[cfg(unix)]
                "loop" => std::os::unix::fs::symlink(&path, &path).unwrap(),
                _ => {}
            }
        }
    }
}

fn bytes(mut bytes: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    for _ in 0..1 + choices.below(8) {
        let at = choices.below(bytes.len());
        match choices.below(8) {
            _ if bytes.is_empty() => bytes = vec![choices.next() as u8],
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, std::iter::repeat_n(choices.next() as u8, 1 << choices.below(17)))),
            2 => {
                let end = (at + choices.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => bytes[at] = b"\xFF\0[{(\"\\"[choices.below(7)],
            4 => {
                let end = (at + choices.below(64)).min(bytes.len());
                bytes[at..end].fill(0xFF);
            }
            _ => bytes[at] ^= 1 << choices.below(8),
        }
    }
    bytes
}

fn toml_values(text: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    let Some(mut table) = String::from_utf8(text.clone()).ok().and_then(|text| text.parse::<Table>().ok()) else {
        return bytes(text, choices);
    };
    for _ in 0..1 + choices.below(3) {
        toml_value(&mut table, choices);
    }
    table.to_string().into_bytes()
}

fn toml_value(table: &mut Table, choices: &mut Choices) {
    let keys: Vec<String> = table.keys().cloned().collect();
    let Some(key) = keys.get(choices.below(keys.len())) else { return };
    match table.get_mut(key) {
        Some(Toml::Table(inner)) if !choices.one_in(8) => return toml_value(inner, choices),
        Some(Toml::Array(values)) if !choices.one_in(3) => {
            let at = choices.below(values.len());
            match choices.below(4) {
                _ if values.is_empty() => values.push(strange_toml(choices)),
                // Heads and texts of the self-test: what is wrong inside them says more than that they are no tables.
                1.. if values[at].is_table() => {
                    let Toml::Table(inner) = &mut values[at] else { return };
                    toml_value(inner, choices);
                }
                0 => drop(values.remove(at)),
                1 => values.extend(std::iter::repeat_n(values[at].clone(), 1 << choices.below(12))),
                _ => values[at] = strange_toml(choices),
            }
            return;
        }
        _ => {}
    }
    if choices.one_in(6) {
        table.remove(key);
    } else {
        table.insert(key.clone(), strange_toml(choices));
    }
}

fn strange_toml(choices: &mut Choices) -> Toml {
    match choices.below(8) {
        0 => Toml::Float(f64::from_bits(choices.next())),
        1 => Toml::Boolean(true),
        2 => Toml::String(choices.text()),
        3 => Toml::Array(vec![Toml::Array(Vec::new()); 1 << choices.below(10)]),
        _ => Toml::Integer(choices.number()),
    }
}

fn json_values(text: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Json>(&text) else { return bytes(text, choices) };
    for _ in 0..1 + choices.below(3) {
        let depth = 1 + choices.below(5);
        json_value(&mut document, depth, choices);
    }
    let mut text = document.to_string();
    if choices.one_in(12) {
        let deep = choices.pick(&["[", "{\"a\":"]).repeat(1 << choices.below(18));
        text = text.replacen("null", &deep, 1);
    }
    text.into_bytes()
}

fn json_value(value: &mut Json, depth: usize, choices: &mut Choices) {
    match value {
        Json::Object(entries) if depth > 0 && !entries.is_empty() => {
            let key = entries.keys().nth(choices.below(entries.len())).unwrap().clone();
            match choices.below(8) {
                0 => drop(entries.shift_remove(&key)),
                1 => drop(entries.insert(choices.text(), strange_json(choices))),
                _ => json_value(&mut entries[&key], depth - 1, choices),
            }
        }
        Json::Array(values) if depth > 0 && !values.is_empty() => {
            let at = choices.below(values.len());
            match choices.below(6) {
                0 => drop(values.remove(at)),
                1 => values.extend(std::iter::repeat_n(values[at].clone(), 1 << choices.below(10))),
                _ => json_value(&mut values[at], depth - 1, choices),
            }
        }
        _ => *value = strange_json(choices),
    }
}

fn strange_json(choices: &mut Choices) -> Json {
    let evil = ["(a+)+$", "(((a{1000}){1000}){1000})", "(?:x|x)*y", "\\g<0>", "(", "[[:alpha:]&&", "(?<=a*)b", ""];
    match choices.below(16) {
        0 => json!(null),
        1 => {
            json!({"type": "Split", "pattern": {"Regex": choices.pick(&evil)}, "behavior": "Isolated", "invert": false})
        }
        2 => json!({"type": "Replace", "pattern": {"Regex": choices.pick(&evil)}, "content": "x".repeat(9999)}),
        3 => json!({"type": choices.pick(&["Unigram", "WordPiece", "WordLevel", "Precompiled", "Metaspace", "Strip"])}),
        4 => json!({"max_length": choices.number(), "strategy": "LongestFirst", "stride": choices.number(),
            "direction": "Right"}),
        5 => json!({"strategy": {"Fixed": choices.number()}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
        6 => json!({"type": "Sequence", "pretokenizers": [], "normalizers": []}),
        7 => json!({"id": choices.number(), "content": choices.text(), "single_word": true, "lstrip": true,
            "rstrip": true, "normalized": true, "special": true}),
        8 => json!(choices.number() as f64 * 1e300),
        9 => json!(true),
        10 | 11 => json!(choices.text()),
        12 => json!([]),
        _ => json!(choices.number()),
    }
}

/// Pieces of templates, each meant to be too much if it comes often.
const PIECES: [&str; 48] = [
    "+1",
    "not ",
    "-",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "~ messages",
    "|list",
    "|tojson",
    "|indent(1000000000)",
    ".x",
    "*1000000000",
    "**9",
    "if x else ",
    " and x",
    " or x",
    " in x",
    "{% if x %}",
    "{% elif x %}",
    "{% endif %}",
    "{% for m in messages %}",
    "{% for i in range(99999) %}",
    "{% endfor %}",
    "{% set ns.x = [ns.x, ns.x] %}",
    "{% set ns.x = ns %}",
    "{% set ns = namespace(x=messages) %}",
    "{{ ns.x }}",
    "{{ ns.x ~ ns.x }}",
    "{% set x %}",
    "{% endset %}",
    "{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}",
    "{{ 'x' * 999999999 }}",
    "{{ 'x'|center(999999999) }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ messages[0].content.replace('', messages|string) }}",
    "{% include 'chat_template.jinja' %}",
    "{% extends 'chat_template.jinja' %}",
    "{% block b %}",
    "{{ self.b() }}",
    "{% raw %}",
    "{# ",
    "{{ x.__class__ }}",
    "{{ debug() }}",
    "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
];

fn template(text: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    let Ok(mut text) = String::from_utf8(text) else { return Vec::new() };
    for _ in 0..1 + choices.below(4) {
        let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        places.push(text.len());
        let at = places[choices.below(places.len())];
        let piece = choices.pick(&PIECES);
        let many = piece.repeat(1 << [0, 1, 4, 9, 15][choices.below(5)]);
        match choices.below(6) {
            0 => text.insert_str(at, &format!("{{{{ {many} }}}}")),
            1 => text.insert_str(at, &format!("{{{{ 1{many} }}}}")),
            2 => {
                let end = places[choices.below(places.len())].clamp(at, at + 200).min(text.len());
                if text.is_char_boundary(end) {
                    text.replace_range(at..end, piece);
                }
            }
            3 => text.truncate(at),
            4 => text = many + &text,
            _ => text.insert_str(at, &many),
        }
    }
    text.into_bytes()
}

/// A field of a message in protocol buffers, with the wire type of what follows.
enum Field {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<(u64, Field)>),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message, if these bytes are one. Texts may look like messages, which does no harm.
fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<(u64, Field)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            wire @ (1 | 5) => {
                let (fixed, rest) = bytes.split_at_checked(if wire == 1 { 8 } else { 4 })?;
                bytes = rest;
                Field::Fixed(fixed.to_vec())
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let message = if depth > 0 && !inner.is_empty() { parse(inner, depth - 1) } else { None };
                message.map_or_else(|| Field::Bytes(inner.to_vec()), Field::Message)
            }
            _ => return None,
        };
        fields.push((key, field));
    }
    Some(fields)
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write(fields: &[(u64, Field)], out: &mut Vec<u8>) {
    for (key, field) in fields {
        write_varint(*key, out);
        match field {
            Field::Varint(value) => write_varint(*value, out),
            Field::Fixed(bytes) => out.extend(bytes),
            Field::Bytes(bytes) => {
                write_varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
            Field::Message(fields) => {
                let mut inner = Vec::new();
                write(fields, &mut inner);
                write_varint(inner.len() as u64, out);
                out.extend(inner);
            }
        }
    }
}

fn protobuf(graph: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    let Some(mut fields) = parse(&graph, 6) else { return bytes(graph, choices) };
    for _ in 0..1 + choices.below(3) {
        field(&mut fields, choices);
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    out
}

fn field(fields: &mut Vec<(u64, Field)>, choices: &mut Choices) {
    let at = choices.below(fields.len());
    let deeper = choices.below(12);
    match fields.get_mut(at) {
        None => {}
        Some((_, Field::Message(inner))) if deeper > 0 => field(inner, choices),
        Some((_, Field::Varint(value))) if deeper > 2 => *value = choices.number() as u64,
        Some((_, Field::Fixed(value))) if deeper > 2 => {
            let numbers = [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e-40, f32::MAX];
            *value = numbers[choices.below(numbers.len())].to_le_bytes().repeat(value.len() / 4);
        }
        Some((_, Field::Bytes(value))) if deeper > 2 => {
            let words = [
                "MatMul",
                "Loop",
                "If",
                "Gather",
                "ReduceSum",
                "ConstantOfShape",
                "Range",
                "Expand",
                "Tile",
                "SwiGlu",
                "PagedAttention",
                "MatMulInt8",
                "MatMulNBits",
                "com.microsoft",
                "ai.qwenguard",
                "input_ids",
                "query_rows",
                "row_check",
                "rope.cos",
            ];
            *value = match choices.below(3) {
                0 => choices.text().into_bytes(),
                1 => choices.pick(&words).into(),
                _ => bytes(std::mem::take(value), choices),
            };
        }
        Some(_) => match choices.below(3) {
            0 => drop(fields.remove(at)),
            1 => {
                let other = choices.below(fields.len());
                fields.swap(at, other);
            }
            _ => {
                let mut copy = Vec::new();
                write(&fields[at..=at], &mut copy);
                let times = 1 << choices.below(8);
                let copies: Vec<_> = (0..times).filter_map(|_| parse(&copy, 6)).flatten().collect();
                fields.splice(at..at, copies);
            }
        },
    }
}

fn config(choices: &mut Choices) -> String {
    let Ok(mut table) = CONFIG.parse::<Table>() else { return String::new() };
    let settings = [
        "runtime.provider",
        "runtime.webgpu.device",
        "runtime.coreml.compute_units",
        "cache.mib",
        "cache.precision",
        "engine.step_tokens",
        "engine.max_streams",
        "engine.overflow",
        "engine.max_queued_tokens",
        "engine.idle_seconds",
        "policy.answer.debounce",
        "policy.prompt",
        "unknown",
    ];
    for _ in 0..1 + choices.below(3) {
        let mut inner = &mut table;
        let mut path = choices.pick(&settings).split('.').peekable();
        while let Some(key) = path.next() {
            if path.peek().is_none() {
                let value = match choices.below(4) {
                    0 => Toml::String(choices.pick(&["restart", "fp32", "int8", "strict", "eval"]).to_owned()),
                    _ => strange_toml(choices),
                };
                inner.insert(key.to_owned(), value);
                break;
            }
            let entry = inner.entry(key).or_insert_with(|| Toml::Table(Table::new()));
            let Toml::Table(next) = entry else { break };
            inner = next;
        }
    }
    let text = table.to_string();
    match choices.below(6) {
        0 => String::from_utf8_lossy(&bytes(text.into_bytes(), choices)).into_owned(),
        1 => format!("x = {}", choices.pick(&["[", "{a="]).repeat(1 << choices.below(20))),
        _ => text,
    }
}
