//! Details of the ends of calls may name the person.

use super::{KEY, campaign, ended_by_person, erase, is_person, tables_that_know, with_key};
use crate::support::{Held, Service, TestDb, Worker, without_chores};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_service::eraser::Eraser;
use campaign_service::server::Options;

fn ends(held: &[Held], attempts: &[String]) -> Vec<v1::Interaction> {
    let end = |(held, attempt): (&Held, &String)| v1::Interaction {
        contact: held.contact.clone(),
        attempt_id: attempt.clone(),
        fact: Some(ended_by_person()),
        ..Default::default()
    };
    held.iter().zip(attempts).map(end).collect()
}

/// Dials everybody. Reports all ends at once, each with details.
async fn dial(worker: &mut Worker) -> Vec<Held> {
    let held = worker.lease(3).await;
    let answers = worker.authorize(&held).await;
    let attempts: Vec<String> = answers.into_iter().map(|(_, attempt)| attempt).collect();
    worker.report(ends(&held, &attempts)).await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn the_details_of_a_person_go_and_those_of_others_stay() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = dial(&mut worker).await;
    // In a rerun the person is dialled once more, and history is kept.
    let rerun = v1::LaunchSettings { rerun_all_contacts: true, ..Default::default() };
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    clients.launch_with(&name, rerun).await;
    dial(&mut Worker::connect(&clients, "w2", &name).await).await;

    erase(&mut clients).await;
    for held in held.iter().filter(|held| !is_person(held)) {
        let told = clients.history(&held.contact).await.interactions;
        let of_ends = told.iter().map(|fact| fact.fact.clone());
        let expected = vec![Some(with_no_length(ended_by_person())); 2];
        assert_eq!(of_ends.collect::<Vec<_>>(), expected, "others keep theirs");
    }
    // Nothing else in the database is of the person, so only the others' details are left to look at.
    let clear = "UPDATE call_reports SET details = NULL";
    let before = details(&db).await;
    assert_eq!(before, 2 * 2, "two others, in two runs");
    db.client().await.batch_execute(clear).await.unwrap();
    assert_eq!(tables_that_know(&db).await, [""; 0]);
}

fn with_no_length(fact: Fact) -> Fact {
    match fact {
        Fact::CallEnded(ended) => {
            let duration = Some(prost_types::Duration::default());
            Fact::CallEnded(v1::CallEnded { duration, ..ended })
        }
        other => other,
    }
}

/// Returns how many details are stored.
async fn details(db: &TestDb) -> usize {
    let sql = "SELECT encode(details, 'escape') FROM call_reports WHERE details IS NOT NULL";
    let rows = db.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0).matches(" hung up").count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn details_from_before_a_reset_are_gone_although_nobody_deleted_them_yet() {
    let db = TestDb::new().await;
    // Without chores, what a reset leaves is deleted by nobody else.
    let options = Options { eraser: Some(Eraser::new(KEY).unwrap()), ..without_chores() };
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients).await;
    clients.launch(&name).await;
    dial(&mut Worker::connect(&clients, "w", &name).await).await;
    clients.cancel(&name).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;
    let mut worker = Worker::connect(&clients, "w2", &name).await;
    dial(&mut worker).await;
    assert_eq!(details(&db).await, 6, "three contacts, before and after the reset");
    erase(&mut clients).await;
    assert_eq!(details(&db).await, 2, "those of the others, since the reset");
}
