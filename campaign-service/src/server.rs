//! The running service: API, health, reflection and chores, until told to stop.

use crate::app::chores::ChoreOptions;
use crate::app::control::ControlBus;
use crate::app::{App, DispatchLimits};
use crate::eraser::Eraser;
use crate::grpc::access::CheckAccess;
use crate::grpc::around::Around;
use crate::grpc::limits::{CallLimits, KeepLimits, WorkerStreams};
use crate::grpc::observing::Observe;
use crate::grpc::panics::ContainPanics;
use crate::grpc::{CampaignApi, ContactApi, DispatchApi, InteractionApi};
use crate::links::{self, Links};
use crate::metrics::Metrics;
use crate::store::Db;
use crate::tls::Tls;
use crate::tokens::Tokens;
use campaign_process::metrics::serve_metrics;
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
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::warn;

/// Largest request. Above the 10 MB that a careless client sends, so that it learns which field is
/// too long.
const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Requests at the same time on one connection.
const MAX_STREAMS_PER_CONNECTION: u32 = 1_000;
/// How often dead connections are looked for.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How often the database is asked whether it is there.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// How the service runs.
#[derive(Clone, Debug)]
pub struct Options {
    pub limits: DispatchLimits,
    pub chores: ChoreOptions,
    /// For texts; `None`: they carry no links.
    pub links: Option<Links>,
    /// Knows erased people; `None`: nobody can be erased.
    pub eraser: Option<Eraser>,
    pub access: Access,
    pub calls: CallLimits,
}

/// Who gets in. Without anything: everyone.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None`: everyone may do everything.
    pub tokens: Option<Arc<Tokens>>,
    /// `None`: in the clear.
    pub tls: Option<Arc<Tls>>,
    /// How often the files of both are looked at.
    pub reload_interval: Duration,
}

impl Access {
    /// Takes in changed keys and certificates until told to stop.
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
        tokio::join!(tokens, tls);
    }
}

/// Where it is reached.
#[derive(Debug)]
pub struct Listeners {
    pub api: TcpListener,
    /// For people who click links; needs [`Options::links`].
    pub links: Option<TcpListener>,
    /// For who watches us.
    pub metrics: Option<TcpListener>,
}

/// Serves on its listeners until `stop`; then lets workers leave and requests finish.
///
/// # Errors
/// When a listener fails.
pub async fn serve(
    listeners: Listeners,
    db: Db,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let links = options.links;
    let mut app = App::new(db.clone(), options.limits);
    app.links.clone_from(&links);
    app.eraser = options.eraser;
    let app = Arc::new(app);
    let control = ControlBus::default();
    let (health, health_service) = tonic_health::server::health_reporter();
    let chores = {
        let (app, stop) = (Arc::clone(&app), stop.clone());
        tokio::spawn(async move { app.run_chores(&options.chores, &stop).await })
    };
    let listening = {
        let (control, db, stop) = (control.clone(), db.clone(), stop.clone());
        tokio::spawn(async move { control.run(&db, &stop).await })
    };
    let reloading = tokio::spawn(options.access.clone().reload(stop.clone()));
    let metrics = Arc::clone(&app.metrics);
    let watching = tokio::spawn(watch_health(health, db, Arc::clone(&metrics), stop.clone()));
    let measuring = listeners
        .metrics
        .map(|listener| tokio::spawn(measure(listener, Arc::clone(&app), stop.clone())));
    let clicks = listeners.links.zip(links).map(|(listener, links)| {
        tokio::spawn(links::serve(listener, Arc::clone(&app), links, stop.clone()))
    });

    let campaigns = CampaignApi { app: Arc::clone(&app), stop: stop.clone() };
    let contacts = ContactApi { app: Arc::clone(&app) };
    let interactions = InteractionApi { app: Arc::clone(&app) };
    let dispatch =
        DispatchApi { app, control, stop: stop.clone(), streams: WorkerStreams::default() };
    let stopped = stop.clone();
    // A message pushed to a worker must not wait for the acknowledgement of the one before.
    let incoming = TcpIncoming::from(listeners.api).with_nodelay(Some(true));
    let router = tonic::transport::Server::builder()
        .layer(Around(Observe(Arc::clone(&metrics))))
        .layer(Around(ContainPanics))
        .layer(Around(CheckAccess::new(options.access.tokens)))
        .layer(Around(KeepLimits::new(options.calls, metrics)))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            CampaignServiceServer::new(campaigns).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            ContactServiceServer::new(contacts).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            InteractionServiceServer::new(interactions)
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            DispatchServiceServer::new(dispatch).max_decoding_message_size(MAX_REQUEST_BYTES),
        );
    let served = match options.access.tls {
        None => router.serve_with_incoming_shutdown(incoming, stopped.cancelled_owned()).await,
        Some(tls) => {
            let incoming = tls.accept(incoming);
            router.serve_with_incoming_shutdown(incoming, stopped.cancelled_owned()).await
        }
    };
    stop.cancel();
    for task in [chores, listening, watching, reloading] {
        task.await?;
    }
    if let Some(clicks) = clicks {
        clicks.await??;
    }
    if let Some(measuring) = measuring {
        measuring.await??;
    }
    Ok(served?)
}

/// Our own descriptors, and those of health and of error details, so that tools can show both.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

/// Shows what was counted, and counts in the background what waits.
async fn measure(
    listener: TcpListener,
    app: Arc<App>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let shown = Arc::clone(&app);
    let render = move || shown.metrics.render(&shown.db.pool());
    let serving = serve_metrics(listener, render, stop.clone());
    let (served, ()) = tokio::join!(serving, app.watch_backlog(&stop));
    served
}

/// Every service is as healthy as the database.
async fn watch_health(
    health: HealthReporter,
    db: Db,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut was_healthy = None;
    loop {
        let error = db.ping().await.err();
        let is_healthy = error.is_none();
        metrics.database_up.set(is_healthy.into());
        if was_healthy != Some(is_healthy) {
            if let Some(error) = error {
                warn!(%error, "the database is away; requests fail until it is back");
            }
            let status =
                if is_healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
            for service in ["", CAMPAIGN, CONTACT, INTERACTION, DISPATCH] {
                health.set_service_status(service, status).await;
            }
            was_healthy = Some(is_healthy);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}
