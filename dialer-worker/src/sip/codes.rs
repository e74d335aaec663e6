//! Meaning of a final answer to an INVITE, for the call and for the trunk. Codes: RFC 3261, RFC 6585
//! (429), RFC 8197 (607), RFC 8688 (608).

use std::time::Duration;

use rsipstack::sip::{Headers, Response};

use super::headers;
use crate::call::{CallEnd, EndDetail, Fault, Outcome, Party};

/// Final answer that refuses a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: u16,
    /// Delay that the trunk asks for.
    pub retry_after: Option<Duration>,
    cause: Option<u8>,
    reason: Option<String>,
}

impl Refusal {
    pub fn of_code(code: u16) -> Self {
        Self { code, retry_after: None, cause: None, reason: None }
    }

    pub fn of(answer: &Response) -> Self {
        let (cause, reason) = cause(&answer.headers);
        let phrase = answer.wire_reason.clone().filter(|phrase| !phrase.is_empty());
        Self {
            code: answer.status_code.code(),
            retry_after: retry_after(&answer.headers),
            cause,
            reason: reason.or(phrase),
        }
    }

    /// Returns the end of a call that was refused. `rang` says whether a phone rang before,
    /// `by_order` whether the worker was told to cancel it.
    pub fn end(self, rang: bool, by_order: bool) -> CallEnd {
        let outcome = match outcome(self.code, rang) {
            Outcome::NoAnswer if by_order => Outcome::Cancelled,
            outcome => outcome,
        };
        let hung_up_by = match outcome {
            Outcome::Cancelled => Some(Party::Caller),
            Outcome::Busy | Outcome::Rejected => Some(Party::Contact),
            _ => None,
        };
        let (code, cause, reason) = (Some(self.code), self.cause, self.reason);
        let detail = EndDetail { code, cause, reason, hung_up_by, ..EndDetail::default() };
        CallEnd::unanswered(outcome).with(detail)
    }
}

/// Reason that a BYE gave: cause by Q.850, and text.
pub(super) type Farewell = (Option<u8>, Option<String>);

/// Returns the end of a call for which nothing was sent.
pub(super) fn not_sent(reason: &str) -> CallEnd {
    let detail = EndDetail { reason: Some(reason.to_owned()), ..EndDetail::default() };
    CallEnd::unanswered(Outcome::Congested).with(detail)
}

/// Returns the outcome of a call that was not answered. `rang` says whether a phone rang before.
fn outcome(code: u16, rang: bool) -> Outcome {
    match code {
        // Busy, or declined by the contact: a person is there and does not answer now.
        486 | 600 | 603 => Outcome::Busy,
        // The person, or an analysis on the person's behalf, wants no calls of this caller.
        607 | 608 => Outcome::Rejected,
        // No such number: not found, gone, incomplete, nowhere.
        404 | 410 | 484 | 604 => Outcome::InvalidNumber,
        // Timeout at the other end, not available, cancelled. Without a ring, a proxy may say so
        // that does not reach its gateway.
        408 | 480 | 487 if rang => Outcome::NoAnswer,
        code if !rang && fault(code).is_some() => Outcome::Congested,
        300..=699 => Outcome::Failed,
        // The code does not end an INVITE.
        _ => Outcome::Unknown,
    }
}

/// Returns the trunk's own fault, if the code shows one: an error of the trunk, rejected
/// credentials, or an account that may not call (no credit, unknown address or caller id, too many
/// calls, no common codec). Holds for calls that did not ring.
pub(super) fn fault(code: u16) -> Option<Fault> {
    matches!(code, 401 | 402 | 403 | 407 | 429 | 488 | 500..=599 | 606)
        .then_some(Fault::Refusing(code))
}

/// Whether another address of the trunk may do better: this one has an error or too many calls.
pub(super) fn is_elsewhere(code: u16) -> bool {
    matches!(code, 500 | 502..=504 | 429)
}

/// Returns the delay that an answer asks for, as in `Retry-After: 20 (in maintenance)`.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let value = headers::value(headers, "Retry-After")?;
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(Duration::from_secs)
}

/// Reads `Reason: Q.850;cause=16;text="..."` (RFC 3326). Returns the cause and the text.
pub(super) fn cause(headers: &Headers) -> Farewell {
    let reasons = headers.iter().filter(|header| header.name().eq_ignore_ascii_case("Reason"));
    let values = reasons.flat_map(|header| header.value().split(','));
    for value in values {
        let mut parts = value.split(';').map(str::trim);
        let is_q850 = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("Q.850"));
        if !is_q850 {
            continue;
        }
        let (mut cause, mut text) = (None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "cause" => {
                    cause = value.trim().parse().ok().filter(|cause| (1..=127).contains(cause))
                }
                "text" => text = Some(value.trim().trim_matches('"').to_owned()),
                _ => {}
            }
        }
        return (cause, text);
    }
    (None, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsipstack::sip::Header;

    #[test]
    fn codes_are_told_apart() {
        for (code, expected) in [
            (486, Outcome::Busy),
            (600, Outcome::Busy),
            (603, Outcome::Busy),
            (607, Outcome::Rejected),
            (608, Outcome::Rejected),
            (404, Outcome::InvalidNumber),
            (410, Outcome::InvalidNumber),
            (484, Outcome::InvalidNumber),
            (604, Outcome::InvalidNumber),
            (408, Outcome::NoAnswer),
            (480, Outcome::NoAnswer),
            (487, Outcome::NoAnswer),
            (302, Outcome::Failed),
            (503, Outcome::Failed),
            (202, Outcome::Unknown),
        ] {
            assert_eq!(outcome(code, true), expected, "{code}");
        }
    }

    #[test]
    fn nobody_failed_to_answer_a_phone_that_did_not_ring() {
        for code in [408, 480, 487] {
            assert_eq!(outcome(code, false), Outcome::Failed, "{code}");
        }
        assert_eq!(outcome(486, false), Outcome::Busy);
    }

    #[test]
    fn what_cannot_have_rung_is_given_back() {
        for code in [401, 402, 403, 407, 429, 488, 500, 503, 599, 606] {
            assert_eq!(fault(code), Some(Fault::Refusing(code)));
            assert_eq!(outcome(code, false), Outcome::Congested, "{code}");
        }
        for code in [302, 404, 408, 480, 486, 600, 603, 604, 607] {
            assert_eq!(fault(code), None, "{code}");
        }
    }

    #[test]
    fn a_call_that_was_cancelled_by_order_says_so() {
        let end = Refusal::of_code(487).end(true, true);
        assert_eq!((end.outcome, end.detail.hung_up_by), (Outcome::Cancelled, Some(Party::Caller)));
        let end = Refusal::of_code(486).end(true, true);
        assert_eq!((end.outcome, end.detail.code), (Outcome::Busy, Some(486)));
        assert_eq!(Refusal::of_code(487).end(true, false).outcome, Outcome::NoAnswer);
    }

    #[test]
    fn the_cause_is_read_from_its_header() {
        let told = |value: &str| cause(&Headers::from(vec![Header::Reason(value.into())]));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(told("Q.850;cause=16;text=\"Normal\""), (Some(16), text("Normal")));
        assert_eq!(told("SIP;cause=200, q.850 ; cause = 17"), (Some(17), None));
        assert_eq!(told("SIP;cause=200;text=\"x\""), (None, None));
        assert_eq!(told("Q.850;cause=900"), (None, None));
    }
}
