//! Tenants: one never sees another's data, nor whether there is any.

use crate::support::access::{Guarded, claims};
use crate::support::{Clients, Held, TestDb, Worker, bad_fields, eventually, phone};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction::Fact;
use campaign_service::grpc::methods::METHODS;
use std::collections::{BTreeMap, BTreeSet};
use tonic::{Code, Status};

/// Methods that name no campaign, or whose answer names one only to its owner. They have tests of their own.
const OTHERS: [&str; 11] = [
    "CreateCampaign",
    "ListCampaigns",
    "AddSuppressions",
    "RemoveSuppression",
    "GetSuppression",
    "ListSuppressions",
    "ErasePerson",
    "Dispatch",
    "Check",
    "Watch",
    "ServerReflectionInfo",
];

/// Calls a method, and keeps its error under the method's name.
macro_rules! ask {
    ($said:ident, $clients:ident.$client:ident.$method:ident, $named:literal, $request:expr) => {
        let outcome = $clients.$client.$method($request).await;
        $said.insert($named, outcome.map(|_| ()).unwrap_err());
    };
}

/// Errors by method.
type Said = BTreeMap<&'static str, Status>;

/// Calls every method that names a campaign with this one. Returns their errors.
async fn ask_all(clients: &Clients, name: &str) -> Said {
    let (mut clients, mut said) = (clients.clone(), Said::new());
    ask_of_campaigns(&mut clients, name, &mut said).await;
    ask_of_contacts(&mut clients, name, &mut said).await;
    ask_of_interactions(&mut clients, name, &mut said).await;
    said
}

async fn ask_of_campaigns(clients: &mut Clients, name: &str, said: &mut Said) {
    let name = || name.to_owned();
    let update = v1::UpdateCampaignRequest {
        campaign: Some(v1::Campaign { name: name(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
        ..Default::default()
    };
    let settings = || Some(v1::LaunchSettings::default());
    let preview = v1::PreviewLaunchRequest { name: name(), settings: settings() };
    let launch =
        v1::LaunchCampaignRequest { name: name(), settings: settings(), ..Default::default() };
    let pause = v1::PauseCampaignRequest { name: name(), ..Default::default() };
    let resume = v1::ResumeCampaignRequest { name: name(), ..Default::default() };
    let cancel = v1::CancelCampaignRequest { name: name(), ..Default::default() };
    let delete = v1::DeleteCampaignRequest { name: name(), ..Default::default() };
    let watch = v1::WatchCampaignRequest { name: name(), interval_seconds: 0 };
    let runs = v1::ListRunsRequest { parent: name(), ..Default::default() };
    let audit = v1::ListAuditEventsRequest { parent: name(), ..Default::default() };
    let progress = v1::GetCampaignProgressRequest { name: name() };
    ask!(
        said,
        clients.campaigns.get_campaign,
        "GetCampaign",
        v1::GetCampaignRequest { name: name() }
    );
    ask!(said, clients.campaigns.update_campaign, "UpdateCampaign", update);
    ask!(said, clients.campaigns.preview_launch, "PreviewLaunch", preview);
    ask!(said, clients.campaigns.launch_campaign, "LaunchCampaign", launch);
    ask!(said, clients.campaigns.pause_campaign, "PauseCampaign", pause);
    ask!(said, clients.campaigns.resume_campaign, "ResumeCampaign", resume);
    ask!(said, clients.campaigns.cancel_campaign, "CancelCampaign", cancel);
    ask!(said, clients.campaigns.delete_campaign, "DeleteCampaign", delete);
    ask!(said, clients.campaigns.get_campaign_progress, "GetCampaignProgress", progress);
    ask!(said, clients.campaigns.watch_campaign, "WatchCampaign", watch);
    ask!(said, clients.campaigns.list_runs, "ListRuns", runs);
    ask!(said, clients.campaigns.list_audit_events, "ListAuditEvents", audit);
}

async fn ask_of_contacts(clients: &mut Clients, name: &str, said: &mut Said) {
    let contact = format!("{name}/contacts/0");
    let name = || name.to_owned();
    let header = Part::Header(v1::ImportHeader {
        parent: name(),
        import_id: "0-10".to_owned(),
        default_region: String::new(),
    });
    let import = tokio_stream::once(v1::ImportContactsRequest { part: Some(header) });
    let get_import =
        v1::GetImportRequest { name: format!("{}/imports/0-10", name()), ..Default::default() };
    let new = v1::Contact { phone_number: phone(50), ..Default::default() };
    let create =
        v1::CreateContactRequest { parent: name(), contact: Some(new), ..Default::default() };
    let list = v1::ListContactsRequest { parent: name(), ..Default::default() };
    let update = v1::UpdateContactRequest {
        contact: Some(v1::Contact { name: contact.clone(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
    };
    let history = v1::GetContactHistoryRequest { name: contact.clone(), ..Default::default() };
    let get = v1::GetContactRequest { name: contact.clone() };
    let delete = v1::DeleteContactRequest { name: contact.clone() };
    let explain = v1::ExplainContactRequest { name: contact.clone() };
    ask!(said, clients.contacts.import_contacts, "ImportContacts", import);
    ask!(said, clients.contacts.get_import, "GetImport", get_import);
    ask!(said, clients.contacts.create_contact, "CreateContact", create);
    ask!(said, clients.contacts.get_contact, "GetContact", get);
    ask!(said, clients.contacts.list_contacts, "ListContacts", list);
    ask!(said, clients.contacts.update_contact, "UpdateContact", update);
    ask!(said, clients.contacts.delete_contact, "DeleteContact", delete);
    ask!(said, clients.contacts.get_contact_history, "GetContactHistory", history);
    ask!(said, clients.contacts.explain_contact, "ExplainContact", explain);
}

async fn ask_of_interactions(clients: &mut Clients, name: &str, said: &mut Said) {
    let (parent, contact) = (name.to_owned(), format!("{name}/contacts/0"));
    let reported = v1::ReportedInteraction {
        interaction: Some(success("reported", &contact)),
        phone_number: String::new(),
    };
    let record =
        v1::RecordInteractionsRequest { parent: parent.clone(), interactions: vec![reported] };
    let route =
        v1::RouteInboundRequest { parent, phone_number: phone(0), default_region: String::new() };
    ask!(said, clients.interactions.record_interactions, "RecordInteractions", record);
    ask!(said, clients.interactions.route_inbound, "RouteInbound", route);
}

fn success(id: &str, contact: &str) -> v1::Interaction {
    v1::Interaction {
        interaction_id: id.to_owned(),
        contact: contact.to_owned(),
        fact: Some(Fact::Success(v1::Success {})),
        ..Default::default()
    }
}

const NEVER: &str = "campaigns/01890000-0000-7000-8000-000000000000";

#[tokio::test]
async fn anothers_campaign_is_none() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let mut owner = guarded.clients("acme", &["admin"]);
    let name = owner.create_campaign().await;
    owner.add_contacts(&name, 0..10).await;
    owner.launch(&name).await;
    let before = (owner.campaign(&name).await, owner.progress(&name).await.total);
    for tenant in ["other", "acme2", ""] {
        let stranger = guarded.clients(tenant, &["admin", "reporter"]);
        let (theirs, never) = (ask_all(&stranger, &name).await, ask_all(&stranger, NEVER).await);
        for (method, status) in &theirs {
            assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}");
            let expected = &never[method];
            assert_eq!(status.code(), expected.code(), "{method}");
            assert_eq!(status.message(), expected.message().replace(NEVER, &name), "{method}");
            assert_eq!(status.details(), expected.details(), "{method}");
            assert_eq!(status.metadata().len(), expected.metadata().len(), "{method}");
        }
        let asked: BTreeSet<&str> = theirs.keys().copied().chain(OTHERS).collect();
        let all: BTreeSet<&str> =
            METHODS.iter().map(|method| method.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(asked, all, "a method is asked by no test");
    }
    assert_eq!(before, (owner.campaign(&name).await, owner.progress(&name).await.total));
    let request = v1::ListAuditEventsRequest { parent: name.clone(), ..Default::default() };
    let audit = owner.campaigns.list_audit_events(request).await.unwrap().into_inner();
    assert_eq!(audit.audit_events.len(), 2, "created and launched, nothing else");
}

#[tokio::test]
async fn lists_and_their_pages_are_each_tenants_own() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let roles = &["operator"][..];
    let (mut acme, mut other) = (guarded.clients("acme", roles), guarded.clients("other", roles));
    let mut nobody = guarded.clients("", roles);
    let mut names = BTreeSet::new();
    for _ in 0..3 {
        names.insert(acme.create_campaign().await);
        other.create_campaign().await;
        nobody.create_campaign().await;
    }
    let first = v1::ListCampaignsRequest { page_size: 2, ..Default::default() };
    let page = acme.campaigns.list_campaigns(first).await.unwrap().into_inner();
    let next = v1::ListCampaignsRequest { page_size: 2, page_token: page.next_page_token.clone() };
    let last = acme.campaigns.list_campaigns(next.clone()).await.unwrap().into_inner();
    assert!(last.next_page_token.is_empty());
    let listed = page.campaigns.iter().chain(&last.campaigns);
    assert_eq!(listed.map(|found| found.name.clone()).collect::<BTreeSet<_>>(), names);
    for stranger in [&mut other, &mut nobody] {
        let status = stranger.campaigns.list_campaigns(next.clone()).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["page_token"]);
        let all = v1::ListCampaignsRequest::default();
        let all = stranger.campaigns.list_campaigns(all).await.unwrap().into_inner().campaigns;
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|found| !names.contains(&found.name)));
    }
}

#[tokio::test]
async fn a_request_id_is_its_tenants() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let request = || v1::CreateCampaignRequest {
        campaign: Some(v1::Campaign { display_name: "Spring".to_owned(), ..Default::default() }),
        request_id: "once".to_owned(),
        ..Default::default()
    };
    let mut names = BTreeSet::new();
    for tenant in ["acme", "other", ""] {
        let mut clients = guarded.clients(tenant, &["operator"]);
        let name = clients.campaigns.create_campaign(request()).await.unwrap().into_inner().name;
        let again = clients.campaigns.create_campaign(request()).await.unwrap().into_inner().name;
        assert_eq!(name, again, "{tenant}");
        assert!(names.insert(name), "{tenant}");
        // The same ID from another person of the tenant is another request.
        let mut said = claims(tenant, &["operator"]);
        said["sub"] = "bob".into();
        let mut bob = guarded.clients_with(&guarded.signer.sign(&said));
        let status = bob.campaigns.create_campaign(request()).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["request_id"]);
    }
}

/// Creates and launches a campaign with these contacts. Returns its name.
async fn running(clients: &mut Clients, numbers: std::ops::Range<usize>) -> String {
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, numbers).await;
    clients.launch(&name).await;
    name
}

/// Connects a worker of a tenant that takes contacts from all campaigns it may.
async fn worker(guarded: &Guarded, tenant: &str, leases: Vec<v1::LeaseKey>) -> Worker {
    let hello = v1::Hello {
        worker_id: "worker".to_owned(),
        protocol_version: 1,
        leases,
        ..Default::default()
    };
    let clients = guarded.clients(tenant, &["worker"]);
    Worker::open(&clients, Message::Hello(hello)).await.unwrap()
}

fn campaigns_of(held: &[Held]) -> BTreeSet<&str> {
    held.iter().map(|held| held.contact.split("/contacts/").next().unwrap()).collect()
}

#[tokio::test]
async fn a_worker_gets_contacts_of_its_tenant_only() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let [mut acme, mut other] = ["acme", "other"].map(|t| guarded.clients(t, &["operator"]));
    let theirs = other.create_campaign().await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    other.add_contacts(&theirs, 0..5).await;
    other.launch_with(&theirs, settings).await;
    // Once the service has heard of this pause, it hears of everything.
    let mut of_all = worker(&guarded, "", Vec::new()).await;
    let first = of_all.lease(1).await;
    assert_eq!(campaigns_of(&first), BTreeSet::from([theirs.as_str()]));
    other.pause(&theirs).await;
    of_all.revoked().await;
    other.resume(&theirs).await;
    let mut idle = worker(&guarded, "acme", Vec::new()).await;
    assert!(idle.lease(100).await.is_empty(), "nothing is acme's");
    assert_eq!(of_all.lease(9).await.len(), 4);
    // The idle worker does not notice new contacts of another tenant's campaign. A worker for all gets them at once.
    other.add_contacts(&theirs, 5..10).await;
    let theirs_held = of_all.batch().await;
    assert_eq!(campaigns_of(&theirs_held), BTreeSet::from([theirs.as_str()]));
    for _ in 0..3 {
        assert_eq!(idle.release(&theirs_held[0].lease, Vec::new()).await, 0);
    }
    assert!(!idle.was_told_to_wait());
    // The idle worker gets contacts of its own tenant at once.
    let ours = running(&mut acme, 0..10).await;
    let held = idle.batch().await;
    assert_eq!(campaigns_of(&held), BTreeSet::from([ours.as_str()]));
    assert_eq!(held.len(), 10);
}

#[tokio::test]
async fn a_lease_is_nothing_to_a_worker_of_another_tenant() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let mut owner = guarded.clients("acme", &["operator"]);
    let name = running(&mut owner, 0..10).await;
    let mut holder = worker(&guarded, "acme", Vec::new()).await;
    let held = holder.lease(10).await;
    let attempt = holder.granted(&held[0]).await;
    let key = held[0].lease.clone();
    // Another tenant's worker does not get the lease, even if it somehow knows the key.
    let mut thief = worker(&guarded, "other", vec![key.clone()]).await;
    assert!(thief.welcome.leases[0].lost);
    let answer = thief.authorize_slots(&key, vec![0, 1]).await;
    let lost = v1::AuthorizeDecision::LeaseLost;
    assert!(answer.attempts.iter().all(|attempt| attempt.decision() == lost));
    assert_eq!(thief.release(&key, Vec::new()).await, 0);
    let contact = &held[0].contact;
    let ended = v1::Interaction {
        contact: contact.clone(),
        attempt_id: attempt.clone(),
        fact: Some(Fact::CallEnded(v1::CallEnded {
            outcome: v1::CallOutcome::Answered.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let never = success("made-up", &format!("{NEVER}/contacts/0"));
    let results = thief.report(vec![ended, success("made-up", contact), never]).await;
    let rejected = v1::InteractionStatus::Rejected;
    assert!(results.iter().all(|result| result.status() == rejected), "{results:?}");
    assert_eq!(results[1].message, results[2].message.replace(NEVER, &name));
    let history = owner.history(contact).await;
    assert!(!history.success && history.attempts == 0, "{history:?}");
    let outcome = v1::CallOutcome::Answered;
    assert_eq!(holder.end(&held[0], &attempt, outcome).await, v1::InteractionStatus::Recorded);
}

async fn suppress(clients: &mut Clients, number: usize) -> v1::AddSuppressionsResponse {
    let request = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(number)],
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap().into_inner()
}

async fn listed(clients: &mut Clients) -> Vec<String> {
    let request = v1::ListSuppressionsRequest::default();
    let list = clients.contacts.list_suppressions(request).await.unwrap().into_inner();
    list.suppressions.into_iter().map(|entry| entry.phone_number).collect()
}

#[tokio::test]
async fn a_suppression_holds_for_its_tenant_and_the_installations_for_everybody() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let [mut acme, mut other, mut nobody] =
        ["acme", "other", ""].map(|tenant| guarded.clients(tenant, &["operator", "reporter"]));
    let names = [running(&mut acme, 0..3).await, running(&mut other, 0..3).await];
    assert_eq!(suppress(&mut acme, 0).await.added, 1);
    assert_eq!(suppress(&mut nobody, 1).await.added, 1);
    // Neither tenant learns from the answer that the other has the number on its list.
    for (number, clients) in [(0, &mut other), (1, &mut acme)] {
        let answer = suppress(clients, number).await;
        assert_eq!((answer.added, answer.already_listed), (1, 0));
        let name = format!("suppressions/{}", phone(number));
        let request = v1::RemoveSuppressionRequest { name: name.clone(), ..Default::default() };
        clients.contacts.remove_suppression(request.clone()).await.unwrap();
        let again = clients.contacts.remove_suppression(request).await.unwrap_err();
        let get = v1::GetSuppressionRequest { name };
        let get = clients.contacts.get_suppression(get).await.unwrap_err();
        assert_eq!((again.code(), get.code()), (Code::NotFound, Code::NotFound));
    }
    assert_eq!(listed(&mut acme).await, [phone(0)]);
    assert_eq!(listed(&mut nobody).await, [phone(1)]);
    assert!(listed(&mut other).await.is_empty());
    let standing = v1::ContactStanding::Removed;
    for (clients, name, removed) in
        [(&mut acme, &names[0], [true, true, false]), (&mut other, &names[1], [false, true, false])]
    {
        let total: i64 =
            clients.progress(name).await.removed.iter().map(|count| count.contacts).sum();
        assert_eq!(total, removed.iter().filter(|removed| **removed).count() as i64);
        for (position, removed) in removed.into_iter().enumerate() {
            let explained = clients.explain(&format!("{name}/contacts/{position}")).await;
            assert_eq!(explained.standing() == standing, removed, "{name} {position}");
            let route = v1::RouteInboundRequest {
                parent: name.clone(),
                phone_number: phone(position),
                default_region: String::new(),
            };
            let route = clients.interactions.route_inbound(route).await.unwrap().into_inner();
            let suppressed = route.reason() == v1::TurnAwayReason::Suppressed;
            assert_eq!(suppressed, removed, "{name} {position}");
        }
    }
}

#[tokio::test]
async fn the_trouble_of_a_workers_provider_is_its_tenants() {
    let db = TestDb::new().await;
    let guarded = Guarded::start(&db).await;
    let [mut acme, mut other] = ["acme", "other"].map(|t| guarded.clients(t, &["operator"]));
    let (ours, theirs) = (running(&mut acme, 0..3).await, running(&mut other, 0..3).await);
    let failing = worker(&guarded, "other", Vec::new()).await;
    let report = v1::ProviderReport { failing: true, reason: "secret trunk".to_owned() };
    failing.send(Message::ProviderReport(report)).await;
    eventually("its tenant hears of it", || {
        let (mut other, theirs) = (other.clone(), theirs.clone());
        async move { (other.progress(&theirs).await.idle_message == "secret trunk").then_some(()) }
    })
    .await;
    // When another tenant's worker of the same name leaves, its trouble stays shown.
    drop(worker(&guarded, "acme", Vec::new()).await.close().await);
    assert_eq!(acme.progress(&ours).await.idle_message, "");
    assert_eq!(acme.progress(&ours).await.idle_reason(), v1::IdleReason::NoWorker);
    assert_eq!(other.progress(&theirs).await.idle_message, "secret trunk");
}
