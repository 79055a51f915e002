//! Documents laid over each other by the `config` crate, with positions kept.
//!
//! `config` joins maps, lets a later list, scalar or null replace what was there, and knows nothing
//! of positions. So each value's origin holds its position and style, and each map holds, beside
//! its keys, where the keys were written. Keys get a prefix, so that none can be taken for another.

use std::error::Error;
use std::sync::Arc;

use config::{Config, ConfigError, Format, Map, Source, Value, ValueKind};

use crate::diagnostics::Diagnostics;
use crate::node::{Entry, Node, NodeKind, Scalar};
use crate::path::Path;
use crate::position::Position;
use crate::yaml;

/// The one key at the top: `config` splits top-level keys at dots, and must not see ours there.
const DOCUMENT: &str = "document";
/// The entry of a map that holds the map's own position.
const HERE: &str = ".";
const VALUE: char = 'v';
const KEY: char = 'k';

/// Our YAML as a format of the `config` crate. The uri names the source in positions.
#[derive(Debug)]
struct MarkedYaml {
    /// The number of the source, which orders keys of several sources.
    layer: usize,
}

impl Format for MarkedYaml {
    fn parse(
        &self,
        uri: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let file: Arc<str> = Arc::from(uri.map_or("", String::as_str));
        let mut out = Diagnostics::new();
        let root = yaml::parse(text, &file, &mut out);
        let root = root.and_then(|root| unflatten(root, &mut out));
        match root {
            Some(root) if !out.has_errors() => {
                Ok(Map::from([(DOCUMENT.to_owned(), encode(&root, self.layer))]))
            }
            _ => Err(Box::new(out)),
        }
    }
}

/// A parsed document as a source of the `config` crate.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Lays the documents (name, text) over each other, the last on top. `None` after an error.
pub(crate) fn merge(documents: &[(String, String)], out: &mut Diagnostics) -> Option<Node> {
    let mut builder = Config::builder();
    for (layer, (name, text)) in documents.iter().enumerate() {
        match (MarkedYaml { layer }).parse(Some(name), text) {
            Ok(map) => builder = builder.add_source(Layer(map)),
            Err(error) => match error.downcast::<Diagnostics>() {
                Ok(findings) => out.merge(*findings),
                Err(_) => out.error(Position::none(), &Path::root(), format!("{name}: invalid YAML")),
            },
        }
    }
    if out.has_errors() {
        return None;
    }
    let files: Vec<Arc<str>> = documents.iter().map(|(name, _)| Arc::from(name.as_str())).collect();
    let Ok(Config { cache: Value { kind: ValueKind::Table(mut top), .. }, .. }) = builder.build() else {
        out.error(Position::none(), &Path::root(), "the sources cannot be merged");
        return None;
    };
    Some(top.remove(DOCUMENT).map_or_else(Node::null, |value| decode(value, &files).0))
}

/// Checks that the document is a map, and opens top-level keys such as `processors::batch::timeout`.
fn unflatten(root: Node, out: &mut Diagnostics) -> Option<Node> {
    let entries = match root.kind {
        NodeKind::Map(entries) => entries,
        // An empty document adds nothing to the others.
        NodeKind::Null => Vec::new(),
        _ => {
            let message = format!("the configuration must be a map, got '{}'", root.type_name());
            out.error(&root.position, &Path::root(), message);
            return None;
        }
    };
    let mut map = Vec::new();
    for Entry { key, key_position, value } in entries {
        let mut keys = key.rsplit("::");
        let last = keys.next().unwrap_or_default();
        let leaf = Entry { key: last.to_owned(), key_position: key_position.clone(), value };
        let entry = keys.fold(leaf, |entry, key| {
            let position = key_position.clone();
            let value = Node::new(position.clone(), NodeKind::Map(vec![entry]));
            Entry { key: key.to_owned(), key_position: position, value }
        });
        graft(&mut map, entry);
    }
    Some(Node::new(root.position, NodeKind::Map(map)))
}

/// Adds an entry; where the key is there already, maps join and anything else is replaced.
fn graft(map: &mut Vec<Entry>, entry: Entry) {
    match map.iter_mut().find(|old| old.key == entry.key) {
        None => map.push(entry),
        Some(old) => match (&mut old.value.kind, entry.value.kind) {
            (NodeKind::Map(old), NodeKind::Map(new)) => new.into_iter().for_each(|entry| graft(old, entry)),
            (old, new) => *old = new,
        },
    }
}

fn origin(position: &Position, layer: usize, style: char) -> String {
    format!("{layer}:{}:{}:{style}", position.line, position.column)
}

fn encode(node: &Node, layer: usize) -> Value {
    let at = |style| Some(origin(&node.position, layer, style));
    match &node.kind {
        NodeKind::Null => Value::new(at('p').as_ref(), ValueKind::Nil),
        NodeKind::Scalar(scalar) => {
            Value::new(at(if scalar.plain { 'p' } else { 'q' }).as_ref(), scalar.text.as_str())
        }
        NodeKind::List(items) => {
            let items: Vec<Value> = items.iter().map(|item| encode(item, layer)).collect();
            Value::new(at('p').as_ref(), items)
        }
        NodeKind::Map(entries) => {
            let mut table = Map::from([(HERE.to_owned(), Value::new(at('p').as_ref(), ValueKind::Nil))]);
            for entry in entries {
                let key_origin = origin(&entry.key_position, layer, 'p');
                table.insert(format!("{KEY}{}", entry.key), Value::new(Some(&key_origin), ValueKind::Nil));
                table.insert(format!("{VALUE}{}", entry.key), encode(&entry.value, layer));
            }
            Value::new(at('p').as_ref(), table)
        }
    }
}

/// Where a value comes from: the number of its source, its position, its style.
struct Origin {
    layer: usize,
    position: Position,
    plain: bool,
}

impl Origin {
    fn of(value: Option<&Value>, files: &[Arc<str>]) -> Self {
        let nowhere = || Self { layer: 0, position: Position::none(), plain: true };
        let Some(origin) = value.and_then(Value::origin) else { return nowhere() };
        let mut parts = origin.split(':');
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
        let (layer, line, column) = (number() as usize, number(), number());
        match files.get(layer) {
            Some(file) => {
                Self { layer, position: Position::new(file, line, column), plain: origin.ends_with('p') }
            }
            None => nowhere(),
        }
    }

    fn order(&self) -> (usize, u32, u32) {
        (self.layer, self.position.line, self.position.column)
    }
}

fn decode(value: Value, files: &[Arc<str>]) -> (Node, Origin) {
    let mut origin = Origin::of(Some(&value), files);
    let kind = match value.kind {
        ValueKind::String(text) => NodeKind::Scalar(Scalar { text, plain: origin.plain, expanded: false }),
        ValueKind::Array(items) => {
            NodeKind::List(items.into_iter().map(|item| decode(item, files).0).collect())
        }
        ValueKind::Table(table) => {
            origin = Origin::of(table.get(HERE), files);
            NodeKind::Map(entries(table, files))
        }
        // Nothing else is ever encoded.
        _ => NodeKind::Null,
    };
    (Node::new(origin.position.clone(), kind), origin)
}

/// The entries of a map in the order of the sources.
fn entries(mut table: Map<String, Value>, files: &[Arc<str>]) -> Vec<Entry> {
    let names: Vec<String> =
        table.keys().filter_map(|key| key.strip_prefix(VALUE)).map(str::to_owned).collect();
    let mut entries = Vec::with_capacity(names.len());
    for key in names {
        if let Some(value) = table.remove(&format!("{VALUE}{key}")) {
            let origin = Origin::of(table.get(&format!("{KEY}{key}")), files);
            let entry = Entry { key, key_position: origin.position.clone(), value: decode(value, files).0 };
            entries.push((origin.order(), entry));
        }
    }
    entries.sort_by(|(left, a), (right, b)| (left, &a.key).cmp(&(right, &b.key)));
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests;
