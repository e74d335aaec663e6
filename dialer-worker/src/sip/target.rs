//! Target of an agent's transfer, as its REFER names it.

use rsipstack::sip::{Request, Uri};

use super::headers;

/// Target that an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Number, with digits and maybe a plus; called through the trunk.
    Number(String),
    /// Address; called if its host is allowed.
    Address(Uri),
}

/// Reads the target of a REFER. Returns `None` for what cannot be called: no target, or one that
/// replaces another call (attended transfer).
pub(super) fn read(refer: &Request) -> Option<Target> {
    let value = headers::value(&refer.headers, "Refer-To")?;
    let address = match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next()?,
        None => value.split(';').next()?,
    };
    let address = address.trim();
    if address.contains('?') {
        return None;
    }
    if let Some(number) = address.strip_prefix("tel:") {
        return number_in(number.split(';').next()?);
    }
    let uri = Uri::try_from(address).ok()?;
    let user = uri.user().unwrap_or_default().to_owned();
    match number_in(&user) {
        Some(number) if user.starts_with('+') => Some(number),
        _ => Some(Target::Address(uri)),
    }
}

fn number_in(text: &str) -> Option<Target> {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
    let bare = digits.strip_prefix('+').unwrap_or(&digits);
    let is_number = (3..=15).contains(&bare.len()) && bare.bytes().all(|c| c.is_ascii_digit());
    is_number.then_some(Target::Number(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refer(value: &str) -> Option<Target> {
        let text = format!(
            "REFER sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
             From: <sip:b@x>;tag=1\r\nTo: <sip:a@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 REFER\r\n\
             Refer-To: {value}\r\nContent-Length: 0\r\n\r\n"
        );
        read(&Request::try_from(text.as_bytes()).expect("a request"))
    }

    #[test]
    fn numbers_go_to_the_trunk_and_addresses_stay() {
        let number = |text: &str| Some(Target::Number(text.to_owned()));
        assert_eq!(refer("<tel:+1-555-0100>"), number("+15550100"));
        assert_eq!(refer("tel:911"), number("911"));
        assert_eq!(
            refer("\"Desk\" <sip:+15550100@sip.agent.example;transport=tls>"),
            number("+15550100")
        );
        let desk = refer("<sip:desk@pbx.example>;x=y");
        assert_eq!(desk, Some(Target::Address("sip:desk@pbx.example".try_into().expect("right"))));
        for wrong in ["", "<sip:a@b?Replaces=c>", "<tel:abc>", "<tel:1234567890123456>"] {
            assert_eq!(refer(wrong), None, "{wrong}");
        }
    }
}
