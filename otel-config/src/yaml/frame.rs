//! A list or map that has been opened and not yet closed, and how `<<` joins maps into it.

use std::collections::HashMap;

use crate::diagnostics::Diagnostics;
use crate::node::{Entry, Node, NodeKind};
use crate::path::Path;
use crate::position::Position;

pub(super) struct Frame {
    pub(super) open: Open,
    pub(super) anchor: usize,
    pub(super) position: Position,
    /// The weight of the tree before this value.
    pub(super) before: usize,
}

pub(super) enum Open {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// The values of `<<`.
        merged: Vec<Node>,
        seen: HashMap<String, Position>,
        pending: Option<Key>,
    },
}

pub(super) struct Key {
    pub(super) text: String,
    pub(super) position: Position,
    /// Written plain, so that `<<` means a merge.
    pub(super) merges: bool,
}

impl Open {
    pub(super) fn map() -> Self {
        Self::Map { entries: Vec::new(), merged: Vec::new(), seen: HashMap::new(), pending: None }
    }
}

impl Frame {
    pub(super) fn wants_key(&self) -> bool {
        matches!(self.open, Open::Map { pending: None, .. })
    }

    /// The finished value.
    pub(super) fn finish(self, path: &Path, out: &mut Diagnostics) -> Node {
        let kind = match self.open {
            Open::List(items) => NodeKind::List(items),
            Open::Map { mut entries, merged, mut seen, .. } => {
                for node in merged {
                    merge(node, &mut entries, &mut seen, path, out);
                }
                NodeKind::Map(entries)
            }
        };
        Node::new(self.position, kind)
    }
}

/// Adds the keys of `node` that the map does not have; the map's own keys and earlier merges win.
fn merge(
    node: Node,
    entries: &mut Vec<Entry>,
    seen: &mut HashMap<String, Position>,
    path: &Path,
    out: &mut Diagnostics,
) {
    match node.kind {
        NodeKind::Map(added) => {
            for entry in added {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.key_position.clone());
                    entries.push(entry);
                }
            }
        }
        NodeKind::List(nodes) if nodes.iter().all(|node| matches!(node.kind, NodeKind::Map(_))) => {
            for node in nodes {
                merge(node, entries, seen, path, out);
            }
        }
        _ => out.error(
            &node.position,
            &path.key("<<"),
            "map merge requires map or sequence of maps as the value",
        ),
    }
}
