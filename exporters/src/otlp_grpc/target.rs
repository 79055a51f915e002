//! Where to connect to, in the forms that the Collector takes. Names are not resolved here.

use std::{fmt, path::PathBuf};

use blameio_config::{Decode, Diagnostics, Endpoint, Node, Path, Position};

/// What is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A name or an address, and a port.
    Tcp(Endpoint),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => endpoint.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// What a scheme says of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `https://`: TLS, whatever `tls::insecure` says.
    Https,
    /// `http://`: nothing. `tls::insecure` decides, as in the Collector.
    Http,
    /// None, or one that is about resolving names.
    Other,
}

/// The value of `endpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to connect to.
    pub place: Place,
    /// What was written before it.
    pub scheme: Scheme,
}

impl Target {
    /// The name that a certificate must be for, if nothing else is said.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(endpoint) => &endpoint.host,
            Place::Unix(_) => "localhost",
        }
    }

    /// The value of `:authority`, if nothing else is said.
    pub fn authority(&self) -> String {
        match &self.place {
            Place::Tcp(endpoint) => endpoint.to_string(),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl Decode for Target {
    const EXPECTED: &'static str = "endpoint";
    const TEXT: bool = true;

    fn decode(node: &Node, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        let Some(text) = node.string() else {
            out.wrong_type(node, path, "string");
            return None;
        };
        if let Some(socket) = text.strip_prefix("unix://") {
            if !socket.starts_with('/') {
                out.error(
                    &node.position,
                    path,
                    "'endpoint' must name a socket by its absolute path: unix:///…",
                );
                return None;
            }
            return Some(Self { place: Place::Unix(socket.into()), scheme: Scheme::Other });
        }
        let schemes = [
            ("http://", Scheme::Http),
            ("https://", Scheme::Https),
            ("dns:///", Scheme::Other),
            ("passthrough:///", Scheme::Other),
        ];
        let found = schemes.iter().find_map(|(prefix, scheme)| Some((text.strip_prefix(prefix)?, *scheme)));
        let (rest, scheme) = found.unwrap_or((text, Scheme::Other));
        if rest.is_empty() {
            return Self::missing(&node.position, path, out);
        }
        if found.is_none() && rest.contains("://") {
            let message = "'endpoint' has a scheme that is not supported";
            let help = "write host:port, or begin with http://, https://, dns:/// or unix://";
            out.error_with_help(&node.position, path, message, help);
            return None;
        }
        let node = Node::quoted(node.position.clone(), rest);
        let mut endpoint = Endpoint::decode(&node, path, out)?;
        if endpoint.host.is_empty() {
            // Every address to listen on is this host to connect to.
            "localhost".clone_into(&mut endpoint.host);
        }
        Some(Self { place: Place::Tcp(endpoint), scheme })
    }

    fn missing(position: &Position, path: &Path, out: &mut Diagnostics) -> Option<Self> {
        let help = "name the receiver, such as collector.example.org:4317";
        out.error_with_help(position, path, "requires a non-empty \"endpoint\"", help);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Target, String> {
        let mut out = Diagnostics::new();
        let node = Node::quoted(Position::none(), text);
        let target = Target::decode(&node, &Path::root().key("endpoint"), &mut out);
        target.ok_or_else(|| out.to_string())
    }

    #[test]
    fn the_collectors_forms_are_read() {
        let tcp = |host: &str, scheme| Target { place: Place::Tcp(Endpoint::new(host, 4317)), scheme };
        for (text, expected) in [
            ("collector:4317", tcp("collector", Scheme::Other)),
            (":4317", tcp("localhost", Scheme::Other)),
            ("[::1]:4317", tcp("::1", Scheme::Other)),
            ("http://collector:4317", tcp("collector", Scheme::Http)),
            ("https://collector:4317", tcp("collector", Scheme::Https)),
            ("dns:///collector:4317", tcp("collector", Scheme::Other)),
            ("passthrough:///collector:4317", tcp("collector", Scheme::Other)),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        let socket = read("unix:///run/otel.sock").unwrap();
        assert_eq!(socket.place, Place::Unix("/run/otel.sock".into()));
        assert_eq!((socket.host(), socket.authority().as_str()), ("localhost", "localhost"));
        assert_eq!(read("[::1]:4317").unwrap().authority(), "[::1]:4317");
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for (text, expected) in [
            ("", "requires a non-empty \"endpoint\""),
            ("http://", "requires a non-empty \"endpoint\""),
            ("collector", "the port is missing"),
            ("https://collector", "the port is missing"),
            ("http://collector:4317/v1/metrics", "must be host:port"),
            ("dns://8.8.8.8/collector:4317", "scheme that is not supported"),
            ("grpc://collector:4317", "scheme that is not supported"),
            ("unix://run/otel.sock", "absolute path"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
