//! Imports: files that people export, broken streams, and many at once.

use crate::support::{Clients, Service, TestDb, Worker, bad_fields, phone};
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use tonic::Status;

fn header(parent: &str, import_id: &str) -> Part {
    Part::Header(v1::ImportHeader {
        parent: parent.to_owned(),
        import_id: import_id.to_owned(),
        default_region: "US".to_owned(),
    })
}

fn rows(first_row: i64, phones: &[&str]) -> Part {
    let row =
        |phone: &&str| v1::ImportRow { phone_number: (*phone).to_owned(), ..Default::default() };
    Part::Rows(v1::ImportRows { first_row, rows: phones.iter().map(row).collect() })
}

async fn import(clients: &mut Clients, parts: Vec<Part>) -> Result<v1::Import, Status> {
    let parts = parts.into_iter().map(|part| v1::ImportContactsRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    Ok(clients.contacts.import_contacts(tokio_stream::iter(parts)).await?.into_inner())
}

#[tokio::test]
async fn bad_and_duplicate_rows_are_named_and_stop_nothing() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let mut with_zone = v1::ImportRow {
        phone_number: "+1 415 555 0103".to_owned(),
        time_zone: "Mars/Olympus".to_owned(),
        ..Default::default()
    };
    let mut chunk = vec![with_zone.clone()];
    with_zone.time_zone = " Europe/Paris ".to_owned();
    chunk.push(with_zone);
    let parts = vec![
        header(&name, "a"),
        rows(1, &["(415) 555-0100", "", "415.555.0100", "12", "+44 20 7946 0018"]),
        Part::Rows(v1::ImportRows { first_row: 6, rows: chunk }),
        rows(8, &["1-415-555-0100", "+1 415 555 0104 ext 9"]),
    ];
    let done = import(&mut clients, parts).await.unwrap();
    assert_eq!((done.created, done.duplicates, done.rejected, done.next_row), (3, 2, 4, 10));
    let told: Vec<_> =
        done.problems.iter().map(|problem| (problem.row, problem.field.as_str())).collect();
    let phone = "phone_number";
    assert_eq!(
        told,
        [(2, phone), (3, phone), (4, phone), (6, "time_zone"), (8, phone), (9, phone)]
    );
    assert!(done.problems.iter().all(|problem| !problem.reason.is_empty()));

    let list = v1::ListContactsRequest { parent: name, page_size: 2, ..Default::default() };
    let page = clients.contacts.list_contacts(list.clone()).await.unwrap().into_inner();
    let next = v1::ListContactsRequest { page_token: page.next_page_token, ..list };
    let last = clients.contacts.list_contacts(next).await.unwrap().into_inner();
    assert!(last.next_page_token.is_empty());
    let numbers: Vec<_> =
        page.contacts.iter().chain(&last.contacts).map(|c| c.phone_number.as_str()).collect();
    assert_eq!(numbers, ["+14155550100", "+442079460018", "+14155550103"]);
    assert_eq!(last.contacts[0].time_zone, "Europe/Paris");
}

#[tokio::test]
async fn an_import_cut_in_half_resumes_without_duplicates() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let phones: Vec<String> = (0..40).map(phone).collect();
    let phones: Vec<&str> = phones.iter().map(String::as_str).collect();

    // The stream breaks after two chunks: the second part of the third never arrives.
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    for part in [header(&name, "cut"), rows(1, &phones[..10]), rows(11, &phones[10..20])] {
        sender.send(v1::ImportContactsRequest { part: Some(part) }).await.unwrap();
    }
    let mut other = clients.contacts.clone();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let broken = tokio::spawn(async move { other.import_contacts(stream).await });
    let import_name = format!("{name}/imports/cut");
    let get = v1::GetImportRequest { name: import_name, ..Default::default() };
    let next_row = crate::support::eventually("two chunks are committed", || {
        let (mut clients, get) = (clients.clone(), get.clone());
        async move {
            let import = clients.contacts.get_import(get).await.ok()?.into_inner();
            (import.next_row == 21).then_some(import.next_row)
        }
    })
    .await;
    broken.abort();
    drop(sender);

    let rest = usize::try_from(next_row).unwrap() - 1;
    let parts = vec![header(&name, "cut"), rows(next_row, &phones[rest..])];
    let done = import(&mut clients, parts).await.unwrap();
    assert_eq!((done.created, done.duplicates, done.next_row), (40, 0, 41));
    // The whole list again changes nothing.
    let again = import(&mut clients, vec![header(&name, "cut"), rows(1, &phones)]).await.unwrap();
    assert_eq!((again.created, again.duplicates, again.next_row), (40, 0, 41));
    assert_eq!(clients.campaign(&name).await.contact_count, 40);

    let gap = import(&mut clients, vec![header(&name, "cut"), rows(50, &phones[..1])]).await;
    assert_eq!(bad_fields(&gap.unwrap_err()), ["rows.first_row"]);
}

/// Positions that are committed out of order must not fall behind a run's frontier.
#[tokio::test]
async fn no_contact_of_concurrent_imports_is_lost_to_a_live_run() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients
        .launch_with(&name, v1::LaunchSettings { live_forever: true, ..Default::default() })
        .await;
    let mut imports = tokio::task::JoinSet::new();
    for stream in 0..4_usize {
        let (mut clients, name) = (service.clients.clone(), name.clone());
        imports.spawn(async move {
            for chunk in 0..20 {
                let first = stream * 200 + chunk * 10;
                clients.add_contacts(&name, first..first + 10).await;
            }
        });
    }
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let mut numbers = std::collections::BTreeSet::new();
    let mut held = worker.lease(801).await;
    loop {
        for held in held {
            assert!(numbers.insert(held.phone.clone()), "leased twice");
        }
        if numbers.len() == 800 {
            break;
        }
        held = worker.batch().await;
    }
    imports.join_all().await;
    assert_eq!(clients.progress(&name).await.leased, 800);
}

/// Groups are numbered like contacts: one at a time, across all imports.
#[tokio::test]
async fn a_new_zone_waits_for_an_import_that_makes_another() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let parent = clients.create_campaign().await;
    // This transaction stands for an import that is not committed yet.
    let mut other = db.client().await;
    let import = other.transaction().await.unwrap();
    import.batch_execute("SELECT FROM campaign_counters FOR UPDATE").await.unwrap();
    let group = "INSERT INTO contact_groups SELECT campaign_id, 1, 'Asia/Tokyo', 0 FROM campaigns";
    import.batch_execute(group).await.unwrap();
    let contact = v1::Contact {
        phone_number: phone(0),
        time_zone: "Africa/Lagos".to_owned(),
        ..Default::default()
    };
    let contact = Some(contact);
    let request = v1::CreateContactRequest { parent, contact, ..Default::default() };
    let creating = tokio::spawn(async move { clients.contacts.create_contact(request).await });
    let watcher = db.client().await;
    crate::support::eventually("the contact waits for the import", || async {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
        (waiting > 0).then_some(())
    })
    .await;
    import.commit().await.unwrap();
    creating.await.unwrap().unwrap();
}

/// B13: an import ID belongs to one list.
#[tokio::test]
async fn another_list_under_a_known_import_id_is_refused() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let list = ["+14155550100", "+14155550101", "+14155550102"];
    let other = ["+14155550100", "+14155550107", "+14155550102"];
    let done = import(&mut clients, vec![header(&name, "a"), rows(1, &list)]).await.unwrap();
    assert_eq!((done.created, done.repeated_rows), (3, 0));
    // The same list comes again, in other pieces and longer than before.
    let again = vec![
        header(&name, "a"),
        rows(1, &list[..1]),
        rows(2, &list[1..]),
        rows(4, &["+14155550103"]),
    ];
    let done = import(&mut clients, again).await.unwrap();
    assert_eq!((done.created, done.repeated_rows, done.next_row), (4, 3, 5));
    // Another list comes, whole and in pieces; nothing of it is imported.
    let pieces = vec![header(&name, "a"), rows(1, &other[..1]), rows(2, &other[1..])];
    for parts in [vec![header(&name, "a"), rows(1, &other)], pieces] {
        let status = import(&mut clients, parts).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["header.import_id"]);
    }
    // Under an ID of its own, the list is imported. With numbers of another country, it is another list.
    let done = import(&mut clients, vec![header(&name, "b"), rows(1, &other)]).await.unwrap();
    assert_eq!((done.created, done.duplicates), (1, 2));
    let mut elsewhere = header(&name, "b");
    if let Part::Header(header) = &mut elsewhere {
        header.default_region = "DE".to_owned();
    }
    assert!(import(&mut clients, vec![elsewhere, rows(1, &other)]).await.is_err());
}

/// B13: an import reports that the current run excludes its rows.
#[tokio::test]
async fn rows_that_the_run_leaves_out_are_told() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    let send = async |clients: &mut Clients, id: &str, phone: &str| {
        let done = import(clients, vec![header(&name, id), rows(1, &[phone])]).await;
        done.unwrap().outside_run
    };
    assert!(!send(&mut clients, "draft", "+14155550100").await);
    clients.launch(&name).await;
    assert!(send(&mut clients, "late", "+14155550101").await);
    assert!(!send(&mut clients, "known", "+14155550101").await, "nobody is new");
    clients.cancel(&name).await;
    let live = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, live).await;
    assert!(!send(&mut clients, "live", "+14155550102").await);
}

/// B14: numbers that cost their caller are accepted if the campaign says so.
#[tokio::test]
async fn numbers_that_cost_need_the_campaigns_leave() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let costly = ["+19005550123", "+870773111632", "+14155551212"];
    let strict = clients.create_campaign().await;
    let done = import(&mut clients, vec![header(&strict, "a"), rows(1, &costly)]).await.unwrap();
    assert_eq!((done.created, done.rejected), (0, 3));
    assert!(done.problems[0].reason.contains("allow_costly_numbers"), "{done:?}");
    let campaign = v1::Campaign {
        display_name: "Costly".to_owned(),
        allow_costly_numbers: true,
        ..Default::default()
    };
    let open = clients.create_campaign_with(campaign).await;
    assert!(clients.campaign(&open).await.allow_costly_numbers);
    let done = import(&mut clients, vec![header(&open, "a"), rows(1, &costly)]).await.unwrap();
    assert_eq!(done.created, 3, "{done:?}");
    // The same holds for single contacts, and an inbound caller with such a number does not become a contact.
    for (name, is_taken) in [(&strict, false), (&open, true)] {
        let contact = v1::Contact { phone_number: "+19005550124".to_owned(), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        assert_eq!(clients.contacts.create_contact(request).await.is_ok(), is_taken);
    }
    let ready = v1::Campaign {
        display_name: "Live".to_owned(),
        description: "Callers".to_owned(),
        schedule: Some(crate::support::always()),
        ..Default::default()
    };
    let live = clients.create_campaign_with(ready).await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&live, settings).await;
    let request = v1::RouteInboundRequest {
        parent: live,
        phone_number: "+19005550123".to_owned(),
        ..Default::default()
    };
    let routed = clients.interactions.route_inbound(request).await.unwrap().into_inner();
    assert_eq!(routed.reason(), v1::TurnAwayReason::UnknownCaller, "{routed:?}");
}

/// B14: an unknown region is rejected before any row is.
#[tokio::test]
async fn a_region_that_is_no_country_is_refused() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    for bad in ["UK", "EU", "ZZ", "us"] {
        let header = v1::ImportHeader {
            parent: name.clone(),
            import_id: bad.to_owned(),
            default_region: bad.to_owned(),
        };
        let parts = vec![Part::Header(header), rows(1, &["020 7946 0018"])];
        let status = import(&mut clients, parts).await.unwrap_err();
        assert_eq!(bad_fields(&status), ["header.default_region"], "{bad}");
    }
}

/// Two imports bring the same numbers at once: one creates each contact, and the other finds it.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_numbers_in_two_imports_at_once_are_duplicates_of_one() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    for round in 0..5 {
        let name = clients.create_campaign().await;
        let start = std::sync::Arc::new(tokio::sync::Barrier::new(2));
        let both = ["a", "b"].map(|id| {
            let (mut clients, name, start) = (clients.clone(), name.clone(), start.clone());
            tokio::spawn(async move {
                let numbers: Vec<String> = (0..400).map(phone).collect();
                let mut numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
                if id == "b" {
                    numbers.reverse();
                }
                start.wait().await;
                import(&mut clients, vec![header(&name, id), rows(1, &numbers)]).await
            })
        });
        let (mut created, mut duplicates) = (0, 0);
        for done in both {
            let done = done.await.unwrap().unwrap_or_else(|status| panic!("{round}: {status:?}"));
            created += done.created;
            duplicates += done.duplicates;
        }
        assert_eq!((created, duplicates), (400, 400), "round {round}");
        assert_eq!(clients.campaign(&name).await.contact_count, 400);
    }
}
