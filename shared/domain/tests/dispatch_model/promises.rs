//! Promises that must always hold, and situations that must occur. An onlooker judges them: it
//! records answers and compares them, independently of the service's own data.

use crate::idling;
use crate::model::{Action, Dispatch, Scope};
use crate::world::{
    Ask, Attempt, CONTACTS, GIVE_BACKS, MAX_ATTEMPTS, RETRY_DELAY_TICKS, World, hours,
};
use campaign_domain::Instant;
use campaign_domain::dispatch::Decision;
use campaign_domain::facts::CallOutcome;
use campaign_domain::lease::AttemptId;
use campaign_domain::lifecycle::State;
use campaign_domain::schedule::Hours;
use campaign_domain::standing::{IdleReason, Standing};
use chrono::TimeDelta;
use stateright::{Model, Property};

pub const P1: &str = "P1: a contact that waits is where its run finds it";
pub const P2_ONCE: &str = "P2: an attempt is authorised once";
pub const P2_ALONE: &str = "P2: no contact has two calls in progress";
pub const P2_UNKNOWN_WAITS: &str = "P2: after UNKNOWN the retry policy is waited for";
pub const P2_COUNTED: &str = "P2: UNKNOWN attempts count";
pub const GIVEN_BACK: &str = "an attempt that is given back counts for nothing";
pub const GIVEN_BACK_WAITS: &str = "after an attempt is given back, its wait is waited for";
pub const P3: &str = "P3: nothing is authorised after a pause or cancel has answered";
pub const P4: &str = "P4: nothing is authorised after an opt-out has answered";
pub const HOURS: &str = "nothing is authorised while the contact's hours are shut";
pub const IDLE: &str = "the idle reason is true of the state it names";
pub const P6: &str = "P6: a lease that ran out or was taken back authorises nothing";

/// Observations of the onlooker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Whether a pause or a cancel was answered, and no resume since.
    pub is_stopped: bool,
    /// Whether an opt-out was answered since the last reset, by contact.
    pub refused: [bool; CONTACTS],
    /// Attempts authorised since the last reset, by contact.
    pub attempts: [i32; CONTACTS],
    /// Time when an attempt last became UNKNOWN, by contact.
    pub unknown_at: [Option<Instant>; CONTACTS],
    /// Time when an attempt was last given back, by contact.
    pub given_back_at: [Option<Instant>; CONTACTS],
    /// Whether the real end of an attempt came after UNKNOWN.
    pub is_end_known_late: bool,
    pub granted_twice: bool,
    pub granted_beside_another: bool,
    pub granted_too_soon_after_unknown: bool,
    pub granted_too_soon_after_give_back: bool,
    pub granted_while_stopped: bool,
    pub granted_after_refusal: bool,
    pub granted_without_lease: bool,
    pub granted_in_shut_hours: bool,
}

/// Records that an attempt is authorised: committed, so its phone may ring.
pub fn note_grant(world: &mut World, id: AttemptId, contact: usize) {
    let is_in_progress = |attempt: &Attempt| {
        attempt.contact == contact && attempt.id != id && attempt.recorded.is_none()
    };
    let earliest = |unknown_at: Instant| unknown_at + TimeDelta::seconds(RETRY_DELAY_TICKS);
    let seen = &mut world.seen;
    seen.granted_twice |= world.attempts.iter().any(|attempt| attempt.id == id);
    seen.granted_beside_another |= world.attempts.iter().any(is_in_progress);
    seen.granted_too_soon_after_unknown |=
        seen.unknown_at[contact].is_some_and(|at| world.now < earliest(at));
    let wait = TimeDelta::seconds(GIVE_BACKS.first_wait_seconds.into());
    seen.granted_too_soon_after_give_back |=
        seen.given_back_at[contact].is_some_and(|at| world.now < at + wait);
    seen.granted_while_stopped |= seen.is_stopped;
    seen.granted_after_refusal |= seen.refused[contact];
    seen.attempts[contact] += 1;
}

/// Records that a request is answered with a grant, new or repeated. The lease is not taken back meanwhile.
pub fn note_yes(world: &mut World, ask: Ask) {
    let held = world.leases.iter().find(|held| held.number == ask.lease);
    let is_held = held.is_some_and(|held| held.terms.expires_at > world.now);
    let contact = held.and_then(|held| held.contacts.get(ask.slot)).copied();
    let is_open = contact.is_some_and(|contact| hours(contact, world.now) == Hours::Open);
    let is_refused = contact.is_some_and(|contact| world.seen.refused[contact]);
    world.seen.granted_without_lease |= !is_held;
    world.seen.granted_after_refusal |= is_refused;
    world.seen.granted_in_shut_hours |= !is_open;
}

/// Records that the real end of an UNKNOWN attempt arrives: nothing is left to wait for.
pub fn note_known(world: &mut World, contact: usize) {
    world.seen.unknown_at[contact] = None;
    world.seen.is_end_known_late = true;
}

/// Records that an attempt in progress is reported as CONGESTED.
pub fn note_given_back(world: &mut World, index: usize) {
    world.attempts[index].is_given_back = true;
    let Attempt { id, contact, .. } = world.attempts[index];
    if id.run == world.run {
        world.seen.attempts[contact] -= 1;
        world.seen.given_back_at[contact] = Some(world.now);
    }
}

/// Records that a run starts whose launch resets the history.
pub fn note_launch(world: &mut World) {
    let seen = &mut world.seen;
    seen.is_stopped = false;
    seen.refused = [false; CONTACTS];
    seen.attempts = [0; CONTACTS];
    seen.given_back_at = [None; CONTACTS];
}

/// Records that a lease with an attempt in progress is taken back.
pub fn note_unknown(world: &mut World, contact: usize) {
    world.seen.unknown_at[contact] = Some(world.now);
}

/// Whether history counts the attempts of the run that ended, and no other.
fn counts_as_ended(world: &World, contact: usize) -> bool {
    let counts = |attempt: &&Attempt| {
        let is_its = attempt.contact == contact && attempt.id.run == world.run;
        is_its && attempt.recorded.is_some() && !attempt.is_given_back
    };
    let state = world.candidate(contact).state.seen_in(world.campaign().epoch);
    usize::try_from(state.attempts) == Ok(world.attempts.iter().filter(counts).count())
}

/// Whether any request that may arrive now is answered with `wanted`.
fn is_answer(model: &Dispatch, world: &World, wanted: Decision) -> bool {
    world.questions().into_iter().any(|ask| model.decide(world, ask).0 == wanted)
}

fn has_recorded(world: &World, outcome: CallOutcome) -> bool {
    world.attempts.iter().any(|attempt| attempt.recorded == Some(outcome))
}

/// Returns the promises that always hold and the situations that occur at least once.
pub fn all(scope: Scope) -> Vec<Property<Dispatch>> {
    let mut all = never();
    all.extend(match scope {
        Scope::OneRun => {
            [met(), met_with_give_backs(), met_when_idle()].into_iter().flatten().collect()
        }
        Scope::Reset => met_around_a_reset(),
    });
    all
}

fn met_around_a_reset() -> Vec<Property<Dispatch>> {
    vec![
        Property::sometimes("a reset is launched during a call", |_, world: &World| {
            world.run == 2 && world.attempts.iter().any(|a| a.id.run == 1 && a.recorded.is_none())
        }),
        Property::sometimes("a contact of before a reset is called again", |_, world: &World| {
            let is_of = |run| world.attempts.iter().any(|a| a.id.run == run && a.contact == 0);
            is_of(1) && is_of(2)
        }),
        Property::sometimes("an attempt of before a reset becomes UNKNOWN", |_, world: &World| {
            world.run == 2 && has_recorded(world, CallOutcome::Unknown)
        }),
    ]
}

fn never() -> Vec<Property<Dispatch>> {
    vec![
        Property::always(P2_ONCE, |_, world: &World| !world.seen.granted_twice),
        Property::always(P2_ALONE, |_, world: &World| !world.seen.granted_beside_another),
        Property::always(P2_UNKNOWN_WAITS, |_, world: &World| {
            !world.seen.granted_too_soon_after_unknown
        }),
        Property::always(P2_COUNTED, |_, world: &World| {
            world.seen.attempts.iter().all(|attempts| *attempts <= MAX_ATTEMPTS)
        }),
        Property::always(GIVEN_BACK, |_, world: &World| {
            (0..CONTACTS).all(|contact| counts_as_ended(world, contact))
        }),
        Property::always(GIVEN_BACK_WAITS, |_, world: &World| {
            !world.seen.granted_too_soon_after_give_back
        }),
        Property::always(P1, |_, world: &World| {
            (0..CONTACTS).all(|contact| match world.standing(contact) {
                Standing::Waiting | Standing::WaitingRetry(_) => world.is_waiting[contact],
                Standing::Leased | Standing::InCall | Standing::Removed(_) => true,
            })
        }),
        Property::always(HOURS, |_, world: &World| !world.seen.granted_in_shut_hours),
        Property::always(IDLE, |_, world: &World| idling::is_true(world)),
        Property::always(P3, |_, world: &World| !world.seen.granted_while_stopped),
        Property::always(P4, |_, world: &World| !world.seen.granted_after_refusal),
        Property::always(P6, |_, world: &World| !world.seen.granted_without_lease),
    ]
}

fn met_with_give_backs() -> Vec<Property<Dispatch>> {
    vec![
        Property::sometimes("an attempt is given back", |_, world: &World| {
            world.attempts.iter().any(|attempt| attempt.is_given_back)
        }),
        Property::sometimes("a contact is called again after a give-back", |_, world: &World| {
            let is = |attempt: &Attempt, wanted| {
                attempt.contact == 0 && attempt.is_given_back == wanted && attempt.id.run == 1
            };
            world.attempts.iter().any(|attempt| is(attempt, true))
                && world.attempts.iter().any(|attempt| is(attempt, false))
        }),
    ]
}

fn met_when_idle() -> Vec<Property<Dispatch>> {
    vec![
        Property::sometimes("the campaign idles for want of a worker", |_, world: &World| {
            idling::reason(world) == Some(IdleReason::NoWorker)
        }),
        Property::sometimes("the campaign idles until a retry", |_, world: &World| {
            idling::reason(world) == Some(IdleReason::WaitingRetry)
        }),
        Property::sometimes("the campaign idles until hours open", |_, world: &World| {
            idling::reason(world) == Some(IdleReason::WindowClosed)
        }),
        Property::sometimes("the campaign has nobody left", |_, world: &World| {
            idling::reason(world) == Some(IdleReason::Exhausted)
        }),
    ]
}

fn met() -> Vec<Property<Dispatch>> {
    vec![
        Property::sometimes("an attempt becomes UNKNOWN", |_, world: &World| {
            has_recorded(world, CallOutcome::Unknown)
        }),
        Property::sometimes(
            "an UNKNOWN attempt's contact is authorised again",
            |_, world: &World| {
                (0..CONTACTS).any(|contact| {
                    world.seen.unknown_at[contact].is_some() && world.seen.attempts[contact] == 2
                })
            },
        ),
        Property::sometimes("the real end comes after UNKNOWN", |_, world: &World| {
            world.seen.is_end_known_late
        }),
        Property::sometimes("a stale worker is refused", |model, world: &World| {
            is_answer(model, world, Decision::LeaseLost)
        }),
        Property::sometimes("a worker is refused while paused", |model, world: &World| {
            world.state == State::Paused && is_answer(model, world, Decision::NotRunning)
        }),
        Property::sometimes("a worker is refused after a cancel", |model, world: &World| {
            world.state == State::Cancelled && is_answer(model, world, Decision::NotRunning)
        }),
        Property::sometimes("an opted-out contact is refused", |model, world: &World| {
            is_answer(model, world, Decision::Excluded)
        }),
        Property::sometimes("a question comes twice", |model, world: &World| {
            is_answer(model, world, Decision::AlreadyGranted)
        }),
        Property::sometimes("two replicas authorise at once", |_, world: &World| {
            world.deciding.len() == 2
        }),
        Property::sometimes("a worker dies during a call", |_, world: &World| {
            let is_lost =
                |a: &Attempt| !world.is_alive[a.worker] && a.has_rung && a.recorded.is_none();
            world.attempts.iter().any(is_lost)
        }),
        Property::sometimes("a call goes on in a pause", |_, world: &World| {
            world.state == State::Paused && world.attempts.iter().any(|a| a.recorded.is_none())
        }),
        Property::sometimes("a worker is refused while hours are shut", |model, world: &World| {
            is_answer(model, world, Decision::NotNow)
        }),
        Property::sometimes("everybody is finished", |_, world: &World| {
            world.contacts.iter().all(|contact| contact.0.finished)
        }),
        Property::sometimes(
            "a run goes on after a pause with an opt-out",
            |model, world: &World| {
                let refused = world.seen.refused.contains(&true);
                refused
                    && world.state == State::Running
                    && model
                        .next_steps(world)
                        .iter()
                        .any(|(action, _)| matches!(action, Action::Commit(_)))
            },
        ),
    ]
}
