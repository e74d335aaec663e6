//! Retries of contacts that were not reached.

use crate::Instant;
use crate::facts::CallOutcome;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// Most attempts that a rule may allow.
pub const MAX_ATTEMPTS_LIMIT: i32 = 20;
/// Longest delay that a rule may require.
pub const MIN_DELAY_LIMIT_SECONDS: i64 = 30 * 24 * 3600;

/// Rule for each outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Nobody answered.
    pub no_answer: RetryRule,
    /// The line was busy.
    pub busy: RetryRule,
    /// The call could not be placed.
    pub failed: RetryRule,
    /// A machine answered.
    pub voicemail: RetryRule,
    /// The end of the attempt is unknown.
    pub unknown: RetryRule,
}

/// Rule: retry after at least `min_delay_seconds`, while fewer than `max_attempts` were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRule {
    /// Most attempts, over all outcomes since the contact last started afresh, 1 to 20.
    pub max_attempts: i32,
    /// Least delay, 0 to 30 days. After an unknown end, the service's own least delay applies if it
    /// is longer.
    pub min_delay_seconds: i64,
}

const fn rule(max_attempts: i32, min_delay_seconds: i64) -> RetryRule {
    RetryRule { max_attempts, min_delay_seconds }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            no_answer: rule(3, 4 * 3600),
            busy: rule(3, 30 * 60),
            failed: rule(2, 3600),
            voicemail: rule(2, 24 * 3600),
            unknown: rule(2, 4 * 3600),
        }
    }
}

impl RetryPolicy {
    /// Returns the policy with a least delay after an attempt with an unknown end, because its
    /// phone may still ring.
    #[must_use]
    pub fn with_unknown_wait(mut self, least_seconds: i64) -> Self {
        let wait = &mut self.unknown.min_delay_seconds;
        *wait = least_seconds.max(*wait);
        self
    }

    /// Returns when to retry after `attempts` attempts, the last of which ended in `outcome` at
    /// `now`. Returns `None` if the contact is finished.
    #[must_use]
    pub fn next_attempt(
        &self,
        outcome: CallOutcome,
        attempts: i32,
        now: Instant,
    ) -> Option<Instant> {
        let rule = match outcome {
            CallOutcome::Answered | CallOutcome::Rejected | CallOutcome::InvalidNumber => {
                return None;
            }
            CallOutcome::NoAnswer | CallOutcome::Abandoned | CallOutcome::Cancelled => {
                self.no_answer
            }
            CallOutcome::Busy => self.busy,
            CallOutcome::Failed | CallOutcome::Congested => self.failed,
            CallOutcome::Voicemail => self.voicemail,
            CallOutcome::Unknown => self.unknown,
        };
        (attempts < rule.max_attempts).then(|| now + TimeDelta::seconds(rule.min_delay_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unknown_end_has_a_least_wait() {
        let policy =
            RetryPolicy { unknown: rule(2, 0), busy: rule(2, 0), ..RetryPolicy::default() };
        let policy = policy.with_unknown_wait(300);
        let now = Instant::UNIX_EPOCH;
        let next = |outcome| policy.next_attempt(outcome, 1, now);
        assert_eq!(next(CallOutcome::Unknown), Some(now + TimeDelta::seconds(300)));
        assert_eq!(next(CallOutcome::Busy), Some(now));
        assert_eq!(RetryPolicy::default().with_unknown_wait(300), RetryPolicy::default());
    }

    #[test]
    fn each_outcome_has_its_rule_and_attempts_run_out() {
        let policy = RetryPolicy {
            no_answer: rule(2, 1),
            busy: rule(2, 2),
            failed: rule(2, 3),
            voicemail: rule(2, 4),
            unknown: rule(2, 5),
        };
        let now = Instant::UNIX_EPOCH;
        for (outcome, seconds) in [
            (CallOutcome::NoAnswer, 1),
            (CallOutcome::Busy, 2),
            (CallOutcome::Failed, 3),
            (CallOutcome::Voicemail, 4),
            (CallOutcome::Unknown, 5),
        ] {
            let next = |attempts| policy.next_attempt(outcome, attempts, now);
            assert_eq!(next(1), Some(now + TimeDelta::seconds(seconds)), "{outcome:?}");
            assert_eq!((next(2), next(3)), (None, None), "{outcome:?}");
        }
        assert_eq!(policy.next_attempt(CallOutcome::Answered, 0, now), None);
    }

    #[test]
    fn a_delay_is_at_most_30_days() {
        assert_eq!(MIN_DELAY_LIMIT_SECONDS, TimeDelta::days(30).num_seconds());
    }
}
