//! `tokenizer.json` before the tokenizers crate sees it: what of it is used, and that it is within the limits.
//!
//! Only what encodes a text is taken: added tokens, normalizer, pre-tokenizer, model. Truncation and padding would cut
//! or lengthen texts unseen. Expressions of unknown kind, which may backtrack for ever, are refused, and so is what could
//! make the crate panic.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::pipeline::SPLIT;
use crate::limits;

/// Steps of a sequence of normalizers or pre-tokenizers.
const STEPS: usize = 8;

/// Normalizers that change no text beyond a small multiple of its size, in linear time.
const NORMALIZERS: [&str; 5] = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"];

/// Pre-tokenizers without an expression of the file's own.
const PRE_TOKENIZERS: [&str; 5] = ["ByteLevel", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"];

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    added_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
}

#[derive(Deserialize)]
struct Model {
    r#type: String,
    #[serde(default)]
    dropout: Option<f32>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    vocab: Vocabulary,
    /// Only counted.
    #[serde(rename = "merges")]
    _merges: Merges,
}

/// The part of a `tokenizer.json` that is used, as a document of its own. `vocab_size` is the model's.
pub(super) fn checked(json: &[u8], vocab_size: usize) -> Result<String, String> {
    let document: Document = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let added = match document.added_tokens {
        Some(added) => check_added(added)?,
        None => "[]",
    };
    let normalizer = step(document.normalizer, "normalizer", "normalizers", check_normalizer)?;
    let pre_tokenizer = step(document.pre_tokenizer, "pre_tokenizer", "pretokenizers", check_pre_tokenizer)?;
    check_model(document.model, vocab_size)?;
    let model = document.model.get();
    Ok(format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":{added},"normalizer":{normalizer},"#
    ) + &format!(r#""pre_tokenizer":{pre_tokenizer},"post_processor":null,"decoder":null,"model":{model}}}"#))
}

fn check_added(json: &RawValue) -> Result<&str, String> {
    let tokens: Vec<AddedToken> = field("added_tokens", json)?;
    if tokens.len() > limits::ADDED_TOKENS {
        return Err(format!("added_tokens: {} tokens, the limit is {}", tokens.len(), limits::ADDED_TOKENS));
    }
    let mut seen = HashSet::new();
    for AddedToken { content } in &tokens {
        if content.is_empty() || content.len() > limits::TOKEN_BYTES {
            let reason = format!("added_tokens: {} bytes, a token has 1 to {}", content.len(), limits::TOKEN_BYTES);
            return Err(reason);
        }
        if !seen.insert(content) {
            return Err(format!("added_tokens: {content:?} appears twice"));
        }
    }
    Ok(json.get())
}

/// Checks one step, or each of a sequence of them.
fn step<'a>(
    json: Option<&'a RawValue>,
    name: &str,
    parts: &str,
    check: impl Fn(&str, &Value) -> Result<(), String>,
) -> Result<&'a str, String> {
    let Some(json) = json else { return Ok("null") };
    if json.get().len() > limits::TOKENIZER_STEP_BYTES {
        let (found, limit) = (json.get().len(), limits::TOKENIZER_STEP_BYTES);
        return Err(format!("{name}: {found} bytes, the limit is {limit}"));
    }
    let value: Value = field(name, json)?;
    let kind = |value: &Value| value["type"].as_str().unwrap_or_default().to_owned();
    match (&value, value[parts].as_array()) {
        (Value::Null, _) => {}
        (_, Some(steps)) if kind(&value) == "Sequence" => {
            if steps.len() > STEPS {
                return Err(format!("{name}: {} steps, the limit is {STEPS}", steps.len()));
            }
            for step in steps {
                check(&kind(step), step).map_err(|reason| format!("{name}: {reason}"))?;
            }
        }
        _ => check(&kind(&value), &value).map_err(|reason| format!("{name}: {reason}"))?,
    }
    Ok(json.get())
}

fn check_normalizer(kind: &str, _: &Value) -> Result<(), String> {
    match NORMALIZERS.contains(&kind) {
        true => Ok(()),
        false => Err(format!("{kind:?} is not supported, only {} are", NORMALIZERS.join(", "))),
    }
}

fn check_pre_tokenizer(kind: &str, value: &Value) -> Result<(), String> {
    if kind != "Split" {
        return match PRE_TOKENIZERS.contains(&kind) {
            true => Ok(()),
            false => Err(format!("{kind:?} is not supported, only Split, {} are", PRE_TOKENIZERS.join(", "))),
        };
    }
    let pattern = &value["pattern"];
    let known = pattern["Regex"].as_str() == Some(SPLIT);
    let text = pattern["String"].as_str().is_some_and(|text| (1..=64).contains(&text.len()));
    match (known || text) && pattern.as_object().is_some_and(|pattern| pattern.len() == 1) {
        true => Ok(()),
        false => Err(format!("Split.pattern: must be a String of 1 to 64 bytes, or Qwen's Regex, which is {SPLIT}")),
    }
}

fn check_model(json: &RawValue, vocab_size: usize) -> Result<(), String> {
    let model: Model = field("model", json)?;
    if model.r#type != "BPE" {
        return Err(format!("model.type: {:?} is not supported, only BPE is", model.r#type));
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err("model.dropout: must be null".to_owned());
    }
    for (name, affix) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
            return Err(format!("model.{name}: must be empty"));
        }
    }
    match model.vocab.largest {
        Some(id) if id as usize >= vocab_size => {
            Err(format!("model.vocab: id {id} is not below model.vocab_size {vocab_size} of guard.toml"))
        }
        _ => Ok(()),
    }
}

fn field<'a, T: Deserialize<'a>>(name: &str, json: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(json.get()).map_err(|error| format!("{name}: {error}"))
}

/// A vocabulary, of which only the largest id is kept.
struct Vocabulary {
    largest: Option<u32>,
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("tokens with their ids")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut ids = vec![false; limits::VOCABULARY];
        let mut largest = None;
        while let Some(Length(bytes)) = map.next_key()? {
            if bytes > limits::TOKEN_BYTES {
                return Err(A::Error::custom(format!(
                    "a token of {bytes} bytes, the limit is {}",
                    limits::TOKEN_BYTES
                )));
            }
            let id: u32 = map.next_value()?;
            match ids.get_mut(id as usize) {
                None => return Err(A::Error::custom(format!("id {id}, the limit is {}", limits::VOCABULARY))),
                Some(true) => return Err(A::Error::custom(format!("id {id} appears twice"))),
                Some(seen) => *seen = true,
            }
            largest = largest.max(Some(id));
        }
        Ok(Vocabulary { largest })
    }
}

/// Bytes of a text that is not kept.
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LengthVisitor;
        impl Visitor<'_> for LengthVisitor {
            type Value = Length;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Length, E> {
                Ok(Length(text.len()))
            }
        }
        deserializer.deserialize_str(LengthVisitor)
    }
}

/// Merges, which are counted. Their parts are the vocabulary's, which the tokenizers crate checks.
struct Merges;

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergesVisitor;
        impl<'de> Visitor<'de> for MergesVisitor {
            type Value = Merges;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a list of merges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut merges: A) -> Result<Merges, A::Error> {
                let mut count = 0;
                while merges.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                    if count > limits::MERGES {
                        return Err(A::Error::custom(format!("more merges than {}", limits::MERGES)));
                    }
                }
                Ok(Merges)
            }
        }
        deserializer.deserialize_seq(MergesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::text::Tokenizer;

    const JSON: &str = include_str!("../../tests/golden/checkpoints/odd-bf16/tokenizer.json");

    fn edited(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut document: Value = serde_json::from_str(JSON).unwrap();
        edit(&mut document);
        document.to_string().into_bytes()
    }

    fn ids(json: &[u8], text: &str) -> Vec<u32> {
        Tokenizer::new(json, 640).unwrap().ids(text).unwrap()
    }

    #[test]
    fn no_text_is_cut_or_lengthened() {
        let text = "How do I clean the kitchen? ".repeat(20);
        let whole = ids(JSON.as_bytes(), &text);
        let truncation = json!({"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        let padding = json!({"strategy": {"Fixed": 100000000000u64}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
        let processor = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}});
        for (field, value) in [("truncation", truncation), ("padding", padding), ("post_processor", processor)] {
            assert_eq!(ids(&edited(|document| document[field] = value), &text), whole, "{field}");
        }
    }

    #[test]
    fn what_is_too_much_or_unknown_is_refused_by_name() {
        let regex = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false});
        let step = |kind: &str| json!({"type": kind});
        let tokens: Vec<Value> = (0..5000).map(|id| json!({"id": id, "content": format!("<{id}>")})).collect();
        let cases: [(&str, &str, Value); 20] = [
            ("/model/vocab/a", "id 640 is not below", json!(640)),
            ("/model/vocab/a", "the limit is 1048576", json!(4_000_000_000u32)),
            ("/model/vocab/a", "appears twice", json!(5)),
            ("/model/vocab/a", "model: invalid", json!(-1)),
            ("/model/type", "model.type", json!("Unigram")),
            ("/model/dropout", "model.dropout", json!(0.5)),
            ("/model/continuing_subword_prefix", "continuing_subword_prefix", json!("##")),
            ("/model/vocab", "model: ", json!([])),
            ("/model/merges", "model: ", json!({})),
            ("/model", "model: ", json!(null)),
            ("/normalizer", "normalizer: \"Replace\"", step("Replace")),
            ("/normalizer", "normalizer: \"Precompiled\"", step("Precompiled")),
            ("/normalizer", "normalizer: ", json!("x".repeat(100_000))),
            ("/pre_tokenizer", "pre_tokenizer: Split.pattern", regex.clone()),
            ("/pre_tokenizer", "pre_tokenizer: Split.pattern", json!({"type": "Sequence", "pretokenizers": [regex]})),
            ("/pre_tokenizer", "pre_tokenizer: \"Metaspace\"", step("Metaspace")),
            ("/added_tokens/0/content", "added_tokens: 0 bytes", json!("")),
            ("/added_tokens/0/content", "added_tokens: 5000 bytes", json!("x".repeat(5000))),
            ("/added_tokens/0/content", "appears twice", json!("<think>")),
            ("/added_tokens", "added_tokens: 5000 tokens", json!(tokens)),
        ];
        for (pointer, expected, value) in cases {
            let json = edited(|document| *document.pointer_mut(pointer).unwrap() = value);
            let reason = Tokenizer::new(&json, 640).err().unwrap_or_else(|| panic!("{pointer}: {expected}")).reason;
            assert!(reason.contains(expected) && reason.lines().count() == 1, "{pointer}: {reason}");
        }
    }

    #[test]
    fn nesting_does_not_reach_the_stack() {
        for open in ["[", "{\"a\":"] {
            for field in ["\"normalizer\":", "\"model\":", "\"added_tokens\":", "\"version\":", "\"vocab\":"] {
                let json = JSON.replacen(field, &format!("{field}{}", open.repeat(200_000)), 1);
                assert!(Tokenizer::new(json.as_bytes(), 640).is_err());
            }
        }
    }

    #[test]
    fn a_vocabulary_may_not_exceed_the_models() {
        assert!(Tokenizer::new(JSON.as_bytes(), 631).is_ok());
        let reason = Tokenizer::new(JSON.as_bytes(), 630).err().unwrap().reason;
        assert!(reason.contains("id 630 is not below model.vocab_size 630"), "{reason}");
        assert!(Tokenizer::new(JSON.as_bytes(), 600).is_err());
    }
}
