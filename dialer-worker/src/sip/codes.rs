//! Meaning of a final answer to an INVITE, for the call and for the trunk.

use crate::call::{Fault, Outcome};

/// Returns the outcome of a call that was not answered.
pub(super) fn outcome(code: u16) -> Outcome {
    match code {
        // Busy, or declined by the contact: a person is there and does not answer now.
        486 | 600 | 603 => Outcome::Busy,
        // Timeout at the other end, not available, cancelled.
        408 | 480 | 487 => Outcome::NoAnswer,
        300..=699 => Outcome::Failed,
        // The code does not end an INVITE.
        _ => Outcome::Unknown,
    }
}

/// Returns the trunk's own fault, if the code shows one: an error of the trunk, or rejected
/// credentials.
pub(super) fn fault(code: u16) -> Option<Fault> {
    matches!(code, 401 | 407 | 500..=599).then_some(Fault::Refusing(code))
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
            assert_eq!(outcome(code), expected, "{code}");
        }
    }

    #[test]
    fn only_errors_of_the_trunk_are_its_fault() {
        for code in [401, 407, 500, 503, 599] {
            assert_eq!(fault(code), Some(Fault::Refusing(code)));
        }
        for code in [302, 403, 404, 480, 486, 600, 603] {
            assert_eq!(fault(code), None, "{code}");
        }
    }
}
