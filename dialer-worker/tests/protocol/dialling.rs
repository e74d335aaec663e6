//! Credit, authorisation, dialling, reporting, and streams that break.

use campaign_proto::v1::AuthorizeDecision as Decision;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{
    CallOutcome, InteractionResult, InteractionStatus, RenewResult, ReportAck, Welcome,
};
use dialer_worker::call::{Fact, Outcome};

use crate::fake::{FakeService, contact, kept, key, keys, lost, outcome, welcome_back};
use crate::under_test::FakeWorker;

#[tokio::test]
async fn hello_says_who_and_credit_keeps_to_the_prefetch() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "8", "--prefetch-contacts", "8"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, hello) = service.accept().await;
    assert_eq!((hello.worker_id.as_str(), hello.protocol_version), ("worker-under-test", 1));
    stream.welcome(Welcome::default()).await;
    assert_eq!(stream.credit().await, 8);

    stream.lease(1, 8).await;
    let (mut credit, mut consumed) = (0, 0);
    while credit < 8 {
        match stream.next().await {
            Request::Authorize(asked) => {
                let granted = vec![Decision::Granted; asked.slots.len()];
                stream.decide(&asked, &granted).await;
                for _ in granted {
                    worker.dialled().await.end(Outcome::Busy);
                    consumed += 1;
                }
            }
            Request::Credit(more) => credit += more.contacts,
            Request::Report(report) => stream.acknowledge(&report).await,
            other => panic!("unexpected: {other:?}"),
        }
        assert!(credit <= consumed, "credit of {credit} for {consumed} contacts consumed");
    }
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 8);
}

#[tokio::test]
async fn credit_is_given_anew_on_each_stream() {
    let mut service = FakeService::start().await;
    let _worker = FakeWorker::start(&service.url, &[]);
    for _ in 0..2 {
        let (_stream, credit) = service.welcome().await;
        assert_eq!(credit, 50);
    }
}

#[tokio::test]
async fn dials_only_what_was_granted() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &[]);
    let (mut stream, credit) = service.welcome().await;
    assert_eq!(credit, 50);
    stream.lease(1, 6).await;
    let asked = stream.authorize().await;
    assert_eq!(asked.lease, Some(key(1)));
    let decisions = [
        Decision::Granted,
        Decision::AlreadyGranted,
        Decision::Excluded,
        Decision::NotNow,
        Decision::SlotClosed,
        Decision::Unspecified,
    ];
    stream.decide(&asked, &decisions).await;
    let call = worker.dialled().await;
    assert_eq!(call.attempt.attempt_id, "3-1-0");
    assert_eq!(call.attempt.phone_number, "+15550000000");
    call.end(Outcome::Answered);
    let facts = stream.take_facts(1).await;
    assert_eq!(outcome(&facts[0]), Some(CallOutcome::Answered));
    assert_eq!(facts[0].contact, contact(0));
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 1);
}

#[tokio::test]
async fn asks_for_no_more_than_there_are_call_places() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "3"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 4).await;
    stream.lease(2, 2).await;
    assert_eq!(stream.grant().await.slots, [0, 1, 2]);
    let mut calls = worker.dialled_all(3).await;
    calls.remove("3-1-1").expect("dialled").end(Outcome::NoAnswer);
    let asked = stream.authorize().await;
    assert_eq!((asked.lease.clone(), asked.slots.as_slice()), (Some(key(1)), &[3][..]));
    stream.decide(&asked, &[Decision::Excluded]).await;
    let asked = stream.authorize().await;
    assert_eq!((asked.lease.clone(), asked.slots.as_slice()), (Some(key(2)), &[0][..]));
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_dialled_once() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "2"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 2).await;
    assert_eq!(stream.authorize().await.slots, [0, 1]);
    drop(stream);

    let mut stream = welcome_back(&mut service, &[1]).await;
    let asked = stream.authorize().await;
    assert_eq!(asked.slots, [0, 1]);
    stream.decide(&asked, &[Decision::AlreadyGranted, Decision::Granted]).await;
    for (_, call) in worker.dialled_all(2).await {
        call.end(Outcome::Busy);
    }
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.reported, 2);
}

#[tokio::test]
async fn reports_are_sent_again_with_the_same_ids_until_acknowledged() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &[]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    let call = worker.dialled().await;
    call.events.report(Fact::Transferred { seconds_before_transfer: 61 }).await;
    call.events.report(Fact::OptedOut { channel: "call".to_owned(), everywhere: false }).await;
    let link_events = call.events.clone();
    call.end(Outcome::Answered);
    let mut first = Vec::new();
    while first.len() < 3 {
        first.extend(stream.report().await.interactions);
    }
    drop(stream);
    // Reported while no stream is open.
    link_events.report(Fact::LinkOpened { link: "https://example.com".to_owned() }).await;

    let mut stream = welcome_back(&mut service, &[]).await;
    let again = stream.take_facts(4).await;
    let expected = ["3-1-0", "3-1-0/link_opened", "3-1-0/opted_out", "3-1-0/transferred"];
    assert_eq!(keys(&again), expected);
    assert_eq!(keys(&first), [expected[0], expected[2], expected[3]]);
    assert_eq!(again.iter().filter(|fact| outcome(fact).is_some()).count(), 1);
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.reported, 4);
}

#[tokio::test]
async fn rejected_facts_are_dropped() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &[]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    worker.dialled().await.end(Outcome::Busy);
    let report = stream.report().await;
    let status = InteractionStatus::Rejected.into();
    let rejected = InteractionResult { status, ..InteractionResult::default() };
    let report_number = report.report_number;
    stream.send(Response::ReportAck(ReportAck { report_number, results: vec![rejected] })).await;
    worker.stop();
    stream.end().await;
    let summary = worker.stopped().await;
    assert_eq!((summary.reported, summary.unacknowledged), (0, 0));
}

#[tokio::test]
async fn nothing_is_asked_for_while_too_many_reports_are_unacknowledged() {
    let mut service = FakeService::start().await;
    let flags = ["--max-calls", "1", "--max-unacknowledged-reports", "1"];
    let mut worker = FakeWorker::start(&service.url, &flags);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 2).await;
    stream.grant().await;
    worker.dialled().await.end(Outcome::Busy);
    let report = stream.report().await;
    // An authorisation request would have come first, because a report waits for further facts.
    stream.acknowledge(&report).await;
    let asked = stream.authorize().await;
    assert_eq!(asked.slots, [1]);
}

#[tokio::test]
async fn nobody_knows_how_a_call_ended_whose_provider_dies() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &[]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    worker.dialled().await.panic();
    let facts = stream.take_facts(1).await;
    assert_eq!(outcome(&facts[0]), Some(CallOutcome::Unknown));
}

#[tokio::test]
async fn a_lost_lease_is_not_dialled_any_more_but_its_call_is_reported() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "1"]);
    let (mut stream, _) = service.welcome().await;
    stream.lease(1, 2).await;
    stream.lease(2, 1).await;
    stream.grant().await;
    let call = worker.dialled().await;
    drop(stream);

    let (mut stream, hello) = service.accept().await;
    assert_eq!(hello.leases, [key(1), key(2)]);
    let leases = vec![lost(1), kept(2)];
    stream.welcome(Welcome { leases, ..Welcome::default() }).await;
    call.end(Outcome::Answered);
    let asked = stream.authorize().await;
    assert_eq!(asked.lease, Some(key(2)), "the next of the lease that was kept");
    stream.decide(&asked, &[Decision::LeaseLost]).await;
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.calls, 1);
}

#[tokio::test]
async fn leases_are_renewed_in_time() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "1"]);
    let (mut stream, _) = service.accept().await;
    let lease_ttl = Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 });
    stream.welcome(Welcome { lease_ttl, ..Welcome::default() }).await;
    stream.credit().await;
    stream.lease(1, 1).await;
    stream.grant().await;
    let call = worker.dialled().await;
    for _ in 0..3 {
        let renew = loop {
            match stream.next().await {
                Request::Renew(renew) => break renew,
                Request::Credit(_) => {}
                other => panic!("not renew: {other:?}"),
            }
        };
        assert_eq!(renew.leases, [key(1)], "in a call");
        stream.send(Response::RenewResult(RenewResult { leases: vec![kept(1)] })).await;
    }
    call.end(Outcome::Answered);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_passed_over() {
    let mut service = FakeService::start().await;
    let worker = FakeWorker::start(&format!("http://127.0.0.1:1,{}", service.url), &[]);
    let (stream, _) = service.welcome().await;
    worker.stop();
    stream.end().await;
    worker.stopped().await;
}

#[tokio::test]
async fn a_service_gets_the_outcome_that_it_knows_and_a_newer_one_the_real_one() {
    let mut service = FakeService::start().await;
    let mut worker = FakeWorker::start(&service.url, &["--max-calls", "1"]);
    // A service of the version before names none; it takes those up to UNKNOWN.
    let older: Vec<i32> = (1..=CallOutcome::Unknown.into()).collect();
    let (mut stream, _) =
        service.welcome_with(Welcome { call_outcomes: older, ..Welcome::default() }).await;
    stream.lease(1, 1).await;
    stream.grant().await;
    worker.dialled().await.end(Outcome::Rejected);
    let report = loop {
        match stream.next().await {
            Request::Report(report) => break report,
            Request::Credit(_) => {}
            other => panic!("not the end: {other:?}"),
        }
    };
    assert_eq!(outcome(&report.interactions[0]), Some(CallOutcome::Failed));
    drop(stream);

    let (mut stream, _) = service.accept().await;
    stream.welcome(Welcome { leases: vec![kept(1)], ..Welcome::default() }).await;
    let facts = stream.take_facts(1).await;
    assert_eq!(outcome(&facts[0]), Some(CallOutcome::Rejected), "sent again, as it was");
    worker.stop();
    stream.end().await;
    assert_eq!(worker.stopped().await.reported, 1);
}
