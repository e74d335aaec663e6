//! Outcomes that say why a call was no conversation, what follows from each, and the details of an end.

mod corrections;

use crate::support::{
    Clients, Held, Service, TestDb, Worker, eventually, once, retry, test_options,
};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AuthorizeDecision as Decision, CallOutcome, ContactStanding, ExclusionReason, InteractionStatus,
};
use std::time::{Duration, Instant};

/// Reports an end with details.
async fn end_with(
    worker: &mut Worker,
    held: &Held,
    attempt: &str,
    outcome: CallOutcome,
    detail: v1::CallEndDetail,
) -> InteractionStatus {
    let detail = Some(detail);
    let ended = v1::CallEnded { outcome: outcome.into(), detail, ..Default::default() };
    worker.tell(held, attempt, "", Fact::CallEnded(ended)).await
}

/// Returns the ends in a contact's history: the outcome and the detail of each, in order.
async fn ends(
    clients: &mut Clients,
    contact: &str,
) -> Vec<(CallOutcome, Option<v1::CallEndDetail>)> {
    let facts = clients.history(contact).await.interactions.into_iter();
    facts
        .filter_map(|fact| match fact.fact {
            Some(Fact::CallEnded(ended)) => Some((ended.outcome(), ended.detail)),
            _ => None,
        })
        .collect()
}

fn unavailable() -> v1::CallEndDetail {
    v1::CallEndDetail {
        status_code: 503,
        q850_cause: 34,
        provider_call_id: "f81d4fae@10.0.0.1".to_owned(),
        reason: "Service Unavailable".to_owned(),
        hung_up_by: v1::CallParty::Provider.into(),
    }
}

/// Returns the times at which numbers were dialled, as the cap counts them.
async fn dial_times(db: &TestDb) -> Vec<String> {
    let sql = "SELECT attempted_at::text FROM number_attempts_by_tenant ORDER BY number";
    db.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Starts a service with a cap on attempts and a wait after an attempt that is given back.
async fn service(db: &TestDb, max_attempts_per_number: u16, congested_seconds: u32) -> Service {
    let mut options = test_options();
    options.limits.max_attempts_per_number = max_attempts_per_number;
    options.limits.congested_retry_seconds = congested_seconds;
    Service::start_with(db, options).await
}

/// Leases all contacts of a new campaign with a retry policy. Returns the campaign, the worker and the contacts.
async fn leased(
    clients: &mut Clients,
    policy: v1::RetryPolicy,
    contacts: usize,
) -> (String, Worker, Vec<Held>) {
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..contacts).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(clients, "w", &name).await;
    let held = worker.lease(contacts.try_into().expect("few")).await;
    (name, worker, held)
}

/// Begins to call the only contact of a campaign. Returns the campaign, the worker, the contact and the attempt.
async fn calling_one(clients: &mut Clients) -> (String, Worker, Held, String) {
    let (name, mut worker, mut held) = leased(clients, once(), 1).await;
    let held = held.remove(0);
    let attempt = worker.granted(&held).await;
    (name, worker, held, attempt)
}

#[tokio::test]
async fn who_rejects_and_what_is_no_number_is_never_dialled_again() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    for (held, outcome) in held.iter().zip([CallOutcome::Rejected, CallOutcome::InvalidNumber]) {
        let attempt = worker.granted(held).await;
        let status = worker.end(held, &attempt, outcome).await;
        assert_eq!(status, InteractionStatus::Recorded, "{outcome:?}");
        let explained = clients.explain(&held.contact).await;
        assert_eq!(explained.standing(), ContactStanding::Removed, "{outcome:?}");
        assert_eq!(explained.reason(), ExclusionReason::Finished, "{outcome:?}");
        let history = clients.history(&held.contact).await;
        assert_eq!((history.attempts, history.last_outcome()), (1, outcome));
    }
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    // Nor does the next run dial them. A rerun would: it takes everyone again, whatever happened before.
    clients.launch(&name).await;
    let mut next = Worker::connect(&clients, "next", &name).await;
    assert_eq!(next.lease(2).await.len(), 0);
}

#[tokio::test]
async fn an_attempt_in_which_nothing_rang_is_given_back() {
    let db = TestDb::new().await;
    let service = service(&db, 1, 1).await;
    let mut clients = service.clients.clone();
    let (name, mut worker, held, attempt) = calling_one(&mut clients).await;
    assert_eq!(dial_times(&db).await.len(), 1);
    let began = Instant::now();
    let congested = CallOutcome::Congested;
    let status = end_with(&mut worker, &held, &attempt, congested, unavailable()).await;
    assert_eq!(status, InteractionStatus::Recorded);
    let left = dial_times(&db).await;
    assert!(left.iter().all(|times| times == "{}"), "no place under the cap: {left:?}");
    let history = clients.history(&held.contact).await;
    assert_eq!((history.attempts, history.last_outcome()), (0, congested), "no attempt");
    let explained = clients.explain(&held.contact).await;
    assert_eq!(explained.standing(), ContactStanding::WaitingRetry);
    assert!(explained.message.contains("no phone rang"), "{explained:?}");
    let progress = clients.progress(&name).await;
    assert_eq!((progress.waiting_retry, progress.total), (1, 1));
    let again = worker.end(&held, &attempt, congested).await;
    assert_eq!(again, InteractionStatus::Duplicate);

    let back = worker.lease_some(1).await.remove(0);
    assert!(began.elapsed() > Duration::from_millis(900), "it waited: {:?}", began.elapsed());
    assert_eq!((&back.contact, back.attempt_number), (&held.contact, 1));
    let second = worker.granted(&back).await;
    worker.end(&back, &second, CallOutcome::NoAnswer).await;
    let expected = [(congested, Some(unavailable())), (CallOutcome::NoAnswer, None)];
    assert_eq!(ends(&mut clients, &held.contact).await, expected);
    let history = clients.history(&held.contact).await;
    assert_eq!((history.attempts, history.last_outcome()), (1, CallOutcome::NoAnswer));
    assert_eq!(dial_times(&db).await.len(), 1);
    clients.wait_for(&name, v1::CampaignState::Completed).await;
}

#[tokio::test]
async fn a_number_whose_only_attempt_was_given_back_is_forgotten() {
    let db = TestDb::new().await;
    let service = service(&db, 1, 3_600).await;
    let (_, mut worker, held, attempt) = calling_one(&mut service.clients.clone()).await;
    worker.end(&held, &attempt, CallOutcome::Congested).await;
    eventually("nothing is kept of the number", || async {
        dial_times(&db).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_the_attempt_itself_is_taken_back_from_the_cap() {
    let db = TestDb::new().await;
    let service = service(&db, 2, 0).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = clients.create_campaign_retrying(once()).await;
        clients.add_contacts(&name, 0..1).await;
        clients.launch(&name).await;
        names.push(name);
    }
    let mut attempts = Vec::new();
    // Two campaigns dial the number. The first one's call fails to reach anybody after the second one's began.
    for name in &names[..2] {
        let mut worker = Worker::connect(&clients, "w", name).await;
        let held = worker.lease(1).await.remove(0);
        let attempt = worker.granted(&held).await;
        attempts.push((worker, held, attempt, dial_times(&db).await.remove(0)));
    }
    let second_only = |both: &str, first: &str| {
        let first = first.trim_matches(['{', '}']);
        both.replace(first, "").replace("{,", "{").replace(",}", "}")
    };
    let (_, _, _, both) = &attempts[1];
    let expected = second_only(both, &attempts[0].3);
    let (worker, held, attempt, _) = &mut attempts[0];
    worker.end(held, attempt, CallOutcome::Congested).await;
    assert_eq!(dial_times(&db).await, [expected], "the second one's time stays");
    let mut third = Worker::connect(&clients, "third", &names[2]).await;
    let held = third.lease(1).await;
    third.granted(&held[0]).await;
    // The number has its two attempts again.
    let (worker, ..) = &mut attempts[0];
    let back = worker.lease_some(1).await;
    assert_eq!(worker.authorize(&back).await[0].0, Decision::NotNow);
}

#[tokio::test]
async fn a_contact_that_is_given_back_too_often_was_tried() {
    let db = TestDb::new().await;
    let service = service(&db, 20, 0).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { failed: Some(retry(2, 0)), ..once() };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let contact = format!("{name}/contacts/0");
    for (tried, attempts) in [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 1), (8, 2)] {
        let held = worker.lease_some(1).await.remove(0);
        let attempt = worker.granted(&held).await;
        worker.end(&held, &attempt, CallOutcome::Congested).await;
        assert_eq!(clients.history(&contact).await.attempts, attempts, "tried {tried} times");
    }
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    let times = dial_times(&db).await;
    assert_eq!(times[0].matches('+').count(), 2, "two attempts count for the cap: {times:?}");
    assert_eq!(ends(&mut clients, &contact).await.len(), 8, "history has all of them");
}

#[tokio::test]
async fn nobody_who_opted_out_during_the_call_comes_back() {
    let db = TestDb::new().await;
    let service = service(&db, 0, 0).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await.remove(0);
    let attempt = worker.granted(&held).await;
    let opted_out = Fact::OptedOut(v1::OptedOut { channel: "web".to_owned(), everywhere: false });
    clients.record(&held.contact, "web", opted_out).await;
    worker.end(&held, &attempt, CallOutcome::Congested).await;
    assert_eq!(worker.lease(1).await.len(), 0);
    clients.wait_for(&name, v1::CampaignState::Completed).await;
}

#[tokio::test]
async fn a_pause_keeps_a_contact_that_is_given_back() {
    let db = TestDb::new().await;
    let service = service(&db, 1, 0).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await.remove(0);
    let attempt = worker.granted(&held).await;
    clients.pause(&name).await;
    worker.end(&held, &attempt, CallOutcome::Congested).await;
    assert_eq!(clients.progress(&name).await.waiting, 1);
    clients.resume(&name).await;
    let back = worker.lease_some(1).await;
    worker.granted(&back[0]).await;
}

#[tokio::test]
async fn an_abandoned_call_has_a_rule_of_its_own_and_a_cancelled_one_that_of_no_answer() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let default = clients.create_campaign().await;
    let policy = clients.campaign(&default).await.retry_policy.unwrap();
    assert_eq!(policy.abandoned, Some(retry(3, 72 * 3_600)));
    let policy = v1::RetryPolicy {
        abandoned: Some(retry(2, 7_200)),
        no_answer: Some(retry(2, 3_600)),
        ..once()
    };
    let name = clients.create_campaign_retrying(policy).await;
    assert_eq!(clients.campaign(&name).await.retry_policy, Some(policy));
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let outcomes = [(CallOutcome::Abandoned, 7_200), (CallOutcome::Cancelled, 3_600)];
    for (held, (outcome, wait)) in held.iter().zip(outcomes) {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, outcome).await;
        let history = clients.history(&held.contact).await;
        assert_eq!((history.attempts, history.last_outcome()), (1, outcome));
        let recorded = history.interactions[0].record_time.unwrap().seconds;
        let next = clients.explain(&held.contact).await.next_attempt_time.unwrap().seconds;
        assert_eq!(next - recorded, wait, "{outcome:?}");
    }
}

#[tokio::test]
async fn the_details_of_an_end_are_kept_as_far_as_they_fit_and_only_if_there_are_any() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..4).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(4).await;
    let long = v1::CallEndDetail {
        status_code: 70_000,
        q850_cause: 128,
        provider_call_id: "x".repeat(300),
        reason: format!("a\nb{}", "ü".repeat(300)),
        hung_up_by: 99,
    };
    let cut = v1::CallEndDetail {
        provider_call_id: "x".repeat(200),
        reason: format!("a b{}", "ü".repeat(197)),
        ..Default::default()
    };
    let nothing = v1::CallEndDetail { status_code: -1, reason: "\n".to_owned(), ..cut.clone() };
    let nothing = v1::CallEndDetail { provider_call_id: String::new(), ..nothing };
    let told = [
        (None, None),
        (Some(nothing), None),
        (Some(unavailable()), Some(unavailable())),
        (Some(long), Some(cut)),
    ];
    for (n, (held, (detail, expected))) in held.iter().zip(told).enumerate() {
        let attempt = worker.granted(held).await;
        let ended =
            v1::CallEnded { outcome: CallOutcome::Failed.into(), detail, ..Default::default() };
        let status = worker.tell(held, &attempt, "", Fact::CallEnded(ended)).await;
        assert_eq!(status, InteractionStatus::Recorded);
        let known = ends(&mut clients, &held.contact).await;
        assert_eq!(known, [(CallOutcome::Failed, expected)], "contact {n}");
        let sql = "SELECT count(*) FROM call_reports WHERE details IS NOT NULL";
        let stored: i64 = db.client().await.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(stored, i64::try_from(n.saturating_sub(1)).unwrap(), "contact {n}");
    }
}
