//! Contacts one by one, and the suppression list.

use crate::support::{Service, TestDb, Worker, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{ContactStanding, ExclusionReason};
use tonic::Code;

fn new_contact(parent: &str, phone_number: &str) -> v1::CreateContactRequest {
    v1::CreateContactRequest {
        parent: parent.to_owned(),
        contact: Some(v1::Contact { phone_number: phone_number.to_owned(), ..Default::default() }),
        default_region: "US".to_owned(),
    }
}

#[tokio::test]
async fn a_contact_is_one_person_by_number() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let created = clients.contacts.create_contact(new_contact(&name, "(415) 555-0100")).await;
    let created = created.unwrap().into_inner();
    assert_eq!(created.phone_number, "+14155550100");
    let again = new_contact(&name, "+1 415 555 0100");
    let status = clients.contacts.create_contact(again).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains(&created.name), "{status:?}");

    let update = v1::UpdateContactRequest {
        contact: Some(v1::Contact {
            name: created.name.clone(),
            display_name: "Ada".to_owned(),
            time_zone: "Asia/Tokyo".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".to_owned(), "time_zone".to_owned()],
        }),
    };
    let updated = clients.contacts.update_contact(update.clone()).await.unwrap().into_inner();
    assert_eq!((updated.display_name.as_str(), updated.time_zone.as_str()), ("Ada", "Asia/Tokyo"));
    clients.launch(&name).await;
    let mut moved = update;
    moved.contact.as_mut().unwrap().time_zone = String::new();
    let moved = clients.contacts.update_contact(moved).await.unwrap().into_inner();
    assert_eq!(moved.time_zone, "", "also while a run is under way");
}

#[tokio::test]
async fn a_deleted_contact_is_not_dialled_and_comes_back_with_its_refusal() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..2).await;
    let refused = format!("{name}/contacts/0");
    clients.record(&refused, "1", Fact::OptedOut(v1::OptedOut::default())).await;
    for position in 0..2 {
        let delete = v1::DeleteContactRequest { name: format!("{name}/contacts/{position}") };
        clients.contacts.delete_contact(delete).await.unwrap();
    }
    assert_eq!(clients.campaign(&name).await.contact_count, 0);
    clients
        .launch_with(&name, v1::LaunchSettings { live_forever: true, ..Default::default() })
        .await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert!(worker.lease(10).await.is_empty());

    for n in 0..2 {
        let back = clients.contacts.create_contact(new_contact(&name, &phone(n))).await;
        assert_eq!(back.unwrap().into_inner().name, format!("{name}/contacts/{n}"));
    }
    let held = worker.batch().await;
    assert_eq!(held.iter().map(|held| held.phone.clone()).collect::<Vec<_>>(), [phone(1)]);
    assert_eq!(clients.explain(&refused).await.reason(), ExclusionReason::Refused);
}

#[tokio::test]
async fn a_suppressed_number_is_not_authorised_and_comes_back_when_removed() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    clients
        .launch_with(&name, v1::LaunchSettings { live_forever: true, ..Default::default() })
        .await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await;
    let add = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(0), "nonsense".to_owned(), phone(0)],
        source: "registry".to_owned(),
        ..Default::default()
    };
    let added = clients.contacts.add_suppressions(add).await.unwrap().into_inner();
    assert_eq!((added.added, added.already_listed, added.problems.len()), (1, 0, 1));
    assert_eq!(added.problems[0].row, 2);
    let (decision, _) = worker.authorize(&held).await.remove(0);
    assert_eq!(decision, v1::AuthorizeDecision::Excluded);
    assert!(worker.lease(1).await.is_empty());

    let entry = format!("suppressions/{}", phone(0));
    let get = v1::GetSuppressionRequest { name: entry.clone() };
    let found = clients.contacts.get_suppression(get).await.unwrap().into_inner();
    assert_eq!(found.source, "registry");
    let remove = v1::RemoveSuppressionRequest { name: entry.clone(), ..Default::default() };
    clients.contacts.remove_suppression(remove.clone()).await.unwrap();
    let status = clients.contacts.remove_suppression(remove).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(!format!("{status:?}").contains(&entry), "errors end in logs: {status:?}");
    let held = worker.batch().await;
    worker.granted(&held[0]).await;
}

#[tokio::test]
async fn a_contact_is_explained_at_every_stage() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let contact = format!("{name}/contacts/0");
    let draft = clients.explain(&contact).await;
    assert_eq!(draft.standing(), ContactStanding::Waiting);
    assert!(draft.message.contains("never launched"), "{}", draft.message);
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(1).await.remove(0);
    assert_eq!(clients.explain(&contact).await.standing(), ContactStanding::Leased);
    let attempt = worker.granted(&held).await;
    assert_eq!(clients.explain(&contact).await.standing(), ContactStanding::InCall);
    worker.end(&held, &attempt, v1::CallOutcome::NoAnswer).await;
    let waiting = clients.explain(&contact).await;
    assert_eq!(waiting.standing(), ContactStanding::WaitingRetry);
    assert!(waiting.next_attempt_time.is_some());
    let history = clients.history(&contact).await;
    assert_eq!((history.attempts, history.last_outcome()), (1, v1::CallOutcome::NoAnswer));
    worker.tell(&held, &attempt, "o", Fact::OptedOut(v1::OptedOut::default())).await;
    let removed = clients.explain(&contact).await;
    assert_eq!(removed.standing(), ContactStanding::Removed);
    assert_eq!(removed.reason(), ExclusionReason::Refused);
}

#[tokio::test]
async fn history_comes_in_pages() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    let contact = format!("{name}/contacts/0");
    for n in 0..5 {
        clients.record(&contact, &format!("text-{n}"), Fact::TextSent(v1::TextSent {})).await;
    }
    let mut request =
        v1::GetContactHistoryRequest { name: contact, page_size: 2, ..Default::default() };
    let mut ids = Vec::new();
    loop {
        let page =
            clients.contacts.get_contact_history(request.clone()).await.unwrap().into_inner();
        ids.extend(page.interactions.into_iter().map(|interaction| interaction.interaction_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids, ["text-0", "text-1", "text-2", "text-3", "text-4"]);
}
