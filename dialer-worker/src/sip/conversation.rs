//! Call that goes on: what is needed for it, and what is reported of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rsipstack::dialog::dialog::DialogState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::agent::Caller;
use super::leg::{self, Leg};
use super::stack::Stack;
use crate::call::{CallEvents, Fact};

/// Channel of an opt-out by key.
pub(super) const CHANNEL: &str = "call";

/// Call from answer to end.
pub(super) struct Conversation<'a> {
    pub stack: &'a Arc<Stack>,
    /// Events of the attempt. The call of somebody who calls in has none: it is recorded when it is
    /// over.
    pub events: Option<&'a CallEvents>,
    pub hang_up: &'a CancellationToken,
    pub caller: Caller,
    pub answered: Instant,
    /// Whether the person opted out.
    pub opted_out: AtomicBool,
}

impl Conversation<'_> {
    /// Returns a request of the person's side for its answer. Returns `None` if it tells the key that
    /// opts out: this is reported and answered, and the call must end at once (47 CFR
    /// 64.1200(b)(3)).
    pub async fn unless_opted_out(
        &self,
        person: &mut Leg,
        state: DialogState,
    ) -> Option<DialogState> {
        let opts_out =
            self.stack.opt_out_key.is_some() && leg::key(&state) == self.stack.opt_out_key;
        if !opts_out {
            return Some(state);
        }
        self.opted_out.store(true, Ordering::Relaxed);
        let channel = CHANNEL.to_owned();
        self.report(Fact::OptedOut { channel, everywhere: false }).await;
        person.answer(state).await;
        person.settle().await;
        None
    }

    /// Reports that the target of a transfer answered.
    pub async fn transferred(&self) {
        let seconds = self.answered.elapsed().as_secs();
        let seconds_before_transfer = i32::try_from(seconds).unwrap_or(i32::MAX);
        self.report(Fact::Transferred { seconds_before_transfer }).await;
    }

    async fn report(&self, fact: Fact) {
        if let Some(events) = self.events {
            events.report(fact).await;
        }
    }
}
