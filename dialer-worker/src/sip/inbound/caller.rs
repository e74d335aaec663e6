//! Number of a caller.
//!
//! Parsed here because the SIP library mistakes an address in a quoted name for the caller's.

use rsipstack::sip::{HeadersExt, Request};

/// Longest text accepted as a number.
const MAX_NUMBER_LENGTH: usize = 40;

/// Returns the caller's number as it is written. Returns `None` if it is withheld or not a number.
pub(super) fn number(invite: &Request, trust_asserted_identity: bool) -> Option<String> {
    let asserted = invite.p_asserted_identity_header().filter(|_| trust_asserted_identity);
    let uri = match asserted {
        // All entries identify one caller. The number comes last, after a name within the trunk.
        Some(asserted) => uris(asserted.value()).pop()?,
        None => match uris(invite.from_header().ok()?.value()).as_slice() {
            [only] => only,
            _ => return None,
        },
    };
    let (scheme, rest) = uri.split_once(':')?;
    let user = match scheme.to_ascii_lowercase().as_str() {
        "sip" | "sips" => rest.split_once('@')?.0,
        "tel" => rest,
        _ => return None,
    };
    // Further parts are for routing between networks, or a password.
    let number = user.split([';', ':']).next()?.replace("%2B", "+").replace("%2b", "+");
    let is_number = number.len() <= MAX_NUMBER_LENGTH
        && number.bytes().any(|byte| byte.is_ascii_digit())
        && number.bytes().all(|byte| byte.is_ascii_digit() || b"+-.() ".contains(&byte));
    is_number.then_some(number)
}

/// Returns the addresses in a header: those in angle brackets outside quoted names, or else the
/// only one.
fn uris(value: &str) -> Vec<&str> {
    let mut uris = Vec::new();
    let (mut is_quoted, mut is_escaped, mut start) = (false, false, None);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if start.is_none() => is_quoted = !is_quoted,
            b'<' if !is_quoted => start = Some(index + 1),
            b'>' if !is_quoted => uris.extend(start.take().map(|start| &value[start..index])),
            _ => {}
        }
    }
    if uris.is_empty() && !value.contains(['<', '"']) {
        uris.extend(value.split(';').next().map(str::trim));
    }
    uris
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
            ("sip:+14155550100@trunk.example", Some("+14155550100")),
            ("\"a\\\"<sip:+1@b>\" <sip:+14155550100@trunk.example>", Some("+14155550100")),
            ("\"open <sip:+14155550100@trunk.example>", None),
            ("<sip:+1@b> <sip:+14155550100@trunk.example>", None),
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

    proptest::proptest! {
        #![proptest_config(crate::fuzz_inputs())]

        #[test]
        fn any_caller_is_a_number_or_nobody(
            from in "[\\PC<>\"\\\\;:@]{0,20}(<(sip|tel|x):)?[+%2Bb0-9;:.-]{0,45}@?[\\PC<>\"\\\\]{0,20}",
        ) {
            let _ = uris(&from);
            let message = format!(
                "INVITE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r\n\
                 From: {from}\r\nP-Asserted-Identity: {from}\r\nTo: <sip:1@127.0.0.1>\r\n\
                 Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
            );
            let Ok(request) = Request::try_from(message.as_bytes()) else { return Ok(()) };
            for trusted in [false, true] {
                if let Some(number) = number(&request, trusted) {
                    proptest::prop_assert!(number.len() <= MAX_NUMBER_LENGTH, "{number:?}");
                    proptest::prop_assert!(!number.contains(['<', '@', '"']), "{number:?}");
                }
            }
        }
    }
}
