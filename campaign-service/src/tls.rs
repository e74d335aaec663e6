//! TLS on the API's listener. Certificates may be replaced while the service runs.

use crate::reloading::Reloading;
use campaign_process::{authorities, certificates};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Longest TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Files of the service's certificate and key, PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate of the service and its chain.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Files that verify client certificates; `None`: clients need no certificate.
    pub clients: Option<ClientFiles>,
}

/// Files that verify client certificates, PEM.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Certificate authorities of clients.
    pub ca: PathBuf,
    /// Revoked certificates: one list (RFC 5280) for each certificate authority.
    pub crl: Option<PathBuf>,
}

/// TLS settings for new connections, reloaded when their files change.
#[derive(Debug)]
pub struct Tls {
    config: Reloading<ServerConfig>,
}

impl Tls {
    /// Reads the certificates and keys.
    ///
    /// # Errors
    /// Returns an error if the files cannot be used together. The error names the faulty file and
    /// the reason.
    pub fn open(files: &TlsFiles) -> Result<Self, String> {
        let mut paths = vec![files.cert.clone(), files.key.clone()];
        if let Some(clients) = &files.clients {
            paths.push(clients.ca.clone());
            paths.extend(clients.crl.clone());
        }
        let read = |contents: &[Vec<u8>]| {
            let [cert, key, clients @ ..] = contents else { unreachable!("both are always read") };
            server_config(cert, key, clients)
        };
        Ok(Self { config: Reloading::open("the TLS certificate", paths, read)? })
    }

    /// Reloads changed files until `stop`.
    pub async fn run(&self, interval: Duration, stop: &CancellationToken) {
        self.config.run(interval, stop).await;
    }

    /// Performs the TLS handshake of a connection.
    ///
    /// # Errors
    /// Returns an error if the handshake fails or takes longer than 5 seconds.
    pub async fn greet(self: Arc<Self>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config.current());
        let greeted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
        greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Returns the TLS settings. `clients` is empty, or has the certificate authorities of clients and
/// possibly the lists of revoked certificates.
fn server_config(cert: &[u8], key: &[u8], clients: &[Vec<u8>]) -> Result<ServerConfig, String> {
    let chain = certificates(cert).map_err(|error| format!("certificate: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("key: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        [] => builder.with_no_client_auth(),
        [ca, crl @ ..] => {
            let roots = Arc::new(authorities(ca).map_err(|error| format!("client CA: {error}"))?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            for pem in crl {
                verifier = verifier.with_crls(revocations(pem)?);
            }
            builder.with_client_cert_verifier(verifier.build().map_err(what_to_do)?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key do not go together: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn what_to_do(error: VerifierBuilderError) -> String {
    match error {
        VerifierBuilderError::InvalidCrl(error) => format!(
            "revoked clients: {error:?}; a list needs a number and the key identifier of its authority \
             (openssl ca: crlnumber, and authorityKeyIdentifier in crl_extensions)"
        ),
        other => format!("clients: {other}"),
    }
}

fn revocations(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let lists = lists.map_err(|error| format!("revoked clients: {error}"))?;
    // Without a list, rustls would not check for revocation.
    if lists.is_empty() { Err("revoked clients: no list found".to_owned()) } else { Ok(lists) }
}
