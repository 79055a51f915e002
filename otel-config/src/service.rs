//! The `service` section: which extensions and pipelines run, and the agent's own telemetry.
//!
//! Whether what it names is configured is checked by `check.rs`.

use std::fmt;

use crate::choices;
use crate::component::Reference;
use crate::diagnostics::Diagnostics;
use crate::fields::{Fields, Literal};
use crate::nearest::suggestion;
use crate::node::{Entry, Node, NodeKind};
use crate::path::Path;
use crate::position::Position;
use crate::telemetry::{self, Telemetry};

choices! {
    /// What a pipeline carries.
    pub enum Signal {
        /// Metrics.
        Metrics = "metrics",
        /// Traces.
        Traces = "traces",
        /// Logs.
        Logs = "logs",
    }
}

/// The id of a pipeline: `metrics` or `metrics/blame`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PipelineId {
    /// What it carries.
    pub signal: Signal,
    /// Its name, empty if it has none.
    pub name: String,
}

impl PipelineId {
    fn parse(text: &str) -> Result<Self, (String, String)> {
        let (signal, name) = match text.split_once('/') {
            Some((signal, name)) => (signal.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        if name == Some("") {
            return Err((format!("in \"{text}\" id: the part after / should not be empty"), String::new()));
        }
        let found = Signal::ALL.iter().find(|known| known.as_str() == signal);
        let help = || suggestion(signal, Signal::ALL.iter().map(|known| known.as_str())).unwrap_or_default();
        let unknown = || (format!("unknown pipeline signal: \"{signal}\""), help());
        let signal = *found.ok_or_else(unknown)?;
        Ok(Self { signal, name: name.unwrap_or_default().to_owned() })
    }
}

impl fmt::Display for PipelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.signal)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id.
    pub id: PipelineId,
    /// Where the id was written.
    pub position: Position,
    /// Receivers, or connectors.
    pub receivers: Vec<Reference>,
    /// Processors in the order in which data passes them.
    pub processors: Vec<Reference>,
    /// Exporters, or connectors.
    pub exporters: Vec<Reference>,
}

/// The section `service`.
#[derive(Debug, Clone)]
pub struct Service {
    /// Extensions in the order of their start.
    pub extensions: Vec<Reference>,
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
    /// The agent's own telemetry.
    pub telemetry: Telemetry,
}

/// Decodes what can be decoded, so that the checks after it see as much as possible.
pub(crate) fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Service> {
    let fields = Fields::open(node, path, &["extensions", "pipelines", "telemetry"], out)?;
    let extensions = references(&fields, "extensions", out).unwrap_or_default();
    let pipelines = pipelines(fields.entry("pipelines"), &path.key("pipelines"), node, out);
    let telemetry = telemetry::decode(&fields, path, out);
    Some(Service { extensions, pipelines: pipelines?, telemetry: telemetry.unwrap_or_default() })
}

fn references(fields: &Fields<'_>, key: &str, out: &mut Diagnostics) -> Option<Vec<Reference>> {
    fields.get(key, Some(().node()), out)
}

fn pipelines(
    section: Option<&Entry>,
    path: &Path,
    service: &Node,
    out: &mut Diagnostics,
) -> Option<Vec<Pipeline>> {
    let value = section.map_or(service, |section| &section.value);
    let entries: &[Entry] = match &value.kind {
        _ if section.is_none() => &[],
        NodeKind::Null => &[],
        NodeKind::Map(entries) => entries,
        _ => {
            out.wrong_type(value, path, "map");
            return None;
        }
    };
    if entries.is_empty() {
        let position = section.map_or(&service.position, |section| &section.key_position);
        out.error(position, path, "service must have at least one pipeline");
    }
    let pipelines = entries.iter().filter_map(|entry| pipeline(entry, path, out)).collect();
    Some(pipelines)
}

fn pipeline(entry: &Entry, path: &Path, out: &mut Diagnostics) -> Option<Pipeline> {
    let id = PipelineId::parse(&entry.key)
        .map_err(|(message, help)| out.error_with_help(&entry.key_position, path, message, help))
        .ok();
    let path = path.key(&entry.key);
    let fields = Fields::open(&entry.value, &path, &["receivers", "processors", "exporters"], out)?;
    let receivers = references(&fields, "receivers", out);
    let processors = references(&fields, "processors", out);
    let exporters = references(&fields, "exporters", out);
    Some(Pipeline {
        id: id?,
        position: entry.key_position.clone(),
        receivers: receivers?,
        processors: processors?,
        exporters: exporters?,
    })
}
