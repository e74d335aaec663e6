//! Answers to callers.

use std::time::{Duration, SystemTime};

use campaign_proto::v1::{InboundDecision, RouteInboundResponse, TurnAwayReason};
use rsipstack::sip::{Header, StatusCode};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::error;

/// Delay before a caller may retry, when the worker or the service is temporarily unavailable.
pub(super) const BACK_SOON: Duration = Duration::from_secs(30);
/// Delay before a caller may retry, when the campaign may be running later.
const RUNNING_LATER: Duration = Duration::from_secs(600);
/// Longest delay accepted from the service. Hours that open later than this may change before.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Answer to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Accepted, with the contact's name.
    Accept(String),
    TurnAway(StatusCode, Option<Duration>),
}

impl Answer {
    fn not_now() -> Self {
        Self::TurnAway(StatusCode::ServiceUnavailable, Some(BACK_SOON))
    }

    /// Converts the service's decision.
    pub fn of(routed: Result<RouteInboundResponse, Status>, now: SystemTime) -> Self {
        match routed {
            Ok(routed) if routed.decision() == InboundDecision::Accept => {
                Self::Accept(routed.contact)
            }
            Ok(routed) => Self::turn_away(&routed, now),
            // The number is not valid. The worker set all other fields of the request.
            Err(status) if names_the_number(&status) => {
                Self::TurnAway(StatusCode::AnonymityDisallowed, None)
            }
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => {
                error!(
                    problem = status.message(),
                    "callers are rejected: look at --sip-inbound-campaign and --sip-inbound-region"
                );
                Self::TurnAway(StatusCode::NotFound, None)
            }
            Err(status) => {
                if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) {
                    error!(
                        problem = status.message(),
                        "callers are rejected: put a token of the role worker into the file of \
                         --token-file"
                    );
                }
                Self::not_now()
            }
        }
    }

    fn turn_away(routed: &RouteInboundResponse, now: SystemTime) -> Self {
        let (code, retry_after) = match routed.reason() {
            TurnAwayReason::Suppressed
            | TurnAwayReason::Refused
            | TurnAwayReason::UnknownCaller => (StatusCode::Decline, None),
            TurnAwayReason::NotRunning => (StatusCode::TemporarilyUnavailable, Some(RUNNING_LATER)),
            TurnAwayReason::WindowClosed => {
                let opening = routed.open_time.and_then(|time| SystemTime::try_from(time).ok());
                let delay = opening.and_then(|time| time.duration_since(now).ok());
                let delay = delay.unwrap_or(RUNNING_LATER).min(MAX_RETRY_AFTER);
                (StatusCode::TemporarilyUnavailable, Some(delay))
            }
            // A newer service has a reason of its own. In any case the caller is not answered.
            TurnAwayReason::Unspecified => (StatusCode::Decline, None),
        };
        Self::TurnAway(code, retry_after)
    }
}

/// Whether the caller's number, and nothing else in the request, is wrong.
fn names_the_number(status: &Status) -> bool {
    let Some(wrong) = status.get_details_bad_request() else { return false };
    let fields = wrong.field_violations.iter().map(|violation| violation.field.as_str());
    status.code() == Code::InvalidArgument && fields.eq(["phone_number"])
}

/// Returns the Retry-After header for `delay`.
pub(super) fn retry_after(delay: Option<Duration>) -> Vec<Header> {
    let seconds = delay.map(|delay| delay.as_secs().max(1).to_string());
    seconds.map(|seconds| Header::RetryAfter(seconds.into())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    fn turned_away(reason: TurnAwayReason, opens_in: Option<u64>) -> (u16, Option<u64>) {
        let now = SystemTime::now();
        let routed = RouteInboundResponse {
            decision: InboundDecision::TurnAway.into(),
            reason: reason.into(),
            open_time: opens_in.map(|seconds| (now + Duration::from_secs(seconds)).into()),
            ..RouteInboundResponse::default()
        };
        code(Answer::of(Ok(routed), now))
    }

    fn code(answer: Answer) -> (u16, Option<u64>) {
        match answer {
            Answer::TurnAway(code, delay) => (code.code(), delay.map(|delay| delay.as_secs())),
            Answer::Accept(_) => panic!("accepted"),
        }
    }

    #[test]
    fn the_reason_decides() {
        for (reason, opens_in, expected) in [
            (TurnAwayReason::Suppressed, None, (603, None)),
            (TurnAwayReason::Refused, None, (603, None)),
            (TurnAwayReason::UnknownCaller, None, (603, None)),
            (TurnAwayReason::NotRunning, None, (480, Some(600))),
            (TurnAwayReason::WindowClosed, Some(7_200), (480, Some(7_200))),
            (TurnAwayReason::WindowClosed, Some(1_000_000), (480, Some(86_400))),
            (TurnAwayReason::WindowClosed, None, (480, Some(600))),
            (TurnAwayReason::Unspecified, None, (603, None)),
        ] {
            assert_eq!(turned_away(reason, opens_in), expected, "{reason:?}");
        }
    }

    fn wrong(fields: &[&str]) -> Status {
        let mut details = ErrorDetails::new();
        for field in fields {
            details.add_bad_request_violation(*field, "is wrong");
        }
        Status::with_error_details(Code::InvalidArgument, "phone_number is wrong", details)
    }

    #[test]
    fn a_question_that_fails_is_nobodys_refusal() {
        for (status, expected) in [
            (Status::unavailable(""), (503, Some(30))),
            (Status::deadline_exceeded(""), (503, Some(30))),
            (Status::internal(""), (503, Some(30))),
            (Status::unauthenticated("the token has expired"), (503, Some(30))),
            (wrong(&["phone_number"]), (433, None)),
            (wrong(&["default_region"]), (404, None)),
            // If another field is wrong as well, the worker's request is at fault.
            (wrong(&["default_region", "phone_number"]), (404, None)),
            (Status::invalid_argument("phone_number is said in the text only"), (404, None)),
            (Status::not_found("campaigns/a does not exist"), (404, None)),
        ] {
            assert_eq!(code(Answer::of(Err(status), SystemTime::now())), expected);
        }
        let nothing = RouteInboundResponse::default();
        assert_eq!(code(Answer::of(Ok(nothing), SystemTime::now())), (603, None));
    }
}
