//! Metrics of the programs: they are true, and they name nobody. Dashboard, alerts and the scaling of workers use no
//! other metrics.

use super::support::processes::{campaign_service, dialer_worker, dials, scrape};
use super::support::{Clients, TestDb, always, eventually};
use campaign_proto::v1;
use campaign_testkit::{Program, free_port};
use chrono::{Days, TimeDelta, Utc};
use std::collections::{BTreeMap, BTreeSet};

const CONTACTS: usize = 20;

/// Returns the value of a series, written as in the exposition.
pub fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not there:\n{text}")).parse().unwrap()
}

/// Names of metrics, each with the names of its labels.
type Series = BTreeMap<String, BTreeSet<String>>;

fn is_ours(word: &str) -> bool {
    word.starts_with("campaign_") || word.starts_with("dialer_")
}

/// Returns the series that a program exports.
fn exported(text: &str) -> Series {
    let mut series = Series::new();
    for line in text.lines().filter(|line| is_ours(line)) {
        let shown = line.rsplit_once(' ').unwrap().0;
        let (name, rest) = shown.split_once('{').unwrap_or((shown, ""));
        let labels = series.entry(name.to_owned()).or_default();
        // No label value of ours has a comma.
        for pair in rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()) {
            labels.insert(pair.split_once('=').unwrap().0.to_owned());
        }
    }
    series
}

/// Returns the series that an expression uses. The labels of a `by` belong to the metric that follows it.
fn asked(expression: &str) -> Series {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut series, mut grouped) = (Series::new(), BTreeSet::new());
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let from_word = &rest[start..];
        let end = from_word.find(|c| !is_word(c)).unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        rest = after;
        if word == "by" {
            let list = after.trim_start().strip_prefix('(').unwrap();
            let (list, after) = list.split_once(')').unwrap();
            grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if is_ours(word) {
            let labels = series.entry(word.to_owned()).or_default();
            labels.append(&mut grouped);
            let matchers = after.strip_prefix('{').map(|rest| rest.split_once('}').unwrap().0);
            for matcher in matchers.into_iter().flat_map(|matchers| matchers.split(',')) {
                labels.insert(matcher.split(['=', '!']).next().unwrap().trim().to_owned());
            }
        }
    }
    assert!(!series.is_empty() && grouped.is_empty(), "asks for none of ours: {expression}");
    series
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
    assert_eq!(count, 7, "alerts");
    let scaling = read("../kubernetes/components/keda/dialer-worker.yaml");
    let queries = scaling.lines().filter_map(|line| line.trim().strip_prefix("query: "));
    found.extend(queries.map(str::to_owned));
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
    let _service = Program::start(&mut service).unwrap();
    let mut clients = Clients::connect(&url).await;
    let campaign = clients.launch_endless().await;
    clients.add_contacts(&campaign, 0..CONTACTS).await;
    let mut worker = dialer_worker();
    worker.args(["--log", "error", "--service-url", &url, "--time-scale", "0.001"]);
    worker.args(["--metrics-listen", &address(worker_port)]).arg("--dial-log").arg(&log);
    let _worker = Program::start(&mut worker).unwrap();
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
    let shown = exported(&both);
    for expression in expressions() {
        for (name, labels) in asked(&expression) {
            let known = shown.get(&name);
            let known = known.unwrap_or_else(|| panic!("{name} is not exported: {expression}"));
            let strange: Vec<_> = labels.difference(known).collect();
            assert!(strange.is_empty(), "{name} has no label {strange:?}: {expression}");
        }
    }
    let id = campaign.strip_prefix("campaigns/").unwrap();
    assert!(!both.contains(id), "a campaign is named");
    for n in 0..CONTACTS {
        let number = super::support::phone(n);
        assert!(!both.contains(number.trim_start_matches('+')), "{number} is shown");
    }
}

#[tokio::test]
async fn who_may_not_be_called_at_this_hour_is_no_backlog() {
    let db = TestDb::new().await;
    let [port, metrics_port] = [(); 2].map(|()| free_port());
    let mut service = campaign_service();
    service.args(["serve", "--log", "error", "--listen", &format!("127.0.0.1:{port}")]);
    service.args(["--metrics-listen", &format!("127.0.0.1:{metrics_port}")]);
    let _service = Program::start(service.env("DATABASE_URL", &db.url)).unwrap();
    let mut clients = Clients::connect(&format!("http://127.0.0.1:{port}")).await;
    // The blackout dates are today and tomorrow where the day begins first. Where it begins last, the date is another.
    let (first, last) = ("Pacific/Kiritimati", "Pacific/Pago_Pago");
    let today = (Utc::now() + TimeDelta::hours(14)).date_naive();
    let dates = [today, today + Days::new(1)].map(|date| date.to_string());
    let schedule = v1::Schedule { blackout_dates: dates.into(), ..always() };
    let campaign = v1::Campaign {
        display_name: "Two ends of the earth".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(schedule),
        ..Default::default()
    };
    let campaign = clients.create_campaign_with(campaign).await;
    for (n, zone) in [first, first, last, last, last].into_iter().enumerate() {
        let contact = v1::Contact {
            phone_number: super::support::phone(n),
            time_zone: zone.to_owned(),
            ..Default::default()
        };
        let request = v1::CreateContactRequest {
            parent: campaign.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        clients.contacts.create_contact(request).await.unwrap();
    }
    clients.launch(&campaign).await;
    let counted = eventually("those who wait are counted", || async {
        let text = scrape(metrics_port).await;
        let is_counted = value(&text, "campaign_contacts{bucket=\"AHEAD\"}") >= 5.0
            && value(&text, "campaign_backlog_contacts") > 0.0;
        is_counted.then_some(text)
    })
    .await;
    assert_eq!(value(&counted, "campaign_backlog_contacts"), 3.0);
}
