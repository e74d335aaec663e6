//! Inbound calls.

use crate::support::{Clients, Service, TestDb, Worker, always, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AuthorizeDecision as Decision, ContactStanding, ExclusionReason, InboundDecision,
    TurnAwayReason,
};
use tonic::Code;

async fn call_in(clients: &mut Clients, name: &str, number: &str) -> v1::RouteInboundResponse {
    let request = v1::RouteInboundRequest {
        parent: name.to_owned(),
        phone_number: number.to_owned(),
        default_region: String::new(),
    };
    clients.interactions.route_inbound(request).await.unwrap().into_inner()
}

async fn turned_away(clients: &mut Clients, name: &str, number: &str) -> TurnAwayReason {
    let routed = call_in(clients, name, number).await;
    assert_eq!(routed.decision(), InboundDecision::TurnAway, "{routed:?}");
    routed.reason()
}

fn live() -> v1::LaunchSettings {
    v1::LaunchSettings { live_forever: true, ..Default::default() }
}

#[tokio::test]
async fn an_unknown_caller_of_a_live_run_becomes_a_contact_and_is_not_called_meanwhile() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch_with(&name, live()).await;
    let routed = call_in(&mut clients, &name, &phone(7)).await;
    assert_eq!((routed.decision(), routed.created), (InboundDecision::Accept, true));
    assert_eq!(routed.contact, format!("{name}/contacts/1"));
    let again = call_in(&mut clients, &name, &phone(7)).await;
    assert_eq!((again.contact, again.created), (routed.contact.clone(), false));

    // While the call may last, workers get only the other contact.
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(5).await;
    assert_eq!(held.iter().map(|held| held.phone.clone()).collect::<Vec<_>>(), [phone(0)]);
    let explained = clients.explain(&routed.contact).await;
    assert_eq!(explained.standing(), ContactStanding::WaitingRetry, "{explained:?}");

    // The outcome is in the same history, and the contact is done.
    let duration = Some(prost_types::Duration { seconds: 95, nanos: 0 });
    let fact = Fact::CalledIn(v1::CalledIn { duration });
    let status = clients.record(&routed.contact, "inbound-1", fact).await;
    assert_eq!(status, v1::InteractionStatus::Recorded);
    let history = clients.history(&routed.contact).await;
    assert_eq!(history.interactions.len(), 1, "{history:?}");
    let explained = clients.explain(&routed.contact).await;
    assert_eq!(explained.reason(), ExclusionReason::Finished, "{explained:?}");
}

#[tokio::test]
async fn a_contact_that_calls_in_is_taken_out_of_a_workers_hands() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let routed = call_in(&mut clients, &name, &held[0].phone).await;
    assert_eq!((routed.decision(), routed.created), (InboundDecision::Accept, false));
    let decisions = worker.authorize(&held).await;
    assert_eq!([decisions[0].0, decisions[1].0], [Decision::NotNow, Decision::Granted]);
}

#[tokio::test]
async fn callers_are_turned_away_for_a_reason() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..4).await;
    let draft = turned_away(&mut clients, &name, &phone(0)).await;
    assert_eq!(draft, TurnAwayReason::NotRunning);
    clients.launch(&name).await;
    let unknown = turned_away(&mut clients, &name, &phone(9)).await;
    assert_eq!(unknown, TurnAwayReason::UnknownCaller, "the run is not live forever");
    let contact = format!("{name}/contacts/1");
    clients.record(&contact, "stop", Fact::OptedOut(v1::OptedOut::default())).await;
    assert_eq!(turned_away(&mut clients, &name, &phone(1)).await, TurnAwayReason::Refused);
    let suppress = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(2)],
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(suppress).await.unwrap();
    assert_eq!(turned_away(&mut clients, &name, &phone(2)).await, TurnAwayReason::Suppressed);
    clients.pause(&name).await;
    assert_eq!(turned_away(&mut clients, &name, &phone(0)).await, TurnAwayReason::NotRunning);
    clients.resume(&name).await;
    assert_eq!(call_in(&mut clients, &name, &phone(0)).await.decision(), InboundDecision::Accept);
    clients.cancel(&name).await;
    assert_eq!(turned_away(&mut clients, &name, &phone(0)).await, TurnAwayReason::NotRunning);
    assert_eq!(turned_away(&mut clients, &name, &phone(1)).await, TurnAwayReason::Refused);

    let bad = v1::RouteInboundRequest {
        parent: name.clone(),
        phone_number: "hello".to_owned(),
        ..Default::default()
    };
    let status = clients.interactions.route_inbound(bad).await.unwrap_err();
    assert_eq!(crate::support::bad_fields(&status), ["phone_number"]);
    let gone = v1::RouteInboundRequest {
        parent: format!("campaigns/{}", uuid::Uuid::nil()),
        phone_number: phone(0),
        ..Default::default()
    };
    let status = clients.interactions.route_inbound(gone).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn callers_are_turned_away_outside_the_hours() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    // Only one day of the week has hours, and that day is far from today in every zone.
    let now = std::time::SystemTime::now();
    let days = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    // 1970-01-01 was a Thursday, ISO weekday 4.
    let weekday = i32::try_from((days + 3 + 3) % 7).unwrap() + 1;
    let window = v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    let schedule = v1::Schedule { windows: vec![window], ..always() };
    let campaign = v1::Campaign {
        display_name: "Spring".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(schedule),
        ..v1::Campaign::default()
    };
    let name = clients.create_campaign_with(campaign).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch_with(&name, live()).await;
    let stranger = call_in(&mut clients, &name, &phone(1)).await;
    assert_eq!(stranger.reason(), TurnAwayReason::WindowClosed, "{stranger:?}");
    assert_eq!((stranger.contact.as_str(), stranger.created), ("", false));
    let routed = call_in(&mut clients, &name, &phone(0)).await;
    assert_eq!(routed.reason(), TurnAwayReason::WindowClosed, "{routed:?}");
    let opens = routed.open_time.unwrap().seconds;
    assert!(opens > i64::try_from(days * 86_400).unwrap(), "{opens}");
    assert_eq!(clients.campaign(&name).await.contact_count, 1, "no contact was created");

    // A rejected caller was not reached: there is no history, and the planned call stays.
    let contact = format!("{name}/contacts/0");
    assert_eq!(routed.contact, contact);
    assert_eq!(clients.history(&contact).await.interactions, []);
    let explained = clients.explain(&contact).await;
    assert_eq!(explained.standing(), ContactStanding::Waiting, "{explained:?}");
    // A fact from the rejected call counts at once, even outside the hours.
    let stop = Fact::OptedOut(v1::OptedOut::default());
    let status = clients.record(&contact, "inbound-1", stop).await;
    assert_eq!(status, v1::InteractionStatus::Recorded);
    assert_eq!(clients.history(&contact).await.interactions.len(), 1);
    assert_eq!(turned_away(&mut clients, &name, &phone(0)).await, TurnAwayReason::Refused);
    let explained = clients.explain(&contact).await;
    assert_eq!(explained.reason(), ExclusionReason::Refused, "{explained:?}");
}
