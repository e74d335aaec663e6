//! Containment of panics: a request that panics fails with INTERNAL. No other request, stream or connection notices.

use super::around::{Calling, Middleware};
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::error;

/// Layer that contains panics. A call that panicked is dropped and never used again.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainPanics;

impl Middleware for ContainPanics {
    fn call<S>(&self, inner: &mut S, request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        let method = request.uri().path().to_owned();
        let calling = catch_unwind(AssertUnwindSafe(|| inner.call(request)));
        async move {
            let answer = match calling {
                Ok(calling) => AssertUnwindSafe(calling).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            match answer {
                Ok(Ok(response)) => {
                    Ok(response.map(|body| Body::new(ContainedBody { body: Some(body), method })))
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Ok(failed(&method).into_http()),
            }
        }
        .boxed()
    }
}

/// Logs a panic and returns its status. The panic's message is in the log already, and is not sent
/// to the caller.
fn failed(method: &str) -> Status {
    error!(method, "a request caused a panic; report this as a bug");
    Status::internal("internal error; the request may or may not have been done")
}

/// Body of an answer, whose messages may each panic while they are made.
struct ContainedBody {
    /// Body of the call; `None`: it panicked.
    body: Option<Body>,
    method: String,
}

impl HttpBody for ContainedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(context))) {
            Ok(frame) => frame,
            Err(_) => {
                self.body = None;
                let mut trailers = HeaderMap::new();
                failed(&self.method).add_header(&mut trailers)?;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
