//! Reading headers.

use rsipstack::sip::Headers;

/// Returns the value of the first header with this name.
pub(super) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name().eq_ignore_ascii_case(name))?;
    Some(header.value().trim())
}

/// Whether a list of tokens, which may be spread over several headers, has this one.
pub(super) fn has_token(headers: &Headers, name: &str, token: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name().eq_ignore_ascii_case(name))
        .flat_map(|header| header.value().split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}
