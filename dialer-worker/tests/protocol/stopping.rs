//! Pause, cancel, rejections, drain, and the worker's own end.

use campaign_proto::v1::AuthorizeDecision as Decision;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{CallOutcome, Drain, Revoke};
use dialer_worker::call::{Fact, Outcome};

use crate::fake::{FakeService, contact, key, keys, outcome, welcome_back};
use crate::under_test::FakeWorker;

fn revoke_campaign(hang_up: bool) -> Response {
    let campaign = "campaigns/a".to_owned();
    Response::Revoke(Revoke { campaign, hang_up, run: 3, ..Revoke::default() })
}

fn revoke_contact(slot: i32) -> Response {
    let campaign = "campaigns/a".to_owned();
    Response::Revoke(Revoke { campaign, contact: contact(slot), ..Revoke::default() })
}

#[tokio::test]
async fn a_pause_gives_back_what_waits_and_lets_calls_and_granted_attempts_go_on() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "2"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 4).await;
    let asked = stream.authorize().await;
    stream.decide(&asked, &[Decision::Granted, Decision::Excluded]).await;
    let first = worker.dialled().await;
    let asked = stream.authorize().await;
    assert_eq!(asked.slots, [2]);
    stream.send(revoke_campaign(false)).await;
    let release = stream.release().await;
    assert_eq!((release.lease.clone(), release.slots.as_slice()), (Some(key(1)), &[3][..]));
    stream.acknowledge_release(&release).await;
    stream.decide(&asked, &[Decision::Granted]).await;
    let second = worker.dialled().await;
    assert_eq!(second.attempt.attempt_id, "3-1-2");
    assert!(!first.hang_up.is_cancelled() && !second.hang_up.is_cancelled());
    first.end(Outcome::Answered);
    second.end(Outcome::Answered);
    stream.take_facts(2).await;
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 2);
}

#[tokio::test]
async fn a_cancel_hangs_up_and_gives_later_grants_back() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "2"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 3).await;
    let asked = stream.authorize().await;
    stream.decide(&asked, &[Decision::Granted, Decision::Excluded]).await;
    let call = worker.dialled().await;
    let asked = stream.authorize().await;
    stream.send(revoke_campaign(true)).await;
    call.hung_up().await;
    stream.decide(&asked, &[Decision::Granted]).await;
    let mut facts = stream.take_facts(2).await;
    facts.sort_by(|a, b| a.attempt_id.cmp(&b.attempt_id));
    assert_eq!(keys(&facts), ["3-1-0", "3-1-2"]);
    assert_eq!(outcome(&facts[0]), Some(CallOutcome::NoAnswer));
    assert_eq!(outcome(&facts[1]), Some(CallOutcome::Congested));
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 1);
}

#[tokio::test]
async fn a_revoked_contact_is_hung_up_unless_somebody_answered() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "2"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 3).await;
    stream.grant().await;
    let mut calls = worker.dialled_all(2).await;
    let talking = calls.remove("3-1-0").expect("dialled");
    let ringing = calls.remove("3-1-1").expect("dialled");
    talking.events.answered().await;
    // Reported after "answered", so the worker has heard of both.
    talking.events.report(Fact::Success).await;
    stream.take_facts(1).await;
    for slot in [0, 1, 2] {
        stream.send(revoke_contact(slot)).await;
    }
    let release = stream.release().await;
    assert_eq!(release.slots, [2], "the one that waits");
    stream.acknowledge_release(&release).await;
    ringing.hung_up().await;
    stream.take_facts(1).await;
    assert!(!talking.hang_up.is_cancelled());
    talking.end(Outcome::Answered);
    stream.take_facts(1).await;
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 2);
}

#[tokio::test]
async fn a_stop_gives_back_what_waits_and_waits_for_calls_and_reports() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "2"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 4).await;
    let asked = stream.authorize().await;
    stream.decide(&asked, &[Decision::Granted, Decision::Excluded]).await;
    let call = worker.dialled().await;
    let asked = stream.authorize().await;
    worker.stop();
    let release = stream.release().await;
    assert_eq!(release.slots, [3]);
    // The lease was on its way when the worker was told to stop. It is released at once.
    stream.lease(2, 1).await;
    stream.acknowledge_release(&release).await;
    let release = stream.release().await;
    assert_eq!((release.lease.clone(), release.slots.as_slice()), (Some(key(2)), &[0][..]));
    stream.acknowledge_release(&release).await;
    // The request preceded the stop. Not dialling the contact would waste the attempt.
    stream.decide(&asked, &[Decision::Granted]).await;
    worker.dialled().await.end(Outcome::Busy);
    let late = stream.take_facts(1).await;
    assert_eq!((outcome(&late[0]), keys(&late)), (Some(CallOutcome::Busy), vec!["3-1-2".into()]));
    assert!(!call.hang_up.is_cancelled(), "it has its grace");
    call.end(Outcome::Answered);
    stream.take_facts(1).await;
    stream.end().await;
    let summary = worker.stopped().await;
    assert_eq!((summary.calls, summary.reported, summary.unacknowledged), (2, 2, 0));
}

#[tokio::test]
async fn a_stop_hangs_up_after_the_grace() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--drain-grace-seconds", "0"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    let call = worker.dialled().await;
    stream.lease(2, 1).await;
    let asked = stream.authorize().await;
    worker.stop();
    call.hung_up().await;
    stream.take_facts(1).await;
    stream.decide(&asked, &[Decision::Granted]).await;
    let late = stream.take_facts(1).await;
    assert_eq!(
        outcome(&late[0]),
        Some(CallOutcome::Congested),
        "nothing is dialled after the grace"
    );
    stream.end().await;
    assert_eq!(worker.stopped().await.unacknowledged, 0);
}

#[tokio::test]
async fn drain_moves_to_the_next_url_after_the_answers_under_way() {
    let mut leaving = FakeService::start().await;
    let mut staying = FakeService::start().await;
    let urls = format!("{},{}", leaving.url, staying.url);
    let mut worker = FakeWorker::start(&urls, &["--max-calls", "1"]);
    let (mut stream, _) = leaving.welcome().await;
    stream.lease(1, 2).await;
    let asked = stream.authorize().await;
    stream.send(Response::Drain(Drain { grace: None })).await;
    stream.decide(&asked, &[Decision::Granted]).await;
    let call = worker.dialled().await;
    stream.end().await;

    let mut stream = welcome_back(&mut staying, &[1]).await;
    call.end(Outcome::Busy);
    let asked = stream.authorize().await;
    assert_eq!(asked.slots, [1]);
    stream.decide(&asked, &[Decision::Excluded]).await;
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 1);
}

#[tokio::test]
async fn a_worker_that_never_had_a_stream_stops_at_once() {
    let worker = FakeWorker::start("http://127.0.0.1:1", &[]);
    worker.stop();
    assert_eq!(worker.stopped().await.calls, 0);
}
