//! TLS to PostgreSQL. If TLS is used, the database's certificate is verified, because TLS to an
//! unverified server does not stop a man in the middle. So `sslmode=require` verifies as
//! `verify-full` does, unlike in libpq.

use campaign_process::{authorities, certificates, read_key_file};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// TLS settings.
#[derive(Clone, Debug)]
pub struct Tls {
    pub config: ClientConfig,
}

impl Tls {
    /// Creates TLS settings. `roots` is a file of certificate authorities and its name in errors;
    /// `None` means the system's authorities. `identity` is our certificate and key.
    /// `verifies_name` says whether the certificate must have the host's name.
    ///
    /// # Errors
    /// If a file cannot be used. The text says which and why.
    pub fn new(
        roots: Option<(PathBuf, &str)>,
        identity: Option<(PathBuf, PathBuf)>,
        verifies_name: bool,
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(roots, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if verifies_name {
            builder.with_webpki_verifier(verifier)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
        };
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(&read("sslcert", &cert)?).map_err(|error| {
                    format!("the database URL's sslcert {}: {error}", cert.display())
                })?;
                let wrong = |error| format!("the database URL's sslkey {}: {error}", key.display());
                let secret = PrivateKeyDer::from_pem_slice(&read("sslkey", &key)?)
                    .map_err(|error| wrong(error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, secret)
                    .map_err(|error| wrong(error.to_string()))?
            }
        };
        Ok(Self { config })
    }
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, String> {
    read_key_file(path)
        .map_err(|error| format!("the database URL's {name} {}: {error}", path.display()))
}

fn verifier(
    roots: Option<(PathBuf, &str)>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let roots = match roots {
        None => system_roots()?,
        Some((file, name)) => {
            let pem = read_key_file(&file).map_err(|error| error.to_string());
            pem.and_then(|pem| authorities(&pem))
                .map_err(|error| format!("{name} {}: {error}", file.display()))?
        }
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| error.to_string())
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no trusted authority; give --database-ca-file".to_owned());
    }
    Ok(roots)
}

/// Verifier for `sslmode=verify-ca`: checks the authority of a certificate, but not its name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is checked last, after all other checks have passed.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
