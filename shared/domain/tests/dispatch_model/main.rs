//! Every order of events at a small size: two workers, two contacts, leases that run out, messages that
//! come late or twice, replicas that authorise at the same time. The domain's own types decide; the model
//! only does what the transactions of `campaign-service/src/app` do with them. Each promise is also shown
//! to fail once what keeps it is taken away.
#![forbid(unsafe_code)]

mod model;
mod promises;

use model::{Break, Dispatch};
use stateright::{Checker, Model};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn the_promises_hold_in_every_order_of_events() {
    let started = Instant::now();
    let checker =
        Dispatch { broken: None }.checker().threads(2).timeout(PATIENCE).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    eprintln!("{states} states, {depth} deep");
    assert!(started.elapsed() < PATIENCE, "not all states were seen in time");
    // Also that all that is to be met was met, or the promises would hold for want of trouble.
    checker.assert_properties();
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn each_promise_fails_without_what_keeps_it() {
    let breaks = [
        (Break::SlotGrantedTwice, promises::P2_ONCE),
        (Break::UnknownRetriedAtOnce, promises::P2_UNKNOWN_WAITS),
        (Break::StateNotAsked, promises::P3),
        (Break::CommandsPassNoGate, promises::P3),
        (Break::ContactNotJudged, promises::P4),
        (Break::RefusalKeepsRevision, promises::P4),
        (Break::RefusalPassesNoGate, promises::P4),
        (Break::ExpiryNotAsked, promises::P6),
    ];
    for (broken, promise) in breaks {
        // Stops where the promise first fails.
        let finish = stateright::HasDiscoveries::AnyOf([promise].into());
        let model = Dispatch { broken: Some(broken) };
        let checker = model.checker().finish_when(finish).timeout(PATIENCE).spawn_bfs().join();
        assert!(checker.discovery(promise).is_some(), "{broken:?} does not break {promise:?}");
    }
}
