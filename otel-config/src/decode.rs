//! From [`Node`]s to typed values, without the weak typing that turns `"12"` into a number.
//!
//! Errors go to a [`Diagnostics`], so that one pass finds all of them. They name keys and types and
//! never a value, which may be a secret.

use std::path::PathBuf;
use std::time::Duration;

use crate::component::{ComponentId, Reference};
use crate::diagnostics::Diagnostics;
use crate::duration::parse_duration;
use crate::endpoint::Endpoint;
pub use crate::fields::FieldDoc;
use crate::node::{Node, NodeKind, Scalar};
use crate::path::Path;
use crate::position::Position;
use crate::schema::Typed;
use crate::secret::Secret;

mod collections;

/// A type that a value of the configuration can be decoded into.
pub trait Decode: Sized {
    /// The type's name in messages and docs.
    const EXPECTED: &'static str;

    /// The value is a text: it takes the original text of a `${..}` whatever YAML makes of it.
    const TEXT: bool = false;

    /// The fields, for docs, where the type has some.
    const NESTED: &'static [FieldDoc] = &[];

    /// Decodes a value. `None` after reporting an error.
    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self>;

    /// The value of a key without a default that is not there, or is null: an error unless the type
    /// has a meaning for it.
    fn missing(position: &Position, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        out.error(position, path, format!("missing required key '{}'", path.last()));
        None
    }
}

/// The typed scalar, after reporting anything else.
fn scalar(node: &Node) -> Option<&Scalar> {
    match &node.kind {
        NodeKind::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}

impl Decode for bool {
    const EXPECTED: &'static str = "bool";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        if let Some(Typed::Bool(value)) = scalar(node).map(Scalar::typed) {
            return Some(value);
        }
        out.wrong_type(node, path, Self::EXPECTED);
        None
    }
}

impl Decode for f64 {
    const EXPECTED: &'static str = "float64";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        match scalar(node).map(Scalar::typed) {
            Some(Typed::Float(value)) => Some(value),
            Some(Typed::Int(value)) => Some(value as f64),
            _ => {
                out.wrong_type(node, path, Self::EXPECTED);
                None
            }
        }
    }
}

macro_rules! integers {
    ($($type:ty = $name:literal),*) => {$(
        impl Decode for $type {
            const EXPECTED: &'static str = $name;

            fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
                let value = integer(node, path, Self::EXPECTED, out)?;
                let converted = <$type>::try_from(value).ok();
                if converted.is_none() {
                    let (min, max) = (<$type>::MIN, <$type>::MAX);
                    out.error(&node.position, path, format!("'{}' must be between {min} and {max}", path.last()));
                }
                converted
            }
        }
    )*};
}

integers!(u16 = "uint16", u32 = "uint32", u64 = "uint64", usize = "int", i64 = "int");

fn integer(node: &Node, path: &Path, expected: &str, out: &mut Diagnostics) -> Option<i128> {
    match scalar(node).map(Scalar::typed) {
        Some(Typed::Int(value)) => Some(value),
        // `1e6` is a float to YAML and a whole number to whoever wrote it.
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, where a double is exact")]
        Some(Typed::Float(value)) if value.fract() == 0.0 && value.abs() < 9.0e15 => Some(value as i128),
        _ => {
            out.wrong_type(node, path, expected);
            None
        }
    }
}

/// Decodes a text; the error of `parse` must not repeat the text.
fn text<T: Decode>(
    node: &Node,
    path: &Path,
    out: &mut Diagnostics,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let Some(text) = node.string() else {
        out.wrong_type(node, path, "string");
        return None;
    };
    parse(text).map_err(|error| out.error(&node.position, path, format!("'{}' {error}", path.last()))).ok()
}

macro_rules! texts {
    ($($type:ty = $name:literal: $parse:expr),* $(,)?) => {$(
        impl Decode for $type {
            const EXPECTED: &'static str = $name;
            const TEXT: bool = true;

            fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
                text(node, path, out, $parse)
            }
        }
    )*};
}

texts! {
    String = "string": |text| Ok(text.to_owned()),
    Secret = "string": |text| Ok(Secret::new(text)),
    PathBuf = "path": |text| Ok(PathBuf::from(text)),
    Endpoint = "endpoint": Endpoint::parse,
    ComponentId = "id": |text| text.parse().map_err(|error| format!("is no component id: {error}")),
}

impl Decode for Reference {
    const EXPECTED: &'static str = ComponentId::EXPECTED;
    const TEXT: bool = true;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        let id = ComponentId::decode(node, path, out)?;
        Some(Self { id, position: node.position.clone() })
    }
}

impl Decode for Duration {
    const EXPECTED: &'static str = "duration";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        let found = scalar(node);
        if found.is_some_and(|scalar| scalar.typed() == Typed::Int(0)) {
            return Some(Self::ZERO);
        }
        let text = found.filter(|scalar| scalar.typed() == Typed::Str).map(|scalar| scalar.text.as_str());
        let Some(text) = text else {
            let name = path.last();
            let message =
                format!("'{name}' expected type 'duration', got unconvertible type '{}'", node.type_name());
            out.error_with_help(&node.position, path, message, "a duration has a unit: 200ms, 5s, 1h30m");
            return None;
        };
        let duration = parse_duration(text);
        if duration.is_none() {
            let message = format!("'{}' is no valid duration", path.last());
            out.error_with_help(&node.position, path, message, "a duration has a unit: 200ms, 5s, 1h30m");
        }
        duration
    }
}

#[cfg(test)]
mod tests;
