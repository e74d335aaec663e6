//! Layers of the server: applies a [`Middleware`] to every call.

use futures_util::future::BoxFuture;
use http::{Request, Response};
use std::task::{Context, Poll};
use tonic::body::Body;
use tower::{Layer, Service};

/// Future of a call.
pub type Calling<E> = BoxFuture<'static, Result<Response<Body>, E>>;

/// Work done around every call.
pub trait Middleware: Clone {
    /// Answers a request, with or without a call of `inner`.
    fn call<S>(&self, inner: &mut S, request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static;
}

/// Layer that puts a middleware around every method.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<M>(pub M);

/// Methods with a middleware around them.
#[derive(Clone, Debug)]
pub struct Surrounded<M, S> {
    middleware: M,
    inner: S,
}

impl<M: Clone, S> Layer<S> for Around<M> {
    type Service = Surrounded<M, S>;

    fn layer(&self, inner: S) -> Surrounded<M, S> {
        Surrounded { middleware: self.0.clone(), inner }
    }
}

impl<M, S> Service<Request<Body>> for Surrounded<M, S>
where
    M: Middleware,
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Calling<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Calling<S::Error> {
        self.middleware.call(&mut self.inner, request)
    }
}
