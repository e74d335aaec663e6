//! Certificates for 127.0.0.1, and listeners that present them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::serve::Listener;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Certificate authority of the test. Its file is deleted with it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let file = std::env::temp_dir().join(format!("authority-{}.pem", uuid::Uuid::new_v4()));
        std::fs::write(&file, issuer.pem()).expect("written");
        Self { issuer, file }
    }

    /// Returns the file of the authority's certificate, PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns a server that presents a certificate of this authority.
    pub fn server(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they fit");
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Certificate that a server presents. It may change while the server runs.
#[derive(Clone)]
pub struct Identity(Arc<Mutex<TlsAcceptor>>);

impl Identity {
    pub fn new(acceptor: TlsAcceptor) -> Self {
        Self(Arc::new(Mutex::new(acceptor)))
    }

    pub fn change(&self, acceptor: TlsAcceptor) {
        *self.0.lock().expect("no panic") = acceptor;
    }

    fn now(&self) -> TlsAcceptor {
        self.0.lock().expect("no panic").clone()
    }
}

pub struct SecureListener {
    pub listener: TcpListener,
    pub identity: Identity,
}

impl Listener for SecureListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, from) = self.listener.accept().await.expect("it listens");
            // A client that does not trust the certificate disconnects.
            if let Ok(stream) = self.identity.now().accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
