//! Inbound calls under faults: the service is away, too many people call, the worker stops.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::interaction_service_server::{
    InteractionService, InteractionServiceServer,
};
use campaign_proto::v1::{
    InboundDecision, InteractionResult, InteractionStatus, RecordInteractionsRequest,
    RecordInteractionsResponse, RouteInboundRequest, RouteInboundResponse,
};
use campaign_sip::{Caller, Sipp, Traffic, takes};
use campaign_testkit::free_address;
use clap::Parser;
use dialer_worker::config::Config;
use dialer_worker::dialer;
use dialer_worker::dialer::Dialer;
use dialer_worker::metrics::Metrics;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::fake::within;

const CALLER: &str = "+14155550100";

/// Service that accepts every caller and records its requests.
#[derive(Default)]
struct Books {
    /// Milliseconds before a routing request is answered.
    delay: AtomicU64,
    asked: AtomicUsize,
    /// Number of records whose answer will be lost.
    answers_to_lose: AtomicUsize,
    /// Interaction id and seconds of each record.
    told: Mutex<Vec<(String, i64)>>,
    /// The only authorisation that gets in; empty: all do.
    key: Mutex<String>,
}

impl Books {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let key = self.key.lock().expect("no panic").clone();
        let shown = request.metadata().get("authorization");
        if key.is_empty() || shown.is_some_and(|shown| *shown == *key) {
            return Ok(());
        }
        Err(Status::unauthenticated("the token has expired"))
    }
}

struct Accepting(Arc<Books>);

#[tonic::async_trait]
impl InteractionService for Accepting {
    async fn route_inbound(
        &self,
        request: Request<RouteInboundRequest>,
    ) -> Result<Response<RouteInboundResponse>, Status> {
        self.0.admit(&request)?;
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.0.delay.load(Ordering::SeqCst))).await;
        Ok(Response::new(RouteInboundResponse {
            contact: "campaigns/a/contacts/1".to_owned(),
            decision: InboundDecision::Accept.into(),
            ..RouteInboundResponse::default()
        }))
    }

    async fn record_interactions(
        &self,
        request: Request<RecordInteractionsRequest>,
    ) -> Result<Response<RecordInteractionsResponse>, Status> {
        self.0.admit(&request)?;
        let request = request.into_inner();
        assert_eq!((request.parent.as_str(), request.interactions.len()), ("campaigns/a", 1));
        let interaction = request.interactions[0].interaction.clone().expect("set");
        assert_eq!(interaction.contact, "campaigns/a/contacts/1");
        let Some(Fact::CalledIn(call)) = interaction.fact else { panic!("not called in") };
        let seconds = call.duration.expect("set").seconds;
        self.0.told.lock().expect("no panic").push((interaction.interaction_id, seconds));
        let lost =
            self.0
                .answers_to_lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if lost.is_ok() {
            return Err(Status::unavailable("lost"));
        }
        let status = InteractionStatus::Recorded.into();
        let results = vec![InteractionResult { status, ..InteractionResult::default() }];
        Ok(Response::new(RecordInteractionsResponse { results }))
    }
}

/// Provider, and the address at which it accepts calls.
struct Stage {
    books: Arc<Books>,
    dialer: Arc<dyn Dialer>,
    address: String,
    traffic: Traffic,
}

impl Stage {
    async fn set(flags: &[&str]) -> Self {
        Self::over(Traffic::Udp, flags).await
    }

    async fn over(traffic: Traffic, flags: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let books = Arc::<Books>::default();
        let service = InteractionServiceServer::new(Accepting(Arc::clone(&books)));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        // The first replica is away.
        Self::on(&format!("http://127.0.0.1:1,{url}"), books, traffic, flags).await
    }

    async fn on(urls: &str, books: Arc<Books>, traffic: Traffic, flags: &[&str]) -> Self {
        let address = free_address().to_string();
        let program = [
            "dialer-worker",
            "--service-url",
            urls,
            "--provider",
            "sip",
            "--sip-trunk",
            "127.0.0.1:9",
            "--sip-listen",
            &address,
            "--sip-transport",
            traffic.transport(),
            "--sip-inbound-campaign",
            "campaigns/a",
        ];
        let config = Config::try_parse_from([&program, flags].concat()).expect("flags are right");
        let dialer = dialer(&config, &Metrics::default()).await.expect("the provider starts");
        Self { books, dialer, address, traffic }
    }

    fn caller(&self) -> Caller {
        Caller { traffic: self.traffic, ..Caller::new(CALLER) }
    }

    async fn call(&self) -> String {
        let said = self.caller().call("calls_in", &self.address).await.expect("a call");
        said.join("; ")
    }

    /// Begins a call in the background.
    fn begin(&self, scenario: &'static str, pause_millis: u32) -> JoinHandle<Vec<String>> {
        let address = self.address.clone();
        let caller = Caller { pause_millis, ..self.caller() };
        tokio::spawn(async move { caller.call(scenario, &address).await.expect("a call") })
    }

    async fn until_asked(&self, times: usize) {
        let asked = async {
            while self.books.asked.load(Ordering::SeqCst) < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the question", asked).await;
    }

    fn told(&self) -> Vec<(String, i64)> {
        self.books.told.lock().expect("no panic").clone()
    }
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_call_is_told_under_the_same_id_until_it_is_taken() {
    let stage = Stage::set(&[]).await;
    stage.books.answers_to_lose.store(3, Ordering::SeqCst);
    assert_eq!(stage.call().await, "200");
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    let told = stage.told();
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|entry| *entry == told[0] && entry.1 == 1), "{told:?}");
}

/// The token is sent with each request and record, as the file holds it at that time. A record that
/// is rejected waits for a valid token.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn the_token_of_the_file_is_shown() {
    let file = std::env::temp_dir().join(format!("token-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, "first\n").expect("written");
    let stage = Stage::set(&["--token-file", file.to_str().expect("a name")]).await;
    let accept = |token: &str| {
        *stage.books.key.lock().expect("no panic") = format!("Bearer {token}");
    };
    accept("first");
    assert_eq!(stage.call().await, "200");
    accept("second");
    assert_eq!(stage.call().await, "503 30", "nobody is answered with a token from before");
    std::fs::write(&file, "second").expect("written");
    assert_eq!(stage.call().await, "200");
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    assert_eq!(stage.told().len(), 2);
    std::fs::remove_file(file).expect("it is there");
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn nobody_is_answered_without_the_service() {
    let stage = Stage::on("http://127.0.0.1:1", Arc::default(), Traffic::Udp, &[]).await;
    assert_eq!(stage.call().await, "503 30");
    assert_eq!(stage.dialer.stop(Duration::ZERO).await, 0);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_fax_machine_is_rejected_without_a_question() {
    let stage = Stage::set(&[]).await;
    let said = stage.begin("fax_in", 0).await.expect("no panic");
    assert_eq!(said, ["488"]);
    assert_eq!(stage.books.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn strangers_and_unknown_numbers_are_not_asked_for() {
    let stage = Stage::set(&["--sip-inbound-allow", "127.0.0.2"]).await;
    assert_eq!(stage.call().await, "403");
    let program = Stage::set(&[]).await;
    assert_eq!(program.call().await, "200", "the trunk's own address is enough");
    assert_eq!(stage.books.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn no_more_are_answered_than_there_are_places() {
    let stage = Stage::set(&["--sip-inbound-max-calls", "1"]).await;
    let first = stage.begin("calls_in", 2_000);
    stage.until_asked(1).await;
    assert_eq!(stage.call().await, "486");
    assert_eq!(first.await.expect("no panic"), ["200"]);
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    assert_eq!(stage.told().len(), 1);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn who_gives_up_before_the_answer_has_not_called() {
    let stage = Stage::set(&[]).await;
    stage.books.delay.store(2_000, Ordering::SeqCst);
    let said = stage.begin("gives_up", 300).await.expect("no panic");
    assert_eq!(said, ["487"]);
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    assert_eq!((stage.books.asked.load(Ordering::SeqCst), stage.told()), (1, Vec::new()));
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn calls_in_progress_have_their_grace_and_are_then_hung_up() {
    let stage = Stage::set(&[]).await;
    let patient = stage.begin("stays_in", 0);
    stage.until_asked(1).await;
    let began = Instant::now();
    let dialer = Arc::clone(&stage.dialer);
    let stopping = tokio::spawn(async move { dialer.stop(Duration::from_secs(3)).await });
    assert_eq!(stage.call().await, "503 30", "nobody new");
    assert_eq!(stopping.await.expect("no panic"), 0, "all is recorded");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(patient.await.expect("no panic"), ["200", "BYE"]);
    let told = stage.told();
    assert_eq!(told.len(), 1);
    assert!((2..=4).contains(&told[0].1), "{told:?}");
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_call_ends_at_the_limit() {
    let stage = Stage::set(&["--sip-talk-limit-seconds", "1"]).await;
    let patient = stage.begin("stays_in", 0);
    assert_eq!(patient.await.expect("no panic"), ["200", "BYE"]);
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    assert_eq!(stage.told().len(), 1);
}

#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn over_tcp_callers_come_and_go_as_over_udp() {
    let stage = Stage::over(Traffic::Tcp, &["--sip-talk-limit-seconds", "2"]).await;
    assert_eq!(stage.call().await, "200");
    assert_eq!(stage.begin("stays_in", 0).await.expect("no panic"), ["200", "BYE"]);
    stage.books.delay.store(2_000, Ordering::SeqCst);
    assert_eq!(stage.begin("gives_up", 300).await.expect("no panic"), ["487"]);
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    assert_eq!((stage.books.asked.load(Ordering::SeqCst), stage.told().len()), (3, 2));

    let stage = Stage::over(Traffic::Tcp, &["--sip-inbound-allow", "127.0.0.2"]).await;
    assert_eq!(stage.call().await, "403");
    assert_eq!(stage.books.asked.load(Ordering::SeqCst), 0);
}

/// A worker that cannot receive calls reports an error rather than waiting in vain.
#[tokio::test]
async fn a_worker_whose_port_is_taken_does_not_start() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = [("udp", udp.local_addr()), ("tcp", tcp.local_addr())];
    for (transport, address) in taken {
        let address = address.expect("bound").to_string();
        let flags = ["--sip-transport", transport, "--sip-listen", &address];
        let program = ["dialer-worker", "--provider", "sip", "--sip-trunk", "127.0.0.1:9"];
        let config = Config::try_parse_from([&program[..], &flags].concat()).expect("right");
        let Err(error) = dialer(&config, &Metrics::default()).await else {
            panic!("{transport} is taken")
        };
        assert!(error.starts_with(&format!("--sip-listen {address} does not work")), "{error}");
    }
}

/// A caller talks to the campaign's agent: the answer is the agent's, and both ends follow each other.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_caller_talks_to_the_agent() {
    let hung_up = takes("BYE", "left");
    let words = [("delay", "200"), ("then", hung_up.as_str())];
    let mut agent = Sipp::start_with("agent", Traffic::Udp, &words).await.expect("sipp");
    let address = format!("sip:agent@{}", agent.address());
    let stage = Stage::set(&["--sip-agent", &address]).await;
    assert_eq!(stage.call().await, "200");
    assert_eq!(stage.dialer.stop(Duration::from_secs(10)).await, 0);
    agent.finish().await.expect("its call ends");
    assert_eq!((agent.count("left"), agent.count("FailedCall")), (1, 0), "{}", agent.errors());
    assert_eq!(stage.told().len(), 1);
}

/// Nobody is answered to hear nothing.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_caller_is_rejected_without_the_agent() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("sip:agent@{}", silent.local_addr().expect("bound"));
    let flags = ["--sip-agent", &address, "--sip-agent-limit-seconds", "1"];
    let stage = Stage::set(&flags).await;
    assert_eq!(stage.call().await, "480 30");
    assert_eq!(stage.dialer.stop(Duration::ZERO).await, 0);
    assert_eq!(stage.told(), []);
}

/// A caller who gives up while the agent is called takes the agent's call along.
#[tokio::test]
#[ignore = "needs sipp: make test-sip"]
async fn a_caller_who_gives_up_cancels_the_agent() {
    let ringing = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("sip:agent@{}", ringing.local_addr().expect("bound"));
    let flags = ["--sip-agent", &address, "--sip-agent-limit-seconds", "20"];
    let stage = Stage::set(&flags).await;
    let call = stage.begin("gives_up", 500);
    let mut datagram = [0; 8_192];
    let (length, from) = within("an INVITE", ringing.recv_from(&mut datagram)).await.expect("one");
    let invite = String::from_utf8_lossy(&datagram[..length]).into_owned();
    let line = |name: &str| {
        let line = invite.lines().find(|line| line.starts_with(name)).expect("a header");
        line.to_owned()
    };
    let headers = ["Via:", "From:", "Call-ID:", "CSeq:"].map(line).join("\r\n");
    let answer = format!(
        "SIP/2.0 180 Ringing\r\n{headers}\r\n{};tag=1\r\nContent-Length: 0\r\n\r\n",
        line("To:")
    );
    ringing.send_to(answer.as_bytes(), from).await.expect("sent");
    call.await.expect("no panic");
    let cancelled = async {
        loop {
            let length = ringing.recv(&mut datagram).await.expect("a datagram");
            if datagram[..length].starts_with(b"CANCEL ") {
                return;
            }
        }
    };
    within("the CANCEL", cancelled).await;
    assert_eq!(stage.told(), []);
}
