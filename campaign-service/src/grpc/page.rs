//! Pages: bounded sizes and opaque tokens.

use crate::app::error::Error;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use campaign_domain::Instant;
use campaign_domain::access::Tenant;
use chrono::Datelike;
use prost::Message;

/// Most bytes of a page, well below 4 MiB, the default limit of gRPC clients.
pub const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Bytes for the key and length of an item in its list.
pub const ITEM_OVERHEAD_BYTES: usize = 6;

/// Checks a page size; 0 means the default.
pub fn size(requested: i32, default: i64, max: i64) -> Result<i64, Error> {
    match i64::from(requested) {
        0 => Ok(default),
        size if (1..=max).contains(&size) => Ok(size),
        _ => Err(Error::invalid("page_size", format!("must be 1 to {max}, or 0 for {default}"))),
    }
}

/// Returns a token that identifies the last item of a page. The token is valid for one listing of
/// one tenant.
pub fn token(tenant: &Tenant, listing: &str, last: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {last}", listing_of(tenant, listing)))
}

fn listing_of(tenant: &Tenant, listing: &str) -> String {
    if tenant.is_empty() { listing.to_owned() } else { format!("{listing}@{tenant}") }
}

/// Reads a page token of this listing; `None` for the first page.
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
    let item = item.filter(|item| !item.contains(char::is_control));
    item.and_then(read).map(Some).ok_or_else(malformed)
}

/// Reads a time in a token, in microseconds. Returns `None` for years that the service never puts there.
pub fn time(micros: &str) -> Option<Instant> {
    let time = Instant::from_timestamp_micros(micros.parse().ok()?)?;
    (1..=9_999).contains(&time.year()).then_some(time)
}

/// Returns a page and the token of the next page, which is empty on the last page. `items` were read with one item
/// more than a page has. `place_of` returns the place of an item in the list. A page ends early if it would be too
/// large for clients.
pub fn fill<T, M: Message>(
    (tenant, listing): (&Tenant, &str),
    items: Vec<T>,
    size: i64,
    place_of: impl Fn(&T) -> String,
    to_api: impl Fn(T) -> M,
) -> (Vec<M>, String) {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut last: Option<String> = None;
    let (mut page, mut bytes) = (Vec::with_capacity(items.len().min(size)), 0);
    for item in items {
        let place = place_of(&item);
        let item = to_api(item);
        bytes += item.encoded_len() + ITEM_OVERHEAD_BYTES;
        // A page has at least one item. Every single item is small enough.
        if let Some(last) = last.take_if(|_| page.len() >= size || bytes > MAX_PAGE_BYTES) {
            return (page, token(tenant, listing, &last));
        }
        page.push(item);
        last = Some(place);
    }
    (page, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use campaign_proto::v1;

    fn names(count: usize, bytes: usize, size: i64) -> (usize, Option<usize>) {
        let tenant = Tenant::default();
        let to_api = |_| v1::Contact { display_name: "x".repeat(bytes), ..Default::default() };
        let items: Vec<usize> = (0..count).collect();
        let (page, next) = fill((&tenant, "contacts"), items, size, ToString::to_string, to_api);
        let read = last_item(&tenant, "contacts", &next, |text| text.parse().ok());
        (page.len(), read.expect("our own token"))
    }

    #[test]
    fn a_page_ends_with_its_items_its_size_or_its_bytes() {
        assert_eq!(names(0, 10, 5), (0, None));
        assert_eq!(names(5, 10, 5), (5, None));
        assert_eq!(names(6, 10, 5), (5, Some(4)));
        assert_eq!(names(100, 1024 * 1024, 50), (2, Some(1)));
        assert_eq!(names(2, 2 * MAX_PAGE_BYTES, 50), (1, Some(0)));
    }

    #[test]
    fn a_token_that_was_made_up_is_refused() {
        let tenant = Tenant::default();
        for text in ["a\0b", "\u{1}", "\n"] {
            let made_up = token(&tenant, "suppressions", text);
            let read = last_item(&tenant, "suppressions", &made_up, |text| Some(text.to_owned()));
            assert!(read.is_err(), "{text:?}");
        }
        for micros in [i64::MIN, i64::MAX, -210_000_000_000_000_000, 253_402_300_800_000_000] {
            assert_eq!(time(&micros.to_string()), None, "{micros}");
        }
        assert!(time("1700000000000000").is_some());
    }
}
