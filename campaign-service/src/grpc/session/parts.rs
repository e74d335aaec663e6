//! Parts that the sessions of one replica share.

use crate::app::campaigns::Campaigns;
use crate::app::control::ControlBus;
use crate::app::dispatch::Dispatch;
use crate::app::dispatch::dispatcher::Dispatcher;
use crate::app::facts::Facts;
use crate::grpc::limits::WorkerStreams;
use crate::metrics::Metrics;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Use cases that a session calls, and what else it shares with others.
#[derive(Clone, Debug)]
pub struct SessionParts {
    pub campaigns: Arc<Campaigns>,
    pub dispatch: Arc<Dispatch>,
    pub dispatcher: Arc<Dispatcher>,
    pub facts: Arc<Facts>,
    pub metrics: Arc<Metrics>,
    pub control: ControlBus,
    pub stop: CancellationToken,
    pub streams: WorkerStreams,
}
