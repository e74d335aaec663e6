//! Keys that identify erased people.

use crate::mac_key::MacKey;
use hmac::Mac;

/// HMAC-SHA256 of a phone number.
pub type PersonHash = [u8; 32];

/// Identifier of a key. The id reveals nothing else of the key.
pub type KeyId = [u8; 8];

/// Hashes phone numbers with secret keys. Without the keys nobody can recover a number by trying
/// all numbers.
#[derive(Clone, Debug)]
pub struct Eraser {
    current: MacKey,
    /// Earlier keys, which identify people erased in the past. New erasures do not use these keys.
    former: Vec<MacKey>,
}

fn key(bytes: &[u8]) -> Result<MacKey, String> {
    MacKey::new(bytes, "erasure", "bytes")
}

fn mac(key: &MacKey, purpose: &str, text: &str) -> PersonHash {
    key.mac(purpose.as_bytes()).chain_update(text).finalize().into_bytes().into()
}

fn id(key: &MacKey) -> KeyId {
    let [a, b, c, d, e, f, g, h, ..] = mac(key, "key", "");
    [a, b, c, d, e, f, g, h]
}

impl Eraser {
    /// Creates an eraser with a secret key, used byte for byte.
    ///
    /// # Errors
    /// Returns an error if the key is too short.
    pub fn new(current: &[u8]) -> Result<Self, String> {
        Ok(Self { current: key(current)?, former: Vec::new() })
    }

    /// Adds an earlier key, so that people erased under that key are identified too.
    ///
    /// # Errors
    /// Returns an error if the key is too short.
    pub fn with_former(mut self, former: &[u8]) -> Result<Self, String> {
        self.former.push(key(former)?);
        Ok(self)
    }

    fn keys(&self) -> impl Iterator<Item = &MacKey> {
        std::iter::once(&self.current).chain(&self.former)
    }

    /// Returns the hash under which a number in E.164 is erased.
    #[must_use]
    pub fn hash(&self, phone: &str) -> PersonHash {
        mac(&self.current, "number ", phone)
    }

    /// Returns the hashes under which a number in E.164 may have been erased.
    pub fn hashes(&self, phone: &str) -> impl Iterator<Item = PersonHash> {
        self.keys().map(move |key| mac(key, "number ", phone))
    }

    /// Returns the id of the key under which people are erased.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        id(&self.current)
    }

    /// Whether people who were erased under a key are identified.
    #[must_use]
    pub fn has_key(&self, key_id: &KeyId) -> bool {
        self.keys().any(|key| id(key) == *key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "+12015550100";

    #[test]
    fn hashes_are_the_keys_own() {
        let [one, two] = [1, 2].map(|byte| Eraser::new(&[byte; 32]).expect("long enough"));
        assert_eq!(one.hash(ANN), one.hash(ANN));
        assert_ne!(one.hash(ANN), one.hash("+12015550101"));
        assert_ne!(one.hash(ANN), two.hash(ANN));
        assert_ne!(one.key_id(), two.key_id());
        assert!(Eraser::new(&[1; 31]).is_err());
        assert!(!format!("{one:?}").contains('1'));
    }

    #[test]
    fn keys_of_before_are_known_and_not_used() {
        let [one, two] = [1, 2].map(|byte| Eraser::new(&[byte; 32]).expect("long enough"));
        let both = two.clone().with_former(&[1; 32]).expect("long enough");
        assert_eq!(both.hash(ANN), two.hash(ANN));
        assert_eq!(both.hashes(ANN).collect::<Vec<_>>(), [two.hash(ANN), one.hash(ANN)]);
        assert_eq!(both.key_id(), two.key_id());
        assert!(both.has_key(&one.key_id()) && both.has_key(&two.key_id()));
        assert!(!two.has_key(&one.key_id()));
        assert!(two.with_former(&[1; 31]).is_err());
    }
}
