//! Reading headers.

use rsipstack::sip::{Header, Headers};

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

/// Removes a parameter of the called address in `To`, as in `<sip:a@b;name=value>`.
pub(super) fn remove_parameter_of_to(headers: &mut Headers, parameter: &str) {
    let begin = format!(";{parameter}=");
    for header in headers.iter_mut() {
        let Header::To(to) = header else { continue };
        let Some((before, rest)) = to.value().split_once(&begin) else { continue };
        let end = rest.find([';', '>', '?']).unwrap_or(rest.len());
        let text = format!("{before}{}", &rest[end..]);
        to.replace(text);
    }
}
