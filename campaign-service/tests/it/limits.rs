//! What a caller may ask of the service, and what becomes of what it no longer waits for.

use crate::support::{Service, TestDb, eventually};
use campaign_proto::v1;
use std::time::Duration;
use tonic::{Code, Request};

/// The number of a campaign's gate, as in `store`.
fn gate(campaign: &str) -> i64 {
    let id: uuid::Uuid = campaign.trim_start_matches("campaigns/").parse().unwrap();
    id.as_u64_pair().1.cast_signed()
}

#[tokio::test]
async fn what_a_caller_gave_up_the_database_gives_up_too() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate(&name)]).await.unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut launch = Request::new(v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(v1::LaunchSettings::default()),
        ..Default::default()
    });
    launch.set_timeout(Duration::from_secs(2));
    let mut campaigns = clients.campaigns.clone();
    let launching = tokio::spawn(async move { campaigns.launch_campaign(launch).await });
    let count = |wanted: i64| {
        let holder = &holder;
        move || async move {
            let count: i64 = holder.query_one(waiting, &[]).await.unwrap().get(0);
            (count == wanted).then_some(())
        }
    };
    eventually("the launch waits at the gate", count(1)).await;
    let status = launching.await.unwrap().unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    // The gate is still held, and the statement's own limit is 20 seconds.
    let given_up = eventually("the database gave up", count(0));
    tokio::time::timeout(Duration::from_secs(8), given_up).await.unwrap();
    holder.execute("SELECT pg_advisory_unlock($1)", &[&gate(&name)]).await.unwrap();
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Draft);
    clients.launch(&name).await;
}
