//! Kept counts: they are what a look at every contact finds, and cost the same for any list.

use crate::support::{
    Clients, Held, Service, TestDb, Worker, id_of, phone, retry, rows_touched, without_chores,
};
use campaign_domain::settings::LaunchSettings;
use campaign_proto::v1;
use campaign_proto::v1::CallOutcome;
use campaign_service::app::kept_counts::KeptCounts;
use campaign_service::store::counts::{self, Survey, View};
use campaign_service::store::{campaigns, checking, kept};
use chrono::TimeDelta;
use std::sync::Arc;
use std::time::Duration;

/// Returns the care for the kept counts of a database, which does nothing by itself.
pub fn counting(db: &TestDb) -> KeptCounts {
    KeptCounts { db: db.db(), metrics: Arc::default() }
}

/// Returns a survey as text that does not depend on the order of classes.
fn text(survey: &Survey) -> Vec<String> {
    let mut lines: Vec<String> = survey.classes.iter().map(|class| format!("{class:?}")).collect();
    lines.sort_unstable();
    lines.push(format!("{:?}", survey.totals));
    lines
}

/// Compares the kept counts with a look at every contact, as the run and possible next runs see
/// them. Returns the first difference.
pub async fn difference(counting: &KeptCounts, name: &str) -> Option<String> {
    let id = id_of(name);
    let mut connection = counting.db.connect().await.unwrap();
    let tx = connection.begin_snapshot().await.unwrap();
    let campaign = campaigns::find(&tx, id).await.unwrap().unwrap();
    let rules = campaign.rules();
    let limit = rules.position_limit;
    let mut views = vec![View { epoch: rules.epoch, run: rules.run, position_limit: limit }];
    for (rerun_all_contacts, reset_contact_history) in
        [(false, false), (true, false), (false, true)]
    {
        let settings =
            LaunchSettings { rerun_all_contacts, reset_contact_history, ..Default::default() };
        let rules = campaign.rules_of_next_run(settings);
        views.push(View { epoch: rules.epoch, run: rules.run, position_limit: None });
    }
    for view in views {
        let exact = text(&counts::survey(&tx, id, view).await.unwrap());
        let Some(kept) = kept::find(&tx, id, view).await.unwrap() else {
            return Some("the counts are not kept".to_owned());
        };
        if text(&kept) != exact {
            return Some(format!("{view:?}: kept {:#?}, counted {exact:#?}", text(&kept)));
        }
    }
    let mends = checking::check(&tx, id).await.unwrap().mends();
    (mends > 0).then(|| format!("a check finds {mends} differences"))
}

async fn assert_same(counting: &KeptCounts, name: &str, when: &str) {
    if let Some(difference) = difference(counting, name).await {
        panic!("{when}: {difference}");
    }
}

async fn suppress(clients: &mut Clients, numbers: &[usize]) {
    let request = v1::AddSuppressionsRequest {
        phone_numbers: numbers.iter().map(|number| phone(*number)).collect(),
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap();
}

async fn report(worker: &mut Worker, held: &[Held], outcome: CallOutcome) {
    let ends = worker.authorize(held).await.into_iter().zip(held);
    let ends = ends.map(|((_, attempt_id), held)| v1::Interaction {
        contact: held.contact.clone(),
        attempt_id,
        fact: Some(v1::interaction::Fact::CallEnded(v1::CallEnded {
            outcome: outcome.into(),
            ..Default::default()
        })),
        ..Default::default()
    });
    let ends: Vec<_> = ends.collect();
    worker.report(ends).await;
}

/// Returns a campaign with contacts of all kinds in a run under way, and the worker that holds some.
async fn busy_campaign(clients: &mut Clients) -> (String, Worker) {
    suppress(clients, &[3, 70]).await;
    let policy = v1::RetryPolicy {
        no_answer: Some(retry(3, 1)),
        busy: Some(retry(3, 3_600)),
        ..Default::default()
    };
    let name = clients.create_campaign_retrying(policy).await;
    clients.add_contacts(&name, 0..60).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(clients, "w", &name).await;
    for outcome in [CallOutcome::Answered, CallOutcome::NoAnswer, CallOutcome::Busy] {
        let held = worker.lease(10).await;
        report(&mut worker, &held, outcome).await;
    }
    worker.lease(5).await;
    clients.add_contacts(&name, 60..80).await;
    (name, worker)
}

#[tokio::test]
async fn kept_counts_are_those_of_every_contact() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let counting = counting(&db);
    let (name, worker) = busy_campaign(&mut clients).await;
    assert_same(&counting, &name, "after calls").await;
    counting.fold(id_of(&name)).await.unwrap();
    assert_same(&counting, &name, "added up").await;
    for position in [0, 15, 25, 59, 75] {
        let contact = format!("{name}/contacts/{position}");
        let request = v1::DeleteContactRequest { name: contact };
        clients.contacts.delete_contact(request).await.unwrap();
    }
    suppress(&mut clients, &[0, 1, 11, 21, 45, 65]).await;
    assert_same(&counting, &name, "after deletions and a longer list").await;
    counting.settle(TimeDelta::zero()).await.unwrap();
    let noted = "SELECT (SELECT count(*) FROM recounts) + (SELECT count(*) FROM relisted_numbers)";
    let client = db.client().await;
    assert_eq!(client.query_one(noted, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_same(&counting, &name, "counted anew").await;
    let remove = v1::RemoveSuppressionRequest {
        name: format!("suppressions/{}", phone(11)),
        ..Default::default()
    };
    clients.contacts.remove_suppression(remove).await.unwrap();
    assert_same(&counting, &name, "after a shorter list").await;
    // The retries after a second are due.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_same(&counting, &name, "once retries are due").await;
    counting.fold(id_of(&name)).await.unwrap();
    counting.settle(TimeDelta::zero()).await.unwrap();
    assert_same(&counting, &name, "added up again").await;
    drop(worker);
}

#[tokio::test]
async fn a_lost_delta_is_found_and_mended() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    let counting = counting(&db);
    let (name, _worker) = busy_campaign(&mut clients).await;
    let id = id_of(&name);
    let client = db.client().await;
    let lose = "DELETE FROM class_deltas WHERE campaign_id = $1 AND due_at > 0";
    assert!(client.execute(lose, &[&id]).await.unwrap() > 0);
    assert!(difference(&counting, &name).await.is_some(), "the loss goes unnoticed");
    assert!(counting.check(id).await.unwrap() > 0);
    assert_same(&counting, &name, "mended").await;
    assert_eq!(counting.check(id).await.unwrap(), 0);
}

/// Counts that are not known to be right are not believed. Every contact is counted once, and from
/// then on the counts are kept.
#[tokio::test]
async fn a_campaign_without_kept_counts_is_counted_once() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let counting = counting(&db);
    let (name, _worker) = busy_campaign(&mut clients).await;
    let before = clients.progress(&name).await;
    let client = db.client().await;
    for table in ["class_deltas", "class_counts", "class_waits", "class_checks"] {
        client.batch_execute(&format!("DELETE FROM {table}")).await.unwrap();
    }
    assert_eq!(clients.progress(&name).await.total, before.total);
    let kept = "SELECT count(*) FROM class_checks WHERE checked_at IS NOT NULL";
    crate::support::eventually("the counts are kept", || async {
        let kept: i64 = client.query_one(kept, &[]).await.unwrap().get(0);
        (kept == 1).then_some(())
    })
    .await;
    assert_same(&counting, &name, "kept").await;
    assert_eq!(clients.progress(&name).await.total, before.total);
}

/// Returns a running campaign with contacts that were called. Half of them are finished, and half wait for a retry.
async fn dialled(db: &TestDb, clients: &mut Clients, contacts: i64) -> String {
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let client = db.client().await;
    let id = id_of(&name);
    let add = "INSERT INTO contacts (campaign_id, position, phone, group_id, display_name, attributes, created_at)
        SELECT campaign_id, n, '+1312' || (2000000 + n), group_id, '', '{}', created_at
        FROM contacts, generate_series(1, $1::int8 - 1) n";
    client.execute(add, &[&contacts]).await.unwrap();
    let count = "UPDATE campaign_counters SET next_position = $1, contacts = $1";
    client.execute(count, &[&contacts]).await.unwrap();
    clients.launch(&name).await;
    // Each block has its own time for retries.
    let dial = "INSERT INTO state_blocks (campaign_id, block, states)
        SELECT $1, block, decode(repeat(repeat('00', 32) || '0100' || '0181' || repeat('00', 4)
            || repeat('00', 12) || substr(due, 15, 2) || substr(due, 13, 2) || substr(due, 11, 2)
            || substr(due, 9, 2) || substr(due, 7, 2) || substr(due, 5, 2) || substr(due, 3, 2)
            || substr(due, 1, 2) || repeat('00', 12) || '0100' || '0102' || repeat('00', 4), 16), 'hex')
        FROM generate_series(0, $2::int8 - 1) AS block,
            LATERAL (SELECT lpad(to_hex((extract(epoch FROM now()) * 1000000)::int8
                + 3600000000 + block * 1000), 16, '0')) AS t(due)";
    client.execute(dial, &[&id, &(contacts / 32)]).await.unwrap();
    for prepare in ["VACUUM ANALYZE", "DELETE FROM class_checks"] {
        client.batch_execute(prepare).await.unwrap();
    }
    let counting = counting(db);
    counting.check(id).await.unwrap();
    counting.fold(id).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let progress = clients.progress(&name).await;
    let attempts = progress.history.unwrap().attempts;
    assert_eq!((progress.total, attempts), (contacts, contacts));
    assert_eq!((progress.waiting, progress.waiting_retry), (0, contacts / 2));
    name
}

/// Returns the rows that a progress and a preview read, of a campaign with so many called contacts.
async fn rows_read(called: i64) -> i64 {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, without_chores()).await;
    let name = dialled(&db, &mut service.clients.clone(), called).await;
    drop(service);
    let (_, before) = rows_touched(&db).await;
    let service = Service::start_with(&db, without_chores()).await;
    let mut clients = service.clients.clone();
    assert_eq!(clients.progress(&name).await.total, called);
    let settings = Some(v1::LaunchSettings::default());
    let request = v1::PreviewLaunchRequest { name, settings };
    clients.campaigns.preview_launch(request).await.unwrap();
    drop((service, clients));
    let (_, after) = rows_touched(&db).await;
    after - before
}

/// Progress and preview read as many rows of any list. `make bench` measures their times, and what watchers of a
/// million contacts cost.
#[tokio::test]
async fn many_dialled_contacts_cost_a_look_what_few_cost() {
    let (few, many) = (rows_read(1_024).await, rows_read(32_768).await);
    assert!(many <= few + 50, "{many} rows for 32,768 contacts, {few} for 1,024");
}
