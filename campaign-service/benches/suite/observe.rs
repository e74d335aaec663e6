//! Cost of observation: dispatch with metrics scraped, all events logged, and one call in a hundred traced to a
//! collector, beside the same dispatch unobserved. The collector and the scraper run here, beside the programs that
//! they observe.

use crate::args::{Args, BATCH_CONTACTS, CONNECTIONS};
use crate::dispatch::{Setup, measure_on};
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, scrape};
use campaign_testkit::free_address;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use std::fs::File;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Share of the calls that is traced: one in so many.
const TRACE_EVERY: usize = 100;
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_ROUNDS: usize = 3;
/// Longest wait for the last spans.
const LAST_SPANS_LIMIT: Duration = Duration::from_secs(10);

pub async fn run(args: Args) -> Vec<Figure> {
    let (mut watched, mut alone) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds.max(LEAST_ROUNDS) {
        println!("round {round}: {} contacts, watched and not", args.contacts);
        // Each of the two goes first in every other round.
        for is_watched in [round % 2 == 0, round % 2 != 0] {
            let scratch = Scratch::new(&args.database_url).await;
            if is_watched {
                watched.push(measure_watched(&scratch, args.contacts).await);
                println!("  {:<48} {:>9.0} a second", "watched", watched[watched.len() - 1]);
            } else {
                alone.push(measure_alone(&scratch, args.contacts).await);
                println!("  {:<48} {:>9.0} a second", "nobody watches", alone[alone.len() - 1]);
            }
        }
    }
    let watched = Measure::of_rounds("metrics scraped, logs at info, 1% of calls traced", &watched);
    let alone = Measure::of_rounds("nobody watches", &alone);
    vec![Figure::new("contacts/s", watched).beside(alone).goal(Goal::AtLeast(0.95))]
}

fn setup(trace_every: Option<usize>) -> Setup {
    Setup { workers: CONNECTIONS, replicas: 1, at_once: BATCH_CONTACTS, trace_every }
}

async fn measure_alone(scratch: &Scratch, contacts: usize) -> f64 {
    let replica = Replica::first(&scratch.url).await;
    measure_on(&[replica], scratch, contacts, setup(None)).await
}

async fn measure_watched(scratch: &Scratch, contacts: usize) -> f64 {
    let parts = Arc::new(AtomicUsize::new(0));
    let collector = collect(Arc::clone(&parts)).await;
    let metrics = free_address();
    let flags = [
        ["--log", "info"],
        ["--log-format", "json"],
        ["--metrics-listen", &metrics.to_string()],
        ["--otlp-endpoint", &format!("http://{collector}")],
        ["--trace-ratio", "0.01"],
    ];
    let logs = std::env::temp_dir().join(format!("bench-observe-{}.log", std::process::id()));
    let file = Stdio::from(File::create(&logs).unwrap());
    let replica = Replica::first_logging_to(&scratch.url, &flags.concat(), file).await;
    let scraping = scrape_on_and_on(metrics);
    let replicas = [replica];
    let rate = measure_on(&replicas, scratch, contacts, setup(Some(TRACE_EVERY))).await;
    scraping.abort();
    let scrapes = scraping.await;
    assert!(scrapes.is_err_and(|error| error.is_cancelled()), "the metrics were not shown");
    // The observation was complete: each traced call has a part in a request and in a report.
    let least = 2 * (contacts / TRACE_EVERY).saturating_sub(CONNECTIONS);
    let all = async {
        while parts.load(Ordering::Relaxed) < least {
            tokio::time::sleep(SCRAPE_INTERVAL / 10).await;
        }
    };
    let told = tokio::time::timeout(LAST_SPANS_LIMIT, all).await;
    assert!(told.is_ok(), "the collector counted {parts:?} parts of calls, not {least}");
    let logged = std::fs::metadata(&logs).unwrap().len();
    assert!(logged > 0, "nothing was logged");
    std::fs::remove_file(logs).unwrap();
    rate
}

/// Collector that accepts all spans and counts the parts that calls have in them: the first one's span, and links to
/// others.
struct Collector(Arc<AtomicUsize>);

async fn collect(parts: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(TraceServiceServer::new(Collector(parts)));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        let parts: usize = spans.map(|span| 1 + span.links.len()).sum();
        self.0.fetch_add(parts, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Asks for the metrics each second, as Prometheus would. Ends only when that fails.
fn scrape_on_and_on(address: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SCRAPE_INTERVAL);
        loop {
            ticks.tick().await;
            scrape(address).await;
        }
    })
}
