//! Links in texts: a person's click counts once, a program's does not, and every redirect goes to the campaign's URL.

use crate::support::{Clients, PATIENCE, Service, TestDb, Worker, always, gate_key, test_options};
use campaign_proto::v1;
use campaign_service::links::Links;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TARGET: &str = "https://shop.example.com/spring?from=text";
const PHONE: &str = "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 Mobile Safari/537.36";

/// Answer to a click: its status and its target.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    location: Option<String>,
}

async fn ask(service: &Service, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(service.link_address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let location = text.lines().find_map(|line| line.strip_prefix("location: "));
    Answer { status, location: location.map(ToOwned::to_owned) }
}

async fn clicks(clients: &mut Clients, contact: &str) -> usize {
    let history = clients.history(contact).await;
    assert_eq!(history.link_opened, !history.interactions.is_empty());
    history.interactions.len()
}

async fn start(db: &TestDb) -> Service {
    let mut options = test_options();
    let key = "a key of thirty-two characters!!";
    options.links = Some(Links::new(key, "https://go.example.com/").unwrap());
    Service::start_with(db, options).await
}

async fn campaign(clients: &mut Clients, link_url: &str) -> String {
    let campaign = v1::Campaign {
        display_name: "Spring".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(always()),
        link_url: link_url.to_owned(),
        ..v1::Campaign::default()
    };
    clients.create_campaign_with(campaign).await
}

#[tokio::test]
async fn a_click_is_recorded_once_and_sent_on_to_the_campaigns_own_address() {
    let db = TestDb::new().await;
    let service = start(&db).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients, TARGET).await;
    clients.add_contacts(&name, 0..2).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let held = worker.lease(2).await;
    let path = held[0].link.strip_prefix("https://go.example.com").unwrap().to_owned();
    let sent_on = Answer { status: 302, location: Some(TARGET.to_owned()) };

    // Programs are redirected and do not count.
    let contact = &held[0].contact;
    assert_eq!(ask(&service, "HEAD", &path, &[("User-Agent", PHONE)]).await, sent_on);
    assert_eq!(ask(&service, "GET", &path, &[("User-Agent", "WhatsApp/2.23.20")]).await, sent_on);
    let ahead = [("User-Agent", PHONE), ("Sec-Purpose", "prefetch")];
    assert_eq!(ask(&service, "GET", &path, &ahead).await, sent_on);
    assert_eq!(clicks(&mut clients, contact).await, 0);

    for _ in 0..3 {
        assert_eq!(ask(&service, "GET", &path, &[("User-Agent", PHONE)]).await, sent_on);
    }
    assert_eq!(clicks(&mut clients, contact).await, 1);
    assert_eq!(clicks(&mut clients, &held[1].contact).await, 0);

    // A click that changes nothing does not wait, even while another transaction holds the campaign's gate.
    let holder = db.client().await;
    let gate = gate_key(&name);
    holder.execute("SELECT pg_advisory_lock($1)", &[&gate]).await.unwrap();
    let asked = ask(&service, "GET", &path, &[("User-Agent", PHONE)]);
    assert_eq!(tokio::time::timeout(PATIENCE, asked).await.expect("it waits"), sent_on);
    holder.execute("SELECT pg_advisory_unlock($1)", &[&gate]).await.unwrap();

    // After a rerun a second click counts in it, and excludes.
    worker.close().await;
    clients.cancel(&name).await;
    let rerun = v1::LaunchSettings {
        rerun_all_contacts: true,
        exclude: Some(v1::Exclusions { link_opened: true, ..Default::default() }),
        ..Default::default()
    };
    clients.launch_with(&name, rerun).await;
    assert_eq!(clients.explain(contact).await.standing(), v1::ContactStanding::Waiting);
    assert_eq!(ask(&service, "GET", &path, &[("User-Agent", PHONE)]).await, sent_on);
    assert_eq!(clients.explain(contact).await.reason(), v1::ExclusionReason::LinkOpened);
    assert_eq!(clicks(&mut clients, contact).await, 2);

    // After a reset the clicks are gone, and a new one counts.
    clients.cancel(&name).await;
    let reset = v1::LaunchSettings { reset_contact_history: true, ..Default::default() };
    clients.launch_with(&name, reset).await;
    assert_eq!(clicks(&mut clients, contact).await, 0);
    assert_eq!(ask(&service, "GET", &path, &[("User-Agent", PHONE)]).await, sent_on);
    assert_eq!(clicks(&mut clients, contact).await, 1);
}

#[tokio::test]
async fn a_link_that_is_not_ours_leads_nowhere() {
    let db = TestDb::new().await;
    let service = start(&db).await;
    let mut clients = service.clients.clone();
    let name = campaign(&mut clients, TARGET).await;
    clients.add_contacts(&name, 0..1).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    let link = worker.lease(1).await.remove(0).link;
    let path = link.strip_prefix("https://go.example.com").unwrap();
    let nowhere = Answer { status: 404, location: None };
    let other = if path.ends_with('A') { "B" } else { "A" };
    let forged = format!("{}{other}", &path[..path.len() - 1]);
    for bad in [&forged, "/l/", "/l/x", "/", "/l/..%2f..", &format!("/l/{}", "A".repeat(5_000))] {
        let answer = ask(&service, "GET", bad, &[("User-Agent", PHONE)]).await;
        assert_eq!(answer, nowhere, "{bad}");
    }
    assert_eq!(ask(&service, "POST", path, &[]).await.status, 405);
    let untouched = clients.history(&format!("{name}/contacts/0")).await;
    assert!(!untouched.link_opened);

    // A campaign without an address gives out no links.
    let plain = campaign(&mut clients, "").await;
    clients.add_contacts(&plain, 1..2).await;
    clients.launch(&plain).await;
    let mut worker = Worker::connect(&clients, "w", &plain).await;
    assert_eq!(worker.lease(1).await[0].link, "");
}
