//! One stream to the service: opens it with hello and welcome, and names its failures.

use std::error::Error;
use std::time::Duration;

use campaign_process::traces::{self, SpanKind, TraceContext};
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::dispatch_service_client::DispatchServiceClient;
use campaign_proto::v1::{DispatchRequest, DispatchResponse, Hello, Welcome};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::known_outcomes::KnownOutcomes;
use crate::service::{AccessError, Replica};

/// Capacity for messages on their way to the network. Small, because each message is chosen when it
/// can be sent.
const OUTGOING_CAPACITY: usize = 8;
/// Largest message: room for two batches of 500 contacts with all allowed attributes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Time from connecting to welcome.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// Time for the service to end a stream that the worker has closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Silence of the peer after which a keep-alive ping is sent.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the answer to a keep-alive ping, after which the connection is closed.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason for a missing or ended stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("no connection: {}", causes(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("the service does not let us in: {}; put a token of the role worker into the file of \
             --token-file", .0.message())]
    NotAdmitted(Box<Status>),
    #[error("the service answered {:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    #[error("the service rejected our {0}: {1}")]
    Rejected(String, String),
    #[error("no welcome within {} s", OPEN_LIMIT.as_secs())]
    Timeout,
    #[error("the service's welcome cannot be right: {0}")]
    Welcome(&'static str),
    #[error("the service ended the stream")]
    Ended,
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::NotAdmitted(Box::new(status)),
            _ => Self::Refused(Box::new(status)),
        }
    }
}

/// Limits that the service set in its welcome, and the outcomes that it records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub lease_ttl: Duration,
    pub max_credit_contacts: usize,
    pub max_report_interactions: usize,
    pub outcomes: KnownOutcomes,
}

impl Terms {
    fn of(welcome: &Welcome) -> Result<Self, SessionError> {
        let lease_ttl = welcome.lease_ttl.and_then(|ttl| ttl.try_into().ok());
        let terms = Self {
            lease_ttl: lease_ttl.unwrap_or_default(),
            max_credit_contacts: welcome.max_credit_contacts.try_into().unwrap_or_default(),
            max_report_interactions: welcome.max_report_interactions.try_into().unwrap_or_default(),
            outcomes: KnownOutcomes::of(&welcome.call_outcomes),
        };
        let wrong = if terms.lease_ttl.is_zero() {
            "lease_ttl is not positive"
        } else if terms.max_credit_contacts == 0 {
            "max_credit_contacts is not positive"
        } else if terms.max_report_interactions == 0 {
            "max_report_interactions is not positive"
        } else {
            return Ok(terms);
        };
        Err(SessionError::Welcome(wrong))
    }
}

/// Open stream that the service has welcomed.
#[derive(Debug)]
pub(crate) struct Session {
    pub outgoing: mpsc::Sender<DispatchRequest>,
    pub incoming: Streaming<DispatchResponse>,
    pub terms: Terms,
}

impl Session {
    /// Connects, says hello and waits for the welcome.
    pub async fn open(replica: &Replica, hello: Hello) -> Result<(Self, Welcome), SessionError> {
        timeout(OPEN_LIMIT, Self::greet(replica, hello)).await.unwrap_or(Err(SessionError::Timeout))
    }

    async fn greet(replica: &Replica, hello: Hello) -> Result<(Self, Welcome), SessionError> {
        let endpoint = replica
            .endpoint()?
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await?;
        let mut client = DispatchServiceClient::with_interceptor(channel, replica.bearer())
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (outgoing, requests) = mpsc::channel(OUTGOING_CAPACITY);
        // Queued before the call, because a server may read hello before it answers anything.
        outgoing.try_send(request(Request::Hello(hello))).map_err(|_| SessionError::Ended)?;
        // The span lasts until the welcome.
        let trace = traces::begin("connect", SpanKind::Client, &TraceContext::default());
        let call = trace.context().request(ReceiverStream::new(requests));
        let mut incoming = client.dispatch(call).await?.into_inner();
        match incoming.message().await?.and_then(|response| response.message) {
            Some(Response::Welcome(welcome)) => {
                let terms = Terms::of(&welcome)?;
                Ok((Self { outgoing, incoming, terms }, welcome))
            }
            Some(_) => Err(SessionError::Welcome("something else came first")),
            None => Err(SessionError::Ended),
        }
    }

    /// Closes the worker's side and waits for the service to end the stream.
    pub async fn close(self) {
        let Self { outgoing, mut incoming, .. } = self;
        drop(outgoing);
        let end = async { while let Some(Ok(_)) = incoming.next().await {} };
        // On a timeout the stream is cut. Everything that matters was acknowledged before.
        let _ = timeout(CLOSE_LIMIT, end).await;
    }
}

/// Wraps a message in a dispatch request.
pub(crate) fn request(message: Request) -> DispatchRequest {
    DispatchRequest { message: Some(message) }
}

/// Returns an error together with its causes. The outermost text alone says little.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
