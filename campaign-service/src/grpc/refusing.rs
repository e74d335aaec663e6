//! How a request is turned away before any method sees it.

use super::limits::{Kind, kind};
use crate::app::error::Error;
use http::{Request, Response};
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

/// Longest wait for the rest of a request that is turned away.
const BODY_LIMIT: Duration = Duration::from_secs(1);

/// The answer to a request that is not let in. It comes when the request's message is in: HTTP/2 takes one
/// that comes after the answer for a fault of the caller, and ends the connection of who makes too many.
pub async fn refuse<B: http_body::Body>(request: Request<B>, error: Error) -> Response<Body> {
    // A stream may have no end.
    if kind(request.uri().path()) == Kind::Request {
        let mut body = pin!(request.into_body());
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // Late or broken off, it is answered all the same.
        let _ = timeout(BODY_LIMIT, rest).await;
    }
    Status::from(error).into_http()
}
