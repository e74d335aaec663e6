//! Final answer to an INVITE that refuses the call, and the reasons that it gives.

use std::time::Duration;

use rsipstack::sip::{Headers, Response};

use super::headers;
use crate::call::sip_codes::outcome;
use crate::call::{CallEnd, EndDetail, Outcome, Party};

/// Code that answers an INVITE which was cancelled (RFC 3261, 9.2).
const REQUEST_TERMINATED: u16 = 487;

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
            // The phone may have rung without a word from the trunk.
            Outcome::Failed if by_order && self.code == REQUEST_TERMINATED => Outcome::Cancelled,
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
    fn a_call_that_was_cancelled_by_order_says_so() {
        let end = Refusal::of_code(487).end(true, true);
        assert_eq!((end.outcome, end.detail.hung_up_by), (Outcome::Cancelled, Some(Party::Caller)));
        let end = Refusal::of_code(487).end(false, true);
        assert_eq!(end.outcome, Outcome::Cancelled, "before the trunk told of a ring");
        assert_eq!(Refusal::of_code(487).end(false, false).outcome, Outcome::Failed);
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
