//! Final answers of carriers, which platforms pass on.

use crate::call::Outcome;
use crate::call::sip_codes;
use crate::http::events::Shows;

/// Returns the outcome of a call that a carrier ended with a SIP code, and what that shows.
pub(super) fn ending(code: u16) -> (Outcome, Shows) {
    let outcome = match sip_codes::outcome(code, false) {
        // The platform says that the call is over, whatever the code.
        Outcome::Unknown => Outcome::Failed,
        outcome => outcome,
    };
    let shows = match (sip_codes::fault(code), outcome) {
        (Some(fault), _) => Shows::Fault(fault),
        // 608 may be the answer to this caller's number, whoever is called.
        (None, Outcome::Busy | Outcome::Rejected) if code != 608 => Shows::Works,
        (None, _) => Shows::Unrung(code),
    };
    (outcome, shows)
}
