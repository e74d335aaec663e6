//! Retell: endings, webhooks and lost answers, against its own library and a strict platform.

use std::time::{Duration, Instant};

use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::interaction::Fact;
use serde_json::{Value, json};

use crate::peer::{KEY, Peer, dial, facts, outcomes, until_last_word, worker};
use crate::service::{Reported, is_provisional};

const MANY: [&str; 2] = ["--provider-failures", "1000"];

fn peer() -> Peer {
    Peer::start("retell_stub")
}

/// Dials one contact for each reason that the vendor's types name, with few places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reason_of_the_vendor_has_an_outcome_and_frees_its_place() {
    let peer = peer();
    let named = peer.act(json!({"do": "reasons"})).await;
    let reasons: Vec<String> = serde_json::from_value(named["reasons"].clone()).expect("texts");
    assert!(reasons.len() > 30, "{reasons:?}");
    let plans = reasons.iter().zip(0..).map(|(reason, slot): (_, i32)| {
        let events = match reason.as_str() {
            "transfer_bridged" => json!(["transfer_bridged", "call_ended"]),
            _ => json!(null),
        };
        (slot.to_string(), json!({"reason": reason, "events": events}))
    });
    let plans = Value::Object(plans.collect());
    let flags = [&MANY[..], &["--max-calls", "5"]].concat();
    let mut worker = worker(&peer, "retell", &flags, plans).await;
    let slots: Vec<i32> = (0..).take(reasons.len()).collect();
    let reported = dial(&mut worker, 1, &slots).await;
    let outcomes = outcomes(&reported);
    let of = |reason: &str| {
        let slot = reasons.iter().position(|own| own == reason).expect("a reason");
        (slot, outcomes[&i32::try_from(slot).expect("few")])
    };
    for (slot, outcome) in &outcomes {
        assert_ne!(*outcome, CallOutcome::Unknown, "{slot}");
    }
    for (reason, expected) in [
        ("user_hangup", CallOutcome::Answered),
        ("voicemail_reached", CallOutcome::Voicemail),
        ("dial_busy", CallOutcome::Busy),
        ("dial_no_answer", CallOutcome::NoAnswer),
        ("user_declined", CallOutcome::Rejected),
        ("invalid_destination", CallOutcome::InvalidNumber),
        ("dial_failed", CallOutcome::Failed),
        ("credit_exhausted", CallOutcome::Congested),
        ("manual_stopped", CallOutcome::Answered),
    ] {
        assert_eq!(of(reason).1, expected, "{reason}");
    }
    let dnc = format!("{} opted out everywhere", of("user_requested_dnc").0);
    let transferred = format!("{} transferred", of("transfer_bridged").0);
    let mut expected = vec![dnc, transferred];
    expected.sort();
    assert_eq!(facts(&reported), expected, "a cold or cancelled transfer reached nobody");
    assert!(peer.calls().await.iter().all(|call| call["rings"] == 1));
    worker.stop().await;
}

/// Webhooks come in any order and three times. Analysis corrects an end that was reported before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_and_repeated_webhooks_change_an_end_once() {
    let peer = peer();
    let plans = json!({
        "1": {"events": ["call_ended", "call_started", "call_analyzed"], "in_voicemail": true,
              "pause": 0.3, "times": 3},
        "2": {"events": ["call_analyzed", "call_ended"], "times": 3, "pause": 0.2,
              "analysis": {"success": true, "opted_out": "true"}},
        "3": {"events": ["call_ended"]},
        "4": {"silent": true, "reason": "dial_busy"},
        "5": {"reason": "transfer_bridged", "duration_ms": 61_000,
              "events": ["transfer_started", "transfer_bridged", "call_ended", "call_analyzed"]},
    });
    let mut worker = worker(&peer, "retell", &MANY, plans).await;
    let mut reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5]).await;
    until_last_word(&mut worker, &mut reported, &["3-1-1"]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let answered = CallOutcome::Answered;
    let expected = [CallOutcome::Voicemail, answered, answered, CallOutcome::Busy, answered];
    assert_eq!(ends, expected, "late analysis, early analysis, none, polled, transferred");
    assert_eq!(facts(&reported), ["2 opted out", "2 success", "5 transferred"]);
    let before = reported.facts.iter().find_map(|fact| match &fact.fact {
        Some(Fact::Transferred(told)) => Some(told.seconds_before_transfer),
        _ => None,
    });
    assert!(before.is_some_and(|seconds| (61..=75).contains(&seconds)), "{before:?}");
    let answers = peer.state().await["answers"].clone();
    let is_kind = |status: &Value| status == 204 || status == 503;
    assert!(answers.as_array().expect("statuses").iter().all(is_kind), "{answers}");
    worker.stop().await;
}

/// A webhook is believed by the vendor's own signature, under either secret, for five minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_need_the_vendors_signature_and_reach_calls_of_an_earlier_process() {
    let peer = peer();
    let flags = [&MANY[..], &["--http-callback-secret-before", "secret_before_0123456"]].concat();
    let mut worker = worker(&peer, "retell", &flags, json!({})).await;
    let metadata = json!({"key": "a.2-9-7", "contact": "campaigns/a/contacts/7",
        "attempt_id": "2-9-7"});
    let call = json!({"call_id": "call_9", "call_status": "not_connected", "metadata": metadata,
        "disconnection_reason": "dial_no_answer"});
    let body = json!({"event": "call_ended", "call": call}).to_string();
    let send = |secret: &str, signed: &str, ahead_ms: i64| {
        json!({"do": "send", "secret": secret, "signed": signed, "body": body,
            "ahead_ms": ahead_ms})
    };
    for refused in [
        send("another_secret_0123456", &body, 0),
        send(KEY, "another body", 0),
        send(KEY, &body, -310_000),
        send(KEY, &body, 310_000),
    ] {
        assert_eq!(peer.act(refused).await["status"], 401);
    }
    let mut reported = Reported::default();
    for secret in [KEY, "secret_before_0123456"] {
        let sent = peer.act(send(secret, &body, -290_000));
        let noted = async {
            while reported.ends.is_empty() {
                worker.note_next(&mut reported).await;
            }
        };
        let (answer, ()) = tokio::join!(sent, noted);
        assert_eq!(answer["status"], 204);
        let end = reported.ends.remove("2-9-7").expect("the end of an earlier call");
        assert_eq!(crate::fake::outcome(&end), Some(CallOutcome::NoAnswer));
    }
    let analysed = |attempt: &str, event: &str, analysis: Value| {
        let metadata = json!({"key": format!("a.{attempt}"), "contact": "campaigns/a/contacts/8",
            "attempt_id": attempt});
        let call = json!({"call_id": "call_8", "call_status": "ended", "metadata": metadata,
            "disconnection_reason": "user_hangup", "duration_ms": 9_000, "call_analysis": analysis});
        let body = json!({"event": event, "call": call}).to_string();
        json!({"do": "send", "secret": KEY, "signed": body, "body": body})
    };
    let seen = json!({"in_voicemail": true});
    for (event, analysis, outcome) in [
        ("call_ended", Value::Null, CallOutcome::Answered),
        ("call_analyzed", seen, CallOutcome::Voicemail),
    ] {
        let told = async {
            loop {
                if let Some(end) = worker.answer_next().await.pop() {
                    return end;
                }
            }
        };
        let (sent, end) = tokio::join!(peer.act(analysed("2-9-8", event, analysis)), told);
        assert_eq!((&sent["status"], crate::fake::outcome(&end)), (&json!(204), Some(outcome)));
        let may_change = outcome == CallOutcome::Answered;
        assert_eq!(is_provisional(&end), may_change, "reported before Retell is answered");
    }
    let others = json!({"event": "call_ended", "call": {"call_id": "call_of_others"}}).to_string();
    let of_others = json!({"do": "send", "secret": KEY, "signed": others, "body": others});
    assert_eq!(peer.act(of_others).await["status"], 204, "calls of others are none of ours");
    worker.stop().await;
}

/// A lost answer begins no second call, and the request equals the vendor's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_begins_nothing_twice_and_requests_are_the_vendors() {
    let peer = peer();
    let plans = json!({
        "1": {"lost": true},
        "2": {"lost": true, "reason": "dial_busy"},
        "3": {"status": 500},
        "4": {"status": 400, "message": "contact is marked do_not_call"},
        "5": {"status": 402},
    });
    let mut worker = worker(&peer, "retell", &MANY, plans).await;
    let reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let (rejected, congested) = (CallOutcome::Rejected, CallOutcome::Congested);
    let (answered, busy) = (CallOutcome::Answered, CallOutcome::Busy);
    assert_eq!(ends, [answered, busy, CallOutcome::Unknown, rejected, congested]);
    assert_eq!(facts(&reported), ["4 opted out everywhere"]);
    let calls = peer.calls().await;
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call["rings"] == 1), "{calls:?}");

    let more = dial(&mut worker, 2, &[6]).await;
    assert_eq!(more.ends.len(), 1);
    let compared = peer.act(json!({"do": "compare"})).await;
    assert_eq!(compared["differs"], json!([]), "unlike the vendor's own client");
    worker.stop().await;
}

/// The list does not show a call yet that began with a lost answer, and the platform refuses the repeat. The phone may
/// ring, so the attempt is not given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_repeat_does_not_prove_that_nothing_began() {
    let peer = peer();
    let lost = json!({"lost": true, "hidden": true, "silent": true, "waits": true});
    let refused = |code: i32| {
        let mut plan = lost.clone();
        plan["repeat"] = json!(code);
        plan
    };
    let plans = json!({"1": refused(429), "2": refused(402), "3": refused(400)});
    let mut worker = worker(&peer, "retell", &MANY, plans).await;
    let reported = dial(&mut worker, 1, &[1, 2, 3]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    assert_eq!(ends, [CallOutcome::Unknown; 3]);
    let calls = peer.calls().await;
    assert!(calls.len() == 3 && calls.iter().all(|call| call["rings"] == 1), "{calls:?}");
    worker.stop().await;
}

/// A call whose end never comes is polled, then hung up at its longest time, then unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_never_comes_is_found_or_unknown() {
    let peer = peer();
    let plans = json!({
        "1": {"waits": true},
        "2": {"never_ends": true},
        "3": {"silent": true, "waits": true},
    });
    let flags = [&MANY[..], &["--http-call-limit-seconds", "2"]].concat();
    let mut worker = worker(&peer, "retell", &flags, plans).await;
    let begun = Instant::now();
    let reported = dial(&mut worker, 1, &[1, 2, 3]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    assert_eq!(ends, [CallOutcome::Answered, CallOutcome::Unknown, CallOutcome::Answered]);
    let Some(Fact::CallEnded(ended)) = &reported.ends["3-1-2"].fact else { panic!("no end") };
    let detail = ended.detail.as_ref().expect("a reason");
    assert!(detail.reason.contains("no end") && !detail.provider_call_id.is_empty(), "{detail:?}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(peer.calls().await.iter().all(|call| call["stopped"] == true));
    worker.stop().await;
}

/// Account trouble is told after the request was accepted, and an agent that fails after somebody
/// answered. Both stop dialling, and a call that goes well starts it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_after_the_request_stops_dialling() {
    for (trouble, outcome) in [
        (json!({"reason": "no_valid_payment"}), CallOutcome::Congested),
        (json!({"reason": "error_llm_websocket_open", "connected": true}), CallOutcome::Abandoned),
    ] {
        let peer = peer();
        let flags =
            ["--max-calls", "1", "--provider-failures", "3", "--provider-retry-seconds", "1"];
        let mut worker = worker(&peer, "retell", &flags, json!({"*": trouble})).await;
        worker.stream.lease_slots(1, 0..10).await;
        let mut reported = Reported::default();
        while reported.ends.len() + worker.released.len() < 10 {
            worker.note_next(&mut reported).await;
        }
        assert_eq!(worker.released, (3..10).collect::<Vec<_>>(), "what waits is given back");
        assert_eq!((reported.count(outcome), peer.calls().await.len()), (3, 3));
        peer.set(json!({}), json!({"*": {"reason": "user_hangup"}})).await;
        worker.credit = 0;
        worker.until_credit().await;
        let reported = dial(&mut worker, 2, &[11]).await;
        assert_eq!(reported.count(CallOutcome::Answered), 1);
        worker.stop().await;
    }
}
