//! First tests of the promises P1 to P6; P7 is in `crashes`. Each test was seen to fail on code broken on
//! purpose.

use crate::support::{Clients, Held, Service, TestDb, Worker, eventually, retry};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome, InteractionStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Lets every lease expire now.
async fn expire_leases(db: &TestDb) {
    let sql = "UPDATE leases SET expires_at = now() - interval '1 second'";
    db.client().await.batch_execute(sql).await.unwrap();
}

async fn wait_for_no_lease(db: &TestDb) {
    let client = db.client().await;
    eventually("expired leases are taken back", || async {
        let count = client.query_one("SELECT count(*) FROM leases", &[]).await.unwrap();
        (count.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Checks that the buckets sum to the total, and that a lease can find every waiting contact.
async fn check_nobody_is_lost(db: &TestDb, clients: &mut Clients, name: &str) {
    let progress = clients.progress(name).await;
    let removed: i64 = progress.removed.iter().map(|removed| removed.contacts).sum();
    let sum =
        progress.waiting + progress.waiting_retry + progress.leased + progress.in_call + removed;
    assert_eq!(sum, progress.total, "{progress:?}");
    let findable = "SELECT count(*) FROM contacts c JOIN campaigns k USING (campaign_id)
        WHERE c.position >= COALESCE((SELECT max(f.next_position) FROM frontiers f
            WHERE f.campaign_id = c.campaign_id AND f.run = k.run AND f.group_id = c.group_id), 0) OR EXISTS (SELECT FROM due_contacts d
            WHERE d.campaign_id = c.campaign_id AND d.position = c.position AND d.run = k.run)";
    let found: i64 = db.client().await.query_one(findable, &[]).await.unwrap().get(0);
    assert!(found >= progress.waiting + progress.waiting_retry, "{found} of {progress:?}");
}

/// P1: workers lease contacts and vanish at every stage. Every contact is attempted all the same.
#[tokio::test]
async fn p1_no_contact_is_lost_when_workers_vanish() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { unknown: Some(retry(5, 0)), ..Default::default() };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..60).await;
    clients.launch(&name).await;
    for round in 0..4 {
        let mut worker = Worker::connect(&clients, &format!("w{round}"), &name).await;
        let held = worker.lease(50).await;
        for (n, held) in held.iter().enumerate() {
            if n % 3 > 0 {
                let attempt = worker.granted(held).await;
                if n % 3 == 2 {
                    worker.end(held, &attempt, CallOutcome::Answered).await;
                }
            }
        }
        drop(worker);
        check_nobody_is_lost(&db, &mut clients, &name).await;
        expire_leases(&db).await;
        wait_for_no_lease(&db).await;
        check_nobody_is_lost(&db, &mut clients, &name).await;
    }
    let mut worker = Worker::connect(&clients, "last", &name).await;
    for held in worker.lease(100).await {
        let attempt = worker.granted(&held).await;
        worker.end(&held, &attempt, CallOutcome::Answered).await;
    }
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    let progress = clients.progress(&name).await;
    let finished = progress.removed.iter().find(|r| r.reason() == v1::ExclusionReason::Finished);
    assert_eq!(finished.unwrap().contacts, 60);
}

/// P2: repeated requests for the same slot, at once or on two replicas, are granted once. A worker that
/// dies after the grant leaves UNKNOWN, which waits for the retry policy.
#[tokio::test]
async fn p2_an_attempt_is_authorised_once_and_unknown_is_not_retried_at_once() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..20).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(20).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (clients, name, held) = (
            if n % 2 == 0 { one.clients.clone() } else { two.clients.clone() },
            name.clone(),
            held.clone(),
        );
        tasks.spawn(async move {
            let mut worker = Worker::connect(&clients, "w", &name).await;
            worker.authorize(&held).await
        });
    }
    let mut granted: BTreeMap<String, usize> = BTreeMap::new();
    for (decision, attempt) in tasks.join_all().await.into_iter().flatten() {
        match decision {
            Decision::Granted => *granted.entry(attempt).or_default() += 1,
            other => assert_eq!(other, Decision::AlreadyGranted),
        }
    }
    assert_eq!(granted.len(), 20);
    assert!(granted.values().all(|times| *times == 1), "{granted:?}");

    drop(worker);
    expire_leases(&db).await;
    wait_for_no_lease(&db).await;
    let mut worker = Worker::connect(&clients, "next", &name).await;
    assert!(worker.lease(20).await.is_empty(), "unknown attempts are not retried at once");
    let progress = clients.progress(&name).await;
    assert_eq!((progress.waiting_retry, progress.history.unwrap().attempts), (20, 20));
    let history = clients.history(&held[0].contact).await;
    assert_eq!(history.last_outcome(), CallOutcome::Unknown);
}

/// P3: workers on two replicas ask all the time while the campaign is paused, resumed and cancelled.
/// The audit log's snapshot of each stop tells which authorisations were committed by then. No other
/// authorisation may exist before the next resume.
#[tokio::test]
async fn p3_no_authorisation_is_committed_after_a_stop() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1_500).await;
    clients.launch(&name).await;
    let stop = Arc::new(AtomicBool::new(false));
    let granted = Arc::new(AtomicUsize::new(0));
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (clients, name, stop, granted) = (
            if n % 2 == 0 { one.clients.clone() } else { two.clients.clone() },
            name.clone(),
            Arc::clone(&stop),
            Arc::clone(&granted),
        );
        asking.spawn(async move {
            let mut worker = Worker::connect(&clients, &format!("w{n}"), &name).await;
            while !stop.load(Ordering::Relaxed) {
                for held in worker.lease(8).await {
                    let decision = worker.authorize(&[held]).await.remove(0).0;
                    granted
                        .fetch_add(usize::from(decision == Decision::Granted), Ordering::Relaxed);
                }
            }
        });
    }
    let client = db.client().await;
    let visible = "SELECT count(*) FROM authorizations a, audit_events e
        WHERE e.event_number = (SELECT max(event_number) FROM audit_events)
            AND NOT pg_visible_in_snapshot(a.transaction_id, e.snapshot)";
    for round in 0..25 {
        // The workers are busy when the pause comes.
        let before = granted.load(Ordering::Relaxed);
        eventually("workers are granted attempts", || async {
            (granted.load(Ordering::Relaxed) > before + 4).then_some(())
        })
        .await;
        clients.pause(&name).await;
        // The workers go on asking while the campaign is paused.
        for _ in 0..3 {
            let late: i64 = client.query_one(visible, &[]).await.unwrap().get(0);
            assert_eq!(late, 0, "authorised after pause {round}");
        }
        clients.resume(&name).await;
    }
    clients.cancel(&name).await;
    stop.store(true, Ordering::Relaxed);
    asking.join_all().await;
    let late: i64 = client.query_one(visible, &[]).await.unwrap().get(0);
    assert_eq!(late, 0, "authorised after the cancel");
    let between = "SELECT count(*) FROM audit_events p
        JOIN audit_events r ON r.command = 'RESUME' AND r.event_number = p.event_number + 1
        JOIN authorizations a ON NOT pg_visible_in_snapshot(a.transaction_id, p.snapshot)
            AND pg_visible_in_snapshot(a.transaction_id, r.snapshot)
        WHERE p.command = 'PAUSE'";
    let between: i64 = client.query_one(between, &[]).await.unwrap().get(0);
    assert_eq!(between, 0, "authorised between a pause and its resume");
}

/// P4: opt-outs are recorded while workers ask. No contact is authorised after its opt-out was
/// acknowledged, although the launch has `exclude.refused` = false.
#[tokio::test]
async fn p4_a_refusal_counts_from_its_acknowledgement_on() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..200).await;
    let exclude = v1::Exclusions { refused: Some(false), ..Default::default() };
    let settings = v1::LaunchSettings { exclude: Some(exclude), ..Default::default() };
    clients.launch_with(&name, settings).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(200).await;

    // Contacts with even numbers opt out on the other replica while this worker asks for all.
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let mut other = two.clients.clone();
    let refusing: Vec<Held> = held.iter().step_by(2).cloned().collect();
    let opting_out = tokio::spawn(async move {
        for held in refusing {
            let fact =
                Fact::OptedOut(v1::OptedOut { channel: "text".to_owned(), everywhere: false });
            assert_eq!(other.record(&held.contact, "o", fact).await, InteractionStatus::Recorded);
            sender.send(held.contact).unwrap();
        }
    });
    let mut refused = BTreeSet::new();
    let mut excluded = 0;
    // The worker asks from the end, so that the two meet in the middle.
    for held in held.iter().rev() {
        while let Ok(contact) = acknowledged.try_recv() {
            refused.insert(contact);
        }
        let (decision, _) = worker.authorize(std::slice::from_ref(held)).await.remove(0);
        excluded += usize::from(decision == Decision::Excluded);
        if refused.contains(&held.contact) {
            assert_eq!(decision, Decision::Excluded, "asked after the acknowledgement");
        }
    }
    opting_out.await.unwrap();
    assert!(excluded > 0, "some opt-outs came first");
    // Commit order decides for requests that raced.
    let late = "SELECT count(*) FROM interactions i JOIN authorizations a
        ON i.position = ANY(a.positions) AND a.authorized_at > i.recorded_at";
    let late: i64 = db.client().await.query_one(late, &[]).await.unwrap().get(0);
    assert_eq!(late, 0);
}

/// P4: the answer to an authorisation is lost, the contact opts out, and the worker reconnects and asks again.
#[tokio::test]
async fn p4_a_grant_that_was_not_heard_is_judged_again() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    for held in &held {
        worker.granted(held).await;
    }
    drop(worker);
    clients.record(&held[0].contact, "o", Fact::OptedOut(v1::OptedOut::default())).await;
    let leases = vec![held[0].lease.clone()];
    let mut worker = Worker::reconnect(&clients, "w", &name, leases).await;
    let decisions: Vec<Decision> =
        worker.authorize(&held).await.into_iter().map(|(decision, _)| decision).collect();
    assert_eq!(decisions, [Decision::Excluded, Decision::AlreadyGranted]);
    assert_eq!(clients.progress(&name).await.in_call, 2, "nobody knows whether it rang");
}

/// P5: a report changes history once and is not lost. It may come twice, in the wrong order, from two workers,
/// or after a pause, a cancel, the end of the lease or a reset.
#[tokio::test]
async fn p5_a_fact_counts_once_whenever_it_comes() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..4).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(4).await;
    let mut attempts = Vec::new();
    for held in &held {
        attempts.push(worker.granted(held).await);
    }
    let mut second = Worker::connect(&two.clients, "w2", &name).await;
    let transfer = || Fact::Transferred(v1::Transferred { seconds_before_transfer: 61 });

    // After a pause, the end is reported before the transfer, twice, and by another worker.
    clients.pause(&name).await;
    for _ in 0..2 {
        worker.end(&held[0], &attempts[0], CallOutcome::Answered).await;
        second.tell(&held[0], &attempts[0], "t", transfer()).await;
        worker.tell(&held[0], &attempts[0], "t", transfer()).await;
    }
    assert_eq!(
        second.end(&held[0], &attempts[0], CallOutcome::Busy).await,
        InteractionStatus::Duplicate
    );
    let history = clients.history(&held[0].contact).await;
    assert_eq!((history.attempts, history.longest_transfer_seconds), (1, 61));
    assert_eq!((history.last_outcome(), history.interactions.len()), (CallOutcome::Answered, 2));

    // After the lease has expired, the report replaces UNKNOWN and is not counted again.
    clients.resume(&name).await;
    expire_leases(&db).await;
    wait_for_no_lease(&db).await;
    assert_eq!(clients.history(&held[1].contact).await.last_outcome(), CallOutcome::Unknown);
    for wanted in [InteractionStatus::Recorded, InteractionStatus::Duplicate] {
        let status = worker.end(&held[1], &attempts[1], CallOutcome::Answered).await;
        assert_eq!(status, wanted);
    }
    let history = clients.history(&held[1].contact).await;
    assert_eq!((history.attempts, history.last_outcome()), (1, CallOutcome::Answered));
    let explained = clients.explain(&held[1].contact).await;
    assert_eq!(explained.reason(), v1::ExclusionReason::Finished);

    // A fact counts after a cancel.
    clients.cancel(&name).await;
    let success = || Fact::Success(v1::Success {});
    worker.tell(&held[2], &attempts[2], "s", success()).await;
    assert!(clients.history(&held[2].contact).await.success);

    // After a reset, an opt-out from a call before it counts. So do all facts from now on.
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;
    let late = worker.tell(&held[3], &attempts[3], "s", success()).await;
    assert_eq!(late, InteractionStatus::Recorded);
    let opted_out = || Fact::OptedOut(v1::OptedOut::default());
    for wanted in [InteractionStatus::Recorded, InteractionStatus::Duplicate] {
        assert_eq!(worker.tell(&held[3], &attempts[3], "o", opted_out()).await, wanted);
    }
    let history = clients.history(&held[3].contact).await;
    assert!(history.refused && history.success);
    // The end of the third contact's call is unknown. Its phone may still ring, whatever was launched.
    let mut fresh = Worker::connect(&clients, "w3", &name).await;
    let again: Vec<String> = fresh.lease(10).await.into_iter().map(|held| held.phone).collect();
    assert_eq!(again, [held[0].phone.as_str(), held[1].phone.as_str()]);
}

/// P5 among callers whose facts are recorded together: each gets the results of its own facts.
#[tokio::test]
async fn p5_each_caller_is_told_of_its_own_facts() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let contact = format!("{name}/contacts/0");
    clients.record(&contact, "known", Fact::Success(v1::Success {})).await;

    // Neighbours report different facts, and different numbers of them.
    let kinds = [
        (contact.clone(), "known", InteractionStatus::Duplicate),
        (contact.clone(), "new", InteractionStatus::Recorded),
        (format!("{name}/contacts/9"), "nobody", InteractionStatus::Rejected),
    ];
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..60 {
        let asked: Vec<_> =
            kinds.iter().cycle().skip(caller % 3).take(1 + caller % 4).cloned().collect();
        let fact = |(index, (contact, id, wanted)): (usize, &(String, &str, InteractionStatus))| {
            let is_new = *wanted == InteractionStatus::Recorded;
            let interaction = v1::Interaction {
                contact: contact.clone(),
                interaction_id: if is_new { format!("{caller}-{index}") } else { (*id).to_owned() },
                fact: Some(Fact::Success(v1::Success {})),
                ..Default::default()
            };
            v1::ReportedInteraction { interaction: Some(interaction), ..Default::default() }
        };
        let interactions = asked.iter().enumerate().map(fact).collect();
        let request = v1::RecordInteractionsRequest { parent: name.clone(), interactions };
        let mut api = clients.interactions.clone();
        callers.spawn(async move {
            let told = api.record_interactions(request).await.unwrap().into_inner().results;
            let told: Vec<_> = told.iter().map(v1::InteractionResult::status).collect();
            let wanted: Vec<_> = asked.iter().map(|(_, _, wanted)| *wanted).collect();
            assert_eq!(told, wanted, "caller {caller}");
        });
    }
    while let Some(answered) = callers.join_next().await {
        answered.unwrap();
    }
}

/// P6: requests of the holder of an expired or foreign lease are rejected.
#[tokio::test]
async fn p6_an_expired_lease_authorises_nothing() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let forged = v1::LeaseKey {
        token: "00000000-0000-4000-8000-000000000000".to_owned(),
        ..held[0].lease.clone()
    };
    let result = worker.authorize_slots(&forged, vec![0]).await;
    assert_eq!(result.attempts[0].decision(), Decision::LeaseLost);

    // The lease has expired, and a replica may or may not have taken it back.
    expire_leases(&db).await;
    assert_eq!(worker.authorize(&held[..1]).await[0].0, Decision::LeaseLost);
    wait_for_no_lease(&db).await;
    let mut next = Worker::connect(&clients, "next", &name).await;
    let again = next.lease(2).await;
    assert_eq!(again.len(), 2, "contacts that were not dialled are leased again");
    assert_eq!(worker.authorize(&held).await[1].0, Decision::LeaseLost);
    next.granted(&again[0]).await;
}
