//! Standing of a contact in a run, its next possible call, and the reason why a run calls nobody.

use crate::Instant;
use crate::eligibility::{Reason, Verdict};
use crate::lease::Slot;
use crate::lifecycle::State;
use crate::schedule::{Hours, Schedule};

/// Bucket of a contact; each contact is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Waits for a worker, its hours or the cap on attempts.
    Waiting,
    /// Waits at least until this time.
    WaitingRetry(Instant),
    /// Held by a worker, not dialled.
    Leased,
    /// In a call.
    InCall,
    /// Not engaged.
    Removed(Reason),
}

/// Returns the bucket of a contact with this verdict, held in this slot.
#[must_use]
pub fn standing(verdict: Verdict, slot: Option<Slot>) -> Standing {
    match (slot, verdict) {
        (Some(Slot::Authorized), _) => Standing::InCall,
        (_, Verdict::Removed(reason)) => Standing::Removed(reason),
        (Some(Slot::Leased), _) => Standing::Leased,
        (_, Verdict::NotBefore(due_at)) => Standing::WaitingRetry(due_at),
        (_, Verdict::Eligible) => Standing::Waiting,
    }
}

/// Last condition that a waiting contact waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// A worker; all else allows the call.
    Worker,
    /// The start of the schedule.
    Start(Instant),
    /// The delay that the retry policy or a call in progress requires.
    Retry(Instant),
    /// The cap on attempts per number.
    Cap(Instant),
    /// The contact's calling hours.
    Hours(Instant),
    /// Hours that do not open in the foreseeable future.
    NoHours,
    /// Nothing: the run ends at this time, before the contact could be called.
    End(Instant),
}

impl WaitsFor {
    /// Returns when the contact can be called; `None` when it can be now or never.
    #[must_use]
    pub fn until(self) -> Option<Instant> {
        match self {
            Self::Start(at) | Self::Retry(at) | Self::Cap(at) | Self::Hours(at) => Some(at),
            Self::Worker | Self::NoHours | Self::End(_) => None,
        }
    }
}

/// Times before which a waiting contact is not called, apart from its hours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// Earliest time by the contact's history.
    pub due_at: Option<Instant>,
    /// Earliest time by the cap on attempts.
    pub capped_until: Option<Instant>,
    /// End of the run, unless it is live forever.
    pub end_time: Option<Instant>,
}

/// Returns the last condition that a waiting contact in `contact_zone` (the schedule's when empty)
/// waits for.
#[must_use]
pub fn waits_for(waits: Waits, schedule: &Schedule, contact_zone: &str, now: Instant) -> WaitsFor {
    let mut found = (now, WaitsFor::Worker);
    for (at, waits_for) in [
        (schedule.start_time, WaitsFor::Start as fn(Instant) -> WaitsFor),
        (waits.due_at, WaitsFor::Retry),
        (waits.capped_until, WaitsFor::Cap),
    ] {
        if let Some(at) = at.filter(|at| *at > found.0) {
            found = (at, waits_for(at));
        }
    }
    // Hours are judged at the time when all else allows the call.
    match schedule.hours(contact_zone, found.0) {
        Hours::Open => {}
        Hours::ShutUntil(opening) => found = (opening, WaitsFor::Hours(opening)),
        Hours::Shut => return WaitsFor::NoHours,
    }
    match waits.end_time.filter(|end| *end <= found.0) {
        Some(end) => WaitsFor::End(end),
        None => found.1,
    }
}

/// Reason why a campaign calls nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleReason {
    /// No run is active, or the run has not begun.
    NotRunning,
    /// All callable contacts are outside their hours.
    WindowClosed,
    /// All remaining contacts wait for their next attempt.
    WaitingRetry,
    /// No contact is left to engage.
    Exhausted,
    /// A contact can be called, but no worker leases it.
    NoWorker,
    /// The numbers of all callable contacts have had their attempts of the day.
    Capped,
    /// Pacing allows no call now.
    Throttled,
    /// The run is paused.
    Paused,
    /// Workers report that their provider fails.
    ProviderFailing,
}

/// Facts that a run's idleness depends on.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// State of the campaign.
    pub state: State,
    /// Whether any contact of the run waits, for any reason.
    pub is_anybody_waiting: bool,
    /// Whether a worker holds a contact or is in a call.
    pub is_busy: bool,
    /// Whether a contact could be called at this moment, apart from pacing.
    pub is_anybody_callable: bool,
    /// Set if pacing allows no call, with the end of that wait if it is known.
    pub throttled: Option<Option<Instant>>,
    /// Next opening for contacts outside their hours; `Some(None)` means that none is in sight.
    pub shut: Option<Option<Instant>>,
    /// Time when the next contact is free of the cap on attempts.
    pub capped_until: Option<Instant>,
    /// Time when the next contact is due again.
    pub next_retry: Option<Instant>,
}

/// Returns why a campaign calls nobody, and until when if that is known. Returns `None` if it calls
/// somebody.
///
/// Among several reasons, the one that ends first counts: when it ends, a contact can be called.
#[must_use]
pub fn idle_reason(scene: &Scene) -> Option<(IdleReason, Option<Instant>)> {
    match scene.state {
        State::Running => {}
        State::Paused => return Some((IdleReason::Paused, None)),
        _ => return Some((IdleReason::NotRunning, None)),
    }
    if !scene.is_anybody_waiting {
        return (!scene.is_busy).then_some((IdleReason::Exhausted, None));
    }
    if scene.is_anybody_callable {
        return match scene.throttled {
            Some(until) => Some((IdleReason::Throttled, until)),
            None => (!scene.is_busy).then_some((IdleReason::NoWorker, None)),
        };
    }
    if scene.is_busy {
        return None;
    }
    let ends = [
        scene.next_retry.map(|at| (IdleReason::WaitingRetry, Some(at))),
        scene.capped_until.map(|at| (IdleReason::Capped, Some(at))),
        scene.shut.map(|opening| (IdleReason::WindowClosed, opening)),
    ];
    let key = |(_, until): &(IdleReason, Option<Instant>)| until.unwrap_or(Instant::MAX_UTC);
    // No reason applies: the waiting contacts are left to the next look.
    Some(ends.into_iter().flatten().min_by_key(key).unwrap_or((IdleReason::NoWorker, None)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(hours: i64) -> Instant {
        Instant::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    /// Returns a schedule that is open from 08:00 to 21:00 UTC.
    fn schedule() -> Schedule {
        Schedule {
            start_time: None,
            end_time: None,
            time_zone: "UTC".to_owned(),
            windows: Vec::new(),
            blackout_dates: Vec::new(),
        }
    }

    #[test]
    fn a_contact_waits_for_what_ends_last() {
        let ask = |waits, hour| waits_for(waits, &schedule(), "", at(hour));
        let due = |hour| Waits { due_at: Some(at(hour)), ..Waits::default() };
        assert_eq!(ask(Waits::default(), 9), WaitsFor::Worker);
        assert_eq!(ask(due(8), 9), WaitsFor::Worker);
        assert_eq!(ask(due(10), 9), WaitsFor::Retry(at(10)));
        assert_eq!(ask(Waits::default(), 7), WaitsFor::Hours(at(8)));
        assert_eq!(ask(due(22), 9), WaitsFor::Hours(at(32)), "due at night, called next morning");
        let capped = Waits { capped_until: Some(at(11)), ..due(10) };
        assert_eq!(ask(capped, 9), WaitsFor::Cap(at(11)));
        let ends = Waits { end_time: Some(at(30)), ..due(22) };
        assert_eq!(ask(ends, 9), WaitsFor::End(at(30)));
        let starts = Schedule { start_time: Some(at(12)), ..schedule() };
        assert_eq!(waits_for(due(10), &starts, "", at(9)), WaitsFor::Start(at(12)));
        assert_eq!(waits_for(due(10), &schedule(), "Mars/Olympus", at(9)), WaitsFor::NoHours);
    }

    #[test]
    fn of_several_reasons_the_first_to_end_counts() {
        let scene = Scene {
            state: State::Running,
            is_anybody_waiting: true,
            is_busy: false,
            is_anybody_callable: false,
            throttled: None,
            shut: Some(Some(at(3))),
            capped_until: Some(at(2)),
            next_retry: Some(at(4)),
        };
        let capped = Some((IdleReason::Capped, Some(at(2))));
        assert_eq!(idle_reason(&scene), capped);
        let retry = Scene { next_retry: Some(at(1)), ..scene };
        assert_eq!(idle_reason(&retry), Some((IdleReason::WaitingRetry, Some(at(1)))));
        let shut = Scene { capped_until: None, next_retry: None, shut: Some(None), ..scene };
        assert_eq!(idle_reason(&shut), Some((IdleReason::WindowClosed, None)));
        let busy = Scene { is_busy: true, ..scene };
        assert_eq!(idle_reason(&busy), None);
        let callable = Scene { is_anybody_callable: true, ..scene };
        assert_eq!(idle_reason(&callable), Some((IdleReason::NoWorker, None)));
        let throttled = Scene { throttled: Some(None), is_busy: true, ..callable };
        assert_eq!(idle_reason(&throttled), Some((IdleReason::Throttled, None)));
        let done = Scene { is_anybody_waiting: false, ..scene };
        assert_eq!(idle_reason(&done), Some((IdleReason::Exhausted, None)));
        let paused = Scene { state: State::Paused, ..callable };
        assert_eq!(idle_reason(&paused), Some((IdleReason::Paused, None)));
    }

    #[test]
    fn a_call_in_progress_counts_before_every_reason_and_a_lease_after() {
        let removed = Verdict::Removed(Reason::Refused);
        let later = Verdict::NotBefore(at(1));
        let (leased, in_call) = (Some(Slot::Leased), Some(Slot::Authorized));
        for verdict in [removed, later, Verdict::Eligible] {
            assert_eq!(standing(verdict, in_call), Standing::InCall, "{verdict:?}");
        }
        assert_eq!(standing(removed, leased), Standing::Removed(Reason::Refused));
        assert_eq!(standing(later, leased), Standing::Leased);
        for free in [None, Some(Slot::Ended), Some(Slot::Closed)] {
            assert_eq!(standing(removed, free), Standing::Removed(Reason::Refused));
            assert_eq!(standing(later, free), Standing::WaitingRetry(at(1)));
            assert_eq!(standing(Verdict::Eligible, free), Standing::Waiting);
        }
    }

    #[test]
    fn only_a_condition_that_ends_has_an_end() {
        for ends in [WaitsFor::Start, WaitsFor::Retry, WaitsFor::Cap, WaitsFor::Hours] {
            assert_eq!(ends(at(7)).until(), Some(at(7)));
        }
        for never in [WaitsFor::Worker, WaitsFor::NoHours, WaitsFor::End(at(7))] {
            assert_eq!(never.until(), None, "{never:?}");
        }
    }

    #[test]
    fn a_contact_whose_time_has_come_waits_for_a_worker_only() {
        let due = Waits { due_at: Some(at(9)), end_time: Some(at(10)), ..Waits::default() };
        assert_eq!(waits_for(due, &schedule(), "", at(9)), WaitsFor::Worker);
        assert_eq!(waits_for(due, &schedule(), "", at(10)), WaitsFor::End(at(10)));
        // The first of two conditions that end together counts.
        let both = Waits { capped_until: Some(at(9)), ..due };
        assert_eq!(waits_for(both, &schedule(), "", at(8)), WaitsFor::Retry(at(9)));
    }

    #[test]
    fn a_run_that_calls_somebody_is_not_idle() {
        let busy = Scene {
            state: State::Running,
            is_anybody_waiting: false,
            is_busy: true,
            is_anybody_callable: false,
            throttled: None,
            shut: None,
            capped_until: None,
            next_retry: None,
        };
        assert_eq!(idle_reason(&busy), None, "the last calls");
        let more = Scene { is_anybody_waiting: true, is_anybody_callable: true, ..busy };
        assert_eq!(idle_reason(&more), None);
        let unseen = Scene { is_anybody_callable: false, is_busy: false, ..more };
        assert_eq!(idle_reason(&unseen), Some((IdleReason::NoWorker, None)));
        for state in [State::Draft, State::Scheduled, State::Completed, State::Cancelled] {
            let off = Scene { state, ..more };
            assert_eq!(idle_reason(&off), Some((IdleReason::NotRunning, None)), "{state:?}");
        }
    }
}
