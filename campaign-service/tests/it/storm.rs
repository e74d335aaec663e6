//! Everything at once over two replicas and real workers: imports, leases, opt-outs, suppressions, pauses,
//! killed and frozen workers, expired leases. The provider's own log and the database are the judges, not the
//! service's counts.

use crate::counts::{counting, difference};
use crate::support::processes::{dials, serve, work};
use crate::support::{Clients, TestDb, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_testkit::{Program, free_port};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const CONTACTS: usize = 1_600;
/// Contacts in each of the imports that run side by side.
const IMPORT_CONTACTS: usize = 200;
const LEASE_TTL_SECONDS: u32 = 1;
/// Longest wait until all contacts are done.
const STORM_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn promises_hold_while_everything_happens_at_once() {
    let db = TestDb::new().await;
    let ports = [free_port(), free_port()];
    let _replicas = ports.map(|port| serve(&db.url, port, LEASE_TTL_SECONDS));
    let mut clients = Vec::new();
    for port in ports {
        clients.push(Clients::connect(&format!("http://127.0.0.1:{port}")).await);
    }
    let name = clients[0].launch_endless().await;
    let log = std::env::temp_dir().join(format!("campaign-storm-{}", uuid::Uuid::new_v4()));
    let workers = ["a", "b", "c"].map(|id| work(id, &ports, &log, "0.002"));

    let mut tasks = tokio::task::JoinSet::new();
    for first in (0..CONTACTS).step_by(IMPORT_CONTACTS) {
        let (mut clients, name) = (clients[first / IMPORT_CONTACTS % 2].clone(), name.clone());
        tasks.spawn(async move {
            clients.add_contacts(&name, first..first + IMPORT_CONTACTS).await;
        });
    }
    tasks.spawn(opt_out(clients[0].clone(), name.clone()));
    tasks.spawn(suppress(clients[1].clone()));
    tasks.spawn(pause_and_resume(clients[1].clone(), name.clone()));
    tasks.spawn(trouble(workers, ports.to_vec(), log.clone()));
    tasks.join_all().await;

    let progress = until_done(&mut clients[0], &name).await;
    let removed: i64 = progress.removed.iter().map(|removed| removed.contacts).sum();
    assert_eq!((progress.total, removed), (1_600, 1_600), "P1: {progress:?}");
    clients[0].pause(&name).await;
    judge(&db, &log, &progress).await;
    assert_eq!(difference(&counting(&db), &name).await, None, "kept counts");
    std::fs::remove_file(log).unwrap();
}

/// Opts out every seventh contact, wherever it waits. The opt-out is by number, since the contact may not be imported
/// yet.
async fn opt_out(mut clients: Clients, name: String) {
    for n in (0..CONTACTS).step_by(7) {
        let interaction = v1::Interaction {
            interaction_id: format!("stop-{n}"),
            fact: Some(Fact::OptedOut(v1::OptedOut {
                channel: "web".to_owned(),
                everywhere: false,
            })),
            ..Default::default()
        };
        let reported =
            v1::ReportedInteraction { interaction: Some(interaction), phone_number: phone(n) };
        let request =
            v1::RecordInteractionsRequest { parent: name.clone(), interactions: vec![reported] };
        clients.interactions.record_interactions(request).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
}

async fn suppress(mut clients: Clients) {
    for n in (3..CONTACTS).step_by(31) {
        let request = v1::AddSuppressionsRequest {
            phone_numbers: vec![phone(n)],
            source: "storm".to_owned(),
            ..Default::default()
        };
        clients.contacts.add_suppressions(request).await.unwrap();
        sleep(Duration::from_millis(60)).await;
    }
}

async fn pause_and_resume(mut clients: Clients, name: String) {
    for _ in 0..20 {
        sleep(Duration::from_millis(150)).await;
        clients.pause(&name).await;
        sleep(Duration::from_millis(50)).await;
        clients.resume(&name).await;
    }
}

/// Freezes one worker for longer than its leases last, and then continues it. Kills another worker and starts a new
/// one in its place. Returns when all have worked undisturbed for a while.
async fn trouble(workers: [Program; 3], ports: Vec<u16>, log: std::path::PathBuf) -> () {
    let [mut frozen, mut killed, _steady] = workers;
    sleep(Duration::from_millis(700)).await;
    frozen.signal("STOP").unwrap();
    killed.kill();
    sleep(Duration::from_secs(u64::from(2 * LEASE_TTL_SECONDS) + 1)).await;
    frozen.signal("CONT").unwrap();
    let _instead = work("d", &ports, &log, "0.002");
    let deadline = Instant::now() + STORM_LIMIT;
    let mut before = 0;
    // The workers are needed as long as there is something to dial.
    loop {
        sleep(Duration::from_secs(3)).await;
        let now = dials(&log).len();
        if now == before || Instant::now() > deadline {
            return;
        }
        before = now;
    }
}

async fn until_done(clients: &mut Clients, name: &str) -> v1::CampaignProgress {
    let deadline = Instant::now() + STORM_LIMIT;
    loop {
        let progress = clients.progress(name).await;
        let open = progress.waiting + progress.waiting_retry + progress.leased + progress.in_call;
        if open == 0 && progress.total == i64::try_from(CONTACTS).unwrap() {
            return progress;
        }
        assert!(Instant::now() < deadline, "not done: {progress:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Counts attempts whose first end is CONGESTED: byte 2 of the 32 bytes of a call.
const GIVEN_BACK: &str = "SELECT count(*) FILTER (WHERE outcome = 8) FROM (
    SELECT DISTINCT ON (lease, slot) outcome FROM (
        SELECT lease, report, get_byte(calls, 32 * n) + 256 * get_byte(calls, 32 * n + 1) AS slot,
            get_byte(calls, 32 * n + 2) AS outcome
        FROM call_reports, generate_series(0, octet_length(calls) / 32 - 1) AS n) call
    ORDER BY lease, slot, report) first";

async fn judge(db: &TestDb, log: &Path, progress: &v1::CampaignProgress) {
    let client = db.client().await;
    let count = async |sql: &str| -> i64 { client.query_one(sql, &[]).await.unwrap().get(0) };

    // P2 and P6: the provider dialled each attempt once, each contact once, and only granted attempts.
    let dials = dials(log);
    let mut by_contact: BTreeMap<&str, usize> = BTreeMap::new();
    for dial in &dials {
        *by_contact.entry(&dial.contact).or_default() += 1;
    }
    let twice: Vec<_> = by_contact.iter().filter(|(_, dials)| **dials > 1).collect();
    assert!(twice.is_empty(), "P2: dialled twice: {twice:?}");
    let sql =
        "SELECT run || '-' || lease || '-' || slot FROM authorizations, unnest(slots) AS slot";
    let granted: BTreeSet<String> =
        client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let not_granted: Vec<_> =
        dials.iter().filter(|dial| !granted.contains(&dial.attempt_id)).collect();
    assert!(not_granted.is_empty(), "P6: dialled without a grant: {not_granted:?}");
    assert!(dials.len() > CONTACTS / 2, "most were dialled: {}", dials.len());

    // P3: nothing was authorised between the commit of a pause and that of its resume.
    let between = "SELECT count(*) FROM audit_events p
        JOIN audit_events r ON r.command = 'RESUME' AND r.event_number = p.event_number + 1
        JOIN authorizations a ON NOT pg_visible_in_snapshot(a.transaction_id, p.snapshot)
            AND pg_visible_in_snapshot(a.transaction_id, r.snapshot)
        WHERE p.command = 'PAUSE'";
    assert_eq!(count(between).await, 0, "P3: authorised while paused");

    // P4: no contact was authorised after an opt-out or a suppression.
    let refused = "SELECT count(*) FROM interactions i JOIN authorizations a
        ON i.position = ANY(a.positions) AND a.authorized_at > i.recorded_at WHERE i.kind = 2";
    assert_eq!(count(refused).await, 0, "P4: authorised after an opt-out");

    // P5: every authorised attempt ended once in history: by its report, as unknown, or given back.
    let attempts = count("SELECT sum(cardinality(slots))::int8 FROM authorizations").await;
    let history = progress.history.as_ref().unwrap();
    let given_back = count(GIVEN_BACK).await;
    assert!(given_back > 0, "the trunk was congested at times");
    let counted = attempts - given_back;
    assert_eq!(history.attempts, counted, "P5: attempts in history and authorised");
    let opted_out = count("SELECT count(DISTINCT position) FROM interactions WHERE kind = 2").await;
    assert_eq!(history.refused, opted_out, "P5: refusals in history and reported");
    assert!(opted_out > 0 && granted.len() < CONTACTS, "some opted out before their turn");
}
