//! TLS towards a PostgreSQL server, with the meanings that libpq gives to `sslmode`.
//!
//! Only here may a certificate go unverified, and only where the operator's `sslmode` says so.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::dsn::{Roots, TlsMode};

/// Verifies what `sslmode` asks for, and no more.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: whoever the server is.
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{
            CertificateError::{NotValidForName, NotValidForNameContext},
            Error::InvalidCertificate,
        };
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: whoever gets as far has a certificate of a trusted authority.
            Err(InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Connectors that were made; each needs the trusted authorities of a file or of the whole host.
#[derive(Default)]
pub(super) struct Connectors(Mutex<HashMap<(TlsMode, Roots), MakeRustlsConnect>>);

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors").finish_non_exhaustive()
    }
}

impl Connectors {
    /// The connector for these, made off the async threads if it is not kept.
    pub(super) async fn get(&self, mode: TlsMode, roots: &Roots) -> Result<MakeRustlsConnect, String> {
        let key = (mode, roots.clone());
        if let Some(kept) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(kept.clone());
        }
        let roots = roots.clone();
        let made = tokio::task::spawn_blocking(move || connector(mode, &roots)).await;
        let made = made.unwrap_or_else(|_| Err("TLS cannot be set up".to_owned()))?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
        Ok(made)
    }

    /// Forgets them: the authorities may have changed.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Makes the TLS side of connections. The reason of an error tells what the operator can do.
fn connector(mode: TlsMode, roots: &Roots) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let broken = |error: rustls::Error| format!("TLS cannot be set up: {error}");
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    let config = match mode {
        TlsMode::VerifyFull => builder.with_root_certificates(trusted(roots)?).with_no_client_auth(),
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require | TlsMode::VerifyCa => {
            let authorities = if mode == TlsMode::VerifyCa {
                let store = Arc::new(trusted(roots)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider));
                Some(verifier.build().map_err(|error| format!("TLS cannot be set up: {error}"))?)
            } else {
                None
            };
            let verifier = Arc::new(Verifier { provider, authorities });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn trusted(roots: &Roots) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let certificates = match roots {
        Roots::System => rustls_native_certs::load_native_certs().certs,
        Roots::File(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("sslrootcert {} cannot be read: {error}", path.display()))?,
    };
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err("no trusted certificate authority was found; set sslrootcert, or install the host's \
                    ca-certificates"
            .to_owned());
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_root_certificate_is_an_error_and_not_a_silent_trust() {
        let missing = Roots::File("/nonexistent/ca.pem".into());
        assert!(connector(TlsMode::VerifyFull, &missing).is_err());
        assert!(connector(TlsMode::VerifyCa, &missing).is_err());
        assert!(connector(TlsMode::Require, &Roots::System).is_ok());
    }
}
