//! Health for probes, on a port of its own: `grpc.health.v1` in the clear and for everyone, since probes know
//! neither TLS nor tokens. It tells nothing else.

use crate::listen;
use clap::Args;
use std::net::SocketAddr;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::warn;

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
}

impl HealthArgs {
    /// Answers from now on until the process ends, if there is an address.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(&self) -> Result<Health, String> {
        let health = Health::new().await;
        if let Some(address) = self.health_listen {
            let incoming = TcpIncoming::from(listen(address).await?);
            let server = Server::builder().add_service(health.service());
            tokio::spawn(async move {
                if let Err(error) = server.serve_with_incoming(incoming).await {
                    warn!(%error, "probes are no longer answered");
                }
            });
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
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }
}
