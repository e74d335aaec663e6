//! Findings of the judge.

use std::fmt;
use std::time::Duration;

/// Promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Promise: P1 to P7, P10, or privacy.
    pub promise: &'static str,
    /// Campaign concerned, or the log.
    pub campaign: String,
    /// Description of the violation.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}", self.promise, self.campaign, self.what)
    }
}

/// Findings of a round.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Violations found; a good round has none.
    pub violations: Vec<Violation>,
    /// Number of authorised attempts.
    pub authorized: usize,
    /// Number of phones that rang.
    pub rang: usize,
    /// Number of facts in history.
    pub facts: usize,
    /// Number of people who were erased and not re-admitted.
    pub erased: usize,
    /// Number of phones that began to ring after an OK to a stop or an opt-out, authorised before it.
    pub rang_late: usize,
    /// Longest time between such an OK and the ring.
    pub latest: Duration,
}

/// Findings about one campaign.
pub(super) struct Findings<'a> {
    pub(super) campaign: &'a str,
    pub(super) violations: &'a mut Vec<Violation>,
}

impl Findings<'_> {
    /// Notes a violation unless `is_kept` holds.
    pub(super) fn expect(
        &mut self,
        is_kept: bool,
        promise: &'static str,
        what: impl FnOnce() -> String,
    ) {
        if !is_kept {
            let campaign = self.campaign.to_owned();
            self.violations.push(Violation { promise, campaign, what: what() });
        }
    }
}
