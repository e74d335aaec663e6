//! Twilio: calls, texts and opt-outs by text, against its own validator and client.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use campaign_proto::v1::CallOutcome;
use campaign_proto::v1::interaction::Fact;
use serde_json::{Value, json};

use crate::fake::outcome;
use crate::peer::{FROM, Peer, dial, facts, outcomes, until_last_word, worker};
use crate::service::{CallingWorker, Reported};

const ACCOUNT: &str = "AC00000000000000000000000000000007";
const CALLS: [&str; 6] = [
    "--http-account",
    ACCOUNT,
    "--http-agent",
    "https://agent.example/twiml",
    "--provider-failures",
    "1000",
];
const TEXTS: [&str; 8] = [
    "--http-account",
    ACCOUNT,
    "--http-channel",
    "sms",
    "--http-text",
    "Hello {display_name}: {link}",
    "--provider-failures",
    "1000",
];

fn peer() -> Peer {
    Peer::start("twilio_stub")
}

async fn calling(peer: &Peer, flags: &[&str], plans: Value) -> CallingWorker {
    worker(peer, "twilio", &[&CALLS[..], flags].concat(), plans).await
}

/// Ends in any order and repeated, with two places for all calls. Rejected, not answered, cancelled
/// and failed are told apart, and an account that fails is not the contact's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endings_are_told_apart_in_any_order() {
    let peer = peer();
    let plans = json!({
        "1": {"statuses": ["completed", "in-progress", "ringing", "initiated"], "times": 3},
        "2": {"end": "busy", "times": 2},
        "3": {"end": "no-answer"},
        "4": {"end": "canceled"},
        "5": {"end": "failed", "sip": 404},
        "6": {"end": "failed", "sip": 503},
        "7": {"end": "busy", "silent": true},
        "8": {"end": "failed"},
    });
    let mut worker = calling(&peer, &["--max-calls", "2"], plans).await;
    let reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5, 6, 7, 8]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let (busy, no_answer, failed) = (CallOutcome::Busy, CallOutcome::NoAnswer, CallOutcome::Failed);
    let (cancelled, invalid) = (CallOutcome::Cancelled, CallOutcome::InvalidNumber);
    let (answered, congested) = (CallOutcome::Answered, CallOutcome::Congested);
    let expected = [answered, busy, no_answer, cancelled, invalid, congested, busy, failed];
    assert_eq!(ends, expected);
    let answered = &reported.ends["3-1-1"].fact;
    let Some(Fact::CallEnded(ended)) = answered else { panic!("{answered:?}") };
    assert_eq!(ended.duration.as_ref().map(|duration| duration.seconds), Some(2));
    let calls = peer.calls().await;
    let events = json!(["initiated", "ringing", "answered", "completed"]);
    assert!(calls.iter().all(|call| call["events"] == events), "one parameter for each event");
    worker.stop().await;
}

/// Returns the outcomes that the worker reports, by slot, until there are so many.
async fn all_outcomes(
    worker: &mut CallingWorker,
    count: usize,
) -> BTreeMap<String, Vec<CallOutcome>> {
    let mut ends = BTreeMap::<String, Vec<CallOutcome>>::new();
    while ends.values().map(Vec::len).sum::<usize>() < count {
        for fact in worker.answer_next().await {
            let slot = fact.attempt_id.rsplit('-').next().expect("a slot");
            ends.entry(slot.to_owned()).or_default().extend(outcome(&fact));
        }
    }
    ends
}

/// A verdict on the voice comes during the call, after its end, or never. The end waits for none, so that nothing is
/// lost with the worker that Twilio told it to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_verdict_on_the_voice_corrects_the_end() {
    let peer = peer();
    let amd = |verdict: &str, statuses: Value| json!({"amd": verdict, "statuses": statuses, "pause": 0.2});
    let plans = json!({
        "1": amd("machine_start", json!(["in-progress", "amd", "completed"])),
        "2": amd("machine_end_beep", json!(["in-progress", "completed", "amd"])),
        "3": amd("human", json!(["in-progress", "completed", "amd"])),
        "4": {},
        "5": amd("fax", json!(["amd", "completed"])),
    });
    let mut worker = calling(&peer, &["--http-detect-machines"], plans).await;
    worker.stream.lease_slots(1, [1, 2, 3, 4, 5]).await;
    let ends: Vec<_> = all_outcomes(&mut worker, 6).await.into_values().collect();
    let (answered, machine) = (CallOutcome::Answered, CallOutcome::Voicemail);
    let expected: [&[CallOutcome]; 5] =
        [&[machine], &[answered, machine], &[answered], &[answered], &[machine]];
    assert_eq!(ends, expected);
    worker.stop().await;
}

/// Another worker than the one that placed the call gets the verdict, or the end that says nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_counts_at_any_worker() {
    let peer = peer();
    let plan = json!({"amd": "machine_start", "statuses": ["in-progress", "completed", "amd"]});
    let detects = ["--http-detect-machines"];
    let mut first = calling(&peer, &detects, json!({"1": plan})).await;
    first.stream.lease_slots(1, [1]).await;
    let mut told = None;
    while told != Some(CallOutcome::Voicemail) {
        told = first.answer_next().await.iter().filter_map(outcome).next_back().or(told);
    }
    first.stop().await;

    let mut second = calling(&peer, &detects, json!({})).await;
    let callback = peer.act(json!({"do": "settings"})).await["callback"].clone();
    let callback = callback.as_str().expect("text");
    let url = format!("{callback}?contact=campaigns/a/contacts/1&attempt=3-1-1");
    let id = peer.calls().await[0]["shown"]["sid"].clone();
    for fields in [
        json!({"CallSid": id, "AnsweredBy": "machine_start"}),
        json!({"CallSid": id, "CallStatus": "completed", "CallDuration": "2"}),
    ] {
        let send = json!({"do": "send", "url": url, "fields": fields});
        let (answer, ends) = tokio::join!(peer.act(send), all_outcomes(&mut second, 1));
        assert_eq!(answer["status"], 204, "{fields}");
        assert_eq!(ends["1"], [CallOutcome::Voicemail], "{fields}");
    }
    second.stop().await;
}

/// Twilio has no idempotency key, so a lost request is searched and never repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_searched_and_never_repeated() {
    let peer = peer();
    let plans = json!({
        "1": {"lost": true, "end": "busy"},
        "2": {"lost": true, "silent": true, "end": "no-answer"},
        "3": {"status": 503},
        "4": {"status": 429, "code": 20429, "headers": {"retry-after": "7"}},
        "5": {"status": 400, "code": 21211},
    });
    let mut worker = calling(&peer, &[], plans).await;
    let begun = Instant::now();
    let reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    let (busy, no_answer) = (CallOutcome::Busy, CallOutcome::NoAnswer);
    let (congested, invalid) = (CallOutcome::Congested, CallOutcome::InvalidNumber);
    assert_eq!(ends, [busy, no_answer, CallOutcome::Unknown, congested, invalid]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let state = peer.state().await;
    let requests = state["requests"].as_array().expect("requests").iter();
    let creates = requests.filter(|made| {
        let path = made["path"].as_str().expect("text");
        made["method"] == "POST" && path.ends_with("/Calls.json")
    });
    assert_eq!(creates.count(), 5, "one request for each contact");
    worker.stop().await;
}

/// A platform that asks for time is neither asked nor probed before that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_asks_for_time_gets_it() {
    let peer = peer();
    let busy = json!({"status": 429, "code": 20429, "headers": {"retry-after": "3"}});
    let flags = ["--provider-failures", "2", "--provider-retry-seconds", "1", "--max-calls", "1"];
    let flags = [&CALLS[..4], &flags].concat();
    let mut worker = worker(&peer, "twilio", &flags, json!({"*": busy})).await;
    worker.stream.lease_slots(1, 0..5).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 5 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Congested), 2);
    worker.credit = 0;
    worker.until_credit().await;
    let state = peer.state().await;
    let times = |method: &str| {
        let requests = state["requests"].as_array().expect("requests").iter();
        let times = requests.filter(|made| made["method"] == method);
        times.map(|made| made["at"].as_f64().expect("a time")).collect::<Vec<_>>()
    };
    let (asked, probed) = (times("POST"), times("GET"));
    assert_eq!((asked.len(), probed.len()), (2, 1));
    assert!(probed[0] - asked[1] > 2.9, "{} s", probed[0] - asked[1]);
    worker.stop().await;
}

/// The proxy in front of the worker changes host and port. The public URL is what is signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_are_signed_for_the_public_url() {
    let peer = peer();
    let public = "https://calls.example/hooks";
    let flags =
        ["--http-callback-url", public, "--http-callback-secret-before", "token_before_0123456"];
    let mut worker = calling(&peer, &flags, json!({})).await;
    // Stands for the proxy: the stub signs the public URL and connects to the worker.
    let reach = peer.act(json!({"do": "settings"})).await["callback"].clone();
    let names = "contact=campaigns/a/contacts/7&attempt=2-9-7";
    let fields = json!({"CallSid": "CA7", "CallStatus": "busy", "Odd Name": "ä+&=", "Empty": ""});
    let send = |settings: Value, signed: &str| {
        let mut settings = settings;
        settings["reach"] = reach.clone();
        let url = format!("http://x/callbacks?{names}");
        json!({"do": "send", "url": url, "signed": signed, "fields": fields, "settings": settings})
    };
    let signed = format!("{public}/callbacks?{names}");
    let right = [
        send(json!({}), &signed),
        send(json!({}), &signed.replace("calls.example", "calls.example:443")),
        send(json!({"sha256": true}), &signed),
        send(json!({"secret": "token_before_0123456"}), &signed),
    ];
    let local = format!("{}?{names}", reach.as_str().expect("text"));
    let wrong = [
        send(json!({}), &local),
        send(json!({"secret": "token_of_nobody_0123"}), &signed),
        send(json!({}), &signed.replace("2-9-7", "2-9-8")),
    ];
    for command in wrong {
        assert_eq!(peer.act(command).await["status"], 401);
    }
    for command in right {
        let mut reported = Reported::default();
        let noted = async {
            while reported.ends.is_empty() {
                worker.note_next(&mut reported).await;
            }
        };
        let (answer, ()) = tokio::join!(peer.act(command), noted);
        assert_eq!(answer["status"], 204);
        assert_eq!(reported.count(CallOutcome::Busy), 1, "a call of an earlier process");
    }
    worker.stop().await;
}

/// Receipts that come together end a text by the last word, whichever is handled first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_word_is_not_replaced_by_an_earlier_state() {
    let peer = peer();
    let plan = json!({"statuses": ["sent", "undelivered", "sent"], "code": 30003});
    let mut worker = worker(&peer, "twilio", &TEXTS, json!({"*": plan})).await;
    let mut reported = dial(&mut worker, 1, &(0..50).collect::<Vec<_>>()).await;
    let attempts: Vec<String> = reported.ends.keys().cloned().collect();
    let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
    until_last_word(&mut worker, &mut reported, &attempts).await;
    assert_eq!(reported.count(CallOutcome::NoAnswer), 50);
    worker.stop().await;
}

/// Texts end by their receipts. A number that opted out at Twilio is an opt-out here too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_end_by_their_receipts_and_opt_outs_are_told() {
    let peer = peer();
    let plans = json!({
        "1": {"statuses": ["delivered", "sent"], "times": 2},
        "2": {"statuses": ["sent", "undelivered"], "code": 30003},
        "3": {"status": 400, "code": 21610},
        "4": {"statuses": ["failed"], "code": 21610},
        "5": {"statuses": ["failed"], "code": 30002},
    });
    let mut worker = worker(&peer, "twilio", &TEXTS, plans).await;
    let mut reported = dial(&mut worker, 1, &[1, 2, 3, 4, 5]).await;
    until_last_word(&mut worker, &mut reported, &["3-1-2"]).await;
    let ends = outcomes(&reported);
    assert_eq!(ends[&1], CallOutcome::Answered);
    assert_eq!(ends[&2], CallOutcome::NoAnswer);
    assert_eq!((ends[&3], ends[&4]), (CallOutcome::Rejected, CallOutcome::Rejected));
    assert_eq!(ends[&5], CallOutcome::Congested);
    let expected =
        ["1 text sent", "2 text sent", "3 opted out everywhere", "4 opted out everywhere"];
    assert_eq!(facts(&reported), expected);
    let text = json!(format!("Hello : {}", crate::fake::link(1)));
    assert!(peer.calls().await.iter().any(|sent| sent["text"] == text));
    worker.stop().await;
}

/// STOP has only a number. It reaches the service by that number, however often it has to be told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_by_text_reaches_the_service_by_number() {
    let peer = peer();
    let flags = [&TEXTS[..], &["--http-text-campaign", "campaigns/a"]].concat();
    let mut worker = worker(&peer, "twilio", &flags, json!({})).await;
    let callback = peer.act(json!({"do": "settings"})).await["callback"].clone();
    let text = |id: &str, body: &str, kind: &str| {
        let fields = json!({"MessageSid": id, "SmsStatus": "received", "From": "+15550001234",
            "To": FROM, "Body": body, "OptOutType": kind});
        json!({"do": "send", "url": callback, "fields": fields})
    };
    for (id, body, kind) in [("SM1", " Stop. ", ""), ("SM2", "arrêt", "STOP")] {
        assert_eq!(peer.act(text(id, body, kind)).await["status"], 204);
        let request = worker.service.records.recv().await.expect("a request");
        assert_eq!(request.parent, "campaigns/a");
        let [told] = request.interactions.as_slice() else { panic!("{request:?}") };
        assert_eq!(told.phone_number, "+15550001234");
        let interaction = told.interaction.as_ref().expect("a fact");
        assert_eq!(interaction.interaction_id, format!("text.{id}"));
        let Some(Fact::OptedOut(opted_out)) = &interaction.fact else { panic!("{interaction:?}") };
        assert!(opted_out.everywhere && opted_out.channel == "text");
    }
    for (id, body, kind) in
        [("SM3", "START", ""), ("SM4", "stop by tomorrow", ""), ("SM5", "help", "HELP")]
    {
        assert_eq!(peer.act(text(id, body, kind)).await["status"], 204);
    }
    assert!(worker.service.records.try_recv().is_err(), "no opt-out");
    worker.stop().await;

    let without = self::worker(&peer, "twilio", &TEXTS, json!({})).await;
    let callback = peer.act(json!({"do": "settings"})).await["callback"].clone();
    let mut stop = text("SM6", "STOP", "");
    stop["url"] = callback;
    assert_eq!(peer.act(stop).await["status"], 422, "an opt-out is never dropped in silence");
    without.stop().await;
}

/// Both kinds of request equal the vendor's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_those_of_the_vendors_client() {
    for (kind, flags) in [("Calls", &CALLS[..]), ("Messages", &TEXTS[..])] {
        let peer = peer();
        let flags = match kind {
            "Calls" => [flags, &["--http-detect-machines"]].concat(),
            _ => flags.to_vec(),
        };
        let mut worker = worker(&peer, "twilio", &flags, json!({})).await;
        dial(&mut worker, 1, &[1]).await;
        let compared = peer.act(json!({"do": "compare", "kind": kind})).await;
        assert_eq!(compared["differs"], json!([]), "{kind}");
        worker.stop().await;
    }
}

/// A call is hung up at its longest time, and its end is polled if no callback tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_hung_up_at_its_longest_time() {
    let peer = peer();
    let waits = json!(["initiated", "ringing", "in-progress"]);
    let plans = json!({"1": {"statuses": waits}, "2": {"statuses": waits, "silent": true}});
    let mut worker = calling(&peer, &["--http-call-limit-seconds", "1"], plans).await;
    let reported = dial(&mut worker, 1, &[1, 2]).await;
    let ends: Vec<_> = outcomes(&reported).into_values().collect();
    assert_eq!(ends, [CallOutcome::Answered, CallOutcome::Answered]);
    assert!(peer.calls().await.iter().all(|call| call["stopped"] == true));
    worker.stop().await;
}
