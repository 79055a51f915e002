//! `service.telemetry.metrics.readers` in the shapes of otelconf v0.3: a Prometheus endpoint that is
//! pulled, or OTLP that is pushed periodically.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::Decode;
use crate::diagnostics::Diagnostics;
use crate::endpoint::Endpoint;
use crate::node::{Node, NodeKind};
use crate::path::Path;
use crate::secret::Secret;
use crate::telemetry::Ignored;
use crate::{choices, settings};

/// Where the agent's own metrics go.
#[derive(Debug, Clone)]
pub enum MetricsReader {
    /// Served for Prometheus at an address.
    Pull(Endpoint),
    /// Sent over OTLP.
    Push {
        /// Where to.
        endpoint: String,
        /// `grpc`.
        protocol: String,
        /// How often.
        interval: Duration,
        /// Metadata of each request.
        headers: BTreeMap<String, Secret>,
        /// Without TLS.
        insecure: bool,
    },
}

settings! {
    /// One of the two.
    struct Shape {
        /// Pulled.
        pull: Option<Pull>,
        /// Pushed.
        periodic: Option<Periodic>,
    }
}

settings! {
    /// A reader that is pulled.
    struct Pull {
        /// How.
        exporter: PullExporter,
    }
}

settings! {
    /// The exporters that can be pulled.
    struct PullExporter {
        /// The only one.
        prometheus: Prometheus,
    }
}

settings! {
    /// A Prometheus endpoint.
    #[expect(dead_code, reason = "what a Collector has and this agent does not is decoded for its warning")]
    struct Prometheus {
        /// Name or address.
        host: String = "localhost",
        /// Port.
        port: u16 = 8888,
        /// Of the Collector.
        with_resource_constant_labels: Option<Ignored>,
        /// Of the Collector.
        without_scope_info: Option<Ignored>,
        /// Of the Collector.
        without_units: Option<Ignored>,
        /// Of the Collector.
        without_type_suffix: Option<Ignored>,
    }
}

settings! {
    /// A reader that pushes.
    #[expect(dead_code, reason = "what a Collector has and this agent does not is decoded for its warning")]
    struct Periodic {
        /// Milliseconds between two sendings; otelconf counts without a unit.
        interval: u32 = 60_000,
        /// Of the Collector.
        timeout: Option<Ignored>,
        /// How.
        exporter: PushExporter,
    }
}

settings! {
    /// The exporters that push.
    struct PushExporter {
        /// The only one.
        otlp: Otlp,
    }
}

choices! {
    /// How OTLP is sent.
    enum Protocol {
        /// gRPC.
        Grpc = "grpc",
        /// Protobuf over HTTP.
        Http = "http/protobuf",
    }
}

settings! {
    /// OTLP.
    #[expect(dead_code, reason = "what a Collector has and this agent does not is decoded for its warning")]
    struct Otlp {
        /// How.
        protocol: Protocol = "grpc",
        /// Where to.
        endpoint: String,
        /// Metadata of each request.
        headers: Headers = (),
        /// Without TLS.
        insecure: bool = false,
        /// Of the Collector.
        timeout: Option<Ignored>,
        /// Of the Collector.
        compression: Option<Ignored>,
        /// Of the Collector.
        temporality_preference: Option<Ignored>,
    }
}

/// Headers as a map, or as the list of names and values that otelconf has.
#[derive(Debug, Clone)]
struct Headers(BTreeMap<String, Secret>);

settings! {
    /// An element of the list.
    struct Header {
        /// Name.
        name: String,
        /// Value.
        value: Secret,
    }
}

impl Decode for Headers {
    const EXPECTED: &'static str = "map";

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        if let NodeKind::List(_) = node.kind {
            let headers = Vec::<Header>::decode(node, path, out)?;
            return Some(Self(headers.into_iter().map(|header| (header.name, header.value)).collect()));
        }
        BTreeMap::decode(node, path, out).map(Self)
    }
}

/// A reader of either shape.
#[derive(Debug, Clone)]
pub(crate) struct Reader(pub(crate) MetricsReader);

impl Decode for Reader {
    const EXPECTED: &'static str = "map";
    // Not empty, so that a string is not split into a list of readers.
    const NESTED: &'static [crate::FieldDoc] = Shape::FIELDS;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        match Shape::decode(node, path, out)? {
            Shape { pull: Some(pull), periodic: None } => {
                let Prometheus { host, port, .. } = pull.exporter.prometheus;
                Some(Self(MetricsReader::Pull(Endpoint::new(host, port))))
            }
            Shape { pull: None, periodic: Some(periodic) } => push(periodic, node, path, out).map(Self),
            _ => {
                out.error(&node.position, path, "a reader must have either 'pull' or 'periodic'");
                None
            }
        }
    }
}

fn push(periodic: Periodic, node: &Node, path: &Path, out: &mut Diagnostics) -> Option<MetricsReader> {
    let Otlp { protocol, endpoint, headers, insecure, .. } = periodic.exporter.otlp;
    if protocol == Protocol::Http {
        let message = "the protocol http/protobuf is not supported for the agent's own metrics yet";
        out.error_with_help(&node.position, path, message, "use grpc");
        return None;
    }
    if periodic.interval == 0 {
        out.error(&node.position, path, "'interval' must be at least 1 (milliseconds)");
        return None;
    }
    Some(MetricsReader::Push {
        insecure: insecure || endpoint.starts_with("http://"),
        endpoint,
        protocol: protocol.to_string(),
        interval: Duration::from_millis(u64::from(periodic.interval)),
        headers: headers.0,
    })
}
