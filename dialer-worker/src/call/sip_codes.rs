//! Meaning of the final SIP codes with which carriers end a call that nobody answered: RFC 3261, RFC
//! 6585 (429), RFC 8197 (607), RFC 8688 (608).

use super::{Fault, Outcome};

/// Returns the outcome of a call. `rang` says whether a phone rang before.
pub(crate) fn outcome(code: u16, rang: bool) -> Outcome {
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
        // The code ends no call.
        _ => Outcome::Unknown,
    }
}

/// Returns the carrier's own fault, if the code shows one: an error of the trunk, rejected
/// credentials, or an account that may not call (no credit, unknown address or caller id, too many
/// calls, no common codec). Holds for calls that did not ring.
pub(crate) fn fault(code: u16) -> Option<Fault> {
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
}
