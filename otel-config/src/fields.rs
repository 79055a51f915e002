//! What [`settings!`](crate::settings!) generates code against: looking up the keys of a map once,
//! reporting the unknown ones, and turning the defaults in the source into values.

use crate::decode::Decode;
use crate::diagnostics::Diagnostics;
use crate::nearest::suggestion;
use crate::node::{Entry, Node, NodeKind};
use crate::path::Path;
use crate::position::Position;

/// The description of a field, from which docs and schemas are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldDoc {
    /// The key.
    pub name: &'static str,
    /// The name of its type.
    pub type_name: &'static str,
    /// The default as written in the source, a string with its quotes; `None` if there is none.
    pub default: Option<&'static str>,
    /// Whether the key must be there.
    pub required: bool,
    /// The doc comment, one line for each of its lines.
    pub doc: &'static str,
    /// The fields below, if the type is a settings struct or a list or map of them.
    pub fields: &'static [FieldDoc],
}

/// The keys of a map that is being decoded.
#[derive(Debug)]
pub struct Fields<'a> {
    entries: &'a [Entry],
    position: &'a Position,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    /// Looks at a map, or at null for an empty one, and reports the keys that are not `known`.
    /// `None` after reporting that it is no map.
    pub fn open(node: &'a Node, path: &'a Path, known: &[&str], out: &mut Diagnostics) -> Option<Self> {
        let entries: &[Entry] = match &node.kind {
            NodeKind::Null => &[],
            NodeKind::Map(entries) => entries,
            _ => {
                out.wrong_type(node, path, "map");
                return None;
            }
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let message = format!("'{}' has invalid keys: {}", path.dotted(), entry.key);
            let help = suggestion(&entry.key, known.iter().copied()).unwrap_or_default();
            out.error_with_help(&entry.key_position, path, message, help);
        }
        Some(Self { entries, position: &node.position, path })
    }

    /// The entry of `key`, if it is there.
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Decodes the value of `key`; if it is absent or null, its default. `None` after an error.
    pub fn get<T: Decode>(&self, key: &str, default: Option<Node>, out: &mut Diagnostics) -> Option<T> {
        let path = self.path.key(key);
        let entry = self.entry(key);
        let present = |value: &Node| !value.is_null() || (T::TEXT && value.original.is_some());
        match (entry.filter(|entry| present(&entry.value)), default) {
            (Some(entry), _) => T::decode(&entry.value, &path, out),
            (None, Some(default)) => T::decode(&default, &path, out),
            (None, None) => T::missing(entry.map_or(self.position, |entry| &entry.key_position), &path, out),
        }
    }
}

/// What may stand after `=` in [`settings!`](crate::settings!).
pub trait Literal {
    /// The value as if it had been written in the configuration.
    fn node(self) -> Node;
}

impl Literal for &str {
    fn node(self) -> Node {
        Node::quoted(Position::none(), self)
    }
}

impl Literal for bool {
    fn node(self) -> Node {
        Node::plain(Position::none(), self.to_string())
    }
}

impl Literal for i64 {
    fn node(self) -> Node {
        Node::plain(Position::none(), self.to_string())
    }
}

impl Literal for f64 {
    fn node(self) -> Node {
        // Debug keeps the point, so that 1.0 stays a float.
        Node::plain(Position::none(), format!("{self:?}"))
    }
}

/// An empty list, an empty map, or the defaults of nested settings.
impl Literal for () {
    fn node(self) -> Node {
        Node::null()
    }
}

impl<const N: usize> Literal for [&str; N] {
    fn node(self) -> Node {
        let items = self.into_iter().map(Literal::node).collect();
        Node::new(Position::none(), NodeKind::List(items))
    }
}

/// The value of a default that is written in the source.
///
/// # Panics
///
/// If the default cannot be decoded: a mistake in the source, which the first use of the struct shows.
#[expect(
    clippy::panic,
    reason = "a default that cannot be decoded is a mistake in the source, not in a file"
)]
pub fn default_of<T: Decode>(key: &str, literal: impl Literal) -> T {
    let mut out = Diagnostics::new();
    match T::decode(&literal.node(), &Path::root().key(key), &mut out) {
        Some(value) => value,
        None => panic!("the default of `{key}` cannot be decoded: {out}"),
    }
}

/// The key of a field: its name, without the `r#` of a raw identifier.
pub const fn key_name(name: &str) -> &str {
    match name.as_bytes() {
        [b'r', b'#', _, ..] => name.split_at(2).1,
        _ => name,
    }
}
