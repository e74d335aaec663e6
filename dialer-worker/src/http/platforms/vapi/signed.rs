//! Credentials of Vapi's messages: the secret as a token, or an HMAC in a header.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderName;
use ring::hmac::HMAC_SHA256;

use crate::http::platform::Callback;
use crate::http::signature::{Refused, Secrets, from_hex};

/// Header of the older kind of secret.
const SECRET: &str = "x-vapi-secret";
/// Header of the signature's time, unless the credential leaves it out.
const TIME: &str = "x-timestamp";
/// Prefix that the credential may put before the signature.
const PREFIX: &str = "sha256=";
const WINDOW: Duration = Duration::from_secs(300);
/// Times above this are milliseconds.
const LAST_SECOND: u64 = 100_000_000_000;

/// Checks a message. `header` names the signature; without it the secret itself is expected.
pub(super) fn check(
    secrets: &Secrets,
    header: Option<&HeaderName>,
    callback: &Callback<'_>,
    now: SystemTime,
) -> Result<(), Refused> {
    let Some(header) = header else {
        let bearer = callback.header("authorization").strip_prefix("Bearer ");
        return secrets.check_token(bearer.unwrap_or_else(|| callback.header(SECRET)));
    };
    let text = callback.header(header.as_str());
    let mac = from_hex(text.strip_prefix(PREFIX).unwrap_or(text)).ok_or(Refused::Malformed)?;
    let time = callback.header(TIME);
    if time.is_empty() {
        return secrets.check(HMAC_SHA256, &[callback.body], &mac);
    }
    secrets.check(HMAC_SHA256, &[time.as_bytes(), b".", callback.body], &mac)?;
    let units: u64 = time.parse().map_err(|_| Refused::Malformed)?;
    let millis = if units > LAST_SECOND { units } else { units * 1_000 };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if now.abs_diff(Duration::from_millis(millis)) > WINDOW {
        return Err(Refused::OutOfTime);
    }
    Ok(())
}
