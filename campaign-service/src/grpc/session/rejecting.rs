//! Invalid messages of a worker: each is answered, and the stream goes on.

use super::Session;
use crate::app::error::Error;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use tonic::{Code, Status};

/// Longest name of a lease, in characters.
const MAX_LEASE_NAME_LENGTH: usize = 100;

impl Session {
    /// Answers a message; an invalid message is answered with a rejection. A worker that makes a
    /// mistake keeps its stream and its calls.
    pub(super) async fn answer_or_reject(
        &mut self,
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

/// Returns the error for a message that this version does not know.
pub(super) fn unknown() -> Error {
    Error::invalid("message", "must be set, to one this version knows")
}

/// Returns a lease's name as the worker gave it. A name that is too long belongs to no lease, and
/// is cut.
pub(super) fn named_by(worker: &str) -> String {
    worker.chars().take(MAX_LEASE_NAME_LENGTH).collect()
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
