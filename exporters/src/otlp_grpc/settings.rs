//! The settings of `otlp_grpc`: what is valid, and the connection that they make. Nothing is opened here.

use std::time::Duration;

use blameio_config::{Diagnostics, Node, Path, choices, settings};
use http::Uri;
use tonic::transport::Endpoint as ChannelSettings;

use super::{
    connect::Connector,
    headers::Headers,
    target::{Scheme, Target},
    tls::TlsSettings,
};
use crate::sending::{QueueSettings, RetrySettings, SendingSettings};

/// gRPC's shortest time between two pings; servers close connections that ping more often.
const SHORTEST_PING: Duration = Duration::from_secs(10);

choices! {
    /// How requests are compressed.
    pub enum Compression {
        /// With gzip.
        Gzip = "gzip",
        /// With zstd.
        Zstd = "zstd",
        /// Not at all.
        None = "none",
    }
}

settings! {
    /// Pings that tell a dead connection from a silent one.
    pub struct KeepaliveSettings {
        /// Silence before a ping; at least 10s, and 0 for never.
        pub time: Duration = "10s",
        /// How long the answer to a ping is waited for before the connection is given up.
        pub timeout: Duration = "10s",
        /// Whether there are pings while no request is under way.
        pub permit_without_stream: bool = false,
    }
}

settings! {
    /// Sends batches to an OpenTelemetry Collector, or to anything that takes OTLP over gRPC.
    pub struct OtlpGrpcSettings {
        /// Where to: `host:port`, with `http://`, `https://` or `dns:///` before it, or `unix:///path`. TLS is
        /// spoken unless `tls::insecure` is set; `http://` alone does not switch it off, `https://` always switches
        /// it on.
        pub endpoint: Target,
        /// How the connection is secured.
        pub tls: TlsSettings = (),
        /// How requests are compressed: gzip, zstd or none.
        pub compression: Compression = "gzip",
        /// Metadata of every request, such as a token or a tenant; a map, or a list of `name` and `value`.
        pub headers: Headers = (),
        /// Pings on the connection; without this block there are none.
        pub keepalive: Option<KeepaliveSettings>,
        /// Whether a request waits for a connection, up to its timeout, rather than fail at once.
        pub wait_for_ready: bool = false,
        /// The name of the server in requests (`:authority`), if it is not that of the endpoint.
        pub authority: Option<String>,
        /// What the agent calls itself; `blameio/<version> (<os>/<arch>)` if it is not set.
        pub user_agent: Option<String>,
        /// Longest duration of one attempt; 0 for no limit.
        pub timeout: Duration = "5s",
        /// Whether and how often a batch is sent again.
        pub retry_on_failure: RetrySettings = (),
        /// The queue in front of it.
        pub sending_queue: QueueSettings = (),
        /// Of the Collector. Does nothing: there is one connection, to the first address that answers.
        pub balancer_name: Option<String>,
        /// Of the Collector. Does nothing.
        pub read_buffer_size: Option<usize>,
        /// Of the Collector. Does nothing.
        pub write_buffer_size: Option<usize>,
    }
}

impl OtlpGrpcSettings {
    /// Reports what is wrong with them. `path` is the exporter's and `node` its body.
    pub(super) fn validate(&self, node: &Node, path: &Path, out: &mut Diagnostics) {
        let at = |key: &str| node.get(key).unwrap_or(node);
        self.tls.validate(at("tls"), &path.key("tls"), out);
        self.sending().validate(node, path, out);
        for (key, set) in [
            ("balancer_name", self.balancer_name.is_some()),
            ("read_buffer_size", self.read_buffer_size.is_some()),
            ("write_buffer_size", self.write_buffer_size.is_some()),
        ] {
            if set {
                out.warn(&at(key).position, &path.key(key), "has no effect in blameio");
            }
        }
        if self.endpoint.scheme == Scheme::Http && self.secure() {
            let message = "http:// does not switch TLS off, as in the Collector: set tls::insecure: true";
            out.warn(&at("endpoint").position, &path.key("endpoint"), message);
        }
        // What is left can only be wrong in a text that gRPC or TLS cannot carry.
        if let Err(reason) = self.connection() {
            out.error(&node.position, path, reason);
        }
    }

    /// Queue, retries and timeout.
    pub(super) fn sending(&self) -> SendingSettings {
        SendingSettings {
            timeout: self.timeout,
            retry_on_failure: self.retry_on_failure.clone(),
            sending_queue: self.sending_queue.clone(),
        }
    }

    /// Whether TLS is spoken.
    pub(super) fn secure(&self) -> bool {
        self.endpoint.scheme == Scheme::Https || self.tls.wanted()
    }

    /// How a connection is used, and how it is made. Opens nothing. The text of an error is for the operator.
    pub(super) fn connection(&self) -> Result<(ChannelSettings, Connector), String> {
        let overridden = self.tls.server_name_override.as_deref().filter(|_| self.secure());
        let authority = match (self.authority.as_deref(), overridden) {
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => self.endpoint.authority(),
        };
        let scheme = if self.secure() { "https" } else { "http" };
        let origin = Uri::builder().scheme(scheme).authority(authority.as_str()).path_and_query("/").build();
        let origin =
            origin.map_err(|_| format!("'{authority}' cannot be the name of a server in a request"))?;
        let agent = self.user_agent.clone().unwrap_or_else(|| {
            let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
            format!("blameio/{} ({os}/{arch})", env!("CARGO_PKG_VERSION"))
        });
        let host = origin.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = match (overridden, &self.authority) {
            (Some(name), _) => name,
            (None, Some(_)) => host,
            (None, None) => self.endpoint.host(),
        };
        let connector = Connector::new(&self.endpoint, &self.tls, self.secure(), name)?;
        // TLS is the connector's: the channel must not expect to do it.
        let mut channel = ChannelSettings::from_static("http://connector")
            .origin(origin)
            .user_agent(agent)
            .map_err(|_| "'user_agent' must be visible ASCII".to_owned())?;
        if let Some(keepalive) = self.keepalive.as_ref().filter(|keepalive| !keepalive.time.is_zero()) {
            channel = channel
                .http2_keep_alive_interval(keepalive.time.max(SHORTEST_PING))
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(keepalive.permit_without_stream);
        }
        Ok((channel, connector))
    }
}
