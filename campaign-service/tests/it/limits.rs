//! Limits of callers, and the end of requests whose caller no longer waits.

use crate::support::{Service, TestDb, eventually, gate_key, reason, test_options};
use campaign_proto::v1;
use std::time::Duration;
use tonic::{Code, Request};
use tonic_types::StatusExt;

#[tokio::test]
async fn what_a_caller_gave_up_the_database_gives_up_too() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate_key(&name)]).await.unwrap();
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
    holder.execute("SELECT pg_advisory_unlock($1)", &[&gate_key(&name)]).await.unwrap();
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Draft);
    clients.launch(&name).await;
}

#[tokio::test]
async fn what_is_too_much_is_turned_away_and_what_was_let_in_is_done() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.calls.max_requests = 2;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate_key(&name)]).await.unwrap();
    let mut launching = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (mut campaigns, name) = (clients.campaigns.clone(), name.clone());
        launching.spawn(async move {
            let request = v1::LaunchCampaignRequest {
                name,
                settings: Some(v1::LaunchSettings::default()),
                ..Default::default()
            };
            campaigns.launch_campaign(request).await
        });
    }
    // Two requests wait at the gate and have the places.
    let status = launching.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "OVERLOADED".to_owned())
    );
    assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    holder.execute("SELECT pg_advisory_unlock($1)", &[&gate_key(&name)]).await.unwrap();
    let answers = launching.join_all().await;
    let launched = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((answers.len(), launched), (2, 1), "{answers:?}");
    // The places are free again.
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Running);
}

#[tokio::test]
async fn a_rush_that_is_soon_over_is_served() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.calls.max_requests = 1;
    options.calls.place_timeout = Duration::from_secs(20);
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    clients.create_campaign().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut campaigns = clients.campaigns.clone();
        asking.spawn(async move {
            campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await.map(drop)
        });
    }
    for answer in asking.join_all().await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn a_caller_asks_as_often_as_it_may() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.calls.max_requests_per_second = std::num::NonZeroU32::new(5);
    let service = Service::start_with(&db, options).await;
    let mut campaigns = service.clients.campaigns.clone();
    let mut refused = None;
    for _ in 0..50 {
        if let Err(status) = campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("fifty requests in a row are more than five a second");
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::ResourceExhausted, "RATE_LIMITED".to_owned())
    );
    let delay = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    tokio::time::sleep(delay).await;
    campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.calls.request_timeout = Duration::from_millis(300);
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let holder = db.client().await;
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate_key(&name)]).await.unwrap();
    let request = v1::LaunchCampaignRequest {
        name,
        settings: Some(v1::LaunchSettings::default()),
        ..Default::default()
    };
    let status = clients.campaigns.launch_campaign(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

/// A rejection must not cost other callers on the same connection. That holds for many requests at once, each larger
/// than a connection accepts unread.
#[tokio::test]
async fn who_is_turned_away_often_keeps_the_connection() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.calls.max_requests = 1;
    // Requests are rejected at once, so that as many as possible are.
    options.calls.place_timeout = Duration::ZERO;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..60_000 {
        let (mut interactions, parent) = (clients.interactions.clone(), name.clone());
        asking.spawn(async move {
            let unknown =
                v1::ReportedInteraction { phone_number: "1".repeat(100), ..Default::default() };
            let request = v1::RecordInteractionsRequest { parent, interactions: vec![unknown; 1] };
            interactions.record_interactions(request).await.map(drop)
        });
    }
    let answers = asking.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!refused.is_empty(), "no request was rejected");
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(reason(status), "OVERLOADED", "{status:?}");
    }
}

/// Lets database sessions from now on only read, or read and write.
async fn only_read(admin: &tokio_postgres::Client, db: &TestDb, does: bool) {
    let name = db.url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {does}");
    admin.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_database_that_only_reads_for_now_is_away_and_then_back() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    clients.create_campaign().await;
    let admin = db.client().await;
    only_read(&admin, &db, true).await;
    let others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.query(others, &[]).await.unwrap();
    let create = v1::CreateCampaignRequest {
        campaign: Some(v1::Campaign { display_name: "Later".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    // The loop is longer than the number of cut connections, so not all answers are about those.
    for _ in 0..20 {
        let status = clients.campaigns.create_campaign(create.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.get_details_retry_info().is_some());
    }
    // No connection is cut now: the service itself closes those that can only read.
    only_read(&admin, &db, false).await;
    // This many requests in a row go through all connections.
    eventually("one campaign after another is created", || {
        let (mut campaigns, create) = (clients.campaigns.clone(), create.clone());
        async move {
            for _ in 0..20 {
                campaigns.create_campaign(create.clone()).await.ok()?;
            }
            Some(())
        }
    })
    .await;
}
