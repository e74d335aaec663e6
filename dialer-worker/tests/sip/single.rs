//! Single calls: hang-up, transfer, a trunk that requires authentication, and trunks that fail.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, Interaction, Revoke};
use campaign_sip::{Sipp, Traffic};
use tokio::net::UdpSocket;

use crate::fake::{contact, outcome, within};
use crate::service::{CallingWorker, Reported};

async fn end(worker: &mut CallingWorker) -> Interaction {
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    reported.ends.into_values().next().expect("not empty")
}

/// Answers the worker until sipp has counted `count` events named `name`.
async fn until(worker: &mut CallingWorker, sipp: &Sipp, name: &str, count: u64) {
    let counted = async {
        while sipp.count(name) < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::pin!(counted);
    loop {
        tokio::select! {
            () = &mut counted => return,
            facts = worker.answer_next() => assert_eq!(facts, [], "nothing has ended"),
        }
    }
}

fn revoke() -> Response {
    let campaign = "campaigns/a".to_owned();
    Response::Revoke(Revoke { campaign, hang_up: true, run: 3, ..Revoke::default() })
}

async fn hung_up_within_a_second(slot: i32, expected: CallOutcome, counter: &str) {
    let mut sipp = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let mut worker = CallingWorker::over_sip(&sipp.address(), &[]).await;
    worker.stream.lease_slots(1, [slot]).await;
    until(&mut worker, &sipp, "IncomingCall", 1).await;
    let before = Instant::now();
    worker.stream.send(revoke()).await;
    let end = end(&mut worker).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(outcome(&end), Some(expected));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    let counts = sipp.counts();
    assert_eq!((counts[counter], counts["FailedCall"]), (1, 0), "{counts:?}");
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_call_that_rings_is_cancelled_within_a_second() {
    hung_up_within_a_second(6, CallOutcome::Cancelled, "cancelled").await;
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_call_in_progress_is_hung_up_within_a_second() {
    hung_up_within_a_second(4, CallOutcome::Answered, "hung_up_here").await;
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn calls_in_progress_are_hung_up_when_the_grace_is_over() {
    let mut sipp = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let flags = ["--drain-grace-seconds", "0"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, [4, 14, 6]).await;
    until(&mut worker, &sipp, "IncomingCall", 3).await;
    let summary = worker.stop().await;
    assert_eq!((summary.reported, summary.unacknowledged, summary.unfinished_calls), (3, 0, 0));
    sipp.finish().await.expect("its calls end");
    let counts = sipp.counts();
    assert_eq!((counts["hung_up_here"], counts["cancelled"], counts["FailedCall"]), (2, 1, 0));
}

/// Plays a call in which the trunk makes requests, and hangs up. The trunk has counted so many right answers of each kind.
async fn requests_within_a_call(scenario: &str, answers: &[(&str, u64)]) {
    let mut sipp = Sipp::start(scenario, Traffic::Udp, &[]).await.expect("sipp");
    let mut worker = CallingWorker::over_sip(&sipp.address(), &[]).await;
    worker.stream.lease_slots(1, [0]).await;
    let end = end(&mut worker).await;
    assert_eq!(outcome(&end), Some(CallOutcome::Answered));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    let counts = sipp.counts();
    for (answer, times) in answers {
        let counted = (counts[*answer], counts["FailedCall"]);
        assert_eq!(counted, (*times, 0), "{answer}: {}", sipp.errors());
    }
}

/// A trunk keeps asking whether a long call still lives.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_may_refresh_a_call() {
    requests_within_a_call("refreshes", &[("refreshed", 2)]).await;
}

/// The trunk puts the call on hold and back, and offers media that the worker has not.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn offers_within_a_call_get_their_answers() {
    let offers = ["hold", "resume", "silence", "video", "fax", "codec", "none"];
    requests_within_a_call("offers", &offers.map(|offer| (offer, 1))).await;
}

/// Starts a worker at a trunk that accepts transfers and tells that the target answered as given, and calls somebody.
async fn transferring(answer: &str) -> (Sipp, CallingWorker) {
    let sipp = Sipp::start("transfers", Traffic::Udp, &["-key", "answer", answer]).await;
    let sipp = sipp.expect("sipp");
    let flags = ["--sip-transfer-to", "sip:agents@127.0.0.1", "--sip-transfer-after-seconds", "1"];
    let worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, [4]).await;
    (sipp, worker)
}

/// The time before the transfer is the time until the target answered.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_transfer_is_reported_when_its_target_answers() {
    let (mut sipp, mut worker) = transferring("200 OK").await;
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Answered), 1);
    let [Interaction { fact: Some(Fact::Transferred(transferred)), contact: of, .. }] =
        reported.facts.as_slice()
    else {
        panic!("not one transfer: {:?}", reported.facts)
    };
    assert_eq!((transferred.seconds_before_transfer, of), (1, &contact(4)));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    let counts = sipp.counts();
    assert_eq!((counts["referred"], counts["hung_up_here"], counts["FailedCall"]), (1, 1, 0));
}

/// The target is busy, its trunk fails, or it still rings: nobody was transferred, and the call goes on until it is hung
/// up.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_transfer_that_fails_or_goes_on_is_not_reported() {
    for answer in ["486 Busy Here", "503 Service Unavailable", "180 Ringing"] {
        let (mut sipp, mut worker) = transferring(answer).await;
        until(&mut worker, &sipp, "told", 1).await;
        worker.stream.send(revoke()).await;
        let mut reported = Reported::default();
        while reported.ends.is_empty() {
            worker.note_next(&mut reported).await;
        }
        assert_eq!(reported.count(CallOutcome::Answered), 1, "{answer}");
        assert_eq!(reported.facts, [], "{answer}");
        worker.stop().await;
        sipp.finish().await.expect("its calls end");
        let counts = sipp.counts();
        assert_eq!((counts["hung_up_here"], counts["FailedCall"]), (1, 0), "{answer}");
    }
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_that_asks_gets_user_and_password() {
    let mut sipp = Sipp::start("password", Traffic::Udp, &[]).await.expect("sipp");
    let right = ["--sip-user", "4711", "--sip-password", "open sesame"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &right).await;
    worker.stream.lease_slots(1, [0]).await;
    let known = end(&mut worker).await;
    assert_eq!(outcome(&known), Some(CallOutcome::Answered), "{}", sipp.errors());
    worker.stop().await;

    let wrong = ["--sip-user", "4711", "--sip-password", "guess"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &wrong).await;
    worker.stream.lease_slots(2, [0]).await;
    assert_eq!(outcome(&end(&mut worker).await), Some(CallOutcome::Congested));
    worker.stop().await;
    sipp.finish().await.expect("its calls end");
    assert_eq!((sipp.count("answered"), sipp.count("refused")), (1, 1), "{}", sipp.errors());
}

/// The trunk rings and then forgets the call. Its outcome is unknown.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_lost_final_answer_is_unknown_and_not_dialled_again() {
    let mut sipp = Sipp::start("forgets", Traffic::Udp, &[]).await.expect("sipp");
    let flags = ["--sip-ring-limit-seconds", "1", "--sip-response-limit-seconds", "1"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, [0]).await;
    assert_eq!(outcome(&end(&mut worker).await), Some(CallOutcome::Unknown));
    worker.stop().await;
    sipp.kill();
    assert_eq!((sipp.invites().len(), sipp.count("cancelled")), (1, 1), "{}", sipp.errors());
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_dead_trunk_stops_the_dialling_until_it_answers_again() {
    // A silent socket holds the port.
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let flags = [
        "--max-calls",
        "2",
        "--sip-response-limit-seconds",
        "1",
        "--provider-failures",
        "2",
        "--provider-retry-seconds",
        "1",
    ];
    let mut worker = CallingWorker::over_sip(&format!("127.0.0.1:{port}"), &flags).await;
    worker.stream.lease_slots(1, 0..10).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 10 {
        worker.note_next(&mut reported).await;
    }
    assert!(reported.count(CallOutcome::Unknown) >= 2);
    // One more call may be requested between the first failure and the second.
    assert!(reported.ends.len() <= 3 && worker.released.contains(&9), "what waits is given back");

    // A probe comes and stays without an answer. No INVITE is repeated.
    let mut datagram = [0; 4_096];
    let mut heard = Vec::new();
    while !heard.iter().any(|text: &String| text.starts_with("OPTIONS ")) {
        let length = within("a probe", silent.recv(&mut datagram)).await.expect("a datagram");
        heard.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
    }
    // The INVITE is sent at 0 and 0.5 s. The next, at 1.5 s, would exceed the limit.
    let mut invites = BTreeMap::new();
    for text in heard.iter().filter(|text| text.starts_with("INVITE ")) {
        let call_id = text.lines().find(|line| line.starts_with("Call-ID:")).expect("a Call-ID");
        *invites.entry(call_id.to_owned()).or_insert(0) += 1;
    }
    assert!(invites.values().all(|times| *times <= 2), "{invites:?}");

    drop(silent);
    let sipp = Sipp::start_on(port, "people", Traffic::Udp, &[]).await.expect("sipp");
    // New credit brings one contact for a trial call. Further credit follows it.
    worker.credit = 0;
    worker.until_credit().await;
    assert_eq!(worker.credit, 1, "one call is tried");
    worker.credit = 0;
    worker.stream.lease_slots(2, [15]).await;
    assert_eq!(outcome(&end(&mut worker).await), Some(CallOutcome::Busy));
    worker.until_credit().await;
    worker.stop().await;
    assert_eq!(sipp.invites().len(), 1, "no earlier contact is dialled now");
}

/// The trunk answers OPTIONS, so trial calls are made at growing intervals. Each costs one attempt.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_that_takes_no_calls_costs_no_more_than_a_few_attempts() {
    let sipp = Sipp::start("unavailable", Traffic::Udp, &[]).await.expect("sipp");
    let flags = ["--max-calls", "1", "--provider-failures", "3", "--provider-retry-seconds", "1"];
    let mut worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, 0..20).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 20 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!((reported.ends.len(), worker.released.len()), (3, 17));
    let tried = Instant::now();
    worker.credit = 0;
    worker.until_credit().await;
    assert_eq!(worker.credit, 1);
    worker.stream.lease_slots(2, 0..1).await;
    while reported.ends.len() < 4 {
        worker.note_next(&mut reported).await;
    }
    worker.credit = 0;
    worker.until_credit().await;
    assert!(tried.elapsed() > Duration::from_millis(2_900), "1 s, then 2 s");
    assert_eq!(reported.count(CallOutcome::Congested), 4);
    worker.stop().await;
    assert_eq!(sipp.invites().len(), 4);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_that_refuses_connections_costs_no_more_than_a_few_attempts() {
    let flags = [
        "--sip-transport",
        "tcp",
        "--max-calls",
        "4",
        "--provider-failures",
        "3",
        "--provider-retry-seconds",
        "60",
    ];
    let mut worker = CallingWorker::over_sip("127.0.0.1:1", &flags).await;
    worker.stream.lease_slots(1, 0..50).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 50 {
        worker.note_next(&mut reported).await;
    }
    assert!(worker.released.len() >= 40, "{} of 50 given back", worker.released.len());
    assert!(reported.ends.values().all(|end| outcome(end) == Some(CallOutcome::Congested)));
    worker.stop().await;
}

/// The first address is away, over its limit or has an error: the calls go to the next, and nobody's phone rang twice.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn calls_go_to_another_address_of_the_trunk() {
    let mut second = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let words = [("code", "503"), ("retry_after", "0")];
    let failing = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    let trunks = format!("{},{}", failing.address(), second.address());
    let mut worker = CallingWorker::over_sip(&trunks, &["--max-calls", "1"]).await;
    worker.stream.lease_slots(1, [5, 15, 25]).await;
    let mut reported = Reported::default();
    while reported.ends.len() < 3 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Busy), 3, "{:?}", reported.ends);
    worker.stop().await;
    second.finish().await.expect("its calls end");
    let tried = (failing.invites().len(), second.invites().len());
    assert_eq!(tried, (1, 3), "the address that failed is left alone for a while");
}

/// The CANCEL must reach the address that has the call.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_call_at_another_address_is_cancelled_there() {
    let mut second = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let words = [("code", "503"), ("retry_after", "0")];
    let failing = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    let trunks = format!("{},{}", failing.address(), second.address());
    let flags = ["--sip-ring-limit-seconds", "1"];
    let mut worker = CallingWorker::over_sip(&trunks, &flags).await;
    worker.stream.lease_slots(1, [6]).await;
    assert_eq!(outcome(&end(&mut worker).await), Some(CallOutcome::NoAnswer));
    worker.stop().await;
    second.finish().await.expect("its calls end");
    assert_eq!(
        (second.count("cancelled"), second.count("FailedCall")),
        (1, 0),
        "{}",
        second.errors()
    );
}

/// Each address has its own limit of calls.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_address_without_a_line_passes_calls_on() {
    let first = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let second = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    let trunks = format!("{};calls=2,{};calls=3", first.address(), second.address());
    let flags = ["--sip-talk-limit-seconds", "1", "--max-calls", "20"];
    let mut worker = CallingWorker::over_sip(&trunks, &flags).await;
    worker.stream.lease_slots(1, [4, 14, 24, 34, 44, 54, 64]).await;
    let mut reported = Reported::default();
    while reported.ends.len() < 7 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.count(CallOutcome::Answered), 7);
    worker.stop().await;
    let shares = (first.invites().len(), second.invites().len());
    assert!(shares.0 >= 2 && shares.1 >= 3 && shares.0 + shares.1 == 7, "{shares:?}");
}
