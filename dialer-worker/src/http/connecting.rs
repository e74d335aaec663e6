//! Connections to the platform, and the check of its identity.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use campaign_process::{authorities, read_key_file};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::config::HttpConfig;

/// Connector for http and https.
pub(super) type Connector = HttpsConnector<HttpConnector>;

pub(super) fn connector(config: &HttpConfig) -> Result<Connector, String> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.set_connect_timeout(Some(config.response_limit()));
    http.enforce_http(false);
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(trusted(config.http_ca_file.as_deref())?)
        .with_no_client_auth();
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    Ok(https.wrap_connector(http))
}

/// Returns the authorities in the file and no others, or else the usual public ones.
fn trusted(file: Option<&Path>) -> Result<RootCertStore, String> {
    let Some(file) = file else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let pem = read_key_file(file).map_err(|error| error.to_string());
    pem.and_then(|pem| authorities(&pem))
        .map_err(|error| format!("--http-ca-file {}: {error}", file.display()))
}

/// Returns the TLS problem that prevented the connection, if there is one.
pub(super) fn tls_problem<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(problem) = error.downcast_ref::<rustls::Error>() {
            return Some(problem);
        }
        // `io::Error::source` skips the wrapped error, so it is read by `get_ref`.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|error| error as _).or_else(|| error.source());
    }
    None
}
