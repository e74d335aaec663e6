//! Replicas of the service, and the worker's credentials: TLS and a token. The files of both are
//! read again for each connection and each call, so new ones take effect without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use campaign_process::client::{
    FileError, bearer, client_tls, is_https, is_in_the_clear, read_token,
};
use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tracing::warn;

/// Flags of the credentials for the service.
#[derive(Args, Clone, Debug, Default)]
pub struct AccessConfig {
    /// Certificate authorities of the service's certificate, PEM; for https addresses [default: the
    /// authorities that the system trusts]
    #[arg(long, env = "DIALER_SERVICE_CA_FILE", value_name = "FILE")]
    pub service_ca_file: Option<PathBuf>,
    /// Certificate of the worker, shown to the service, PEM; for https addresses
    #[arg(
        long,
        env = "DIALER_SERVICE_CLIENT_CERT_FILE",
        value_name = "FILE",
        requires = "service_client_key_file"
    )]
    pub service_client_cert_file: Option<PathBuf>,
    /// Private key of the worker's certificate, PEM
    #[arg(
        long,
        env = "DIALER_SERVICE_CLIENT_KEY_FILE",
        value_name = "FILE",
        requires = "service_client_cert_file"
    )]
    pub service_client_key_file: Option<PathBuf>,
    /// File with the bearer token for the service; the token needs the role worker
    #[arg(long, env = "DIALER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Error of the worker's credentials.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// File missing or wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// Certificate or key wrong.
    #[error("TLS cannot be set up: {0}; look at --service-ca-file and --service-client-cert-file")]
    Tls(#[from] tonic::transport::Error),
}

/// One replica of the service, with the credentials for it.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Address of the replica.
    pub url: Endpoint,
    access: Arc<AccessConfig>,
}

impl Replica {
    /// Returns one replica per address, all with the same credentials.
    #[must_use]
    pub fn all(urls: &[Endpoint], access: &AccessConfig) -> Vec<Self> {
        let access = Arc::new(access.clone());
        if access.token_file.is_some() && urls.iter().any(|url| is_in_the_clear(url.uri())) {
            warn!(
                "the token travels in the clear; use https addresses, unless something between does"
            );
        }
        urls.iter().map(|url| Self { url: url.clone(), access: Arc::clone(&access) }).collect()
    }

    /// Returns the endpoint to connect to, with the credential files as they are now.
    ///
    /// # Errors
    /// Returns an error if a file is missing or wrong.
    pub fn endpoint(&self) -> Result<Endpoint, AccessError> {
        let endpoint = self.url.clone().tcp_nodelay(true);
        if !is_https(&self.url) {
            return Ok(endpoint);
        }
        let access = &self.access;
        let cert = access.service_client_cert_file.as_deref();
        let identity = cert.zip(access.service_client_key_file.as_deref());
        let tls = client_tls(access.service_ca_file.as_deref(), identity)?;
        Ok(endpoint.tls_config(tls)?)
    }

    /// Returns the interceptor that adds the token to each call.
    #[must_use]
    pub fn bearer(&self) -> Bearer {
        Bearer { access: Arc::clone(&self.access) }
    }
}

/// Interceptor that adds the token to each call, as the file holds it at that time.
#[derive(Clone, Debug)]
pub struct Bearer {
    access: Arc<AccessConfig>,
}

impl Bearer {
    fn value(path: &Path) -> Result<MetadataValue<Ascii>, FileError> {
        bearer(&read_token(path)?).ok_or_else(|| {
            let error = io::Error::other("it holds something else than a token");
            FileError { path: path.to_owned(), error }
        })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(path) = &self.access.token_file {
            let value =
                Self::value(path).map_err(|error| Status::unauthenticated(error.to_string()))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}
