//! Senders of callbacks, and the time at which a callback is answered.

use std::time::Duration;

use axum::http::StatusCode;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, InteractionResult, InteractionStatus, ReportAck};
use serde_json::json;

use crate::chaos::worker;
use crate::fake::outcome;
use crate::platform::{Faults, Platform, callback, sign};

fn told(what: &serde_json::Value) -> String {
    let mut event = what.clone();
    event["key"] = "a.2-9-7".into();
    event["contact"] = "campaigns/a/contacts/7".into();
    event["attempt_id"] = "2-9-7".into();
    event.to_string()
}

#[tokio::test]
async fn only_the_platform_is_believed_and_only_for_a_while() {
    let platform = Platform::start(Faults::default(), false).await;
    let (worker, url) = worker(&platform, &[]).await;
    let body = told(&json!({"type": "answered"}));
    for (signature, expected) in [
        (sign(&body, 0), StatusCode::NO_CONTENT),
        (sign(&body, 290), StatusCode::NO_CONTENT),
        (sign(&body, 310), StatusCode::UNAUTHORIZED),
        (sign(&body, -310), StatusCode::UNAUTHORIZED),
        (sign("another body", 0), StatusCode::UNAUTHORIZED),
        (String::new(), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(callback(&url, &body, &signature).await, expected, "{signature}");
    }
    for (body, expected) in [
        ("not JSON".to_owned(), StatusCode::BAD_REQUEST),
        (json!({"type": "answered"}).to_string(), StatusCode::BAD_REQUEST),
        ("x".repeat(70_000), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        assert_eq!(callback(&url, &body, &sign(&body, 0)).await, expected);
    }
    worker.stop().await;
}

/// A callback for an earlier process's call counts. It is answered only when its event is durable.
#[tokio::test]
async fn what_comes_late_is_reported_before_it_is_answered() {
    let platform = Platform::start(Faults::default(), false).await;
    let (mut worker, url) = worker(&platform, &[]).await;
    for (what, is_end) in [
        (json!({"type": "opted_out", "channel": "call"}), false),
        (json!({"type": "opted_out", "channel": "call", "everywhere": true}), false),
        (json!({"type": "ended", "outcome": "busy"}), true),
    ] {
        let body = told(&what);
        let (signature, url) = (sign(&body, 0), url.clone());
        let mut answer = tokio::spawn(async move { callback(&url, &body, &signature).await });
        let report = worker.stream.report().await;
        let [fact] = report.interactions.as_slice() else { panic!("one fact: {report:?}") };
        assert_eq!(fact.contact, "campaigns/a/contacts/7");
        assert_eq!(fact.attempt_id, "2-9-7");
        if is_end {
            assert_eq!(outcome(fact), Some(CallOutcome::Busy));
        } else {
            let Some(Fact::OptedOut(opted_out)) = &fact.fact else { panic!("{fact:?}") };
            assert_eq!(opted_out.everywhere, what["everywhere"] == true);
        }
        let early = Duration::from_millis(100);
        assert!(tokio::time::timeout(early, &mut answer).await.is_err(), "not durable yet");
        worker.stream.acknowledge(&report).await;
        assert_eq!(answer.await.expect("no panic"), StatusCode::NO_CONTENT);
    }
    worker.stop().await;
}

#[tokio::test]
async fn the_end_of_a_call_is_answered_when_it_is_durable() {
    let platform = Platform::start(Faults::default(), true).await;
    let (mut worker, url) = worker(&platform, &[]).await;
    worker.stream.lease_slots(1, [0]).await;
    while platform.known().is_empty() {
        tokio::select! {
            _ = worker.answer_next() => {}
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
    let end = json!({"type": "ended", "outcome": "voicemail", "duration_seconds": 3,
        "key": "a.3-1-0", "contact": "campaigns/a/contacts/0", "attempt_id": "3-1-0"});
    let body = end.to_string();
    let tell = || {
        let (url, body, signature) = (url.clone(), body.clone(), sign(&body, 0));
        tokio::spawn(async move { callback(&url, &body, &signature).await })
    };
    let mut first = tell();
    let report = worker.stream.report().await;
    assert_eq!(outcome(&report.interactions[0]), Some(CallOutcome::Voicemail));
    let mut repeat = tell();
    for answer in [&mut first, &mut repeat] {
        let early = Duration::from_millis(100);
        assert!(tokio::time::timeout(early, answer).await.is_err(), "not durable yet");
    }
    worker.stream.acknowledge(&report).await;
    for answer in [first, repeat] {
        assert_eq!(answer.await.expect("no panic"), StatusCode::NO_CONTENT);
    }
    assert_eq!(tell().await.expect("no panic"), StatusCode::NO_CONTENT, "a repeat");
    assert_eq!(worker.stop().await.reported, 1);
}

#[tokio::test]
async fn what_the_service_rejects_need_not_be_told_again() {
    let platform = Platform::start(Faults::default(), false).await;
    let (mut worker, url) = worker(&platform, &[]).await;
    let body = told(&json!({"type": "success"}));
    let signature = sign(&body, 0);
    let answer = tokio::spawn(async move { callback(&url, &body, &signature).await });
    let report = loop {
        if let Request::Report(report) = worker.stream.next().await {
            break report;
        }
    };
    let status = InteractionStatus::Rejected.into();
    let results = vec![InteractionResult { status, ..InteractionResult::default() }];
    let ack = ReportAck { report_number: report.report_number, results };
    worker.stream.send(Response::ReportAck(ack)).await;
    assert_eq!(answer.await.expect("no panic"), StatusCode::UNPROCESSABLE_ENTITY);
    worker.stop().await;
}
