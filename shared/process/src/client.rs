//! Credentials of a client of the service: TLS, and a token on each call. Files are read when they
//! are needed, so new ones take effect without a restart.

use crate::read_key_file;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

/// File that is missing or wrong.
#[derive(Debug)]
pub struct FileError {
    /// Path of the file.
    pub path: PathBuf,
    /// Reason for the error.
    pub error: std::io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for FileError {}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_key_file(path).map_err(|error| FileError { path: path.to_owned(), error })
}

/// Returns the TLS settings: the certificate authorities of the service (`None`: those that the
/// system trusts), and the certificate and key of the client.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub fn client_tls(
    ca_file: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientTlsConfig, FileError> {
    let tls = match ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(match identity {
        Some((cert, key)) => tls.identity(Identity::from_pem(read(cert)?, read(key)?)),
        None => tls,
    })
}

/// Returns the token in a file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn read_token(path: &Path) -> Result<String, FileError> {
    Ok(String::from_utf8_lossy(&read(path)?).trim().to_owned())
}

/// Returns the value of a call's `authorization`, or `None` if the token is malformed. The value
/// must not be shown.
#[must_use]
pub fn bearer(token: &str) -> Option<MetadataValue<Ascii>> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Parses an address to connect to, as people write it.
///
/// # Errors
/// Returns a text that says how to write an address.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(text.to_owned()).map_err(|error| error.to_string())?;
    match endpoint.uri().scheme_str() {
        Some("http" | "https") if endpoint.uri().host().is_some() => Ok(endpoint),
        _ => Err("write it like https://host:port or http://host:port".to_owned()),
    }
}

/// Whether the endpoint uses TLS.
#[must_use]
pub fn is_https(endpoint: &Endpoint) -> bool {
    endpoint.uri().scheme_str() == Some("https")
}

/// Whether data sent to the URL can be read on the way.
#[must_use]
pub fn is_in_the_clear(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    url.scheme_str() == Some("http") && !is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_spoken_to_in_the_clear() {
        for (url, expected) in [
            ("https://agents.example", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]:8080", false),
            ("http://localhost", false),
            ("http://agents.example", true),
            ("http://localhost.example", true),
            ("http://10.0.0.1:8080", true),
            ("http://[2001:db8::1]", true),
        ] {
            assert_eq!(is_in_the_clear(&url.parse().expect("a URL")), expected, "{url}");
        }
    }
}
