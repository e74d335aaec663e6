//! Bad input gets the right status with the field named, and changes nothing.

use crate::support::{Clients, Service, TestDb, Worker, always, bad_fields};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use std::time::{Duration, SystemTime};
use tonic::{Code, Status};

fn campaign() -> v1::Campaign {
    v1::Campaign {
        display_name: "Spring".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(always()),
        ..Default::default()
    }
}

async fn create(clients: &mut Clients, campaign: v1::Campaign) -> Result<(), Status> {
    let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
    clients.campaigns.create_campaign(request).await.map(|_| ())
}

fn with_schedule(change: impl FnOnce(&mut v1::Schedule)) -> v1::Campaign {
    let mut schedule = always();
    change(&mut schedule);
    v1::Campaign { schedule: Some(schedule), ..campaign() }
}

fn with_retry(rule: v1::RetryRule) -> v1::Campaign {
    let policy = v1::RetryPolicy { busy: Some(rule), ..Default::default() };
    v1::Campaign { retry_policy: Some(policy), ..campaign() }
}

fn with_pacing(pacing: v1::Pacing) -> v1::Campaign {
    v1::Campaign { pacing: Some(pacing), ..campaign() }
}

fn timestamp(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

#[tokio::test]
async fn bad_campaigns_are_refused_by_field() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let window = |weekday, start_minute, end_minute| {
        with_schedule(|schedule| {
            schedule.windows = vec![v1::WeeklyWindow { weekday, start_minute, end_minute }];
        })
    };
    let now = SystemTime::now();
    let cases = [
        ("campaign.display_name", v1::Campaign { display_name: String::new(), ..campaign() }),
        ("campaign.display_name", v1::Campaign { display_name: "x".repeat(201), ..campaign() }),
        ("campaign.display_name", v1::Campaign { display_name: "a\0b".to_owned(), ..campaign() }),
        (
            "campaign.description",
            v1::Campaign { description: "x".repeat(10_000_000), ..campaign() },
        ),
        ("campaign.schedule.time_zone", with_schedule(|s| s.time_zone = "Mars/Olympus".to_owned())),
        ("campaign.schedule.time_zone", with_schedule(|s| s.time_zone = String::new())),
        (
            "campaign.schedule.end_time",
            with_schedule(|s| {
                s.start_time = Some(now.into());
                s.end_time = Some((now - Duration::from_secs(1)).into());
            }),
        ),
        ("campaign.schedule.start_time", with_schedule(|s| s.start_time = timestamp(i64::MAX))),
        ("campaign.schedule.start_time", with_schedule(|s| s.start_time = timestamp(i64::MIN))),
        ("campaign.schedule.windows[0].weekday", window(0, 0, 10)),
        ("campaign.schedule.windows[0].start_minute", window(1, -1, 10)),
        ("campaign.schedule.windows[0].end_minute", window(1, 10, 10)),
        ("campaign.schedule.windows[0].end_minute", window(1, 10, 1_441)),
        (
            "campaign.schedule.blackout_dates[0]",
            with_schedule(|s| s.blackout_dates = vec!["2026-02-30".to_owned()]),
        ),
        (
            "campaign.retry_policy.busy.max_attempts",
            with_retry(v1::RetryRule { max_attempts: -1, min_delay: None }),
        ),
        ("campaign.retry_policy.busy.min_delay", with_retry(crate::support::retry(1, -5))),
        (
            "campaign.pacing.max_calls_per_second",
            with_pacing(v1::Pacing { max_calls_per_second: -1, ..Default::default() }),
        ),
        (
            "campaign.pacing.max_calls_in_progress",
            with_pacing(v1::Pacing { max_calls_in_progress: 100_001, ..Default::default() }),
        ),
        (
            "campaign.link_url",
            v1::Campaign { link_url: "javascript:alert(1)".to_owned(), ..campaign() },
        ),
        ("campaign.pacing.weight", with_pacing(v1::Pacing { weight: 101, ..Default::default() })),
    ];
    for (field, bad) in cases {
        let status = create(&mut clients, bad).await.expect_err(field);
        assert_eq!(bad_fields(&status), [field]);
    }
    let two =
        v1::Campaign { display_name: String::new(), ..with_schedule(|s| s.time_zone.clear()) };
    let status = create(&mut clients, two).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["campaign.display_name", "campaign.schedule.time_zone"]);
    let listed = clients.campaigns.list_campaigns(v1::ListCampaignsRequest::default()).await;
    assert!(listed.unwrap().into_inner().campaigns.is_empty(), "nothing was made");
}

#[tokio::test]
async fn names_pages_masks_and_enums_are_checked() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;

    let unknown = "campaigns/00000000-0000-7000-8000-000000000000".to_owned();
    let get = v1::GetCampaignRequest { name: unknown.clone() };
    assert_eq!(clients.campaigns.get_campaign(get).await.unwrap_err().code(), Code::NotFound);
    let pause = v1::PauseCampaignRequest { name: unknown, ..Default::default() };
    assert_eq!(clients.campaigns.pause_campaign(pause).await.unwrap_err().code(), Code::NotFound);
    let get = v1::GetContactRequest { name: format!("{name}/contacts/7") };
    assert_eq!(clients.contacts.get_contact(get).await.unwrap_err().code(), Code::NotFound);
    for bad in ["", "x", "campaigns/", "campaigns/1", "campaigns/1/contacts/2"] {
        let get = v1::GetCampaignRequest { name: bad.to_owned() };
        let status = clients.campaigns.get_campaign(get).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["name"], "{bad}");
    }

    for page_size in [-1, i32::MIN, 201] {
        let list = v1::ListCampaignsRequest { page_size, ..Default::default() };
        let status = clients.campaigns.list_campaigns(list).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["page_size"]);
    }
    for page_token in ["x", "####", "Y2FtcGFpZ25z", "\u{e9}"] {
        let page_token = page_token.to_owned();
        let list = v1::ListCampaignsRequest { page_token, ..Default::default() };
        let status = clients.campaigns.list_campaigns(list).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["page_token"]);
    }

    for paths in [vec![], vec!["state".to_owned()], vec!["schedule.windows".to_owned()]] {
        let update = v1::UpdateCampaignRequest {
            campaign: Some(v1::Campaign { name: name.clone(), ..campaign() }),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let status = clients.campaigns.update_campaign(update).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["update_mask"]);
    }

    let exclude = v1::Exclusions { transferred: 99, ..Default::default() };
    let settings = v1::LaunchSettings { exclude: Some(exclude), ..Default::default() };
    let launch = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(settings),
        ..Default::default()
    };
    let status = clients.campaigns.launch_campaign(launch).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["settings.exclude.transferred"]);
    let watch = v1::WatchCampaignRequest { name: name.clone(), interval_seconds: -1 };
    let status = clients.campaigns.watch_campaign(watch).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["interval_seconds"]);
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Draft);
}

#[tokio::test]
async fn bad_contacts_and_facts_are_refused_by_field() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let good = v1::Contact { phone_number: "+1 415 555 0111".to_owned(), ..Default::default() };
    let cases = [
        ("contact.phone_number", v1::Contact { phone_number: "5".to_owned(), ..good.clone() }),
        ("contact.time_zone", v1::Contact { time_zone: "CEST".to_owned(), ..good.clone() }),
        ("contact.priority", v1::Contact { priority: -1, ..good.clone() }),
        ("contact.priority", v1::Contact { priority: 10, ..good.clone() }),
        ("contact.display_name", v1::Contact { display_name: "x".repeat(201), ..good.clone() }),
    ];
    for (field, contact) in cases {
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let status = clients.contacts.create_contact(request).await.unwrap_err();
        assert_eq!(bad_fields(&status), [field]);
    }
    assert_eq!(clients.campaign(&name).await.contact_count, 1);

    let contact = format!("{name}/contacts/0");
    let fact = |id: &str, contact: &str, attempt: &str, fact: Option<Fact>| {
        let interaction = v1::Interaction {
            interaction_id: id.to_owned(),
            contact: contact.to_owned(),
            attempt_id: attempt.to_owned(),
            fact,
            ..Default::default()
        };
        v1::ReportedInteraction { interaction: Some(interaction), ..Default::default() }
    };
    let success = || Some(Fact::Success(v1::Success {}));
    let ended = |outcome| Some(Fact::CallEnded(v1::CallEnded { outcome, ..Default::default() }));
    let negative = Fact::Transferred(v1::Transferred { seconds_before_transfer: -1 });
    let interactions = vec![
        fact("", &contact, "", success()),
        fact(&"x".repeat(65), &contact, "", success()),
        fact("a", "nonsense", "", success()),
        fact("a", &format!("{name}/contacts/9"), "", success()),
        fact("a", "", "", success()),
        fact("a", &contact, "", None),
        fact("a", &contact, "nonsense", success()),
        fact("a", &contact, "1-1-1", success()),
        fact("a", &contact, "", Some(negative)),
        fact("", &contact, "", ended(1)),
        fact("", &contact, "1-1-0", ended(99)),
        fact("good", &contact, "", success()),
    ];
    let last = interactions.len() - 1;
    let request = v1::RecordInteractionsRequest { parent: name.clone(), interactions };
    let response = clients.interactions.record_interactions(request).await.unwrap().into_inner();
    for result in &response.results[..last] {
        assert_eq!(result.status(), v1::InteractionStatus::Rejected);
        assert!(!result.message.is_empty());
    }
    assert_eq!(response.results[last].status(), v1::InteractionStatus::Recorded);
    assert_eq!(clients.history(&contact).await.interactions.len(), 1);

    let none = v1::RecordInteractionsRequest { parent: name, interactions: Vec::new() };
    let status = clients.interactions.record_interactions(none).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["interactions"]);
}

#[tokio::test]
async fn a_stream_ends_of_a_bad_hello_and_of_no_other_message() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let hello = v1::Hello { worker_id: "w".to_owned(), protocol_version: 1, ..Default::default() };
    let cases = [
        ("hello", Message::Credit(v1::Credit { contacts: 1 })),
        (
            "hello.worker_id",
            Message::Hello(v1::Hello { worker_id: String::new(), ..hello.clone() }),
        ),
        (
            "hello.protocol_version",
            Message::Hello(v1::Hello { protocol_version: 2, ..hello.clone() }),
        ),
        (
            "hello.campaigns",
            Message::Hello(v1::Hello { campaigns: vec!["x".to_owned()], ..hello.clone() }),
        ),
        (
            "hello.lost_leases",
            Message::Hello(v1::Hello { lost_leases: vec!["x".to_owned()], ..hello.clone() }),
        ),
    ];
    for (field, first) in cases {
        let status = Worker::open(&clients, first).await.unwrap_err();
        assert_eq!(bad_fields(&status), [field]);
    }
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let cases = [
        ("credit", "credit.contacts", Message::Credit(v1::Credit { contacts: -3 })),
        ("credit", "credit.contacts", Message::Credit(v1::Credit { contacts: 5_001 })),
        (
            "authorize",
            "authorize.slots",
            Message::Authorize(v1::Authorize { slots: vec![0; 1_001], ..Default::default() }),
        ),
        (
            "renew",
            "renew.lost_leases",
            Message::Renew(v1::Renew {
                leases: vec![v1::LeaseKey::default()],
                lost_leases: vec![String::new(); 2],
            }),
        ),
        ("hello", "hello", Message::Hello(hello)),
    ];
    for (name, field, message) in cases {
        worker.send(message).await;
        let Response::Rejected(rejected) = worker.next().await.unwrap() else { panic!("{field}") };
        assert_eq!(rejected.message, name);
        assert!(rejected.reason.starts_with(field), "{rejected:?}");
    }
    // An empty message is answered too, on the same stream.
    worker.send(Message::Credit(v1::Credit { contacts: 0 })).await;
    worker.send(Message::Authorize(v1::Authorize::default())).await;
    assert!(matches!(worker.next().await.unwrap(), Response::AuthorizeResult(_)));
    worker.send(Message::Renew(v1::Renew::default())).await;
    assert!(matches!(worker.next().await.unwrap(), Response::RenewResult(_)));
    worker.send(Message::Report(v1::Report { report_number: 7, ..Default::default() })).await;
    let Response::ReportAck(ack) = worker.next().await.unwrap() else { panic!("no ack") };
    assert_eq!((ack.report_number, ack.results.len()), (7, 0));
}
