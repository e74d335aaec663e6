//! Under all faults of the network, no phone rings twice and every call ends once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, Revoke, Welcome};
use campaign_testkit::free_address;

use crate::fake::{key, link, outcome};
use crate::platform::{Faults, Platform, SECRET};
use crate::service::{CallingWorker, Reported};

pub async fn worker(platform: &Platform, flags: &[&str]) -> (CallingWorker, String) {
    let address = free_address().to_string();
    let http = self::flags(&platform.url, &address);
    let worker = CallingWorker::start(&[&http, flags].concat()).await;
    (worker, format!("http://{address}/callbacks"))
}

pub fn flags<'a>(platform: &'a str, callbacks: &'a str) -> [&'a str; 12] {
    [
        "--provider",
        "http",
        "--http-url",
        platform,
        "--http-callback-secret",
        SECRET,
        "--http-callback-listen",
        callbacks,
        "--http-response-limit-seconds",
        "1",
        "--http-poll-seconds",
        "1",
    ]
}

async fn answer_until(worker: &mut CallingWorker, is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::select! {
            _ = worker.answer_next() => {}
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}

async fn stop_campaign(worker: &CallingWorker, hang_up: bool) {
    let campaign = "campaigns/a".to_owned();
    let revoke = Revoke { campaign, hang_up, run: 3, ..Revoke::default() };
    worker.stream.send(Response::Revoke(revoke)).await;
}

fn named(outcome: &str) -> CallOutcome {
    CallOutcome::from_str_name(&format!("CALL_OUTCOME_{}", outcome.to_uppercase())).expect("one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_rings_twice_and_every_end_is_what_the_platform_says() {
    let calls = 600;
    let faults = Faults {
        refused: 0.1,
        answer_lost: 0.1,
        look_up_failed: 0.2,
        callback_lost: 0.1,
        callback_repeated: 0.3,
    };
    let platform = Platform::start(faults, false).await;
    let flags = ["--max-calls", "100", "--calls-per-second", "300", "--provider-failures", "1000"];
    let (mut worker, _) = worker(&platform, &flags).await;
    let reported = worker.call(calls).await;
    let known = platform.known();
    assert!(known.values().all(|known| known.rings == 1), "a phone rang twice");
    assert_eq!(platform.blind_repeats(), 0, "begun again before it was looked up");
    let mut unknown = 0;
    for (attempt_id, end) in &reported.ends {
        let end = outcome(end).expect("an end");
        match known.get(&format!("a.{attempt_id}")) {
            _ if end == CallOutcome::Unknown => unknown += 1,
            Some(known) => assert_eq!(end, named(&known.outcome), "{attempt_id}"),
            None => assert_eq!(end, CallOutcome::Failed, "{attempt_id} never began"),
        }
    }
    assert!(unknown < calls / 20, "{unknown} of {calls} ends could not be found out");

    let transferred: BTreeSet<_> = reported
        .facts
        .iter()
        .map(|fact| {
            assert!(matches!(fact.fact, Some(Fact::Transferred(_))), "{fact:?}");
            format!("a.{}", fact.attempt_id)
        })
        .collect();
    for key in &transferred {
        assert!(known[key].was_transferred, "{key}");
    }
    assert!(transferred.len() > 20, "{} transfers", transferred.len());
    assert_eq!(worker.stop().await.unfinished_calls, 0);
}

#[tokio::test]
async fn a_call_in_progress_is_hung_up_within_a_second() {
    let platform = Platform::start(Faults::default(), true).await;
    let (mut worker, _) = worker(&platform, &[]).await;
    worker.stream.lease_slots(1, [0]).await;
    answer_until(&mut worker, || !platform.known().is_empty()).await;
    let before = Instant::now();
    stop_campaign(&worker, true).await;
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert!(platform.known()["a.3-1-0"].was_hung_up);
    worker.stop().await;
}

/// A platform that is down answers 503 and knows nothing. The end of the call is unknown, because
/// the platform may still process the request.
#[tokio::test]
async fn a_platform_that_is_down_stops_the_dialling() {
    let platform = Platform::start(Faults::default(), false).await;
    platform.set_down(true);
    let flags = ["--max-calls", "1", "--provider-failures", "3", "--provider-retry-seconds", "1"];
    let (mut worker, _) = worker(&platform, &flags).await;
    worker.stream.lease_slots(1, 0..10).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 10 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(worker.released, (1..10).collect::<Vec<_>>(), "what waits is given back");
    assert_eq!(reported.count(CallOutcome::Unknown), 1);
    platform.set_down(false);
    worker.credit = 0;
    worker.until_credit().await;
    worker.stream.lease_slots(2, [0]).await;
    while reported.ends.len() < 2 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(platform.known().len(), 1);
    worker.stop().await;
}

/// Loses the request to begin. By the time the platform says so, the lease is over, or the campaign
/// has stopped.
async fn lost_until(is_paused: bool) {
    let platform = Platform::start(Faults::default(), false).await;
    platform.set_down(true);
    platform.set_silent(true);
    let address = free_address().to_string();
    let http = flags(&platform.url, &address);
    let one_by_one = ["--max-calls", "1", "--provider-failures", "1000"];
    let seconds = if is_paused { 60 } else { 1 };
    let lease_ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let welcome = Welcome { lease_ttl, ..Welcome::default() };
    let mut worker = CallingWorker::start_with(&[&http[..], &one_by_one].concat(), welcome).await;
    worker.stream.lease_slots(1, [0, 1]).await;
    let mut reported = Reported::default();
    if is_paused {
        answer_until(&mut worker, || platform.was_asked()).await;
        stop_campaign(&worker, false).await;
        while worker.released != [1] {
            worker.note_next(&mut reported).await;
        }
    } else {
        loop {
            match worker.stream.next().await {
                Request::Renew(renew) if renew.lost_leases.is_empty() => {}
                Request::Renew(renew) => break assert_eq!(renew.lost_leases, [key(1).lease]),
                other => worker.note(other, &mut reported).await,
            }
        }
    }
    platform.set_down(false);
    platform.set_silent(false);
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Unknown), 1);
    assert!(platform.known().is_empty(), "a phone rang");
    worker.stop().await;
}

#[tokio::test]
async fn a_lost_request_is_not_made_again_when_the_lease_is_over() {
    lost_until(false).await;
}

#[tokio::test]
async fn a_lost_request_is_not_made_again_in_a_campaign_that_stopped() {
    lost_until(true).await;
}

#[tokio::test]
async fn texts_go_the_same_way() {
    let platform = Platform::start(Faults::default(), false).await;
    let (mut worker, _) = worker(&platform, &["--http-channel", "sms"]).await;
    let reported = worker.call(3).await;
    assert_eq!((platform.known().len(), reported.ends.len()), (3, 3));
    worker.stop().await;
}

#[tokio::test]
async fn calls_and_texts_carry_the_contacts_own_link() {
    for channel in ["call", "sms"] {
        let platform = Platform::start(Faults::default(), false).await;
        let (mut worker, _) = worker(&platform, &["--http-channel", channel]).await;
        worker.stream.lease_slots(1, [0, 5]).await;
        let mut reported = Reported::default();
        while reported.ends.len() < 2 {
            worker.note_next(&mut reported).await;
        }
        let known = platform.known();
        assert_eq!(known["a.3-1-5"].link, Some(link(5)), "{channel}");
        assert_eq!(known["a.3-1-0"].link, None, "{channel}: a campaign without");
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_email_needs_an_address() {
    let platform = Platform::start(Faults::default(), false).await;
    let (mut worker, _) = worker(&platform, &["--http-channel", "email"]).await;
    let reported = worker.call(1).await;
    assert_eq!((platform.known().len(), reported.count(CallOutcome::Failed)), (0, 1));
    worker.stop().await;
}
