//! ElevenLabs: endings, webhooks and lost answers, against the vendor's library and client.

use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{Revoke, interaction::Fact};
use serde_json::{Value, json};

use crate::peer::{KEY, Peer, dial, facts, outcomes, worker};
use crate::service::{CallingWorker, Reported};

const FLAGS: [&str; 4] = ["--http-agent", "agent_7", "--provider-failures", "1000"];

fn peer() -> Peer {
    Peer::start("elevenlabs_stub")
}

async fn calling(peer: &Peer, flags: &[&str], plans: Value) -> CallingWorker {
    worker(peer, "elevenlabs", &[&FLAGS[..], flags].concat(), plans).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endings_are_told_apart_and_free_their_place() {
    let peer = peer();
    let plans = json!({
        "1": {"times": 3, "collected": {"success": true, "opted_out": "True"}},
        "2": {"result": "voicemail"},
        "3": {"voicemail": true},
        "4": {"failure": "busy", "times": 2},
        "5": {"failure": "no-answer"},
        "6": {"failure": "unknown", "body": {"sip_status_code": 404}},
        "7": {"failure": "unknown", "body": {"SipResponseCode": "503"}},
        "8": {"silent": true, "result": "no_answer", "duration": 0},
        "9": {"error": {"code": 1011, "reason": "quota"}},
        "10": {"refused": "SIP 403 Forbidden"},
        "11": {"refused": "invalid number: 404"},
    });
    let mut worker = calling(&peer, &["--max-calls", "2"], plans).await;
    let reported = dial(&mut worker, 1, &(1..12).collect::<Vec<_>>()).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let (answered, machine) = (CallOutcome::Answered, CallOutcome::Voicemail);
    let (busy, no_answer) = (CallOutcome::Busy, CallOutcome::NoAnswer);
    let (invalid, congested) = (CallOutcome::InvalidNumber, CallOutcome::Congested);
    let abandoned = CallOutcome::Abandoned;
    let expected = [
        answered, machine, machine, busy, no_answer, invalid, congested, no_answer, abandoned,
        congested, invalid,
    ];
    assert_eq!(ends, expected);
    assert_eq!(facts(&reported), ["1 opted out", "1 success"]);
    let Some(Fact::CallEnded(ended)) = &reported.ends["3-1-1"].fact else { panic!("no end") };
    assert_eq!(ended.duration.as_ref().map(|duration| duration.seconds), Some(61));
    worker.stop().await;
}

/// A webhook is believed by its signature, under either secret, for 30 minutes. A failed call is
/// told by its id, also to a worker that did not place it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_need_a_signature_and_ids_find_calls_of_an_earlier_process() {
    let peer = peer();
    let mut earlier = calling(&peer, &[], json!({"7": {"waits": true}})).await;
    earlier.stream.lease_slots(1, [7]).await;
    while peer.calls().await.is_empty() {
        tokio::select! {
            _ = earlier.answer_next() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
        }
    }
    let before = ["--http-callback-secret-before", "secret_before_0123456"];
    let mut worker = calling(&peer, &before, json!({})).await;
    let data = json!({"conversation_id": "conv_0", "failure_reason": "busy"});
    let body = json!({"type": "call_initiation_failure", "data": data}).to_string();
    let send = |secret: &str, signed: &str, age: i64| json!({"do": "send", "secret": secret, "signed": signed, "body": body, "age": age});
    for refused in [
        send("another_secret_0123456", &body, 0),
        send(KEY, "another body", 0),
        send(KEY, &body, 1_810),
    ] {
        assert_eq!(peer.act(refused).await["status"], 401);
    }
    for secret in [KEY, "secret_before_0123456"] {
        let mut reported = Reported::default();
        let noted = async {
            while reported.ends.is_empty() {
                worker.note_next(&mut reported).await;
            }
        };
        let (answer, ()) = tokio::join!(peer.act(send(secret, &body, 1_790)), noted);
        assert_eq!(answer["status"], 204);
        assert_eq!(reported.ends.keys().collect::<Vec<_>>(), ["3-1-7"]);
    }
    worker.stop().await;
    drop(earlier);
}

/// A lost request is searched by its variables and never repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_searched_and_never_repeated() {
    let peer = peer();
    let plans = json!({
        "1": {"lost": true, "result": "voicemail"},
        "2": {"lost": true, "silent": true},
    });
    let mut worker = calling(&peer, &[], plans).await;
    let reported = dial(&mut worker, 1, &[1, 2]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    assert_eq!(ends, [CallOutcome::Voicemail, CallOutcome::Answered]);
    let state = peer.state().await;
    let requests = state["requests"].as_array().expect("requests").iter();
    let creates = requests.filter(|made| made["method"] == "POST").count();
    assert_eq!(creates, 2, "one request for each contact");
    worker.stop().await;
}

/// The platform has no hang-up. A call goes on until its longest time, and is unknown then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_hung_up_is_followed_to_its_end() {
    let peer = peer();
    let plans = json!({"1": {"pause": 1}, "2": {"waits": true}});
    let mut worker = calling(&peer, &["--http-call-limit-seconds", "3"], plans).await;
    worker.stream.lease_slots(1, [1, 2]).await;
    let mut reported = Reported::default();
    while peer.calls().await.len() < 2 {
        tokio::select! {
            _ = worker.answer_next() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
        }
    }
    let campaign = "campaigns/a".to_owned();
    let revoke = Revoke { campaign, hang_up: true, run: 3, ..Revoke::default() };
    worker.stream.send(Response::Revoke(revoke)).await;
    while reported.ends.len() < 2 {
        worker.note_next(&mut reported).await;
    }
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    assert_eq!(ends, [CallOutcome::Answered, CallOutcome::Unknown]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_those_of_the_vendors_client() {
    let peer = peer();
    for flags in [&[][..], &["--http-over-twilio"]] {
        let mut worker = calling(&peer, flags, json!({})).await;
        dial(&mut worker, 1, &[1]).await;
        let compared = peer.act(json!({"do": "compare"})).await;
        assert_eq!(compared["differs"], json!([]), "{flags:?}");
        worker.stop().await;
    }
}
