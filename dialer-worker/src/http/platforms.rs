//! Platforms, one file or folder each.

mod analysis;
mod carrier;
mod elevenlabs;
mod retell;
mod twilio;
mod vapi;
mod variables;
mod voice_agent;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use campaign_process::Secret;
use hyper::Uri;

use super::client::Client;
use super::config::{Channel, HttpConfig};
use super::flavor::{Flavor, needed};
use super::platform::Platform;
use super::signature::Secrets;
use elevenlabs::ElevenLabs;
use retell::Retell;
use twilio::Twilio;
use vapi::Vapi;
use voice_agent::VoiceAgent;

const AUTHORIZATION: &str = "authorization";

/// Returns the platform that the configuration names.
///
/// # Errors
/// Returns a text that names the setting that does not work.
pub(super) fn platform(
    url: &Uri,
    config: &HttpConfig,
    secrets: Secrets,
) -> Result<Box<dyn Platform>, String> {
    let flavor = config.platform.http_flavor;
    let key = config.http_api_key.as_ref();
    let client = |key: Option<(&'static str, String)>| {
        let key = key.map(|(name, key)| (name, key.parse().unwrap_or_else(|never| match never {})));
        Client::new(url, key, config)
    };
    let bearer = || client(key.map(|key| (AUTHORIZATION, format!("Bearer {}", key.reveal()))));
    if matches!(flavor, Flavor::Retell | Flavor::Vapi | Flavor::Elevenlabs)
        && config.http_channel != Channel::Call
    {
        return Err("--http-channel: this platform places calls only".to_owned());
    }
    Ok(match flavor {
        Flavor::VoiceAgent => Box::new(VoiceAgent::new(bearer()?, config.http_channel, secrets)),
        Flavor::Retell => Box::new(Retell::new(bearer()?, &config.platform, secrets)?),
        Flavor::Vapi => Box::new(Vapi::new(bearer()?, config, secrets)?),
        Flavor::Elevenlabs => {
            let client = client(key.map(|key| ("xi-api-key", key.reveal().to_owned())))?;
            Box::new(ElevenLabs::new(client, &config.platform, secrets)?)
        }
        Flavor::Twilio => {
            let key = needed(key, "twilio", "--http-api-key")?;
            let client = client(Some((AUTHORIZATION, basic(config, key))))?;
            Box::new(Twilio::new(client, config, secrets)?)
        }
    })
}

/// Returns the credentials of an API key, `SID:SECRET`, or of the account and its token.
fn basic(config: &HttpConfig, key: &Secret) -> String {
    let account = config.platform.http_account.as_deref().unwrap_or_default();
    let credentials = match key.reveal().contains(':') {
        true => key.reveal().to_owned(),
        false => format!("{account}:{}", key.reveal()),
    };
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}
