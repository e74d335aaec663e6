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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::SystemTime;

    use axum::body::Bytes;
    use axum::http::{HeaderMap, HeaderValue};
    use clap::Parser;

    use super::*;
    use crate::config::Config;
    use crate::http::platform::Callback;

    /// Headers that identify one of the platforms.
    const HEADERS: [&str; 6] = [
        "authorization",
        "elevenlabs-signature",
        "x-retell-signature",
        "x-signature",
        "x-twilio-signature",
        "x-vapi-secret",
    ];
    const FLAVORS: [&str; 5] = ["voice-agent", "retell", "twilio", "vapi", "elevenlabs"];

    static PLATFORMS: LazyLock<Vec<Box<dyn Platform>>> = LazyLock::new(platforms);

    fn platforms() -> Vec<Box<dyn Platform>> {
        let secret: Secret = "a secret of sixteen".parse().expect("any text");
        let own = |flavor: &str| {
            let options = ["dialer-worker", "--http-flavor", flavor, "--http-api-key", "a key"];
            let more = ["--http-account", "AC1", "--http-from", "+15550009999"];
            let agent = ["--http-agent", "https://agent.example"];
            Config::try_parse_from([&options[..], &more, &agent].concat()).expect("flags").http
        };
        let url = Uri::from_static("https://platform.example");
        let start = |flavor: &&str| {
            let secrets = Secrets::new(&secret, None).expect("long enough");
            platform(&url, &own(flavor), secrets).expect("complete options")
        };
        FLAVORS.iter().map(start).collect()
    }

    #[test]
    fn a_platform_says_which_option_it_needs() {
        for (flavor, needed) in
            [("retell", "--http-from"), ("twilio", "--http-api-key"), ("vapi", "--http-agent")]
        {
            let config = Config::try_parse_from(["dialer-worker", "--http-flavor", flavor]);
            let secret: Secret = "a secret of sixteen".parse().expect("any text");
            let secrets = Secrets::new(&secret, None).expect("long enough");
            let url = Uri::from_static("https://platform.example");
            let why = platform(&url, &config.expect("flags").http, secrets).err();
            assert!(why.is_some_and(|why| why.contains(needed)), "{flavor}");
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::fuzz_inputs())]

        /// A manipulated callback is read or rejected by every platform.
        #[test]
        fn any_callback(
            kind in "(call_ended|call_analyzed|transfer_bridged|post_call_transcription|\
                      call_initiation_failure|status-update|end-of-call-report|\\PC{0,9})",
            number in "(-?[0-9]{1,25}(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,4})?|null|\\[\\]|\\{\\})",
            text in "(ended|done|failed|20[0-9]{2}-0[1-9]-01T00:00:00Z|\\PC{0,9})",
            query in "(contact=campaigns/a/contacts/1&attempt=1-1-1|\\PC{0,20})",
            cut in 0_usize..900,
        ) {
            let names = "{\"key\":\"a.1-1-1\",\"contact\":\"campaigns/a/contacts/1\",\
                \"attempt_id\":\"1-1-1\"}";
            let text = format!(
                "{{\"event\":\"{kind}\",\"type\":\"{kind}\",\"call\":{{\"call_id\":\"1\",\"metadata\":{names},\
                 \"call_status\":\"{text}\",\"duration_ms\":{number},\"disconnection_reason\":\"{text}\"}},\
                 \"message\":{{\"type\":\"{kind}\",\"status\":\"{text}\",\"endedAt\":\"{text}\",\"startedAt\":\
                 \"{text}\",\"call\":{{\"id\":\"1\",\"assistantOverrides\":{{\"metadata\":{names}}}}}}},\
                 \"data\":{{\"conversation_id\":\"1\",\"status\":\"{text}\",\"failure_reason\":\"{text}\",\
                 \"metadata\":{{\"call_duration_secs\":{number},\"body\":{number}}}}}}}"
            );
            let form = format!("CallStatus={text}&CallDuration={number}&MessageSid={kind}&ErrorCode={number}");
            let headers = HeaderMap::new();
            let cut = &text.as_bytes()[..cut.min(text.len())];
            for body in [text.as_bytes(), cut, form.as_bytes()] {
                let body = Bytes::copy_from_slice(body);
                let callback = Callback { url: "", query: &query, headers: &headers, body: &body };
                for platform in &*PLATFORMS {
                    let _ = platform.read(&callback);
                }
            }
        }

        #[test]
        fn nobody_else_signs_for_a_platform(
            header in "((t=|v=)[0-9]{0,21},(v0=|v1=|d=)|Bearer |sha256=)?[0-9a-zA-Z+/]{0,64}={0,2}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let mut headers = HeaderMap::new();
            for name in HEADERS {
                headers.insert(name, HeaderValue::from_str(&header).expect("printable"));
            }
            let body = Bytes::from(body);
            let url = "https://worker.example/callbacks?contact=1";
            let callback = Callback { url, query: "contact=1", headers: &headers, body: &body };
            for platform in &*PLATFORMS {
                proptest::prop_assert!(platform.check(&callback, SystemTime::now()).is_err());
            }
        }
    }
}
