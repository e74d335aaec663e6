//! Lists of which most contacts are excluded. Each of the others is leased once, in groups of any spread.

use crate::support::{Clients, Service, TestDb, Worker, phone};
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction::Fact;
use std::collections::BTreeSet;

const CONTACTS: usize = 2_000;

/// Returns a contact's zone. One in nine is in a group that is thin in the list; the others share a dense group.
fn zone(n: usize) -> &'static str {
    if n.is_multiple_of(9) { "Europe/Paris" } else { "Europe/Berlin" }
}

/// Returns whether a contact has met the goal: nearly all of the first half, and 24 of 25 of the rest.
fn has_met_the_goal(n: usize) -> bool {
    n < CONTACTS / 2 && !n.is_multiple_of(150) || !n.is_multiple_of(25) && n < CONTACTS - 100
}

async fn import(clients: &Clients, name: &str) {
    let header = v1::ImportHeader {
        parent: name.to_owned(),
        import_id: "list".to_owned(),
        ..Default::default()
    };
    let row = |n| v1::ImportRow {
        phone_number: phone(n),
        time_zone: zone(n).to_owned(),
        ..Default::default()
    };
    let rows = v1::ImportRows { first_row: 1, rows: (0..1_000).map(row).collect() };
    let more = v1::ImportRows { first_row: 1_001, rows: (1_000..CONTACTS).map(row).collect() };
    let parts = [Part::Header(header), Part::Rows(rows), Part::Rows(more)]
        .map(|part| v1::ImportContactsRequest { part: Some(part) });
    clients.contacts.clone().import_contacts(tokio_stream::iter(parts)).await.unwrap();
}

async fn record(clients: &Clients, name: &str, numbers: &[usize]) {
    let success = |n: &usize| v1::ReportedInteraction {
        interaction: Some(v1::Interaction {
            interaction_id: "goal".to_owned(),
            fact: Some(Fact::Success(v1::Success {})),
            ..Default::default()
        }),
        phone_number: phone(*n),
    };
    for numbers in numbers.chunks(500) {
        let interactions = numbers.iter().map(success).collect();
        let request = v1::RecordInteractionsRequest { parent: name.to_owned(), interactions };
        clients.interactions.clone().record_interactions(request).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_is_not_excluded_is_handed_out_once() {
    let db = TestDb::new().await;
    let (one, two) = (Service::start(&db).await, Service::start(&db).await);
    let mut clients = one.clients.clone();
    let name = clients.create_campaign().await;
    import(&clients, &name).await;
    let (met, left): (Vec<usize>, Vec<usize>) = (0..CONTACTS).partition(|n| has_met_the_goal(*n));
    record(&clients, &name, &met).await;
    let exclude = v1::Exclusions { success: true, ..Default::default() };
    let settings = v1::LaunchSettings { exclude: Some(exclude), ..Default::default() };
    clients.launch_with(&name, settings).await;
    // In both groups, some contacts are suppressed, and some are calling in right now.
    let (suppressed, calling) = ([left[5], left[20], 1_125], [left[7], left[22], 1_350]);
    let request = v1::AddSuppressionsRequest {
        phone_numbers: suppressed.iter().map(|n| phone(*n)).collect(),
        source: "test".to_owned(),
        ..Default::default()
    };
    clients.contacts.add_suppressions(request).await.unwrap();
    for n in calling {
        let request = v1::RouteInboundRequest {
            parent: name.clone(),
            phone_number: phone(n),
            default_region: String::new(),
        };
        clients.interactions.route_inbound(request).await.unwrap();
    }
    let mut workers = tokio::task::JoinSet::new();
    // Workers ask for as many contacts as can be found, for one at a time, and for some.
    for (n, credit) in [300, 1, 7, 7, 40].into_iter().enumerate() {
        let clients = if n % 2 == 0 { one.clients.clone() } else { two.clients.clone() };
        let name = name.clone();
        workers.spawn(async move {
            let mut worker = Worker::connect(&clients, &format!("w{n}"), &name).await;
            let mut phones = Vec::new();
            loop {
                let held = worker.lease(credit).await;
                phones.extend(held.iter().map(|held| held.phone.clone()));
                if held.len() < usize::try_from(credit).unwrap() {
                    return phones;
                }
            }
        });
    }
    let phones: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    let wanted = left.iter().filter(|n| !suppressed.contains(n) && !calling.contains(n));
    let wanted: BTreeSet<String> = wanted.map(|n| phone(*n)).collect();
    assert!(wanted.len() > 100, "{}", wanted.len());
    assert_eq!(phones.len(), wanted.len(), "somebody twice, or not at all");
    assert_eq!(phones.into_iter().collect::<BTreeSet<_>>(), wanted);
    // Contacts that are calling in are called later, in the hours of their own group.
    let sql = "SELECT c.phone, d.group_id = c.group_id FROM due_contacts d JOIN contacts c USING
        (campaign_id, position) ORDER BY c.phone";
    let rows = db.client().await.query(sql, &[]).await.unwrap();
    let waiting: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut expected: Vec<(String, bool)> = calling.iter().map(|n| (phone(*n), true)).collect();
    expected.sort();
    assert_eq!(waiting, expected);
}
