//! Erasure among many campaigns, and beside imports under way.

use super::*;
use std::time::{Duration, Instant};

/// Adds campaigns that do not have the person, deleted or not.
async fn add_campaigns(db: &TestDb, campaigns: i32) {
    let sql = "WITH new AS (INSERT INTO campaigns (campaign_id, config, created_at, updated_at, deleted_at)
            SELECT gen_random_uuid(), '{}', now(), now(), CASE WHEN n % 2 = 0 THEN now() END
            FROM generate_series(1, $1) n RETURNING campaign_id)
        INSERT INTO campaign_counters (campaign_id) SELECT campaign_id FROM new";
    db.client().await.execute(sql, &[&campaigns]).await.unwrap();
}

#[tokio::test]
async fn an_erasure_costs_the_same_however_many_campaigns_there_are() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    campaign(&mut clients).await;
    add_campaigns(&db, 60_000).await;
    let begun = Instant::now();
    let erased = erase(&mut clients).await;
    let took = begun.elapsed();
    assert_eq!((erased.contacts_erased, erased.campaigns_searched), (1, 60_001));
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

/// A real import has looked for erased people, and is about to write its contacts.
#[tokio::test]
async fn a_real_import_under_way_does_not_slip_through() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let mut blocker = db.client().await;
    let tx = blocker.transaction().await.unwrap();
    // No contact can be written until this transaction is rolled back.
    tx.batch_execute("LOCK TABLE contacts IN SHARE MODE").await.unwrap();
    let (mut importer, parent) = (clients.clone(), name.clone());
    let importing = tokio::spawn(async move { import(&mut importer, &parent, "first").await });
    let watcher = db.client().await;
    eventually("the import is about to write", || waits(&watcher, "relation")).await;
    let mut eraser = clients.clone();
    let erasing = tokio::spawn(async move { erase(&mut eraser).await });
    eventually("the erasure waits for the import", || waits(&watcher, "transactionid")).await;
    assert!(!erasing.is_finished());
    tx.rollback().await.unwrap();
    assert_eq!(importing.await.unwrap().created, 2);
    assert_eq!(erasing.await.unwrap().contacts_erased, 1);
    assert_eq!(tables_that_know(&db).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_at_the_same_time_bring_nobody_back() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..24 {
        names.push(clients.create_campaign().await);
    }
    let mut importing = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let (mut importer, parent) = (clients.clone(), name.clone());
        importing.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(u64::try_from(n).unwrap() * 5)).await;
            import(&mut importer, &parent, "first").await.created
        }));
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    let erased = erase(&mut clients).await;
    let mut created = 0;
    for import in importing {
        created += import.await.unwrap();
    }
    // Each import created another contact too.
    assert_eq!(erased.contacts_erased, created - 24);
    assert_eq!(tables_that_know(&db).await, [""; 0]);
}
