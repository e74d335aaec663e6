//! Meaning of a final answer to an INVITE, for the call and for the trunk.

use crate::call::{Fault, Outcome};

/// Returns the outcome of a call that was not answered. `rang` says whether a phone rang before.
pub(super) fn outcome(code: u16, rang: bool) -> Outcome {
    match code {
        // Busy, or declined by the contact: a person is there and does not answer now.
        486 | 600 | 603 => Outcome::Busy,
        // Timeout at the other end, not available, cancelled. Without a ring, a proxy may say so
        // that does not reach its gateway.
        408 | 480 | 487 if rang => Outcome::NoAnswer,
        300..=699 => Outcome::Failed,
        // The code does not end an INVITE.
        _ => Outcome::Unknown,
    }
}

/// Returns the trunk's own fault, if the code shows one: an error of the trunk, rejected
/// credentials, or an account that may not call (no credit, unknown address or caller id, too many
/// calls, no common codec). Holds for calls that did not ring. Codes: RFC 3261, RFC 6585 (429).
pub(super) fn fault(code: u16) -> Option<Fault> {
    matches!(code, 401 | 402 | 403 | 407 | 429 | 488 | 500..=599 | 606)
        .then_some(Fault::Refusing(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (code, expected) in [
            (486, Outcome::Busy),
            (600, Outcome::Busy),
            (603, Outcome::Busy),
            (408, Outcome::NoAnswer),
            (480, Outcome::NoAnswer),
            (487, Outcome::NoAnswer),
            (302, Outcome::Failed),
            (404, Outcome::Failed),
            (503, Outcome::Failed),
            (604, Outcome::Failed),
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
    fn only_errors_of_the_trunk_are_its_fault() {
        for code in [401, 402, 403, 407, 429, 488, 500, 503, 599, 606] {
            assert_eq!(fault(code), Some(Fault::Refusing(code)));
        }
        for code in [302, 404, 408, 480, 486, 600, 603, 604] {
            assert_eq!(fault(code), None, "{code}");
        }
    }
}
