//! The hot statements probe by key, whatever the statistics say. The tables that grow with the list are never
//! read from end to end. Not many more of their rows are read than are leased.

use crate::support::{Service, TestDb, Worker, until_alone};
use campaign_domain::access::Tenant;
use campaign_domain::lease::AttemptId;
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::{AuthorizeDecision as Decision, CallOutcome};
use campaign_service::store::{Gate, due, leases, suppressions};
use std::collections::BTreeMap;
use uuid::Uuid;

const CONTACTS: i64 = 6_000;
const LEASED: usize = 1_000;
/// Contacts held by another worker, a hundred in a lease.
const HELD: i32 = 4_000;

/// Returns the rows read by scans of whole tables, and those read through indexes, by table.
async fn rows_read(db: &TestDb) -> BTreeMap<String, (i64, i64)> {
    let client = db.client().await;
    until_alone(&client).await;
    let sql = "SELECT regexp_replace(t.relname, '_[0-9]+$', ''), sum(t.seq_tup_read)::int8,
            sum((SELECT sum(i.idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid))::int8
        FROM pg_stat_user_tables t GROUP BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    let read = |row: &tokio_postgres::Row| {
        (row.get(0), (row.get(1), row.get::<_, Option<i64>>(2).unwrap_or(0)))
    };
    rows.iter().map(read).collect()
}

async fn import(service: &Service, parent: &str) {
    let header =
        v1::ImportHeader { parent: parent.to_owned(), import_id: "a".into(), ..Default::default() };
    let row = |n| v1::ImportRow {
        phone_number: format!("+1212{:07}", 2_000_000 + n),
        time_zone: if n % 3 == 0 { "Europe/Paris".into() } else { String::new() },
        ..Default::default()
    };
    let chunks = (0..CONTACTS).step_by(1_000).map(|first| {
        let rows = (first..first + 1_000).map(row).collect();
        Part::Rows(v1::ImportRows { first_row: first + 1, rows })
    });
    let parts: Vec<_> = std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| v1::ImportContactsRequest { part: Some(part) })
        .collect();
    let mut contacts = service.clients.contacts.clone();
    let import = contacts.import_contacts(tokio_stream::iter(parts)).await.unwrap();
    assert_eq!(import.into_inner().created, CONTACTS);
}

/// Leases, authorises and reports a part of the list, while another worker holds many leases.
async fn work(service: &Service, name: &str) {
    let mut other = Worker::connect(&service.clients, "other", name).await;
    other.lease(HELD).await;
    let mut worker = Worker::connect(&service.clients, "w", name).await;
    let held = worker.lease(i32::try_from(LEASED).unwrap()).await;
    assert_eq!(held.len(), LEASED);
    let decisions = worker.authorize(&held).await;
    let mut ends = Vec::new();
    for (n, (held, (decision, attempt_id))) in held.iter().zip(decisions).enumerate() {
        assert_eq!(decision, Decision::Granted);
        let outcome = if n % 2 == 0 { CallOutcome::Answered } else { CallOutcome::NoAnswer };
        ends.push(v1::Interaction {
            contact: held.contact.clone(),
            attempt_id,
            fact: Some(v1::interaction::Fact::CallEnded(v1::CallEnded {
                outcome: outcome.into(),
                ..Default::default()
            })),
            ..Default::default()
        });
    }
    for end in &mut ends[..20] {
        let mut fact = end.clone();
        fact.interaction_id = "won".to_owned();
        fact.fact = Some(v1::interaction::Fact::Success(v1::Success {}));
        worker.report(vec![fact]).await;
    }
    worker.report(ends).await;
    worker.close().await;
    drop(other);
}

#[tokio::test]
async fn hot_statements_probe_by_key_whatever_the_statistics_say() {
    for is_analyzed in [false, true] {
        let db = TestDb::new().await;
        let service = Service::start(&db).await;
        let mut clients = service.clients.clone();
        let name = clients.create_campaign().await;
        import(&service, &name).await;
        if is_analyzed {
            db.client().await.batch_execute("ANALYZE").await.unwrap();
        }
        drop((service, clients));
        let before = rows_read(&db).await;
        let service = Service::start(&db).await;
        let mut clients = service.clients.clone();
        clients.launch(&name).await;
        work(&service, &name).await;
        drop((service, clients));
        let after = rows_read(&db).await;
        let read = |table: &str| {
            let (before, after) = (before[table], after[table]);
            (after.0 - before.0, after.1 - before.1)
        };
        let leased = i64::try_from(LEASED).unwrap() + i64::from(HELD);
        // Most rows by index for each leased contact, with room for rows that are read twice.
        for (table, most) in [
            ("contacts", 5.0),
            ("state_blocks", 1.0),
            ("number_attempts", 2.0),
            ("due_contacts", 3.0),
            ("interactions", 0.1),
            ("call_reports", 0.1),
            ("authorizations", 0.1),
            ("frontiers", 0.1),
            ("leases", 0.1),
        ] {
            let (by_scan, by_index) = read(table);
            assert_eq!(by_scan, 0, "{table} was read from end to end (analysed: {is_analyzed})");
            let each = by_index as f64 / leased as f64;
            assert!(
                each <= most,
                "{each} rows of {table} for each contact (analysed: {is_analyzed})"
            );
        }
    }
}

/// A page of one tenant's campaigns is read without those of other tenants, however many newer ones they have.
#[tokio::test]
async fn a_page_of_campaigns_is_read_without_those_of_other_tenants() {
    for is_analyzed in [false, true] {
        let db = TestDb::new().await;
        let service = Service::start(&db).await;
        let mut clients = service.clients.clone();
        for _ in 0..5 {
            clients.create_campaign().await;
        }
        drop((service, clients));
        let others = "INSERT INTO campaigns (campaign_id, config, tenant, created_at, updated_at)
            SELECT gen_random_uuid(), '{}', 'other', now() + n * interval '1 second', now()
            FROM generate_series(1, 3000) n";
        db.client().await.batch_execute(others).await.unwrap();
        if is_analyzed {
            db.client().await.batch_execute("ANALYZE").await.unwrap();
        }
        let before = rows_read(&db).await["campaigns"];
        let service = Service::start(&db).await;
        let mut clients = service.clients.clone();
        // The statement runs often enough that its plan is kept.
        for _ in 0..10 {
            let request = v1::ListCampaignsRequest { page_size: 2, ..Default::default() };
            let page = clients.campaigns.list_campaigns(request).await.unwrap().into_inner();
            assert_eq!(page.campaigns.len(), 2);
        }
        drop((service, clients));
        let after = rows_read(&db).await["campaigns"];
        assert_eq!(after.0 - before.0, 0, "read from end to end (analysed: {is_analyzed})");
        let read = after.1 - before.1;
        assert!(read <= 100, "{read} rows for ten pages of two (analysed: {is_analyzed})");
    }
}

/// Due contacts are chosen once, even if the planner believes that there is only one. Contacts taken beyond the
/// requested number would be lost.
#[tokio::test]
async fn no_more_is_taken_off_the_list_than_was_asked_for() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let one_each = "INSERT INTO due_contacts (campaign_id, position, run, group_id, due_at)
        SELECT gen_random_uuid(), 0, 1, 1, now() FROM generate_series(1, 30); ANALYZE due_contacts";
    client.batch_execute(one_each).await.unwrap();
    let ten = "INSERT INTO due_contacts (campaign_id, position, run, group_id, due_at)
        SELECT $1, n, 1, 1, now() - interval '1 hour' + n * interval '1 second' FROM generate_series(1, 10) AS n";
    let campaign = Uuid::new_v4();
    client.execute(ten, &[&campaign]).await.unwrap();
    let store = db.db();
    let mut connection = store.connect().await.unwrap();
    let tx = connection.begin(Gate::Open).await.unwrap();
    let mut taken = due::take(&tx, campaign, 1, &[1], 3).await.unwrap();
    taken.sort_unstable();
    assert_eq!(taken, [(1, 1), (2, 1), (3, 1)]);
}

/// The last page costs as much as the first.
#[tokio::test]
async fn a_page_of_a_long_list_reads_no_more_than_itself() {
    let db = TestDb::new().await;
    let fill = "INSERT INTO suppressions (tenant, phone, source, created_at)
        SELECT '', '+1' || (2125550000 + n), 'test', now() FROM generate_series(1, 5000) n";
    db.client().await.batch_execute(fill).await.unwrap();
    {
        let store = db.db();
        let mut connection = store.connect().await.unwrap();
        let tx = connection.begin(Gate::Open).await.unwrap();
        let last = Some("+12125554990");
        let page = suppressions::list(&tx, &Tenant::default(), last, 10).await.unwrap();
        assert_eq!(page.len(), 10);
    }
    let (_, through_index) = rows_read(&db).await["suppressions"];
    assert!(through_index <= 20, "{through_index} rows read for 10");
}

/// The time of an attempt is found without the other attempts of its run.
#[tokio::test]
async fn the_time_of_an_attempt_is_found_by_its_lease() {
    for is_analyzed in [false, true] {
        let db = TestDb::new().await;
        let campaign = Uuid::new_v4();
        let fill = "INSERT INTO authorizations (campaign_id, lease, run, authorized_at, slots, positions)
            SELECT $1, n, 1, now(), '{0, 1}', ARRAY[2 * n, 2 * n + 1] FROM generate_series(1, 3000) n";
        db.client().await.execute(fill, &[&campaign]).await.unwrap();
        if is_analyzed {
            db.client().await.batch_execute("ANALYZE").await.unwrap();
        }
        let before = rows_read(&db).await["authorizations"];
        {
            let store = db.db();
            let mut connection = store.connect().await.unwrap();
            let tx = connection.begin(Gate::Open).await.unwrap();
            // The statement runs often enough that its plan is kept.
            for lease in 1..=10 {
                let attempt = AttemptId { run: 1, lease: 100 * lease, slot: 1 };
                let asked = [(attempt, 200 * lease + 1)];
                let found = leases::authorized_at(&tx, campaign, &asked).await.unwrap();
                assert_eq!(found.keys().collect::<Vec<_>>(), [&attempt]);
            }
        }
        let after = rows_read(&db).await["authorizations"];
        assert_eq!(after.0 - before.0, 0, "read from end to end (analysed: {is_analyzed})");
        let read = after.1 - before.1;
        assert!(read <= 20, "{read} rows for ten attempts (analysed: {is_analyzed})");
    }
}
