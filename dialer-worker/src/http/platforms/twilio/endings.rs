//! Endings of Twilio's calls and texts.

use super::super::carrier;
use crate::call::{Fact, Fault, Outcome};
use crate::http::config::Channel;
use crate::http::events::{Shows, What};
use crate::http::platform::Means;

/// Meaning of one of Twilio's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The contact cannot be reached; the line was tried.
    Line(Outcome),
    /// The contact cannot be reached, or nobody can.
    Unrung(Outcome),
    /// The contact opted out at Twilio.
    OptedOut,
    /// The account, or its number.
    Account,
}

/// Error codes: those of rejected requests, then those of texts that failed later.
const CODES: &[(u16, Meaning)] = &[
    // Account or number of ours.
    (10_001, Meaning::Account),
    (10_002, Meaning::Account),
    (10_004, Meaning::Account),
    (20_003, Meaning::Account),
    (20_005, Meaning::Account),
    (20_429, Meaning::Account),
    (21_210, Meaning::Account),
    (21_212, Meaning::Account),
    (21_603, Meaning::Account),
    (21_606, Meaning::Account),
    (21_611, Meaning::Account),
    (21_659, Meaning::Account),
    // Number of the contact.
    (13_223, Meaning::Unrung(Outcome::InvalidNumber)),
    (13_224, Meaning::Unrung(Outcome::InvalidNumber)),
    (21_211, Meaning::Unrung(Outcome::InvalidNumber)),
    (21_214, Meaning::Unrung(Outcome::InvalidNumber)),
    (21_217, Meaning::Unrung(Outcome::InvalidNumber)),
    (21_614, Meaning::Unrung(Outcome::InvalidNumber)),
    (21_610, Meaning::OptedOut),
    // Countries and numbers that the account may not reach.
    (21_215, Meaning::Unrung(Outcome::Failed)),
    (21_216, Meaning::Unrung(Outcome::Failed)),
    (21_219, Meaning::Unrung(Outcome::Failed)),
    (21_408, Meaning::Unrung(Outcome::Failed)),
    (21_608, Meaning::Unrung(Outcome::Failed)),
    (21_612, Meaning::Unrung(Outcome::Failed)),
    // Texts that failed later.
    (30_001, Meaning::Account),
    (30_002, Meaning::Account),
    (30_003, Meaning::Line(Outcome::NoAnswer)),
    (30_004, Meaning::Line(Outcome::Rejected)),
    (30_005, Meaning::Line(Outcome::InvalidNumber)),
    (30_006, Meaning::Line(Outcome::InvalidNumber)),
    (30_007, Meaning::Unrung(Outcome::Failed)),
    (30_008, Meaning::Unrung(Outcome::Failed)),
    (30_009, Meaning::Unrung(Outcome::Failed)),
    (30_010, Meaning::Account),
    (30_022, Meaning::Account),
    (30_023, Meaning::Account),
    (30_032, Meaning::Account),
    (30_034, Meaning::Account),
];

fn meaning(code: u16) -> Meaning {
    let row = CODES.iter().find(|(own, _)| *own == code);
    row.map_or(Meaning::Unrung(Outcome::Failed), |(_, meaning)| *meaning)
}

/// Returns the meaning of a rejected request.
pub(super) fn rejection(code: u16) -> Means {
    match meaning(code) {
        Meaning::Line(outcome) | Meaning::Unrung(outcome) => Means::Contact(outcome),
        Meaning::OptedOut => Means::OptedOut,
        Meaning::Account => Means::Provider,
    }
}

/// Returns the ending of a call with the status `failed`.
pub(super) fn call_ending(sip_code: Option<u16>, error_code: Option<u16>) -> (Outcome, Shows) {
    if let Some(code) = error_code
        && meaning(code) == Meaning::Account
    {
        return (Outcome::Congested, Shows::Fault(Fault::Refusing(code)));
    }
    sip_code.map_or((Outcome::Failed, Shows::Unrung(500)), carrier::ending)
}

/// Returns the ending of a text with the status `failed` or `undelivered`, and the opt-out that it
/// may tell.
pub(super) fn message_ending(error_code: Option<u16>) -> (Outcome, Shows, Option<What>) {
    let code = error_code.unwrap_or(500);
    match meaning(code) {
        Meaning::Line(outcome) => (outcome, Shows::Works, None),
        Meaning::Unrung(outcome) => (outcome, Shows::Unrung(code), None),
        Meaning::OptedOut => {
            let opted_out =
                Fact::OptedOut { channel: Channel::Sms.name().to_owned(), everywhere: true };
            (Outcome::Rejected, Shows::Works, Some(What::Fact(opted_out)))
        }
        Meaning::Account => (Outcome::Congested, Shows::Fault(Fault::Refusing(code)), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once() {
        let mut codes: Vec<_> = CODES.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        let before = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), before);
    }

    #[test]
    fn a_rejection_is_the_accounts_the_contacts_or_an_opt_out() {
        assert_eq!(rejection(21_610), Means::OptedOut);
        assert_eq!(rejection(21_211), Means::Contact(Outcome::InvalidNumber));
        assert_eq!(rejection(21_606), Means::Provider);
        assert_eq!(rejection(29_999), Means::Contact(Outcome::Failed));
    }

    #[test]
    fn failed_calls_are_told_apart_by_the_carriers_answer() {
        let fault = |code| Shows::Fault(Fault::Refusing(code));
        for (sip, error, expected) in [
            (Some(404), None, (Outcome::InvalidNumber, Shows::Unrung(404))),
            (Some(607), None, (Outcome::Rejected, Shows::Works)),
            (Some(603), None, (Outcome::Busy, Shows::Works)),
            (Some(503), None, (Outcome::Congested, fault(503))),
            (Some(404), Some(10_004), (Outcome::Congested, fault(10_004))),
            (None, None, (Outcome::Failed, Shows::Unrung(500))),
        ] {
            assert_eq!(call_ending(sip, error), expected, "{sip:?} {error:?}");
        }
    }
}
