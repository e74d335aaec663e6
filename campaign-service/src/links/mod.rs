//! Links in texts: a short address of the service that records a click and redirects to the campaign's address.

mod serving;
pub mod token;

pub use serving::serve;
use token::Signer;
use uuid::Uuid;

/// Maker of the links that workers put into texts.
#[derive(Clone, Debug)]
pub struct Links {
    signer: Signer,
    /// Public address of the service, without a slash at the end.
    base_url: String,
}

impl Links {
    /// Creates a maker of links below `base_url`, as in `https://go.example.com`.
    ///
    /// # Errors
    /// Returns an error if the secret `key` is too short.
    pub fn new(key: &str, base_url: &str) -> Result<Self, String> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Ok(Self { signer: Signer::new(key)?, base_url })
    }

    /// Returns the link of a contact.
    #[must_use]
    pub fn link(&self, campaign: Uuid, position: i64) -> String {
        format!("{}/l/{}", self.base_url, self.signer.token(campaign, position))
    }

    /// Returns the campaign and the position of the contact that a token names.
    fn read(&self, token: &str) -> Option<(Uuid, i64)> {
        self.signer.read(token)
    }
}
