//! B17: a contact's zone and priority can be corrected at any time, and no contact is met twice.

use super::add_contact;
use crate::support::{Clients, Service, TestDb, Worker, once, phone};
use campaign_proto::v1;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome, ContactStanding};

async fn move_to(clients: &mut Clients, contact: &str, time_zone: &str) {
    let request = v1::UpdateContactRequest {
        contact: Some(v1::Contact {
            name: contact.to_owned(),
            time_zone: time_zone.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["time_zone".to_owned()] }),
    };
    clients.contacts.update_contact(request).await.unwrap();
}

/// Leases all contacts. Returns their phone numbers in order.
async fn take_all(worker: &mut Worker) -> Vec<String> {
    let mut phones: Vec<String> =
        worker.lease(50).await.into_iter().map(|held| held.phone).collect();
    phones.sort_unstable();
    phones
}

#[tokio::test]
async fn a_contact_that_nobody_holds_moves_and_is_met_once() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign_retrying(once()).await;
    let mut contacts = Vec::new();
    for n in 0..6 {
        let zone = if n % 2 == 0 { "Europe/Berlin" } else { "Asia/Tokyo" };
        contacts.push(add_contact(&mut clients, &name, &phone(n), zone).await.unwrap());
    }
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    // The run has passed both groups up to their last contacts, and two contacts are done.
    let held = worker.lease(4).await;
    for held in &held[..2] {
        let attempt = worker.granted(held).await;
        worker.end(held, &attempt, CallOutcome::Answered).await;
    }
    worker.release(&held[2].lease, vec![held[2].slot, held[3].slot]).await;
    for (n, contact) in contacts.iter().enumerate() {
        let zone = ["Asia/Tokyo", "Europe/Berlin", "America/Lima"][n % 3];
        move_to(&mut clients, contact, zone).await;
    }
    let mut wanted: Vec<String> = (0..6).map(phone).collect();
    wanted.retain(|phone| held[..2].iter().all(|held| held.phone != *phone));
    assert_eq!(take_all(&mut worker).await, wanted);
    assert!(take_all(&mut worker).await.is_empty());
}

#[tokio::test]
async fn a_contact_in_a_workers_hands_moves_and_is_not_called_twice() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let again = Some(crate::support::retry(2, 0));
    let policy = v1::RetryPolicy { busy: again, ..once() };
    let name = clients.create_campaign_retrying(policy).await;
    let mut contacts = Vec::new();
    for n in 0..4 {
        contacts.push(add_contact(&mut clients, &name, &phone(n), "Europe/Berlin").await.unwrap());
    }
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(4).await;
    let attempts = [worker.granted(&held[0]).await, worker.granted(&held[1]).await];
    // The run has not looked at the new group, so it meets all four contacts once more.
    for contact in &contacts {
        move_to(&mut clients, contact, "Asia/Tokyo").await;
    }
    // A contact that was not dialled yet is taken from its worker. The worker is told when it asks.
    let (decision, _) = worker.authorize(&held[2..3]).await.remove(0);
    assert_eq!(decision, Decision::SlotClosed);
    let mut second = Worker::connect(&clients, "w2", &name).await;
    assert_eq!(take_all(&mut second).await, [phone(2), phone(3)]);
    let explained = clients.explain(&contacts[0]).await;
    assert_eq!(explained.standing(), ContactStanding::InCall, "{explained:?}");
    // When the calls are over, one contact is done and the other is retried once.
    worker.end(&held[0], &attempts[0], CallOutcome::Answered).await;
    worker.end(&held[1], &attempts[1], CallOutcome::Busy).await;
    assert_eq!(take_all(&mut second).await, [phone(1)]);
    assert!(take_all(&mut second).await.is_empty());
    let due = "SELECT count(*) FROM due_contacts";
    let left: i64 = db.client().await.query_one(due, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "the run would wait for a contact that is done");
}

/// The call is over before the run comes to the contact in its new group.
#[tokio::test]
async fn a_contact_that_moved_in_a_call_is_met_once_after_it() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy { busy: Some(crate::support::retry(2, 0)), ..once() };
    let name = clients.create_campaign_retrying(policy).await;
    let mut contacts = Vec::new();
    for n in 0..2 {
        contacts.push(add_contact(&mut clients, &name, &phone(n), "Europe/Berlin").await.unwrap());
    }
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let attempts = [worker.granted(&held[0]).await, worker.granted(&held[1]).await];
    for contact in &contacts {
        move_to(&mut clients, contact, "Asia/Tokyo").await;
    }
    worker.end(&held[0], &attempts[0], CallOutcome::Answered).await;
    worker.end(&held[1], &attempts[1], CallOutcome::Busy).await;
    assert_eq!(take_all(&mut worker).await, [phone(1)], "both due and ahead, it was taken twice");
    // The contact moves in a call, and a rerun is launched before the call is over. The contact waits only for its end.
    worker.close().await;
    clients.cancel(&name).await;
    clients.launch_with(&name, super::rerun(v1::Exclusions::default())).await;
    let mut worker = Worker::connect(&clients, "w2", &name).await;
    let held = worker.lease(2).await;
    let attempt = worker.granted(&held[0]).await;
    move_to(&mut clients, &held[0].contact, "Europe/Berlin").await;
    clients.cancel(&name).await;
    clients.launch_with(&name, super::rerun(v1::Exclusions::default())).await;
    let mut next = Worker::connect(&clients, "w3", &name).await;
    assert_eq!(take_all(&mut next).await, [held[1].phone.clone()], "the other is in a call");
    worker.end(&held[0], &attempt, CallOutcome::Answered).await;
    assert_eq!(take_all(&mut next).await, [held[0].phone.clone()]);
}
