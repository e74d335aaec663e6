use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Makes ring the TLS cryptography of this process, whatever else was compiled in.
pub fn install_tls_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the certificates in PEM.
///
/// # Errors
/// Returns an error if there is no certificate, or one cannot be parsed.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(found) }
}

/// Returns the certificates in PEM as certificate authorities.
///
/// # Errors
/// Returns an error if there is no certificate, or one cannot be an authority.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(pem)? {
        authorities.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(authorities)
}
