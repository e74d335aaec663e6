//! Test of a worker that is killed in the middle of its calls: by the trunk's own log nobody is
//! called again.

mod database;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use campaign_proto::v1::CallOutcome;
use campaign_sip::{Campaign, STOP_LIMIT, Sipp, Traffic, programs};
use tokio::time::{Instant, sleep};

use database::Database;

const CONTACTS: usize = 800;
const CALLS_AT_ONCE: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn nobody_is_called_again_after_a_worker_was_killed_in_its_calls() {
    let database = Database::create().await;
    let programs = programs(Path::new(env!("CARGO_BIN_EXE_sip-demo"))).expect("a folder");
    let mut sipp = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let flags = ["--lease-ttl-seconds", "2", "--chore-interval-millis", "100", "--log", "warn"];
    let (mut service, address) = programs.service(&database.url(), &flags).await.expect("service");
    let mut campaign = Campaign::create(&address, CONTACTS).await.expect("a campaign");
    let trunk = sipp.address();
    let flags = [
        "--provider",
        "sip",
        "--sip-trunk",
        &trunk,
        "--sip-listen",
        "127.0.0.1:0",
        "--sip-ring-limit-seconds",
        "20",
        "--sip-talk-limit-seconds",
        "20",
        "--max-calls",
        "500",
        // The rate is so low that a late look still finds the campaign in the middle.
        "--calls-per-second",
        "100",
    ];
    let mut first = programs.worker("first", &address, &flags).expect("a worker");
    campaign.launch().await.expect("launched");
    let deadline = Instant::now() + PATIENCE;
    while sipp.count("IncomingCall") < CALLS_AT_ONCE {
        assert!(Instant::now() < deadline, "{:?}", sipp.counts());
        sleep(Duration::from_millis(20)).await;
    }
    first.kill();
    let before = sipp.invites();

    let mut quick = flags;
    quick[7] = "2";
    quick[9] = "1";
    quick[13] = "400";
    let mut second = programs.worker("second", &address, &quick).expect("a worker");
    campaign.completed(PATIENCE, |_| {}).await.expect("completed");
    second.stop(STOP_LIMIT).await.expect("stopped");
    sipp.kill();

    let invites = sipp.invites();
    let mut calls = BTreeMap::new();
    for invite in &invites {
        *calls.entry(&invite.number).or_insert(0) += 1;
    }
    let twice: Vec<_> = calls.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "called again: {twice:?}");
    let ids: BTreeSet<_> = invites.iter().map(|invite| &invite.call_id).collect();
    assert_eq!(ids.len(), invites.len());
    // The restart was in the middle, and the rest was called after it.
    assert!((CALLS_AT_ONCE as usize..CONTACTS).contains(&before.len()), "{}", before.len());
    assert!(invites.len() > before.len(), "the second worker called nobody");

    // Everybody had one attempt; attempts whose end nobody knows are recorded as unknown.
    let tally = campaign.tally().await.expect("a tally");
    assert_eq!(tally.values().sum::<u64>(), CONTACTS as u64, "{tally:?}");
    let unknown = tally.get(&CallOutcome::Unknown).copied().unwrap_or(0);
    assert!(unknown > 0, "{tally:?}");
    assert!(invites.len() as u64 >= CONTACTS as u64 - unknown, "{tally:?}, {}", invites.len());
    service.stop(STOP_LIMIT).await.expect("stopped");
    database.drop().await;
    // The logs are removed only now: after a failure people want to read them.
    std::fs::remove_dir_all(programs.logs()).expect("they are ours");
}
