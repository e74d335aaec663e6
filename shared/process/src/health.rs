//! Health for probes, on a port of its own: `grpc.health.v1` in the clear and for everyone, since probes know
//! neither TLS nor tokens. It tells nothing else.

use crate::connections::Connections;
use crate::listen;
use crate::metrics::Counter;
use crate::serving::{SideArgs, serve_grpc};
use clap::Args;
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Largest question: the name of a service.
const MAX_MESSAGE_BYTES: usize = 512;
/// Questions of one connection at the same time.
const MAX_REQUESTS_PER_CONNECTION: u32 = 8;

/// Of the process alone: not serving says that a restart would help.
pub const LIVENESS: &str = "liveness";
/// Of the process and all that it needs.
pub const READINESS: &str = "";

/// Where probes ask.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Address and port for probes: grpc.health.v1 in the clear and for everyone; the service `liveness` is about
    /// the process alone, without a name it is about all that the process needs [default: none]
    #[arg(long, env = "CAMPAIGN_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// Limits of this listener, and others beside the API
    #[command(flatten)]
    pub side: SideArgs,
}

impl HealthArgs {
    /// Answers from now on until the process ends, if there is an address.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(&self) -> Result<Health, String> {
        let health = Health::new().await;
        if let Some(address) = self.health_listen {
            let limits = self.side.limits();
            tokio::spawn(serve_grpc(
                listen(address).await?,
                Connections::new(limits, Counter::default()),
                MAX_REQUESTS_PER_CONNECTION,
                Some(limits.first_request),
                |stream| std::future::ready(Ok(stream)),
                health.service(),
                CancellationToken::new(),
            ));
        }
        Ok(health)
    }
}

/// What probes and clients are told.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// The process is there; what it needs is not known to be.
    pub async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(READINESS, false).await;
        health.set(LIVENESS, true).await;
        health
    }

    /// Says whether a service serves.
    pub async fn set(&self, service: &str, is_serving: bool) {
        let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }

    /// Answers, on any number of servers.
    #[must_use]
    pub fn service(&self) -> HealthServer<HealthService> {
        let service = HealthService::from_health_reporter(self.0.clone());
        HealthServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}
