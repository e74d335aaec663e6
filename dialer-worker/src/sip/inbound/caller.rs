//! Who calls.

use rsipstack::sip::typed;
use rsipstack::sip::{HeadersExt, Request, Scheme, Uri};

/// Longest text taken for a number.
const MAX_NUMBER_LENGTH: usize = 40;

/// The caller's number as it is written; `None` when it is withheld or no number.
pub(super) fn number(invite: &Request, trust_asserted_identity: bool) -> Option<String> {
    let asserted = invite.p_asserted_identity_header().filter(|_| trust_asserted_identity);
    let uri = match asserted {
        Some(asserted) => asserted_uri(asserted.value())?,
        None => typed::From::parse(invite.from_header().ok()?.value()).ok()?.uri,
    };
    let text = match &uri.scheme {
        Some(Scheme::Sip | Scheme::Sips) => uri.user()?.to_owned(),
        Some(Scheme::Other(scheme)) if scheme.eq_ignore_ascii_case("tel") => match uri.user() {
            Some(user) => user.to_owned(),
            None => uri.host().to_string(),
        },
        _ => return None,
    };
    // What follows is for routing between networks.
    let number = text.split(';').next().unwrap_or_default().replace("%2B", "+");
    let is_number = number.len() <= MAX_NUMBER_LENGTH
        && number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.() ".contains(&byte));
    is_number.then_some(number)
}

/// The last of the identities: they are of one caller. What stands before it, a name, may hold anything.
fn asserted_uri(value: &str) -> Option<Uri> {
    let uri = match value.rfind('<') {
        Some(start) => value[start + 1..].split('>').next()?,
        None => value,
    };
    Uri::try_from(uri.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(from: &str, asserted: Option<&str>) -> Request {
        let asserted =
            asserted.map(|value| format!("P-Asserted-Identity: {value}\r\n")).unwrap_or_default();
        let text = format!(
            "INVITE sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r\n\
             From: {from};tag=1\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{asserted}\
             Content-Length: 0\r\n\r\n"
        );
        Request::try_from(text.as_bytes()).expect("a request")
    }

    #[test]
    fn numbers_are_found_however_they_are_written() {
        for (from, expected) in [
            ("<sip:+14155550100@trunk.example>", Some("+14155550100")),
            (
                "\"A, <sip:+1@b> C\" <sip:+14155550100@trunk.example;user=phone>",
                Some("+14155550100"),
            ),
            ("<sip:%2B14155550100@trunk.example>", Some("+14155550100")),
            ("<sips:(415)555-0100@trunk.example>", Some("(415)555-0100")),
            ("<sip:+14155550100;npdi@trunk.example>", Some("+14155550100")),
            ("<tel:+1-415-555-0100>", Some("+1-415-555-0100")),
            ("\"Anonymous\" <sip:anonymous@anonymous.invalid>", None),
            ("<sip:trunk.example>", None),
            ("<sip:alice@trunk.example>", None),
            ("<http://+14155550100@trunk.example>", None),
        ] {
            assert_eq!(number(&invite(from, None), true).as_deref(), expected, "{from}");
        }
        let long = format!("<sip:{}@a>", "1".repeat(41));
        assert_eq!(number(&invite(&long, None), true), None);
    }

    #[test]
    fn an_asserted_identity_counts_only_where_it_is_trusted() {
        let from = "<sip:anonymous@anonymous.invalid>";
        for asserted in [
            "<sip:+14155550100@trunk.example>",
            "\"<sip:+14155550199@a>\" <sip:+14155550100@trunk.example>",
            "tel:+14155550100",
            "<sip:4711@trunk.example>, <tel:+14155550100>",
        ] {
            let invite = invite(from, Some(asserted));
            assert_eq!(number(&invite, true).as_deref(), Some("+14155550100"), "{asserted}");
            assert_eq!(number(&invite, false), None, "{asserted}");
        }
    }
}
