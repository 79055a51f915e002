//! TLS towards a MySQL server, with the meanings that its clients give to `ssl-mode`.
//!
//! Only here may a certificate go unverified, and only where the operator's `ssl-mode` says so.

use std::path::Path;

use mysql_async::SslOpts;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::dsn::TlsMode;

/// What the driver is told; `None` without TLS. The reason of an error tells what the operator can do.
pub(super) async fn options(mode: TlsMode, authorities: Option<&Path>) -> Result<Option<SslOpts>, String> {
    // The driver takes the provider of the process, and panics where it must choose one of several. An earlier one stays.
    drop(rustls::crypto::ring::default_provider().install_default());
    match mode {
        TlsMode::Disabled => Ok(None),
        TlsMode::Preferred | TlsMode::Required => {
            Ok(Some(SslOpts::default().with_danger_accept_invalid_certs(true)))
        }
        TlsMode::VerifyIdentity => {
            let authorities = authorities.map(Path::to_owned);
            let trusted = tokio::task::spawn_blocking(move || trusted(authorities.as_deref())).await;
            let trusted = trusted.unwrap_or_else(|_| Err("TLS cannot be set up".to_owned()))?;
            let trusted = trusted.into_iter().map(Into::into).collect();
            Ok(Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(trusted)))
        }
    }
}

/// The authorities that are trusted. Of the host's own, those that cannot be read are passed over.
fn trusted(authorities: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let certificates = match authorities {
        None => rustls_native_certs::load_native_certs().certs,
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("ssl-ca {} cannot be read: {error}", path.display()))?,
    };
    let is_usable =
        |certificate: &CertificateDer<'_>| RootCertStore::empty().add(certificate.clone()).is_ok();
    let certificates = certificates.into_iter().filter(is_usable);
    let trusted: Vec<_> = certificates.map(|certificate| certificate.as_ref().to_vec()).collect();
    if trusted.is_empty() {
        return Err(
            "no trusted certificate authority was found; set ssl-ca, or install the host's ca-certificates"
                .to_owned(),
        );
    }
    Ok(trusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_authority_is_an_error_and_not_a_silent_trust() {
        let missing = Path::new("/nonexistent/ca.pem");
        assert!(options(TlsMode::VerifyIdentity, Some(missing)).await.is_err());
        assert!(options(TlsMode::Required, Some(missing)).await.unwrap().is_some());
        assert!(options(TlsMode::Disabled, None).await.unwrap().is_none());
    }
}
