//! Short signed tokens that identify a contact in a link.

use crate::mac_key::MacKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use uuid::Uuid;

/// Bytes of a campaign's id. The whole token has 43 characters.
const ID_BYTES: usize = 16;
/// Bytes of a contact's position.
const POSITION_BYTES: usize = 6;
/// Bytes of the signature. One guess in 2^80 is right, and each guess needs a network request.
const MAC_BYTES: usize = 10;
const TOKEN_BYTES: usize = ID_BYTES + POSITION_BYTES + MAC_BYTES;

/// Maker and reader of tokens with one key.
#[derive(Clone, Debug)]
pub struct Signer {
    key: MacKey,
}

impl Signer {
    /// Creates a signer with a secret key.
    ///
    /// # Errors
    /// Returns an error if the key is too short.
    pub fn new(key: &str) -> Result<Self, String> {
        Ok(Self { key: MacKey::new(key.as_bytes(), "link", "characters")? })
    }

    /// Returns the token of a contact.
    #[must_use]
    pub fn token(&self, campaign: Uuid, position: i64) -> String {
        let mut bytes = [0; TOKEN_BYTES];
        let signed = ID_BYTES + POSITION_BYTES;
        bytes[..ID_BYTES].copy_from_slice(campaign.as_bytes());
        bytes[ID_BYTES..signed].copy_from_slice(&position.to_be_bytes()[8 - POSITION_BYTES..]);
        let mac = self.key.mac(&bytes[..signed]).finalize().into_bytes();
        bytes[signed..].copy_from_slice(&mac[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Returns the campaign and position of the contact that a token identifies; `None` if the
    /// token was not signed with this key.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<(Uuid, i64)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let bytes: [u8; TOKEN_BYTES] = bytes.try_into().ok()?;
        let (signed, mac) = bytes.split_at(ID_BYTES + POSITION_BYTES);
        // The comparison takes constant time.
        self.key.mac(signed).verify_truncated_left(mac).ok()?;
        let (id, position) = signed.split_at(ID_BYTES);
        let position = position.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
        Some((Uuid::from_slice(id).ok()?, position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn signer() -> Signer {
        Signer::new(KEY).expect("long enough")
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(Signer::new(&KEY[1..]).is_err());
    }

    #[test]
    fn another_key_reads_nothing() {
        let other = Signer::new(&KEY.to_uppercase()).expect("long enough");
        assert_eq!(signer().read(&other.token(Uuid::from_u128(7), 3)), None);
    }

    proptest! {
        #[test]
        fn tokens_read_back_and_a_changed_one_does_not(
            id in any::<u128>(), position in 0..1_i64 << 47, at in 0..43_usize, to in "[A-Za-z0-9_-]"
        ) {
            let (signer, id) = (signer(), Uuid::from_u128(id));
            let token = signer.token(id, position);
            prop_assert_eq!(token.len(), 43);
            prop_assert_eq!(signer.read(&token), Some((id, position)));
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            if changed != token {
                prop_assert_eq!(signer.read(&changed), None);
            }
        }

        #[test]
        fn anything_may_be_sent_as_a_token(text in "\\PC{0,80}") {
            prop_assert_eq!(signer().read(&text), None);
        }
    }
}
