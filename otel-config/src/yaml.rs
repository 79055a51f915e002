//! From YAML text to [`Node`]s with positions, over the marked events of `yaml-rust2`.
//!
//! Duplicate keys are errors. Anchors, aliases and `<<` are followed, within a budget, so that a few
//! lines cannot grow into gigabytes. Values are not typed and `${..}` is not expanded here.

use std::collections::HashMap;
use std::sync::Arc;

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use crate::diagnostics::Diagnostics;
use crate::node::{Entry, Node, NodeKind, Scalar};
use crate::path::Path;
use crate::position::Position;
use crate::schema::Typed;

mod frame;
use frame::{Frame, Key, Open};

/// The largest document in bytes: a configuration of a whole fleet fits many times.
pub(crate) const MAX_DOCUMENT: usize = 1 << 20;
/// What a tree may weigh, its text in bytes plus [`NODE_WEIGHT`] for each value.
pub(crate) const MAX_WEIGHT: usize = 8 << 20;
/// About what a value costs in memory besides its text.
pub(crate) const NODE_WEIGHT: usize = 64;
/// How deep lists and maps may be nested; later passes recurse.
pub(crate) const MAX_DEPTH: usize = 64;

/// Parses one document. `None` after an error; an empty text is null.
pub(crate) fn parse(text: &str, file: &Arc<str>, out: &mut Diagnostics) -> Option<Node> {
    if text.len() > MAX_DOCUMENT {
        let message = format!("the document is larger than {MAX_DOCUMENT} bytes");
        out.error(Position::new(file, 0, 0), &Path::root(), message);
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let errors = out.error_count();
    let mut builder = Builder::new(file, out);
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, mark)) => builder.on_event(event, mark)?,
            Err(error) => {
                let position = position(file, *error.marker());
                out.error_with_help(
                    position,
                    &Path::root(),
                    format!("invalid YAML: {}", error.info()),
                    help(text, error.marker()),
                );
                return None;
            }
        }
    }
    let root = builder.root.unwrap_or_else(|| Node::new(Position::new(file, 1, 1), NodeKind::Null));
    if out.error_count() > errors { None } else { Some(root) }
}

fn position(file: &Arc<str>, mark: Marker) -> Position {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    // The parser counts columns from 0.
    Position::new(file, number(mark.line()).max(1), number(mark.col()).saturating_add(1))
}

/// A tab before the first word is the usual cause of an error that the parser names otherwise.
fn help(text: &str, mark: &Marker) -> &'static str {
    let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or("");
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') { "indent with spaces, not with tabs" } else { "" }
}

struct Builder<'a> {
    file: &'a Arc<str>,
    out: &'a mut Diagnostics,
    open: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize)>,
    documents: usize,
    weight: usize,
    /// The end of what was read last: where an absent value is said to be.
    last: Position,
}

impl<'a> Builder<'a> {
    fn new(file: &'a Arc<str>, out: &'a mut Diagnostics) -> Self {
        Self {
            file,
            out,
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            documents: 0,
            weight: 0,
            last: Position::new(file, 1, 1),
        }
    }

    fn on_event(&mut self, event: Event, mark: Marker) -> Option<()> {
        let position = position(self.file, mark);
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    return self.fail(&position, "only one YAML document is allowed in a source");
                }
                Some(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_ref(), position)
            }
            Event::SequenceStart(anchor, _) => self.open(Open::List(Vec::new()), anchor, position),
            Event::MappingStart(anchor, _) => self.open(Open::map(), anchor, position),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor) else {
                    return self.fail(&position, "the alias refers to a value that contains it");
                };
                let (node, weight) = (node.clone(), *weight);
                self.weigh(weight, &position)?;
                self.place(node)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Some(()),
        }
    }

    fn scalar(
        &mut self,
        text: String,
        style: TScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Option<()> {
        self.weigh(text.len() + NODE_WEIGHT, &at)?;
        let plain = style == TScalarStyle::Plain;
        if self.open.last().is_some_and(Frame::wants_key) {
            self.last = at.clone();
            self.key(Key { text, position: at, merges: plain });
            return Some(());
        }
        let absent = plain && text.is_empty();
        let at = if absent { self.last.clone() } else { at };
        self.last = at.clone();
        let scalar = Scalar { text, plain: plain && !tag.is_some_and(is_string), expanded: false };
        let kind = if scalar.typed() == Typed::Null { NodeKind::Null } else { NodeKind::Scalar(scalar) };
        let node = Node::new(at, kind);
        if anchor > 0 {
            let weight = NODE_WEIGHT + scalar_length(&node);
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        self.place(node)
    }

    fn open(&mut self, open: Open, anchor: usize, position: Position) -> Option<()> {
        if self.open.last().is_some_and(Frame::wants_key) {
            return self.fail(&position, "a key must be a text, not a list or a map");
        }
        if self.open.len() >= MAX_DEPTH {
            return self.fail(&position, &format!("nested deeper than {MAX_DEPTH} levels"));
        }
        let before = self.weight;
        self.weigh(NODE_WEIGHT, &position)?;
        self.last = position.clone();
        self.open.push(Frame { open, anchor, position, before });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let frame = self.open.pop()?;
        let (anchor, before) = (frame.anchor, frame.before);
        let path = self.path();
        let node = frame.finish(&path, self.out);
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.weight - before));
        }
        self.place(node)
    }

    fn key(&mut self, key: Key) {
        let path = self.path();
        if let Some(Frame { open: Open::Map { seen, pending, .. }, position, .. }) = self.open.last_mut() {
            // The parser places a block map at the colon of its first key.
            if seen.is_empty() && key.position < *position {
                *position = key.position.clone();
            }
            if let Some(first) = seen.get(&key.text) {
                let message = format!("mapping key \"{}\" already defined at {first}", key.text);
                self.out.error(&key.position, &path.key(&key.text), message);
            } else {
                seen.insert(key.text.clone(), key.position.clone());
            }
            *pending = Some(key);
        }
    }

    /// Puts a finished value where it belongs: under its key, into its list, or at the root.
    fn place(&mut self, node: Node) -> Option<()> {
        match self.open.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, merged, pending, .. }) => match pending.take() {
                Some(key) if key.merges && key.text == "<<" => merged.push(node),
                Some(key) => {
                    entries.push(Entry { key: key.text, key_position: key.position, value: node });
                }
                None => return self.fail(&node.position, "a key must be a text, not an alias"),
            },
        }
        Some(())
    }

    fn weigh(&mut self, weight: usize, at: &Position) -> Option<()> {
        self.weight += weight;
        if self.weight > MAX_WEIGHT {
            return self.fail(at, "too many values: the aliases of the document expand to too much");
        }
        Some(())
    }

    fn path(&self) -> Path {
        self.open.iter().fold(Path::root(), |path, frame| match &frame.open {
            Open::List(items) => path.index(items.len()),
            Open::Map { pending: Some(key), .. } => path.key(&key.text),
            Open::Map { .. } => path,
        })
    }

    fn fail(&mut self, at: &Position, message: &str) -> Option<()> {
        let path = self.path();
        self.out.error(at, &path, message);
        None
    }
}

fn is_string(tag: &Tag) -> bool {
    tag.suffix == "str" && (tag.handle == "tag:yaml.org,2002:" || tag.handle == "!!")
}

fn scalar_length(node: &Node) -> usize {
    match &node.kind {
        NodeKind::Scalar(scalar) => scalar.text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
