//! Running service: API, health, reflection and chores, until it is stopped.

use crate::app::DispatchLimits;
use crate::app::backlog::BacklogWatch;
use crate::app::campaigns::Campaigns;
use crate::app::chores::{ChoreOptions, Chores};
use crate::app::control::ControlBus;
use crate::app::dispatch::Dispatch;
use crate::app::dispatch::dispatcher::Dispatcher;
use crate::app::facts::Facts;
use crate::app::kept_counts::KeptCounts;
use crate::app::people::contacts::Contacts;
use crate::app::people::erased::Erased;
use crate::app::people::erasing::Erasures;
use crate::app::people::inbound::Inbound;
use crate::app::people::suppressing::Suppressions;
use crate::app::watch::Watch;
use crate::eraser::Eraser;
use crate::grpc::access::CheckAccess;
use crate::grpc::around::Around;
use crate::grpc::deadlines::KeepDeadlines;
use crate::grpc::limits::{CallLimits, KeepLimits, WorkerStreams};
use crate::grpc::observing::Observe;
use crate::grpc::panics::ContainPanics;
use crate::grpc::reading::{ReadMessages, ReadingLimits};
use crate::grpc::{CampaignApi, ContactApi, DispatchApi, InteractionApi, SessionParts};
use crate::health::HealthWatch;
use crate::links::{self, Links};
use crate::metrics::Metrics;
use crate::store::Db;
use crate::tls::Tls;
use crate::tokens::Tokens;
use campaign_process::Health;
use campaign_process::connections::{ConnectionLimits, Connections};
use campaign_process::health::LIVENESS;
use campaign_process::scraping::serve_metrics;
use campaign_process::serving::serve_grpc;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_server::CampaignServiceServer;
use campaign_proto::v1::contact_service_server::ContactServiceServer;
use campaign_proto::v1::dispatch_service_server::DispatchServiceServer;
use campaign_proto::v1::interaction_service_server::InteractionServiceServer;
use http::{Request, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;
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
/// Most leases that are made at the same time.
const MAX_LEASES: usize = 8;
/// Most connections for leases, as a share of all. The rest is for control and for what workers ask.
const LEASING_SHARE: usize = 2;
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
    let (links, side) = (options.links.clone(), options.side);
    let control = ControlBus::default();
    let Parts { apis, dispatcher, chores, backlog, facts, metrics } =
        compose(&db, &options, control.clone(), &stop);
    let health_service = health.service();
    let mut tasks = JoinSet::new();
    {
        let stop = stop.clone();
        tasks.spawn(lasting(async move { chores.run(&stop).await }));
    }
    {
        let stop = stop.clone();
        tasks.spawn(lasting(async move { dispatcher.run(&stop).await }));
    }
    {
        let (db, stop) = (db.clone(), stop.clone());
        tasks.spawn(lasting(async move { control.run(&db, &stop).await }));
    }
    tasks.spawn(lasting(options.access.clone().reload(stop.clone())));
    // The first look comes before the first connection, whose caller finds the services known.
    let mut watch = HealthWatch::new(health.clone(), db, Arc::clone(&metrics));
    watch.look().await;
    let watching = stop.clone();
    tasks.spawn(lasting(async move { watch.run(&watching).await }));
    if let Some(listener) = listeners.metrics {
        tasks.spawn(lasting(measure(listener, side, backlog, stop.clone())));
    }
    if let Some((listener, links)) = listeners.links.zip(links) {
        let metrics = Arc::clone(&metrics);
        tasks.spawn(lasting(links::serve(listener, side, facts, metrics, links, stop.clone())));
    }
    let tending = tokio::spawn(tend(tasks, health, stop.clone()));

    let connections = Connections::new(options.connections, metrics.turned_away("api"));
    let access = options.access.clone();
    let service = api(apis, metrics, health_service, options)?;
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

/// Parts of the service, each with the use cases that it calls.
struct Parts {
    apis: Apis,
    dispatcher: Arc<Dispatcher>,
    chores: Chores,
    backlog: BacklogWatch,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
}

/// Implementations of the services of the API.
struct Apis {
    campaigns: CampaignApi,
    contacts: ContactApi,
    interactions: InteractionApi,
    dispatch: DispatchApi,
}

/// Composes all use cases, once.
fn compose(db: &Db, options: &Options, control: ControlBus, stop: &CancellationToken) -> Parts {
    let metrics: Arc<Metrics> = Arc::default();
    let watch = Watch::new(db, options.limits.clone(), Arc::clone(&metrics));
    let (db, limits) = (|| db.clone(), || options.limits.clone());
    let erased = Erased::new(options.eraser.clone());
    let campaigns = Arc::new(Campaigns { db: db() });
    let contacts = Contacts { db: db(), limits: limits(), erased: erased.clone() };
    let suppressions = Suppressions { db: db(), erased: erased.clone() };
    let inbound = Inbound { db: db(), erased: erased.clone() };
    let erasures = Erasures { db: db(), erased };
    let facts = Arc::new(Facts::new(db(), limits(), Arc::clone(&metrics)));
    let dispatch = Arc::new(Dispatch::new(db(), limits(), options.links.clone()));
    let max_leases = (db().pool().max_connections / LEASING_SHARE).clamp(1, MAX_LEASES);
    let dispatcher =
        Dispatcher::new(Arc::clone(&dispatch), control.clone(), Arc::clone(&metrics), max_leases);
    let dispatcher = Arc::new(dispatcher);
    let apis = Apis {
        campaigns: CampaignApi {
            campaigns: Arc::clone(&campaigns),
            watch,
            suppressions: suppressions.clone(),
            stop: stop.clone(),
        },
        contacts: ContactApi {
            campaigns: Arc::clone(&campaigns),
            contacts: contacts.clone(),
            suppressions: suppressions.clone(),
            erasures: erasures.clone(),
        },
        interactions: InteractionApi {
            campaigns: Arc::clone(&campaigns),
            contacts,
            facts: Arc::clone(&facts),
            suppressions,
            inbound,
        },
        dispatch: DispatchApi {
            parts: SessionParts {
                campaigns: Arc::clone(&campaigns),
                dispatch,
                dispatcher: Arc::clone(&dispatcher),
                facts: Arc::clone(&facts),
                metrics: Arc::clone(&metrics),
                control,
                stop: stop.clone(),
                streams: WorkerStreams::default(),
            },
        },
    };
    let chores = Chores {
        db: db(),
        options: options.chores,
        campaigns,
        facts: Arc::clone(&facts),
        erasures,
        counts: KeptCounts { db: db(), metrics: Arc::clone(&metrics) },
        metrics: Arc::clone(&metrics),
    };
    let backlog = BacklogWatch { db: db().for_looking(), metrics: Arc::clone(&metrics) };
    Parts { apis, dispatcher, chores, backlog, facts, metrics }
}

/// Returns the service of all methods with its layers. A request is counted first. Then the layers apply its deadline,
/// contain panics, check access, read its messages, and wait for a place.
fn api(
    apis: Apis,
    metrics: Arc<Metrics>,
    health: HealthServer<HealthService>,
    options: Options,
) -> Result<
    impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static,
    tonic_reflection::server::Error,
> {
    let Apis { campaigns, contacts, interactions, dispatch } = apis;
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
    backlog: BacklogWatch,
    stop: CancellationToken,
) {
    let (db, metrics) = (backlog.db.clone(), Arc::clone(&backlog.metrics));
    let render = move || metrics.render(&db.pool());
    let serving = serve_metrics(listener, limits, render, stop.clone());
    tokio::join!(serving, backlog.run(&stop));
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
