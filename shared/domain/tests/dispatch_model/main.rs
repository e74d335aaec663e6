//! Explores every order of events at a small size: two workers, two contacts, and leases that
//! expire. Messages come late or twice, and replicas authorise at the same time. The domain's own
//! types decide. The model adds only the effects of the transactions in `campaign-service/src/app`.
//! Each promise is also shown to fail once its safeguard is removed.
#![forbid(unsafe_code)]

mod effects;
mod idling;
mod model;
mod promises;
mod world;

use model::{Break, Dispatch, Scope};
use stateright::{Checker, Model};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

fn explore(scope: Scope) {
    let started = Instant::now();
    let model = Dispatch { scope, broken: None };
    let checker = model.checker().threads(2).timeout(PATIENCE).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("{states} states, {depth} deep");
    assert!(started.elapsed() < PATIENCE, "not all states were seen in time");
    // Checks also that every wanted situation occurred. Otherwise the promises could hold for lack
    // of trouble.
    checker.assert_properties();
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn the_promises_hold_in_every_order_of_events_of_a_run() {
    explore(Scope::OneRun);
}

#[test]
fn the_promises_hold_in_every_order_of_events_around_a_reset() {
    explore(Scope::Reset);
}

#[test]
fn each_promise_fails_without_what_keeps_it() {
    use Scope::{OneRun, Reset};
    let breaks = [
        (OneRun, Break::SlotGrantedTwice, promises::P2_ONCE),
        (OneRun, Break::UnknownRetriedAtOnce, promises::P2_UNKNOWN_WAITS),
        (OneRun, Break::StateNotAsked, promises::P3),
        (OneRun, Break::CommandsPassNoGate, promises::P3),
        (OneRun, Break::ContactNotJudged, promises::P4),
        (OneRun, Break::RefusalKeepsRevision, promises::P4),
        (OneRun, Break::RefusalPassesNoGate, promises::P4),
        (OneRun, Break::ExpiryNotAsked, promises::P6),
        (OneRun, Break::HoursNotAsked, promises::HOURS),
        (OneRun, Break::GivenBackNowhere, promises::P1),
        (OneRun, Break::GiveBackCounts, promises::GIVEN_BACK),
        (OneRun, Break::GiveBackAtOnce, promises::GIVEN_BACK_WAITS),
        (Reset, Break::OlderCallIgnored, promises::P2_ALONE),
        (Reset, Break::ResetForgetsCalls, promises::P2_UNKNOWN_WAITS),
    ];
    for (scope, broken, promise) in breaks {
        // Stops at the first failure of the promise.
        let finish = stateright::HasDiscoveries::AnyOf([promise].into());
        let model = Dispatch { scope, broken: Some(broken) };
        let checker = model.checker().finish_when(finish).timeout(PATIENCE).spawn_bfs().join();
        assert!(checker.discovery(promise).is_some(), "{broken:?} does not break {promise:?}");
    }
}
