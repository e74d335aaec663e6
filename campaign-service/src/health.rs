//! Health of the services, which is the database's.

use crate::metrics::Metrics;
use crate::store::Db;
use campaign_process::Health;
use campaign_process::health::READINESS;
use campaign_proto::v1::campaign_service_server::SERVICE_NAME as CAMPAIGN;
use campaign_proto::v1::contact_service_server::SERVICE_NAME as CONTACT;
use campaign_proto::v1::dispatch_service_server::SERVICE_NAME as DISPATCH;
use campaign_proto::v1::interaction_service_server::SERVICE_NAME as INTERACTION;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Time between checks that the database answers.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for the answer of the database to a check.
const LIMIT: Duration = Duration::from_secs(5);

/// Watch on the database. Every service is as healthy as the database.
pub struct HealthWatch {
    health: Health,
    db: Db,
    metrics: Arc<Metrics>,
    /// Result of the last look; `None` before the first.
    was_healthy: Option<bool>,
}

impl HealthWatch {
    pub fn new(health: Health, db: Db, metrics: Arc<Metrics>) -> Self {
        Self { health, db, metrics, was_healthy: None }
    }

    /// Asks the database, and reports every service as healthy while it answers.
    pub async fn look(&mut self) {
        let trouble = match timeout(LIMIT, self.db.ping()).await {
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
    pub async fn run(mut self, stop: &CancellationToken) {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
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
