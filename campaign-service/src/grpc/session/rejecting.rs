//! Invalid messages of a worker: each is answered, and the stream goes on.

use super::Session;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use tonic::{Code, Status};

impl Session {
    /// Answers a message; an invalid message is answered with a rejection. A worker that makes a
    /// mistake keeps its stream and its calls.
    pub(super) async fn answer_or_reject(
        &self,
        request: v1::DispatchRequest,
    ) -> Result<(), Status> {
        let (message, number) = named(&request);
        match self.answer(request).await {
            Err(status) if status.code() == Code::InvalidArgument => {
                let reason = status.message().to_owned();
                let message = message.to_owned();
                self.send(Response::Rejected(v1::Rejected { message, number, reason })).await
            }
            answered => answered,
        }
    }
}

/// Returns the name and number of a message.
fn named(request: &v1::DispatchRequest) -> (&'static str, i64) {
    match &request.message {
        None => ("", 0),
        Some(Request::Hello(_)) => ("hello", 0),
        Some(Request::Credit(_)) => ("credit", 0),
        Some(Request::Authorize(authorize)) => ("authorize", authorize.request_number),
        Some(Request::Report(report)) => ("report", report.report_number),
        Some(Request::Renew(_)) => ("renew", 0),
        Some(Request::Release(_)) => ("release", 0),
        Some(Request::ProviderReport(_)) => ("provider_report", 0),
    }
}
