//! Texts that people send to our numbers. A text has only a number, so an opt-out goes to the
//! service by that number, for all campaigns.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use backon::{BackoffBuilder, ExponentialBuilder};
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use campaign_proto::v1::{
    Interaction, InteractionStatus, OptedOut, RecordInteractionsRequest, ReportedInteraction,
};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{error, info, warn};

use super::platform::{InboundText, Wish};
use crate::service::{Bearer, Replica};

/// Channel of an opt-out by text.
const CHANNEL: &str = "text";
/// Most opt-outs that wait for the service.
const MAX_WAITING: usize = 1_000;
/// Time for one request to one replica.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Delay before a record is repeated. It doubles each time, up to `MAX_RETRY_DELAY`.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

type Client = InteractionServiceClient<InterceptedService<Channel, Bearer>>;

/// Recorder of opt-outs by text.
pub(super) struct Texts {
    /// Campaign that stands for the tenant. Its contact, if the number has one, gets the fact.
    campaign: String,
    replicas: Vec<Replica>,
    clients: Mutex<Vec<Option<Client>>>,
    /// Index of the replica that answered last.
    preferred: AtomicUsize,
    waiting: Arc<Semaphore>,
}

impl Texts {
    pub fn new(campaign: String, replicas: Vec<Replica>) -> Self {
        Self {
            campaign,
            clients: Mutex::new(replicas.iter().map(|_| None).collect()),
            replicas,
            preferred: AtomicUsize::new(0),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Handles a text. Completes when its opt-out is durable.
    pub async fn hear(self: &Arc<Self>, text: &InboundText) -> Result<(), StatusCode> {
        match text.wish {
            Wish::Stop => {}
            Wish::Start => {
                info!(
                    text = text.id,
                    "a person texts START; an opt-out holds until an admin removes the number"
                );
                return Ok(());
            }
            Wish::None => return Ok(()),
        }
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        let place = place.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let (texts, request) = (Arc::clone(self), self.request(text));
        // Goes on even if the platform does not wait for it.
        let recorded = tokio::spawn(async move {
            let is_recorded = texts.record(request).await;
            drop(place);
            is_recorded
        });
        match recorded.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(StatusCode::UNPROCESSABLE_ENTITY),
            Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    fn request(&self, text: &InboundText) -> RecordInteractionsRequest {
        let opted_out = OptedOut { channel: CHANNEL.to_owned(), everywhere: true };
        let interaction = Interaction {
            interaction_id: format!("text.{}", text.id),
            occur_time: Some(SystemTime::now().into()),
            fact: Some(Fact::OptedOut(opted_out)),
            ..Interaction::default()
        };
        let reported =
            ReportedInteraction { interaction: Some(interaction), phone_number: text.from.clone() };
        RecordInteractionsRequest { parent: self.campaign.clone(), interactions: vec![reported] }
    }

    /// Records an opt-out, and retries until the service has it. Returns false if the service
    /// rejects it.
    async fn record(&self, request: RecordInteractionsRequest) -> bool {
        let delays = ExponentialBuilder::new()
            .with_min_delay(MIN_RETRY_DELAY)
            .with_max_delay(MAX_RETRY_DELAY)
            .with_jitter()
            .without_max_times();
        for delay in delays.build() {
            let problem = match self.ask(&request).await {
                Ok(result) if result.0 != InteractionStatus::Rejected => return true,
                Ok(result) => result.1,
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => {
                    status.message().to_owned()
                }
                Err(status) => {
                    warn!(code = ?status.code(), ?delay, "an opt-out by text is not recorded yet; trying again");
                    sleep(delay).await;
                    continue;
                }
            };
            error!(
                campaign = self.campaign,
                problem, "the service rejected an opt-out by text; it is dropped"
            );
            return false;
        }
        false
    }

    /// Asks each replica once, the one that answered last first, until one of them answers.
    async fn ask(
        &self,
        request: &RecordInteractionsRequest,
    ) -> Result<(InteractionStatus, String), Status> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Status::unavailable("there is no service");
        for turn in 0..self.replicas.len() {
            let index = (first + turn) % self.replicas.len();
            let answer = match self.client(index) {
                Ok(mut client) => {
                    timeout(ANSWER_LIMIT, client.record_interactions(request.clone()))
                        .await
                        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
                }
                Err(status) => Err(status),
            };
            match answer {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    let results = response.into_inner().results;
                    let result = results.into_iter().next().unwrap_or_default();
                    return Ok((result.status(), result.message));
                }
                Err(status) => {
                    // The next connection uses the certificates of that time.
                    self.kept()[index] = None;
                    last = status;
                }
            }
        }
        Err(last)
    }

    fn client(&self, index: usize) -> Result<Client, Status> {
        if let Some(client) = &self.kept()[index] {
            return Ok(client.clone());
        }
        let replica = &self.replicas[index];
        let endpoint =
            replica.endpoint().map_err(|error| Status::unavailable(error.to_string()))?;
        let channel = endpoint.connect_lazy();
        let client = InteractionServiceClient::with_interceptor(channel, replica.bearer());
        self.kept()[index] = Some(client.clone());
        Ok(client)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Option<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
