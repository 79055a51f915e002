//! The tree of values that a configuration is made of, each with its position, text and style.
//!
//! Nothing here is typed yet: a scalar keeps the text as written, and its type is asked for by the
//! field that it is decoded into.

use std::fmt;
use std::sync::Arc;

use crate::position::Position;
use crate::schema::{Typed, resolve};

/// A value and where it was written.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// Where the value starts.
    pub position: Position,
    /// What it is.
    pub kind: NodeKind,
    /// The text that a whole-value `${..}` was replaced by, where it is not the scalar's own text.
    /// A string field takes this text, so that a password such as `{x}` or `null` stays what it is.
    pub original: Option<Arc<str>>,
}

/// The kinds of value.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Nothing after the key, `null`, `~`, or an unset environment variable.
    Null,
    /// Text, whatever its type.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it was written.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_position: Position,
    /// The value.
    pub value: Node,
}

/// The text of a value as written. Its `Debug` does not show the text, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text, without quotes.
    pub text: String,
    /// Written without quotes, so that YAML's typing applies: `12` is an int, `"12"` a string.
    pub plain: bool,
    /// The text came from a `${..}` and may be used for a string whatever its YAML type.
    pub expanded: bool,
}

impl Node {
    /// A value at a position.
    pub fn new(position: Position, kind: NodeKind) -> Self {
        Self { position, kind, original: None }
    }

    /// A null that nobody wrote.
    pub fn null() -> Self {
        Self::new(Position::none(), NodeKind::Null)
    }

    /// A quoted string.
    pub fn quoted(position: Position, text: impl Into<String>) -> Self {
        let scalar = Scalar { text: text.into(), plain: false, expanded: false };
        Self::new(position, NodeKind::Scalar(scalar))
    }

    /// A scalar without quotes, typed by YAML's rules.
    pub fn plain(position: Position, text: impl Into<String>) -> Self {
        let scalar = Scalar { text: text.into(), plain: true, expanded: false };
        Self::new(position, NodeKind::Scalar(scalar))
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, NodeKind::Null)
    }

    /// The value of `key` if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            NodeKind::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// The name of the value's type, as messages print it.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Null => "nil",
            NodeKind::List(_) => "list",
            NodeKind::Map(_) => "map",
            NodeKind::Scalar(scalar) => scalar.typed().name(),
        }
    }

    /// The text for a string field; `None` if the value is no string and did not come from a `${..}`.
    pub fn string(&self) -> Option<&str> {
        if let Some(original) = &self.original {
            return Some(original);
        }
        match &self.kind {
            NodeKind::Scalar(scalar) if scalar.expanded || scalar.typed() == Typed::Str => Some(&scalar.text),
            _ => None,
        }
    }
}

impl Scalar {
    /// The type that YAML gives to the text.
    pub(crate) fn typed(&self) -> Typed {
        if self.plain { resolve(&self.text) } else { Typed::Str }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("position", &self.position)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scalar")
            .field("plain", &self.plain)
            .field("expanded", &self.expanded)
            .finish_non_exhaustive()
    }
}
