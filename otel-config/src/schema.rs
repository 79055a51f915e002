//! The type that YAML gives to a scalar written without quotes.
//!
//! The rules are those of the Collector's YAML library: the core schema, with `0123` read as octal
//! and `_` allowed between digits. Dates stay strings. Nothing is reported from here.

/// A scalar with its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Typed {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str,
}

impl Typed {
    /// The name that messages print.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str => "string",
        }
    }
}

/// Reads a plain scalar.
pub(crate) fn resolve(text: &str) -> Typed {
    match text.trim() {
        "" | "~" | "null" | "Null" | "NULL" => Typed::Null,
        "true" | "True" | "TRUE" => Typed::Bool(true),
        "false" | "False" | "FALSE" => Typed::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Typed::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Typed::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => Typed::Float(f64::NAN),
        text => int(text).map(Typed::Int).or_else(|| float(text).map(Typed::Float)).unwrap_or(Typed::Str),
    }
}

fn int(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = rest.replace('_', "");
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

fn float(text: &str) -> Option<f64> {
    // Rust reads `inf`, `nan` and `infinity` too, which YAML does not.
    let unsigned = text.trim_start_matches(['-', '+']);
    let numeric = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.contains(|digit: char| digit.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if numeric { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Typed, resolve};

    #[test]
    fn plain_scalars_are_typed_as_the_collector_types_them() {
        for (text, typed) in [
            ("", Typed::Null),
            ("~", Typed::Null),
            ("null", Typed::Null),
            ("true", Typed::Bool(true)),
            ("FALSE", Typed::Bool(false)),
            ("t", Typed::Str),
            ("yes", Typed::Str),
            ("on", Typed::Str),
            ("12", Typed::Int(12)),
            ("-12", Typed::Int(-12)),
            ("+1_000", Typed::Int(1000)),
            ("0123", Typed::Int(83)),
            ("0o17", Typed::Int(15)),
            ("0x1F", Typed::Int(31)),
            ("0b101", Typed::Int(5)),
            ("0", Typed::Int(0)),
            ("08", Typed::Float(8.0)),
            ("1.5", Typed::Float(1.5)),
            (".5", Typed::Float(0.5)),
            ("1e3", Typed::Float(1000.0)),
            ("inf", Typed::Str),
            ("nan", Typed::Str),
            ("infinity", Typed::Str),
            ("-.inf", Typed::Float(f64::NEG_INFINITY)),
            ("1:30", Typed::Str),
            ("5m", Typed::Str),
            ("-", Typed::Str),
            (".", Typed::Str),
            ("0x", Typed::Str),
            ("2026-11-21", Typed::Str),
            ("é1", Typed::Str),
        ] {
            assert_eq!(resolve(text), typed, "{text:?}");
        }
    }
}
