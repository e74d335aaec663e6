//! The reason that the service names for an idle campaign, compared with what could happen.

use crate::world::{CONTACTS, World, hours};
use campaign_domain::Instant;
use campaign_domain::eligibility::Verdict;
use campaign_domain::lifecycle::State;
use campaign_domain::schedule::Hours;
use campaign_domain::standing::{IdleReason, Scene, Standing, idle_reason};

/// Describes the world as `app::watch::idling` does.
fn scene(world: &World) -> Scene {
    let standings: Vec<Standing> = (0..CONTACTS).map(|contact| world.standing(contact)).collect();
    let is = |wanted: fn(&Standing) -> bool| standings.iter().any(wanted);
    let retries = standings.iter().filter_map(|standing| match standing {
        Standing::WaitingRetry(due_at) => Some(*due_at),
        _ => None,
    });
    let opens = (0..CONTACTS).filter(|contact| standings[*contact] == Standing::Waiting);
    let opens = opens.filter_map(|contact| match hours(contact, world.now) {
        Hours::Open => None,
        Hours::ShutUntil(opening) => Some(Some(opening)),
        Hours::Shut => Some(None),
    });
    Scene {
        state: world.state,
        is_anybody_waiting: is(|s| matches!(s, Standing::Waiting | Standing::WaitingRetry(_))),
        is_busy: is(|s| matches!(s, Standing::Leased | Standing::InCall)),
        is_anybody_callable: (0..CONTACTS).any(|contact| world.may_lease(contact, false)),
        throttled: None,
        shut: opens.min(),
        capped_until: None,
        next_retry: retries.min(),
    }
}

pub fn reason(world: &World) -> Option<IdleReason> {
    idle_reason(&scene(world)).map(|(reason, _)| reason)
}

/// Returns whether the reason is true: once it is gone, somebody can be called.
pub fn is_true(world: &World) -> bool {
    let scene = scene(world);
    let may_lease = |at: Instant| {
        let then = World { now: at, ..world.clone() };
        (0..CONTACTS).any(|contact| then.may_lease(contact, false))
    };
    let is_due = |at: Instant| {
        let then = World { now: at, ..world.clone() };
        (0..CONTACTS)
            .any(|contact| then.is_waiting[contact] && then.verdict(contact) == Verdict::Eligible)
    };
    let nobody = !may_lease(world.now);
    match idle_reason(&scene) {
        None => world.state == State::Running && scene.is_busy,
        Some((IdleReason::NotRunning, None)) => {
            !matches!(world.state, State::Running | State::Paused)
        }
        Some((IdleReason::Paused, None)) => world.state == State::Paused,
        Some((IdleReason::Exhausted, None)) => {
            nobody && !scene.is_busy && !scene.is_anybody_waiting
        }
        Some((IdleReason::NoWorker, None)) => !nobody,
        Some((IdleReason::WaitingRetry, Some(at))) => nobody && at > world.now && is_due(at),
        Some((IdleReason::WindowClosed, Some(at))) => nobody && at > world.now && may_lease(at),
        Some(_) => false,
    }
}
