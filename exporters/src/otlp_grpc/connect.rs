//! Makes one connection: TCP or a Unix socket, and TLS over it. When, and how often, is the channel's to say.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    target::{Place, Target},
    tls::TlsSettings,
};

/// gRPC's own limit for making a connection. The timeout of a request is a shorter one, and leaves this one going.
const LIMIT: Duration = Duration::from_secs(20);

/// There is no connection. It may be mended at the other end, or in a file, so that every reason is tried again.
#[derive(Debug, Error)]
#[error("cannot connect to {place}: {reason}")]
pub(super) struct ConnectFailed {
    place: String,
    reason: String,
}

/// A connection's bytes.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes connections to one place.
#[derive(Debug)]
pub(super) struct Connector {
    place: Place,
    /// `None`: without TLS.
    tls: Option<(TlsSettings, ServerName<'static>)>,
}

impl Connector {
    /// A connector for the target. Reads and opens nothing. The text of an error is for the operator.
    pub(super) fn new(target: &Target, tls: &TlsSettings, secure: bool, name: &str) -> Result<Self, String> {
        let tls = if secure {
            let name = ServerName::try_from(name.to_owned())
                .map_err(|_| format!("'{name}' is no name that a certificate can be for"))?;
            Some((tls.clone(), name))
        } else {
            None
        };
        Ok(Self { place: target.place.clone(), tls })
    }

    /// Connects.
    pub(super) async fn connect(self: Arc<Self>) -> Result<TokioIo<Box<dyn Io>>, ConnectFailed> {
        let connected = timeout(LIMIT, self.attempt()).await;
        let connected =
            connected.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}; check host and firewall")));
        connected.map(TokioIo::new).map_err(|reason| ConnectFailed { place: self.place.to_string(), reason })
    }

    async fn attempt(&self) -> Result<Box<dyn Io>, String> {
        let io: Box<dyn Io> = match &self.place {
            Place::Tcp(endpoint) => {
                // Each address of the name in turn.
                let stream =
                    TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(text)?;
                stream.set_nodelay(true).map_err(text)?;
                Box::new(stream)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(text)?),
        };
        let Some((settings, name)) = &self.tls else { return Ok(io) };
        let settings = settings.clone();
        let config = tokio::task::spawn_blocking(move || settings.client()).await.map_err(text)??;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name.clone(), io)
            .await
            .map_err(|error| tls_text(&error))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(
                "the server does not offer HTTP/2 over TLS, which gRPC needs; check the port".to_owned()
            );
        }
        Ok(Box::new(stream))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

/// What went wrong with TLS, and what can be done.
fn tls_text(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let remedy = match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            "; it seems not to speak TLS: if that is meant, set tls::insecure: true"
        }
        Some(rustls::Error::InvalidCertificate(_)) => "; check tls::ca_file and tls::server_name_override",
        Some(rustls::Error::AlertReceived(_)) => {
            "; check tls::cert_file and tls::key_file, and the server's log"
        }
        Some(rustls::Error::PeerIncompatible(_)) => "; check tls::min_version and tls::max_version",
        _ => "",
    };
    format!("TLS: {error}{remedy}")
}
