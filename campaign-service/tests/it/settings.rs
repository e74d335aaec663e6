//! Launch settings, by the contacts that are really dispatched, and previews that predict the same.

use crate::support::{Clients, Held, Service, TestDb, Worker, phone, reason};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    CallOutcome, ExclusionReason, InteractionStatus, TransferredExclusion as Transferred,
};
use std::collections::BTreeSet;

fn transfer(seconds_before_transfer: i32) -> Fact {
    Fact::Transferred(v1::Transferred { seconds_before_transfer })
}

fn opted_out() -> Fact {
    Fact::OptedOut(v1::OptedOut { channel: "text".to_owned(), everywhere: false })
}

fn settings(exclude: v1::Exclusions) -> v1::LaunchSettings {
    v1::LaunchSettings { exclude: Some(exclude), ..Default::default() }
}

/// Creates a campaign, not launched yet, whose n-th contact has the n-th of these facts.
async fn campaign_with(clients: &mut Clients, facts: &[Option<Fact>]) -> String {
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..facts.len()).await;
    for (n, fact) in facts.iter().enumerate() {
        if let Some(fact) = fact {
            let contact = format!("{name}/contacts/{n}");
            let status = clients.record(&contact, "fact", fact.clone()).await;
            assert_eq!(status, InteractionStatus::Recorded);
        }
    }
    name
}

/// Previews, launches and leases all contacts. Returns the leased numbers, whose count the preview must have given.
async fn dispatched(
    clients: &mut Clients,
    name: &str,
    settings: v1::LaunchSettings,
) -> (BTreeSet<String>, v1::PreviewLaunchResponse) {
    let request = v1::PreviewLaunchRequest { name: name.to_owned(), settings: Some(settings) };
    let preview = clients.campaigns.preview_launch(request).await.unwrap().into_inner();
    let launch = v1::LaunchCampaignRequest {
        name: name.to_owned(),
        confirm_reset: if settings.reset_contact_history { "Spring" } else { "" }.to_owned(),
        settings: Some(settings),
        preview_token: preview.preview_token.clone(),
        ..Default::default()
    };
    clients.campaigns.launch_campaign(launch).await.unwrap();
    let mut worker = Worker::connect(clients, "w", name).await;
    let held = worker.lease(1_000).await;
    assert_eq!(preview.eligible, i64::try_from(held.len()).unwrap());
    let removed: i64 = preview.removed.iter().map(|removed| removed.contacts).sum();
    assert_eq!(preview.total, preview.eligible + removed);
    (numbers(&held), preview)
}

fn numbers(held: &[Held]) -> BTreeSet<String> {
    held.iter().map(|held| held.phone.clone()).collect()
}

fn expected(numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|n| phone(*n)).collect()
}

#[tokio::test]
async fn each_exclusion_removes_its_contacts_and_no_others() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let facts = [
        None,
        Some(opted_out()),
        Some(transfer(30)),
        Some(Fact::Success(v1::Success {})),
        Some(Fact::LinkOpened(v1::LinkOpened::default())),
        Some(Fact::TextSent(v1::TextSent {})),
    ];
    let none = v1::Exclusions { refused: Some(false), ..Default::default() };
    let cases = [
        (v1::Exclusions::default(), vec![0, 2, 3, 4, 5]),
        (none, vec![0, 1, 2, 3, 4, 5]),
        (v1::Exclusions { transferred: Transferred::AnyTime.into(), ..none }, vec![0, 1, 3, 4, 5]),
        (v1::Exclusions { success: true, ..none }, vec![0, 1, 2, 4, 5]),
        (v1::Exclusions { link_opened: true, ..none }, vec![0, 1, 2, 3, 5]),
        (v1::Exclusions { texted: true, ..none }, vec![0, 1, 2, 3, 4]),
        (
            v1::Exclusions {
                refused: Some(true),
                transferred: Transferred::AnyTime.into(),
                success: true,
                link_opened: true,
                texted: true,
            },
            vec![0],
        ),
    ];
    for (exclude, wanted) in cases {
        let name = campaign_with(&mut clients, &facts).await;
        let (got, _) = dispatched(&mut clients, &name, settings(exclude)).await;
        assert_eq!(got, expected(&wanted), "{exclude:?}");
    }
}

#[tokio::test]
async fn transfer_bounds_are_strict() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let facts = [59, 60, 61, 90, 91, 120, 121].map(|seconds| Some(transfer(seconds)));
    let cases = [
        (Transferred::Unspecified, vec![0, 1, 2, 3, 4, 5, 6]),
        (Transferred::Ignore, vec![0, 1, 2, 3, 4, 5, 6]),
        (Transferred::AnyTime, vec![]),
        (Transferred::MoreThan60s, vec![0, 1]),
        (Transferred::MoreThan90s, vec![0, 1, 2, 3]),
        (Transferred::MoreThan120s, vec![0, 1, 2, 3, 4, 5]),
    ];
    for (bound, wanted) in cases {
        let name = campaign_with(&mut clients, &facts).await;
        let exclude = v1::Exclusions { transferred: bound.into(), ..Default::default() };
        let (got, _) = dispatched(&mut clients, &name, settings(exclude)).await;
        assert_eq!(got, expected(&wanted), "{bound:?}");
    }
}

#[tokio::test]
async fn a_rerun_takes_everyone_again_but_the_refused() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = campaign_with(
        &mut clients,
        &[None, Some(opted_out()), Some(Fact::Success(v1::Success {}))],
    )
    .await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    for held in worker.lease(1_000).await {
        let attempt = worker.granted(&held).await;
        worker.end(&held, &attempt, CallOutcome::Answered).await;
    }
    drop(worker);
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    let plain = settings(v1::Exclusions::default());
    let (got, preview) = dispatched(&mut clients, &name, plain).await;
    assert_eq!(got, expected(&[]));
    let finished = ExclusionReason::Finished;
    let counted = preview.removed.iter().find(|removed| removed.reason() == finished);
    assert_eq!(counted.unwrap().contacts, 2);
    clients.wait_for(&name, v1::CampaignState::Completed).await;

    let rerun = v1::LaunchSettings {
        exclude: Some(v1::Exclusions { refused: Some(false), success: true, ..Default::default() }),
        rerun_all_contacts: true,
        ..Default::default()
    };
    let (got, preview) = dispatched(&mut clients, &name, rerun).await;
    assert_eq!(got, expected(&[0, 2]));
    assert!(preview.warnings.iter().any(|warning| warning.contains("success")), "{preview:?}");
    let history = clients.history(&format!("{name}/contacts/2")).await;
    assert!(history.success, "history is kept");
}

#[tokio::test]
async fn a_reset_clears_history_and_opt_outs_but_not_the_suppression_list() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let facts = [Some(opted_out()), Some(Fact::Success(v1::Success {})), None];
    let name = campaign_with(&mut clients, &facts).await;
    let add = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(2)],
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(add).await.unwrap();
    let reset = v1::LaunchSettings {
        exclude: Some(v1::Exclusions { success: true, ..Default::default() }),
        reset_contact_history: true,
        ..Default::default()
    };
    let launch = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings: Some(reset),
        confirm_reset: "spring".to_owned(),
        ..Default::default()
    };
    let status = clients.campaigns.launch_campaign(launch).await.unwrap_err();
    assert_eq!(crate::support::bad_fields(&status), ["confirm_reset"]);
    assert!(clients.history(&format!("{name}/contacts/0")).await.refused, "nothing was cleared");

    let (got, preview) = dispatched(&mut clients, &name, reset).await;
    assert_eq!(got, expected(&[0, 1]));
    assert_eq!(preview.refusals_wiped, 1);
    let history = clients.history(&format!("{name}/contacts/0")).await;
    assert!(!history.refused && history.interactions.is_empty());
    let suppressed = clients.explain(&format!("{name}/contacts/2")).await;
    assert_eq!(suppressed.reason(), ExclusionReason::Suppressed);
    // History that nobody can see any more is deleted in the background.
    let rows = db.client().await;
    crate::support::eventually("old history is deleted", || async {
        let sql = "SELECT (SELECT count(*) FROM interactions WHERE detail <> '')
                + (SELECT count(*) FROM call_reports) + (SELECT count(*) FROM state_blocks)
                + (SELECT count(*) FROM history_purges)";
        (rows.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// P5: a fact reported before a reset and again after it changes nothing, since it was known before. That holds even
/// when the old history is deleted.
#[tokio::test]
async fn facts_of_before_a_reset_do_not_come_back_with_a_repeat() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..3).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    let attempt = worker.granted(&held[0]).await;
    let transferred = transfer(75);
    worker.tell(&held[0], &attempt, "moved", transferred.clone()).await;
    worker.tell(&held[0], &attempt, "in call", opted_out()).await;
    worker.end(&held[0], &attempt, CallOutcome::Answered).await;
    let (second, third) = (format!("{name}/contacts/1"), format!("{name}/contacts/2"));
    clients.record(&second, "stop", opted_out()).await;
    clients.record(&third, "success", Fact::Success(v1::Success {})).await;
    clients.cancel(&name).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;
    let rows = db.client().await;
    crate::support::eventually("old history is deleted", || async {
        let sql = "SELECT count(*) FROM history_purges";
        (rows.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).then_some(())
    })
    .await;

    for (id, fact) in [("moved", transferred), ("in call", opted_out())] {
        let again = worker.tell(&held[0], &attempt, id, fact).await;
        assert_eq!(again, InteractionStatus::Duplicate, "{id}");
    }
    let again = clients.record(&second, "stop", opted_out()).await;
    assert_eq!(again, InteractionStatus::Duplicate);
    let again = clients.record(&third, "success", Fact::Success(v1::Success {})).await;
    assert_eq!(again, InteractionStatus::Duplicate);
    for contact in [&held[0].contact, &second, &third] {
        let history = clients.history(contact).await;
        assert!(!history.refused && !history.success && history.interactions.is_empty());
    }
    // New facts count.
    assert_eq!(clients.record(&second, "stop 2", opted_out()).await, InteractionStatus::Recorded);
    assert!(clients.history(&second).await.refused);
}

#[tokio::test]
async fn a_live_run_takes_contacts_as_they_arrive_and_does_not_end() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients
        .launch_with(&name, v1::LaunchSettings { live_forever: true, ..Default::default() })
        .await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert!(worker.lease(10).await.is_empty());
    clients.add_contacts(&name, 0..2).await;
    let held = worker.batch().await;
    assert_eq!(numbers(&held), expected(&[0, 1]));
    for held in &held {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, CallOutcome::Answered).await;
    }
    // The same holds past the end date.
    let end =
        "UPDATE campaigns SET end_time = now() - interval '1 hour', config = jsonb_set(config,
        '{schedule,end_time}', to_jsonb(now() - interval '1 hour'))";
    db.client().await.batch_execute(end).await.unwrap();
    clients.add_contacts(&name, 2..3).await;
    let held = worker.batch().await;
    assert_eq!(numbers(&held), expected(&[2]));
    worker.granted(&held[0]).await;
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Running);
}

#[tokio::test]
async fn contacts_that_come_after_an_ordinary_launch_wait_for_the_next_run() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    clients.add_contacts(&name, 1..2).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert_eq!(numbers(&worker.lease(10).await), expected(&[0]));
    let explained = clients.explain(&format!("{name}/contacts/1")).await;
    assert_eq!(explained.reason(), ExclusionReason::NotInRun);
    drop(worker);
    clients.cancel(&name).await;
    let (got, _) = dispatched(&mut clients, &name, v1::LaunchSettings::default()).await;
    assert_eq!(got, expected(&[0, 1]));
}

#[tokio::test]
async fn a_launch_on_an_outdated_preview_is_refused() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    let settings = Some(v1::LaunchSettings::default());
    let request = v1::PreviewLaunchRequest { name: name.clone(), settings };
    let preview = clients.campaigns.preview_launch(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        clients.campaigns.preview_launch(request).await.unwrap().into_inner(),
        preview,
        "a preview changes nothing"
    );
    clients.record(&format!("{name}/contacts/0"), "1", opted_out()).await;
    let launch = v1::LaunchCampaignRequest {
        name: name.clone(),
        settings,
        preview_token: preview.preview_token,
        ..Default::default()
    };
    let status = clients.campaigns.launch_campaign(launch).await.unwrap_err();
    assert_eq!(reason(&status), "PREVIEW_OUTDATED");
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Draft);
}

#[tokio::test]
async fn attempts_left_go_on_in_the_next_run_and_what_is_finished_stays() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy {
        no_answer: Some(crate::support::retry(2, 0)),
        busy: Some(crate::support::retry(1, 0)),
        ..Default::default()
    };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    for held in worker.lease(2).await {
        let attempt = worker.granted(&held).await;
        let outcome =
            if held.phone == phone(0) { CallOutcome::NoAnswer } else { CallOutcome::Busy };
        worker.end(&held, &attempt, outcome).await;
    }
    clients.cancel(&name).await;
    clients.launch(&name).await;
    let held = worker.lease(10).await;
    assert_eq!(numbers(&held), expected(&[0]));
    assert_eq!(held[0].attempt_number, 2);
    let attempt = worker.granted(&held[0]).await;
    worker.end(&held[0], &attempt, CallOutcome::NoAnswer).await;
    clients.wait_for(&name, v1::CampaignState::Completed).await;
}
