//! The top level: sections of components and the service. Bodies of components stay undecoded.

use std::collections::HashMap;

use crate::component::{Component, ComponentId};
use crate::diagnostics::Diagnostics;
use crate::fields::Fields;
use crate::node::{Node, NodeKind};
use crate::path::Path;
use crate::service::{self, Service};

const SECTIONS: [&str; 6] = ["receivers", "processors", "exporters", "connectors", "extensions", "service"];

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What brings data in.
    pub receivers: Vec<Component>,
    /// What changes it.
    pub processors: Vec<Component>,
    /// What sends it out.
    pub exporters: Vec<Component>,
    /// What joins pipelines.
    pub connectors: Vec<Component>,
    /// What serves the others.
    pub extensions: Vec<Component>,
    /// Which of them run, and how they are joined.
    pub service: Service,
}

impl Configuration {
    /// Reads the top level of a merged and expanded tree; all that is wrong with it goes to `out`.
    pub(crate) fn decode(root: &Node, out: &mut Diagnostics) -> Option<Self> {
        let path = Path::root();
        let empty = match &root.kind {
            NodeKind::Null => true,
            NodeKind::Map(entries) => entries.is_empty(),
            _ => false,
        };
        if empty {
            out.error(&root.position, &path, "empty configuration file");
            return None;
        }
        let fields = Fields::open(root, &path, &SECTIONS, out)?;
        let [receivers, processors, exporters, connectors, extensions] =
            ["receivers", "processors", "exporters", "connectors", "extensions"]
                .map(|section| components(&fields, section, out));
        if receivers.as_ref().is_some_and(Vec::is_empty) {
            out.error(&root.position, &path, "no receiver configuration specified in config");
        }
        if exporters.as_ref().is_some_and(Vec::is_empty) {
            out.error(&root.position, &path, "no exporter configuration specified in config");
        }
        let entry = fields.entry("service");
        let null = Node::new(root.position.clone(), NodeKind::Null);
        let service = service::decode(entry.map_or(&null, |entry| &entry.value), &path.key("service"), out);
        Some(Self {
            receivers: receivers?,
            processors: processors?,
            exporters: exporters?,
            connectors: connectors?,
            extensions: extensions?,
            service: service?,
        })
    }
}

/// A section; a bad id leaves the others, `None` only if it is no map.
fn components(fields: &Fields<'_>, section: &str, out: &mut Diagnostics) -> Option<Vec<Component>> {
    let path = Path::root().key(section);
    let Some(entry) = fields.entry(section) else { return Some(Vec::new()) };
    let entries = match &entry.value.kind {
        NodeKind::Null => return Some(Vec::new()),
        NodeKind::Map(entries) => entries,
        _ => {
            out.wrong_type(&entry.value, &path, "map");
            return None;
        }
    };
    let mut seen = HashMap::new();
    let mut components = Vec::with_capacity(entries.len());
    for entry in entries {
        let id: ComponentId = match entry.key.parse() {
            Ok(id) => id,
            Err(error) => {
                out.error(&entry.key_position, &path, format!("in \"{}\" id: {error}", entry.key));
                continue;
            }
        };
        if let Some(first) = seen.insert(id.clone(), &entry.key_position) {
            let message = format!("duplicate name \"{id}\" after trimming spaces, first at {first}");
            out.error(&entry.key_position, &path, message);
            continue;
        }
        components.push(Component { id, position: entry.key_position.clone(), body: entry.value.clone() });
    }
    Some(components)
}
