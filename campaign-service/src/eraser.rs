//! The key under which erased people are known.

use crate::mac_key::MacKey;
use hmac::Mac;

/// HMAC-SHA256 of a number.
pub type PersonHash = [u8; 32];

/// Tells a key from others, and nothing else of it.
pub type KeyId = [u8; 8];

/// Hashes numbers with a secret key: who does not have it cannot try out all numbers there are.
#[derive(Clone, Debug)]
pub struct Eraser {
    key: MacKey,
}

impl Eraser {
    /// With a secret key, byte for byte.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(key: &[u8]) -> Result<Self, String> {
        Ok(Self { key: MacKey::new(key, "erasure", "bytes")? })
    }

    fn mac(&self, purpose: &str, text: &str) -> PersonHash {
        self.key.mac(purpose.as_bytes()).chain_update(text).finalize().into_bytes().into()
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
