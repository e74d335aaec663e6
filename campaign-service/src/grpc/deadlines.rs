//! Deadlines that callers set. After its deadline a request is abandoned and answered with DEADLINE_EXCEEDED.

use super::around::{Calling, Middleware};
use crate::app::error::Error;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use std::time::Duration;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

const TIMEOUT: &str = "grpc-timeout";
/// Most digits of a timeout in the gRPC specification.
const MAX_DIGITS: usize = 8;

/// Layer that applies the deadlines of callers. The answer of a stream must begin before its deadline.
#[derive(Clone, Copy, Debug)]
pub struct KeepDeadlines;

impl Middleware for KeepDeadlines {
    fn call<S>(&self, inner: &mut S, request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        let limit = time_given(request.headers());
        let call = inner.call(request);
        let Some(limit) = limit else { return call.boxed() };
        let in_time = async move {
            match timeout(limit, call).await {
                Ok(response) => response,
                Err(_) => Ok(Status::from(Error::TooLong).into_http()),
            }
        };
        in_time.boxed()
    }
}

/// Returns the timeout of a request; `None` if it has none or a malformed one.
fn time_given(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=MAX_DIGITS).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn times_are_read_and_nonsense_is_none() {
        let given = |text: &'static str| {
            time_given(&HeaderMap::from_iter([(
                http::HeaderName::from_static(TIMEOUT),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(given("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(given("0n"), Some(Duration::ZERO));
        assert_eq!(given("00000002M"), Some(Duration::from_secs(120)));
        assert_eq!(given("7m"), Some(Duration::from_millis(7)));
        for bad in ["", "S", "1", "1Y", "-1S", "+1S", "abc", "123456789S", "1 S", "1.5S"] {
            assert_eq!(given(bad), None, "{bad}");
        }
    }
}
