//! Traces: causes and effects, from the API's caller over the worker's dial to the service's record of the call. They
//! name nobody, and do no harm if no collector accepts them.

use super::support::collector::{Collector, Place, Told};
use super::support::processes::{campaign_service, dialer_worker, dials};
use super::support::{Clients, PATIENCE, TestDb, always, eventually, once};
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use campaign_proto::v1;
use campaign_testkit::{Program, free_port};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tonic::Request;

const CONTACTS: usize = 20;
const NAME: &str = "Xaverine Quintessa";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const STATE: &str = "vendor=opaque";
const SERVICE: &str = "campaign-service";
const WORKER: &str = "dialer-worker";

/// Programs over a database of their own.
struct World {
    clients: Clients,
    url: String,
    service: Program,
    log: PathBuf,
    _db: TestDb,
}

impl World {
    /// Starts a service that traces only requests that their callers trace.
    async fn start(collector: &str, flags: &[&str]) -> Self {
        let db = TestDb::new().await;
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut service = campaign_service();
        service.args(["serve", "--log", "error", "--listen", &format!("127.0.0.1:{port}")]);
        service.args(["--otlp-endpoint", collector, "--trace-ratio", "0"]).args(flags);
        let service = Program::start(service.env("DATABASE_URL", &db.url)).unwrap();
        let clients = Clients::connect(&url).await;
        let log = std::env::temp_dir().join(format!("traces-{}", uuid::Uuid::new_v4()));
        Self { clients, url, service, log, _db: db }
    }

    /// Returns the program of a worker that traces every call.
    fn worker(&self, collector: &str) -> Command {
        let mut worker = dialer_worker();
        worker.args(["--service-url", &self.url]).env("CAMPAIGN_LOG", "error");
        worker.args(["--otlp-endpoint", collector, "--trace-ratio", "1"]);
        worker
    }

    fn simulated(&self, collector: &str) -> Program {
        let mut worker = self.worker(collector);
        worker.args(["--time-scale", "0.001"]).arg("--dial-log").arg(&self.log);
        Program::start(&mut worker).unwrap()
    }

    /// Creates a campaign with contacts and launches it by a traced request.
    async fn launch(&mut self) -> String {
        let campaign = v1::Campaign {
            display_name: NAME.to_owned(),
            description: NAME.to_owned(),
            schedule: Some(always()),
            retry_policy: Some(once()),
            ..Default::default()
        };
        let name = self.clients.create_campaign_with(campaign).await;
        self.clients.add_contacts(&name, 1..CONTACTS).await;
        let contact = v1::Contact {
            phone_number: super::support::phone(0),
            display_name: NAME.to_owned(),
            attributes: [("note".to_owned(), NAME.to_owned())].into(),
            ..Default::default()
        };
        let parent = name.clone();
        let create =
            v1::CreateContactRequest { parent, contact: Some(contact), ..Default::default() };
        self.clients.contacts.create_contact(create).await.unwrap();
        let launch = v1::LaunchCampaignRequest {
            name: name.clone(),
            settings: Some(v1::LaunchSettings::default()),
            actor: NAME.to_owned(),
            reason: NAME.to_owned(),
            ..Default::default()
        };
        let mut launch = Request::new(launch);
        let traceparent = format!("00-{TRACE}-{CALLER}-01");
        launch.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
        launch.metadata_mut().insert("tracestate", STATE.parse().unwrap());
        self.clients.campaigns.launch_campaign(launch).await.unwrap();
        name
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn places(told: &[Told]) -> BTreeSet<Place> {
    told.iter().map(Told::place).collect()
}

/// Returns the causes of these spans.
fn causes(told: &[Told]) -> BTreeSet<Place> {
    told.iter().flat_map(Told::causes).collect()
}

/// Checks that no span tells who was called, or what people wrote.
fn check_privacy(told: &[Told]) {
    let all = format!("{told:?}");
    for n in 0..CONTACTS {
        let number = super::support::phone(n);
        assert!(!all.contains(number.trim_start_matches('+')), "{number} is told");
    }
    for word in NAME.split(' ') {
        assert!(!all.contains(word), "{word} is told");
    }
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in told.iter().flat_map(Told::attributes) {
        values.entry(key).or_default().insert(value);
    }
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    for (key, values) in values {
        let is_fit = |value: &String| match key.as_str() {
            "attempts" | "interactions" | "run" => value.parse::<u16>().is_ok(),
            // The parts are run, lease and slot.
            "attempt_id" => value.split('-').all(|part| part.parse::<u16>().is_ok()),
            "campaign" => value.strip_prefix("campaigns/").is_some_and(|id| id.len() == 36),
            "decision" | "outcome" | "rpc.response.status_code" => is_word(value),
            "rpc.system.name" => value == "grpc",
            _ => false,
        };
        assert!(values.iter().all(is_fit), "{key} is {values:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_traced_from_the_launch_to_the_record_of_their_end() {
    let (collector, url) = Collector::start().await;
    let mut world = World::start(&url, &[]).await;
    let mut worker = world.simulated(&url);
    let campaign = world.launch().await;
    let dialled = eventually("all calls are told of, and what was recorded of them", || async {
        let dialled = collector.named("dial");
        let reported = causes(&collector.named("Dispatch report"));
        (dialled.len() == CONTACTS && places(&dialled).is_subset(&reported)).then_some(dialled)
    })
    .await;
    assert_eq!(dials(&world.log).len(), CONTACTS);

    // The caller's trace goes on in the service. Other requests are not traced.
    let launch = collector.named("campaign.v1.CampaignService/LaunchCampaign");
    let [launch] = launch.as_slice() else { panic!("{launch:?}") };
    assert_eq!((hex(&launch.span.trace_id).as_str(), launch.program.as_str()), (TRACE, SERVICE));
    assert_eq!(hex(&launch.span.parent_span_id), CALLER);
    assert_eq!(launch.span.trace_state, STATE);
    assert_eq!(launch.attributes()["rpc.response.status_code"], "OK");
    assert!(collector.named("campaign.v1.CampaignService/CreateCampaign").is_empty());

    // Each call has a trace of its own that links to the launch, and the dial is part of that trace.
    let calls = collector.named("call");
    assert_eq!(calls.len(), CONTACTS);
    for call in &calls {
        assert_eq!((call.parent(), call.program.as_str()), (None, WORKER));
        assert_eq!(call.causes(), [launch.place()]);
        assert_eq!(call.attributes()["campaign"], campaign);
    }
    let parents: BTreeSet<Place> = dialled.iter().filter_map(Told::parent).collect();
    assert_eq!(parents, places(&calls));
    let attempts = dialled.iter().map(|dial| dial.attributes()["attempt_id"].clone());
    let logged = dials(&world.log).into_iter().map(|dial| dial.attempt_id);
    assert_eq!(attempts.collect::<BTreeSet<_>>(), logged.collect());

    // The service's decisions and records are in the trace of the call, or linked to it.
    let authorised = collector.named("Dispatch authorize");
    assert_eq!(causes(&authorised), places(&calls));
    assert_eq!(authorised.iter().flat_map(Told::causes).count(), CONTACTS);
    let reported = collector.named("Dispatch report");
    assert_eq!(causes(&reported), places(&dialled));
    for told in authorised.iter().chain(&reported) {
        assert!(told.program == SERVICE && told.parent().is_some(), "{told:?}");
    }

    // The stream ends with the worker, and each program sends its waiting spans before it ends.
    worker.stop(PATIENCE).await.unwrap();
    world.service.stop(PATIENCE).await.unwrap();
    let connected = collector.named("connect");
    let streams = collector.named("campaign.v1.DispatchService/Dispatch");
    assert_eq!(causes(&streams), places(&connected));
    assert_eq!(connected.len(), 1);
    check_privacy(&collector.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_told_which_trace_its_call_is_of() {
    let (collector, url) = Collector::start().await;
    let mut world = World::start(&url, &[]).await;
    world.launch().await;
    let told: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let heard = Arc::clone(&told);
    // The platform accepts no calls; that is an outcome, too.
    let platform = Router::new().fallback(move |headers: HeaderMap| async move {
        let parent = headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        heard.lock().unwrap().extend(parent);
        StatusCode::UNPROCESSABLE_ENTITY
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, platform).await });
    let mut worker = world.worker(&url);
    worker.args(["--provider", "http", "--http-url", &address]);
    worker.args(["--http-callback-listen", "127.0.0.1:0", "--provider-failures", "1000"]);
    worker.env("DIALER_HTTP_CALLBACK_SECRET", "callback-secret-that-nobody-may-see");
    let _worker = Program::start(&mut worker).unwrap();
    let dialled = eventually("all calls are told of", || async {
        let dialled = collector.named("dial");
        (dialled.len() == CONTACTS).then_some(dialled)
    })
    .await;
    let parent =
        |dial: &Told| format!("00-{}-{}-01", hex(&dial.span.trace_id), hex(&dial.span.span_id));
    assert_eq!(dialled.iter().map(parent).collect::<BTreeSet<_>>(), *told.lock().unwrap());
    assert!(dialled.iter().all(|dial| dial.attributes()["outcome"] == "FAILED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_hangs_harms_nothing() {
    // The collector accepts connections, and never answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = (format!("http://{}", hangs.local_addr().unwrap()), hangs);
    let away = format!("http://127.0.0.1:{}", free_port());
    let [service_port, worker_port] = [(); 2].map(|()| free_port());
    let listen = format!("127.0.0.1:{service_port}");
    let mut world = World::start(&hangs.0, &["--metrics-listen", &listen]).await;
    let mut worker = world.worker(&away);
    worker.args(["--time-scale", "0.001", "--metrics-listen", &format!("127.0.0.1:{worker_port}")]);
    worker.arg("--dial-log").arg(&world.log);
    let said = world.log.with_extension("said");
    worker.env("CAMPAIGN_LOG", "warn").stderr(File::create(&said).unwrap());
    let mut worker = Program::start(&mut worker).unwrap();
    let campaign = world.launch().await;
    world.clients.wait_for(&campaign, v1::CampaignState::Completed).await;
    assert_eq!(dials(&world.log).len(), CONTACTS);
    for (port, lost) in
        [(worker_port, "dialer_lost_spans_total"), (service_port, "campaign_lost_spans_total")]
    {
        eventually("what is lost is counted", || async {
            let text = super::support::processes::scrape(port).await;
            (super::metrics::value(&text, lost) > 0.0).then_some(())
        })
        .await;
    }
    let asked_at = Instant::now();
    worker.stop(PATIENCE).await.unwrap();
    world.service.stop(PATIENCE).await.unwrap();
    assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
    // The log has one line, however often the export was tried.
    let text = std::fs::read_to_string(&said).unwrap();
    std::fs::remove_file(said).unwrap();
    assert_eq!(text.matches("takes no traces").count(), 1, "{text}");
}
