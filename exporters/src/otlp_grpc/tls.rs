//! The block `tls`: the Collector's keys, and the rustls configuration that they make.
//!
//! Files are read when a connection is made, so that a renewed certificate needs no restart.

use std::{path::PathBuf, sync::Arc, time::Duration};

use blameio_config::{Diagnostics, Node, Path, Secret, choices, settings};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::unverified::Unverified;

choices! {
    /// A version of TLS.
    pub enum Version {
        /// 1.0.
        V10 = "1.0",
        /// 1.1.
        V11 = "1.1",
        /// 1.2.
        V12 = "1.2",
        /// 1.3.
        V13 = "1.3",
    }
}

settings! {
    /// How the connection is secured. Files are read anew for every connection.
    pub struct TlsSettings {
        /// Send without TLS; `https://` before the endpoint and `ca_file` go over it.
        pub insecure: bool = false,
        /// Encrypt, but believe whatever certificate the server shows.
        pub insecure_skip_verify: bool = false,
        /// The name that the server's certificate must be for, if it is not that of the endpoint.
        pub server_name_override: Option<String>,
        /// PEM file of the authorities that may vouch for the server; without it the host's.
        pub ca_file: Option<PathBuf>,
        /// The same as text.
        pub ca_pem: Option<Secret>,
        /// Whether the host's authorities are trusted beside those of `ca_file`.
        pub include_system_ca_certs_pool: bool = false,
        /// PEM file of the certificate that is shown to the server, with its chain.
        pub cert_file: Option<PathBuf>,
        /// The same as text.
        pub cert_pem: Option<Secret>,
        /// PEM file of its private key.
        pub key_file: Option<PathBuf>,
        /// The same as text.
        pub key_pem: Option<Secret>,
        /// Lowest version of TLS: "1.2" or "1.3", in quotes. Lower ones are taken as "1.2".
        pub min_version: Version = "1.2",
        /// Highest version of TLS: "1.2" or "1.3", in quotes.
        pub max_version: Version = "1.3",
        /// Of the Collector. Does nothing: every new connection reads the files.
        pub reload_interval: Option<Duration>,
    }
}

impl TlsSettings {
    /// Whether TLS is spoken, where the endpoint does not say so.
    pub(super) fn wanted(&self) -> bool {
        !self.insecure || self.ca_file.is_some() || self.ca_pem.is_some()
    }

    /// Reports what is wrong with them, in the Collector's words. `path` is the block's and `node` its body.
    pub(super) fn validate(&self, node: &Node, path: &Path, out: &mut Diagnostics) {
        let both = |file: &Option<PathBuf>, pem: &Option<Secret>| file.is_some() && pem.is_some();
        let cert = self.cert_file.is_some() || self.cert_pem.is_some();
        let key = self.key_file.is_some() || self.key_pem.is_some();
        for (wrong, message) in [
            (
                both(&self.ca_file, &self.ca_pem),
                "provide either a CA file or the PEM-encoded string, but not both",
            ),
            (both(&self.cert_file, &self.cert_pem), "provide either certificate file or PEM, but not both"),
            (both(&self.key_file, &self.key_pem), "provide either key file or PEM, but not both"),
            (
                cert != key,
                "TLS configuration must include both certificate and key (cert_file/cert_pem and \
                 key_file/key_pem)",
            ),
            (
                self.max_version < self.min_version,
                "invalid TLS configuration: min_version cannot be greater than max_version",
            ),
            (
                self.max_version < Version::V12,
                "'max_version' must be \"1.2\" or \"1.3\": lower ones are not spoken",
            ),
        ] {
            if wrong {
                out.error(&node.position, path, message);
            }
        }
        if self.min_version < Version::V12 {
            out.warn(&node.position, path, "'min_version' is taken as \"1.2\": lower ones are not spoken");
        }
        if self.reload_interval.is_some() {
            out.warn(
                &node.position,
                path,
                "'reload_interval' has no effect in blameio: every new connection reads the files",
            );
        }
    }

    /// What a connection needs. Reads files. The text of an error tells what the operator can do.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions())
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = if self.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else {
            builder.with_root_certificates(self.authorities()?)
        };
        let mut config = match self.identity()? {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("tls: certificate and key do not go together: {error}"))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(Version::V12, &version::TLS12), (Version::V13, &version::TLS13)]
            .into_iter()
            .filter(|(number, _)| (self.min_version..=self.max_version).contains(number))
            .map(|(_, version)| version)
            .collect()
    }

    fn authorities(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        let own = read::<CertificateDer<'static>>("ca_file", self.ca_file.as_ref(), self.ca_pem.as_ref())?;
        let system = own.is_none() || self.include_system_ca_certs_pool;
        store.add_parsable_certificates(own.unwrap_or_default());
        if system {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if store.is_empty() {
            return Err(
                "tls: no trusted certificate authority was found; set ca_file, or install the host's \
                        ca-certificates"
                    .to_owned(),
            );
        }
        Ok(store)
    }

    fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
        let chain =
            read::<CertificateDer<'static>>("cert_file", self.cert_file.as_ref(), self.cert_pem.as_ref())?;
        let keys = read::<PrivateKeyDer<'static>>("key_file", self.key_file.as_ref(), self.key_pem.as_ref())?;
        // The first key, as other programs do.
        Ok(chain.zip(keys.and_then(|keys| keys.into_iter().next())))
    }
}

/// What is in the file, or else in the text; `None` where neither is set.
fn read<T: PemObject>(
    key: &str,
    file: Option<&PathBuf>,
    text: Option<&Secret>,
) -> Result<Option<Vec<T>>, String> {
    let (what, items): (String, Result<Vec<T>, pem::Error>) = match (file, text) {
        (Some(file), _) => {
            let items = T::pem_file_iter(file).and_then(Iterator::collect);
            (format!("{key} {}", file.display()), items)
        }
        (None, Some(text)) => {
            (key.replace("_file", "_pem"), T::pem_slice_iter(text.expose().as_bytes()).collect())
        }
        (None, None) => return Ok(None),
    };
    match items {
        Ok(items) if !items.is_empty() => Ok(Some(items)),
        Ok(_) => Err(format!("tls: {what} holds nothing of its kind; it must be PEM, and the right one")),
        Err(error) => {
            Err(format!("tls: {what} cannot be read: {error}; it must be PEM that the agent's user may read"))
        }
    }
}
