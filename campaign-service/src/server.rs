//! Running service: API, health, reflection and chores, until it is stopped.

use crate::app::chores::ChoreOptions;
use crate::app::control::ControlBus;
use crate::app::{App, DispatchLimits};
use crate::eraser::Eraser;
use crate::grpc::access::CheckAccess;
use crate::grpc::around::Around;
use crate::grpc::deadlines::KeepDeadlines;
use crate::grpc::limits::{CallLimits, KeepLimits, WorkerStreams};
use crate::grpc::observing::Observe;
use crate::grpc::panics::ContainPanics;
use crate::grpc::reading::{ReadMessages, ReadingLimits};
use crate::grpc::{CampaignApi, ContactApi, DispatchApi, InteractionApi};
use crate::links::{self, Links};
use crate::metrics::Metrics;
use crate::store::Db;
use crate::tls::Tls;
use crate::tokens::Tokens;
use campaign_process::Health;
use campaign_process::connections::{ConnectionLimits, Connections};
use campaign_process::health::{LIVENESS, READINESS};
use campaign_process::scraping::serve_metrics;
use campaign_process::serving::serve_grpc;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_server::{
    CampaignServiceServer, SERVICE_NAME as CAMPAIGN,
};
use campaign_proto::v1::contact_service_server::{ContactServiceServer, SERVICE_NAME as CONTACT};
use campaign_proto::v1::dispatch_service_server::{
    DispatchServiceServer, SERVICE_NAME as DISPATCH,
};
use campaign_proto::v1::interaction_service_server::{
    InteractionServiceServer, SERVICE_NAME as INTERACTION,
};
use http::{Request, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;
use tower::{Service, ServiceBuilder};
use tracing::{error, warn};

/// Most concurrent requests and streams on one connection. A client library holds back more requests by itself, at no
/// cost to the service. A client that needs more opens more connections.
const MAX_REQUESTS_PER_CONNECTION: u32 = 128;
/// Time between checks that the database answers.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for the answer of the database to a check.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);
/// Time for last messages after the grace of a drain.
const LAST_WORDS: Duration = Duration::from_secs(2);

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Options of the running service.
#[derive(Clone, Debug)]
pub struct Options {
    pub limits: DispatchLimits,
    pub chores: ChoreOptions,
    /// Maker of links in texts; `None`: texts carry no links.
    pub links: Option<Links>,
    /// Keys of erased people; `None`: nobody can be erased.
    pub eraser: Option<Eraser>,
    pub access: Access,
    pub calls: CallLimits,
    /// Limits of connections to the API's listener.
    pub connections: ConnectionLimits,
    pub reading: ReadingLimits,
    /// Limits of connections to each other listener.
    pub side: ConnectionLimits,
}

/// Access to the API. The default admits everyone.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Verifier of tokens; `None`: everyone may do everything.
    pub tokens: Option<Arc<Tokens>>,
    /// TLS settings; `None`: the API is in the clear.
    pub tls: Option<Arc<Tls>>,
    /// Time between checks of the key and certificate files.
    pub reload_interval: Duration,
}

impl Access {
    /// Reloads changed keys and certificates until `stop`.
    async fn reload(self, stop: CancellationToken) {
        let interval = self.reload_interval;
        let tokens = async {
            if let Some(tokens) = &self.tokens {
                tokens.run(interval, &stop).await;
            }
        };
        let tls = async {
            if let Some(tls) = &self.tls {
                tls.run(interval, &stop).await;
            }
        };
        // Lasts until `stop`, even without tokens and TLS.
        tokio::join!(tokens, tls, stop.cancelled());
    }
}

/// Listeners of the service.
#[derive(Debug)]
pub struct Listeners {
    pub api: TcpListener,
    /// Listener for clicks on links; needs [`Options::links`].
    pub links: Option<TcpListener>,
    /// Listener for Prometheus.
    pub metrics: Option<TcpListener>,
}

/// Serves on the listeners until `stop`. Then workers may leave and requests may finish, within the grace of a drain.
///
/// # Errors
/// Returns an error if a listener fails, or if a task that should last ends by itself.
pub async fn serve(
    listeners: Listeners,
    db: Db,
    options: Options,
    health: Health,
    stop: CancellationToken,
) -> Outcome {
    let limit = options.limits.drain_grace + LAST_WORDS;
    let too_late = async {
        stop.cancelled().await;
        sleep(limit).await;
    };
    tokio::select! {
        served = serve_all(listeners, db, options, health, stop.clone()) => served,
        () = too_late => {
            warn!("not everything ended within the grace; the rest is cut off");
            Ok(())
        }
    }
}

/// Serves until `stop` and until everything that was begun has ended.
async fn serve_all(
    listeners: Listeners,
    db: Db,
    options: Options,
    health: Health,
    stop: CancellationToken,
) -> Outcome {
    let links = options.links.clone();
    let mut app = App::new(db.clone(), options.limits.clone());
    app.links.clone_from(&links);
    app.eraser = options.eraser.clone();
    let app = Arc::new(app);
    let control = ControlBus::default();
    let health_service = health.service();
    let mut tasks = JoinSet::new();
    {
        let (app, chores, stop) = (Arc::clone(&app), options.chores, stop.clone());
        tasks.spawn(lasting(async move { app.run_chores(&chores, &stop).await }));
    }
    {
        let (control, db, stop) = (control.clone(), db.clone(), stop.clone());
        tasks.spawn(lasting(async move { control.run(&db, &stop).await }));
    }
    tasks.spawn(lasting(options.access.clone().reload(stop.clone())));
    let metrics = Arc::clone(&app.metrics);
    let side = options.side;
    // The first look comes before the first connection, whose caller finds the services known.
    let mut watch = HealthWatch::new(health.clone(), db, Arc::clone(&metrics));
    watch.look().await;
    let watching = stop.clone();
    tasks.spawn(lasting(async move { watch.run(&watching).await }));
    if let Some(listener) = listeners.metrics {
        tasks.spawn(lasting(measure(listener, side, Arc::clone(&app), stop.clone())));
    }
    if let Some((listener, links)) = listeners.links.zip(links) {
        tasks.spawn(lasting(links::serve(listener, side, Arc::clone(&app), links, stop.clone())));
    }
    let tending = tokio::spawn(tend(tasks, health, stop.clone()));

    let connections = Connections::new(options.connections, metrics.turned_away("api"));
    let access = options.access.clone();
    let service = api(&app, control, health_service, options, &stop)?;
    let (listener, requests, stopping) = (listeners.api, MAX_REQUESTS_PER_CONNECTION, stop.clone());
    match access.tls {
        None => {
            let greet = |stream| std::future::ready(Ok(stream));
            serve_grpc(listener, connections, requests, None, greet, service, stopping).await;
        }
        Some(tls) => {
            let greet = move |stream| Arc::clone(&tls).greet(stream);
            serve_grpc(listener, connections, requests, None, greet, service, stopping).await;
        }
    }
    stop.cancel();
    tending.await??;
    Ok(())
}

/// Returns the service of all methods with its layers. A request is counted first. Then the layers apply its deadline,
/// contain panics, check access, read its messages, and wait for a place.
fn api(
    app: &Arc<App>,
    control: ControlBus,
    health: HealthServer<HealthService>,
    options: Options,
    stop: &CancellationToken,
) -> Result<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static,
    tonic_reflection::server::Error,
> {
    let metrics = Arc::clone(&app.metrics);
    let app = Arc::clone(app);
    let campaigns = CampaignApi { app: Arc::clone(&app), stop: stop.clone() };
    let contacts = ContactApi { app: Arc::clone(&app) };
    let interactions = InteractionApi { app: Arc::clone(&app) };
    let dispatch =
        DispatchApi { app, control, stop: stop.clone(), streams: WorkerStreams::default() };
    let routes = Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            CampaignServiceServer::new(campaigns)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(usize::MAX),
        )
        .add_service(
            ContactServiceServer::new(contacts)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(usize::MAX),
        )
        // `ReadMessages` limits the length of messages.
        .add_service(
            InteractionServiceServer::new(interactions).max_decoding_message_size(usize::MAX),
        )
        .add_service(DispatchServiceServer::new(dispatch).max_decoding_message_size(usize::MAX))
        .prepare();
    Ok(ServiceBuilder::new()
        .layer(Around(Observe(Arc::clone(&metrics))))
        .layer(Around(KeepDeadlines))
        .layer(Around(ContainPanics))
        .layer(Around(CheckAccess::new(options.access.tokens)))
        .layer(Around(ReadMessages::new(options.reading)))
        .layer(Around(KeepLimits::new(options.calls, metrics)))
        .service(routes))
}

/// Wraps a task that fails only by a panic.
async fn lasting(task: impl Future<Output = ()>) -> std::io::Result<()> {
    task.await;
    Ok(())
}

/// Waits for tasks that should last until `stop`. If a task ends before, the process goes on without that task. The
/// liveness probe then fails, to ask for a restart.
async fn tend(
    mut tasks: JoinSet<std::io::Result<()>>,
    health: Health,
    stop: CancellationToken,
) -> Outcome {
    let mut outcome: Outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        if !stop.is_cancelled() {
            error!(?ended, "a part of the service has ended; restart it");
            health.set(LIVENESS, false).await;
        }
        outcome =
            outcome.and(ended.map_err(Into::into).and_then(|ended| ended.map_err(Into::into)));
    }
    outcome
}

/// Returns the reflection service of our own descriptors, health and error details, so that tools can show all three.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Serves the metrics, and counts the backlog in the background.
async fn measure(
    listener: TcpListener,
    limits: ConnectionLimits,
    app: Arc<App>,
    stop: CancellationToken,
) {
    let shown = Arc::clone(&app);
    let render = move || shown.metrics.render(&shown.db.pool());
    let serving = serve_metrics(listener, limits, render, stop.clone());
    tokio::join!(serving, app.watch_backlog(&stop));
}

/// Watch on the database. Every service is as healthy as the database.
struct HealthWatch {
    health: Health,
    db: Db,
    metrics: Arc<Metrics>,
    /// Result of the last look; `None` before the first.
    was_healthy: Option<bool>,
}

impl HealthWatch {
    fn new(health: Health, db: Db, metrics: Arc<Metrics>) -> Self {
        Self { health, db, metrics, was_healthy: None }
    }

    /// Asks the database, and reports every service as healthy while it answers.
    async fn look(&mut self) {
        let trouble = match timeout(HEALTH_LIMIT, self.db.ping()).await {
            Ok(answer) => answer.err().map(|error| error.to_string()),
            Err(_) => Some("it does not answer".to_owned()),
        };
        let is_healthy = trouble.is_none();
        self.metrics.database.up.set(is_healthy.into());
        if self.was_healthy.replace(is_healthy) == Some(is_healthy) {
            return;
        }
        if let Some(error) = trouble {
            warn!(error, "the database is away; requests fail until it is back");
        }
        set_services(&self.health, is_healthy).await;
    }

    /// Looks again and again until `stop`. After `stop` no service is healthy.
    async fn run(mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(sleep(HEALTH_INTERVAL)).await.is_some() {
            if stop.run_until_cancelled(self.look()).await.is_none() {
                break;
            }
        }
        set_services(&self.health, false).await;
    }
}

async fn set_services(health: &Health, is_serving: bool) {
    for service in [READINESS, CAMPAIGN, CONTACT, INTERACTION, DISPATCH] {
        health.set(service, is_serving).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    async fn status(health: &Health, service: &str) -> ServingStatus {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(health.service()).check(request).await;
        answer.expect("a known service").into_inner().status()
    }

    #[tokio::test]
    async fn a_part_that_dies_asks_for_a_restart_and_one_that_was_told_to_stop_does_not() {
        let (health, stop) = (Health::new().await, CancellationToken::new());
        let mut tasks = JoinSet::new();
        let until = stop.clone();
        tasks.spawn(lasting(until.cancelled_owned()));
        let tending = tokio::spawn(tend(tasks, health.clone(), stop.clone()));
        stop.cancel();
        assert!(tending.await.expect("no panic").is_ok());
        assert_eq!(status(&health, LIVENESS).await, ServingStatus::Serving);

        let mut tasks = JoinSet::new();
        tasks.spawn(async { panic!("on purpose") });
        let tended = tend(tasks, health.clone(), CancellationToken::new()).await;
        assert!(tended.is_err());
        assert_eq!(status(&health, LIVENESS).await, ServingStatus::NotServing);
    }
}
