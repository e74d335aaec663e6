use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Makes ring what TLS of this process rests on, whatever else was compiled in.
pub fn install_tls_provider() {
    // An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates in PEM.
///
/// # Errors
/// When there is none, or one that cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it holds no certificate in PEM".to_owned()) } else { Ok(found) }
}

/// The certificates in PEM, as those that vouch for others.
///
/// # Errors
/// When there is none, or one that cannot vouch.
pub fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(pem)? {
        authorities.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(authorities)
}
