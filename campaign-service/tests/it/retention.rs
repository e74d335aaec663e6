//! Retention: history is kept no longer than configured.

use crate::support::{Service, TestDb, Worker, eventually, test_options};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, ExclusionReason};
use chrono::TimeDelta;

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
