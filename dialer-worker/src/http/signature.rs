//! Signatures of callbacks: they identify the sender and the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Header of the signature: `t=` and seconds since 1970, then `,v1=` and the HMAC-SHA256 in hex.
/// The MAC covers those seconds, a dot and the body.
pub(super) const HEADER: &str = "x-signature";
/// Longest time between signature and receipt. It holds in both directions, because clocks differ.
const WINDOW: Duration = Duration::from_secs(300);

/// Verifier of signatures with one secret.
#[derive(Clone)]
pub(super) struct Verifier {
    key: Hmac<Sha256>,
}

/// Reason for rejecting a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the signature is missing or not of the form t=…,v1=…")]
    Malformed,
    #[error("the signature is too old, or from the future")]
    OutOfTime,
    #[error("the signature is wrong")]
    Wrong,
}

impl Verifier {
    pub fn new(secret: &str) -> Result<Self, String> {
        if secret.len() < 16 {
            return Err("--http-callback-secret needs at least 16 characters".to_owned());
        }
        let key = Hmac::new_from_slice(secret.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self { key })
    }

    pub fn check(&self, header: &str, body: &[u8], now: SystemTime) -> Result<(), Refused> {
        let (time, hex) = header
            .strip_prefix("t=")
            .and_then(|rest| rest.split_once(",v1="))
            .ok_or(Refused::Malformed)?;
        let seconds: u64 = time.parse().map_err(|_| Refused::Malformed)?;
        let signature = from_hex(hex).ok_or(Refused::Malformed)?;
        let mut mac = self.key.clone();
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(body);
        // `verify_slice` compares in constant time.
        mac.verify_slice(&signature).map_err(|_| Refused::Wrong)?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now.abs_diff(seconds) > WINDOW.as_secs() {
            return Err(Refused::OutOfTime);
        }
        Ok(())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 128 {
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

    fn verifier() -> Verifier {
        Verifier::new(SECRET).expect("long enough")
    }

    #[test]
    fn what_another_program_signed_is_accepted_within_the_window() {
        for seconds in [1_699_999_700, 1_700_000_000, 1_700_000_300] {
            assert_eq!(verifier().check(SIGNED, BODY, at(seconds)), Ok(()));
        }
        for seconds in [1_699_999_699, 1_700_000_301] {
            let checked = verifier().check(SIGNED, BODY, at(seconds));
            assert_eq!(checked, Err(Refused::OutOfTime));
        }
    }

    #[test]
    fn anything_changed_is_refused() {
        let now = at(1_700_000_000);
        assert_eq!(verifier().check(SIGNED, br#"{"a":2}"#, now), Err(Refused::Wrong));
        let later = SIGNED.replace("1700000000", "1700000001");
        assert_eq!(verifier().check(&later, BODY, now), Err(Refused::Wrong));
        let other = Verifier::new("another secret of ours").expect("long enough");
        assert_eq!(other.check(SIGNED, BODY, now), Err(Refused::Wrong));
        assert_eq!(verifier().check("t=1700000000,v1=", BODY, now), Err(Refused::Wrong));
    }

    #[test]
    fn what_is_not_a_signature_is_refused() {
        for text in ["", "t=1,v1=0", "t=x,v1=00", "v1=00", "t=1,v1=zz", "t=1,v1=ä"] {
            let checked = verifier().check(text, BODY, at(1));
            assert_eq!(checked, Err(Refused::Malformed), "{text}");
        }
        assert!(Verifier::new("short").is_err());
    }

    proptest::proptest! {
        #![proptest_config(crate::fuzz_inputs())]

        #[test]
        fn nobody_else_signs(
            header in "(t=[0-9]{0,21})?(,v1=)?[0-9a-fA-F\\+]{0,66}\\PC{0,3}",
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        ) {
            let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let verifier = Verifier::new(SECRET).expect("long enough");
            proptest::prop_assert!(verifier.check(&header, &body, now).is_err());
        }
    }
}
