//! What must never be, and what must be met. An onlooker judges: it notes what was answered and compares,
//! and does not ask what the service knows.

use crate::model::{Action, CONTACTS, Decision, Dispatch, MAX_ATTEMPTS, RETRY_DELAY_TICKS, World};
use campaign_domain::Instant;
use campaign_domain::history::CallOutcome;
use campaign_domain::lease::AttemptId;
use campaign_domain::lifecycle::State;
use chrono::TimeDelta;
use stateright::{Model, Property};

pub const P2_ONCE: &str = "P2: an attempt is authorised once";
pub const P2_ALONE: &str = "P2: no contact has two calls in progress";
pub const P2_UNKNOWN_WAITS: &str = "P2: after UNKNOWN the retry policy is waited for";
pub const P2_COUNTED: &str = "P2: UNKNOWN attempts count";
pub const P3: &str = "P3: nothing is authorised after a pause or cancel has answered";
pub const P4: &str = "P4: nothing is authorised after an opt-out has answered";
pub const P6: &str = "P6: a lease that ran out or was taken back authorises nothing";

/// What the onlooker saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// A pause or a cancel was answered, and no resume since.
    pub is_stopped: bool,
    /// Opt-outs answered.
    pub refused: [bool; CONTACTS],
    /// Authorised so far.
    pub attempts: [i32; CONTACTS],
    /// When an attempt last became UNKNOWN.
    pub unknown_at: [Option<Instant>; CONTACTS],
    pub granted_twice: bool,
    pub granted_beside_another: bool,
    pub granted_too_soon_after_unknown: bool,
    pub granted_while_stopped: bool,
    pub granted_after_refusal: bool,
    pub granted_without_lease: bool,
}

/// An attempt is authorised: committed, so that its phone may ring.
pub fn note_grant(world: &mut World, id: AttemptId, contact: usize) {
    let is_in_progress = |attempt: &crate::model::Attempt| {
        attempt.contact == contact && attempt.id != id && attempt.recorded.is_none()
    };
    let earliest = |unknown_at: Instant| unknown_at + TimeDelta::seconds(RETRY_DELAY_TICKS);
    let seen = &mut world.seen;
    seen.granted_twice |= world.attempts.iter().any(|attempt| attempt.id == id);
    seen.granted_beside_another |= world.attempts.iter().any(is_in_progress);
    seen.granted_too_soon_after_unknown |=
        seen.unknown_at[contact].is_some_and(|at| world.now < earliest(at));
    seen.granted_while_stopped |= seen.is_stopped;
    seen.granted_after_refusal |= seen.refused[contact];
    seen.attempts[contact] += 1;
}

/// A question is answered with yes, to be committed: nobody takes the lease back meanwhile.
pub fn note_yes(world: &mut World, lease: i64) {
    let held = world.leases.iter().find(|held| held.number == lease);
    world.seen.granted_without_lease |= held.is_none_or(|held| held.expires_at <= world.now);
}

/// A lease with an attempt in progress is taken back.
pub fn note_unknown(world: &mut World, contact: usize) {
    world.seen.unknown_at[contact] = Some(world.now);
}

/// Whether some question that may arrive is answered so now.
fn is_answer(model: &Dispatch, world: &World, wanted: Decision) -> bool {
    world.questions().into_iter().any(|ask| model.decide(world, ask) == wanted)
}

fn has_recorded(world: &World, outcome: CallOutcome) -> bool {
    world.attempts.iter().any(|attempt| attempt.recorded == Some(outcome))
}

/// What never is, and what is met at least once.
pub fn all() -> Vec<Property<Dispatch>> {
    let mut all = never();
    all.extend(met());
    all
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
        Property::always(P3, |_, world: &World| !world.seen.granted_while_stopped),
        Property::always(P4, |_, world: &World| !world.seen.granted_after_refusal),
        Property::always(P6, |_, world: &World| !world.seen.granted_without_lease),
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
            (0..CONTACTS).any(|contact| {
                let of_it = |outcome| {
                    let is = |a: &crate::model::Attempt| {
                        a.contact == contact && a.recorded == Some(outcome)
                    };
                    world.attempts.iter().any(is)
                };
                world.seen.unknown_at[contact].is_some()
                    && of_it(CallOutcome::Answered)
                    && world.seen.attempts[contact] == 1
            })
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
            let is_lost = |a: &crate::model::Attempt| {
                !world.is_alive[a.worker] && a.has_rung && a.recorded.is_none()
            };
            world.attempts.iter().any(is_lost)
        }),
        Property::sometimes("a call goes on in a pause", |_, world: &World| {
            world.state == State::Paused && world.attempts.iter().any(|a| a.recorded.is_none())
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
