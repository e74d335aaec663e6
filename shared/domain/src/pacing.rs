//! Limits of a campaign's call rate and simultaneous calls, over all workers.

use crate::Instant;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// Highest rate and number of calls that can be set.
pub const MAX_CALLS_LIMIT: i32 = 100_000;
/// Highest weight.
pub const MAX_WEIGHT: i32 = 100;
/// Lead that calls may have over an even pace, so that several can be authorised at once.
const BURST: TimeDelta = TimeDelta::milliseconds(100);
/// Delay before asking again if all allowed calls are in progress. The end of a call is not
/// predictable.
const FULL_RETRY: TimeDelta = TimeDelta::milliseconds(250);
/// Seconds of calls that one lease may cover, so that other workers get contacts too.
const LEASE_SECONDS: i32 = 5;

/// Limits of one campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pacing {
    /// New calls per second; 0 means no limit.
    pub max_calls_per_second: i32,
    /// Simultaneous calls; 0 means no limit.
    pub max_calls_in_progress: i32,
    /// Weight beside other campaigns when they share workers, 1 to 100.
    pub weight: i32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { max_calls_per_second: 0, max_calls_in_progress: 0, weight: 1 }
    }
}

/// Decision about new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Calls that may begin now.
    pub calls: usize,
    /// Pace after these calls, to be stored.
    pub next_call_at: Instant,
    /// Delay until the next call, if fewer calls may begin than were wanted.
    pub retry_after: TimeDelta,
}

impl Pacing {
    /// Whether calls must be counted.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.max_calls_per_second > 0 || self.max_calls_in_progress > 0
    }

    /// Decides how many of `wanted` calls may begin, given the calls in progress. `next_call_at` is
    /// the stored pace: the time of the next call at an even pace.
    ///
    /// In any second, the calls exceed the rate by at most a tenth, or by one.
    #[must_use]
    pub fn allow(
        &self,
        wanted: usize,
        in_progress: usize,
        next_call_at: Instant,
        now: Instant,
    ) -> Allowance {
        let free = match usize::try_from(self.max_calls_in_progress) {
            Ok(max) if max > 0 => max.saturating_sub(in_progress),
            _ => usize::MAX,
        };
        let by_places = wanted.min(free);
        let Some(interval) = self.interval() else {
            return Allowance { calls: by_places, next_call_at, retry_after: FULL_RETRY };
        };
        // Generic cell rate algorithm: each call advances the even pace by one interval. No call
        // may be ahead of that pace by more than the burst.
        let pace = next_call_at.max(now);
        let ahead = (now + BURST - pace).num_microseconds().unwrap_or(0);
        let by_rate = if ahead < 0 { 0 } else { ahead / interval + 1 };
        let calls = by_places.min(usize::try_from(by_rate).unwrap_or(0));
        let begun = i64::try_from(calls).unwrap_or(i64::MAX);
        let next_call_at = pace + TimeDelta::microseconds(interval.saturating_mul(begun));
        let by_rate_after = (next_call_at - BURST - now).max(TimeDelta::milliseconds(1));
        let retry_after = if calls == by_places { FULL_RETRY } else { by_rate_after };
        Allowance { calls, next_call_at, retry_after }
    }

    /// Returns the microseconds between two calls at an even pace.
    fn interval(&self) -> Option<i64> {
        (self.max_calls_per_second > 0).then(|| 1_000_000 / i64::from(self.max_calls_per_second))
    }

    /// Returns the most contacts that one worker may lease.
    #[must_use]
    pub fn lease_limit(&self) -> usize {
        let by_rate = self.max_calls_per_second.saturating_mul(LEASE_SECONDS);
        [by_rate, self.max_calls_in_progress]
            .into_iter()
            .filter(|limit| *limit > 0)
            .filter_map(|limit| usize::try_from(limit).ok())
            .min()
            .unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::milliseconds(millis)
    }

    fn rate(max_calls_per_second: i32) -> Pacing {
        Pacing { max_calls_per_second, ..Pacing::default() }
    }

    #[test]
    fn calls_in_progress_are_limited() {
        let pacing = Pacing { max_calls_in_progress: 10, ..Pacing::default() };
        assert_eq!(pacing.allow(5, 7, at(0), at(0)).calls, 3);
        assert_eq!(pacing.allow(5, 10, at(0), at(0)).calls, 0);
        // The limit was lowered meanwhile.
        assert_eq!(pacing.allow(5, 12, at(0), at(0)).calls, 0);
        assert_eq!(Pacing::default().allow(5, 1_000, at(0), at(0)).calls, 5);
    }

    #[test]
    fn a_slow_pace_lets_one_at_a_time() {
        let allowed = rate(1).allow(5, 0, at(0), at(0));
        assert_eq!((allowed.calls, allowed.next_call_at), (1, at(1_000)));
        assert_eq!(allowed.retry_after, TimeDelta::milliseconds(900));
        assert_eq!(rate(1).allow(5, 0, at(1_000), at(899)).calls, 0);
        assert_eq!(rate(1).allow(5, 0, at(1_000), at(900)).calls, 1);
        assert_eq!(
            rate(1).allow(5, 0, at(1_000), at(60_000)).calls,
            1,
            "idle time is not saved up"
        );
    }

    #[test]
    fn a_worker_is_handed_a_few_seconds_of_calls() {
        assert_eq!(Pacing::default().lease_limit(), usize::MAX);
        assert_eq!(rate(2).lease_limit(), 10);
        assert_eq!(Pacing { max_calls_in_progress: 4, ..rate(0) }.lease_limit(), 4);
        let both = Pacing { max_calls_in_progress: 4, ..rate(2) };
        assert_eq!(both.lease_limit(), 4);
    }

    #[test]
    fn calls_are_counted_if_there_is_any_limit() {
        assert!(!Pacing::default().is_limited());
        assert!(rate(1).is_limited());
        assert!(Pacing { max_calls_in_progress: 1, ..Pacing::default() }.is_limited());
    }

    #[test]
    fn a_pace_may_run_ahead_by_a_tenth_of_a_second() {
        // A call every 100 ms: one now, and one that is 100 ms ahead.
        let allowed = rate(10).allow(5, 0, at(0), at(0));
        assert_eq!((allowed.calls, allowed.next_call_at), (2, at(200)));
        assert_eq!(allowed.retry_after, TimeDelta::milliseconds(100));
        let early = rate(10).allow(5, 0, at(200), at(60));
        assert_eq!((early.calls, early.next_call_at), (0, at(200)));
        assert_eq!(early.retry_after, TimeDelta::milliseconds(40));
        assert_eq!(rate(10).allow(5, 0, at(200), at(100)).calls, 1);
    }

    #[test]
    fn who_waits_for_the_end_of_a_call_asks_again_in_a_quarter_of_a_second() {
        let full = Pacing { max_calls_in_progress: 1, ..rate(10) };
        let allowed = full.allow(5, 0, at(0), at(0));
        assert_eq!((allowed.calls, allowed.next_call_at), (1, at(100)));
        assert_eq!(allowed.retry_after, TimeDelta::milliseconds(250));
        let without_rate = Pacing { max_calls_per_second: 0, ..full };
        let allowed = without_rate.allow(5, 1, at(70), at(0));
        assert_eq!((allowed.calls, allowed.next_call_at), (0, at(70)));
        assert_eq!(allowed.retry_after, TimeDelta::milliseconds(250));
    }

    proptest! {
        /// No second exceeds the rate by more than a tenth, whatever the callers, times and
        /// numbers.
        #[test]
        fn no_second_has_more_than_the_rate(
            per_second in 1..300_i32,
            asked in proptest::collection::vec((0..400_i64, 1..200_usize), 1..60)
        ) {
            let pacing = rate(per_second);
            let (mut now, mut next) = (0, at(0));
            let mut begun: Vec<(i64, usize)> = Vec::new();
            for (wait, wanted) in asked {
                now += wait;
                let allowed = pacing.allow(wanted, 0, next, at(now));
                next = allowed.next_call_at;
                begun.push((now, allowed.calls));
            }
            let most = usize::try_from(per_second + per_second / 10 + 1).expect("positive");
            for (start, _) in &begun {
                let second = begun.iter().filter(|(at, _)| (*start..start + 1_000).contains(at));
                let calls: usize = second.map(|(_, calls)| calls).sum();
                prop_assert!(calls <= most, "{calls} calls in a second, rate {per_second}");
            }
        }
    }
}
