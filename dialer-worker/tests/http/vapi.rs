//! Vapi: endings, messages and lost answers, against the vendor's types and client.

use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::interaction::Fact;
use serde_json::{Value, json};

use crate::peer::{KEY, Peer, dial, facts, outcomes, worker};
use crate::service::{CallingWorker, Reported};

const FLAGS: [&str; 4] = ["--http-agent", "assistant-7", "--provider-failures", "1000"];

fn peer() -> Peer {
    Peer::start("vapi_stub")
}

async fn calling(peer: &Peer, flags: &[&str], plans: Value) -> CallingWorker {
    worker(peer, "vapi", &[&FLAGS[..], flags].concat(), plans).await
}

/// Dials one contact for each of the vendor's reasons, with few places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reason_of_the_vendor_has_an_outcome_and_frees_its_place() {
    let peer = peer();
    let named = peer.act(json!({"do": "reasons"})).await;
    let reasons: Vec<String> = serde_json::from_value(named["reasons"].clone()).expect("texts");
    assert!(reasons.len() > 500, "{}", reasons.len());
    let plans = reasons.iter().zip(0..).map(|(reason, slot): (_, i32)| {
        (slot.to_string(), json!({"reason": reason, "messages": ["report"]}))
    });
    let plans = Value::Object(plans.collect());
    let flags = ["--max-calls", "30", "--calls-per-second", "10000", "--prefetch-contacts", "1000"];
    let mut worker = calling(&peer, &flags, plans).await;
    let slots: Vec<i32> = (0..).take(reasons.len()).collect();
    let (first, second) = slots.split_at(400);
    let mut outcomes = outcomes(&dial(&mut worker, 1, first).await);
    outcomes.extend(self::outcomes(&dial(&mut worker, 2, second).await));
    let unknown: Vec<_> = reasons
        .iter()
        .zip(outcomes.values())
        .filter(|(_, outcome)| **outcome == CallOutcome::Unknown)
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_and_repeated_messages_change_an_end_once() {
    let peer = peer();
    let plans = json!({
        "1": {"messages": ["report", "ended", "in-progress", "ringing"], "times": 3,
              "analysis": {"structuredData": {"success": true, "opted_out": true}}},
        "2": {"messages": ["ended", "report"], "pause": 0.3, "reason": "assistant-forwarded-call"},
        "3": {"messages": ["ended"], "reason": "customer-busy"},
        "4": {"silent": true, "reason": "voicemail"},
        "5": {"reason": "call.forwarding.no-answer"},
        "6": {"reason": "manually-canceled", "connected": false},
        "7": {"reason": "call.in-progress.error-providerfault-outbound-sip-403-forbidden"},
        "8": {"reason": "pipeline-error-openai-429-exceeded-quota", "connected": true},
    });
    let mut worker = calling(&peer, &[], plans).await;
    let reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5, 6, 7, 8]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let answered = CallOutcome::Answered;
    let (busy, machine) = (CallOutcome::Busy, CallOutcome::Voicemail);
    let (cancelled, congested) = (CallOutcome::Cancelled, CallOutcome::Congested);
    let abandoned = CallOutcome::Abandoned;
    let expected = [answered, answered, busy, machine, answered, cancelled, congested, abandoned];
    assert_eq!(ends, expected);
    assert_eq!(facts(&reported), ["1 opted out", "1 success", "2 transferred"]);
    let Some(Fact::CallEnded(ended)) = &reported.ends["3-1-2"].fact else { panic!("no end") };
    let seconds = ended.duration.as_ref().map(|duration| duration.seconds);
    assert_eq!(seconds, Some(65), "an update tells no length, and a look-up does");
    worker.stop().await;
}

/// The secret comes as a token, or signs the message in the header that was named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_need_the_credential_that_was_set() {
    let peer = peer();
    let before = ["--http-callback-secret-before", "secret_before_0123456"];
    let mut first = calling(&peer, &before, json!({})).await;
    let call = json!({"id": "019", "assistantOverrides": {"metadata": {"key": "a.2-9-7",
        "contact": "campaigns/a/contacts/7", "attempt_id": "2-9-7"}}});
    let message =
        json!({"type": "end-of-call-report", "endedReason": "customer-busy", "call": call});
    let body = json!({"message": message}).to_string();
    let send = |headers: Value| json!({"do": "send", "body": body, "headers": headers});
    for headers in [json!({}), json!({"authorization": "Bearer no"}), json!({"x-vapi-secret": "x"})]
    {
        assert_eq!(peer.act(send(headers)).await["status"], 401);
    }
    for headers in [
        json!({"authorization": format!("Bearer {KEY}")}),
        json!({"authorization": "Bearer secret_before_0123456"}),
        json!({"x-vapi-secret": KEY}),
    ] {
        let mut reported = Reported::default();
        let noted = async {
            while reported.ends.is_empty() {
                first.note_next(&mut reported).await;
            }
        };
        let (answer, ()) = tokio::join!(peer.act(send(headers)), noted);
        assert_eq!((&answer["status"], reported.count(CallOutcome::Busy)), (&json!(204), 1));
    }
    first.stop().await;

    peer.set(json!({"header": "x-signature"}), json!({})).await;
    let flags = ["--http-signature-header", "x-signature"];
    let mut worker = calling(&peer, &flags, json!({})).await;
    let reported = dial(&mut worker, 1, &[1]).await;
    assert_eq!(reported.count(CallOutcome::Answered), 1);
    let token = json!({"authorization": format!("Bearer {KEY}")});
    assert_eq!(peer.act(send(token)).await["status"], 401, "a token is no signature");
    worker.stop().await;
}

/// A lost request is searched by its metadata and never repeated. A call is hung up by its own
/// address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_are_searched_and_calls_hung_up() {
    let peer = peer();
    let plans = json!({
        "1": {"lost": true, "reason": "customer-did-not-answer"},
        "2": {"lost": true, "silent": true},
        "3": {"status": 400, "message": "customer.number must be a valid phone number"},
        "4": {"messages": ["in-progress"]},
        "5": {"messages": ["in-progress"], "silent": true},
    });
    let mut worker = calling(&peer, &["--http-call-limit-seconds", "2"], plans).await;
    let reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let (answered, invalid) = (CallOutcome::Answered, CallOutcome::InvalidNumber);
    let no_answer = CallOutcome::NoAnswer;
    assert_eq!(ends, [no_answer, answered, invalid, answered, answered]);
    let stopped = peer.calls().await.into_iter().filter(|call| call["stopped"] == true);
    assert_eq!(stopped.count(), 2);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_those_of_the_vendors_client() {
    let peer = peer();
    let mut worker = calling(&peer, &[], json!({})).await;
    dial(&mut worker, 1, &[1]).await;
    let compared = peer.act(json!({"do": "compare"})).await;
    assert_eq!(compared["differs"], json!([]));
    worker.stop().await;
}
