//! The time at which a fact happened decides whether it is before the launch.

use super::{add_first, age_launches, report_as, report_of_before, rerun};
use crate::support::{Clients, Service, TestDb, Worker, once, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, ContactStanding, ExclusionReason, InteractionStatus};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

fn success() -> Fact {
    Fact::Success(v1::Success {})
}

fn text() -> Fact {
    Fact::TextSent(v1::TextSent {})
}

/// Creates a campaign whose only contact was called once and answered. Returns the names of both and the attempt's.
/// The run is live forever, so nothing completes it before the test ends it.
async fn answered(clients: &mut Clients) -> (String, String, String) {
    let name = clients.create_campaign_retrying(once()).await;
    let contact = add_first(clients, &name).await;
    let live = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, live).await;
    let mut worker = Worker::connect(clients, "w", &name).await;
    let held = worker.lease(1).await;
    let attempt = worker.granted(&held[0]).await;
    worker.end(&held[0], &attempt, CallOutcome::Answered).await;
    (name, contact, attempt)
}

/// B5: a success counts in the rerun that it follows, whichever run dialled.
#[tokio::test]
async fn a_success_of_an_older_call_counts_in_the_rerun_that_it_follows() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "old", &name).await;
    let held = worker.lease(2).await;
    let attempts = [worker.granted(&held[0]).await, worker.granted(&held[1]).await];
    clients.cancel(&name).await;
    let exclude = v1::Exclusions {
        success: true,
        transferred: v1::TransferredExclusion::AnyTime.into(),
        ..Default::default()
    };
    clients.launch_with(&name, rerun(exclude)).await;

    let told = worker.tell(&held[0], &attempts[0], "s", success()).await;
    assert_eq!(told, InteractionStatus::Recorded);
    let transfer = Fact::Transferred(v1::Transferred { seconds_before_transfer: 5 });
    // The transfer is reported during the call, by a clock that is an hour slow.
    report_as(&mut clients, &held[1].contact, &attempts[1], transfer, Some(HOUR)).await;
    for (held, attempt) in held.iter().zip(&attempts) {
        worker.end(held, attempt, CallOutcome::Answered).await;
    }
    for (held, reason) in held.iter().zip([ExclusionReason::Success, ExclusionReason::Transferred])
    {
        let explained = clients.explain(&held.contact).await;
        assert_eq!(explained.reason(), reason, "{explained:?}");
    }
    let mut next = Worker::connect(&clients, "new", &name).await;
    assert!(next.lease(5).await.is_empty(), "dialled again right after the success");
}

/// B6: `occur_time` decides, and a fact from before a reset does not come back.
#[tokio::test]
async fn a_late_report_counts_where_it_happened() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let contact = add_first(&mut clients, &name).await;
    clients.launch(&name).await;
    clients.cancel(&name).await;
    age_launches(&db, 120).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;

    let late = report_of_before(&mut clients, &contact, text(), HOUR).await;
    assert_eq!(late.status(), InteractionStatus::BeforeReset);
    assert!(!clients.history(&contact).await.texted);
    // In doubt, a fact counts as after the launch. So does a fact without a time, or with a time ahead.
    let doubt = report_of_before(&mut clients, &contact, text(), Duration::from_secs(240)).await;
    assert_eq!(doubt.status(), InteractionStatus::Recorded);
    assert!(clients.history(&contact).await.texted);
    // An opt-out always counts.
    let opt_out = Fact::OptedOut(v1::OptedOut::default());
    let late = report_of_before(&mut clients, &contact, opt_out, 3 * HOUR).await;
    assert_eq!(late.status(), InteractionStatus::Recorded);
    assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Refused);
}

#[tokio::test]
async fn a_click_of_before_a_rerun_is_history_and_excludes_nobody_from_it() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let contact = add_first(&mut clients, &name).await;
    clients.launch(&name).await;
    clients.cancel(&name).await;
    age_launches(&db, 120).await;
    let exclude = v1::Exclusions { texted: true, ..Default::default() };
    clients.launch_with(&name, rerun(exclude)).await;
    report_of_before(&mut clients, &contact, text(), HOUR).await;
    assert!(clients.history(&contact).await.texted);
    assert_eq!(clients.explain(&contact).await.standing(), ContactStanding::Waiting);
    report_of_before(&mut clients, &contact, text(), Duration::ZERO).await;
    assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Texted);
}

/// No fact of an attempt happened before its authorisation, whatever the worker's clock says.
#[tokio::test]
async fn a_fact_never_happened_before_its_attempt_was_authorised() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let (name, contact, attempt) = answered(&mut clients).await;
    clients.cancel(&name).await;
    let exclude = v1::Exclusions { success: true, ..Default::default() };
    clients.launch_with(&name, rerun(exclude)).await;
    report_as(&mut clients, &contact, &attempt, success(), Some(24 * HOUR)).await;
    assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Success);
}

/// B15: a fact is rejected if its attempt never existed, or was of another contact.
#[tokio::test]
async fn a_fact_names_an_attempt_on_its_contact_or_is_rejected() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let attempt = worker.granted(&held[0]).await;
    let not_yet = format!("{}1", attempt.strip_suffix('0').unwrap());
    let elsewhere = ["1-999-0", "9-1-0", "1-1-4294967296", &not_yet];
    for bad in elsewhere {
        let result = report_as(&mut clients, &held[0].contact, bad, success(), None).await;
        assert_eq!(result.status(), InteractionStatus::Rejected, "{bad} {result:?}");
        assert!(result.message.contains("attempt_id"), "{result:?}");
    }
    let other = report_as(&mut clients, &held[1].contact, &attempt, success(), None).await;
    assert_eq!(other.status(), InteractionStatus::Rejected, "the attempt was another's");
    // The same holds when the lease is over.
    worker.end(&held[0], &attempt, CallOutcome::Answered).await;
    worker.release(&held[1].lease, vec![held[1].slot]).await;
    let late = report_as(&mut clients, &held[0].contact, &attempt, success(), None).await;
    assert_eq!(late.status(), InteractionStatus::Recorded);
    // An opt-out counts, whatever else the report says.
    let opt_out = Fact::OptedOut(v1::OptedOut::default());
    let refused = report_as(&mut clients, &held[1].contact, "1-999-7", opt_out, None).await;
    assert_eq!(refused.status(), InteractionStatus::Recorded);
    assert!(clients.history(&held[1].contact).await.refused);
}

/// B7: a person on an inbound call is not dialled, whatever is launched meanwhile.
#[tokio::test]
async fn a_person_on_an_inbound_call_is_not_dialled_by_a_rerun() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    // The contact is finished in this run, and then calls in.
    let (name, contact, _) = answered(&mut clients).await;
    let call_in = v1::RouteInboundRequest {
        parent: name.clone(),
        phone_number: phone(0),
        ..Default::default()
    };
    let routed = clients.interactions.route_inbound(call_in.clone()).await.unwrap().into_inner();
    assert_eq!(routed.decision(), v1::InboundDecision::Accept);
    for reset in [false, true] {
        clients.cancel(&name).await;
        let settings = v1::LaunchSettings {
            rerun_all_contacts: !reset,
            reset_contact_history: reset,
            live_forever: true,
            ..Default::default()
        };
        clients.launch_with(&name, settings).await;
        let explained = clients.explain(&contact).await;
        assert_eq!(explained.standing(), ContactStanding::WaitingRetry, "{explained:?}");
        let mut worker = Worker::connect(&clients, "w", &name).await;
        assert!(worker.lease(5).await.is_empty(), "dialled while on the phone");
    }
    // The call is over, so the person was just talked to.
    let over = Fact::CalledIn(v1::CalledIn { duration: None });
    report_as(&mut clients, &contact, "", over, None).await;
    assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Finished);
    clients.cancel(&name).await;
    clients.launch_with(&name, rerun(v1::Exclusions::default())).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert_eq!(worker.lease(5).await.len(), 1, "nobody is on the phone any more");
}

/// B17: a phone may still ring if the end of its call is unknown.
#[tokio::test]
async fn after_an_unknown_end_there_is_a_least_wait() {
    let db = TestDb::new().await;
    let mut options = crate::support::test_options();
    options.limits.unknown_retry_min_seconds = 300;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy {
        unknown: Some(crate::support::retry(5, 0)),
        busy: Some(crate::support::retry(5, 0)),
        ..Default::default()
    };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    for (held, outcome) in held.iter().zip([CallOutcome::Unknown, CallOutcome::Busy]) {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, outcome).await;
    }
    let again = worker.lease(2).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].phone, held[1].phone, "only the busy one");
    let explained = clients.explain(&held[0].contact).await;
    let next = explained.next_attempt_time.expect("it is called again");
    let next = std::time::SystemTime::try_from(next).unwrap();
    let wait = next.duration_since(std::time::SystemTime::now()).unwrap();
    assert!((280..=300).contains(&wait.as_secs()), "{wait:?}");
}
