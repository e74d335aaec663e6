//! Limits over all workers and replicas: calls per second, calls in progress, attempts per number, shares of the
//! workers.

use crate::support::access::Guarded;
use crate::support::{
    Clients, Service, TestDb, Worker, always, eventually, phone, retry, test_options,
};
use campaign_domain::caps::CapScope;
use campaign_proto::v1;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome, IdleReason};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

async fn paced(clients: &mut Clients, pacing: v1::Pacing) -> String {
    let policy = v1::RetryPolicy { no_answer: Some(retry(20, 0)), ..Default::default() };
    clients
        .create_campaign_with(v1::Campaign {
            display_name: "Spring".to_owned(),
            description: "For tests".to_owned(),
            schedule: Some(always()),
            retry_policy: Some(policy),
            pacing: Some(pacing),
            ..v1::Campaign::default()
        })
        .await
}

async fn set_pacing(clients: &mut Clients, name: &str, pacing: v1::Pacing) {
    let campaign =
        v1::Campaign { name: name.to_owned(), pacing: Some(pacing), ..Default::default() };
    let request = v1::UpdateCampaignRequest {
        campaign: Some(campaign),
        update_mask: Some(prost_types::FieldMask { paths: vec!["pacing".to_owned()] }),
        ..Default::default()
    };
    clients.campaigns.update_campaign(request).await.unwrap();
}

async fn idle_reason(clients: &mut Clients, name: &str) -> IdleReason {
    clients.progress(name).await.idle_reason()
}

/// Asks to dial all contacts that a worker gets, again and again, until `wanted` are granted.
async fn dial_until(clients: Clients, id: usize, name: String, wanted: usize) -> usize {
    let mut worker = Worker::connect(&clients, &format!("w{id}"), &name).await;
    let mut held = worker.lease(i32::try_from(wanted).unwrap()).await;
    let mut granted = 0;
    while granted < wanted && !held.is_empty() {
        let decisions = worker.authorize(&held).await;
        let mut left = Vec::new();
        for (held, (decision, _)) in held.into_iter().zip(decisions) {
            match decision {
                Decision::Granted => granted += 1,
                Decision::Throttled => left.push(held),
                other => panic!("{other:?}"),
            }
        }
        held = left;
    }
    worker.close().await;
    granted
}

#[tokio::test]
async fn calls_a_second_hold_over_workers_and_replicas() {
    const RATE: i32 = 40;
    let db = TestDb::new().await;
    let replicas = [Service::start(&db).await, Service::start(&db).await];
    let mut clients = replicas[0].clients.clone();
    let pacing = v1::Pacing { max_calls_per_second: RATE, ..Default::default() };
    let name = paced(&mut clients, pacing).await;
    clients.add_contacts(&name, 0..120).await;
    clients.launch(&name).await;
    let mut workers = tokio::task::JoinSet::new();
    for id in 0..4 {
        workers.spawn(dial_until(replicas[id % 2].clients.clone(), id, name.clone(), 30));
    }
    assert_eq!(workers.join_all().await.into_iter().sum::<usize>(), 120);
    // By the database's own log, no second has more calls than the rate and the tenth that a burst may add.
    let sql = "SELECT max(calls) FROM (SELECT sum(cardinality(slots)) OVER (ORDER BY authorized_at
        RANGE BETWEEN CURRENT ROW AND '999 ms' FOLLOWING) AS calls FROM authorizations) t";
    let most: i64 = db.client().await.query_one(sql, &[]).await.unwrap().get(0);
    assert!(most <= i64::from(RATE + RATE / 10 + 1), "{most} calls in one second");
    assert!(most >= i64::from(RATE / 2), "{most} calls in the busiest second: too slow");
}

#[tokio::test]
async fn calls_in_progress_hold_and_the_limit_changes_while_running() {
    let db = TestDb::new().await;
    let replicas = [Service::start(&db).await, Service::start(&db).await];
    let mut clients = replicas[0].clients.clone();
    let limit = |max| v1::Pacing { max_calls_in_progress: max, ..Default::default() };
    let name = paced(&mut clients, limit(5)).await;
    clients.add_contacts(&name, 0..40).await;
    clients.launch(&name).await;
    let mut first = Worker::connect(&replicas[0].clients, "a", &name).await;
    let mut second = Worker::connect(&replicas[1].clients, "b", &name).await;
    let (of_first, of_second) = (first.lease(10).await, second.lease(10).await);
    assert_eq!(first.authorize(&of_first[..3]).await.len(), 3);
    let decisions = second.authorize(&of_second[..5]).await;
    let count = |decisions: &[(Decision, String)], wanted| {
        decisions.iter().filter(|(decision, _)| *decision == wanted).count()
    };
    assert_eq!(count(&decisions, Decision::Granted), 2, "{decisions:?}");
    assert_eq!(count(&decisions, Decision::Throttled), 3, "{decisions:?}");
    assert_eq!(idle_reason(&mut clients, &name).await, IdleReason::Throttled);
    let result = second.authorize_slots(&of_second[4].lease, vec![of_second[4].slot]).await;
    assert!(result.retry_delay.is_some(), "says when to ask again");

    // When one call ends, another may begin: the throttled slot is still leased.
    let ended = second.end(&of_second[0], &decisions[0].1, CallOutcome::Answered).await;
    assert_eq!(ended, v1::InteractionStatus::Recorded);
    let more = second.authorize(&of_second[2..5]).await;
    assert_eq!(count(&more, Decision::Granted), 1, "{more:?}");
    set_pacing(&mut clients, &name, limit(7)).await;
    let more = first.authorize(&of_first[3..5]).await;
    assert_eq!(count(&more, Decision::Granted), 2, "{more:?}");
    set_pacing(&mut clients, &name, limit(1)).await;
    let more = second.authorize(&of_second[3..5]).await;
    assert_eq!(count(&more, Decision::Granted), 0, "{more:?}");
}

/// Starts a service with this cap of attempts per number and day.
async fn capped_service(db: &TestDb, max_attempts_per_number: u16) -> Service {
    let mut options = test_options();
    options.limits.max_attempts_per_number = max_attempts_per_number;
    Service::start_with(db, options).await
}

#[tokio::test]
async fn a_number_is_dialled_three_times_a_day_by_all_campaigns_together() {
    let db = TestDb::new().await;
    let service = capped_service(&db, 3).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..2 {
        let name = paced(&mut clients, v1::Pacing::default()).await;
        clients.add_contacts(&name, 0..1).await;
        clients.launch(&name).await;
        names.push(name);
    }
    let mut decisions = Vec::new();
    for name in names.iter().cycle().take(4) {
        let mut worker = Worker::connect(&clients, "w", name).await;
        let held = worker.lease(1).await;
        let (decision, attempt) = worker.authorize(&held).await.remove(0);
        if decision == Decision::Granted {
            worker.end(&held[0], &attempt, CallOutcome::NoAnswer).await;
        }
        decisions.push(decision);
        worker.close().await;
    }
    let granted = Decision::Granted;
    assert_eq!(decisions, [granted, granted, granted, Decision::NotNow]);
    let progress = clients.progress(&names[1]).await;
    assert_eq!(progress.idle_reason(), IdleReason::Capped, "{progress:?}");
    let explained = clients.explain(&format!("{}/contacts/0", names[1])).await;
    assert!(explained.message.contains("24 hours"), "{explained:?}");
    assert_eq!(explained.next_attempt_time, progress.idle_until);

    // A day later, by the database's data, the number may be dialled again.
    let later = "UPDATE number_attempts_by_tenant SET attempted_at = ARRAY(
            SELECT t - interval '24 hours' FROM unnest(attempted_at) AS t);
        UPDATE due_contacts SET due_at = due_at - interval '24 hours'";
    db.client().await.batch_execute(later).await.unwrap();
    let mut worker = Worker::connect(&clients, "w", &names[1]).await;
    let held = worker.lease(1).await;
    worker.granted(&held[0]).await;
}

#[tokio::test]
async fn two_replicas_never_dial_a_number_at_once_that_may_be_dialled_once() {
    let db = TestDb::new().await;
    let replicas = [capped_service(&db, 1).await, capped_service(&db, 1).await];
    let mut tasks = tokio::task::JoinSet::new();
    for replica in &replicas {
        let mut clients = replica.clients.clone();
        // The slots come in different orders. If locks were taken in order of slot, the tasks would deadlock.
        tasks.spawn(async move {
            let name = paced(&mut clients, v1::Pacing::default()).await;
            clients.add_contacts(&name, 0..100).await;
            clients.launch(&name).await;
            let mut worker = Worker::connect(&clients, "w", &name).await;
            let held = worker.lease(100).await;
            let mut granted = Vec::new();
            for chunk in held.chunks(10) {
                let decisions = worker.authorize(chunk).await;
                let pairs = chunk.iter().zip(decisions);
                granted.extend(
                    pairs
                        .filter(|(_, (decision, _))| *decision == Decision::Granted)
                        .map(|(held, _)| held.phone.clone()),
                );
            }
            granted
        });
    }
    let mut dialled: BTreeMap<String, usize> = BTreeMap::new();
    for phone in tasks.join_all().await.into_iter().flatten() {
        *dialled.entry(phone).or_default() += 1;
    }
    let once: BTreeMap<String, usize> = (0..100).map(|n| (phone(n), 1)).collect();
    assert_eq!(dialled, once);
}

#[tokio::test]
async fn campaigns_share_a_worker_by_weight() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_batch_contacts = 10;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    for (first, weight) in [(0, 1), (400, 3)] {
        let name = paced(&mut clients, v1::Pacing { weight, ..Default::default() }).await;
        clients.add_contacts(&name, first..first + 400).await;
        clients.launch(&name).await;
    }
    // This worker serves every campaign.
    let hello = v1::Hello { worker_id: "w".into(), protocol_version: 1, ..Default::default() };
    let hello = v1::dispatch_request::Message::Hello(hello);
    let mut worker = Worker::open(&clients, hello).await.unwrap();
    let mut by_campaign: HashMap<String, usize> = HashMap::new();
    for held in worker.lease(400).await {
        let campaign = held.contact.split("/contacts/").next().unwrap().to_owned();
        *by_campaign.entry(campaign).or_default() += 1;
    }
    let mut counts: Vec<usize> = by_campaign.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [100, 300]);
}

#[tokio::test]
async fn a_campaign_that_dials_nobody_says_why() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = paced(&mut clients, v1::Pacing::default()).await;
    clients.add_contacts(&name, 0..2).await;
    assert_eq!(idle_reason(&mut clients, &name).await, IdleReason::NotRunning);
    clients.launch(&name).await;
    assert_eq!(idle_reason(&mut clients, &name).await, IdleReason::NoWorker);
    clients.pause(&name).await;
    assert_eq!(idle_reason(&mut clients, &name).await, IdleReason::Paused);
    clients.resume(&name).await;
    set_pacing(&mut clients, &name, v1::Pacing { max_calls_per_second: 1, ..Default::default() })
        .await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let decisions = worker.authorize(&held).await;
    assert_eq!(decisions[0].0, Decision::Granted);
    assert_eq!(decisions[1].0, Decision::Throttled);
    let attempt = &decisions[0].1;
    worker.end(&held[0], attempt, CallOutcome::Answered).await;
    worker.release(&held[1].lease, Vec::new()).await;
    let progress = clients.progress(&name).await;
    if progress.idle_reason() == IdleReason::Throttled {
        assert!(progress.idle_until.is_some(), "{progress:?}");
    }
    eventually("the pace allows a call again", || {
        let mut clients = clients.clone();
        let name = name.clone();
        async move {
            let reason = idle_reason(&mut clients, &name).await;
            (reason == IdleReason::NoWorker).then_some(())
        }
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), dial_until(clients.clone(), 1, name.clone(), 1))
        .await
        .unwrap();
}

/// Dials a number four times for one tenant, then once for another. Returns the decision of the last.
async fn dialled_by_another_first(scope: CapScope) -> Decision {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_attempts_per_number = 3;
    options.limits.attempt_cap_scope = scope;
    let guarded = Guarded::start_with(&db, options).await;
    let mut decisions = Vec::new();
    for tenant in ["acme", "acme", "acme", "acme", "other"] {
        let mut clients = guarded.clients(tenant, &["admin", "worker"]);
        let name = clients.create_campaign().await;
        clients.add_contacts(&name, 0..1).await;
        clients.launch(&name).await;
        let mut worker = Worker::connect(&clients, "w", &name).await;
        let held = worker.lease(1).await;
        decisions.push(worker.authorize(&held).await.remove(0).0);
        if decisions.last() == Some(&Decision::NotNow) {
            assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::Capped);
            let explained = clients.explain(&format!("{name}/contacts/0")).await;
            assert!(explained.message.contains("24 hours"), "{explained:?}");
        }
    }
    let (granted, not_now) = (Decision::Granted, Decision::NotNow);
    assert_eq!(decisions[..4], [granted, granted, granted, not_now], "campaigns of one tenant");
    decisions[4]
}

#[tokio::test]
async fn the_cap_on_a_number_is_each_tenants_own_unless_the_operator_says_otherwise() {
    let decision = dialled_by_another_first(CapScope::Tenant).await;
    assert_eq!(decision, Decision::Granted);
    let decision = dialled_by_another_first(CapScope::Installation).await;
    assert_eq!(decision, Decision::NotNow);
}

/// Attempts of the version before, and from before a change of the scope, count for every tenant.
#[tokio::test]
async fn attempts_from_before_the_cap_was_each_tenants_own_count_for_all() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_attempts_per_number = 3;
    let guarded = Guarded::start_with(&db, options).await;
    let mut clients = guarded.clients("acme", &["admin", "worker"]);
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let before = "INSERT INTO number_attempts (number, attempted_at)
        SELECT phone[1]::int8, ARRAY[now(), now()] FROM regexp_matches($1, '[0-9]+') AS phone";
    db.client().await.execute(before, &[&phone(0)]).await.unwrap();
    let again = "INSERT INTO number_attempts_by_tenant (number, tenant, attempted_at)
        SELECT number, 'acme', ARRAY[now()] FROM number_attempts";
    db.client().await.batch_execute(again).await.unwrap();
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let decisions: Vec<_> =
        worker.authorize(&held).await.into_iter().map(|answer| answer.0).collect();
    assert_eq!(decisions, [Decision::NotNow, Decision::Granted]);
}
