//! Notices between replicas are a courtesy. If a notice cannot be sent, the change is made and seen in another way.

use crate::support::{Clients, Service, TestDb, Worker, phone};
use campaign_proto::v1;
use campaign_proto::v1::AuthorizeDecision as Decision;
use campaign_proto::v1::RevokeReason;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::interaction::Fact;

/// Creates a database that rejects notices from the service's role, and accepts everything else.
async fn without_notices() -> TestDb {
    let mut db = TestDb::new().await;
    let role = db.add_role().await;
    let sql = "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC";
    db.client().await.batch_execute(sql).await.unwrap();
    db.url = role;
    db
}

async fn campaign_with_worker(
    clients: &mut Clients,
) -> (String, Worker, Vec<crate::support::Held>) {
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..20).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(clients, "w", &name).await;
    let held = worker.lease(10).await;
    (name, worker, held)
}

async fn pause_and_hang_up(clients: &mut Clients, name: &str) {
    let request = v1::PauseCampaignRequest {
        name: name.to_owned(),
        hang_up_calls: true,
        ..Default::default()
    };
    clients.campaigns.pause_campaign(request).await.unwrap();
}

#[tokio::test]
async fn stops_opt_outs_and_suppressions_are_done_when_no_notice_can_be_sent() {
    let db = without_notices().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let (name, mut worker, held) = campaign_with_worker(&mut clients).await;

    let opted_out = clients.record(&held[0].contact, "o", Fact::OptedOut(v1::OptedOut::default()));
    assert_eq!(opted_out.await, v1::InteractionStatus::Recorded);
    let suppress = v1::AddSuppressionsRequest {
        phone_numbers: vec![held[1].phone.clone()],
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(suppress).await.unwrap();
    let decisions = worker.authorize(&held[..3]).await;
    let decisions: Vec<Decision> = decisions.into_iter().map(|(decision, _)| decision).collect();
    assert_eq!(decisions[2], Decision::Granted);
    assert!(!decisions[..2].contains(&Decision::Granted), "{decisions:?}");
    // The streams of the same replica are told of everything at once.
    let first = worker.revoked().await;
    assert_eq!((first.reason(), first.contact), (RevokeReason::OptedOut, held[0].contact.clone()));
    assert_eq!(worker.revoked().await.reason(), RevokeReason::Suppressed);
    pause_and_hang_up(&mut clients, &name).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (RevokeReason::Paused, true));
    clients.cancel(&name).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (RevokeReason::Cancelled, true));
}

#[tokio::test]
async fn a_worker_on_another_replica_learns_of_a_stop_when_it_renews() {
    let db = without_notices().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let (name, mut worker, held) = campaign_with_worker(&mut two.clients.clone()).await;
    let renew = || {
        let leases = vec![held[0].lease.clone()];
        Request::Renew(v1::Renew { leases, ..Default::default() })
    };
    pause_and_hang_up(&mut clients, &name).await;
    worker.send(renew()).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (RevokeReason::Paused, true));
    // A stop is told once; a later stop is told again.
    worker.send(renew()).await;
    clients.resume(&name).await;
    worker.send(renew()).await;
    clients.pause(&name).await;
    worker.send(renew()).await;
    let revoke = worker.revoked().await;
    assert_eq!((revoke.reason(), revoke.hang_up), (RevokeReason::Paused, false));
    clients.cancel(&name).await;
    worker.send(renew()).await;
    assert_eq!(worker.revoked().await.reason(), RevokeReason::Cancelled);
    // The last run is over for its leases that are still held when the next run is under way.
    clients.launch(&name).await;
    worker.send(renew()).await;
    let page = v1::GetContactRequest { name: held[0].contact.clone() };
    assert_eq!(
        clients.contacts.get_contact(page).await.unwrap().into_inner().phone_number,
        phone(0)
    );
}
