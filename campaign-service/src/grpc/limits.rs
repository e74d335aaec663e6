//! Limits on concurrent requests, and on the rate of one caller. A request beyond the limit, or
//! beyond its tenant's share while places are scarce, waits briefly for a place and is then rejected with a retry delay. Work that waits too long is done for
//! nobody.
//!
//! The wait also keeps rejections cheap. HTTP/2 limits the open requests of a connection, and each
//! waiting request counts. A caller that does not wait for answers therefore cannot cause thousands
//! of rejections while others are served.

use super::access::Admitted;
use super::around::{Calling, Middleware};
use super::methods::{Kind, Method};
use super::places::{Place, Places};
use super::refusing::refuse;
use crate::app::error::Error;
use crate::metrics::Metrics;
use campaign_domain::access::Tenant;
use campaign_process::connections::{Peer, StreamPlace};
use futures_util::FutureExt;
use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// Retry delay after there was no place.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Most concurrent streams of one worker: one, and earlier ones not yet known to have ended.
const MAX_STREAMS_PER_WORKER: usize = 16;
/// Number of callers whose rates are kept. Beyond this number, idle callers are forgotten.
const MAX_RATES: usize = 10_000;

/// Limits of callers.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Most concurrent requests, not counting streams.
    pub max_requests: usize,
    /// Most concurrent streams of workers, watchers and imports.
    pub max_streams: usize,
    /// Longest wait for a place among the requests or streams.
    pub place_timeout: Duration,
    /// Most requests that one caller begins in a second; `None`: any number.
    pub max_requests_per_second: Option<NonZeroU32>,
    /// Longest time of a request. Streams have no such limit.
    pub request_timeout: Duration,
}

/// Tenant and actor of a caller.
type Key = (String, String);

#[derive(Debug)]
struct Limits {
    options: CallLimits,
    requests: Places,
    streams: Places,
    rates: Option<DefaultKeyedRateLimiter<Key>>,
    metrics: Arc<Metrics>,
}

impl Limits {
    /// Rejects a caller that exceeds its rate.
    fn check_rate(&self, kind: Kind, caller: Option<&Admitted>) -> Result<(), Error> {
        let (Some(rates), Some(admitted)) = (&self.rates, caller) else { return Ok(()) };
        if kind == Kind::Exempt {
            return Ok(());
        }
        let caller = &admitted.caller;
        let key = (caller.tenant.name().to_owned(), caller.actor.clone());
        if rates.len() > MAX_RATES {
            rates.retain_recent();
        }
        rates.check_key(&key).map_err(|until| Error::Busy {
            reason: "RATE_LIMITED",
            description: "the caller exceeds its request rate; try again a little later".to_owned(),
            retry_delay: until.wait_time_from(rates.clock().now()),
        })
    }

    /// Waits for a place among the requests or streams.
    async fn place(&self, kind: Kind, tenant: &Tenant) -> Result<Option<Place>, Error> {
        let (places, what) = match kind {
            Kind::Exempt => return Ok(None),
            Kind::Request => (&self.requests, "requests"),
            Kind::Stream => (&self.streams, "streams"),
        };
        let place = places.take(tenant, self.options.place_timeout).await;
        place.map(Some).ok_or_else(|| Error::Busy {
            reason: "OVERLOADED",
            description: format!("the service has reached its limit of {what}; try again later"),
            retry_delay: RETRY_DELAY,
        })
    }

    /// Rejects a request, and counts the rejection.
    async fn refuse(&self, request: Request<Body>, error: Error) -> Response<Body> {
        if let Error::Busy { reason, .. } = &error {
            self.metrics.refused(reason);
        }
        refuse(request, error).await
    }
}

/// Layer that applies the limits, behind [`super::access::CheckAccess`], which identifies callers.
#[derive(Clone, Debug)]
pub struct KeepLimits(Arc<Limits>);

impl KeepLimits {
    #[must_use]
    pub fn new(options: CallLimits, metrics: Arc<Metrics>) -> Self {
        let rates = options
            .max_requests_per_second
            .map(|rate| DefaultKeyedRateLimiter::keyed(Quota::per_second(rate)));
        let (requests, streams) = (options.max_requests, options.max_streams);
        Self(Arc::new(Limits {
            options,
            requests: Places::new(requests),
            streams: Places::new(streams),
            rates,
            metrics,
        }))
    }
}

impl Middleware for KeepLimits {
    fn call<S>(&self, inner: &mut S, request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        let Method { kind, is_stream, .. } = *Method::at(request.uri().path());
        let limits = Arc::clone(&self.0);
        let rated = limits.check_rate(kind, request.extensions().get());
        let stream = if is_stream { open_stream(&request) } else { Ok(None) };
        let admitted = request.extensions().get::<Admitted>();
        let tenant = admitted.map(|admitted| admitted.caller.tenant.clone()).unwrap_or_default();
        // The ready service is called; its clone serves the next request.
        let next = inner.clone();
        let mut inner = std::mem::replace(inner, next);
        async move {
            let placed = match rated.and(stream) {
                Ok(stream) => limits.place(kind, &tenant).await.map(|place| (stream, place)),
                Err(error) => Err(error),
            };
            let place = match placed {
                Ok(place) => place,
                Err(error) => return Ok(limits.refuse(request, error).await),
            };
            let (limit, call) = (limits.options.request_timeout, inner.call(request));
            let response = match kind {
                Kind::Request => match timeout(limit, call).await {
                    Ok(response) => response?,
                    Err(_) => Status::from(Error::TooLong).into_http(),
                },
                Kind::Stream | Kind::Exempt => call.await?,
            };
            // The place is held until the last frame of the answer was sent.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &place;
                    frame
                }))
            }))
        }
        .boxed()
    }
}

/// Takes a place among the streams of the connection, so that short requests always have some left.
fn open_stream(request: &Request<Body>) -> Result<Option<StreamPlace>, Error> {
    let Some(peer) = request.extensions().get::<Arc<Peer>>() else { return Ok(None) };
    let place = peer.open_stream().map_err(|description| Error::Busy {
        reason: "TOO_MANY_STREAMS",
        description: description.to_owned(),
        retry_delay: RETRY_DELAY,
    })?;
    Ok(Some(place))
}

/// Numbers of open streams by worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerStreams(Arc<Mutex<HashMap<String, usize>>>);

/// Place of one stream, freed on drop.
#[derive(Debug)]
pub struct WorkerStream {
    streams: WorkerStreams,
    worker_id: String,
}

impl WorkerStreams {
    /// Takes a place for one more stream of a worker.
    ///
    /// # Errors
    /// Returns an error if the worker has reached its limit of streams.
    pub fn open(&self, worker_id: &str) -> Result<WorkerStream, Error> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(worker_id.to_owned()).or_default();
        if *count >= MAX_STREAMS_PER_WORKER {
            return Err(Error::Busy {
                reason: "TOO_MANY_STREAMS",
                description: format!(
                    "worker {worker_id} has {MAX_STREAMS_PER_WORKER} streams open; give each worker a name of its own"
                ),
                retry_delay: RETRY_DELAY,
            });
        }
        *count += 1;
        Ok(WorkerStream { streams: self.clone(), worker_id: worker_id.to_owned() })
    }
}

impl Drop for WorkerStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.worker_id) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.worker_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_so_many_streams_and_no_more() {
        let streams = WorkerStreams::default();
        let mut held: Vec<WorkerStream> =
            (0..MAX_STREAMS_PER_WORKER).map(|_| streams.open("a").expect("a place")).collect();
        assert!(streams.open("a").is_err());
        assert!(streams.open("b").is_ok());
        held.pop();
        assert!(streams.open("a").is_ok());
        drop(held);
        assert!(streams.0.lock().expect("not poisoned").is_empty());
    }
}
