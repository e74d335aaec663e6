//! Stream of one worker. Three loops run side by side: one hears control events, one answers the
//! worker's requests in order, and one hands out contacts. So a stop reaches the worker at once,
//! whatever the others wait for.

mod answering;
mod greeting;
mod handing_out;
mod holding;
mod parts;
mod rejecting;
mod revoking;

use super::access::Admitted;
use super::limits::WorkerStream;
use super::reading::Unread;
use crate::app::campaigns::Campaigns;
use crate::app::control::ControlBus;
use crate::app::dispatch::Dispatch;
use crate::app::dispatch::dispatcher::{Delivery, Registration};
use crate::app::error::Error;
use crate::app::facts::Facts;
use crate::metrics::Metrics;
use campaign_domain::access::Reach;
use campaign_domain::serving::Abilities;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_response::Message as Response;
use holding::Holdings;
pub use parts::SessionParts;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use uuid::Uuid;

/// Longest wait for a worker to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// Most leases named in one message, and campaigns in hello.
const MAX_NAMES: usize = 100;

type Outgoing = mpsc::Sender<Result<v1::DispatchResponse, Status>>;
type Incoming = Streaming<v1::DispatchRequest>;

/// State of one stream.
pub struct Session {
    campaigns: Arc<Campaigns>,
    dispatch: Arc<Dispatch>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    control: ControlBus,
    admitted: Admitted,
    /// Campaigns that the worker may see.
    reach: Reach,
    /// Pools and channels of the worker.
    abilities: Arc<Abilities>,
    stop: CancellationToken,
    /// Longest time that the stream stays open.
    max_age: Option<Duration>,
    outgoing: Outgoing,
    /// Place among the worker's streams.
    _place: WorkerStream,
    /// Identifier that tells this stream from others of the same worker.
    id: Uuid,
    /// Name of the worker. A tenant's name and a slash come first, since tenants may use the same
    /// names.
    worker_id: String,
    /// Registration with the dispatcher; `None` once the worker was asked to leave.
    registration: Mutex<Option<Registration>>,
    /// Leases of the worker.
    held: Mutex<Holdings>,
    /// Whether the worker reports that its provider fails.
    is_in_trouble: AtomicBool,
    /// Places for reports that are being recorded.
    reports: Arc<Semaphore>,
    /// Errors of messages that were replaced by empty ones.
    unread: Unread,
}

impl Session {
    /// Serves a worker until it leaves, breaks the protocol, or its token expires. A worker that
    /// was asked to leave, and does not, is cut off.
    pub async fn serve(
        parts: SessionParts,
        admitted: Admitted,
        outgoing: Outgoing,
        mut incoming: Incoming,
        unread: Unread,
    ) -> Result<(), Status> {
        // Heard from now on, so that no event is missed between the greeting and the first look.
        let events = parts.control.subscribe();
        let (session, mut deliveries) =
            Self::greet(parts, admitted, outgoing, &mut incoming, unread).await?;
        let ended = tokio::select! {
            biased;
            error = session.admitted.end() => Err(error.into()),
            // Events come first, so that a worker that sends much is still notified of a pause.
            ended = session.hear_all(events) => ended,
            ended = session.answer_all(incoming) => ended,
            ended = session.end_when_asked() => ended,
            ended = session.hand_out_all(&mut deliveries) => ended,
        };
        session.take_leave(deliveries).await?;
        ended
    }

    /// Asks the worker to leave when this replica stops, or when the stream is old: workers that
    /// connect anew spread over all replicas. Cuts the worker off after the grace.
    async fn end_when_asked(&self) -> Result<(), Status> {
        let end = match self.max_age {
            None => {
                self.stop.cancelled().await;
                Error::Stopping
            }
            Some(age) => match timeout(age, self.stop.cancelled()).await {
                Ok(()) => Error::Stopping,
                Err(_) => Error::StreamTooOld,
            },
        };
        drop(self.registration().take());
        let grace = self.dispatch.limits.drain_grace;
        self.send(Response::Drain(v1::Drain { grace: grace.try_into().ok() })).await?;
        sleep(grace).await;
        Err(end.into())
    }

    /// Gives back what was not handed out, and forgets the worker's trouble. The worker reports the
    /// trouble again to the next replica.
    async fn take_leave(&self, mut deliveries: mpsc::Receiver<Delivery>) -> Result<(), Status> {
        drop(self.registration().take());
        while let Ok(delivery) = deliveries.try_recv() {
            if let Delivery::Batch { batch, .. } = delivery {
                self.dispatch.release(batch.key(), &[]).await?;
            }
        }
        if self.is_in_trouble.load(Relaxed) {
            self.note_trouble(None).await?;
        }
        Ok(())
    }

    fn registration(&self) -> MutexGuard<'_, Option<Registration>> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Holdings> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: Response) -> Result<(), Status> {
        self.place().await?.send(Ok(response(message)));
        Ok(())
    }

    /// Waits for a place for a message. Messages come in the order in which they are put in their
    /// places.
    async fn place(
        &self,
    ) -> Result<mpsc::Permit<'_, Result<v1::DispatchResponse, Status>>, Status> {
        match timeout(SEND_LIMIT, self.outgoing.reserve()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Status::cancelled("the worker left")),
            Err(_) => Err(Status::deadline_exceeded("the worker takes no messages")),
        }
    }
}

fn response(message: Response) -> v1::DispatchResponse {
    v1::DispatchResponse { message: Some(message) }
}

/// Returns the error for a message that this version does not know.
fn unknown() -> Error {
    Error::invalid("message", "must be set, to one this version knows")
}
