//! The dispatch stream: leases, authorisation, revocation, reconnects.

use crate::support::{Service, TestDb, Worker, always, eventually, phone, retry, test_options};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AuthorizeDecision as Decision, CallOutcome, IdleReason, InteractionStatus,
};
use std::collections::BTreeSet;

#[tokio::test]
async fn two_workers_share_a_campaign_and_no_contact_is_leased_twice() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1_000).await;
    clients.launch(&name).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..6 {
        let clients = if n % 2 == 0 { one.clients.clone() } else { two.clients.clone() };
        let name = name.clone();
        tasks.spawn(async move {
            let mut worker = Worker::connect(&clients, &format!("w{n}"), &name).await;
            let mut phones = Vec::new();
            loop {
                let held = worker.lease(37).await;
                if held.len() < 37 {
                    phones.extend(held.into_iter().map(|held| held.phone));
                    return phones;
                }
                phones.extend(held.into_iter().map(|held| held.phone));
            }
        });
    }
    let phones: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(phones.len(), 1_000);
    assert_eq!(phones.iter().collect::<BTreeSet<_>>().len(), 1_000);
}

#[tokio::test]
async fn higher_priority_is_dialled_first() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    let urgent = v1::Contact { phone_number: phone(5), priority: 9, ..Default::default() };
    let request = v1::CreateContactRequest {
        parent: name.clone(),
        contact: Some(urgent),
        ..Default::default()
    };
    clients.contacts.create_contact(request).await.unwrap();
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert_eq!(worker.lease(1).await[0].phone, phone(5));
}

#[tokio::test]
async fn single_slots_of_a_lease_are_granted_and_slots_that_it_has_not_are_closed() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_attempts_per_number = 1;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..40).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(40).await;
    let lease = held[0].lease.clone();
    let decisions = |result: &v1::AuthorizeResult| {
        result.attempts.iter().map(|attempt| attempt.decision()).collect::<Vec<_>>()
    };
    let (granted, closed) = (Decision::Granted, Decision::SlotClosed);
    let result = worker.authorize_slots(&lease, vec![39]).await;
    assert_eq!(decisions(&result), [granted]);
    let result = worker.authorize_slots(&lease, vec![i32::MAX]).await;
    assert_eq!(decisions(&result), [closed]);
    let result = worker.authorize_slots(&lease, vec![7, -1, i32::MAX, 40, 7, 39, 5]).await;
    let again = Decision::AlreadyGranted;
    assert_eq!(decisions(&result), [granted, closed, closed, closed, again, again, granted]);
    for (slot, index) in [(7, 0), (39, 5), (5, 6)] {
        let attempt = &result.attempts[index].attempt_id;
        worker.end(&held[slot], attempt, CallOutcome::Answered).await;
        assert_eq!(clients.history(&held[slot].contact).await.attempts, 1, "slot {slot}");
    }
    let numbers = "SELECT count(DISTINCT number)::int8 FROM number_attempts_by_tenant";
    let dialled: i64 = db.client().await.query_one(numbers, &[]).await.unwrap().get(0);
    assert_eq!(dialled, 3, "each under its own number");
}

#[tokio::test]
async fn contacts_given_back_go_to_another_worker_at_once() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..3).await;
    clients.launch(&name).await;
    let mut first = Worker::connect(&clients, "first", &name).await;
    let held = first.lease(3).await;
    let attempt = first.granted(&held[0]).await;
    assert_eq!(first.release(&held[0].lease, Vec::new()).await, 2, "not the one in a call");
    assert_eq!(first.authorize(&held[1..2]).await[0].0, Decision::SlotClosed);
    let mut second = Worker::connect(&two.clients, "second", &name).await;
    let again = second.lease(3).await;
    assert_eq!(again.len(), 2);
    first.end(&held[0], &attempt, CallOutcome::Answered).await;
}

#[tokio::test]
async fn pause_and_cancel_are_told_to_the_workers_of_every_replica() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..4).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&two.clients, "w", &name).await;
    let held = worker.lease(2).await;
    clients.pause(&name).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (v1::RevokeReason::Paused, false));
    assert_eq!((revoke.campaign.as_str(), revoke.run), (name.as_str(), 1));
    assert_eq!(worker.authorize(&held[..1]).await[0].0, Decision::NotRunning);
    clients.cancel(&name).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (v1::RevokeReason::Cancelled, true));
}

#[tokio::test]
async fn an_opt_out_is_told_to_the_worker_that_holds_the_contact() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    clients.record(&held[0].contact, "o", Fact::OptedOut(v1::OptedOut::default())).await;
    let revoke = worker.revoked().await;
    assert_eq!(revoke.contact, held[0].contact);
    assert_eq!(revoke.reason(), v1::RevokeReason::OptedOut);
}

#[tokio::test]
async fn a_worker_reconnects_to_another_replica_and_goes_on() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let attempt = worker.granted(&held[0]).await;
    drop(worker);
    drop(one);
    let forged = v1::LeaseKey {
        token: "00000000-0000-4000-8000-000000000000".to_owned(),
        ..held[0].lease.clone()
    };
    let leases = vec![held[0].lease.clone(), forged];
    let mut worker = Worker::reconnect(&two.clients, "w", &name, leases).await;
    let lost: Vec<bool> = worker.welcome.leases.iter().map(|lease| lease.lost).collect();
    assert_eq!(lost, [false, true]);
    let (decision, same) = worker.authorize(&held[..1]).await.remove(0);
    assert_eq!((decision, same.as_str()), (Decision::AlreadyGranted, attempt.as_str()));
    worker.granted(&held[1]).await;
    assert_eq!(
        worker.end(&held[0], &attempt, CallOutcome::Answered).await,
        InteractionStatus::Recorded
    );
}

/// A worker reconnects when its lease has expired, with a call of that lease in progress.
#[tokio::test]
async fn calls_of_a_lost_lease_are_hung_up_too() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    clients.add_contacts(&name, 0..2).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    worker.granted(&held[0]).await;
    drop(worker);
    let client = db.client().await;
    client.batch_execute("UPDATE leases SET expires_at = now()").await.unwrap();
    eventually("the lease is gone", || async {
        let rows = client.query("SELECT FROM leases", &[]).await.unwrap();
        rows.is_empty().then_some(())
    })
    .await;
    let hello = v1::Hello {
        worker_id: "w".to_owned(),
        protocol_version: 1,
        leases: vec![held[0].lease.clone()],
        lost_leases: vec![held[0].lease.lease.clone()],
        campaigns: vec![name.clone()],
        ..Default::default()
    };
    let back = || Worker::open(&clients, Request::Hello(hello.clone()));
    let mut worker = back().await.unwrap();
    assert!(worker.welcome.leases[0].lost);
    clients.clone().record(&held[0].contact, "o", Fact::OptedOut(v1::OptedOut::default())).await;
    let revoke = worker.revoked().await;
    assert_eq!((&revoke.contact, revoke.hang_up), (&held[0].contact, false));
    clients.clone().cancel(&name).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.contact.as_str(), revoke.hang_up, revoke.run), ("", true, 1));
    let mut late = back().await.unwrap();
    assert!(late.revoked().await.hang_up, "stopped while it was away");
}

/// If such a lease were renewed, its contacts would wait for the end of the worker's calls.
#[tokio::test]
async fn a_lease_that_its_worker_takes_for_lost_is_not_renewed() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    clients.add_contacts(&name, 0..1).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    let client = db.client().await;
    let expiry = || async {
        let row = client.query_one("SELECT expires_at::text FROM leases", &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    let before = expiry().await;
    let (leases, lost_leases) = (vec![held[0].lease.clone()], vec![held[0].lease.lease.clone()]);
    for lost_leases in [lost_leases, Vec::new()] {
        let is_lost = !lost_leases.is_empty();
        let renew = v1::Renew { leases: leases.clone(), lost_leases };
        worker.send(Request::Renew(renew)).await;
        let renewed = worker.wait(|message| match message {
            Message::RenewResult(result) => Some(result.leases[0].lost),
            _ => None,
        });
        assert_eq!(renewed.await, is_lost);
        assert_eq!(expiry().await == before, is_lost);
    }
}

#[tokio::test]
async fn a_worker_that_was_away_learns_that_its_campaign_stopped() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    drop(worker);
    clients.cancel(&name).await;
    let leases = vec![held[0].lease.clone()];
    let mut worker = Worker::reconnect(&clients, "w", &name, leases).await;
    let revoke = worker.revoked().await;
    assert!(revoke.hang_up);
}

#[tokio::test]
async fn a_contact_whose_hours_are_shut_is_not_handed_out() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    // The campaign is open at no hour of today or tomorrow, in any zone.
    let today = chrono::Utc::now().date_naive();
    let blackout_dates =
        (-1..=2).map(|days| (today + chrono::TimeDelta::days(days)).to_string()).collect();
    let campaign = v1::Campaign {
        display_name: "Shut".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(v1::Schedule { blackout_dates, ..always() }),
        ..Default::default()
    };
    let name = clients.create_campaign_with(campaign).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert!(worker.lease(1).await.is_empty());
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::WindowClosed);
    assert!(progress.idle_until.is_some());
    assert_eq!(progress.waiting, 1, "rescheduled, not skipped");
}

#[tokio::test]
async fn hours_that_shut_between_lease_and_authorisation_count() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    // The update acts as if hours had passed: those of the lease are over, and none is open now.
    let shut = r#"UPDATE leases SET judged_until = now();
        UPDATE campaigns SET config = jsonb_set(config, '{schedule,windows}',
            '[{"weekday": 8, "start_minute": 0, "end_minute": 1}]')"#;
    db.client().await.batch_execute(shut).await.unwrap();
    assert_eq!(worker.authorize(&held).await[0].0, Decision::NotNow);
    let progress = clients.progress(&name).await;
    assert_eq!((progress.waiting, progress.leased), (1, 0));
}

#[tokio::test]
async fn retries_come_when_they_are_due() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy {
        busy: Some(retry(2, 1)),
        no_answer: Some(retry(2, 3_600)),
        ..Default::default()
    };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let before = std::time::Instant::now();
    for (held, outcome) in
        worker.lease(2).await.iter().zip([CallOutcome::Busy, CallOutcome::NoAnswer])
    {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, outcome).await;
    }
    assert!(worker.lease(2).await.is_empty());
    let again = worker.batch().await;
    assert!(before.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!((again.len(), again[0].phone.clone()), (1, phone(0)));
    assert_eq!(again[0].attempt_number, 2);
    assert_eq!(clients.progress(&name).await.waiting_retry, 1);
}

#[tokio::test]
async fn a_stopping_replica_asks_its_workers_to_leave() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    drop(service);
    worker.wait(|message| matches!(message, Message::Drain(_)).then_some(())).await;
}

#[tokio::test]
async fn a_campaign_says_that_the_workers_provider_fails() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let worker = Worker::connect(&clients, "w", &name).await;
    let says = async |reason: IdleReason, message: &str| {
        eventually(&format!("the campaign says {reason:?}"), || {
            let (mut clients, name) = (clients.clone(), name.clone());
            async move {
                let progress = clients.progress(&name).await;
                let is_said = progress.idle_reason() == reason && progress.idle_message == message;
                is_said.then_some(())
            }
        })
        .await;
    };
    says(IdleReason::NoWorker, "").await;
    let report = |failing, reason: &str| {
        Request::ProviderReport(v1::ProviderReport { failing, reason: reason.to_owned() })
    };
    worker.send(report(true, "the trunk does not answer")).await;
    says(IdleReason::ProviderFailing, "the trunk does not answer").await;
    worker.send(report(false, "")).await;
    says(IdleReason::NoWorker, "").await;
    worker.send(report(true, &"x".repeat(1_000))).await;
    says(IdleReason::ProviderFailing, &"x".repeat(200)).await;
    // The end of a stream is noticed only after the worker has reconnected and reported again.
    let back = Worker::connect(&clients, "w", &name).await;
    back.send(report(true, "still not")).await;
    says(IdleReason::ProviderFailing, "still not").await;
    worker.close().await;
    says(IdleReason::ProviderFailing, "still not").await;
    // When a worker leaves, its trouble is no longer shown.
    back.close().await;
    says(IdleReason::NoWorker, "").await;
}
