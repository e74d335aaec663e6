//! Calls by the standards: challenges of all kinds, answers of all kinds, requests before the answer, keys
//! and session timers.

use std::time::{Duration, Instant};

use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallEnded, CallOutcome, CallParty, Interaction};
use campaign_sip::{Sipp, Traffic, takes};

use crate::fake::outcome;
use crate::service::{CallingWorker, Reported};

/// Trunk and worker of one call.
async fn calling(scenario: &str, words: &[(&str, &str)], flags: &[&str]) -> (Sipp, CallingWorker) {
    let sipp = Sipp::start_with(scenario, Traffic::Udp, words).await.expect("sipp");
    let worker = CallingWorker::over_sip(&sipp.address(), flags).await;
    worker.stream.lease_slots(1, [0]).await;
    (sipp, worker)
}

async fn until_ended(worker: &mut CallingWorker) -> Reported {
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    reported
}

fn only_outcome(reported: &Reported) -> Option<CallOutcome> {
    reported.ends.values().next().and_then(outcome)
}

async fn challenged(proxy: &str, trunk: &str, answered: &str) {
    let words = [("proxy", proxy), ("trunk", trunk), ("answered", answered)];
    let login = ["--sip-user", "4711", "--sip-password", "open sesame"];
    let (mut sipp, mut worker) = calling("challenges", &words, &login).await;
    let reported = until_ended(&mut worker).await;
    assert_eq!(only_outcome(&reported), Some(CallOutcome::Answered), "{trunk}: {}", sipp.errors());
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!(
        (sipp.count("answered"), sipp.count("FailedCall")),
        (1, 0),
        "{trunk}: {}",
        sipp.errors()
    );
}

/// The proxy and the trunk behind it have a realm each, and offer what the worker may choose of. sipp checks the MD5
/// responses itself.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn challenges_of_two_realms_are_answered() {
    for (proxy, trunk, answered) in [
        ("algorithm=MD5, qop=\"auth\"", "algorithm=MD5, qop=\"auth\"", "qop=auth, nc=00000001"),
        ("algorithm=SHA-256, qop=\"auth\"", "qop=\"auth,auth-int\"", "qop=auth, nc=00000001"),
        ("qop=\"auth-int\"", "algorithm=MD5", "algorithm=MD5"),
        (
            "algorithm=MD5-sess, qop=auth",
            "opaque=\"ab=c\", domain=\"sip:trunk\"",
            "opaque=\"ab=c\"",
        ),
    ] {
        challenged(proxy, trunk, answered).await;
    }
}

/// Nothing rang, so the outcome is known, and the trunk has a fault.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_challenge_that_nobody_can_answer_is_a_refusal() {
    let words = [("proxy", "algorithm=SHA3-512"), ("trunk", ""), ("answered", "")];
    let login = ["--sip-user", "4711", "--sip-password", "open sesame", "--provider-failures", "1"];
    let (_sipp, mut worker) = calling("challenges", &words, &login).await;
    let reported = until_ended(&mut worker).await;
    assert_eq!(only_outcome(&reported), Some(CallOutcome::Congested));
    worker.until_provider_report("it answered 407").await;
    worker.stop().await;
}

/// Somebody has a phone at the ear: the call is acknowledged, and hung up when it must end.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn each_answer_is_acknowledged_and_hung_up() {
    for (status, contact) in [
        ("200 OK", "X-None: 1"),
        ("202 Accepted", "X-None: 1"),
        ("202 Accepted", "Contact: <sip:[local_ip]:[local_port]>"),
        ("200 OK", "Contact: nonsense:"),
    ] {
        let words = [("status", status), ("contact_line", contact)];
        let flags = ["--sip-talk-limit-seconds", "1"];
        let (mut sipp, mut worker) = calling("untidy", &words, &flags).await;
        let reported = until_ended(&mut worker).await;
        assert_eq!(only_outcome(&reported), Some(CallOutcome::Answered), "{status} {contact}");
        worker.stop().await;
        sipp.finish().await.expect("its calls end");
        let counts = (sipp.count("hung_up_here"), sipp.count("FailedCall"));
        assert_eq!(counts, (1, 0), "{status} {contact}: {}", sipp.errors());
    }
}

/// The person answered, and is hung up at once.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_answer_that_crosses_the_cancel_ends_at_once() {
    let flags = ["--sip-ring-limit-seconds", "1", "--sip-talk-limit-seconds", "20"];
    let (mut sipp, mut worker) = calling("crossing", &[], &flags).await;
    let reported = until_ended(&mut worker).await;
    let Some(Fact::CallEnded(ended)) =
        reported.ends.values().next().and_then(|end| end.fact.clone())
    else {
        panic!("no end: {:?}", reported.ends)
    };
    let seconds = ended.duration.map(|duration| duration.seconds);
    assert_eq!((ended.outcome(), seconds), (CallOutcome::Answered, Some(0)));
    assert_eq!(ended.detail.map(|detail| detail.hung_up_by()), Some(CallParty::Caller));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!((sipp.count("hung_up_here"), sipp.count("FailedCall")), (1, 0), "{}", sipp.errors());
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn requests_before_the_answer_get_theirs() {
    let (mut sipp, mut worker) = calling("early", &[], &[]).await;
    let reported = until_ended(&mut worker).await;
    assert_eq!(only_outcome(&reported), Some(CallOutcome::Answered), "{}", sipp.errors());
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    let counts = sipp.counts();
    let answered = ["offered", "update_answered", "refresh_answered"].map(|name| counts[name]);
    assert_eq!((answered, counts["FailedCall"]), ([1, 1, 1], 0), "{}", sipp.errors());
}

/// The person presses a key. Returns what was reported, and whether the worker hung up.
async fn pressed(key: &str, flags: &[&str]) -> (Reported, bool) {
    let (mut sipp, mut worker) =
        calling("keys", &[("key", key), ("patience", "1000")], flags).await;
    let reported = until_ended(&mut worker).await;
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!(sipp.count("FailedCall"), 0, "{}", sipp.errors());
    (reported, sipp.count("hung_up_here") == 1)
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn the_key_for_it_opts_out_and_hangs_up() {
    let (reported, hung_up) = pressed("9", &["--sip-opt-out-key", "9"]).await;
    let [Interaction { fact: Some(Fact::OptedOut(opted_out)), .. }] = reported.facts.as_slice()
    else {
        panic!("not one opt-out: {:?}", reported.facts)
    };
    assert_eq!((opted_out.channel.as_str(), opted_out.everywhere, hung_up), ("call", false, true));
    for (key, flags) in [("9", [].as_slice()), ("8", &["--sip-opt-out-key", "9"])] {
        let (reported, hung_up) = pressed(key, flags).await;
        let end = reported.ends.values().next().and_then(|end| end.fact.clone());
        let Some(Fact::CallEnded(CallEnded { detail: Some(detail), .. })) = end else {
            panic!("no detail: {end:?}")
        };
        let told = (detail.q850_cause, detail.reason.as_str(), detail.hung_up_by());
        assert_eq!(told, (16, "Normal call clearing", CallParty::Contact), "as the BYE said");
        assert_eq!((reported.facts, hung_up), (Vec::new(), false), "{key}");
    }
}

/// Both sides of a session timer. A trunk that wants a longer interval gets it.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn sessions_are_refreshed_and_expire() {
    let refreshed = |method: &str, description: &str| {
        format!(
            "<recv request=\"{method}\" counter=\"refreshed\"><action>\
             <ereg regexp=\"4;refresher=uac\" search_in=\"hdr\" header=\"Session-Expires:\" check_it=\"true\" \
             assign_to=\"b\"/></action></recv>\
             <send><![CDATA[\n\nSIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\
             Contact: <sip:[local_ip]:[local_port]>\nSession-Expires: 4;refresher=uac\n{description}\n\n]]></send>"
        )
    };
    let none = "Content-Length: 0\n";
    let audio = "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=- 1 2 IN IP4 [local_ip]\ns=-\n\
                 c=IN IP4 [local_ip]\nt=0 0\nm=audio 7290 RTP/AVP 0";
    let hung_up = takes("BYE", "hung_up_here") + "<Reference variables=\"b\"/>";
    let update = refreshed("UPDATE", none);
    let invite = refreshed("INVITE", audio) + "<recv request=\"ACK\"/>";
    let silence = "<nop><action><assign assign_to=\"b\" value=\"1\"/></action></nop>";
    for (refresher, allow, refreshes, count, least, most) in [
        ("uac", "UPDATE", update.repeat(2), 2, 5.0, 9.0),
        ("uac", "INFO", invite.repeat(2), 2, 5.0, 9.0),
        ("uas", "UPDATE", silence.to_owned(), 0, 2.0, 3.9),
    ] {
        let then = refreshes + &hung_up;
        let words = [("refresher", refresher), ("allow", allow), ("refreshes", &then)];
        let flags = ["--sip-talk-limit-seconds", "6"];
        let (mut sipp, mut worker) = calling("timers", &words, &flags).await;
        let begun = Instant::now();
        let reported = until_ended(&mut worker).await;
        let took = begun.elapsed();
        assert_eq!(only_outcome(&reported), Some(CallOutcome::Answered), "{}", sipp.errors());
        let limits = Duration::from_secs_f64(least)..Duration::from_secs_f64(most);
        assert!(limits.contains(&took), "{refresher} {allow}: {took:?}");
        worker.stop().await;
        sipp.finish().await.expect("its calls end");
        let counted = ["refreshed", "hung_up_here", "FailedCall"].map(|name| sipp.count(name));
        assert_eq!(counted, [count, 1, 0], "{refresher} {allow}: {}", sipp.errors());
    }
}

/// Both calls ask for the shorter timer before either learns of the longer one.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn calls_begun_together_all_get_the_longer_timer() {
    let then = takes("BYE", "hung_up_here");
    let words = [("refresher", "uas"), ("allow", "UPDATE"), ("refreshes", then.as_str())];
    let mut sipp = Sipp::start_with("timers", Traffic::Udp, &words).await.expect("sipp");
    let flags = ["--sip-talk-limit-seconds", "1"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, [0, 1, 2]).await;
    let mut reported = Reported::default();
    while reported.ends.len() < 3 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Answered), 3, "{:?}", reported.ends);
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!((sipp.count("hung_up_here"), sipp.count("FailedCall")), (3, 0), "{}", sipp.errors());
}

/// Two numbers take turns, in the form that the trunk wants.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_is_told_who_calls() {
    let sipp = Sipp::start("identity", Traffic::Udp, &[]).await.expect("sipp");
    let flags = [
        ["--sip-caller", "campaigns/a=+4930555000,campaigns/a=+4930555001,+4930555002"],
        ["--sip-caller-name", "Dr. Who"],
        ["--sip-number-format", "zeros"],
        ["--sip-header", "X-Account: 42"],
    ]
    .concat();
    let flags =
        [&flags[..], &["--sip-assert-identity", "--sip-user-phone", "--max-calls", "1"]].concat();
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, [0, 1, 2]).await;
    let mut reported = Reported::default();
    while reported.ends.len() < 3 {
        worker.note_next(&mut reported).await;
    }
    worker.stop().await;
    let froms = sipp.logged("from ");
    let shown = froms.iter().filter_map(|from| from.split([':', '@']).nth(1));
    assert_eq!(shown.collect::<Vec<_>>(), ["+4930555000", "+4930555001", "+4930555000"]);
    assert!(froms[0].starts_with("\"Dr. Who\" <sip:"), "{froms:?}");
    let asserted = sipp.logged("asserted ");
    assert_eq!(asserted[0], "<sip:+4930555000@127.0.0.1>");
    assert!(
        sipp.logged("to ")[0].starts_with("<sip:0015550000000@127.0.0.1;user=phone>"),
        "{:?}",
        sipp.logged("to ")
    );
    assert_eq!(sipp.logged("account "), ["42", "42", "42"]);
}
