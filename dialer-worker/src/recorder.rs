//! Client of the service beside the stream: asks about callers, and records what has no attempt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use campaign_process::traces::TraceContext;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use campaign_proto::v1::{
    InteractionStatus, RecordInteractionsRequest, RouteInboundRequest, RouteInboundResponse,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{error, warn};

use crate::service::{Bearer, Replica};

/// Time for one request to one replica.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Delay before a record is repeated. It doubles each time, up to `MAX_RETRY_DELAY`.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

type Client = InteractionServiceClient<InterceptedService<Channel, Bearer>>;
type Answered<T> = Result<tonic::Response<T>, Status>;

/// Replicas of the service; any of them may answer.
#[derive(Debug)]
pub(crate) struct Recorder {
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

impl Recorder {
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

    /// Records what belongs to no attempt, and retries until the service has it. Returns false if the
    /// service rejects it. `what` names it for the log.
    pub async fn record(
        &self,
        what: &'static str,
        request: RecordInteractionsRequest,
        trace: &TraceContext,
    ) -> bool {
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
                    warn!(what, code = ?status.code(), ?delay, "not recorded yet; trying again");
                    sleep(delay).await;
                    continue;
                }
            };
            error!(
                what,
                campaign = request.parent,
                problem,
                "the service rejects it; it is dropped"
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
