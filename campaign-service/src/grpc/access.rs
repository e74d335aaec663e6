//! Access to methods, checked before any method runs.

use super::around::{Calling, Middleware};
use super::methods::{Method, Rule};
use super::refusing::refuse;
use crate::app::error::Error;
use crate::tokens::Tokens;
use campaign_domain::access::{Caller, Role};
use futures_util::FutureExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tracing::debug;

/// Admitted caller, and the end of the admission.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub caller: Caller,
    /// Time when the token ends; `None`: never.
    ends_at: Option<Instant>,
}

impl Admitted {
    /// Returns the admitted caller of a request.
    ///
    /// # Errors
    /// Returns an error if access was not checked, which never happens behind [`CheckAccess`].
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions().get::<Self>();
        admitted.cloned().ok_or_else(|| Status::internal("the caller was not identified"))
    }

    /// Waits until the token expires; without a token, waits for ever.
    pub async fn end(&self) -> Error {
        match self.ends_at {
            Some(ends_at) => tokio::time::sleep_until(ends_at).await,
            None => std::future::pending().await,
        }
        Error::Unauthenticated {
            reason: "TOKEN_EXPIRED",
            description:
                "the token that opened the stream has expired; open it again with a new one"
                    .to_owned(),
        }
    }
}

/// Layer that admits callers by the table of rules.
#[derive(Clone, Debug)]
pub struct CheckAccess {
    /// Verifier of tokens; `None`: everyone may do everything.
    tokens: Option<Arc<Tokens>>,
}

impl CheckAccess {
    /// Creates the layer. Without `tokens`, callers need none.
    #[must_use]
    pub fn new(tokens: Option<Arc<Tokens>>) -> Self {
        Self { tokens }
    }

    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Admitted, Error> {
        let rule = Method::find(path).map(|method| method.rule);
        if rule == Some(Rule::Open) {
            return Ok(Admitted { caller: Caller::default(), ends_at: None });
        }
        let Some(tokens) = &self.tokens else {
            let caller = Caller { roles: Role::ALL.to_vec(), ..Caller::default() };
            return Ok(Admitted { caller, ends_at: None });
        };
        let identified = tokens.identify(bearer(headers)?)?;
        let caller = identified.caller;
        let roles = match rule {
            Some(Rule::Roles(roles)) => roles,
            Some(Rule::Open | Rule::Known) => &[],
            None => return Err(Error::Unimplemented),
        };
        if !roles.is_empty() && !caller.has_any(roles) {
            let what = path.trim_start_matches('/').to_owned();
            return Err(Error::Forbidden { what, roles: roles.to_vec() });
        }
        // An end too far away to be represented counts as no end.
        let left = identified.ends_at.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
        Ok(Admitted { caller, ends_at: Instant::now().checked_add(left) })
    }
}

/// Returns the bearer token of a request. Rejects a request with none or with several.
fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    let error = |reason, description: &str| Error::Unauthenticated {
        reason,
        description: description.to_owned(),
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        let how = "send one token, as metadata: authorization: Bearer TOKEN";
        return Err(error("TOKEN_MISSING", how));
    };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.ok_or_else(|| error("TOKEN_INVALID", "the authorization must be: Bearer TOKEN"))
}

impl Middleware for CheckAccess {
    fn call<S>(&self, inner: &mut S, mut request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        match self.admit(request.uri().path(), request.headers()) {
            Ok(admitted) => {
                request.extensions_mut().insert(admitted);
                inner.call(request).boxed()
            }
            Err(error) => {
                debug!(method = request.uri().path(), %error, "a caller was rejected");
                refuse(request, error).map(Ok).boxed()
            }
        }
    }
}
