//! AI agents on the line: person and agent are connected by signalling alone, and part in every way.

use std::time::{Duration, Instant};

use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, Revoke};
use campaign_sip::{Sipp, Traffic, takes};

use crate::fake::outcome;
use crate::service::{CallingWorker, Reported};

/// Returns what the agent does at the end: it is hung up.
fn stays() -> String {
    takes("BYE", "left")
}

/// Returns a request of the agent.
fn asks(method: &str, sequence: u32, headers: &str) -> String {
    format!(
        "<send retrans=\"500\"><![CDATA[\n\n{method} [$contact] SIP/2.0\n\
         Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]-{sequence}\nMax-Forwards: 70\n\
         From:[$to];tag=[pid]-[call_number]\nTo:[$from]\n[last_Call-ID:]\nCSeq: {sequence} {method}\n\
         Contact: <sip:[local_ip]:[local_port]>\n{headers}Content-Length: 0\n\n]]></send>"
    )
}

/// The person's side takes one more offer, as for another party.
const ANOTHER: &str = "<recv request=\"INVITE\"/><send retrans=\"500\" counter=\"connected_again\"><![CDATA[\n\n\
    SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\
    Contact: <sip:[local_ip]:[local_port]>\nContent-Type: application/sdp\nContent-Length: [len]\n\nv=0\n\
    o=- 1 3 IN IP4 [local_ip]\ns=-\nc=IN IP4 [local_ip]\nt=0 0\nm=audio 7290 RTP/AVP 0\n\n]]></send>\
    <recv request=\"ACK\"/>";

struct Line {
    person: Sipp,
    agent: Sipp,
    worker: CallingWorker,
}

/// Calls a person who stays for some milliseconds, with an agent.
async fn line(patience: &str, further: &str, then: &str, flags: &[&str]) -> Line {
    slow_line(("0", "20"), patience, further, then, flags).await
}

/// Calls a person whose phone rings for some milliseconds, with an agent who answers after some.
async fn slow_line(
    (ringing, delay): (&str, &str),
    patience: &str,
    further: &str,
    then: &str,
    flags: &[&str],
) -> Line {
    let (ringing, patience) = (("ringing", ringing), ("patience", patience));
    let words = [ringing, patience, ("media_port", "7290"), ("further", further)];
    let person = Sipp::start_with("person", Traffic::Udp, &words).await.expect("sipp");
    let words = [("delay", delay), ("then", then)];
    let agent = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let worker = with_agent(&person, &agent, "agent", flags).await;
    worker.stream.lease_slots(1, [0]).await;
    Line { person, agent, worker }
}

/// Starts a worker that calls persons with an agent.
async fn with_agent(person: &Sipp, agent: &Sipp, user: &str, flags: &[&str]) -> CallingWorker {
    let address = format!("sip:{user}@{}", agent.address());
    let flags = [&["--sip-agent", &address], flags].concat();
    CallingWorker::over_sip(&person.address(), &flags).await
}

async fn until_ended(worker: &mut CallingWorker) -> Reported {
    let mut reported = Reported::default();
    while reported.ends.is_empty() {
        worker.note_next(&mut reported).await;
    }
    reported
}

impl Line {
    /// Waits for the end of the call and of both peers. Returns the outcome and what else was reported.
    async fn ended(mut self) -> (Option<CallOutcome>, Reported, Sipp, Sipp) {
        let reported = until_ended(&mut self.worker).await;
        self.worker.stop().await;
        self.person.finish().await.expect("the person's call ends");
        self.agent.finish().await.expect("the agent's call ends");
        let outcome = reported.ends.values().next().and_then(outcome);
        (outcome, reported, self.person, self.agent)
    }
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_person_who_hangs_up_takes_the_agent_along() {
    let (outcome, reported, person, agent) = line("700", "", &stays(), &[]).await.ended().await;
    assert_eq!(outcome, Some(CallOutcome::Answered), "{} {}", person.errors(), agent.errors());
    assert_eq!(reported.facts, []);
    let counted = (person.count("connected"), person.count("FailedCall"));
    assert_eq!(counted, (1, 0), "{}", person.errors());
    assert_eq!((agent.count("left"), agent.count("FailedCall")), (1, 0), "{}", agent.errors());
    assert_eq!(person.logged("connected to"), ["7294"], "the audio goes to the agent");
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_agent_that_hangs_up_ends_the_call() {
    let then = "<pause milliseconds=\"300\"/>".to_owned()
        + &asks("BYE", 1, "")
        + "<recv response=\"200\"/>";
    let (outcome, _, person, agent) = line("20000", "", &then, &[]).await.ended().await;
    assert_eq!(outcome, Some(CallOutcome::Answered));
    let counted = ["connected", "hung_up_here", "FailedCall"].map(|name| person.count(name));
    assert_eq!(counted, [1, 1, 0], "{}", person.errors());
    assert_eq!(agent.count("FailedCall"), 0, "{}", agent.errors());
}

/// Somebody says "hello?" and nobody answers: that is counted as what it is, and the person is not kept waiting.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_agent_that_comes_too_late_abandons_the_call() {
    let person = Sipp::start("stays", Traffic::Udp, &[]).await.expect("sipp");
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let agent = format!("sip:agent@{}", silent.local_addr().expect("bound"));
    let flags = [
        "--sip-agent",
        &agent,
        "--sip-agent-limit-seconds",
        "1",
        "--provider-failures",
        "2",
        "--max-calls",
        "10",
    ];
    let mut worker = CallingWorker::over_sip(&person.address(), &flags).await;
    worker.stream.lease_slots(1, 0..10).await;
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < 10 {
        worker.note_next(&mut reported).await;
    }
    assert_eq!(reported.ends.len(), 2, "no more persons are called than may be abandoned");
    assert_eq!(reported.count(CallOutcome::Abandoned), 2);
    worker.until_provider_report("the agent did not answer").await;
    worker.stop().await;
}

/// The agent passes the person on. It counts when the target answered, and the agent's place is the target's.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_agent_transfers_a_person() {
    let stays = stays();
    let words = [("delay", "300"), ("then", stays.as_str())];
    let mut desk = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let refer = format!("Refer-To: <sip:desk@{}>\n", desk.address());
    let told = takes("NOTIFY", "told");
    let then = asks("REFER", 1, &refer) + "<recv response=\"202\"/>" + &told + &told + &stays;
    let flags = ["--sip-agent-transfer-allow", "127.0.0.1"];
    let (outcome, reported, person, agent) =
        line("2500", ANOTHER, &then, &flags).await.ended().await;
    desk.finish().await.expect("its call ends");
    assert_eq!(outcome, Some(CallOutcome::Answered));
    let transferred =
        reported.facts.iter().filter(|fact| matches!(fact.fact, Some(Fact::Transferred(_))));
    assert_eq!(transferred.count(), 1, "{:?}", reported.facts);
    let counted = ["connected", "connected_again", "FailedCall"].map(|name| person.count(name));
    assert_eq!(counted, [1, 1, 0], "{}", person.errors());
    let counted = ["told", "left", "FailedCall"].map(|name| agent.count(name));
    assert_eq!(counted, [2, 1, 0], "{}", agent.errors());
    assert_eq!((desk.count("left"), desk.count("FailedCall")), (1, 0), "{}", desk.errors());
}

/// A target that is not allowed, and one that rejects: nobody was transferred, and the call goes on.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_transfer_that_is_declined_or_fails_is_none() {
    let busy = Sipp::start_with("rejects", Traffic::Udp, &[("code", "486"), ("retry_after", "0")])
        .await
        .expect("sipp");
    let refer = |target: &str| asks("REFER", 1, &format!("Refer-To: <{target}>\n"));
    let told = takes("NOTIFY", "told");
    let failing = refer(&format!("sip:desk@{}", busy.address()))
        + "<recv response=\"202\"/>"
        + &told
        + &told
        + &stays();
    let declined = refer("sip:desk@elsewhere.example") + "<recv response=\"603\"/>" + &stays();
    let premium = refer("tel:+190055501") + "<recv response=\"603\"/>" + &stays();
    for (then, expected) in [(failing, 2), (declined, 0), (premium, 0)] {
        let flags = ["--sip-agent-transfer-allow", "127.0.0.1"];
        let (outcome, reported, person, agent) =
            line("1500", "", &then, &flags).await.ended().await;
        assert_eq!((outcome, reported.facts), (Some(CallOutcome::Answered), Vec::new()));
        assert_eq!(
            (person.count("connected"), person.count("FailedCall")),
            (1, 0),
            "{}",
            person.errors()
        );
        let counted = ["told", "left", "FailedCall"].map(|name| agent.count(name));
        assert_eq!(counted, [expected, 1, 0], "{}", agent.errors());
    }
}

/// A person who opts out by key hears nobody any more.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn an_agent_is_cancelled_when_the_worker_stops() {
    let line = line("20000", "", &stays(), &["--drain-grace-seconds", "0"]).await;
    let Line { mut person, mut agent, worker } = line;
    let connected = async {
        while person.count("connected") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let worker = answering(worker, connected).await;
    worker.stop().await;
    person.finish().await.expect("the person's call ends");
    agent.finish().await.expect("the agent's call ends");
    assert_eq!((person.count("hung_up_here"), agent.count("left")), (1, 1));
}

/// An agent that waits takes the person's description, and logs where its audio goes.
const TAKEN: &str = "<recv request=\"INVITE\"><action>\
    <ereg regexp=\"m=audio ([0-9]*)\" search_in=\"body\" check_it=\"true\" assign_to=\"line,port\"/>\
    <log message=\"talks to [$port]\"/></action></recv>\
    <send retrans=\"500\"><![CDATA[\n\nSIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n\
    [last_Call-ID:]\n[last_CSeq:]\nContact: <sip:[local_ip]:[local_port]>\n\
    Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=- 1 2 IN IP4 [local_ip]\ns=-\n\
    c=IN IP4 [local_ip]\nt=0 0\nm=audio 7294 RTP/AVP 0\n\n]]></send><recv request=\"ACK\"/>";

/// The agent is called while the phone rings. Its set-up takes 400 ms, and the person hears it at once.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_warm_agent_waits_for_the_person() {
    let then = TAKEN.to_owned() + &stays();
    let line = slow_line(("800", "400"), "700", "", &then, &["--sip-agent-warm"]).await;
    let (outcome, _, person, agent) = line.ended().await;
    assert_eq!(outcome, Some(CallOutcome::Answered));
    assert_eq!(
        (person.count("FailedCall"), agent.count("FailedCall")),
        (0, 0),
        "{}",
        agent.errors()
    );
    assert_eq!(person.logged("connected to"), ["7294"]);
    assert_eq!(agent.logged("talks to"), ["7290"]);
    let times = person.times_millis();
    assert!(times.len() == 1 && times[0] < 300.0, "{times:?} ms after the answer");
}

/// Nobody answers, so the agent that waits is hung up, and one that is still on its way is cancelled.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_warm_agent_is_sent_away_when_nobody_answers() {
    let words = [("delay", "0"), ("then", &*stays())];
    let waits = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let comes = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
    for (mut agent, user, counter) in [(waits, "agent", "left"), (comes, "6", "cancelled")] {
        let person = Sipp::start("people", Traffic::Udp, &[]).await.expect("sipp");
        let flags = ["--sip-agent-warm", "--sip-ring-limit-seconds", "1"];
        let mut worker = with_agent(&person, &agent, user, &flags).await;
        worker.stream.lease_slots(1, [6]).await;
        let reported = until_ended(&mut worker).await;
        assert_eq!(reported.count(CallOutcome::NoAnswer), 1);
        worker.stop().await;
        agent.finish().await.expect("the agent's call ends");
        assert_eq!(agent.count(counter), 1, "{}", agent.errors());
    }
}

/// A warm agent that fails is called once more when the person answers.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_warm_agent_that_fails_is_called_again() {
    let person = Sipp::start("stays", Traffic::Udp, &[]).await.expect("sipp");
    let words = [("code", "503"), ("retry_after", "0")];
    let agent = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    let mut worker = with_agent(&person, &agent, "agent", &["--sip-agent-warm"]).await;
    worker.stream.lease_slots(1, [0]).await;
    let reported = until_ended(&mut worker).await;
    assert_eq!(reported.count(CallOutcome::Abandoned), 1);
    worker.stop().await;
    let calls: Vec<String> = agent.invites().into_iter().map(|call| call.call_id).collect();
    assert_eq!(calls, ["a.3-1-0.agent", "a.3-1-0.agent.2"]);
}

/// A campaign that is cancelled ends the call at once, also while the person's side owes an answer.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_hang_up_waits_for_no_offer() {
    let person = Sipp::start("deaf", Traffic::Udp, &[]).await.expect("sipp");
    let stays = stays();
    let words = [("delay", "0"), ("then", stays.as_str())];
    let mut agent = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let flags = ["--sip-response-limit-seconds", "20"];
    let worker = with_agent(&person, &agent, "agent", &flags).await;
    worker.stream.lease_slots(1, [0]).await;
    let offered = async {
        while agent.count("SuccessfulCall") + person.count("offered") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut worker = answering(worker, offered).await;
    let campaign = "campaigns/a".to_owned();
    let revoke = Revoke { campaign, hang_up: true, run: 3, ..Revoke::default() };
    worker.stream.send(Response::Revoke(revoke)).await;
    let before = Instant::now();
    let reported = until_ended(&mut worker).await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    assert_eq!(reported.count(CallOutcome::Answered), 1);
    worker.stop().await;
    agent.finish().await.expect("the agent's call ends");
    assert_eq!((agent.count("left"), agent.count("FailedCall")), (1, 0), "{}", agent.errors());
}

/// Answers the worker until something has happened.
async fn answering(mut worker: CallingWorker, happened: impl Future<Output = ()>) -> CallingWorker {
    tokio::pin!(happened);
    loop {
        tokio::select! {
            () = &mut happened => return worker,
            _ = worker.answer_next() => {}
        }
    }
}

/// Each person meets an agent, and both sides count the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn a_thousand_persons_meet_their_agents() {
    const CALLS: i32 = 1_000;
    let words = [("ringing", "0"), ("patience", "300"), ("media_port", "7290"), ("further", "")];
    let mut person = Sipp::start_with("person", Traffic::Udp, &words).await.expect("sipp");
    let stays = stays();
    let words = [("delay", "0"), ("then", stays.as_str())];
    let mut agent = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let flags = ["--max-calls", "100", "--calls-per-second", "100"];
    let mut worker = with_agent(&person, &agent, "agent", &flags).await;
    let reported = worker.call(CALLS).await;
    let summary = worker.stop().await;
    assert_eq!((summary.unacknowledged, summary.unfinished_calls), (0, 0));
    person.finish().await.expect("the persons' calls end");
    agent.finish().await.expect("the agents' calls end");
    let calls = u64::try_from(CALLS).expect("not negative");
    assert_eq!(reported.count(CallOutcome::Answered), calls);
    let counted = ["connected", "SuccessfulCall", "FailedCall"].map(|name| person.count(name));
    assert_eq!(counted, [calls, calls, 0], "{}", person.errors());
    let counted = ["left", "SuccessfulCall", "FailedCall"].map(|name| agent.count(name));
    assert_eq!(counted, [calls, calls, 0], "{}", agent.errors());
    assert_eq!(person.times_millis().len(), 1_000, "each bridge was timed");
}
