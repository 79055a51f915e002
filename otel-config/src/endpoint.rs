//! An address to listen on or to connect to: `localhost:9464`, `[::1]:9464`, `:9464`.
//!
//! Names are not resolved here.

use std::fmt;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address, without brackets; empty for every address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// A host, without brackets, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`; the error tells what is missing and does not repeat the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("must be host:port, without a scheme".to_owned());
        }
        let (host, port) = text.rsplit_once(':').ok_or("must be host:port, the port is missing")?;
        let port = port.parse().map_err(|_| "must be host:port with a port between 0 and 65535")?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                inner.strip_suffix(']').ok_or("must be [address]:port, the closing ] is missing")?
            }
            None if host.contains(':') => {
                return Err("an IPv6 address must be in brackets: [address]:port".into());
            }
            None => host,
        };
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '@'))
        {
            return Err("must be host:port, with nothing else".to_owned());
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for (text, host, port) in
            [("localhost:9464", "localhost", 9464), ("[::1]:9464", "::1", 9464), (":9464", "", 9464)]
        {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint, Endpoint::new(host, port));
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_without_being_repeated() {
        for text in
            ["localhost", "::1:9464", "[::1:9464", "http://a:1", "a:70000", "a:", "a b:1", "u:p@host:1"]
        {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(!error.contains(text), "{error}");
        }
    }
}
