//! Rejection of a request before any method receives it.

use super::methods::{Kind, Method};
use crate::app::error::Error;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

/// Longest wait for the rest of a rejected request.
const BODY_LIMIT: Duration = Duration::from_secs(1);

/// Answers a rejected request after its message has arrived. HTTP/2 treats a message that arrives after the
/// answer as the caller's fault, and ends the connection after too many faults.
pub async fn refuse<B: http_body::Body>(request: Request<B>, error: Error) -> Response<Body> {
    // A stream may have no end.
    if Method::at(request.uri().path()).kind == Kind::Request {
        let mut body = pin!(request.into_body());
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // The request is answered even if its body is late or incomplete.
        let _ = timeout(BODY_LIMIT, rest).await;
    }
    Status::from(error).into_http()
}
