//! Flags of the HTTP provider.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::Uri;

use crate::config::{Secret, within};

/// What an attempt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Channel {
    /// A call to the contact's number.
    #[default]
    Call,
    /// A text to the contact's number.
    Sms,
    /// A message to the contact's attribute `email`.
    Email,
}

/// Flags of the HTTP provider.
#[derive(Args, Clone, Debug)]
pub struct HttpConfig {
    /// The platform, or an adapter to it, that speaks deploy/openapi/voice-agent.yaml: https, or http
    /// on this host
    #[arg(long, env = "DIALER_HTTP_URL", value_parser = base_url)]
    pub http_url: Option<Uri>,
    /// Trust only the authorities whose certificates are in this file, PEM [default: the usual public ones]
    #[arg(long, env = "DIALER_HTTP_CA_FILE", value_name = "FILE")]
    pub http_ca_file: Option<PathBuf>,
    /// Take http for other hosts too: numbers and the API key can be read on the way
    #[arg(long, env = "DIALER_HTTP_ALLOW_PLAINTEXT")]
    pub http_allow_plaintext: bool,
    /// What an attempt is
    #[arg(long, env = "DIALER_HTTP_CHANNEL", value_enum, default_value_t)]
    pub http_channel: Channel,
    /// Sent as a bearer token
    #[arg(long, env = "DIALER_HTTP_API_KEY", hide_env_values = true)]
    pub http_api_key: Option<Secret>,
    /// Where to listen for the platform's callbacks: http, so across a network put something in front that
    /// ends TLS (an ingress)
    #[arg(
        long,
        env = "DIALER_HTTP_CALLBACK_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8090"
    )]
    pub http_callback_listen: SocketAddr,
    /// How the platform reaches us [default: http:// and the address above]
    #[arg(long, env = "DIALER_HTTP_CALLBACK_URL", value_parser = base_url)]
    pub http_callback_url: Option<Uri>,
    /// Callbacks are signed with this, at least 16 characters
    #[arg(long, env = "DIALER_HTTP_CALLBACK_SECRET", hide_env_values = true)]
    pub http_callback_secret: Option<Secret>,
    /// The platform has to answer a request in this time, 1 to 60
    #[arg(
        long,
        env = "DIALER_HTTP_RESPONSE_LIMIT_SECONDS",
        value_parser = within(1..=60),
        default_value_t = 10
    )]
    pub http_response_limit_seconds: u32,
    /// A call that is not heard of is asked after this often, 1 to 3,600
    #[arg(
        long,
        env = "DIALER_HTTP_POLL_SECONDS",
        value_parser = within(1..=3_600),
        default_value_t = 30
    )]
    pub http_poll_seconds: u32,
    /// After this time a call is hung up, 1 to 86,400
    #[arg(
        long,
        env = "DIALER_HTTP_CALL_LIMIT_SECONDS",
        value_parser = within(1..=86_400),
        default_value_t = 3_600
    )]
    pub http_call_limit_seconds: u32,
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
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| "this is no URL".to_owned())?;
    match (uri.scheme_str(), uri.host(), uri.query()) {
        (Some("http" | "https"), Some(_), None) => Ok(uri),
        _ => Err("write it like https://agents.example".to_owned()),
    }
}
