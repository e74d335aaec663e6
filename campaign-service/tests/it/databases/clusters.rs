//! Data that came from another cluster, by dump and restore or by logical replication.

use crate::support::processes::run;
use crate::support::{Held, Service, TestDb, Worker};
use campaign_proto::v1::CallOutcome;
use campaign_service::store::clusters::{self, Found};

/// Authorisations that count as committed after a pause.
const LATE: &str =
    "SELECT count(*) FROM audit_events e JOIN authorizations a USING (campaign_id, run)
    WHERE e.command = 'PAUSE' AND NOT pg_visible_in_snapshot(a.transaction_id, e.snapshot)";
/// Changes that make the data look copied, without its sequences, from a cluster that had counted further.
const COPIED: &str = "UPDATE clusters SET identity = 'another/1';
    UPDATE authorizations SET transaction_id = '9000000000';
    ALTER SEQUENCE lease_numbers RESTART; ALTER SEQUENCE call_report_numbers RESTART";

/// Calls five people of a live run. Returns the campaign and the attempts.
async fn call_five(db: &TestDb) -> (String, Vec<String>) {
    let service = Service::start(db).await;
    let mut clients = service.clients.clone();
    let name = clients.launch_endless().await;
    clients.add_contacts(&name, 0..40).await;
    let attempts = call(&service, &name).await;
    (name, attempts)
}

async fn call(service: &Service, name: &str) -> Vec<String> {
    let mut worker = Worker::connect(&service.clients, "w", name).await;
    let held: Vec<Held> = worker.lease(5).await;
    assert_eq!(held.len(), 5);
    let mut attempts = Vec::new();
    for held in &held {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, CallOutcome::Answered).await;
        attempts.push(attempt);
    }
    attempts
}

#[tokio::test]
async fn copied_data_repeats_no_number_and_accuses_no_authorisation() {
    let db = TestDb::new().await;
    let admin = db.client().await;
    clusters::adopt(&db.db()).await.unwrap();
    let (name, before) = call_five(&db).await;
    admin.batch_execute(COPIED).await.unwrap();

    // Two replicas start at once; one of them finds the work to do.
    let (one, two) = (db.db(), db.db());
    let (first, second) = tokio::join!(clusters::adopt(&one), clusters::adopt(&two));
    let mut found = [first.unwrap(), second.unwrap()];
    found.sort_by_key(|found| found.has_moved);
    assert_eq!(found[0], Found::default());
    let moved: Vec<&str> = found[1].moved_ahead.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(moved, ["lease_numbers", "call_report_numbers"]);

    let service = Service::start_on(one).await;
    let mut clients = service.clients.clone();
    let after = call(&service, &name).await;
    assert!(after.iter().all(|attempt| !before.contains(attempt)), "{before:?} {after:?}");
    clients.pause(&name).await;
    assert_eq!(admin.query_one(LATE, &[]).await.unwrap().get::<_, i64>(0), 0);
    let (is_intact, report) = run(&db.url, "verify-audit");
    assert!(is_intact, "{report}");
    // The proof still finds an authorisation that is late.
    let late = "UPDATE authorizations SET transaction_id = '9999999999' WHERE lease =
        (SELECT max(lease) FROM authorizations)";
    admin.execute(late, &[]).await.unwrap();
    assert!(admin.query_one(LATE, &[]).await.unwrap().get::<_, i64>(0) > 0);
}

/// A role that may only draw numbers from a sequence draws them until they are new.
#[tokio::test]
async fn a_role_that_may_not_set_a_sequence_moves_it_all_the_same() {
    let mut db = TestDb::new().await;
    let admin = db.client().await;
    call_five(&db).await;
    admin.batch_execute(COPIED).await.unwrap();
    let many = "UPDATE authorizations SET lease = lease + 700000";
    admin.batch_execute(many).await.unwrap();
    db.url = db.add_role().await;
    let found = clusters::adopt(&db.db()).await.unwrap();
    assert_eq!((found.moved_ahead.len(), found.stuck.len()), (2, 0));
    let next: i64 = admin.query_one("SELECT nextval('lease_numbers')", &[]).await.unwrap().get(0);
    let highest: i64 =
        admin.query_one("SELECT max(lease) FROM authorizations", &[]).await.unwrap().get(0);
    assert!(next > highest, "{next} {highest}");
    // The numbers are too far ahead to draw: the start is rejected, with what to do.
    admin.batch_execute("UPDATE authorizations SET lease = lease + 1000000000000").await.unwrap();
    admin.batch_execute("UPDATE clusters SET identity = 'a third/1'").await.unwrap();
    for _ in 0..2 {
        let (is_served, said) = run(&db.url, "serve");
        assert!(!is_served && said.contains("SELECT setval('lease_numbers', 1000000"), "{said}");
    }
}

/// A sequence that was set back is noticed in the same cluster, too.
#[tokio::test]
async fn a_sequence_that_was_set_back_is_noticed_in_the_same_cluster() {
    let db = TestDb::new().await;
    let store = db.db();
    assert_eq!(clusters::adopt(&store).await.unwrap(), Found::default());
    call_five(&db).await;
    assert_eq!(clusters::adopt(&store).await.unwrap(), Found::default());
    let back = "ALTER SEQUENCE lease_numbers RESTART";
    db.client().await.batch_execute(back).await.unwrap();
    let found = clusters::adopt(&store).await.unwrap();
    assert!(!found.has_moved && found.moved_ahead.len() == 1, "{found:?}");
}
