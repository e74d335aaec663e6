//! Many calls through a platform's own API, under lost answers and callbacks that are lost, repeated
//! and out of order. No phone rings twice, and every end is what the platform says.

use std::collections::BTreeMap;

use campaign_proto::v1::CallOutcome;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::peer::{Peer, dial, outcomes, worker};

const CALLS: i32 = 300;
const FLAGS: [&str; 6] =
    ["--max-calls", "100", "--calls-per-second", "300", "--provider-failures", "1000"];

/// Returns a plan and the expected outcome for each slot.
fn plans(
    seed: u64,
    endings: &[(&str, CallOutcome)],
    plan: impl Fn(&str, &mut SmallRng) -> Value,
) -> (Value, BTreeMap<i32, CallOutcome>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut plans, mut expected) = (json!({}), BTreeMap::new());
    for slot in 0..CALLS {
        let (ending, outcome) = *endings.choose(&mut random).expect("some");
        let mut planned = plan(ending, &mut random);
        planned["lost"] = random.random_bool(0.1).into();
        planned["silent"] = random.random_bool(0.15).into();
        planned["times"] = random.random_range(1..=3).into();
        plans[slot.to_string()] = planned;
        expected.insert(slot, outcome);
    }
    (plans, expected)
}

async fn run(
    peer: &Peer,
    flavor: &str,
    flags: &[&str],
    plans: Value,
) -> BTreeMap<i32, CallOutcome> {
    let mut worker = worker(peer, flavor, &[&FLAGS[..], flags].concat(), plans).await;
    let reported = dial(&mut worker, 1, &(0..CALLS).collect::<Vec<_>>()).await;
    let calls = peer.calls().await.len();
    assert_eq!(calls, usize::try_from(CALLS).expect("few"), "one call for each contact");
    assert_eq!(worker.stop().await.unfinished_calls, 0);
    outcomes(&reported)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_rings_twice_through_retell() {
    let endings = [
        ("user_hangup", CallOutcome::Answered),
        ("voicemail_reached", CallOutcome::Voicemail),
        ("dial_busy", CallOutcome::Busy),
        ("dial_no_answer", CallOutcome::NoAnswer),
        ("invalid_destination", CallOutcome::InvalidNumber),
        ("user_declined", CallOutcome::Rejected),
    ];
    let (plans, expected) = plans(1, &endings, |reason, random| {
        let mut events = ["call_started", "call_ended", "call_analyzed"];
        events.shuffle(random);
        json!({"reason": reason, "events": events})
    });
    let peer = Peer::start("retell_stub");
    assert_eq!(run(&peer, "retell", &[], plans).await, expected);
    assert!(peer.calls().await.iter().all(|call| call["rings"] == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_rings_twice_through_twilio() {
    let endings = [
        ("completed", CallOutcome::Answered),
        ("busy", CallOutcome::Busy),
        ("no-answer", CallOutcome::NoAnswer),
        ("canceled", CallOutcome::Cancelled),
    ];
    let (plans, expected) = plans(2, &endings, |end, random| {
        let mut statuses = ["initiated", "ringing", end];
        statuses.shuffle(random);
        json!({"statuses": statuses})
    });
    let account = "AC00000000000000000000000000000007";
    let flags = ["--http-account", account, "--http-agent", "https://agent.example/twiml"];
    let peer = Peer::start("twilio_stub");
    assert_eq!(run(&peer, "twilio", &flags, plans).await, expected);
}
