//! Time of a reported fact, and the launch that it follows.

use crate::Instant;
use crate::settings::Epoch;
use chrono::TimeDelta;

/// Bound on the difference between a reporter's clock and ours. A fact that precedes a launch by
/// less than this counts as after it: in doubt, an exclusion applies.
const DOUBT: TimeDelta = TimeDelta::minutes(5);

/// One launch of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Number of the run that it began.
    pub run: i32,
    /// Time of the launch.
    pub launched_at: Instant,
    /// Epoch of history and completions since the launch.
    pub epoch: Epoch,
}

/// Returns when a fact happened: at the reported time, kept between the authorisation of its
/// attempt and now. A fact without a reported time happened when it arrived.
#[must_use]
pub fn happened_at(
    occurred_at: Option<Instant>,
    authorized_at: Option<Instant>,
    now: Instant,
) -> Instant {
    let reported = occurred_at.unwrap_or(now);
    authorized_at.map_or(reported, |earliest| reported.max(earliest)).min(now)
}

/// Returns the epoch of the last launch that a fact follows. `launches` are all launches, newest
/// first. A fact from before the first launch belongs to the first epoch.
#[must_use]
pub fn epoch_at(launches: &[Launch], happened_at: Instant) -> Epoch {
    let follows = |launch: &&Launch| happened_at > launch.launched_at - DOUBT;
    launches.iter().find(follows).map_or_else(Epoch::default, |launch| launch.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    #[test]
    fn a_fact_happened_between_the_authorisation_and_now() {
        let now = at(100);
        assert_eq!(happened_at(None, None, now), now);
        assert_eq!(happened_at(None, Some(at(50)), now), now);
        assert_eq!(happened_at(Some(at(60)), Some(at(50)), now), at(60));
        assert_eq!(happened_at(Some(at(40)), Some(at(50)), now), at(50));
        assert_eq!(happened_at(Some(at(40)), None, now), at(40));
        assert_eq!(happened_at(Some(at(101)), None, now), now, "a clock that is fast");
    }

    #[test]
    fn a_fact_counts_for_the_launch_that_it_follows_in_doubt_for_the_later_one() {
        let epoch = |generation, cycle| Epoch { generation, cycle };
        let launch = |run, minutes, epoch| Launch { run, launched_at: at(minutes), epoch };
        let launches =
            [launch(3, 300, epoch(1, 3)), launch(2, 200, epoch(0, 2)), launch(1, 100, epoch(0, 0))];
        for (minutes, expected) in [
            (400, epoch(1, 3)),
            (300, epoch(1, 3)),
            (296, epoch(1, 3)),
            (295, epoch(0, 2)),
            (196, epoch(0, 2)),
            (195, epoch(0, 0)),
            (1, epoch(0, 0)),
        ] {
            assert_eq!(epoch_at(&launches, at(minutes)), expected, "{minutes}");
        }
        assert_eq!(epoch_at(&[], at(0)), Epoch::default());
    }
}
