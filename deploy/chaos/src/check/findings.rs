//! Findings of the judge.

use std::fmt;

/// Promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Promise: P1 to P7, or privacy.
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
