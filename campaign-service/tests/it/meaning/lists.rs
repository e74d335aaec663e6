//! The suppression list: its audit log, the right to remove numbers, and its effect on previews.

use super::{add_contact, add_first, everywhere, report_by_number, suppress, unsuppress};
use crate::support::access::Guarded;
use crate::support::{Clients, Service, TestDb, Worker, phone, reason};
use campaign_proto::v1;
use campaign_proto::v1::{ExclusionReason, InteractionStatus};
use tonic::Code;

async fn events(clients: &mut Clients, parent: &str) -> Vec<v1::AuditEvent> {
    let request = v1::ListAuditEventsRequest { parent: parent.to_owned(), ..Default::default() };
    clients.campaigns.list_audit_events(request).await.unwrap().into_inner().audit_events
}

/// B10: every change of the list is in a log that only grows, with actor, reason and source.
#[tokio::test]
async fn changes_of_the_list_are_audited() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let request = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(0), phone(1)],
        source: "letter".to_owned(),
        actor: "ann".to_owned(),
        reason: "weekly list".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request.clone()).await.unwrap();
    // If nothing changes, nothing is noted.
    clients.contacts.add_suppressions(request).await.unwrap();
    let remove = v1::RemoveSuppressionRequest {
        name: format!("suppressions/{}", phone(1)),
        actor: "bob".to_owned(),
        reason: "typed wrongly".to_owned(),
    };
    clients.contacts.remove_suppression(remove).await.unwrap();

    let log = events(&mut clients, "suppressions").await;
    let seen: Vec<[&str; 4]> = log
        .iter()
        .map(|event| [&*event.command, &*event.actor, &*event.reason, &*event.source])
        .collect();
    let removed = ["UNSUPPRESS", "bob", "typed wrongly", "letter"];
    let added = ["SUPPRESS", "ann", "weekly list", "letter"];
    assert_eq!(seen, [removed, added]);
    let of_number = events(&mut clients, &format!("suppressions/{}", phone(0))).await;
    assert_eq!(of_number.len(), 1, "{of_number:?}");
    assert_eq!(of_number[0].name, "suppressions/auditEvents/1");
    // The events are part of the hash chain, and cannot be changed.
    let sql = "UPDATE audit_events SET actor = 'eve'";
    assert!(db.client().await.batch_execute(sql).await.is_err());
    let list = campaign_service::store::audit::list_log(&Default::default());
    let verified =
        campaign_service::app::campaigns::auditing::verify(&db.db(), list).await.unwrap();
    assert_eq!((verified.events, verified.without_hash, verified.findings.len()), (2, 0, 0));
}

/// B10: an operator cannot take an opted-out person off the list.
#[tokio::test]
async fn only_an_admin_takes_off_whom_a_person_put_on() {
    let db = TestDb::new().await;
    let service = Guarded::start(&db).await;
    let mut operator = service.clients("acme", &["operator", "reporter"]);
    let mut admin = service.clients("acme", &["admin"]);
    let name = operator.create_campaign().await;
    operator.add_contacts(&name, 0..3).await;
    // The opt-outs are of a contact, of a number that the operator listed before, and by the API's own field.
    suppress(&mut operator, &phone(1)).await;
    for n in 0..2 {
        let told = report_by_number(&mut operator, &name, &phone(n), everywhere()).await;
        assert_eq!(told.status(), InteractionStatus::Recorded, "{told:?}");
    }
    let wish = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(2)],
        source: "phone call".to_owned(),
        opted_out: true,
        ..Default::default()
    };
    operator.contacts.add_suppressions(wish).await.unwrap();
    suppress(&mut operator, &phone(3)).await;
    for n in 0..3 {
        let status = unsuppress(&mut operator, &phone(n)).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{n} {status:?}");
        assert_eq!(reason(&status), "ROLE_MISSING");
        assert!(unsuppress(&mut admin, &phone(n)).await.unwrap().opted_out);
    }
    assert!(!unsuppress(&mut operator, &phone(3)).await.unwrap().opted_out);
}

/// B11: a person opts out of everything from a number that is no contact yet.
#[tokio::test]
async fn a_stranger_who_opts_out_of_everything_is_suppressed() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    for wanted in [InteractionStatus::Recorded, InteractionStatus::Duplicate] {
        let told = report_by_number(&mut clients, &name, &phone(0), everywhere()).await;
        assert_eq!(told.status(), wanted, "{told:?}");
    }
    let plain = v1::interaction::Fact::OptedOut(v1::OptedOut::default());
    let told = report_by_number(&mut clients, &name, &phone(1), plain).await;
    assert_eq!(told.status(), InteractionStatus::Rejected);
    assert!(told.message.contains("everywhere"), "{told:?}");
    // The number is imported the next day.
    let contact = add_first(&mut clients, &name).await;
    clients.launch(&name).await;
    assert_eq!(clients.explain(&contact).await.reason(), ExclusionReason::Suppressed);
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert!(worker.lease(5).await.is_empty());
}

async fn preview(clients: &mut Clients, name: &str) -> v1::PreviewLaunchResponse {
    let request =
        v1::PreviewLaunchRequest { name: name.to_owned(), settings: Some(Default::default()) };
    clients.campaigns.preview_launch(request).await.unwrap().into_inner()
}

async fn launch_as_seen(
    clients: &mut Clients,
    name: &str,
    token: &str,
) -> Result<(), tonic::Status> {
    let request = v1::LaunchCampaignRequest {
        name: name.to_owned(),
        preview_token: token.to_owned(),
        settings: Some(Default::default()),
        ..Default::default()
    };
    clients.campaigns.launch_campaign(request).await.map(drop)
}

/// B8: a launch on an outdated preview is rejected. Suppressions of people outside the campaign do not outdate it.
#[tokio::test]
async fn a_preview_is_outdated_by_its_own_contacts_suppressions_only() {
    let db = TestDb::new().await;
    let service = Guarded::start(&db).await;
    let mut acme = service.clients("acme", &["admin"]);
    let mut installation = service.clients("", &["admin"]);
    let mut other = service.clients("other", &["admin"]);
    let name = acme.create_campaign().await;
    acme.add_contacts(&name, 0..3).await;
    let outdated = async |acme: &mut Clients, token: &str| {
        let status = launch_as_seen(acme, &name, token).await.unwrap_err();
        assert_eq!(reason(&status), "PREVIEW_OUTDATED", "{status:?}");
    };
    let seen = preview(&mut acme, &name).await;
    assert_eq!(seen.eligible, 3);
    suppress(&mut acme, &phone(0)).await;
    outdated(&mut acme, &seen.preview_token).await;
    let seen = preview(&mut acme, &name).await;
    assert_eq!(seen.eligible, 2);
    suppress(&mut installation, &phone(1)).await;
    outdated(&mut acme, &seen.preview_token).await;
    let seen = preview(&mut acme, &name).await;
    unsuppress(&mut acme, &phone(0)).await.unwrap();
    outdated(&mut acme, &seen.preview_token).await;

    let seen = preview(&mut acme, &name).await;
    assert_eq!(seen.eligible, 2);
    suppress(&mut other, &phone(2)).await;
    suppress(&mut acme, &phone(77)).await;
    launch_as_seen(&mut acme, &name, &seen.preview_token).await.unwrap();
    for bad in ["x", "x.1", "x.1.2", "0.0.0", "\u{1F980}.1.1"] {
        acme.cancel(&name).await;
        let _ = add_contact(&mut acme, &name, &phone(3), "").await;
        outdated(&mut acme, bad).await;
        acme.launch(&name).await;
    }
}
