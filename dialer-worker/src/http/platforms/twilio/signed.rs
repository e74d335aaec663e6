//! Signatures of Twilio: an HMAC over the public URL and the sorted parameters.

use std::borrow::Cow;
use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use ring::hmac;

use crate::http::platform::Callback;
use crate::http::signature::{Refused, Secrets};

const SIGNATURE: &str = "x-twilio-signature";
/// Header that names another algorithm than HMAC-SHA1.
const SETTINGS: &str = "x-twilio-webhooks-signature-settings";

/// Parameters of a callback.
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    pub fn read(body: &'a [u8]) -> Self {
        Self(form_urlencoded::parse(body).collect())
    }

    /// Returns a parameter; empty if it is missing.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    /// Returns the parameters as they are signed: sorted, each once.
    fn signed(&self) -> String {
        let sorted: BTreeSet<_> = self.0.iter().collect();
        sorted.into_iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]).collect()
    }
}

/// Checks a callback. Twilio signs the URL with or without its port.
pub(super) fn check(secrets: &Secrets, callback: &Callback<'_>) -> Result<(), Refused> {
    let mac = BASE64_STANDARD.decode(callback.header(SIGNATURE)).ok();
    let mac = mac.filter(|mac| !mac.is_empty()).ok_or(Refused::Malformed)?;
    let algorithm = algorithm(callback.header(SETTINGS)).ok_or(Refused::Malformed)?;
    let parameters = Form::read(callback.body).signed();
    let check =
        |url: &str| secrets.check(algorithm, &[url.as_bytes(), parameters.as_bytes()], &mac);
    check(callback.url)
        .or_else(|refused| other_spelling(callback.url).map_or(Err(refused), |url| check(&url)))
}

fn algorithm(settings: &str) -> Option<hmac::Algorithm> {
    let named = settings.split(',').find_map(|part| part.trim().strip_prefix("algorithm="));
    match named.unwrap_or("HMAC_SHA1") {
        "HMAC_SHA1" => Some(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "HMAC_SHA256" => Some(hmac::HMAC_SHA256),
        _ => None,
    }
}

/// Returns the URL without its port, or else with the usual one.
fn other_spelling(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?;
    let (scheme, rest) = url.split_once("://")?;
    let path = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
    let usual = if scheme == "https" { 443 } else { 80 };
    Some(match uri.port() {
        Some(_) => format!("{scheme}://{host}{path}"),
        None => format!("{scheme}://{host}:{usual}{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_two_spellings() {
        for (url, other) in [
            ("https://a.example/callbacks?x=1", "https://a.example:443/callbacks?x=1"),
            ("https://a.example:8443/callbacks", "https://a.example/callbacks"),
            ("http://a.example", "http://a.example:80"),
        ] {
            assert_eq!(other_spelling(url).as_deref(), Some(other));
        }
    }

    #[test]
    fn parameters_are_sorted_and_each_counts_once() {
        let form = Form::read(b"b=2&a=1&b=1&b=2&c=");
        assert_eq!(form.signed(), "a1b1b2c");
        assert_eq!((form.get("b"), form.get("d")), ("2", ""));
    }
}
