//! Retention: history is kept no longer than configured.

use crate::support::{Service, TestDb, Worker, eventually, id_of, test_options};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, ExclusionReason};
use chrono::TimeDelta;
use uuid::Uuid;

/// Number of calls, more than one round looks at.
const CALLS: usize = 130;

#[tokio::test]
async fn old_interactions_go_and_what_follows_from_them_stays() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..CALLS).await;
    clients.launch(&name).await;
    let refused = format!("{name}/contacts/0");
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let mut left = CALLS;
    while left > 0 {
        for held in worker.lease(100).await {
            let attempt = worker.granted(&held).await;
            worker.end(&held, &attempt, CallOutcome::Answered).await;
            left -= 1;
        }
    }
    clients.record(&refused, "old", Fact::OptedOut(v1::OptedOut::default())).await;
    let age = "UPDATE interactions SET recorded_at = now() - interval '31 days';
        UPDATE call_reports SET recorded_at = now() - interval '31 days' WHERE lease > 0";
    let client = db.client().await;
    client.batch_execute(age).await.unwrap();
    clients.record(&refused, "new", Fact::Success(v1::Success {})).await;
    assert_eq!(clients.history(&refused).await.interactions.len(), 3);

    let mut options = test_options();
    options.chores.history_retention = Some(TimeDelta::days(30));
    let keeper = Service::start_with(&db, options).await;
    eventually("old history goes", || async {
        let sql = "SELECT (SELECT count(*) FROM interactions)::int8,
            (SELECT count(*) FROM call_reports)::int8";
        let row = client.query_one(sql, &[]).await.unwrap();
        ((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (1, 0)).then_some(())
    })
    .await;
    let history = keeper.clients.clone().history(&refused).await;
    let ids: Vec<&str> =
        history.interactions.iter().map(|fact| fact.interaction_id.as_str()).collect();
    assert_eq!(ids, ["new"]);
    assert!(history.refused, "{history:?}");
    assert_eq!(clients.explain(&refused).await.reason(), ExclusionReason::Refused);
}

/// Returns the tables that have rows of a campaign, in order.
async fn tables_of(db: &TestDb, id: Uuid) -> Vec<String> {
    let client = db.client().await;
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
            AND NOT c.relispartition AND a.attname = 'campaign_id' AND NOT a.attisdropped ORDER BY 1";
    let mut found = Vec::new();
    for row in client.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let sql = format!("SELECT count(*) FROM {table} WHERE campaign_id = $1");
        if client.query_one(&sql, &[&id]).await.unwrap().get::<_, i64>(0) > 0 {
            found.push(table);
        }
    }
    found
}

/// Everything of a deleted campaign goes, however much there is. Except: its audit log and the first answers of
/// requests.
#[tokio::test]
async fn a_deleted_campaign_leaves_its_audit_log_and_nothing_else() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.chores.deleted_retention = TimeDelta::zero();
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let (gone, kept) = (clients.create_campaign().await, clients.create_campaign().await);
    for name in [&gone, &kept] {
        clients.add_contacts(name, 0..100).await;
        clients.launch(name).await;
        let mut worker = Worker::connect(&clients, "w", name).await;
        let held = worker.lease(20).await;
        let attempt = worker.granted(&held[0]).await;
        worker.tell(&held[0], &attempt, "t", Fact::TextSent(v1::TextSent {})).await;
        worker.end(&held[0], &attempt, CallOutcome::NoAnswer).await;
        worker.release(&held[0].lease, Vec::new()).await;
        worker.close().await;
    }
    let before = tables_of(&db, id_of(&gone)).await;
    for table in ["authorizations", "call_reports", "contacts", "interactions", "state_blocks"] {
        assert!(before.contains(&table.to_owned()), "{table}: {before:?}");
    }
    clients.cancel(&gone).await;
    let request = v1::DeleteCampaignRequest {
        name: gone.clone(),
        request_id: "delete".to_owned(),
        ..Default::default()
    };
    clients.campaigns.delete_campaign(request).await.unwrap();
    eventually("it is gone", || async {
        let left = tables_of(&db, id_of(&gone)).await;
        (left == ["audit_events", "audit_heads", "requests"]).then_some(())
    })
    .await;
    assert_eq!(clients.progress(&kept).await.total, 100);
    let still = tables_of(&db, id_of(&kept)).await;
    assert!(still.contains(&"contacts".to_owned()), "{still:?}");
}

#[tokio::test]
async fn a_deleted_campaign_is_kept_for_its_time() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let (young, old) = (clients.create_campaign().await, clients.create_campaign().await);
    for name in [&young, &old] {
        let request = v1::DeleteCampaignRequest { name: name.clone(), ..Default::default() };
        clients.campaigns.delete_campaign(request).await.unwrap();
    }
    let age =
        "UPDATE campaigns SET deleted_at = deleted_at - interval '31 days' WHERE campaign_id = $1";
    db.client().await.execute(age, &[&id_of(&old)]).await.unwrap();
    eventually("the old one is gone", || async {
        (!tables_of(&db, id_of(&old)).await.contains(&"campaigns".to_owned())).then_some(())
    })
    .await;
    assert!(tables_of(&db, id_of(&young)).await.contains(&"campaigns".to_owned()));
}
