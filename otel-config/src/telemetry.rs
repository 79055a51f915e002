//! The section `service.telemetry`: the agent's own logs and metrics.
//!
//! Keys that the Collector knows and this agent has no use for are accepted with a warning, so that
//! a Collector's file can be tried as it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::decode::Decode;
use crate::diagnostics::Diagnostics;
use crate::endpoint::Endpoint;
use crate::fields::{Fields, Literal};
use crate::node::{Node, NodeKind};
use crate::path::Path;
use crate::readers::{MetricsReader, Reader};
use crate::{choices, settings};

choices! {
    /// From which severity on the agent logs.
    pub enum LogLevel {
        /// Everything.
        Debug = "debug",
        /// What changes.
        Info = "info",
        /// What may need attention.
        Warn = "warn",
        /// What failed.
        Error = "error",
    }
}

choices! {
    /// How much the agent measures of itself.
    pub enum MetricsLevel {
        /// Nothing.
        None = "none",
        /// What every operator needs.
        Basic = "basic",
        /// The usual.
        Normal = "normal",
        /// Everything.
        Detailed = "detailed",
    }
}

/// The agent's own telemetry.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `logs.level`.
    pub log_level: LogLevel,
    /// `metrics.level`.
    pub metrics_level: MetricsLevel,
    /// `metrics.readers`; none at the level `none`.
    pub readers: Vec<MetricsReader>,
    /// False when the default reader was filled in.
    pub readers_configured: bool,
    /// Attributes of the agent's resource.
    pub resource: BTreeMap<String, String>,
    /// Attributes that were set to null: automatic ones that are not wanted.
    pub resource_removed: BTreeSet<String>,
}

/// A setting of the Collector that changes nothing here.
#[derive(Debug, Clone)]
pub(crate) struct Ignored;

impl Decode for Ignored {
    const EXPECTED: &'static str = "any";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        out.warn(&node.position, path, "has no effect in blameio");
        Some(Self)
    }
}

settings! {
    /// `service.telemetry.logs`.
    #[expect(dead_code, reason = "what a Collector has and this agent does not is decoded for its warning")]
    struct Logs {
        /// From which severity on.
        level: LogLevel = "info",
        /// Of the Collector.
        encoding: Option<Ignored>,
        /// Of the Collector.
        development: Option<Ignored>,
        /// Of the Collector.
        sampling: Option<Ignored>,
        /// Of the Collector.
        output_paths: Option<Ignored>,
        /// Of the Collector.
        error_output_paths: Option<Ignored>,
        /// Of the Collector.
        initial_fields: Option<Ignored>,
        /// Of the Collector.
        disable_caller: Option<Ignored>,
        /// Of the Collector.
        disable_stacktrace: Option<Ignored>,
        /// Of the Collector.
        processors: Option<Ignored>,
    }
}

settings! {
    /// `service.telemetry.metrics`.
    #[expect(dead_code, reason = "what a Collector has and this agent does not is decoded for its warning")]
    struct Metrics {
        /// How much.
        level: MetricsLevel = "normal",
        /// Where to.
        readers: Option<Vec<Reader>>,
        /// Of old Collectors, which ignore it too.
        address: Option<Ignored>,
        /// Of the Collector.
        views: Option<Ignored>,
    }
}

/// Where a Collector serves its own metrics, and this agent if it is told nothing else.
const DEFAULT_PORT: u16 = 8888;

fn default_readers() -> Vec<MetricsReader> {
    vec![MetricsReader::Pull(Endpoint::new("localhost", DEFAULT_PORT))]
}

impl Default for Telemetry {
    /// What applies when nothing is written.
    fn default() -> Self {
        Self {
            log_level: LogLevel::Info,
            metrics_level: MetricsLevel::Normal,
            readers: default_readers(),
            readers_configured: false,
            resource: BTreeMap::new(),
            resource_removed: BTreeSet::new(),
        }
    }
}

/// Decodes `telemetry` of the service whose fields and path are given.
pub(crate) fn decode(service: &Fields<'_>, path: &Path, out: &mut Diagnostics) -> Option<Telemetry> {
    let path = path.key("telemetry");
    let null = Node::null();
    let node = service.entry("telemetry").map_or(&null, |entry| &entry.value);
    let fields = Fields::open(node, &path, &["logs", "metrics", "traces", "resource"], out)?;
    let logs: Option<Logs> = fields.get("logs", Some(().node()), out);
    let metrics: Option<Metrics> = fields.get("metrics", Some(().node()), out);
    let _traces: Option<Option<Ignored>> = fields.get("traces", None, out);
    let resource = fields.entry("resource").map_or(&null, |entry| &entry.value);
    let resource = attributes(resource, &path.key("resource"), out);
    let (metrics, (resource, resource_removed)) = (metrics?, resource?);
    let readers_configured = metrics.readers.is_some();
    let configured = |readers: Vec<Reader>| readers.into_iter().map(|reader| reader.0).collect();
    let mut readers = metrics.readers.map_or_else(default_readers, configured);
    if metrics.level == MetricsLevel::None {
        readers.clear();
    }
    Some(Telemetry {
        log_level: logs?.level,
        metrics_level: metrics.level,
        readers,
        readers_configured,
        resource,
        resource_removed,
    })
}

type Attributes = (BTreeMap<String, String>, BTreeSet<String>);

fn attributes(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Attributes> {
    let entries = match &node.kind {
        NodeKind::Null => return Some(Attributes::default()),
        NodeKind::Map(entries) => entries,
        _ => {
            out.wrong_type(node, path, "map");
            return None;
        }
    };
    let (mut values, mut removed) = Attributes::default();
    let mut complete = true;
    for entry in entries {
        match Option::<String>::decode(&entry.value, &path.key(&entry.key), out) {
            Some(Some(value)) => drop(values.insert(entry.key.clone(), value)),
            Some(None) => drop(removed.insert(entry.key.clone())),
            None => complete = false,
        }
    }
    complete.then_some((values, removed))
}
