//! Decision about a person who calls in.

use crate::Instant;
use crate::lifecycle::State;
use crate::schedule::Hours;

/// Knowledge of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundCaller {
    /// Not a contact: no contact of the campaign has the number.
    Unknown,
    /// Contact of the campaign.
    Known {
        /// Whether the contact opted out in this history generation.
        has_refused: bool,
    },
}

/// Campaign at the moment of the call.
#[derive(Clone, Copy, Debug)]
pub struct Reception {
    /// State of the campaign.
    pub state: State,
    /// Whether the run takes unknown callers: it is live forever, and may call the number back.
    pub takes_callers: bool,
    /// Calling hours in the caller's zone.
    pub hours: Hours,
}

/// Decision about the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Answer the call. An unknown caller becomes a contact first.
    Accept,
    /// Reject the call.
    TurnAway(TurnAway),
}

/// Reason for rejecting a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAway {
    /// The number is on the suppression list.
    Suppressed,
    /// The contact opted out.
    Refused,
    /// The campaign has no active run.
    NotRunning,
    /// The calling hours are closed, until this time if it is known.
    WindowClosed(Option<Instant>),
    /// The caller is not a contact, and the run takes no new ones.
    Unknown,
}

/// Decides about one caller. A wish for no contact takes precedence over everything the campaign
/// does.
#[must_use]
pub fn route(caller: InboundCaller, is_suppressed: bool, reception: &Reception) -> Route {
    let turn_away = |why| Route::TurnAway(why);
    if is_suppressed {
        return turn_away(TurnAway::Suppressed);
    }
    if caller == (InboundCaller::Known { has_refused: true }) {
        return turn_away(TurnAway::Refused);
    }
    if reception.state != State::Running {
        return turn_away(TurnAway::NotRunning);
    }
    match reception.hours {
        Hours::Open => {}
        Hours::ShutUntil(opening) => return turn_away(TurnAway::WindowClosed(Some(opening))),
        Hours::Shut => return turn_away(TurnAway::WindowClosed(None)),
    }
    if caller == InboundCaller::Unknown && !reception.takes_callers {
        return turn_away(TurnAway::Unknown);
    }
    Route::Accept
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: InboundCaller = InboundCaller::Known { has_refused: false };
    const REFUSED: InboundCaller = InboundCaller::Known { has_refused: true };

    fn reception(state: State, takes_callers: bool, hours: Hours) -> Reception {
        Reception { state, takes_callers, hours }
    }

    #[test]
    fn callers_are_answered_while_the_campaign_runs_and_its_hours_are_open() {
        let live = reception(State::Running, true, Hours::Open);
        let listed = reception(State::Running, false, Hours::Open);
        assert_eq!(route(KNOWN, false, &live), Route::Accept);
        assert_eq!(route(KNOWN, false, &listed), Route::Accept);
        assert_eq!(route(InboundCaller::Unknown, false, &live), Route::Accept);
        let unknown = Route::TurnAway(TurnAway::Unknown);
        assert_eq!(route(InboundCaller::Unknown, false, &listed), unknown);
        let shut = reception(State::Running, true, Hours::ShutUntil(Instant::UNIX_EPOCH));
        let closed = TurnAway::WindowClosed(Some(Instant::UNIX_EPOCH));
        assert_eq!(route(KNOWN, false, &shut), Route::TurnAway(closed));
        for state in State::ALL.into_iter().filter(|state| *state != State::Running) {
            let off = reception(state, true, Hours::Open);
            assert_eq!(route(KNOWN, false, &off), Route::TurnAway(TurnAway::NotRunning));
        }
    }

    #[test]
    fn who_asked_for_no_contact_is_never_answered() {
        for state in State::ALL {
            let reception = reception(state, true, Hours::Open);
            for caller in [InboundCaller::Unknown, KNOWN, REFUSED] {
                let suppressed = Route::TurnAway(TurnAway::Suppressed);
                assert_eq!(route(caller, true, &reception), suppressed);
            }
            let refused = Route::TurnAway(TurnAway::Refused);
            assert_eq!(route(REFUSED, false, &reception), refused);
        }
    }

    #[test]
    fn a_caller_is_told_when_the_hours_open_if_they_do() {
        let shut = reception(State::Running, true, Hours::Shut);
        let closed = Route::TurnAway(TurnAway::WindowClosed(None));
        assert_eq!(route(InboundCaller::Unknown, false, &shut), closed);
    }
}
