//! `${env:X}`, `${X}`, `${env:X:-default}`, `${file:path}`, `${yaml:text}` and `$$`.
//!
//! Only values are expanded, after layering and one by one, so that a variable can neither change
//! the structure around it nor spoil positions. Keys are left alone. Messages name variables and
//! files, never what is in them.

use std::sync::Arc;

use crate::diagnostics::Diagnostics;
use crate::node::{Node, NodeKind, Scalar};
use crate::path::Path;
use crate::position::Position;
use crate::providers::Environment;
use crate::schema::Typed;
use crate::yaml::{self, MAX_DEPTH, MAX_WEIGHT, NODE_WEIGHT};

mod reference;
use reference::{Reference, Retrieved, innermost};

/// How many references one value may go through, as in the Collector.
const MAX_EXPANSIONS: usize = 1000;
const TOO_MANY: &str = "too many recursive expansions";

/// Expands every value of the tree in place.
pub(crate) fn expand(root: &mut Node, env: Environment<'_>, out: &mut Diagnostics) {
    Expander { env, out, weight: 0, stopped: false }.node(root, &Path::root(), 0, 0);
}

struct Expander<'a> {
    env: Environment<'a>,
    out: &'a mut Diagnostics,
    /// What the expanded values weigh together.
    weight: usize,
    /// A limit was hit and has been reported.
    stopped: bool,
}

impl Expander<'_> {
    /// `used` counts the references that led to this value, `depth` its nesting.
    fn node(&mut self, node: &mut Node, path: &Path, used: usize, depth: usize) {
        match &mut node.kind {
            NodeKind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &path.index(index), used, depth + 1);
                }
            }
            NodeKind::Map(entries) => {
                for entry in entries {
                    self.node(&mut entry.value, &path.key(&entry.key), used, depth + 1);
                }
            }
            NodeKind::Scalar(scalar) if scalar.text.contains('$') => {
                let source = std::mem::take(&mut scalar.text);
                let plain = scalar.plain;
                let expanded = scalar.expanded;
                // After an error the value is null; the error keeps the configuration from being used.
                *node = self
                    .text(&source, Style { plain, expanded }, &node.position, path, used, depth)
                    .unwrap_or_else(|| Node::new(node.position.clone(), NodeKind::Null));
            }
            NodeKind::Null | NodeKind::Scalar(_) => {}
        }
    }

    fn text(
        &mut self,
        source: &str,
        mut style: Style,
        at: &Position,
        path: &Path,
        mut used: usize,
        depth: usize,
    ) -> Option<Node> {
        if self.stopped {
            return None;
        }
        let mut text = source.to_owned();
        while let Some(range) = innermost(&text) {
            used += 1;
            if used > MAX_EXPANSIONS {
                return self.stop(at, path, TOO_MANY);
            }
            let inner = text[range.start + 2..range.end - 1].to_owned();
            // What came out of a value is not named in messages: it may be part of a secret.
            let written = source.contains(&text[range.clone()]);
            let retrieved = Reference { inner: &inner, written, at, path }.retrieve(self.env, self.out)?;
            if range.len() == text.len() {
                match self.whole(retrieved, at, path, used, depth)? {
                    Whole::Text(new) => {
                        style = Style { plain: false, expanded: true };
                        text = new;
                    }
                    Whole::Value(node) => return Some(node),
                }
            } else {
                style = Style { plain: false, expanded: true };
                text.replace_range(range, retrieved.text().unwrap_or_default());
            }
            self.weigh(text.len(), at, path)?;
        }
        let scalar = Scalar { text: text.replace("$$", "$"), plain: style.plain, expanded: style.expanded };
        Some(Node::new(at.clone(), NodeKind::Scalar(scalar)))
    }

    /// A value that is one reference and nothing else takes the type of what it refers to.
    fn whole(
        &mut self,
        found: Retrieved,
        at: &Position,
        path: &Path,
        used: usize,
        depth: usize,
    ) -> Option<Whole> {
        let Retrieved::Text(raw) = found else {
            return Some(Whole::Value(Node::new(at.clone(), NodeKind::Null)));
        };
        // What is no YAML is a string as it stands, as in the Collector.
        let parsed = yaml::parse(&raw, &at.file, &mut Diagnostics::new());
        let Some(mut node) = parsed else { return Some(Whole::Text(raw)) };
        match &mut node.kind {
            NodeKind::Scalar(scalar) if scalar.typed() == Typed::Str => return Some(Whole::Text(raw)),
            NodeKind::Scalar(scalar) => scalar.expanded = true,
            NodeKind::Null => {}
            NodeKind::List(_) | NodeKind::Map(_) => {
                if depth >= MAX_DEPTH {
                    return self.stop(at, path, TOO_MANY);
                }
                let weight = relocate(&mut node, at);
                self.weigh(weight, at, path)?;
                self.node(&mut node, path, used, depth + 1);
            }
        }
        node.position = at.clone();
        node.original = Some(Arc::from(raw.replace("$$", "$")));
        Some(Whole::Value(node))
    }

    /// Reports that a limit was hit and expands no more: one finding is enough.
    fn stop<T>(&mut self, at: &Position, path: &Path, message: &str) -> Option<T> {
        self.stopped = true;
        self.out.error(at, path, message);
        None
    }

    fn weigh(&mut self, weight: usize, at: &Position, path: &Path) -> Option<()> {
        self.weight += weight;
        if self.weight <= MAX_WEIGHT {
            return Some(());
        }
        self.stop(at, path, "the expanded values are too large")
    }
}

#[derive(Clone, Copy)]
struct Style {
    plain: bool,
    expanded: bool,
}

enum Whole {
    /// A string, which may refer to more.
    Text(String),
    /// A value of another type, with nothing left to expand.
    Value(Node),
}

/// Gives every value of an expanded tree the position of the reference; returns the tree's weight.
fn relocate(node: &mut Node, at: &Position) -> usize {
    node.position = at.clone();
    NODE_WEIGHT
        + match &mut node.kind {
            NodeKind::Null => 0,
            NodeKind::Scalar(scalar) => scalar.text.len(),
            NodeKind::List(items) => items.iter_mut().map(|item| relocate(item, at)).sum(),
            NodeKind::Map(entries) => {
                let mut weight = 0;
                for entry in entries {
                    entry.key_position = at.clone();
                    weight += entry.key.len() + relocate(&mut entry.value, at);
                }
                weight
            }
        }
}

#[cfg(test)]
mod tests;
