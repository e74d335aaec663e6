//! Nothing brings an erased person back until the person is re-admitted, and the log says by whom.

use super::*;
use crate::support::hold_gate;

#[tokio::test]
async fn whoever_was_erased_does_not_come_back_until_let() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients).await;
    let live_forever = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, live_forever).await;
    erase(&mut clients).await;
    let report = import(&mut clients, &name, "again").await;
    assert_eq!((report.created, report.rejected, report.next_row), (1, 1, 3), "{report:?}");
    assert!(report.problems[0].reason.contains("erased"), "{report:?}");
    let status = create(&mut clients, &name).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::FailedPrecondition, "PERSON_ERASED".into())
    );
    let routed = call_in(&mut clients, &name).await;
    assert_eq!(routed.reason(), TurnAwayReason::Suppressed, "{routed:?}");
    let listed = suppress(&mut clients).await;
    assert_eq!((listed.added, listed.already_listed), (0, 1));
    assert_eq!(get_entry(&mut clients).await.unwrap().source, "erased");
    assert_eq!(tables_that_know(&db).await, [""; 0]);

    let named = v1::RemoveSuppressionRequest {
        name: entry(),
        reason: format!("{} wrote", phone(PERSON)),
        ..Default::default()
    };
    let status = clients.contacts.remove_suppression(named).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["reason"]);
    assert_eq!(letting_in(&db).await, [""; 0]);
    assert_eq!(lift(&mut clients).await.unwrap().source, "erased");
    assert_eq!(letting_in(&db).await, [format!("{name} bob {}", hash())]);
    assert!(is_audit_intact(&db));
    assert_eq!(get_entry(&mut clients).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(lift(&mut clients).await.unwrap_err().code(), Code::NotFound);
    let contact = create(&mut clients, &name).await.unwrap();
    assert_eq!(contact.name, format!("{name}/contacts/4"), "a new one");
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert!(worker.lease(4).await.iter().any(|held| held.contact == contact.name));
}

/// A replica may go on with an erasure that others have finished. It neither erases a person re-admitted since, nor
/// takes off the list a number listed since.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_again_is_not_erased_by_a_late_comer() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let mut names = [clients.create_campaign().await, clients.create_campaign().await];
    names.sort();
    let id = id_of(&names[0]);
    let mut blocker = db.client().await;
    let tx = blocker.transaction().await.unwrap();
    let hold = "SELECT FROM campaign_counters WHERE campaign_id = $1 FOR UPDATE";
    tx.execute(hold, &[&id]).await.unwrap();
    let mut late = clients.clone();
    let erasing = tokio::spawn(async move { try_to_erase(&mut late).await });
    let client = db.client().await;
    let waits = || async { somebody_waits(&client).await.then_some(()) };
    eventually("it waits before the first campaign", waits).await;
    // Another replica that has passed the earlier campaigns finishes like this.
    let finish = "DELETE FROM suppressions; UPDATE erasures SET phone = NULL";
    client.batch_execute(finish).await.unwrap();
    lift(&mut clients).await.unwrap();
    let contact = create(&mut clients, &names[1]).await.unwrap();
    assert_eq!(suppress(&mut clients).await.added, 1);
    tx.rollback().await.unwrap();
    assert_eq!(erasing.await.unwrap().unwrap().contacts_erased, 0);
    assert_eq!(get_entry(&mut clients).await.unwrap().source, NAME);
    let request = v1::GetContactRequest { name: contact.name };
    let kept = clients.contacts.get_contact(request).await.unwrap().into_inner();
    assert_eq!(kept.phone_number, phone(PERSON));
    assert_eq!(count(&client, "audit_events WHERE command = 'ERASE'").await, 0);
    // Erasing the person again is another erasure.
    assert_eq!(erase(&mut clients).await.contacts_erased, 1);
    assert_eq!(tables_that_know(&db).await, [""; 0]);
}

/// The service dies when half of the logs are written. Nobody is re-admitted without a note, and a repeat goes on.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_in_again_is_noted_first_and_once() {
    let db = TestDb::new().await;
    let folder = Folder::new();
    folder.write("erasure.key", std::str::from_utf8(KEY).unwrap());
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let mut names = [campaign(&mut clients).await, campaign(&mut clients).await];
    names.sort();
    erase(&mut clients).await;
    let (mut dying, mut doomed) = replica(&db, &folder).await;
    let gate = hold_gate(&db, &names[1]).await;
    let lifting = tokio::spawn(async move { lift(&mut doomed).await });
    let told = || async { (letting_in(&db).await.len() == 1).then_some(()) };
    eventually("one log is told", told).await;
    dying.kill();
    lifting.await.unwrap().unwrap_err();
    drop(gate);

    assert_eq!(reason(&create(&mut clients, &names[0]).await.unwrap_err()), "PERSON_ERASED");
    lift(&mut clients).await.unwrap();
    let both: Vec<String> = names.iter().map(|name| format!("{name} bob {}", hash())).collect();
    assert_eq!(letting_in(&db).await, both);
    assert!(is_audit_intact(&db));
    create(&mut clients, &names[0]).await.unwrap();
    // If a person is erased and re-admitted a second time, the log says so a second time.
    erase(&mut clients).await;
    lift(&mut clients).await.unwrap();
    assert_eq!(letting_in(&db).await.len(), 3);
}
