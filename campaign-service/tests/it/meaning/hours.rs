//! Hours that change, pauses that stay, and reasons for idling.

use super::add_contact;
use crate::support::{
    Clients, Service, TestDb, Worker, always, eventually, once, phone, reason, test_options,
};
use campaign_proto::v1;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome, CampaignState, IdleReason};
use std::time::{Duration, SystemTime};
use tonic::Code;

/// Returns a schedule that is closed now: it is open for one minute a week.
fn shut() -> v1::Schedule {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    // Day of the week two days ago in UTC; the epoch was a Thursday.
    let weekday = i32::try_from((now / 86_400 + 3 + 5) % 7 + 1).unwrap();
    let window = v1::WeeklyWindow { weekday, start_minute: 600, end_minute: 601 };
    v1::Schedule { time_zone: "UTC".to_owned(), windows: vec![window], ..Default::default() }
}

async fn set_schedule(clients: &mut Clients, name: &str, schedule: v1::Schedule) {
    let campaign =
        v1::Campaign { name: name.to_owned(), schedule: Some(schedule), ..Default::default() };
    let request = v1::UpdateCampaignRequest {
        campaign: Some(campaign),
        update_mask: Some(prost_types::FieldMask { paths: vec!["schedule".to_owned()] }),
        ..Default::default()
    };
    clients.campaigns.update_campaign(request).await.unwrap();
}

/// B9: contacts that were put off during closed hours are called when the hours are opened.
#[tokio::test]
async fn opening_the_hours_wakes_those_who_were_put_off() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    clients.pause(&name).await;
    set_schedule(&mut clients, &name, shut()).await;
    clients.resume(&name).await;
    let (decision, _) = worker.authorize(&held).await.remove(0);
    assert_eq!(decision, Decision::NotNow);
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::WindowClosed, "{progress:?}");
    assert!(progress.idle_until.is_some());
    let explained = clients.explain(&held[0].contact).await;
    assert!(explained.message.contains("hours are shut"), "{explained:?}");
    assert_eq!(explained.next_attempt_time, progress.idle_until);

    clients.pause(&name).await;
    set_schedule(&mut clients, &name, always()).await;
    clients.resume(&name).await;
    let explained = clients.explain(&held[0].contact).await;
    assert_eq!(explained.next_attempt_time, None, "{explained:?}");
    let mut worker = Worker::connect(&clients, "w2", &name).await;
    let again = worker.lease(1).await;
    assert_eq!(again.len(), 1, "put off for ever");
    worker.granted(&again[0]).await;
}

/// B16: a paused campaign can be resumed at any time until its end, and that end may be moved.
#[tokio::test]
async fn a_paused_run_stays_paused_and_its_end_may_be_moved() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let end = |seconds| Some((SystemTime::now() + Duration::from_secs(seconds)).into());
    let name = clients.create_campaign_retrying(once()).await;
    set_schedule(&mut clients, &name, v1::Schedule { end_time: end(2), ..always() }).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    // No contact is left, and the end time passes; neither completes a paused campaign.
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    let attempt = worker.granted(&held[0]).await;
    clients.pause(&name).await;
    worker.end(&held[0], &attempt, CallOutcome::Answered).await;
    let passed = "SELECT end_time < clock_timestamp() - interval '0.2 seconds' FROM campaigns";
    eventually("the end passes, and chores run", async || {
        let has_passed: bool = db.client().await.query_one(passed, &[]).await.unwrap().get(0);
        has_passed.then_some(())
    })
    .await;
    let request = v1::ResumeCampaignRequest { name: name.clone(), ..Default::default() };
    let status = clients.campaigns.resume_campaign(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "STATE"));
    assert!(status.message().contains("schedule.end_time"), "{status:?}");
    assert_eq!(clients.campaign(&name).await.state(), CampaignState::Paused);
    // Chores have run meanwhile. The campaign can be cancelled, or get another end.
    set_schedule(&mut clients, &name, v1::Schedule { end_time: end(3_600), ..always() }).await;
    clients.resume(&name).await;
    clients.wait_for(&name, CampaignState::Completed).await;
}

/// B8: the preview shows why the launch would be rejected. The rejection does not offer the rejected command.
#[tokio::test]
async fn an_end_that_has_passed_shows_in_the_preview_and_the_refusal() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let past = Some((SystemTime::now() - Duration::from_secs(60)).into());
    set_schedule(&mut clients, &name, v1::Schedule { end_time: past, ..always() }).await;
    clients.add_contacts(&name, 0..1).await;
    let request =
        v1::PreviewLaunchRequest { name: name.clone(), settings: Some(Default::default()) };
    let preview = clients.campaigns.preview_launch(request).await.unwrap().into_inner();
    assert!(
        preview.warnings.iter().any(|warning| warning.contains("schedule.end_time")),
        "{preview:?}"
    );
    let request = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(Default::default()),
        ..Default::default()
    };
    let status = clients.campaigns.launch_campaign(request).await.unwrap_err();
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert!(!info.metadata["allowed"].contains("LAUNCH"), "{status:?}");
}

/// Each reported reason is true: a call happens once the reason is removed, and none before.
#[tokio::test]
async fn the_reason_for_idling_is_the_one_that_keeps_calls_from_happening() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_attempts_per_number = 1;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let again = Some(crate::support::retry(9, 0));
    let tomorrow = Some(crate::support::retry(9, 86_400));
    let policy = v1::RetryPolicy { busy: again, no_answer: tomorrow, ..Default::default() };
    let name = clients.create_campaign_retrying(policy).await;
    let contact = add_contact(&mut clients, &name, &phone(0), "Asia/Tokyo").await.unwrap();
    // This contact is in an open zone but excluded, so it must not count as one that could be called.
    let excluded = add_contact(&mut clients, &name, &phone(1), "").await.unwrap();
    let opt_out = v1::interaction::Fact::OptedOut(v1::OptedOut::default());
    clients.record(&excluded, "o", opt_out).await;
    clients.launch(&name).await;
    let sql = db.client().await;

    // No worker takes the contacts.
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::NoWorker);
    assert_eq!(calls(&mut clients, &name, CallOutcome::Busy).await, 1);
    // The daily cap is the reason, even before any worker meets it.
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::Capped);
    assert_eq!(calls(&mut clients, &name, CallOutcome::Busy).await, 0);
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::Capped, "{progress:?}");
    assert!(clients.explain(&contact).await.message.contains("24 hours"));
    sql.batch_execute(
        "DELETE FROM number_attempts_by_tenant; UPDATE due_contacts SET due_at = now()",
    )
    .await
    .unwrap();
    // The reason is the hours of the contact's own zone, although those of the campaign's zone are open.
    clients.pause(&name).await;
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::Paused);
    set_schedule(&mut clients, &name, open_only_in_utc()).await;
    clients.resume(&name).await;
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::WindowClosed, "{progress:?}");
    assert_eq!(calls(&mut clients, &name, CallOutcome::Busy).await, 0);
    clients.pause(&name).await;
    set_schedule(&mut clients, &name, always()).await;
    clients.resume(&name).await;
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::NoWorker);
    assert_eq!(calls(&mut clients, &name, CallOutcome::NoAnswer).await, 1);
    // The reason is the wait of the retry policy.
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::WaitingRetry, "{progress:?}");
    assert_eq!(progress.idle_until, clients.explain(&contact).await.next_attempt_time);
    assert_eq!(calls(&mut clients, &name, CallOutcome::Busy).await, 0);
    // No contact is left until another one joins.
    clients.cancel(&name).await;
    let live = v1::LaunchSettings { live_forever: true, ..super::rerun(v1::Exclusions::default()) };
    sql.batch_execute("DELETE FROM number_attempts_by_tenant").await.unwrap();
    clients.launch_with(&name, live).await;
    assert_eq!(calls(&mut clients, &name, CallOutcome::Answered).await, 1);
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::Exhausted);
    add_contact(&mut clients, &name, &phone(2), "").await.unwrap();
    assert_eq!(clients.progress(&name).await.idle_reason(), IdleReason::NoWorker);
    assert_eq!(calls(&mut clients, &name, CallOutcome::Answered).await, 1);
}

/// A contact held by the cap may also be in a zone with closed hours. It then waits for both.
#[tokio::test]
async fn the_cap_and_shut_hours_together_are_shut_hours() {
    let db = TestDb::new().await;
    let mut options = test_options();
    options.limits.max_attempts_per_number = 1;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let first = clients.create_campaign_retrying(once()).await;
    add_contact(&mut clients, &first, &phone(0), "").await.unwrap();
    clients.launch(&first).await;
    assert_eq!(calls(&mut clients, &first, CallOutcome::Busy).await, 1);
    let name = clients.create_campaign_retrying(once()).await;
    set_schedule(&mut clients, &name, open_only_in_utc()).await;
    add_contact(&mut clients, &name, &phone(0), "Asia/Tokyo").await.unwrap();
    clients.launch(&name).await;
    let progress = clients.progress(&name).await;
    assert_eq!(progress.idle_reason(), IdleReason::WindowClosed, "{progress:?}");
    let until = SystemTime::try_from(progress.idle_until.expect("the hours open")).unwrap();
    let wait = until.duration_since(SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(86_000), "the cap holds for a day: {wait:?}");
}

/// Returns a schedule that is open at the current time of UTC, and closed in Tokyo, where it is nine hours later.
fn open_only_in_utc() -> v1::Schedule {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let day = now / 86_400;
    let minute = i32::try_from(now % 86_400 / 60).unwrap();
    // The epoch was a Thursday.
    let weekday = |days| i32::try_from((day + 3 + days) % 7 + 1).unwrap();
    let (start, end) = ((minute - 60).max(0), minute + 120);
    let window = |days, start_minute, end_minute| v1::WeeklyWindow {
        weekday: weekday(days),
        start_minute,
        end_minute,
    };
    let mut windows = vec![window(0, start, end.min(1_440))];
    if end > 1_440 {
        windows.push(window(1, 0, end - 1_440));
    }
    v1::Schedule { time_zone: "UTC".to_owned(), windows, ..Default::default() }
}

/// Leases all contacts available, and calls each with this outcome. Returns the number of calls.
async fn calls(clients: &mut Clients, name: &str, outcome: CallOutcome) -> usize {
    let mut worker = Worker::connect(clients, "w", name).await;
    let mut calls = 0;
    for held in worker.lease(10).await {
        let (decision, attempt) = worker.authorize(std::slice::from_ref(&held)).await.remove(0);
        if decision == Decision::Granted {
            worker.end(&held, &attempt, outcome).await;
            calls += 1;
        }
    }
    worker.close().await;
    calls
}
