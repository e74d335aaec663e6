//! Implementation of DispatchService, which opens a session for each worker's stream.

use super::access::Admitted;
use super::reading::Unread;
use super::session::{Session, SessionParts};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_service_server::DispatchService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

/// Most messages that wait for a slow worker. At the limit nothing more is read from the worker.
const OUTGOING_MESSAGES: usize = 64;

/// Implementation of DispatchService.
#[derive(Clone, Debug)]
pub struct DispatchApi {
    pub parts: SessionParts,
}

#[tonic::async_trait]
impl DispatchService for DispatchApi {
    type DispatchStream = ReceiverStream<Result<v1::DispatchResponse, Status>>;

    async fn dispatch(
        &self,
        request: Request<Streaming<v1::DispatchRequest>>,
    ) -> Result<Response<Self::DispatchStream>, Status> {
        if self.parts.stop.is_cancelled() {
            return Err(Status::unavailable("this replica is stopping; connect to another one"));
        }
        let admitted = Admitted::of(&request)?;
        let unread = request.extensions().get::<Unread>().cloned().unwrap_or_default();
        let (outgoing, responses) = mpsc::channel(OUTGOING_MESSAGES);
        let incoming = request.into_inner();
        let parts = self.parts.clone();
        let serving = async move {
            let own = outgoing.clone();
            if let Err(status) = Session::serve(parts, admitted, own, incoming, unread).await {
                // An error only means that the worker is gone.
                let _ = outgoing.send(Err(status)).await;
            }
        };
        tokio::spawn(serving.in_current_span());
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}
