//! Commands over the API: guards, idempotency, audit, and changes by the clock.

use crate::support::{Service, TestDb, always, bad_fields, reason};
use campaign_proto::v1;
use campaign_proto::v1::CampaignState as State;
use std::time::{Duration, SystemTime};
use tonic::Code;

fn named(name: &str) -> v1::PauseCampaignRequest {
    v1::PauseCampaignRequest { name: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_campaign_goes_through_its_life_and_every_step_is_audited() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..3).await;

    assert_eq!(clients.campaign(&name).await.state(), State::Draft);
    let launched = clients.launch(&name).await;
    assert_eq!((launched.state(), launched.run), (State::Running, 1));
    let mut pause = named(&name);
    pause.actor = "ann".to_owned();
    pause.reason = "lunch".to_owned();
    let paused = clients.campaigns.pause_campaign(pause).await.unwrap().into_inner();
    assert_eq!(paused.state(), State::Paused);
    clients.resume(&name).await;
    clients.cancel(&name).await;
    let relaunched = clients.launch(&name).await;
    assert_eq!((relaunched.state(), relaunched.run), (State::Running, 2));

    let request = v1::ListAuditEventsRequest { parent: name.clone(), ..Default::default() };
    let events =
        clients.campaigns.list_audit_events(request).await.unwrap().into_inner().audit_events;
    let told: Vec<_> = events
        .iter()
        .rev()
        .map(|event| (event.command.as_str(), event.state_before(), event.state_after(), event.run))
        .collect();
    assert_eq!(
        told,
        [
            ("CREATE", State::Unspecified, State::Draft, 0),
            ("LAUNCH", State::Draft, State::Running, 1),
            ("PAUSE", State::Running, State::Paused, 1),
            ("RESUME", State::Paused, State::Running, 1),
            ("CANCEL", State::Running, State::Cancelled, 1),
            ("LAUNCH", State::Cancelled, State::Running, 2),
        ]
    );
    let pause = &events[3];
    assert_eq!((pause.actor.as_str(), pause.reason.as_str()), ("ann", "lunch"));

    let runs = v1::ListRunsRequest { parent: name, ..Default::default() };
    let runs = clients.campaigns.list_runs(runs).await.unwrap().into_inner().runs;
    assert_eq!(runs.iter().map(|run| run.number).collect::<Vec<_>>(), [2, 1]);
    assert!(runs[0].end_time.is_none());
    assert!(runs[1].start_time.is_some() && runs[1].end_time.is_some());
}

#[tokio::test]
async fn the_audit_log_cannot_be_edited() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    service.clients.clone().create_campaign().await;
    let client = db.client().await;
    for sql in [
        "UPDATE audit_events SET actor = 'someone else'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert!(error.as_db_error().unwrap().message().contains("only grows"), "{error:?}");
    }
}

#[tokio::test]
async fn a_command_that_does_not_fit_names_the_state_and_what_is_allowed() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let before = clients.campaign(&name).await;
    let status = clients.campaigns.pause_campaign(named(&name)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), "STATE");
    assert_eq!(status.message(), "cannot pause a campaign that is DRAFT; allowed now: LAUNCH");
    assert_eq!(clients.campaign(&name).await, before);
}

#[tokio::test]
async fn a_launch_needs_description_schedule_and_settings() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let bare = v1::Campaign { display_name: "Bare".to_owned(), ..Default::default() };
    let name = clients.create_campaign_with(bare).await;
    let mut launch = v1::LaunchCampaignRequest { name: name.clone(), ..Default::default() };
    let status = clients.campaigns.launch_campaign(launch.clone()).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["settings"]);
    launch.settings = Some(v1::LaunchSettings::default());
    for missing in ["description", "schedule"] {
        let status = clients.campaigns.launch_campaign(launch.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(missing), "{status:?}");
        let update = v1::UpdateCampaignRequest {
            campaign: Some(v1::Campaign {
                name: name.clone(),
                description: "Set".to_owned(),
                schedule: Some(always()),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths: vec![missing.to_owned()] }),
            ..Default::default()
        };
        clients.campaigns.update_campaign(update).await.unwrap();
    }
    clients.campaigns.launch_campaign(launch).await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_id_gets_the_first_answer_and_does_nothing() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let create = v1::CreateCampaignRequest {
        campaign: Some(v1::Campaign {
            display_name: "Spring".to_owned(),
            description: "For tests".to_owned(),
            schedule: Some(always()),
            ..Default::default()
        }),
        request_id: "create-1".to_owned(),
        ..Default::default()
    };
    let first = clients.campaigns.create_campaign(create.clone()).await.unwrap().into_inner();
    let again = clients.campaigns.create_campaign(create.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    let name = first.name;
    clients.add_contacts(&name, 0..1).await;

    let launch = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(v1::LaunchSettings::default()),
        request_id: "launch-1".to_owned(),
        ..Default::default()
    };
    let first = clients.campaigns.launch_campaign(launch.clone()).await.unwrap().into_inner();
    clients.cancel(&name).await;
    let again = clients.campaigns.launch_campaign(launch.clone()).await.unwrap().into_inner();
    assert_eq!(first, again, "the first answer, though the campaign is cancelled by now");
    assert_eq!(clients.campaign(&name).await.state(), State::Cancelled);

    let mut other = launch;
    other.settings = Some(v1::LaunchSettings { live_forever: true, ..Default::default() });
    let status = clients.campaigns.launch_campaign(other).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["request_id"]);
}

#[tokio::test]
async fn a_wrong_etag_aborts_and_a_right_one_does_not() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let launched = clients.launch(&name).await;
    for wrong in ["0", "x", "999"] {
        let pause = v1::PauseCampaignRequest { etag: wrong.to_owned(), ..named(&name) };
        let status = clients.campaigns.pause_campaign(pause).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    }
    let pause = v1::PauseCampaignRequest { etag: launched.etag.clone(), ..named(&name) };
    let paused = clients.campaigns.pause_campaign(pause).await.unwrap().into_inner();
    assert_ne!(paused.etag, launched.etag);
}

#[tokio::test]
async fn of_many_launches_at_once_one_wins() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut clients = if n % 2 == 0 { one.clients.clone() } else { two.clients.clone() };
        let launch = v1::LaunchCampaignRequest {
            name: name.clone(),
            settings: Some(v1::LaunchSettings::default()),
            ..Default::default()
        };
        tasks.spawn(async move { clients.campaigns.launch_campaign(launch).await.map(|_| ()) });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for status in results.into_iter().filter_map(Result::err) {
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    assert_eq!(clients.campaign(&name).await.run, 1);
}

#[tokio::test]
async fn scheduled_start_and_end_come_by_themselves_once_on_two_replicas() {
    let db = TestDb::new().await;
    let (one, _two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let start = SystemTime::now() + Duration::from_secs(2);
    let schedule = v1::Schedule {
        start_time: Some(start.into()),
        end_time: Some((start + Duration::from_secs(2)).into()),
        ..always()
    };
    let campaign = v1::Campaign {
        display_name: "Timed".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(schedule),
        ..Default::default()
    };
    let name = clients.create_campaign_with(campaign).await;
    clients.add_contacts(&name, 0..1).await;
    assert_eq!(clients.launch(&name).await.state(), State::Scheduled);
    clients.wait_for(&name, State::Running).await;
    clients.wait_for(&name, State::Completed).await;
    let request = v1::ListAuditEventsRequest { parent: name, ..Default::default() };
    let events =
        clients.campaigns.list_audit_events(request).await.unwrap().into_inner().audit_events;
    let commands: Vec<_> =
        events.iter().rev().map(|event| (event.command.as_str(), event.actor.as_str())).collect();
    assert_eq!(
        commands,
        [("CREATE", ""), ("LAUNCH", ""), ("START", "service"), ("COMPLETE", "service")]
    );
    let start_event = &events[1];
    let started = SystemTime::try_from(start_event.event_time.unwrap()).unwrap();
    assert!(started >= start, "started early");
}

#[tokio::test]
async fn a_running_campaign_is_frozen_but_for_its_description() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let update = |path: &str| v1::UpdateCampaignRequest {
        campaign: Some(v1::Campaign {
            name: name.clone(),
            display_name: "New name".to_owned(),
            description: "New words".to_owned(),
            schedule: Some(v1::Schedule { time_zone: "Asia/Tokyo".to_owned(), ..always() }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        ..Default::default()
    };
    let status = clients.campaigns.update_campaign(update("schedule")).await.unwrap_err();
    assert_eq!(reason(&status), "CONFIGURATION_FROZEN");
    clients.campaigns.update_campaign(update("description")).await.unwrap();
    clients.pause(&name).await;
    clients.campaigns.update_campaign(update("schedule")).await.unwrap();
    let mut cleared = update("schedule");
    cleared.campaign.as_mut().unwrap().schedule = None;
    let status = clients.campaigns.update_campaign(cleared).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["campaign.schedule"], "a run needs it");
    let campaign = clients.campaign(&name).await;
    assert_eq!(campaign.description, "New words");
    assert_eq!(campaign.schedule.unwrap().time_zone, "Asia/Tokyo");
    assert_eq!(campaign.display_name, "Spring", "was not in the mask");
}

#[tokio::test]
async fn a_deleted_campaign_is_gone_and_an_active_one_cannot_be() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let delete = v1::DeleteCampaignRequest { name: name.clone(), ..Default::default() };
    let status = clients.campaigns.delete_campaign(delete.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "CAMPAIGN_ACTIVE");
    clients.cancel(&name).await;
    clients.campaigns.delete_campaign(delete).await.unwrap();
    let get = v1::GetCampaignRequest { name: name.clone() };
    let status = clients.campaigns.get_campaign(get).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let list = clients.campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await;
    assert!(list.unwrap().into_inner().campaigns.is_empty());
}

#[tokio::test]
async fn campaigns_are_listed_in_pages_newest_first() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(clients.create_campaign().await);
    }
    names.reverse();
    let mut listed = Vec::new();
    let mut request = v1::ListCampaignsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = clients.campaigns.list_campaigns(request.clone()).await.unwrap().into_inner();
        assert!(page.campaigns.len() <= 2);
        listed.extend(page.campaigns.into_iter().map(|campaign| campaign.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed, names);
}

#[tokio::test]
async fn watching_shows_changes_and_ends_with_the_run() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let request = v1::WatchCampaignRequest { name: name.clone(), interval_seconds: 1 };
    let mut stream = clients.campaigns.watch_campaign(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.state(), first.waiting, first.total), (State::Running, 2, 2));
    clients.cancel(&name).await;
    let last = stream.message().await.unwrap().unwrap();
    assert_eq!(last.state(), State::Cancelled);
    assert!(stream.message().await.unwrap().is_none());
}
