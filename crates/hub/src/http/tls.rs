//! Transport security: `ring` as the one crypto provider, the system's certificates as the roots of trust.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{CertificateError, ClientConfig, RootCertStore};

const UNKNOWN_ISSUER: &str = "install the system's certificates (on many systems the package ca-certificates); where a \
    proxy or a company has its own, name their file with SSL_CERT_FILE";
const WRONG_TIME: &str = "is the clock of this machine right?";

/// A configuration that trusts whom the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others). A system
/// without certificates trusts nobody: plain http still works.
///
/// # Errors
/// The provider supports no version of the protocol.
pub fn config() -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    // A certificate that cannot be read is one that is not trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What a failed request says of the server's certificate, if that is why it failed, and what helps.
pub fn distrust(error: &(dyn Error + 'static)) -> Option<(String, Option<&'static str>)> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(rustls::Error::InvalidCertificate(reason)) = current.downcast_ref() {
            let hint = match reason {
                CertificateError::UnknownIssuer => Some(UNKNOWN_ISSUER),
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Some(WRONG_TIME),
                _ => None,
            };
            return Some((format!("its certificate is not valid: {reason}"), hint));
        }
        // The source of an `io::Error` is that of the error which it wraps, not that error.
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| current.source());
    }
    None
}
