//! Keys pressed on the phone, as the trunk tells them by INFO (`application/dtmf-relay`,
//! `application/dtmf`). Keys within the audio are not heard: the worker has no media.

use rsipstack::sip::Request;

use super::headers;

/// Key of a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(char);

impl std::str::FromStr for Key {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "*" | "10" => Ok(Self('*')),
            "#" | "11" => Ok(Self('#')),
            _ => match text.as_bytes() {
                [digit @ b'0'..=b'9'] => Ok(Self(char::from(*digit))),
                _ => Err("give one key of a phone: 0 to 9, * or #"),
            },
        }
    }
}

/// Returns the key that an INFO tells.
pub(super) fn pressed(info: &Request) -> Option<Key> {
    let kind = headers::value(&info.headers, "Content-Type")?.to_ascii_lowercase();
    let body = String::from_utf8_lossy(&info.body);
    let signal = match kind.split(';').next()?.trim() {
        "application/dtmf" => body.trim(),
        "application/dtmf-relay" => body.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("signal").then_some(value.trim())
        })?,
        _ => return None,
    };
    signal.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, body: &str) -> Option<Key> {
        let text = format!(
            "INFO sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\n\
             From: <sip:b@x>;tag=1\r\nTo: <sip:a@x>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INFO\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        pressed(&Request::try_from(text.as_bytes()).expect("a request"))
    }

    #[test]
    fn keys_are_read_as_trunks_write_them() {
        for (kind, body, expected) in [
            ("application/dtmf-relay", "Signal=9\r\nDuration=160\r\n", Some(Key('9'))),
            (
                "Application/DTMF-Relay; charset=utf-8",
                "signal = 9\r\nduration= 160",
                Some(Key('9')),
            ),
            ("application/dtmf-relay", "Duration=160\r\nSignal=*\r\n", Some(Key('*'))),
            ("application/dtmf-relay", "Signal=11\r\n", Some(Key('#'))),
            ("application/dtmf", "9\r\n", Some(Key('9'))),
            ("application/dtmf", "#", Some(Key('#'))),
            ("application/dtmf", "99", None),
            ("application/dtmf-relay", "Signal=A\r\n", None),
            ("application/dtmf-relay", "", None),
            ("text/plain", "9", None),
        ] {
            assert_eq!(told(kind, body), expected, "{kind}: {body}");
        }
    }
}
