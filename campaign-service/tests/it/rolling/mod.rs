//! The manifests of `deploy/kubernetes`, taken literally. The programs are started with exactly their variables,
//! arguments, ports and probes, and go through a rolling restart under load. `cluster` stands for a cluster. Calls are
//! simulated, so that the provider's log can be read.

mod cluster;
mod pod;
mod production;

use crate::support::processes::{campaign_service, dials};
use crate::support::{Clients, PATIENCE, TestDb, always, eventually, id_of, once};
use campaign_proto::v1;
use campaign_testkit::{Program, free_port};
use cluster::{Cluster, Manifests, Name};
use pod::{Pod, container};
use production::{Production, is_known, port_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Number of contacts. Dialled at `CALLS_PER_SECOND`, they last longer than the restart.
const CONTACTS: usize = 1_900;
const CALLS_PER_SECOND: i32 = 35;
/// Number of contacts about which the load reports facts.
const REPORTED_CONTACTS: usize = 50;
/// Number of clients of the load; each has a connection and a campaign of its own.
const LOAD_CLIENTS: usize = 4;
/// Longest wait until all contacts are called.
const CALLS_LIMIT: Duration = Duration::from_secs(150);

/// Generated clients that work until they are told to stop.
struct Load {
    program: Program,
    /// Open until the load is told to stop.
    told: ChildStdin,
}

impl Load {
    fn start(production: &Production, facts: &str, campaigns: &[String]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/rolling/load.py");
        let tools = std::env::var("CAMPAIGN_PYTHONPATH").expect(
            "CAMPAIGN_PYTHONPATH is not set: run `make test`, or eval \"$(python3 deploy/local/tools.py)\"",
        );
        let mut python = Command::new("python3");
        python.arg(script).env("PYTHONPATH", tools).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = Program::start(&mut python).unwrap();
        let mut told = program.take_stdin().unwrap();
        let work = json!({
            "target": production.target(), "ca": production.cluster.path("campaign-service-ca.ca.crt"),
            "token": production.token("admin"),
            "facts": facts, "contacts": REPORTED_CONTACTS, "campaigns": campaigns,
        });
        writeln!(told, "{work}").unwrap();
        Self { program, told }
    }

    async fn finish(mut self) -> Value {
        drop(self.told);
        let mut out = self.program.take_stdout().unwrap();
        let read = move || serde_json::from_reader(&mut out);
        let report = tokio::task::spawn_blocking(read).await.unwrap();
        assert!(self.program.until_ended(PATIENCE).await.unwrap().success());
        report.unwrap()
    }
}

#[tokio::test]
async fn a_rolling_restart_fails_no_request_and_loses_and_doubles_no_attempt() {
    let production = Production::new().await;
    production.migrate().await;
    let services =
        production.scale("HorizontalPodAutoscaler", "minReplicas", "campaign-service").await;
    let workers = production.scale("ScaledObject", "minReplicaCount", "dialer-worker").await;
    let mut clients = production.clients().await;
    let name = launch_paced(&mut clients).await;
    let facts = clients.create_campaign().await;
    clients.add_contacts(&facts, 0..REPORTED_CONTACTS).await;
    let mut commanded = Vec::new();
    for _ in 0..LOAD_CLIENTS {
        commanded.push(clients.launch_endless().await);
    }
    let load = Load::start(&production, &facts, &commanded);
    let log = production.dial_log();
    eventually("calls are made", || async { (dials(&log).len() > 30).then_some(()) }).await;

    // The migration job of this version runs, and then a migration as the next version may have it, all under load.
    production.migrate().await;
    add_columns(&production.db).await;
    let services = production.roll("campaign-service", services).await;
    let workers = production.roll("dialer-worker", workers).await;
    let dialled = dials(&log).len();
    assert!(dialled < CONTACTS, "all were called before the restart was over");

    let mut clients = production.clients().await;
    until_called(&mut clients, &name).await;
    let report = load.finish().await;
    for pod in services.iter().chain(&workers) {
        assert!(!pod.found().is_sick && pod.found().is_ready, "{}", pod.name);
    }
    let failures = report["failures"].as_array().unwrap();
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), report["calls"]);
    assert!(report["calls"].as_u64().unwrap() > 500, "there was hardly any load: {report}");
    judge_calls(&production.db, &mut clients, &name, &log).await;
    judge_facts(&production.db, &facts, report["acknowledged"].as_array().unwrap()).await;
}

/// Launches a campaign that calls every contact once, slowly. Returns its name.
async fn launch_paced(clients: &mut Clients) -> String {
    let pacing = v1::Pacing { max_calls_per_second: CALLS_PER_SECOND, ..Default::default() };
    let campaign = v1::Campaign {
        display_name: "Spring".to_owned(),
        description: "For tests".to_owned(),
        schedule: Some(always()),
        retry_policy: Some(once()),
        pacing: Some(pacing),
        ..v1::Campaign::default()
    };
    let name = clients.create_campaign_with(campaign).await;
    clients.add_contacts(&name, 0..CONTACTS).await;
    clients.launch(&name).await;
    name
}

/// Adds columns, as a migration may. Running programs must not notice.
async fn add_columns(db: &TestDb) {
    let client = db.client().await;
    let tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'refinery_schema_history'";
    for row in client.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let add = format!("ALTER TABLE {table} ADD COLUMN of_next_version int NOT NULL DEFAULT 0");
        client.batch_execute(&add).await.unwrap();
    }
}

async fn until_called(clients: &mut Clients, name: &str) {
    let deadline = Instant::now() + CALLS_LIMIT;
    loop {
        let progress = clients.progress(name).await;
        let attempts = progress.history.as_ref().unwrap().attempts;
        if attempts == i64::try_from(CONTACTS).unwrap() {
            return;
        }
        assert!(Instant::now() < deadline, "not everyone was called: {progress:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// Checks the calls by the provider's own log, by the authorisations, and by the history.
async fn judge_calls(db: &TestDb, clients: &mut Clients, name: &str, log: &Path) {
    let mut dialled: BTreeMap<String, usize> = BTreeMap::new();
    let mut attempts = BTreeSet::new();
    for dial in dials(log) {
        assert!(attempts.insert(dial.attempt_id.clone()), "dialled twice: {dial:?}");
        *dialled.entry(dial.contact).or_default() += 1;
    }
    assert!(dialled.values().all(|dials| *dials == 1), "someone was called twice");
    for position in 0..CONTACTS {
        let contact = format!("{name}/contacts/{position}");
        if !dialled.contains_key(&contact) {
            let outcome = clients.history(&contact).await.last_outcome();
            eprintln!("{contact} was not called: {outcome:?}");
        }
    }
    assert_eq!(dialled.len(), CONTACTS, "someone was not called");
    let sql = "SELECT COALESCE(sum(cardinality(slots)), 0)::int8 FROM authorizations";
    let authorised: i64 = db.client().await.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(authorised, i64::try_from(CONTACTS).unwrap(), "authorised and not dialled");
    for position in 0..CONTACTS {
        let history = clients.history(&format!("{name}/contacts/{position}")).await;
        assert_eq!(history.attempts, 1);
        assert_ne!(history.last_outcome(), v1::CallOutcome::Unknown, "an attempt was lost");
    }
}

/// Checks that every acknowledged fact is there once, and no other fact is.
async fn judge_facts(db: &TestDb, campaign: &str, acknowledged: &[Value]) {
    let id = id_of(campaign);
    let sql = "SELECT interaction_id FROM interactions WHERE campaign_id = $1";
    let rows = db.client().await.query(sql, &[&id]).await.unwrap();
    let mut recorded: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut expected: Vec<&str> = acknowledged.iter().map(|fact| fact.as_str().unwrap()).collect();
    recorded.sort_unstable();
    expected.sort_unstable();
    assert!(expected.len() > 100, "hardly any facts: {}", expected.len());
    assert_eq!(recorded, expected);
}

#[test]
fn manifests_name_only_variables_that_the_programs_know() {
    for overlay in ["dev", "prod"] {
        let manifests = Manifests::render(overlay);
        for (kind, name) in [
            ("Deployment", "campaign-service"),
            ("Deployment", "dialer-worker"),
            ("Job", "campaign-migrate"),
        ] {
            let workload = manifests.find(kind, name);
            for entry in container(workload)["env"].as_array().unwrap() {
                let variable = entry["name"].as_str().unwrap();
                let known = is_known(workload, variable);
                assert!(known, "{overlay}: {name} does not know {variable}");
            }
        }
    }
}

/// The dev overlay runs with a database that comes and goes. No probe asks for a restart, requests are kept away, and
/// pods that start meanwhile wait. If a process hangs, a restart is asked for.
#[tokio::test]
async fn probes_tell_a_database_that_is_away_from_a_process_that_hangs() {
    let (manifests, mut cluster) = (Manifests::render("dev"), Cluster::new());
    let db = TestDb::new().await;
    let direct = db.url.parse::<tokio_postgres::Config>().unwrap().get_ports()[0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (database, behind) =
        (Name::over(listener), SocketAddr::from((Ipv4Addr::LOCALHOST, direct)));
    database.add(behind);
    let url = db.url.replace(&format!(":{direct}/"), &format!(":{port}/"));
    cluster.keep("campaign-database", "url", &url);
    let workload = manifests.find("Deployment", "campaign-service");
    let name =
        Name::at(SocketAddr::from((cluster.name_address(), port_of(workload, "grpc")))).await;
    let mut service = Pod::start(workload, &cluster);
    let mut hung = Pod::start(workload, &cluster);
    service.ready().await;
    hung.ready().await;
    name.add(SocketAddr::from((service.address, port_of(workload, "grpc"))));
    let mut worker = Pod::start(manifests.find("Deployment", "dialer-worker"), &cluster);
    worker.ready().await;

    hung.process.signal("STOP").unwrap();
    database.cut();
    service.wait("without its database", |found| !found.is_ready).await;
    let mut newcomer = Pod::start(workload, &cluster);
    newcomer.wait("started", |found| found.is_started).await;
    let liveness = &container(workload)["livenessProbe"];
    let seconds = |key: &str| liveness[key].as_u64().unwrap();
    let verdict =
        (seconds("periodSeconds") + seconds("timeoutSeconds")) * seconds("failureThreshold");
    let noticed = async {
        while !hung.found().is_sick {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let noticed = tokio::time::timeout(Duration::from_secs(verdict + 5), noticed).await;
    noticed.expect("nobody noticed that a process hangs");
    // The pods that only miss their database had the same time.
    for pod in [&service, &newcomer, &worker] {
        assert!(!pod.found().is_sick, "{} would be restarted:\n{}", pod.name, pod.said());
    }
    assert!(!service.found().is_ready && !newcomer.found().is_ready);
    assert!(newcomer.said().contains("the database cannot be used"), "{}", newcomer.said());
    database.add(behind);
    service.ready().await;
    newcomer.ready().await;

    service.process.kill();
    worker.wait("without the service", |found| !found.is_ready).await;
    assert!(!worker.found().is_sick, "calls go on without the service");
}

/// A stream that never ends by itself does not prevent a replica from stopping.
#[tokio::test]
async fn a_drain_ends_by_its_grace() {
    let db = TestDb::new().await;
    let port = free_port();
    let mut service = campaign_service();
    service
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log", "error"])
        .args(["--drain-grace-seconds", "1"])
        .env("DATABASE_URL", &db.url);
    let mut service = Program::start(&mut service).unwrap();
    let clients = Clients::connect(&format!("http://127.0.0.1:{port}")).await;
    let mut health = HealthClient::new(clients.channel.clone());
    let request = HealthCheckRequest { service: String::new() };
    let mut watching = health.watch(request).await.unwrap().into_inner();
    let serving = 1;
    let told = async |watching: &mut tonic::Streaming<tonic_health::pb::HealthCheckResponse>| {
        let next = tokio::time::timeout(PATIENCE, watching.message()).await.unwrap();
        next.unwrap().map(|answer| answer.status)
    };
    while told(&mut watching).await != Some(serving) {}
    let begun = Instant::now();
    service.signal("TERM").unwrap();
    // Watchers of the health learn at once that the replica stops.
    assert_eq!(told(&mut watching).await, Some(2));
    let status = service.until_ended(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{status}");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10) && took > Duration::from_secs(1), "{took:?}");
}
