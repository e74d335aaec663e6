//! Client of the service for callers: asks for routing and records calls.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use campaign_process::traces::TraceContext;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use campaign_proto::v1::{
    CalledIn, Interaction, InteractionStatus, OptedOut, RecordInteractionsRequest,
    ReportedInteraction, RouteInboundRequest, RouteInboundResponse,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{error, warn};

use super::super::conversation::CHANNEL;
use crate::service::{Bearer, Replica};

/// Time for one request to one replica.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Delay before a record is repeated. It doubles each time, up to `MAX_RETRY_DELAY`.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

type Client = InteractionServiceClient<InterceptedService<Channel, Bearer>>;
type Answered<T> = Result<tonic::Response<T>, Status>;

/// Inbound call that was answered.
#[derive(Debug)]
pub(super) struct AnsweredCall {
    pub campaign: String,
    pub contact: String,
    pub call_id: String,
    pub duration: Duration,
    /// Whether the caller opted out by a key.
    pub opted_out: bool,
}

/// Replicas of the service; any of them may answer.
#[derive(Debug)]
pub(super) struct Service {
    replicas: Vec<Link>,
    /// Index of the replica that answered last.
    preferred: AtomicUsize,
}

/// Replica and the connection to it, kept as long as it works.
#[derive(Debug)]
struct Link {
    replica: Replica,
    client: Mutex<Option<Client>>,
}

impl Link {
    fn client(&self) -> Result<Client, Status> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let endpoint =
            self.replica.endpoint().map_err(|error| Status::unavailable(error.to_string()))?;
        let channel = endpoint.connect_lazy();
        let client = InteractionServiceClient::with_interceptor(channel, self.replica.bearer());
        Ok(kept.insert(client).clone())
    }

    /// Drops the connection. The next one uses the certificates of that time.
    fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Service {
    pub fn new(replicas: &[Replica]) -> Self {
        let link = |replica: &Replica| Link { replica: replica.clone(), client: Mutex::default() };
        Self { replicas: replicas.iter().map(link).collect(), preferred: AtomicUsize::new(0) }
    }

    /// Asks the service what to do with a caller.
    pub async fn route(
        &self,
        request: RouteInboundRequest,
        trace: &TraceContext,
    ) -> Result<RouteInboundResponse, Status> {
        self.ask(move |mut replica| {
            let request = trace.request(request.clone());
            async move { replica.route_inbound(request).await }.boxed()
        })
        .await
    }

    /// Records a call that is over, and retries until the service has it. Returns false if the
    /// service rejects it.
    pub async fn record(&self, call: &AnsweredCall, trace: &TraceContext) -> bool {
        let request = record_request(call);
        let delays = ExponentialBuilder::new()
            .with_min_delay(MIN_RETRY_DELAY)
            .with_max_delay(MAX_RETRY_DELAY)
            .with_jitter()
            .without_max_times();
        for delay in delays.build() {
            let told = self.ask(|mut replica| {
                let request = trace.request(request.clone());
                async move { replica.record_interactions(request).await }.boxed()
            });
            let problem = match told.await {
                Ok(response) => {
                    let mut results = response.results.into_iter();
                    let rejected =
                        results.find(|result| result.status() == InteractionStatus::Rejected);
                    match rejected {
                        None => return true,
                        Some(result) => result.message,
                    }
                }
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => {
                    status.message().to_owned()
                }
                Err(status) => {
                    warn!(code = ?status.code(), ?delay, "a caller's call is not recorded yet; trying again");
                    sleep(delay).await;
                    continue;
                }
            };
            error!(
                contact = call.contact,
                problem, "the service rejected a caller's call; it is dropped"
            );
            return false;
        }
        false
    }

    /// Asks each replica once, the one that answered last first, until one of them answers.
    async fn ask<T>(
        &self,
        question: impl Fn(Client) -> BoxFuture<'static, Answered<T>> + Sync,
    ) -> Result<T, Status> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = Status::unavailable("there is no service");
        for turn in 0..self.replicas.len() {
            let index = (first + turn) % self.replicas.len();
            let link = &self.replicas[index];
            let answer = match link.client() {
                Ok(client) => timeout(ANSWER_LIMIT, question(client))
                    .await
                    .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))),
                Err(status) => Err(status),
            };
            match answer {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Err(status)
                    if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) =>
                {
                    link.forget();
                    last = status;
                }
                Err(status) => return Err(status),
            }
        }
        Err(last)
    }
}

fn record_request(call: &AnsweredCall) -> RecordInteractionsRequest {
    let duration = prost_types::Duration::try_from(call.duration).unwrap_or_default();
    let id = interaction_id(&call.call_id);
    let now = SystemTime::now();
    let reported = |interaction_id: String, fact: Fact| ReportedInteraction {
        interaction: Some(Interaction {
            interaction_id,
            contact: call.contact.clone(),
            occur_time: Some(now.into()),
            fact: Some(fact),
            ..Interaction::default()
        }),
        phone_number: String::new(),
    };
    let called_in = CalledIn { duration: Some(duration) };
    let mut interactions = vec![reported(id.clone(), Fact::CalledIn(called_in))];
    if call.opted_out {
        let opted_out = OptedOut { channel: CHANNEL.to_owned(), ..OptedOut::default() };
        interactions.push(reported(format!("{id}.out"), Fact::OptedOut(opted_out)));
    }
    RecordInteractionsRequest { parent: call.campaign.clone(), interactions }
}

/// Returns an id that is the same however often the call is recorded. A Call-ID may have any
/// length.
fn interaction_id(call_id: &str) -> String {
    let mut id = "sip.".to_owned();
    for byte in &Sha256::digest(call_id.as_bytes())[..20] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_of_the_call_and_short_enough() {
        let id = interaction_id(&"x".repeat(500));
        assert_eq!(id.len(), 44);
        assert_eq!(id, interaction_id(&"x".repeat(500)));
        assert_ne!(id, interaction_id("x"));
    }
}
