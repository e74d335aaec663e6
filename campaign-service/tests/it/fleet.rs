//! P10: when a campaign starts, ends, dispatches or stops does not depend on how many others there are, nor on one
//! that is stuck.

use crate::support::processes::serve;
use crate::support::{
    Clients, Service, TestDb, WITHOUT_CONTACTS, Worker, always, copy_campaign, eventually,
    hold_gate, id_of, once, phone, test_options, until_alone, waits, without_chores,
};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{AuthorizeDecision as Decision, CampaignState as State, RevokeReason};
use campaign_service::store::{Gate, states};
use campaign_testkit::free_port;
use std::future::pending;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tonic::Code;
use uuid::Uuid;

/// Number of other campaigns: more than any statement reads at once.
const OTHERS: i64 = 2_500;

/// Returns ids of so many campaigns, which come before the ids of all others.
fn early_ids(count: i64) -> Vec<Uuid> {
    (1..=count).map(|n| format!("00000000-0000-4000-8000-{n:012}").parse().unwrap()).collect()
}

/// Returns a campaign with a start in the future, launched.
async fn schedule(clients: &mut Clients, start: SystemTime) -> String {
    let schedule = v1::Schedule { start_time: Some(start.into()), ..always() };
    let name = clients
        .create_campaign_with(v1::Campaign {
            display_name: "Later".to_owned(),
            description: "For tests".to_owned(),
            schedule: Some(schedule),
            retry_policy: Some(once()),
            ..v1::Campaign::default()
        })
        .await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    assert_eq!(clients.launch_with(&name, settings).await.state(), State::Scheduled);
    name
}

/// A worker of every campaign.
async fn worker(clients: &Clients, id: &str) -> Worker {
    let hello = v1::Hello { worker_id: id.to_owned(), protocol_version: 1, ..Default::default() };
    Worker::open(clients, Request::Hello(hello)).await.unwrap()
}

async fn agenda(client: &Client, name: &str) -> Option<(Option<SystemTime>, Option<SystemTime>)> {
    let sql = "SELECT clock_at, work_at FROM agenda WHERE campaign_id = $1";
    let row = client.query_opt(sql, &[&id_of(name)]).await.unwrap();
    row.map(|row| (row.get(0), row.get(1)))
}

/// Waits until a campaign sleeps: nobody looks for contacts of it.
async fn asleep(client: &Client, name: &str) {
    eventually("the campaign sleeps", || async {
        (agenda(client, name).await?.1.is_none()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_newest_of_thousands_of_campaigns_is_started_dialled_and_ended_in_time() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let (mut clients, client) = (service.clients.clone(), db.client().await);
    let quiet = clients.launch_endless().await;
    let mut idle = worker(&clients, "idle").await;
    assert!(idle.lease(10).await.is_empty());
    asleep(&client, &quiet).await;
    copy_campaign(&client, &quiet, &early_ids(OTHERS), WITHOUT_CONTACTS).await;

    let newest = clients.launch_endless().await;
    clients.add_contacts(&newest, 0..2).await;
    let held = idle.batch().await;
    assert!(held.iter().all(|held| held.contact.starts_with(&newest)), "{held:?}");

    let start = SystemTime::now() + Duration::from_secs(2);
    let later = schedule(&mut clients, start).await;
    clients.wait_for(&later, State::Running).await;
    let late = SystemTime::now().duration_since(start).expect("not before its start");
    assert!(late < Duration::from_secs(3), "{late:?}");

    let finite = clients.create_campaign_retrying(once()).await;
    clients.launch(&finite).await;
    clients.wait_for(&finite, State::Completed).await;
}

#[tokio::test]
async fn campaigns_that_sleep_cost_no_statements() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let (mut clients, client) = (service.clients.clone(), db.client().await);
    let quiet = clients.launch_endless().await;
    let mut workers = Vec::new();
    for n in 0..4 {
        let mut worker = worker(&clients, &format!("idle-{n}")).await;
        assert!(worker.lease(10).await.is_empty());
        workers.push(worker);
    }
    asleep(&client, &quiet).await;
    let reads = || async {
        let sql = "SELECT sum(coalesce(idx_scan, 0))::int8 FROM pg_stat_user_tables
            WHERE relname IN ('contact_groups', 'due_contacts', 'frontiers', 'leases')";
        client.execute("SELECT pg_stat_clear_snapshot()", &[]).await.unwrap();
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let during = || async {
        let before = reads().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        reads().await - before
    };
    let alone = during().await;
    copy_campaign(&client, &quiet, &early_ids(OTHERS), WITHOUT_CONTACTS).await;
    let among = during().await;
    // Each round of the chores checks ten entries of the agenda.
    assert!(among < alone + 60 * 10 * 5, "{alone} → {among} index scans in 3 seconds");
}

/// A stream that waits for a lease still hears at once that another campaign is paused.
#[tokio::test]
async fn a_stop_arrives_while_a_lease_is_held_back() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let (stopped, stuck) = (clients.launch_endless().await, clients.launch_endless().await);
    clients.add_contacts(&stopped, 0..1).await;
    let mut worker = worker(&clients, "one").await;
    let held = worker.lease(1).await;
    assert_eq!(held.len(), 1);

    let gate = hold_gate(&db, &stuck).await;
    clients.add_contacts(&stuck, 10..20).await;
    worker.send(Request::Credit(v1::Credit { contacts: 10 })).await;
    eventually("the lease waits at the gate", || waits(&gate, "advisory")).await;
    clients.pause(&stopped).await;
    let asked_at = Instant::now();
    let revoke = worker
        .wait(|message| match message {
            Response::Revoke(revoke) => Some(revoke.clone()),
            _ => None,
        })
        .await;
    assert_eq!(revoke.campaign, stopped);
    assert_eq!(revoke.reason(), RevokeReason::Paused);
    assert!(asked_at.elapsed() < Duration::from_secs(2), "{:?}", asked_at.elapsed());
    // The worker's requests are answered too.
    let decisions = worker.authorize(&held).await;
    assert_eq!(decisions[0].0, Decision::NotRunning);
    drop(gate);
    assert_eq!(worker.batch().await.len(), 10);
}

/// A replica that hangs inside a gate loses it, and a pause on another replica is answered.
#[tokio::test]
async fn a_replica_that_hangs_in_a_gate_does_not_hold_up_a_pause() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    // A replica's own transaction, whose client then says nothing any more.
    let hanging = db.db();
    let mut connection = hanging.connect().await.unwrap();
    let tx = connection.begin(Gate::Shared(id_of(&name))).await.unwrap();
    let asked_at = Instant::now();
    clients.pause(&name).await;
    assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
    assert!(tx.commit().await.is_err(), "the transaction still holds the gate");
}

/// Transactions of a replica that hangs wait for each other. They do not hang one after the other.
#[tokio::test]
async fn transactions_that_hang_behind_each_other_do_not_hold_up_a_pause() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    let (id, hanging) = (id_of(&name), db.db());
    let mut hung = JoinSet::new();
    for _ in 0..3 {
        let mut connection = hanging.connect().await.unwrap();
        hung.spawn(async move {
            let tx = connection.begin(Gate::Shared(id)).await.unwrap();
            let locked = states::lock(&tx, id, [0]).await;
            // Says nothing more, as long as the test runs.
            pending::<()>().await;
            drop(locked);
        });
    }
    let client = db.client().await;
    eventually("all but one wait", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        (waiting == 2).then_some(())
    })
    .await;
    let asked_at = Instant::now();
    clients.pause(&name).await;
    assert!(asked_at.elapsed() < Duration::from_secs(6), "{:?}", asked_at.elapsed());
}

#[tokio::test]
async fn a_stuck_campaign_does_not_hold_up_the_start_of_another() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let start = SystemTime::now() + Duration::from_secs(2);
    let (stuck, other) = (schedule(&mut clients, start).await, schedule(&mut clients, start).await);
    let _gate = hold_gate(&db, &stuck).await;
    clients.wait_for(&other, State::Running).await;
    let late = SystemTime::now().duration_since(start).expect("not before its start");
    assert!(late < Duration::from_secs(3), "{late:?}");
    assert_eq!(clients.campaign(&stuck).await.state(), State::Scheduled);
}

/// CreateContact waits for an import outside the gate, so that calls go on.
#[tokio::test]
async fn a_new_contact_that_waits_for_an_import_does_not_hold_up_calls() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    clients.add_contacts(&name, 0..2).await;
    let mut worker = Worker::connect(&clients, "one", &name).await;
    let held = worker.lease(2).await;
    let mut import = db.client().await;
    let positions = import.transaction().await.unwrap();
    let lock = "SELECT FROM campaign_counters WHERE campaign_id = $1 FOR UPDATE";
    positions.execute(lock, &[&id_of(&name)]).await.unwrap();
    let (mut creator, parent) = (clients.clone(), name.clone());
    let creating = tokio::spawn(async move {
        let contact = v1::Contact { phone_number: phone(5), ..Default::default() };
        let request =
            v1::CreateContactRequest { parent, contact: Some(contact), ..Default::default() };
        creator.contacts.create_contact(request).await
    });
    eventually("the new contact waits", || waits(&positions, "transactionid")).await;
    let decisions = worker.authorize(&held).await;
    assert!(decisions.iter().all(|(decision, _)| *decision == Decision::Granted));
    assert!(!creating.is_finished());
    positions.rollback().await.unwrap();
    creating.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_entry_of_the_agenda_that_is_lost_or_late_is_mended() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let (mut clients, client) = (service.clients.clone(), db.client().await);
    let name = clients.launch_endless().await;
    let mut worker = worker(&clients, "one").await;
    assert!(worker.lease(10).await.is_empty());
    asleep(&client, &name).await;
    // A version that knows no agenda adds contacts.
    client.execute("ALTER TABLE agenda RENAME TO hidden", &[]).await.unwrap();
    client
        .batch_execute("CREATE TABLE agenda (LIKE hidden INCLUDING ALL); INSERT INTO agenda SELECT * FROM hidden")
        .await
        .unwrap();
    clients.add_contacts(&name, 0..3).await;
    client.batch_execute("DROP TABLE agenda; ALTER TABLE hidden RENAME TO agenda").await.unwrap();
    let mut dialled = worker.batch().await.len();
    while dialled < 3 {
        dialled += worker.batch().await.len();
    }
    asleep(&client, &name).await;
    client.execute("DELETE FROM agenda WHERE campaign_id = $1", &[&id_of(&name)]).await.unwrap();
    clients.add_contacts(&name, 3..5).await;
    worker.batch().await;
}

/// A replica that freezes in a transaction without a gate holds locks of rows too.
#[tokio::test]
async fn a_replica_frozen_while_it_puts_off_a_look_delays_no_pause() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    let client = db.client().await;
    let due = "UPDATE agenda SET clock_at = now() WHERE campaign_id = $1";
    assert_eq!(client.execute(due, &[&id_of(&name)]).await.unwrap(), 1);
    // The next look lingers in the statement before its commit.
    let linger = "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(1); RETURN NEW; END';
        CREATE TRIGGER linger BEFORE UPDATE OF clock_at ON agenda FOR EACH ROW EXECUTE FUNCTION linger()";
    client.batch_execute(linger).await.unwrap();
    let mut other = serve(&db.url, free_port(), 30);
    let is_in = |state: &'static str| {
        let client = &client;
        move || async move {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND query LIKE 'UPDATE agenda SET clock_at%' AND state = $1";
            let there: i64 = client.query_one(sql, &[&state]).await.unwrap().get(0);
            (there > 0).then_some(())
        }
    };
    eventually("the other replica looks", is_in("active")).await;
    other.signal("STOP").unwrap();
    eventually("it is frozen before its commit", is_in("idle in transaction")).await;
    let asked = Instant::now();
    clients.pause(&name).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

/// A lease of an open zone does not read the retries that are due in shut zones.
#[tokio::test]
async fn retries_of_shut_zones_cost_an_open_zone_nothing() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let client = db.client().await;
    let name = service.clients.clone().launch_endless().await;
    drop(service);
    // A look for contacts during the insertion would read its rows, too.
    until_alone(&client).await;
    let shut = "INSERT INTO contact_groups (campaign_id, group_id, time_zone, priority)
        VALUES ($1, 99, 'Nowhere/Unknown', 5)";
    client.execute(shut, &[&id_of(&name)]).await.unwrap();
    let due = "INSERT INTO due_contacts (campaign_id, position, run, group_id, due_at)
        SELECT $1, n, 1, 99, now() - interval '1 hour' FROM generate_series(1000, 30000) n";
    client.execute(due, &[&id_of(&name)]).await.unwrap();
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let mut worker = Worker::connect(&clients, "one", &name).await;
    for n in 0..20 {
        clients.add_contacts(&name, n..n + 1).await;
        assert_eq!(worker.lease(1).await.len(), 1);
    }
    drop((service, clients, worker));
    until_alone(&client).await;
    let sql =
        "SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE relname = 'due_contacts'";
    let read: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(read < 2_000, "{read} rows of the due list read for 20 leases");
}

/// Streams end in order after some time, so that workers spread over the replicas that came later.
#[tokio::test]
async fn a_stream_that_is_old_is_asked_to_open_anew() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.stream_max_age = Some(Duration::from_secs(1));
    options.limits.drain_grace = Duration::from_secs(1);
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    clients.add_contacts(&name, 0..2).await;
    let mut first = worker(&clients, "one").await;
    let held = first.lease(1).await;
    let drained = |message: &Response| matches!(message, Response::Drain(_)).then_some(());
    first.wait(drained).await;
    // A worker that was asked to leave gets no more contacts, and keeps its lease.
    first.send(Request::Credit(v1::Credit { contacts: 1 })).await;
    let ended = loop {
        match first.next().await {
            Ok(message) => assert!(!matches!(message, Response::Batch(_))),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    let lease = held[0].lease.clone();
    let mut second = Worker::reconnect(&clients, "one", &name, vec![lease]).await;
    assert!(!second.welcome.leases[0].lost);
    assert_eq!(second.authorize(&held).await[0].0, Decision::Granted);
}
