//! Rate of dialling, contacts held in advance, and the effects of a failing provider.

use std::time::{Duration, Instant};

use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::{AuthorizeDecision, CallOutcome, ProviderReport, Welcome};
use dialer_worker::call::{Fault, Outcome};

use crate::fake::{FakeService, outcome};
use crate::under_test::{FakeCall, FakeWorker};

async fn fail(call: FakeCall) {
    call.events.provider_failed(Fault::Refusing(503), None).await;
    call.end(Outcome::Failed);
}

#[tokio::test]
async fn a_failing_provider_stops_the_dialling_without_costing_attempts() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "1", "--provider-failures", "3", "--provider-retry-seconds", "1"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 8).await;
    for _ in 0..3 {
        stream.grant().await;
        fail(worker.dialled().await).await;
    }
    let release = stream.release().await;
    assert_eq!(release.slots, [3, 4, 5, 6, 7]);
    stream.acknowledge_release(&release).await;
    // Contacts that were still on their way are released too. No contact is requested.
    stream.lease(2, 2).await;
    let release = stream.release().await;
    assert_eq!(release.slots, [0, 1]);
    stream.acknowledge_release(&release).await;
    let opened = Instant::now();
    let refused = worker.probed().await;
    refused.send(false).expect("the worker listens");
    let answered = worker.probed().await;
    assert!(opened.elapsed() > Duration::from_millis(2_500), "1 s, then 2 s");
    answered.send(true).expect("the worker listens");

    // One trial call is made. Further credit follows only when the provider does its part.
    assert_eq!(stream.credit_after_idle().await, 1);
    stream.lease(3, 2).await;
    assert_eq!(stream.grant().await.slots, [0]);
    let trial = worker.dialled().await;
    trial.events.provider_works().await;
    assert_eq!(stream.credit_after_idle().await, 1, "up to the prefetch again");
    trial.end(Outcome::Answered);
    assert_eq!(stream.grant().await.slots, [1]);
    let call = worker.dialled().await;
    call.end(Outcome::Busy);
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 5);
}

#[tokio::test]
async fn a_trial_that_fails_stops_the_dialling_again() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "4", "--provider-failures", "1", "--provider-retry-seconds", "1"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    fail(worker.dialled().await).await;
    worker.probed().await.send(true).expect("the worker listens");
    // The earlier credit brings more contacts than the trial allows.
    stream.lease(2, 3).await;
    assert_eq!(stream.grant().await.slots, [0]);
    fail(worker.dialled().await).await;
    let release = stream.release().await;
    assert_eq!(release.slots, [1, 2]);
    stream.acknowledge_release(&release).await;
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 2);
}

#[tokio::test]
async fn the_service_is_told_when_the_provider_fails_and_when_it_works_again() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "1", "--provider-failures", "2", "--provider-retry-seconds", "1"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 3).await;
    for _ in 0..2 {
        // `next_of_work` skips no provider report: a single failure causes none.
        let Request::Authorize(asked) = stream.next_of_work().await else { panic!("not asked") };
        stream.decide(&asked, &[AuthorizeDecision::Granted]).await;
        fail(worker.dialled().await).await;
    }
    let report = stream.provider_report().await;
    assert!(report.failing && report.reason.ends_with("it answered 503"), "{report:?}");
    drop(stream);

    // Repeated on each stream, before anything else.
    let (mut stream, _) = service.accept().await;
    stream.welcome(Welcome::default()).await;
    assert_eq!(stream.next().await, Request::ProviderReport(report));
    worker.probed().await.send(true).expect("the worker listens");
    assert_eq!(stream.credit_after_idle().await, 1);
    stream.lease(2, 1).await;
    stream.grant().await;
    let trial = worker.dialled().await;
    trial.events.provider_works().await;
    assert_eq!(stream.provider_report().await, ProviderReport::default());
    trial.end(Outcome::Answered);
    stream.take_facts(1).await;
    drop(stream);

    // A new stream receives no report, because the service believes that the provider works.
    let (mut stream, _) = service.accept().await;
    stream.welcome(Welcome::default()).await;
    stream.credit().await;
    worker.stop();
    stream.end().await;
    worker.stopped().await;
}

#[tokio::test]
async fn an_end_that_nobody_knows_is_reported_as_such() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &[]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    worker.dialled().await.end(Outcome::Unknown);
    let facts = stream.take_facts(1).await;
    assert_eq!(outcome(&facts[0]), Some(CallOutcome::Unknown));
}

#[tokio::test]
async fn calls_start_no_faster_than_allowed() {
    const CALLS: usize = 30;
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--calls-per-second", "20"]);
    let (mut stream, _) = service.welcome().await;
    let started = Instant::now();
    stream.lease(1, 30).await;
    let mut calls = 0;
    while calls < CALLS {
        let asked = stream.authorize().await;
        assert!(asked.slots.len() <= 2, "a tenth of a second's calls at once");
        // Contacts that are not granted use up no calls.
        let decisions: Vec<_> = asked.slots.iter().map(|_| AuthorizeDecision::Granted).collect();
        stream.decide(&asked, &decisions).await;
        for _ in &asked.slots {
            worker.dialled().await.end(Outcome::Busy);
            calls += 1;
        }
    }
    // The first two start at once, the rest at 20 per second.
    let least = Duration::from_secs_f64((CALLS - 2) as f64 / 20.0);
    assert!(started.elapsed() >= least - Duration::from_millis(50), "{:?}", started.elapsed());
}

#[tokio::test]
async fn no_more_is_held_than_can_be_dialled_in_a_leases_time() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "4", "--prefetch-contacts", "100"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, credit) = service.welcome().await;
    assert_eq!(credit, 4, "as many as there are places");
    stream.lease(1, 4).await;
    stream.grant().await;
    for (_, call) in worker.dialled_all(4).await {
        call.end(Outcome::Busy);
    }
    let mut more = 0;
    while more < 8 {
        match stream.next().await {
            Request::Credit(credit) => more += credit.contacts,
            Request::Report(report) => stream.acknowledge(&report).await,
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(more, 8, "four went in this time, so four more than before may");
}
