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
    /// A person answered, and no agent came.
    #[serde(default = "after_abandoned")]
    pub abandoned: RetryRule,
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

/// Returns the rule of campaigns from before there was this outcome. Several countries forbid to
/// call a person again within 72 hours of an abandoned call, if no agent is sure to be there.
const fn after_abandoned() -> RetryRule {
    rule(3, 72 * 3600)
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            no_answer: rule(3, 4 * 3600),
            busy: rule(3, 30 * 60),
            failed: rule(2, 3600),
            voicemail: rule(2, 24 * 3600),
            unknown: rule(2, 4 * 3600),
            abandoned: after_abandoned(),
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
            // The person may have heard the phone ring, whoever hung up, and was not reached.
            CallOutcome::NoAnswer | CallOutcome::Cancelled => self.no_answer,
            CallOutcome::Busy => self.busy,
            // An attempt that was given back too often counts as one that failed.
            CallOutcome::Failed | CallOutcome::Congested => self.failed,
            CallOutcome::Voicemail => self.voicemail,
            CallOutcome::Unknown => self.unknown,
            CallOutcome::Abandoned => self.abandoned,
        };
        (attempts < rule.max_attempts).then(|| now + TimeDelta::seconds(rule.min_delay_seconds))
    }
}

/// Most attempts of a contact that are given back in a cycle. The waits after them add up to about
/// an hour with the default first wait. A trunk that fails longer stops its worker before that. A
/// worker that calls every failure CONGESTED would otherwise dial for ever.
pub const MAX_GIVE_BACKS: i32 = 6;
/// Longest first wait that may be configured, so that the last wait is at most 32 hours.
pub const GIVE_BACK_WAIT_LIMIT_SECONDS: u32 = 3_600;

/// Rule for attempts in which no phone can have rung. Each is given back: it costs no attempt and no
/// place under the cap, and the contact waits a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GiveBacks {
    /// Wait after the first one in seconds. Each further wait is twice as long.
    pub first_wait_seconds: u32,
}

impl GiveBacks {
    /// Returns when the contact may be tried again after `given_back` earlier attempts were given
    /// back. Returns `None` if the attempt is not given back but counts as failed.
    #[must_use]
    pub fn next_attempt(self, given_back: i32, now: Instant) -> Option<Instant> {
        let doublings = u32::try_from(given_back).ok().filter(|_| given_back < MAX_GIVE_BACKS)?;
        let wait = i64::from(self.first_wait_seconds) << doublings;
        Some(now + TimeDelta::seconds(wait))
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
            abandoned: rule(2, 6),
        };
        let now = Instant::UNIX_EPOCH;
        for (outcome, seconds) in [
            (CallOutcome::NoAnswer, 1),
            (CallOutcome::Busy, 2),
            (CallOutcome::Failed, 3),
            (CallOutcome::Voicemail, 4),
            (CallOutcome::Unknown, 5),
            (CallOutcome::Abandoned, 6),
            (CallOutcome::Cancelled, 1),
            (CallOutcome::Congested, 3),
        ] {
            let next = |attempts| policy.next_attempt(outcome, attempts, now);
            assert_eq!(next(1), Some(now + TimeDelta::seconds(seconds)), "{outcome:?}");
            assert_eq!((next(2), next(3)), (None, None), "{outcome:?}");
        }
        for outcome in CallOutcome::ALL {
            let is_never_again = policy.next_attempt(outcome, 0, now).is_none();
            assert_eq!(is_never_again, outcome.is_final(), "{outcome:?}");
        }
    }

    #[test]
    fn an_attempt_is_given_back_a_few_times_with_growing_waits() {
        let give_backs = GiveBacks { first_wait_seconds: 60 };
        let now = Instant::UNIX_EPOCH;
        let waits = [60, 120, 240, 480, 960, 1_920];
        for (given_back, wait) in (0..).zip(waits) {
            let expected = Some(now + TimeDelta::seconds(wait));
            assert_eq!(give_backs.next_attempt(given_back, now), expected);
        }
        assert_eq!(give_backs.next_attempt(MAX_GIVE_BACKS, now), None);
        assert_eq!(give_backs.next_attempt(-1, now), None);
        let longest = GiveBacks { first_wait_seconds: GIVE_BACK_WAIT_LIMIT_SECONDS };
        let last = longest.next_attempt(MAX_GIVE_BACKS - 1, now);
        assert_eq!(last, Some(now + TimeDelta::hours(32)));
    }

    #[test]
    fn a_policy_from_before_abandoned_calls_has_their_default_rule() {
        let mut stored = serde_json::to_value(RetryPolicy::default()).expect("it is plain");
        let fields = stored.as_object_mut().expect("an object");
        fields.remove("abandoned").expect("the newest rule");
        let read: RetryPolicy = serde_json::from_value(stored).expect("the rest is enough");
        assert_eq!(read, RetryPolicy::default());
    }

    #[test]
    fn a_delay_is_at_most_30_days() {
        assert_eq!(MIN_DELAY_LIMIT_SECONDS, TimeDelta::days(30).num_seconds());
    }
}
