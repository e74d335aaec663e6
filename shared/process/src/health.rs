//! Health for probes, on a port of its own: `grpc.health.v1` in the clear and for every caller.
//! Probes support neither TLS nor tokens. The port serves nothing else.

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

/// Largest request: the name of a service.
const MAX_MESSAGE_BYTES: usize = 512;
/// Simultaneous requests of one connection.
const MAX_REQUESTS_PER_CONNECTION: u32 = 8;

/// Health of the process alone. Not serving means that a restart would help.
pub const LIVENESS: &str = "liveness";
/// Health of the process and all its dependencies.
pub const READINESS: &str = "";

/// Options of the health listener.
#[derive(Args, Clone, Debug)]
pub struct HealthArgs {
    /// Address and port for probes: grpc.health.v1 in the clear and for every caller. The service
    /// `liveness` covers the process alone; no name covers the process and its dependencies
    /// [default: none]
    #[arg(long, env = "CAMPAIGN_HEALTH_LISTEN")]
    pub health_listen: Option<SocketAddr>,
    /// Limits of this listener and of the others beside the API
    #[command(flatten)]
    pub side: SideArgs,
}

impl HealthArgs {
    /// Starts to answer until the process ends, if there is an address.
    ///
    /// # Errors
    /// Returns an error if the address is not available.
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

/// Health as reported to probes and clients.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    /// Returns the health of a live process that is not yet ready.
    pub async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.set(READINESS, false).await;
        health.set(LIVENESS, true).await;
        health
    }

    /// Sets whether a service serves.
    pub async fn set(&self, service: &str, is_serving: bool) {
        let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }

    /// Returns the service that answers probes, for any number of servers.
    #[must_use]
    pub fn service(&self) -> HealthServer<HealthService> {
        let service = HealthService::from_health_reporter(self.0.clone());
        HealthServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}
