//! Trunks behind a proxy that end every call before any phone rings: the proxy says 100, and then the trunk, the
//! account or the gateway rejects.

use std::time::{Duration, Instant};

use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, Interaction};
use campaign_sip::{Sipp, Traffic};

use crate::service::{CallingWorker, Reported};

/// Contacts of the list.
const CONTACTS: i32 = 60;
/// Calls that the provider may fail before dialling stops.
const FAILURES: usize = 5;

/// Starts a worker at a trunk that answers 100 and then a code.
async fn rejected(code: &str, retry_after: &str) -> (Sipp, CallingWorker) {
    let words = [("code", code), ("retry_after", retry_after)];
    let sipp = Sipp::start_with("rejects", Traffic::Udp, &words).await.expect("sipp");
    let failures = FAILURES.to_string();
    let flags =
        ["--max-calls", "40", "--provider-failures", &failures, "--provider-retry-seconds", "1"];
    let worker = CallingWorker::over_sip(&sipp.address(), &flags).await;
    worker.stream.lease_slots(1, 0..CONTACTS).await;
    (sipp, worker)
}

/// Returns the status code with which a call ended; 0 if none was told.
fn status_code(fact: &Interaction) -> i32 {
    match &fact.fact {
        Some(Fact::CallEnded(ended)) => {
            ended.detail.as_ref().map_or(0, |detail| detail.status_code)
        }
        _ => 0,
    }
}

async fn until_given_back(worker: &mut CallingWorker) -> Reported {
    let mut reported = Reported::default();
    while reported.ends.len() + worker.released.len() < usize::try_from(CONTACTS).expect("small") {
        worker.note_next(&mut reported).await;
    }
    reported
}

/// The trunk gives no credit, no right or no codec, knows no number, reaches no gateway, or declines for everybody.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_that_rejects_everybody_costs_no_more_than_a_few_attempts() {
    for code in
        ["402", "403", "404", "408", "410", "429", "480", "487", "488", "500", "503", "603", "604"]
    {
        let (mut sipp, mut worker) = rejected(code, "0").await;
        let reported = until_given_back(&mut worker).await;
        assert_eq!(reported.ends.len(), FAILURES, "{code}");
        let expected = match code {
            "603" => CallOutcome::Busy,
            "404" | "410" | "604" => CallOutcome::InvalidNumber,
            "408" | "480" | "487" => CallOutcome::Failed,
            // Nothing can have rung, so the service gives the attempts back.
            _ => CallOutcome::Congested,
        };
        assert_eq!(reported.count(expected), FAILURES as u64, "{code}: nobody's phone rang");
        let is_told = |end| status_code(end).to_string() == code;
        assert!(reported.ends.values().all(is_told), "{:?}", reported.ends);
        worker.stop().await;
        assert_eq!(sipp.invites().len(), FAILURES, "{code}");
        sipp.kill();
    }
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_trunk_that_asks_for_time_gets_it() {
    let (sipp, mut worker) = rejected("503", "4").await;
    until_given_back(&mut worker).await;
    let stopped = Instant::now();
    worker.credit = 0;
    worker.until_credit().await;
    assert!(stopped.elapsed() > Duration::from_millis(3_500), "{:?}", stopped.elapsed());
    worker.stop().await;
    assert_eq!(sipp.invites().len(), FAILURES);
}
