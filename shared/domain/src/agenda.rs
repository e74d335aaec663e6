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
