//! TLS to PostgreSQL. Where there is any, the database's certificate and name are verified: TLS with
//! whoever answers would keep nothing from who stands between.

use campaign_process::{authorities, read_key_file};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

/// How to speak TLS, if the URL says sslmode=require.
pub fn client(config: &Config, ca_file: Option<&Path>) -> Result<Option<ClientConfig>, String> {
    if config.get_ssl_mode() != SslMode::Require {
        let is_idle = ca_file.is_some();
        let how = "--database-ca-file does nothing unless the database URL says sslmode=require";
        return if is_idle { Err(how.to_owned()) } else { Ok(None) };
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    Ok(Some(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let Some(file) = ca_file else {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("the system trusts nobody; give --database-ca-file".to_owned());
        }
        return Ok(roots);
    };
    let pem = read_key_file(file).map_err(|error| error.to_string());
    pem.and_then(|pem| authorities(&pem))
        .map_err(|error| format!("--database-ca-file {}: {error}", file.display()))
}
