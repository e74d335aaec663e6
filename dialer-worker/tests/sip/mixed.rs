//! Thousands of calls with every outcome: the worker's reports match sipp's counts.

use std::collections::BTreeSet;

use campaign_proto::v1::CallOutcome;
use campaign_sip::{Sipp, Traffic};

use crate::fake::outcome;
use crate::service::{CallingWorker, Reported};

/// Flags of the worker. A third of these people have no phone that rings, so several in a row look like a broken trunk.
const FLAGS: [&str; 10] = [
    "--max-calls",
    "400",
    "--calls-per-second",
    "300",
    "--sip-ring-limit-seconds",
    "2",
    "--sip-talk-limit-seconds",
    "1",
    "--provider-failures",
    "50",
];

/// Returns the outcome that the number's last digit causes in the scenario.
fn expected(number: &str) -> CallOutcome {
    match number.chars().last() {
        Some('0'..='4' | '9') => CallOutcome::Answered,
        Some('5' | '7') => CallOutcome::Busy,
        Some('6') => CallOutcome::NoAnswer,
        _ => CallOutcome::InvalidNumber,
    }
}

fn agree(reported: &Reported, sipp: &Sipp, calls: i32) {
    let calls = u64::try_from(calls).expect("not negative");
    let counts = sipp.counts();
    assert_eq!(counts["FailedCall"], 0, "{}", sipp.errors());
    let pairs = [
        ("calls", reported.ends.len() as u64, counts["SuccessfulCall"]),
        ("answered", reported.count(CallOutcome::Answered), counts["answered"]),
        ("hung up", counts["answered"], counts["hung_up_there"] + counts["hung_up_here"]),
        ("busy", reported.count(CallOutcome::Busy), counts["busy"] + counts["declines"]),
        ("no answer", reported.count(CallOutcome::NoAnswer), counts["no_answer"]),
        ("no such number", reported.count(CallOutcome::InvalidNumber), counts["unknown"]),
        ("wanted", reported.ends.len() as u64, calls),
    ];
    for (what, ours, theirs) in pairs {
        assert_eq!(ours, theirs, "{what}: {counts:?}");
    }

    let invites = sipp.invites();
    let ids: BTreeSet<_> = invites.iter().map(|invite| invite.call_id.clone()).collect();
    assert_eq!((invites.len() as u64, ids.len() as u64), (calls, calls), "one INVITE for a call");
    for invite in &invites {
        let attempt_id = invite.call_id.strip_prefix("a.").expect("the attempt's key");
        let end = outcome(&reported.ends[attempt_id]);
        assert_eq!(end, Some(expected(&invite.number)), "{invite:?}");
    }
}

async fn every_end_is_reported(traffic: Traffic, calls: i32) {
    let mut sipp = Sipp::start("people", traffic, &[]).await.expect("sipp");
    let flags = [&FLAGS[..], &["--sip-transport", traffic.transport()]].concat();
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    let reported = worker.call(calls).await;
    let summary = worker.stop().await;
    assert_eq!((summary.unacknowledged, summary.unfinished_calls), (0, 0));
    sipp.finish().await.expect("its calls end");
    agree(&reported, &sipp, calls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn ends_over_udp_are_what_sipp_counted() {
    every_end_is_reported(Traffic::Udp, 3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn ends_over_tcp_are_what_sipp_counted() {
    every_end_is_reported(Traffic::Tcp, 1_000).await;
}

/// Lost datagrams are repeated, and no final answer is mistaken for another call's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn ends_with_lost_datagrams_are_what_sipp_counted() {
    let calls = 300;
    let mut sipp = Sipp::start("people", Traffic::Udp, &["-lost", "5"]).await.expect("sipp");
    let flags = [&FLAGS[..6], &["--sip-talk-limit-seconds", "3"]].concat();
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    let reported = worker.call(calls).await;
    worker.stop().await;
    // Killed rather than finished in order: calls whose last messages were lost would take 30 s to
    // end.
    sipp.kill();
    let invites = sipp.invites();
    let ids: BTreeSet<_> = invites.iter().map(|invite| invite.call_id.clone()).collect();
    assert_eq!(invites.len(), ids.len(), "one INVITE for a call");
    assert!(sipp.count("Retransmissions") > 0, "datagrams were lost: {:?}", sipp.counts());
    assert_eq!(reported.ends.len() as i32, calls);
    for invite in &invites {
        let attempt_id = invite.call_id.strip_prefix("a.").expect("the attempt's key");
        let end = outcome(&reported.ends[attempt_id]).expect("an end");
        assert!(
            end == expected(&invite.number) || end == CallOutcome::Unknown,
            "{invite:?}: {end:?}"
        );
    }
}
