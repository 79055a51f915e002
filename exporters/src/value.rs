//! Attribute values as text, for every exporter whose output is text.
//!
//! Nothing is escaped here: that is the business of each output format.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// Deeper values are cut off: a sender must not be able to exhaust the stack.
const MAX_DEPTH: usize = 16;

/// The text of a value; lists and maps as JSON, bytes in hexadecimal, nothing for no value.
pub(crate) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(value) => {
            let mut out = String::new();
            nested(&mut out, value, 0);
            out
        }
        None => String::new(),
    }
}

/// `key=value` pairs, separated by spaces.
pub(crate) fn pairs(attributes: &[KeyValue]) -> String {
    let pairs: Vec<_> =
        attributes.iter().map(|pair| format!("{}={}", pair.key, text(pair.value.as_ref()))).collect();
    pairs.join(" ")
}

/// Bytes in lower-case hexadecimal, as trace and span ids are written.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        write!(out, "{byte:02x}").ok();
        out
    })
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    if depth == MAX_DEPTH {
        out.push('…');
        return;
    }
    match value {
        Value::StringValue(text) => quoted(out, text),
        Value::BoolValue(value) => *out += if *value { "true" } else { "false" },
        Value::IntValue(value) => *out += &value.to_string(),
        Value::DoubleValue(value) => *out += &value.to_string(),
        Value::BytesValue(bytes) => *out += &hex(bytes),
        Value::ArrayValue(list) => {
            out.push('[');
            for (index, item) in list.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                element(out, item.value.as_ref(), depth);
            }
            out.push(']');
        }
        Value::KvlistValue(map) => {
            out.push('{');
            for (index, pair) in map.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(out, &pair.key);
                out.push(':');
                element(out, pair.value.as_ref().and_then(|value| value.value.as_ref()), depth);
            }
            out.push('}');
        }
        // A reference into a dictionary that only profiles have: to be read as absent.
        Value::StringValueStrindex(_) => {}
    }
}

fn element(out: &mut String, value: Option<&Value>, depth: usize) {
    match value {
        Some(value) => nested(out, value, depth + 1),
        None => *out += "null",
    }
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => *out += "\\\"",
            '\\' => *out += "\\\\",
            '\n' => *out += "\\n",
            control if control.is_control() => {
                write!(out, "\\u{:04x}", control as u32).ok();
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn every_kind_of_value_has_a_text() {
        let list =
            ArrayValue { values: vec![any(Value::IntValue(1)), any(Value::StringValue("a\"b".into()))] };
        let pair =
            KeyValue { key: "k".into(), value: Some(any(Value::BoolValue(true))), ..KeyValue::default() };
        for (value, expected) in [
            (Value::StringValue("plain \"text\"".into()), "plain \"text\""),
            (Value::IntValue(-3), "-3"),
            (Value::DoubleValue(0.5), "0.5"),
            (Value::BytesValue(vec![0, 255]), "00ff"),
            (Value::ArrayValue(list), "[1,\"a\\\"b\"]"),
            (Value::KvlistValue(KeyValueList { values: vec![pair] }), "{\"k\":true}"),
        ] {
            assert_eq!(text(Some(&any(value))), expected);
        }
        assert_eq!(text(None), "");
    }

    #[test]
    fn a_value_nested_without_end_is_cut_off() {
        let mut value = any(Value::IntValue(1));
        for _ in 0..100 {
            value = any(Value::ArrayValue(ArrayValue { values: vec![value] }));
        }
        assert_eq!(text(Some(&value)), format!("{}…{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)));
    }
}
