//! The only map from errors to statuses. Details of the database are not sent to callers.

use crate::app::error::{Error, Violation};
use campaign_domain::lifecycle::Command;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::{error, warn};

/// `ErrorInfo.domain` of the service's reasons.
const DOMAIN: &str = "campaign.v1";
/// Header with the milliseconds that gRPC clients wait before a retry.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Longest text of a status, in characters. Clients accept headers of 8 KiB.
const MAX_TEXT_LENGTH: usize = 1_000;
/// Most invalid fields of one status.
const MAX_VIOLATIONS: usize = 20;
/// Retry delay after the database was away.
const RETRY_DELAY: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        // The text travels in a header, and may repeat input of the caller.
        let text: String = error.to_string().chars().take(MAX_TEXT_LENGTH).collect();
        match error {
            Error::Invalid { violations } => invalid(&violations),
            Error::NotFound(_) => Self::not_found(text),
            Error::AlreadyExists(name) => {
                let metadata = HashMap::from([("name".to_owned(), name)]);
                let details = ErrorDetails::with_error_info("ALREADY_EXISTS", DOMAIN, metadata);
                Self::with_error_details(Code::AlreadyExists, text, details)
            }
            Error::Refused(refusal) => {
                let allowed: Vec<&str> = refusal.allowed().into_iter().map(Command::name).collect();
                let metadata = HashMap::from([
                    ("state".to_owned(), refusal.state.name().to_owned()),
                    ("command".to_owned(), refusal.command.name().to_owned()),
                    ("allowed".to_owned(), allowed.join(",")),
                ]);
                precondition("STATE", "campaign.state", text, metadata)
            }
            Error::Precondition { reason, subject, description } => {
                precondition(reason, &subject, description, HashMap::new())
            }
            Error::Unauthenticated { reason, .. } => {
                let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
                Self::with_error_details(Code::Unauthenticated, text, details)
            }
            Error::Forbidden { roles, .. } => {
                let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
                let metadata = HashMap::from([("roles".to_owned(), names.join(","))]);
                let details = ErrorDetails::with_error_info("ROLE_MISSING", DOMAIN, metadata);
                Self::with_error_details(Code::PermissionDenied, text, details)
            }
            Error::Unimplemented => Self::unimplemented(text),
            Error::Outdated => {
                let details =
                    ErrorDetails::with_error_info("ETAG_MISMATCH", DOMAIN, HashMap::new());
                Self::with_error_details(Code::Aborted, text, details)
            }
            Error::Busy { reason, retry_delay, .. } => {
                let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
                details.set_retry_info(Some(retry_delay));
                let mut status = Self::with_error_details(Code::ResourceExhausted, text, details);
                // Clients that retry by themselves wait for the same delay.
                let millis = u64::try_from(retry_delay.as_millis()).unwrap_or(u64::MAX);
                status.metadata_mut().insert(RETRY_PUSHBACK, millis.into());
                status
            }
            Error::TooLong | Error::Unfinished => Self::deadline_exceeded(text),
            Error::Interrupted | Error::Stopping | Error::StreamTooOld => {
                let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
                Self::with_error_details(Code::Unavailable, text, details)
            }
            Error::Store(store) if store.is_transient() => {
                warn!(error = %store, "the database did not answer");
                let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
                let text = "the database is away or busy; try again";
                Self::with_error_details(Code::Unavailable, text, details)
            }
            Error::Store(store) => {
                error!(error = ?store, "the database rejected a statement");
                Self::internal("internal error; the service's log says more")
            }
        }
    }
}

/// Returns the status for invalid fields.
fn invalid(violations: &[Violation]) -> Status {
    let mut details = ErrorDetails::new();
    let violations = &violations[..violations.len().min(MAX_VIOLATIONS)];
    for violation in violations {
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    let text: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let text = text.join("; ").chars().take(MAX_TEXT_LENGTH).collect::<String>();
    Status::with_error_details(Code::InvalidArgument, text, details)
}

fn precondition(
    reason: &str,
    subject: &str,
    description: String,
    metadata: HashMap<String, String>,
) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    details.add_precondition_failure_violation(reason, subject, &description);
    Status::with_error_details(Code::FailedPrecondition, description, details)
}
