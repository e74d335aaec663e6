//! TLS on the API's listener, with certificates that may be replaced while it listens.

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

/// Longest greeting.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Where certificates and keys are, PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Ours, and those that vouch for it.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// `None`: clients need no certificate.
    pub clients: Option<ClientFiles>,
}

/// Which certificates clients may have, PEM.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Who vouches for them.
    pub ca: PathBuf,
    /// Which of them no longer count: a list (RFC 5280) of each who vouches.
    pub crl: Option<PathBuf>,
}

/// What new connections are greeted with.
#[derive(Debug)]
pub struct Tls {
    config: Reloading<ServerConfig>,
}

impl Tls {
    /// With the certificates and keys in some files.
    ///
    /// # Errors
    /// When they cannot be used together; says which and why.
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

    /// Takes in changed files until told to stop.
    pub async fn run(&self, interval: Duration, stop: &CancellationToken) {
        self.config.run(interval, stop).await;
    }

    /// Greets a connection.
    ///
    /// # Errors
    /// When the other end does not speak TLS as we do, or not in time.
    pub async fn greet(self: Arc<Self>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config.current());
        let greeted = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await;
        greeted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// `clients`: nothing, or who vouches for them, and perhaps whose certificates were revoked.
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
    // Without any, rustls would not look whether somebody is revoked.
    if lists.is_empty() { Err("revoked clients: no list in it".to_owned()) } else { Ok(lists) }
}
