//! State that all calls share, and the events that reach them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use campaign_process::Seldom;
use campaign_process::metrics::Counter;
use tokio::sync::mpsc;

use super::api::{Api, Event, What};
use super::config::Channel;
use super::signature::Verifier;
use crate::call::{Attempt, CallEvents, EarlierCalls};

/// Most ended calls that are remembered.
const MAX_RECENT_ENDS: usize = 10_000;

/// State that all calls share.
pub(super) struct Shared {
    pub api: Api,
    pub channel: Channel,
    pub callback_url: String,
    pub verifier: Verifier,
    pub poll_interval: Duration,
    pub call_limit: Duration,
    /// Channel for calls of an earlier process. Set when the worker begins.
    pub earlier: OnceLock<EarlierCalls>,
    /// Calls in progress, by key.
    pub calls: Mutex<HashMap<String, Listed>>,
    pub ended: Mutex<Recent>,
    /// Callbacks whose signature is not valid. `refusing` limits their log lines.
    pub refused: Counter,
    pub refusing: Seldom,
}

/// Call in progress.
#[derive(Clone)]
pub(super) struct Listed {
    pub news: mpsc::Sender<What>,
    pub events: CallEvents,
}

/// Most recent calls whose end was reported. A platform repeats a callback soon or not at all.
#[derive(Default)]
pub(super) struct Recent {
    /// Durability of each call's end, by key.
    ends: HashMap<String, bool>,
    in_order: VecDeque<String>,
}

impl Recent {
    fn begin(&mut self, key: &str) {
        if self.ends.insert(key.to_owned(), false).is_none() {
            self.in_order.push_back(key.to_owned());
        }
        if self.in_order.len() > MAX_RECENT_ENDS
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ends.remove(&oldest);
        }
    }

    fn finish(&mut self, key: &str, is_durable: bool) {
        if is_durable {
            self.ends.insert(key.to_owned(), true);
        } else {
            self.ends.remove(key);
            self.in_order.retain(|other| other != key);
        }
    }
}

impl Shared {
    /// Returns the address of the contact in this channel, if the contact has one.
    pub fn to<'a>(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match self.channel {
            Channel::Call | Channel::Sms => Some(&attempt.phone_number),
            Channel::Email => attempt.attributes.get("email").map(String::as_str),
        }
    }

    /// Handles an event. Completes when the event can no longer be lost.
    pub async fn deliver(self: &Arc<Self>, event: Event) -> Result<(), StatusCode> {
        let earlier = self.earlier.get().ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        if let Some(fact) = event.what.fact() {
            let call = earlier.call(&event.contact, &event.attempt_id);
            return durable(call.report_durably(fact).await);
        }
        let Some(end) = event.what.end() else {
            let in_progress = self.listed().get(&event.key).cloned();
            return in_progress.map_or(Ok(()), |call| call.pass(event.what));
        };
        let told_before = self.recent().ends.get(&event.key).copied();
        let in_progress = self.listed().get(&event.key).cloned();
        match (told_before, in_progress) {
            (Some(true), _) => Ok(()),
            // The first report of this end is still being handled.
            (Some(false), _) => Err(StatusCode::SERVICE_UNAVAILABLE),
            (None, Some(call)) => {
                // Runs to completion even if the platform does not wait for it.
                let shared = Arc::clone(self);
                let ended = tokio::spawn(async move { shared.end(&call, &event).await });
                ended.await.unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
            }
            (None, None) => durable(earlier.ended(&event.contact, &event.attempt_id, end).await),
        }
    }

    /// Ends a call in progress.
    async fn end(&self, call: &Listed, event: &Event) -> Result<(), StatusCode> {
        self.recent().begin(&event.key);
        let is_durable = call.events.when_end_is_durable().await;
        let passed = call.pass(event.what.clone());
        // False if another end was decided first.
        let is_durable = passed.is_ok() && is_durable.await.unwrap_or(false);
        self.recent().finish(&event.key, is_durable);
        if is_durable { Ok(()) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn listed(&self) -> MutexGuard<'_, HashMap<String, Listed>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Passes news to the call.
    fn pass(&self, what: What) -> Result<(), StatusCode> {
        self.news.try_send(what).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
    }
}

fn durable(is_durable: bool) -> Result<(), StatusCode> {
    // A rejection is final, so the platform need not repeat the callback.
    if is_durable { Ok(()) } else { Err(StatusCode::UNPROCESSABLE_ENTITY) }
}
