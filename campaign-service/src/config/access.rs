//! Command line of access: certificates and tokens.

use crate::server::Access;
use crate::tls::{ClientFiles, Tls, TlsFiles};
use crate::tokens::{Demands, KeySource, Tokens};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// Access options
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// Certificate of the service with its chain, PEM; with it the API accepts only TLS
    #[arg(long, env = "CAMPAIGN_TLS_CERT_FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "CAMPAIGN_TLS_KEY_FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
    /// Certificate authorities of clients, PEM; clients without a certificate from one of these are rejected
    #[arg(long, env = "CAMPAIGN_TLS_CLIENT_CA_FILE", requires = "tls_cert_file")]
    pub tls_client_ca_file: Option<PathBuf>,
    /// Revoked client certificates, which are rejected, PEM: one list (CRL, RFC 5280) for each certificate authority
    #[arg(long, env = "CAMPAIGN_TLS_CLIENT_CRL_FILE", requires = "tls_client_ca_file")]
    pub tls_client_crl_file: Option<PathBuf>,
    /// Public keys that verify tokens, as a JSON Web Key Set: RSA (RS256), P-256 (ES256), Ed25519 (EdDSA)
    #[arg(long, env = "CAMPAIGN_TOKEN_JWKS_FILE", requires = "token_audience")]
    pub token_jwks_file: Option<PathBuf>,
    /// One public key that verifies tokens, PEM, in place of a key set
    #[arg(
        long,
        env = "CAMPAIGN_TOKEN_PUBLIC_KEY_FILE",
        requires = "token_audience",
        conflicts_with = "token_jwks_file"
    )]
    pub token_public_key_file: Option<PathBuf>,
    /// Audience (aud) that a token must be for
    #[arg(long, env = "CAMPAIGN_TOKEN_AUDIENCE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub token_audience: Option<String>,
    /// Issuer (iss) that a token must come from [default: any]
    #[arg(long, env = "CAMPAIGN_TOKEN_ISSUER", requires = "token_audience",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub token_issuer: Option<String>,
    /// Largest accepted difference between the clocks of the token issuer and this service, 0 to 300
    #[arg(long, env = "CAMPAIGN_TOKEN_LEEWAY_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(0..=300))]
    pub token_leeway_seconds: u16,
    /// Time between checks of the key and certificate files for changes, 1 to 3,600
    #[arg(long, env = "CAMPAIGN_KEY_RELOAD_SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub key_reload_seconds: u16,
    /// Permit every method to everyone who can connect, also from other machines
    #[arg(long, env = "CAMPAIGN_INSECURE_NO_AUTHENTICATION")]
    pub insecure_no_authentication: bool,
}

impl AccessArgs {
    /// Reads the key and certificate files, for a service that listens on `listen`.
    ///
    /// # Errors
    /// Returns an error if a file cannot be used, or if everyone on the network would have access. The
    /// error says what to do.
    pub fn access(&self, listen: SocketAddr) -> Result<Access, String> {
        let tokens = self.key_source().map(|source| Tokens::open(&source, self.demands()));
        let files = self.tls_cert_file.clone().zip(self.tls_key_file.clone());
        let clients = self.tls_client_ca_file.clone();
        let clients = clients.map(|ca| ClientFiles { ca, crl: self.tls_client_crl_file.clone() });
        let tls = files.map(|(cert, key)| Tls::open(&TlsFiles { cert, key, clients }));
        let access = Access {
            tokens: tokens.transpose()?.map(Arc::new),
            tls: tls.transpose()?.map(Arc::new),
            reload_interval: Duration::from_secs(self.key_reload_seconds.into()),
        };
        self.check(listen, &access)?;
        Ok(access)
    }

    fn check(&self, listen: SocketAddr, access: &Access) -> Result<(), String> {
        let is_local = listen.ip().is_loopback();
        if access.tokens.is_some() {
            if self.insecure_no_authentication {
                return Err("--insecure-no-authentication contradicts the keys of tokens; leave \
                            one out"
                    .to_owned());
            }
            if access.tls.is_none() && !is_local {
                warn!(
                    "tokens travel in the clear; give --tls-cert-file and --tls-key-file, unless \
                     something before the service speaks TLS"
                );
            }
            return Ok(());
        }
        if !is_local && !self.insecure_no_authentication {
            return Err(format!(
                "everyone who reaches {listen} could do everything; give --token-jwks-file (or \
                 --token-public-key-file) and --token-audience, listen on 127.0.0.1, or say \
                 --insecure-no-authentication"
            ));
        }
        if !is_local {
            warn!("no authentication: everyone who reaches {listen} may do everything");
        }
        Ok(())
    }

    fn key_source(&self) -> Option<KeySource> {
        let set = self.token_jwks_file.clone().map(KeySource::Jwks);
        set.or_else(|| self.token_public_key_file.clone().map(KeySource::PublicKey))
    }

    fn demands(&self) -> Demands {
        Demands {
            audience: self.token_audience.clone().unwrap_or_default(),
            issuer: self.token_issuer.clone(),
            leeway: Duration::from_secs(self.token_leeway_seconds.into()),
        }
    }
}
