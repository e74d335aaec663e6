//! Secret keys that sign links and hash numbers.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Shortest key, in bytes.
const MIN_KEY_BYTES: usize = 32;

/// Key for HMAC-SHA256.
#[derive(Clone)]
pub struct MacKey(Hmac<Sha256>);

/// Hides the key.
impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

impl MacKey {
    /// Creates a key, used byte for byte. An error has the `name` of the key, and its least length
    /// in `unit`.
    ///
    /// # Errors
    /// Returns an error if the key is too short.
    pub fn new(key: &[u8], name: &str, unit: &str) -> Result<Self, String> {
        if key.len() < MIN_KEY_BYTES {
            return Err(format!("the {name} key must have at least {MIN_KEY_BYTES} {unit}"));
        }
        Hmac::new_from_slice(key).map(Self).map_err(|error| error.to_string())
    }

    /// Returns the code of some bytes, to be compared or finished.
    #[must_use]
    pub fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(bytes)
    }
}
