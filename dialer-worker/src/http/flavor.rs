//! Flags of the platforms with an API of their own.

use clap::{Args, ValueEnum};
use hyper::Uri;
use hyper::header::HeaderName;

use crate::flags::campaign;

/// API that the platform speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Flavor {
    /// deploy/openapi/voice-agent.yaml.
    #[default]
    VoiceAgent,
    /// Retell: voice agents.
    Retell,
    /// Twilio: calls with TwiML, and texts.
    Twilio,
    /// Vapi: voice agents.
    Vapi,
    /// ElevenLabs: voice agents over a SIP trunk or Twilio.
    Elevenlabs,
}

impl Flavor {
    /// Returns the public address of the platform, if it has one.
    #[must_use]
    pub fn url(self) -> Option<Uri> {
        Some(Uri::from_static(match self {
            Self::VoiceAgent => return None,
            Self::Retell => "https://api.retellai.com",
            Self::Twilio => "https://api.twilio.com",
            Self::Vapi => "https://api.vapi.ai",
            Self::Elevenlabs => "https://api.elevenlabs.io",
        }))
    }
}

/// Flags of the platforms with an API of their own.
#[derive(Args, Clone, Debug)]
pub struct PlatformConfig {
    /// API that the platform speaks
    #[arg(long, env = "DIALER_HTTP_FLAVOR", value_enum, default_value_t)]
    pub http_flavor: Flavor,
    /// Account of the platform: Twilio's account SID
    #[arg(long, env = "DIALER_HTTP_ACCOUNT", value_name = "SID")]
    pub http_account: Option<String>,
    /// Number that calls and sends, E.164; with vapi and elevenlabs the platform's id of it
    #[arg(long, env = "DIALER_HTTP_FROM", value_name = "NUMBER")]
    pub http_from: Option<String>,
    /// Agent that speaks: its id at the platform; with twilio the URL of the TwiML [default: with
    /// retell the number's own agent]
    #[arg(long, env = "DIALER_HTTP_AGENT", value_name = "ID")]
    pub http_agent: Option<String>,
    /// Text to send with twilio; {link}, {display_name} and {attribute} are replaced
    #[arg(long, env = "DIALER_HTTP_TEXT", value_name = "TEMPLATE")]
    pub http_text: Option<String>,
    /// Let twilio detect answering machines; it charges for that
    #[arg(long, env = "DIALER_HTTP_DETECT_MACHINES")]
    pub http_detect_machines: bool,
    /// Let elevenlabs call through Twilio, not through a SIP trunk
    #[arg(long, env = "DIALER_HTTP_OVER_TWILIO")]
    pub http_over_twilio: bool,
    /// Header in which vapi signs callbacks with HMAC-SHA256 [default: it sends the secret as a
    /// bearer token]
    #[arg(long, env = "DIALER_HTTP_SIGNATURE_HEADER", value_name = "HEADER")]
    pub http_signature_header: Option<HeaderName>,
    /// Campaign by which opt-outs by text are recorded, campaigns/{id}; they hold for all campaigns
    #[arg(long, env = "DIALER_HTTP_TEXT_CAMPAIGN", value_name = "CAMPAIGN", value_parser = campaign)]
    pub http_text_campaign: Option<String>,
}

/// Returns an option that a platform needs.
pub(super) fn needed<'a, T>(
    value: Option<&'a T>,
    flavor: &str,
    flag: &str,
) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("--http-flavor {flavor} needs {flag}"))
}
