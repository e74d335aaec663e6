//! Lists of numbers over many campaigns. What a list costs follows the numbers that campaigns hold, not the campaigns.

use crate::support::{
    Clients, Held, Service, TestDb, WITH_CONTACTS, Worker, copy_campaign, eventually, hold_gate,
    once, phone, retry, until_alone, without_chores,
};
use campaign_proto::v1;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome, CampaignState, RevokeReason};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Numbers on the list of these tests.
const NUMBERS: usize = 30;

async fn suppress(clients: &mut Clients, numbers: std::ops::Range<usize>) {
    let request = v1::AddSuppressionsRequest {
        phone_numbers: numbers.map(phone).collect(),
        source: "do-not-call register".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap();
}

/// Copies a campaign with its contacts until there are `campaigns` of it.
async fn copy(db: &TestDb, name: &str, campaigns: usize) {
    let copies: Vec<Uuid> = (1..campaigns).map(|_| Uuid::new_v4()).collect();
    copy_campaign(&db.client().await, name, &copies, WITH_CONTACTS).await;
}

/// Returns the transactions of the database so far.
async fn transactions(db: &TestDb) -> i64 {
    let client = db.client().await;
    until_alone(&client).await;
    let sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Returns the transactions that a list takes if this many campaigns hold its numbers.
async fn transactions_of_a_list(campaigns: usize) -> i64 {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..NUMBERS).await;
    clients.launch(&name).await;
    drop((service, clients));
    copy(&db, &name, campaigns).await;
    let before = transactions(&db).await;
    let service = Service::start_with(&db, without_chores()).await;
    suppress(&mut service.clients.clone(), 0..NUMBERS).await;
    drop(service);
    let after = transactions(&db).await;
    let judged = "SELECT count(*) FROM campaign_revisions";
    let judged: i64 = db.client().await.query_one(judged, &[]).await.unwrap().get(0);
    assert_eq!(usize::try_from(judged).unwrap(), campaigns, "each campaign judges again");
    after - before
}

#[tokio::test]
async fn a_list_takes_few_transactions_however_many_campaigns_hold_its_numbers() {
    let (one, many) = (transactions_of_a_list(1).await, transactions_of_a_list(250).await);
    assert!(many <= one + 12, "{many} transactions for 250 campaigns, {one} for one");
}

async fn decisions(worker: &mut Worker, held: &[Held]) -> BTreeSet<i32> {
    let decisions = worker.authorize(held).await;
    decisions.into_iter().map(|(decision, _)| decision.into()).collect()
}

#[tokio::test]
async fn workers_of_every_replica_are_told_of_all_contacts_that_they_hold() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let name = clients.create_campaign().await;
        clients.add_contacts(&name, 0..60).await;
        clients.launch(&name).await;
        let mut worker = Worker::connect(&two.clients, &name, &name).await;
        let held = worker.lease(50).await;
        workers.push((worker, held));
    }
    suppress(&mut clients, 0..40).await;
    for (worker, held) in &mut workers {
        let (listed, free) = held.split_at(40);
        assert_eq!(decisions(worker, listed).await, [Decision::Excluded.into()].into());
        assert_eq!(decisions(worker, free).await, [Decision::Granted.into()].into());
        let mut told = BTreeSet::new();
        for _ in listed {
            let revoked = worker.revoked().await;
            assert_eq!(revoked.reason(), RevokeReason::Suppressed);
            told.insert(revoked.contact);
        }
        assert_eq!(told, listed.iter().map(|held| held.contact.clone()).collect());
    }
}

/// A campaign whose gate is stuck holds up the answer, and nobody else.
#[tokio::test]
async fn a_stuck_campaign_does_not_hold_up_what_others_are_told() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..3 {
        let name = clients.create_campaign().await;
        clients.add_contacts(&name, 0..5).await;
        clients.launch(&name).await;
        names.push(name);
    }
    names.sort();
    let mut worker = Worker::connect(&clients, "w", &names[2]).await;
    let held = worker.lease(5).await;
    let gate = hold_gate(&db, &names[0]).await;
    let mut caller = clients.clone();
    let listing = tokio::spawn(async move { suppress(&mut caller, 0..1).await });
    assert_eq!(worker.revoked().await.contact, held[0].contact);
    assert_eq!(decisions(&mut worker, &held[..1]).await, [Decision::Excluded.into()].into());
    assert!(!listing.is_finished(), "it was answered before the stuck campaign");
    // Nobody waits while holding the gate of another campaign.
    assert_eq!(decisions(&mut worker, &held[1..]).await, [Decision::Granted.into()].into());
    drop(gate);
    listing.await.unwrap();
}

#[tokio::test]
async fn who_waits_for_a_retry_waits_no_longer() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { no_answer: Some(retry(3, 3_600)), ..once() };
    let mut names = Vec::new();
    for _ in 0..2 {
        let name = clients.create_campaign_retrying(policy).await;
        clients.add_contacts(&name, 0..1).await;
        clients.launch(&name).await;
        let mut worker = Worker::connect(&clients, &name, &name).await;
        let held = worker.lease(1).await.remove(0);
        let attempt = worker.granted(&held).await;
        worker.end(&held, &attempt, CallOutcome::NoAnswer).await;
        names.push(name);
    }
    for name in &names {
        assert_eq!(clients.campaign(name).await.state(), CampaignState::Running);
    }
    suppress(&mut clients, 0..1).await;
    for name in &names {
        clients.wait_for(name, CampaignState::Completed).await;
    }
}

/// Returns the attempts authorised in each run, the newest first.
async fn attempts_of_runs(clients: &mut Clients, name: &str) -> Vec<i64> {
    let request = v1::ListRunsRequest { parent: name.to_owned(), ..Default::default() };
    let runs = clients.campaigns.list_runs(request).await.unwrap().into_inner().runs;
    runs.iter().map(|run| run.authorized_attempts).collect()
}

/// A list of runs reads counts, not the authorisations. The counts are right at every moment.
#[tokio::test]
async fn attempts_of_runs_are_counted_once() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..60).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(60).await;
    for (n, held) in held.chunks(7).enumerate() {
        worker.authorize(held).await;
        let authorized = i64::try_from(60.min(n * 7 + 7)).unwrap();
        assert_eq!(attempts_of_runs(&mut clients, &name).await, [authorized]);
    }
    worker.close().await;
    let client = db.client().await;
    let left = "SELECT count(*) FROM run_attempts";
    eventually("the counts are folded", || async {
        (client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    assert_eq!(attempts_of_runs(&mut clients, &name).await, [60]);
    // An authorisation of the version before is missing until the run is over.
    let before =
        "INSERT INTO authorizations (campaign_id, lease, run, authorized_at, slots, positions)
        SELECT campaign_id, lease, run, now(), '{1,2}', '{1,2}' FROM authorizations LIMIT 1";
    client.batch_execute(before).await.unwrap();
    clients.cancel(&name).await;
    client
        .batch_execute("UPDATE runs SET ended_at = ended_at - interval '2 minutes'")
        .await
        .unwrap();
    clients.launch(&name).await;
    eventually("the run is counted for good", || {
        let (mut clients, name) = (clients.clone(), name.clone());
        async move { (attempts_of_runs(&mut clients, &name).await == [0, 62]).then_some(()) }
    })
    .await;
    // A run from before counts were kept.
    let unknown = "UPDATE runs SET authorized_attempts = NULL, is_attempt_count_final = false";
    client.batch_execute(unknown).await.unwrap();
    assert_eq!(attempts_of_runs(&mut clients, &name).await, [0, 62]);
    // From now on, nothing of the authorisations is read.
    let known = "SELECT count(*) FROM runs WHERE authorized_attempts IS NULL OR run = 1 AND NOT is_attempt_count_final";
    eventually("all runs are counted", || async {
        (client.query_one(known, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
    client.batch_execute(before).await.unwrap();
    assert_eq!(attempts_of_runs(&mut clients, &name).await, [0, 62]);
}
