//! Signatures of callbacks: they identify the sender and, where the scheme has a time, the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campaign_process::Secret;
use ring::hmac;

/// Longest MAC accepted, in hex digits.
const MAX_HEX_DIGITS: usize = 128;
/// Shortest secret.
const MIN_SECRET_CHARACTERS: usize = 16;

/// Secrets that sign callbacks: the current one and, while it is being replaced, the one before.
#[derive(Clone)]
pub(super) struct Secrets(Vec<Secret>);

/// Reason for rejecting a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the signature is missing or not of the platform's form")]
    Malformed,
    #[error("the signature is too old, or from the future")]
    OutOfTime,
    #[error("the signature is wrong")]
    Wrong,
}

impl Secrets {
    pub fn new(current: &Secret, before: Option<&Secret>) -> Result<Self, String> {
        let secrets: Vec<_> = [Some(current), before].into_iter().flatten().cloned().collect();
        if secrets.iter().any(|secret| secret.reveal().len() < MIN_SECRET_CHARACTERS) {
            return Err(format!(
                "--http-callback-secret needs at least {MIN_SECRET_CHARACTERS} characters"
            ));
        }
        Ok(Self(secrets))
    }

    /// Checks a MAC over the parts of a message, joined.
    pub fn check(
        &self,
        algorithm: hmac::Algorithm,
        parts: &[&[u8]],
        mac: &[u8],
    ) -> Result<(), Refused> {
        let message = parts.concat();
        let is_right = self.0.iter().any(|secret| {
            let key = hmac::Key::new(algorithm, secret.reveal().as_bytes());
            // `verify` compares in constant time.
            hmac::verify(&key, &message, mac).is_ok()
        });
        if is_right { Ok(()) } else { Err(Refused::Wrong) }
    }

    /// Checks a token that is one of the secrets itself. MACs under both are compared, which takes
    /// constant time.
    pub fn check_token(&self, token: &str) -> Result<(), Refused> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let mac = hmac::sign(&key, b"token");
        self.check(hmac::HMAC_SHA256, &[b"token"], mac.as_ref())
    }
}

/// Scheme of a header that holds a time and an HMAC-SHA256, as in `t=1700000000,v1=00ff…`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    /// Label before the time.
    pub time: &'static str,
    /// Label before the MAC, in hex.
    pub mac: &'static str,
    /// Units of the time in a second.
    pub units_per_second: u64,
    /// Order of the message.
    pub covers: Covers,
    /// Longest time between signature and receipt. It holds in both directions, because clocks
    /// differ.
    pub window: Duration,
}

/// Message that a timed MAC covers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Covers {
    /// Time, dot, body.
    TimeDotBody,
    /// Body, time.
    BodyTime,
}

impl Timed {
    pub fn check(
        &self,
        secrets: &Secrets,
        header: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Refused> {
        let signed = self.time(header).ok_or(Refused::Malformed)?;
        let (time, hex) = self.parts(header).ok_or(Refused::Malformed)?;
        let mac = from_hex(hex).ok_or(Refused::Malformed)?;
        let parts: &[&[u8]] = match self.covers {
            Covers::TimeDotBody => &[time.as_bytes(), b".", body],
            Covers::BodyTime => &[body, time.as_bytes()],
        };
        secrets.check(hmac::HMAC_SHA256, parts, &mac)?;
        let [now, signed] = [now, signed].map(|time| time.duration_since(UNIX_EPOCH));
        if now.unwrap_or_default().abs_diff(signed.unwrap_or_default()) > self.window {
            return Err(Refused::OutOfTime);
        }
        Ok(())
    }

    /// Returns the time of the signature in a header.
    pub fn time(&self, header: &str) -> Option<SystemTime> {
        let units: u64 = self.parts(header)?.0.parse().ok()?;
        let since = Duration::from_millis(units.checked_mul(1_000 / self.units_per_second)?);
        UNIX_EPOCH.checked_add(since)
    }

    /// Returns the time and the MAC of a header, as text.
    fn parts<'a>(&self, header: &'a str) -> Option<(&'a str, &'a str)> {
        let (time, rest) = header.strip_prefix(self.time)?.split_once(',')?;
        Some((time, rest.strip_prefix(self.mac)?))
    }
}

/// Reads a MAC in hex.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > MAX_HEX_DIGITS {
        return None;
    }
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok());
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of sixteen";
    // echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of sixteen'
    const SIGNED: &str =
        "t=1700000000,v1=fbd8ce753f0c0643c2d4fef4959c30b175367059e6f5453bddeb7b24a3d1ae24";
    const BODY: &[u8] = br#"{"a":1}"#;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const SCHEME: Timed = Timed {
        time: "t=",
        mac: "v1=",
        units_per_second: 1,
        covers: Covers::TimeDotBody,
        window: Duration::from_secs(300),
    };

    fn secrets(current: &str, before: Option<&str>) -> Result<Secrets, String> {
        let [current, before] = [Some(current), before].map(|text| text.map(secret));
        Secrets::new(&current.expect("one"), before.as_ref())
    }

    fn secret(text: &str) -> Secret {
        text.parse().expect("any text")
    }

    fn check(header: &str, body: &[u8], now: SystemTime) -> Result<(), Refused> {
        SCHEME.check(&secrets(SECRET, None).expect("long enough"), header, body, now)
    }

    #[test]
    fn what_another_program_signed_is_accepted_within_the_window() {
        for seconds in [1_699_999_700, 1_700_000_000, 1_700_000_300] {
            assert_eq!(check(SIGNED, BODY, at(seconds)), Ok(()));
        }
        for seconds in [1_699_999_699, 1_700_000_301] {
            let checked = check(SIGNED, BODY, at(seconds));
            assert_eq!(checked, Err(Refused::OutOfTime));
        }
    }

    #[test]
    fn anything_changed_is_refused() {
        let now = at(1_700_000_000);
        assert_eq!(check(SIGNED, br#"{"a":2}"#, now), Err(Refused::Wrong));
        let later = SIGNED.replace("1700000000", "1700000001");
        assert_eq!(check(&later, BODY, now), Err(Refused::Wrong));
        let other = secrets("another secret of ours", None).expect("long enough");
        let checked = SCHEME.check(&other, SIGNED, BODY, now);
        assert_eq!(checked, Err(Refused::Wrong));
        assert_eq!(check("t=1700000000,v1=", BODY, now), Err(Refused::Wrong));
    }

    #[test]
    fn what_is_not_a_signature_is_refused() {
        for text in ["", "t=1,v1=0", "t=x,v1=00", "v1=00", "t=1,v1=zz", "t=1,v1=ä"] {
            let checked = check(text, BODY, at(1));
            assert_eq!(checked, Err(Refused::Malformed), "{text}");
        }
        assert!(secrets("short", None).is_err() && secrets(SECRET, Some("short")).is_err());
    }

    #[test]
    fn the_secret_before_holds_while_it_is_replaced() {
        let now = at(1_700_000_000);
        let both = secrets("another secret of ours", Some(SECRET)).expect("long enough");
        assert!(SCHEME.check(&both, SIGNED, BODY, now).is_ok());
        assert_eq!(both.check_token(SECRET), Ok(()));
        assert_eq!(both.check_token("another secret of ours"), Ok(()));
        assert_eq!(both.check_token("another"), Err(Refused::Wrong));
    }

    proptest::proptest! {
        #![proptest_config(crate::fuzz_inputs())]

        #[test]
        fn nobody_else_signs(
            header in "(t=[0-9]{0,21})?(,v1=)?[0-9a-fA-F\\+]{0,66}\\PC{0,3}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            proptest::prop_assert!(check(&header, &body, now).is_err());
        }
    }
}
