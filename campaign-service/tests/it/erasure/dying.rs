//! The service dies in the middle of an erasure.

use super::*;
use crate::support::gate_key;

/// Kills the service while it waits for `block` in the last campaign. Nobody is called, and another replica finishes.
async fn dies_half_way(block: &str, is_begun: &str, are_workers_told: bool) {
    let db = TestDb::new().await;
    let folder = Folder::new();
    folder.write("erasure.key", std::str::from_utf8(KEY).unwrap());
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let mut names = vec![campaign(&mut clients).await, campaign(&mut clients).await];
    names.sort();
    for name in &names {
        clients.launch(name).await;
    }
    let last = names[1].as_str();
    let mut worker = Worker::connect(&clients, "w", last).await;
    let contact = lease(&mut worker).await;

    let (mut dying, mut doomed) = replica(&db, &folder).await;
    let id = id_of(last);
    let mut blocker = db.client().await;
    let tx = blocker.transaction().await.unwrap();
    let block = block.replace("GATE", &gate_key(last).to_string()).replace("ID", &id.to_string());
    tx.batch_execute(&block).await.unwrap();
    let erasing = tokio::spawn(async move { try_to_erase(&mut doomed).await });
    let client = db.client().await;
    eventually("it is half way", || async {
        let is_waiting = somebody_waits(&client).await;
        (is_waiting && count(&client, is_begun).await > 0).then_some(())
    })
    .await;
    dying.kill();
    erasing.await.unwrap().unwrap_err();
    tx.rollback().await.unwrap();

    let status = lift(&mut clients).await.unwrap_err();
    assert_eq!(reason(&status), "ERASURE_UNDER_WAY", "or somebody would be called");
    if are_workers_told {
        let (decision, _) = worker.authorize(std::slice::from_ref(&contact)).await.remove(0);
        assert_eq!(decision, AuthorizeDecision::Excluded);
    }
    worker.release(&contact.lease, Vec::new()).await;
    let left = worker.lease(3).await;
    assert_eq!((left.len(), left.iter().find(is_person).is_some()), (2, false));
    assert_eq!(create(&mut clients, &names[0]).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(count(&client, "erasures WHERE phone IS NOT NULL").await, 1);

    let (_heir, _) = replica(&db, &folder).await;
    let age = "UPDATE erasures SET erased_at = erased_at - interval '2 minutes'";
    client.batch_execute(age).await.unwrap();
    eventually("a chore finishes it", || async {
        (count(&client, "erasures WHERE phone IS NULL").await == 1).then_some(())
    })
    .await;
    assert_eq!(tables_that_know(&db).await, [""; 0]);
    assert_eq!(count(&client, "audit_events WHERE command = 'ERASE'").await, 2, "once in each");
    assert!(is_audit_intact(&db));
    for name in &names {
        assert_eq!(clients.progress(name).await.total, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_before_workers_know_leaves_the_number_suppressed() {
    dies_half_way("SELECT pg_advisory_xact_lock(GATE)", "suppressions", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_between_two_campaigns_leaves_the_rest_to_others() {
    let block = "SELECT FROM campaign_counters WHERE campaign_id = 'ID' FOR UPDATE";
    dies_half_way(block, "contacts WHERE phone LIKE 'erased:%'", true).await;
}

#[tokio::test]
async fn an_erasure_that_cannot_be_finished_keeps_back_no_other() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let left = "INSERT INTO erasures (tenant, hash, erased_at, actor, reason, phone)
        SELECT '', decode(repeat('0' || n, 32), 'hex'), now() - interval '2 minutes' * (3 - n), 'ann', 'asked', '+4930' || n
        FROM generate_series(1, 2) n;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'cannot be written'; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON erasures FOR EACH ROW WHEN (OLD.phone = '+49301') EXECUTE FUNCTION fail();";
    client.batch_execute(left).await.unwrap();
    let _service = Service::start_with(&db, with_key()).await;
    eventually("the younger one is finished", || async {
        (count(&client, "erasures WHERE phone IS NULL").await == 1).then_some(())
    })
    .await;
    assert_eq!(count(&client, "erasures WHERE phone = '+49301'").await, 1);
}
