//! The key under which erased people are known.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Shortest key, in bytes.
pub const MIN_KEY_BYTES: usize = 32;

/// HMAC-SHA256 of a number.
pub type PersonHash = [u8; 32];

/// Tells a key from others, and nothing else of it.
pub type KeyId = [u8; 8];

/// Hashes numbers with a secret key: who does not have it cannot try out all numbers there are.
#[derive(Clone)]
pub struct Eraser {
    key: Hmac<Sha256>,
}

/// The key is nobody's business.
impl std::fmt::Debug for Eraser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eraser").finish_non_exhaustive()
    }
}

impl Eraser {
    /// With a secret key, byte for byte.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(key: &[u8]) -> Result<Self, String> {
        if key.len() < MIN_KEY_BYTES {
            return Err(format!("the erasure key must have at least {MIN_KEY_BYTES} bytes"));
        }
        let key = Hmac::new_from_slice(key).map_err(|error| error.to_string())?;
        Ok(Self { key })
    }

    fn mac(&self, purpose: &str, text: &str) -> PersonHash {
        let mut mac = self.key.clone();
        mac.update(purpose.as_bytes());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The hash of a number in E.164.
    #[must_use]
    pub fn hash(&self, phone: &str) -> PersonHash {
        self.mac("number ", phone)
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let [a, b, c, d, e, f, g, h, ..] = self.mac("key", "");
        [a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_keys_own() {
        let [one, two] = [1, 2].map(|byte| Eraser::new(&[byte; 32]).expect("long enough"));
        assert_eq!(one.hash("+12015550100"), one.hash("+12015550100"));
        assert_ne!(one.hash("+12015550100"), one.hash("+12015550101"));
        assert_ne!(one.hash("+12015550100"), two.hash("+12015550100"));
        assert_ne!(one.key_id(), two.key_id());
        assert!(Eraser::new(&[1; 31]).is_err());
        assert!(!format!("{one:?}").contains('1'));
    }
}
