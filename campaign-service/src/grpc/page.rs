//! Pages: bounded sizes and opaque tokens.

use crate::app::error::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use campaign_domain::access::Tenant;

/// Checks a page size; 0 means the default.
pub fn size(requested: i32, default: i64, max: i64) -> Result<i64, Error> {
    match i64::from(requested) {
        0 => Ok(default),
        size if (1..=max).contains(&size) => Ok(size),
        _ => Err(Error::invalid("page_size", format!("must be 1 to {max}, or 0 for {default}"))),
    }
}

/// A token that stands for the last item of a page, of one listing of one tenant only.
pub fn token(tenant: &Tenant, listing: &str, last: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {last}", listing_of(tenant, listing)))
}

fn listing_of(tenant: &Tenant, listing: &str) -> String {
    if tenant.is_empty() { listing.to_owned() } else { format!("{listing}@{tenant}") }
}

/// Reads a token of this listing; `None` for the first page.
pub fn last_item<T>(
    tenant: &Tenant,
    listing: &str,
    token: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let listing = listing_of(tenant, listing);
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let item = text.as_deref().and_then(|text| text.strip_prefix(&listing)?.strip_prefix(' '));
    let malformed = || {
        Error::invalid("page_token", "must be the next_page_token of the page before, same listing")
    };
    item.and_then(read).map(Some).ok_or_else(malformed)
}

/// Cuts a list that was read with one item more than the page to the page; returns the token of the
/// next page, empty on the last.
pub fn cut<T>(items: &mut Vec<T>, size: i64, token_of: impl FnOnce(&T) -> String) -> String {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if items.len() <= size {
        return String::new();
    }
    items.truncate(size);
    items.last().map(token_of).unwrap_or_default()
}
