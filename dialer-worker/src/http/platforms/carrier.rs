//! Final answers of carriers, which platforms pass on.

use crate::call::{Fault, Outcome};
use crate::http::events::Shows;

/// Returns the outcome of a call that a carrier ended with a SIP code, and what that shows.
pub(super) fn ending(code: u16) -> (Outcome, Shows) {
    match code {
        404 | 410 | 484 | 604 => (Outcome::InvalidNumber, Shows::Unrung(code)),
        607 => (Outcome::Rejected, Shows::Works),
        486 | 600 | 603 => (Outcome::Busy, Shows::Works),
        401 | 402 | 403 | 407 | 429 | 488 | 500..=599 | 606 => {
            (Outcome::Congested, Shows::Fault(Fault::Refusing(code)))
        }
        _ => (Outcome::Failed, Shows::Unrung(code)),
    }
}
