//! What the programs show to who watches: it is what happened, it names nobody, and dashboard and alerts ask
//! for nothing else.

use super::support::processes::{Killed, campaign_service, dialer_worker, dials, free_port};
use super::support::{Clients, TestDb, eventually};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONTACTS: usize = 20;
/// Labels that Prometheus and its histograms add.
const LABELS_OF_OTHERS: [&str; 1] = ["le"];

async fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("# EOF"), "{text}");
    text
}

/// The value of a series written as shown.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not there:\n{text}")).parse().unwrap()
}

/// Names and labels of all series.
fn exported(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    let is_ours = |line: &&str| line.starts_with("campaign_") || line.starts_with("dialer_");
    for line in text.lines().filter(is_ours) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, rest) = series.split_once('{').unwrap_or((series, ""));
        names.insert(name.to_owned());
        for pair in rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
            labels.insert(pair.split_once('=').unwrap().0.to_owned());
        }
    }
    (names, labels)
}

/// Words of an expression that name a metric of ours, and those that name a label.
fn asked(expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_word(c));
    let is_ours = |word: &&str| word.starts_with("campaign_") || word.starts_with("dialer_");
    let names = words.filter(is_ours).map(str::to_owned).collect();
    let mut labels = BTreeSet::new();
    for part in expression.split(" by (").skip(1) {
        let list = part.split_once(')').unwrap().0;
        labels.extend(list.split(',').map(|label| label.trim().to_owned()));
    }
    for part in expression.split('{').skip(1) {
        // No value of ours has a comma.
        for matcher in part.split_once('}').unwrap().0.split(',') {
            labels.insert(matcher.split(['=', '!']).next().unwrap().trim().to_owned());
        }
    }
    (names, labels)
}

fn expressions() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/observability/");
    let read = |file: &str| std::fs::read_to_string(format!("{folder}{file}")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        found.extend(targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    let (alerts, runbooks) = (read("alerts.yaml"), read("README.md"));
    let mut lines = alerts.lines();
    let mut count = 0;
    while let Some(line) = lines.next() {
        if line.trim() == "expr: >-" {
            found.push(lines.next().unwrap().trim().to_owned());
            count += 1;
        } else if let Some((_, section)) = line.split_once("README.md#") {
            let title = |line: &str| {
                line.strip_prefix("## ").map(|title| title.to_lowercase().replace(' ', "-"))
            };
            let is_there = runbooks.lines().filter_map(title).any(|title| title == section);
            assert!(is_there, "no runbook {section}");
        }
    }
    assert_eq!(count, 5, "alerts");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_is_what_happened_and_all_that_is_asked_for() {
    let db = TestDb::new().await;
    let log = std::env::temp_dir().join(format!("metrics-{}", uuid::Uuid::new_v4()));
    let [port, service_port, worker_port] = [(); 3].map(|()| free_port());
    let url = format!("http://127.0.0.1:{port}");
    let address = |port| format!("127.0.0.1:{port}");
    let mut service = campaign_service();
    service.args(["serve", "--log", "error", "--listen", &address(port)]);
    service.args(["--metrics-listen", &address(service_port)]).env("DATABASE_URL", &db.url);
    let _service = Killed(service.spawn().unwrap());
    let mut clients = Clients::connect(&url).await;
    let campaign = clients.launch_endless().await;
    clients.add_contacts(&campaign, 0..CONTACTS).await;
    let mut worker = dialer_worker();
    worker.args(["--log", "error", "--service-url", &url, "--time-scale", "0.001"]);
    worker.args(["--metrics-listen", &address(worker_port)]).arg("--dial-log").arg(&log);
    let _worker = Killed(worker.spawn().unwrap());
    let ended = "campaign_interactions_total{kind=\"CALL_ENDED\"}";
    let all = CONTACTS as f64;
    let counted = eventually("all calls have ended", || async {
        let text = scrape(service_port).await;
        (value(&text, ended) >= all).then_some(text)
    })
    .await;
    let dialled = dials(&log).len() as f64;
    let _ = std::fs::remove_file(&log);
    assert_eq!(dialled, all);
    assert_eq!(value(&counted, ended), dialled);
    let granted = "campaign_authorizations_total{result=\"GRANTED\"}";
    assert_eq!(value(&counted, granted), dialled);
    assert_eq!(value(&counted, "campaign_leased_contacts_total"), dialled);
    assert_eq!(value(&counted, "campaign_database_up"), 1.0);
    let of_launch = "campaign_grpc_requests_total{service=\"campaign.v1.CampaignService\",\
                     method=\"LaunchCampaign\",code=\"OK\"}";
    assert_eq!(value(&counted, of_launch), 1.0);
    let worked = scrape(worker_port).await;
    assert_eq!(value(&worked, "dialer_calls_total"), dialled);

    let both = format!("{counted}\n{worked}");
    let (names, labels) = exported(&both);
    for expression in expressions() {
        let (asked_names, asked_labels) = asked(&expression);
        for name in asked_names {
            assert!(names.contains(&name), "{name} is not exported: {expression}");
        }
        for label in asked_labels {
            let is_known = labels.contains(&label) || LABELS_OF_OTHERS.contains(&label.as_str());
            assert!(is_known, "no metric has the label {label}: {expression}");
        }
    }
    let id = campaign.strip_prefix("campaigns/").unwrap();
    assert!(!both.contains(id), "a campaign is named");
    for n in 0..CONTACTS {
        let number = super::support::phone(n);
        assert!(!both.contains(number.trim_start_matches('+')), "{number} is shown");
    }
}
