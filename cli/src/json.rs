//! JSON read strictly: a key that stands twice in an object is an error, not a value lost.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads one object. Whatever comes of it, `id` is then the object's `id` if that was read.
pub(crate) fn read_object(bytes: &[u8], id: &mut Value) -> Result<Map<String, Value>, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = json.deserialize_map(Object { id });
    read.and_then(|object| json.end().map(|()| object)).map_err(|error| reason(&error, bytes))
}

/// Reads any one value.
pub(crate) fn read_value(bytes: &[u8]) -> Result<Value, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Strict.deserialize(&mut json);
    read.and_then(|value| json.end().map(|()| value)).map_err(|error| reason(&error, bytes))
}

/// What is wrong, without the parser's count of lines: it sees one line only.
fn reason(error: &serde_json::Error, bytes: &[u8]) -> String {
    if let Err(error) = std::str::from_utf8(bytes) {
        return format!("not UTF-8 at byte {}", error.valid_up_to());
    }
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) => format!("column {}: {reason}", error.column()),
        None => text,
    }
}

struct Object<'i> {
    id: &'i mut Value,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = next_key(&mut entries, &object)? {
            let value = entries.next_value_seed(Strict)?;
            if key == "id" {
                *self.id = value.clone();
            }
            object.insert(key, value);
        }
        Ok(object)
    }
}

fn next_key<'de, A: MapAccess<'de>>(entries: &mut A, object: &Map<String, Value>) -> Result<Option<String>, A::Error> {
    match entries.next_key::<String>()? {
        Some(key) if object.contains_key(&key) => Err(A::Error::custom(format!("the key {key:?} stands there twice"))),
        key => Ok(key),
    }
}

/// A value without keys that stand twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = next_key(&mut entries, &object)? {
            let value = entries.next_value_seed(Strict)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(bytes: &[u8]) -> (Result<Map<String, Value>, String>, Value) {
        let mut id = Value::Null;
        (read_object(bytes, &mut id), id)
    }

    #[test]
    fn values_come_through_unchanged() {
        let text = r#"{"id":-7,"a":[1,18446744073709551615,1.5,true,null,"\u00e9\ud83c\udf5e"],"b":{"c":{}}}"#;
        let (object, id) = read(text.as_bytes());
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!((Value::Object(object.unwrap()), id), (expected, json!(-7)));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_line_and_the_id_is_kept() {
        let deep = [b"{\"id\":1,\"a\":".as_slice(), &b"[".repeat(500), &b"]".repeat(500), b"}"].concat();
        let table: [(&[u8], &str); 14] = [
            (br#"{"id":1,"id":2}"#, "column 12: the key \"id\" stands there twice"),
            (br#"{"id":1,"a":{"b":1,"b":2}}"#, "\"b\" stands there twice"),
            (br#"{"id":1,"a":[{"b":1,"\u0062":2}]}"#, "\"b\" stands there twice"),
            (br#"{"id":1,"a":"\ud83c"}"#, "column"),
            (br#"{"id":1,"a":"\udf5e"}"#, "column"),
            (b"{\"id\":1,\"a\":\"\xff\"}", "not UTF-8 at byte 13"),
            (b"{\"id\":1,\"a\":\"\xed\xa0\xbc\"}", "not UTF-8 at byte 13"),
            (br#"{"id":1} x"#, "trailing characters"),
            (br#"{"id":1}{"id":2}"#, "trailing characters"),
            (br#"{"id":1,"a":"#, "EOF"),
            (br#"{"id":1,"a":NaN}"#, "column"),
            (br#"{"id":1,"a":1e999}"#, "number out of range"),
            (b"{\"id\":1,\"a\":\"\n\"}", "control character"),
            (&deep, "recursion limit"),
        ];
        for (bytes, named) in table {
            let (object, id) = read(bytes);
            let reason = object.unwrap_err();
            assert!(reason.contains(named), "{reason} for {}", String::from_utf8_lossy(bytes));
            assert!(!reason.contains("line"), "{reason}");
            assert_eq!(id, 1);
        }
        for bytes in [&b"nonsense"[..], b"[]", b"\"a\"", b"7", b"null", b"\0", b"\xff\xfe{\0}\0"] {
            let (object, id) = read(bytes);
            assert!(object.is_err() && id.is_null());
        }
    }
}
