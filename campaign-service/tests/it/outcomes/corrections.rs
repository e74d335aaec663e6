//! Ends that a later report of the same attempt corrects.

use super::{end_with, ends, leased, unavailable};
use crate::support::{Clients, Service, TestDb, Worker, eventually, once, retry};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, ContactStanding, ExclusionReason, InteractionStatus};

/// Lets all leases of a campaign expire.
async fn expire_leases(db: &TestDb, clients: &mut Clients, contact: &str) {
    let sql = "UPDATE leases SET expires_at = now() - interval '1 second'";
    db.client().await.batch_execute(sql).await.unwrap();
    eventually("the attempt is unknown", || {
        let mut clients = clients.clone();
        let contact = contact.to_owned();
        async move {
            let last = clients.history(&contact).await.last_outcome();
            (last == CallOutcome::Unknown).then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn the_end_that_replaces_unknown_brings_its_details_and_its_rule() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { unknown: Some(retry(3, 3_600)), ..once() };
    let (_, mut worker, held) = leased(&mut clients, policy, 2).await;
    let attempts = [worker.granted(&held[0]).await, worker.granted(&held[1]).await];
    expire_leases(&db, &mut clients, &held[1].contact).await;
    let outcomes = [CallOutcome::Rejected, CallOutcome::Congested];
    for ((held, attempt), outcome) in held.iter().zip(&attempts).zip(outcomes) {
        let status = end_with(&mut worker, held, attempt, outcome, unavailable()).await;
        assert_eq!(status, InteractionStatus::Recorded, "{outcome:?}");
        let known = ends(&mut clients, &held.contact).await;
        assert_eq!(known, [(outcome, Some(unavailable()))], "in the place of UNKNOWN");
        let again = worker.end(held, attempt, CallOutcome::Busy).await;
        assert_eq!(again, InteractionStatus::Duplicate, "{outcome:?}");
    }
    let rejected = clients.explain(&held[0].contact).await;
    assert_eq!(rejected.reason(), ExclusionReason::Finished);
    // An attempt that was unknown is counted, and stays so.
    let congested = clients.explain(&held[1].contact).await;
    assert_eq!(congested.standing(), ContactStanding::WaitingRetry);
    assert_eq!(clients.history(&held[1].contact).await.attempts, 1);
}

#[tokio::test]
async fn an_answer_that_turns_out_to_be_a_machines_is_tried_again() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { voicemail: Some(retry(2, 0)), ..once() };
    let (_, mut worker, held) = leased(&mut clients, policy, 3).await;
    let mut attempts = Vec::new();
    for held in &held {
        attempts.push(worker.granted(held).await);
    }
    let (machine, caller, person) = (&held[0], &held[1], &held[2]);
    for (held, attempt) in [(machine, &attempts[0]), (caller, &attempts[1])] {
        end_with(&mut worker, held, attempt, CallOutcome::Answered, unavailable()).await;
    }
    // This person called back before the platform knew of the machine.
    let called_in = Fact::CalledIn(v1::CalledIn { duration: None });
    clients.record(&caller.contact, "in", called_in).await;
    for (held, attempt) in [(machine, &attempts[0]), (caller, &attempts[1])] {
        let status = worker.end(held, attempt, CallOutcome::Voicemail).await;
        assert_eq!(status, InteractionStatus::Recorded);
        let answered_again = worker.end(held, attempt, CallOutcome::Answered).await;
        assert_eq!(answered_again, InteractionStatus::Duplicate, "the first report, repeated");
        let known = ends(&mut clients, &held.contact).await;
        assert_eq!(known, [(CallOutcome::Voicemail, Some(unavailable()))], "details stay");
        assert_eq!(clients.history(&held.contact).await.attempts, 1);
    }
    let back = worker.lease_some(2).await;
    let contacts: Vec<&str> = back.iter().map(|held| held.contact.as_str()).collect();
    assert_eq!(contacts, [machine.contact.as_str()], "nobody who called in");
    assert_eq!(back[0].attempt_number, 2);
    // Both in one report count too.
    let both = [CallOutcome::Answered, CallOutcome::Voicemail].map(|outcome| v1::Interaction {
        contact: person.contact.clone(),
        attempt_id: attempts[2].clone(),
        fact: Some(Fact::CallEnded(v1::CallEnded {
            outcome: outcome.into(),
            ..Default::default()
        })),
        ..Default::default()
    });
    let results = worker.report(both.to_vec()).await;
    let recorded = results.iter().all(|one| one.status() == InteractionStatus::Recorded);
    assert!(recorded, "{results:?}");
    let again = worker.batch().await;
    assert_eq!(again[0].contact, person.contact);
}

#[tokio::test]
async fn a_machine_that_is_recognised_after_the_end_of_the_run_is_tried_in_the_next() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { voicemail: Some(retry(2, 0)), ..once() };
    let (name, mut worker, held) = leased(&mut clients, policy, 2).await;
    let mut attempts = Vec::new();
    for held in &held {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, CallOutcome::Answered).await;
        attempts.push(attempt);
    }
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    worker.end(&held[0], &attempts[0], CallOutcome::Voicemail).await;
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Completed);
    clients.launch(&name).await;
    let mut next = Worker::connect(&clients, "next", &name).await;
    let back = next.lease(2).await;
    let contacts: Vec<&str> = back.iter().map(|held| held.contact.as_str()).collect();
    assert_eq!(contacts, [held[0].contact.as_str()]);
    assert_eq!(back[0].attempt_number, 2);
}

#[tokio::test]
async fn a_provisional_answer_gives_way_to_what_the_provider_concludes() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { no_answer: Some(retry(2, 0)), ..once() };
    let (_, mut worker, held) = leased(&mut clients, policy, 4).await;
    let (duplicate, recorded) = (InteractionStatus::Duplicate, InteractionStatus::Recorded);
    let (answered, no_answer) = (CallOutcome::Answered, CallOutcome::NoAnswer);
    for (held, provisional, later, status) in [
        (&held[0], true, no_answer, recorded),
        (&held[1], true, CallOutcome::Rejected, recorded),
        (&held[2], true, answered, duplicate),
        (&held[3], false, no_answer, duplicate),
    ] {
        let attempt = worker.granted(held).await;
        let duration = Some(prost_types::Duration { seconds: 7, nanos: 0 });
        let ended = v1::CallEnded { outcome: answered.into(), duration, detail: None, provisional };
        let end = v1::Interaction {
            contact: held.contact.clone(),
            attempt_id: attempt.clone(),
            fact: Some(Fact::CallEnded(ended)),
            ..Default::default()
        };
        for expected in [recorded, duplicate] {
            let results = worker.report(vec![end.clone()]).await;
            assert_eq!(results[0].status(), expected, "the answer, and its repeat");
        }
        assert_eq!(worker.end(held, &attempt, later).await, status, "{later:?}");
        let again = worker.end(held, &attempt, CallOutcome::Busy).await;
        let is_still_provisional = provisional && later == answered;
        assert_eq!(again == recorded, is_still_provisional, "one correction, after {later:?}");
        let mut history = clients.history(&held.contact).await;
        let last = history.interactions.pop().and_then(|last| last.fact);
        let Some(Fact::CallEnded(last)) = last else { panic!("{last:?}") };
        assert_eq!((last.duration, history.attempts), (duration, 1), "the length stays");
    }
    let back = worker.lease_some(4).await;
    let contacts: Vec<&str> = back.iter().map(|held| held.contact.as_str()).collect();
    assert_eq!(contacts, [held[0].contact.as_str()], "nobody who answered or rejected the call");
}
