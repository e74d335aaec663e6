/// Makes ring what TLS of this process rests on, whatever else was compiled in.
pub fn install_tls_provider() {
    // An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
