//! Servers with certificates, and clients that trust them or not. `data/tls/make.sh` makes the data.

#[path = "common/child.rs"]
mod child_process;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use child_process::Home;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn child() {
    child_process::main();
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

/// The port of a server on this machine with this certificate, which finds nothing.
fn serve(certificate: &str) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(data(certificate)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            // The client may break off: that is what it is tested for.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    port
}

fn pull(certificate: &str, host: &str, trusted: &str) -> String {
    let endpoint = format!("https://{host}:{}", serve(certificate));
    let trusted = data(trusted);
    let home = Home::new(&[("HF_ENDPOINT", &endpoint), ("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    home.pull("hf:org/name")
}

#[test]
fn a_certificate_that_is_not_trusted_is_an_error_of_its_own() {
    for (certificate, host, trusted, cause, hint) in [
        // The key's file holds no certificate.
        ("certificate.pem", "localhost", "key.pem", "UnknownIssuer", "hint: install the system's certificates"),
        ("expired.pem", "localhost", "expired.pem", "xpired", "hint: is the clock of this machine right?"),
        ("certificate.pem", "127.0.0.1", "certificate.pem", "not valid for", "hint: "),
    ] {
        let error = pull(certificate, host, trusted);
        assert!(error.starts_with("cannot trust https://") && error.contains(cause), "{error}");
        assert!(error.contains(hint) && !error.contains("is the network up"), "{error}");
    }
}

#[test]
fn the_certificates_of_ssl_cert_file_are_trusted() {
    let error = pull("certificate.pem", "localhost", "certificate.pem");
    assert!(error.contains("status 404"), "{error}");
}
