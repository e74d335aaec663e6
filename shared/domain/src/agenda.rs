//! Times at which an active campaign needs the service: the clock's next act, and the next contact
//! to hand out. A campaign that needs nothing costs nothing.

use crate::Instant;
use crate::campaign::Campaign;
use crate::lifecycle::State;
use crate::schedule::Hours;

/// Entry of a campaign in the agenda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Time at which the clock may start or end the run; `None` if never.
    pub clock_at: Option<Instant>,
    /// Time from which the run may have contacts to hand out; `None` until something changes.
    pub work_at: Option<Instant>,
    /// Whether the run ends when its list is done.
    pub ends_when_done: bool,
}

/// Returns the entry of a campaign after a command, or `None` if no time changes anything.
///
/// A run that begins or goes on may have contacts, and may have none at all. So both are looked at
/// now.
#[must_use]
pub fn entry(campaign: &Campaign, now: Instant) -> Option<Entry> {
    let ends_when_done = !campaign.is_live_forever();
    let plan = campaign.plan(campaign.is_live_forever());
    match campaign.state {
        State::Scheduled => {
            // A start time that was cleared has come.
            let clock_at = Some(plan.start_time.unwrap_or(now));
            Some(Entry { clock_at, work_at: None, ends_when_done })
        }
        State::Running => {
            let clock_at = if ends_when_done { Some(now) } else { next_end(campaign) };
            Some(Entry { clock_at, work_at: Some(now), ends_when_done })
        }
        State::Draft | State::Paused | State::Completed | State::Cancelled => None,
    }
}

/// Returns when the clock may end a run whose list is not done.
#[must_use]
pub fn next_end(campaign: &Campaign) -> Option<Instant> {
    let end_time = campaign.config.schedule.as_ref()?.end_time;
    end_time.filter(|_| campaign.state == State::Running && !campaign.is_live_forever())
}

/// Returns whether an entry in the agenda is late, or missing. An entry that is early only costs a
/// look. An entry that should not be there is looked at again and again.
#[must_use]
pub fn is_late(known: Option<Entry>, right: Option<Entry>, now: Instant) -> bool {
    let (Some(known), Some(right)) = (known, right) else {
        return known.is_some() != right.is_some();
    };
    let is_later = |known: Option<Instant>, right: Option<Instant>| {
        right.is_some_and(|right| known.is_none_or(|known| known > right.max(now)))
    };
    is_later(known.clock_at, right.clock_at)
        || is_later(known.work_at, right.work_at)
        || known.ends_when_done != right.ends_when_done
}

/// Outlook of a group of contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Hours of the group.
    pub hours: Hours,
    /// Whether contacts wait ahead of the frontier.
    pub is_anybody_ahead: bool,
    /// Time at which the first contact behind the frontier is due.
    pub first_due: Option<Instant>,
}

impl Outlook {
    /// Returns the time from which the group may have contacts to hand out.
    fn work_at(&self, now: Instant) -> Option<Instant> {
        let first = if self.is_anybody_ahead { Some(now) } else { self.first_due }?.max(now);
        match self.hours {
            Hours::Open => Some(first),
            Hours::ShutUntil(opening) => Some(first.max(opening)),
            Hours::Shut => None,
        }
    }
}

/// Returns the time from which a run with these groups may have contacts to hand out.
#[must_use]
pub fn work_at(groups: impl IntoIterator<Item = Outlook>, now: Instant) -> Option<Instant> {
    groups.into_iter().filter_map(|group| group.work_at(now)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Tenant;
    use crate::campaign::Config;
    use crate::schedule::Schedule;
    use crate::settings::LaunchSettings;
    use chrono::TimeDelta;
    use uuid::Uuid;

    const NOW: Instant = Instant::UNIX_EPOCH;

    fn at(seconds: i64) -> Instant {
        NOW + TimeDelta::seconds(seconds)
    }

    fn campaign(state: State, live_forever: bool) -> Campaign {
        let schedule = Schedule {
            start_time: Some(at(10)),
            end_time: Some(at(20)),
            time_zone: "UTC".to_owned(),
            windows: Vec::new(),
            blackout_dates: Vec::new(),
        };
        let config = Config { schedule: Some(schedule), ..Config::default() };
        let draft = Campaign::draft(Uuid::nil(), Tenant::default(), config, NOW);
        let settings = LaunchSettings { live_forever, ..LaunchSettings::default() };
        draft.launched(state, settings, 0)
    }

    #[test]
    fn a_campaign_that_waits_for_nothing_has_no_entry() {
        for state in State::ALL {
            let is_active = matches!(state, State::Scheduled | State::Running);
            assert_eq!(entry(&campaign(state, false), NOW).is_some(), is_active, "{state:?}");
        }
    }

    #[test]
    fn the_clock_starts_a_run_at_its_time() {
        let scheduled = campaign(State::Scheduled, true);
        let starts = Entry { clock_at: Some(at(10)), work_at: None, ends_when_done: false };
        assert_eq!(entry(&scheduled, NOW), Some(starts));
        let mut cleared = scheduled;
        cleared.config.schedule.as_mut().expect("it has one").start_time = None;
        assert_eq!(entry(&cleared, NOW).expect("an entry").clock_at, Some(NOW));
    }

    #[test]
    fn a_run_that_begins_is_looked_at_now() {
        let finite = Entry { clock_at: Some(NOW), work_at: Some(NOW), ends_when_done: true };
        assert_eq!(entry(&campaign(State::Running, false), NOW), Some(finite));
        let endless = Entry { clock_at: None, work_at: Some(NOW), ends_when_done: false };
        assert_eq!(entry(&campaign(State::Running, true), NOW), Some(endless));
    }

    #[test]
    fn only_a_run_that_is_under_way_and_not_live_forever_has_an_end() {
        assert_eq!(next_end(&campaign(State::Running, false)), Some(at(20)));
        assert_eq!(next_end(&campaign(State::Running, true)), None);
        assert_eq!(next_end(&campaign(State::Paused, false)), None);
        let mut without = campaign(State::Running, false);
        without.config.schedule = None;
        assert_eq!(next_end(&without), None);
    }

    #[test]
    fn an_entry_may_be_early_and_not_late() {
        let entry = |clock: Option<i64>, work: Option<i64>| {
            let (clock_at, work_at) = (clock.map(at), work.map(at));
            Some(Entry { clock_at, work_at, ends_when_done: true })
        };
        let right = entry(Some(5), Some(7));
        assert!(!is_late(right, right, NOW));
        assert!(!is_late(entry(Some(4), Some(6)), right, NOW), "early");
        assert!(is_late(entry(Some(6), Some(7)), right, NOW));
        assert!(is_late(entry(Some(5), Some(8)), right, NOW));
        assert!(is_late(entry(None, Some(7)), right, NOW));
        assert!(is_late(entry(Some(5), None), right, NOW));
        assert!(!is_late(right, entry(None, None), NOW), "never needs no look");
        assert!(!is_late(entry(Some(9), Some(9)), right, at(9)), "both are due now");
        assert!(is_late(entry(Some(10), Some(9)), right, at(9)));
        assert!(is_late(None, right, NOW));
        assert!(is_late(right, None, NOW), "looked at for nothing");
        assert!(!is_late(None, None, NOW));
        let other = right.map(|right| Entry { ends_when_done: false, ..right });
        assert!(is_late(other, right, NOW));
    }

    #[test]
    fn a_run_sleeps_until_somebody_waits_in_open_hours() {
        let group = |hours, is_anybody_ahead, due: Option<i64>| Outlook {
            hours,
            is_anybody_ahead,
            first_due: due.map(at),
        };
        let (open, later) = (Hours::Open, Hours::ShutUntil(at(30)));
        for (outlook, wakes) in [
            (group(open, true, None), Some(0)),
            (group(open, true, Some(9)), Some(0)),
            (group(open, false, Some(9)), Some(9)),
            (group(open, false, Some(-9)), Some(0)),
            (group(open, false, None), None),
            (group(later, true, None), Some(30)),
            (group(later, false, Some(9)), Some(30)),
            (group(later, false, Some(40)), Some(40)),
            (group(later, false, None), None),
            (group(Hours::Shut, true, Some(9)), None),
        ] {
            assert_eq!(work_at([outlook], NOW), wakes.map(at), "{outlook:?}");
        }
        let all = [group(later, true, None), group(open, false, Some(9)), group(open, false, None)];
        assert_eq!(work_at(all, NOW), Some(at(9)));
    }
}
