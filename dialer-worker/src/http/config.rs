//! Flags of the HTTP provider.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use campaign_process::Secret;
use clap::{Args, ValueEnum};
use hyper::Uri;

use super::flavor::PlatformConfig;
use crate::flags::within;

/// Channel of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    /// Call to the contact's number.
    #[default]
    Call,
    /// Text to the contact's number.
    Sms,
    /// Message to the contact's attribute `email`.
    Email,
}

impl Channel {
    /// Returns the name of the channel in an opt-out.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Sms => "text",
            Self::Email => "email",
        }
    }
}

/// Flags of the HTTP provider.
#[derive(Args, Clone, Debug)]
pub struct HttpConfig {
    /// URL of the platform; https, or http on this host [default: the public one of the flavor]
    #[arg(long, env = "DIALER_HTTP_URL", value_parser = base_url)]
    pub http_url: Option<Uri>,
    /// File with the only certificate authorities to trust, PEM [default: the usual public ones]
    #[arg(long, env = "DIALER_HTTP_CA_FILE", value_name = "FILE")]
    pub http_ca_file: Option<PathBuf>,
    /// Allow http to other hosts: numbers and the API key can then be read on the way
    #[arg(long, env = "DIALER_HTTP_ALLOW_PLAINTEXT")]
    pub http_allow_plaintext: bool,
    /// Channel of an attempt
    #[arg(long, env = "DIALER_HTTP_CHANNEL", value_enum, default_value_t)]
    pub http_channel: Channel,
    /// Key for requests to the platform; with twilio the auth token, or SID:SECRET of an API key
    #[arg(long, env = "DIALER_HTTP_API_KEY", hide_env_values = true)]
    pub http_api_key: Option<Secret>,
    /// Address and port for the platform's callbacks; http only, so put an ingress that ends TLS in
    /// front across a network
    #[arg(
        long,
        env = "DIALER_HTTP_CALLBACK_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8090"
    )]
    pub http_callback_listen: SocketAddr,
    /// URL at which the platform reaches this worker [default: http:// and the address above]
    #[arg(long, env = "DIALER_HTTP_CALLBACK_URL", value_parser = base_url)]
    pub http_callback_url: Option<Uri>,
    /// Secret that signs callbacks, at least 16 characters; with retell the API key, with twilio the
    /// auth token
    #[arg(long, env = "DIALER_HTTP_CALLBACK_SECRET", hide_env_values = true)]
    pub http_callback_secret: Option<Secret>,
    /// Secret before that one, which also holds while the platform changes over
    #[arg(long, env = "DIALER_HTTP_CALLBACK_SECRET_BEFORE", hide_env_values = true)]
    pub http_callback_secret_before: Option<Secret>,
    /// Seconds in which the platform must answer a request, 1 to 60
    #[arg(
        long,
        env = "DIALER_HTTP_RESPONSE_LIMIT_SECONDS",
        value_parser = within(1..=60),
        default_value_t = 10
    )]
    pub http_response_limit_seconds: u32,
    /// Seconds without news of a call after which the platform is polled, 1 to 3,600
    #[arg(
        long,
        env = "DIALER_HTTP_POLL_SECONDS",
        value_parser = within(1..=3_600),
        default_value_t = 30
    )]
    pub http_poll_seconds: u32,
    /// Seconds after which a call is hung up, 1 to 86,400
    #[arg(
        long,
        env = "DIALER_HTTP_CALL_LIMIT_SECONDS",
        value_parser = within(1..=86_400),
        default_value_t = 3_600
    )]
    pub http_call_limit_seconds: u32,
    /// Options of the platforms with an API of their own.
    #[command(flatten)]
    pub platform: PlatformConfig,
}

impl HttpConfig {
    pub(super) fn response_limit(&self) -> Duration {
        Duration::from_secs(self.http_response_limit_seconds.into())
    }

    pub(super) fn poll_interval(&self) -> Duration {
        Duration::from_secs(self.http_poll_seconds.into())
    }

    pub(super) fn call_limit(&self) -> Duration {
        Duration::from_secs(self.http_call_limit_seconds.into())
    }
}

fn base_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| "not a URL".to_owned())?;
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("http" | "https"), Some(_), None) => Ok(uri),
        _ => Err("write it like https://agents.example".to_owned()),
    }
}
