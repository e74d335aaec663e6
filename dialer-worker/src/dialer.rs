//! Interface of a telephony provider.

use std::future::ready;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::call::{Attempt, CallEnd, CallEvents, EarlierCalls};

/// Provider that places calls. One value serves all calls of the process.
pub trait Dialer: Send + Sync + 'static {
    /// Dials once and completes when the call is over. The result is reported as the end of the
    /// call, so every call ends exactly once. All other events go through `events`. They may follow
    /// the end of the call, for example when a link is opened.
    ///
    /// Cancelling `hang_up` must end the call at once. The worker does not call `dial` if `hang_up`
    /// was cancelled before, or if the leave to begin is gone.
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd>;

    /// Receives the channel for events of calls that an earlier process placed. Called once, before
    /// anything else.
    fn begin(&self, _earlier: EarlierCalls) {}

    /// Returns the channels that the provider engages contacts by; empty: any.
    fn channels(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether calls tell that the provider works, by [`CallEvents::provider_works`]. If so, few
    /// calls are set up at a time until the first one does.
    fn tells_health(&self) -> bool {
        false
    }

    /// Whether an AI agent must come to each call, as [`CallEvents::agent_works`] tells. If so, few
    /// calls are set up at a time until the first one comes.
    fn has_agent(&self) -> bool {
        false
    }

    /// Probes, without a call, whether the provider works again. The worker probes only while
    /// failed calls have stopped dialling. `true` allows one trial call.
    fn probe(&self) -> BoxFuture<'static, bool>;

    /// Stops the intake of inbound calls. Called once, when the worker begins to stop. Completes
    /// when all inbound calls are over and recorded, or soon after the grace. Returns how many are
    /// unrecorded.
    fn stop(&self, _grace: Duration) -> BoxFuture<'static, usize> {
        ready(0).boxed()
    }
}
