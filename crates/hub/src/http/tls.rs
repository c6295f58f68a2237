//! Transport security: `ring` as the one crypto provider, the system's certificates as the roots of trust.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

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
