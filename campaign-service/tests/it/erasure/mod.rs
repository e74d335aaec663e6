//! A person is erased everywhere at once, and nothing brings them back.

mod details;
mod dying;
mod importing;
mod keys;
mod lifting;

use crate::support::access::{Folder, Guarded, Signer, key_set, with_tokens};
use crate::support::processes;
use crate::support::{
    Clients, Held, Service, TestDb, Worker, bad_fields, eventually, phone, reason,
};
use crate::support::{PATIENCE, id_of, once, test_options, waits};
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{AuthorizeDecision, CallOutcome, InteractionStatus, TurnAwayReason};
use campaign_service::eraser::Eraser;
use campaign_service::server::Options;
use campaign_service::tokens::KeySource;
use campaign_testkit::{Program, free_port};
use std::path::PathBuf;
use tonic::{Code, Status};

const KEY: &[u8] = b"for tests: nobody else has this key, or knows of it";
const NAME: &str = "Quentin Quillfeather";
/// Number of the person who is erased.
const PERSON: usize = 7;

fn with_key() -> Options {
    Options { eraser: Some(Eraser::new(KEY).unwrap()), ..test_options() }
}

/// Returns a contact of the person.
fn person() -> v1::Contact {
    v1::Contact {
        phone_number: phone(PERSON),
        display_name: NAME.to_owned(),
        attributes: [("wife".to_owned(), "Quintessa".to_owned())].into(),
        ..Default::default()
    }
}

/// Returns an answer. Checks that an error does not name the person.
fn unnamed<T>(answer: Result<tonic::Response<T>, Status>) -> Result<T, Status> {
    answer.map(tonic::Response::into_inner).inspect_err(|status| {
        let said = format!("{status:?}");
        assert!(!said.contains(&phone(PERSON)[1..]) && !said.contains(NAME), "{said}");
    })
}

async fn create(clients: &mut Clients, parent: &str) -> Result<v1::Contact, Status> {
    let request = v1::CreateContactRequest {
        parent: parent.to_owned(),
        contact: Some(person()),
        default_region: String::new(),
    };
    unnamed(clients.contacts.create_contact(request).await)
}

async fn try_to_erase(clients: &mut Clients) -> Result<v1::ErasePersonResponse, Status> {
    let request = v1::ErasePersonRequest {
        phone_number: phone(PERSON),
        actor: "ann".to_owned(),
        reason: "asked for it by letter".to_owned(),
        ..Default::default()
    };
    unnamed(clients.contacts.erase_person(request).await)
}

async fn erase(clients: &mut Clients) -> v1::ErasePersonResponse {
    try_to_erase(clients).await.unwrap()
}

async fn suppress(clients: &mut Clients) -> v1::AddSuppressionsResponse {
    let request = v1::AddSuppressionsRequest {
        phone_numbers: vec![phone(PERSON)],
        source: NAME.to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap().into_inner()
}

fn entry() -> String {
    format!("suppressions/{}", phone(PERSON))
}

async fn get_entry(clients: &mut Clients) -> Result<v1::Suppression, Status> {
    let request = v1::GetSuppressionRequest { name: entry() };
    unnamed(clients.contacts.get_suppression(request).await)
}

async fn lift(clients: &mut Clients) -> Result<v1::Suppression, Status> {
    let request = v1::RemoveSuppressionRequest {
        name: entry(),
        actor: "bob".to_owned(),
        reason: "wants to hear of us again".to_owned(),
    };
    unnamed(clients.contacts.remove_suppression(request).await)
}

/// Imports the person and another contact.
async fn import(clients: &mut Clients, parent: &str, id: &str) -> v1::Import {
    let header = v1::ImportHeader {
        parent: parent.to_owned(),
        import_id: id.to_owned(),
        default_region: String::new(),
    };
    let row = |n| v1::ImportRow { phone_number: phone(n), ..Default::default() };
    let rows = v1::ImportRows { first_row: 1, rows: vec![row(PERSON), row(50)] };
    let parts = [Part::Header(header), Part::Rows(rows)]
        .map(|part| v1::ImportContactsRequest { part: Some(part) });
    clients.contacts.import_contacts(tokio_stream::iter(parts)).await.unwrap().into_inner()
}

async fn call_in(clients: &mut Clients, parent: &str) -> v1::RouteInboundResponse {
    let request = v1::RouteInboundRequest {
        parent: parent.to_owned(),
        phone_number: phone(PERSON),
        default_region: String::new(),
    };
    clients.interactions.route_inbound(request).await.unwrap().into_inner()
}

/// Returns those of all tables in which anything of the person can be read.
async fn tables_that_know(db: &TestDb) -> Vec<String> {
    let number = phone(PERSON).trim_start_matches('+').to_owned();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let as_integer: i64 = number.parse().unwrap();
    let mut wanted: Vec<String> = [number.as_str(), "Quentin", "Quillfeather", "Quintessa"]
        .iter()
        .flat_map(|text| [(*text).to_owned(), hex(text.as_bytes())])
        .collect();
    wanted.extend([hex(&as_integer.to_le_bytes()[..6]), hex(&as_integer.to_be_bytes()[2..])]);
    let client = db.client().await;
    let tables = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND relkind IN ('r', 'm')";
    let tables = client.query(tables, &[]).await.unwrap();
    assert!(tables.len() > 40, "partitions and all: {}", tables.len());
    let mut knowing = Vec::new();
    for table in &tables {
        let table: &str = table.get(0);
        let sql = format!("SELECT row_to_json(t)::text FROM {table} t");
        let rows = client.query(&sql, &[]).await.unwrap();
        let is_known = |row: &tokio_postgres::Row| {
            let text: &str = row.get(0);
            wanted.iter().any(|wanted| text.contains(wanted.as_str()))
        };
        if rows.iter().any(is_known) {
            knowing.push(table.to_owned());
        }
    }
    knowing.sort();
    knowing
}

/// Creates a campaign with the person and two others.
async fn campaign(clients: &mut Clients) -> String {
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..2).await;
    create(clients, &name).await.unwrap();
    name
}

fn is_person(held: &&Held) -> bool {
    held.phone == phone(PERSON)
}

/// Leases all contacts. Returns the person's.
async fn lease(worker: &mut Worker) -> Held {
    worker.lease(3).await.iter().find(is_person).unwrap().clone()
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {sql}"), &[]).await.unwrap().get(0)
}

fn opted_out_by_person() -> Fact {
    Fact::OptedOut(v1::OptedOut { channel: NAME.to_owned(), everywhere: true })
}

/// Returns the end of a call whose details name the person.
fn ended_by_person() -> Fact {
    let reason = format!("{NAME} hung up");
    let provider_call_id = format!("{}@example.com", phone(PERSON));
    let detail = v1::CallEndDetail { reason, provider_call_id, ..Default::default() };
    let outcome = CallOutcome::Answered.into();
    Fact::CallEnded(v1::CallEnded { outcome, detail: Some(detail), ..Default::default() })
}

/// Returns whether any session waits for a lock in the database.
async fn somebody_waits(client: &tokio_postgres::Client) -> bool {
    let waiting =
        "pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    count(client, waiting).await > 0
}

/// Returns the person's hash, which the audit log has.
fn hash() -> String {
    let hash = Eraser::new(KEY).unwrap().hash(&phone(PERSON));
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the campaigns whose logs note a re-admission, with its actor and the person.
async fn letting_in(db: &TestDb) -> Vec<String> {
    let sql = "SELECT 'campaigns/' || campaign_id || ' ' || actor || ' ' || (details ->> 'person')
        FROM audit_events WHERE command = 'LIFT_ERASURE' ORDER BY happened_at";
    db.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn is_audit_intact(db: &TestDb) -> bool {
    let mut command = processes::campaign_service();
    command.args(["verify-audit", "--log", "error"]).env("DATABASE_URL", &db.url);
    command.output().unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_person_in_the_whole_database() {
    let db = TestDb::new().await;
    let mut options = with_key();
    options.limits.max_attempts_per_number = 3;
    let service = Service::start_with(&db, options).await;
    let mut clients = service.clients.clone();
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(campaign(&mut clients).await);
    }
    let [called, held, deleted, unlisted, draft] = &names[..] else { unreachable!() };
    // In one campaign, the person was called and said something that has the name in it.
    clients.launch(called).await;
    let mut worker = Worker::connect(&clients, "w", called).await;
    let contact = lease(&mut worker).await;
    let attempt = worker.granted(&contact).await;
    worker.tell(&contact, &attempt, &phone(PERSON), opted_out_by_person()).await;
    worker.tell(&contact, &attempt, "", ended_by_person()).await;
    lift(&mut clients).await.unwrap();
    // In one campaign, a worker holds the person.
    clients.launch(held).await;
    let mut holder = Worker::connect(&clients, "h", held).await;
    let contact = lease(&mut holder).await;
    // One campaign is deleted. In one, the contact is deleted. In one, the person is in an import twice.
    let request = v1::DeleteCampaignRequest { name: deleted.clone(), ..Default::default() };
    clients.campaigns.delete_campaign(request).await.unwrap();
    let request = v1::DeleteContactRequest { name: format!("{unlisted}/contacts/2") };
    clients.contacts.delete_contact(request).await.unwrap();
    assert_eq!(import(&mut clients, draft, "again").await.duplicates, 1);
    suppress(&mut clients).await;
    let knew = tables_that_know(&db).await;
    for table in ["contacts", "leases", "number_attempts_by_tenant", "suppressions"] {
        assert!(
            knew.contains(&table.to_owned()),
            "{table} must know, or is not looked at: {knew:?}"
        );
    }
    for partitioned in ["interactions_", "call_reports_"] {
        assert!(knew.iter().any(|table| table.starts_with(partitioned)), "{knew:?}");
    }
    let before = clients.progress(called).await.total;

    let erased = erase(&mut clients).await;
    assert_eq!((erased.contacts_erased, erased.interactions_deleted), (5, 1), "{erased:?}");
    assert_eq!(erased.campaigns_searched, 5);
    assert_eq!(tables_that_know(&db).await, ["number_attempts_by_tenant"], "for a day");
    let (decision, _) = holder.authorize(&[contact]).await.remove(0);
    assert_eq!(decision, AuthorizeDecision::Excluded);
    assert_eq!(clients.progress(called).await.total, before - 1);
    for (name, others) in [(called, 2), (held, 2), (unlisted, 2), (draft, 3)] {
        check_that_nobody_is_there(&mut clients, name, others).await;
    }
    let client = db.client().await;
    let noted = format!(
        "audit_events WHERE command = 'ERASE' AND actor = 'ann' AND details->>'person' = '{}'",
        hash()
    );
    assert_eq!(count(&client, &noted).await, 5);
    assert!(is_audit_intact(&db));
    // A second erasure has nothing to do.
    assert_eq!(erase(&mut clients).await.contacts_erased, 0);

    let age =
        "UPDATE number_attempts_by_tenant SET attempted_at = ARRAY[now() - interval '25 hours']";
    client.batch_execute(age).await.unwrap();
    eventually("when it was dialled is forgotten", || async {
        tables_that_know(&db).await.is_empty().then_some(())
    })
    .await;
}

/// Checks that a campaign has `others` and not the person, whose contact had position 2.
async fn check_that_nobody_is_there(clients: &mut Clients, campaign: &str, others: usize) {
    let request = v1::ListContactsRequest { parent: campaign.to_owned(), ..Default::default() };
    let list = clients.contacts.list_contacts(request).await.unwrap().into_inner().contacts;
    assert_eq!(list.len(), others, "{list:?}");
    assert!(list.iter().all(|contact| contact.phone_number.starts_with('+')));
    let request = v1::GetContactRequest { name: format!("{campaign}/contacts/2") };
    let status = clients.contacts.get_contact(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_call_in_progress_ends_and_brings_nothing_back() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let contact = lease(&mut worker).await;
    let attempt = worker.granted(&contact).await;
    erase(&mut clients).await;
    let out = || Fact::OptedOut(v1::OptedOut { channel: NAME.to_owned(), everywhere: true });
    let text = || Fact::TextSent(v1::TextSent {});
    let gone = InteractionStatus::BeforeReset;
    assert_eq!(worker.tell(&contact, &attempt, &phone(PERSON), text()).await, gone);
    assert_eq!(worker.tell(&contact, &attempt, "out", out()).await, gone);
    let answered = CallOutcome::Answered;
    assert_eq!(worker.end(&contact, &attempt, answered).await, InteractionStatus::Recorded);
    // The end is reported once more with the lease, and once without it.
    assert_eq!(worker.end(&contact, &attempt, answered).await, gone);
    worker.release(&contact.lease, Vec::new()).await;
    assert_eq!(worker.end(&contact, &attempt, answered).await, gone);
    assert_eq!(worker.tell(&contact, &attempt, NAME, out()).await, gone);
    assert_eq!(clients.record(&contact.contact, NAME, out()).await, gone);
    assert_eq!(tables_that_know(&db).await, [""; 0]);
    let client = db.client().await;
    assert_eq!(count(&client, "leases").await, 0, "the call is over");
    for empty in ["suppressions", "interactions", "call_reports"] {
        assert_eq!(count(&client, empty).await, 0, "{empty}");
    }
}

#[tokio::test]
async fn an_import_under_way_does_not_slip_through() {
    let db = TestDb::new().await;
    let service = Service::start_with(&db, with_key()).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..1).await;
    // This import looked before the erasure began, and commits later.
    let mut client = db.client().await;
    let id = id_of(&name);
    let tx = client.transaction().await.unwrap();
    let take =
        "UPDATE campaign_counters SET next_position = 2, contacts = 2 WHERE campaign_id = $1";
    tx.execute(take, &[&id]).await.unwrap();
    let mut eraser = clients.clone();
    let erasing = tokio::spawn(async move { erase(&mut eraser).await });
    let watcher = db.client().await;
    let waits = || async { somebody_waits(&watcher).await.then_some(()) };
    eventually("the erasure waits for the import", waits).await;
    let add = "INSERT INTO contacts (campaign_id, position, phone, group_id, display_name, attributes, created_at)
        SELECT campaign_id, 1, $2, group_id, $3, '{}', now() FROM contacts WHERE campaign_id = $1";
    tx.execute(add, &[&id, &phone(PERSON), &NAME]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(erasing.await.unwrap().contacts_erased, 1);
    assert_eq!(tables_that_know(&db).await, [""; 0]);
}

#[tokio::test]
async fn each_tenant_erases_for_itself_and_the_installation_for_everybody() {
    let db = TestDb::new().await;
    let (folder, signer) = (Folder::new(), Signer::new("first"));
    let file = folder.write("keys.json", &key_set(&[&signer]));
    let options = Options { access: with_tokens(KeySource::Jwks(file)), ..with_key() };
    let service = Service::start_with(&db, options).await;
    let guarded = Guarded { service, signer, folder };
    let [mut acme, mut other, mut nobody] =
        ["acme", "other", ""].map(|tenant| guarded.clients(tenant, &["admin"]));
    let (ours, theirs) = (campaign(&mut acme).await, campaign(&mut other).await);
    let status = try_to_erase(&mut guarded.clients("acme", &["operator"])).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);

    let erased = erase(&mut acme).await;
    assert_eq!((erased.contacts_erased, erased.campaigns_searched), (1, 1));
    assert_eq!(create(&mut acme, &ours).await.unwrap_err().code(), Code::FailedPrecondition);
    let request = v1::GetContactRequest { name: format!("{theirs}/contacts/2") };
    let kept = other.contacts.get_contact(request).await.unwrap().into_inner();
    assert_eq!(kept.display_name, NAME);
    assert_eq!(get_entry(&mut other).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(lift(&mut other).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get_entry(&mut nobody).await.unwrap_err().code(), Code::NotFound);
    let another = other.create_campaign().await;
    create(&mut other, &another).await.unwrap();

    suppress(&mut other).await;
    assert_eq!(erase(&mut nobody).await.contacts_erased, 2);
    assert_eq!(tables_that_know(&db).await, [""; 0], "other's list neither");
    lift(&mut nobody).await.unwrap();
    assert_eq!(letting_in(&db).await, [""; 0], "nobody may know the number again yet");
    // A lift by the installation does not undo what its tenants asked for.
    for (clients, name) in [(&mut acme, &ours), (&mut other, &theirs)] {
        assert_eq!(create(clients, name).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(get_entry(clients).await.unwrap().source, "erased");
        lift(clients).await.unwrap();
        create(clients, name).await.unwrap();
    }
    // The log has the actor that the token names.
    let told = letting_in(&db).await;
    assert!(told.iter().all(|told| told.ends_with(&hash()) && !told.contains("bob")), "{told:?}");
    let is_told = |name: &String| told.iter().filter(|told| told.starts_with(name)).count() == 1;
    assert!([ours, theirs, another].iter().all(is_told) && told.len() == 3, "{told:?}");
    assert!(is_audit_intact(&db));
}

/// Starts a replica with the key, which can be killed.
async fn replica(db: &TestDb, folder: &Folder) -> (Program, Clients) {
    replica_with(db, folder.path("erasure.key").to_str().unwrap()).await
}

/// Starts a replica with these key files, separated by commas.
async fn replica_with(db: &TestDb, keys: &str) -> (Program, Clients) {
    let port = free_port();
    let mut service = processes::campaign_service();
    service
        .args(["serve", "--log", "error", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--chore-interval-millis", "50", "--erasure-key-file", keys])
        .env("DATABASE_URL", &db.url);
    let service = Program::start(&mut service).unwrap();
    (service, Clients::connect(&format!("http://127.0.0.1:{port}")).await)
}
