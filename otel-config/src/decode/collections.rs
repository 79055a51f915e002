//! Decoding of optional values, lists and maps. Every element is looked at, so that all errors show.

use std::collections::BTreeMap;

use super::Decode;
use crate::diagnostics::Diagnostics;
use crate::fields::FieldDoc;
use crate::node::{Node, NodeKind, Scalar};
use crate::path::Path;
use crate::position::Position;
use crate::schema::Typed;

impl<T: Decode> Decode for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const TEXT: bool = T::TEXT;
    const NESTED: &'static [FieldDoc] = T::NESTED;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        // An empty variable means no value; `null` or `~` in one may be somebody's password.
        let text = T::TEXT && node.original.as_deref().is_some_and(|original| !original.is_empty());
        if node.is_null() && !text { Some(None) } else { T::decode(node, path, out).map(Some) }
    }

    fn missing(_: &Position, _: &Path, _: &mut Diagnostics) -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Vec<T> {
    const EXPECTED: &'static str = "list";
    const NESTED: &'static [FieldDoc] = T::NESTED;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        match &node.kind {
            NodeKind::Null => Some(Self::new()),
            NodeKind::List(items) => elements(items.iter().enumerate(), path, out),
            // A string stands for a list of strings, as in the Collector.
            NodeKind::Scalar(scalar) if scalar.typed() == Typed::Str && T::NESTED.is_empty() => {
                let items: Vec<Node> = split(scalar, &node.position);
                elements(items.iter().enumerate(), path, out)
            }
            _ => {
                out.wrong_type(node, path, Self::EXPECTED);
                None
            }
        }
    }
}

fn split(scalar: &Scalar, position: &Position) -> Vec<Node> {
    if scalar.text.is_empty() {
        return Vec::new();
    }
    scalar.text.split(',').map(|text| Node::quoted(position.clone(), text)).collect()
}

fn elements<'a, T: Decode>(
    items: impl Iterator<Item = (usize, &'a Node)>,
    path: &Path,
    out: &mut Diagnostics,
) -> Option<Vec<T>> {
    let decoded: Vec<Option<T>> =
        items.map(|(index, item)| T::decode(item, &path.index(index), out)).collect();
    decoded.into_iter().collect()
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    const EXPECTED: &'static str = "map";
    const NESTED: &'static [FieldDoc] = T::NESTED;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        match &node.kind {
            NodeKind::Null => Some(Self::new()),
            NodeKind::Map(entries) => {
                let decoded: Vec<Option<(String, T)>> = entries
                    .iter()
                    .map(|entry| {
                        let value = T::decode(&entry.value, &path.key(&entry.key), out)?;
                        Some((entry.key.clone(), value))
                    })
                    .collect();
                decoded.into_iter().collect()
            }
            _ => {
                out.wrong_type(node, path, Self::EXPECTED);
                None
            }
        }
    }
}
