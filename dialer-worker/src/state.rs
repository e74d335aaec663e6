//! What the worker knows and decides. Outlives streams; waits for nothing.

use std::sync::Arc;
use std::time::Duration;

use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{AuthorizeResult, Credit, DispatchRequest, LeaseKey, Revoke, Welcome};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::calls::{CallEvent, Calls, News};
use crate::config::WorkerConfig;
use crate::dialer::{CallEnd, Dialer, Outcome};
use crate::leases::Leases;
use crate::reports::{self, Outbox};
use crate::session::{Terms, request};
use crate::worker::Summary;

/// After the grace for calls is over: for the last reports to be acknowledged.
const LAST_REPORTS_LIMIT: Duration = Duration::from_secs(10);
/// Credit is topped up when this part of it is used, not for each contact.
const CREDIT_TOP_UPS: usize = 4;

/// When to do what once the worker was told to stop.
#[derive(Clone, Copy, Debug)]
struct Stop {
    hang_up_at: Instant,
    is_hung_up: bool,
    finish_by: Instant,
}

pub(crate) struct State {
    max_calls: usize,
    prefetch_contacts: usize,
    drain_grace: Duration,
    leases: Leases,
    calls: Calls,
    outbox: Outbox,
    /// While there is a stream.
    terms: Option<Terms>,
    /// Contacts that may still come on this stream.
    credit_contacts: usize,
    stop: Option<Stop>,
}

impl State {
    pub fn new(
        config: &WorkerConfig,
        dialer: Arc<dyn Dialer>,
        events: mpsc::Sender<CallEvent>,
    ) -> Self {
        Self {
            max_calls: config.max_calls as usize,
            prefetch_contacts: config.prefetch_contacts(),
            drain_grace: config.drain_grace(),
            leases: Leases::default(),
            calls: Calls::new(dialer, events),
            outbox: Outbox::new(config.max_unacknowledged_reports as usize),
            terms: None,
            credit_contacts: 0,
            stop: None,
        }
    }

    /// What was done so far, and what is open.
    pub fn summary(&self) -> Summary {
        Summary {
            calls: self.calls.dialled(),
            reported: self.outbox.acknowledged(),
            unacknowledged: self.outbox.len(),
            unfinished_calls: self.calls.in_progress(),
        }
    }

    // Streams come and go.

    /// Names the leases for hello.
    pub fn begin_stream(&mut self, now: Instant) -> Vec<LeaseKey> {
        self.leases.expire(now);
        self.leases.begin_stream(now)
    }

    pub fn welcome(&mut self, welcome: &Welcome, terms: Terms) {
        self.terms = Some(terms);
        self.leases.set_ttl(terms.lease_ttl);
        self.leases.renewed(&welcome.leases);
    }

    pub fn end_stream(&mut self, now: Instant) {
        self.terms = None;
        self.credit_contacts = 0;
        self.leases.end_stream();
        self.outbox.end_stream(now);
    }

    /// Whether the service has something to answer on this stream.
    pub fn awaits_answers(&self) -> bool {
        self.leases.await_answers() || self.outbox.awaits_acks()
    }

    // Time passes.

    /// Does what is due by now.
    pub fn tick(&mut self, now: Instant) {
        self.leases.expire(now);
        if let Some(stop) = &mut self.stop
            && !stop.is_hung_up
            && stop.hang_up_at <= now
        {
            stop.is_hung_up = true;
            self.calls.hang_up(|_, _| true);
        }
    }

    /// When there is something to do next, if nothing happens before. Messages count only while one
    /// can be sent.
    pub fn next_deadline(&self, can_send: bool) -> Option<Instant> {
        let stop =
            self.stop.map(|stop| if stop.is_hung_up { stop.finish_by } else { stop.hang_up_at });
        let messages = can_send && self.terms.is_some();
        let flush = self.outbox.flush_at().filter(|_| messages);
        let renew = self.leases.renew_due().filter(|_| messages);
        [stop, flush, renew].into_iter().flatten().min()
    }

    /// Begins to stop: nothing more is asked for; calls in progress get their grace.
    pub fn stop(&mut self, now: Instant) {
        let hang_up_at = now + self.drain_grace;
        let finish_by = hang_up_at + LAST_REPORTS_LIMIT;
        self.stop = Some(Stop { hang_up_at, is_hung_up: false, finish_by });
        self.leases.stop_all();
        info!(
            calls = self.calls.in_progress(),
            grace_seconds = self.drain_grace.as_secs(),
            "stopping; calls in progress may finish within the grace"
        );
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether the worker was told to stop and everything is done, or its time is up.
    pub fn is_finished(&self, now: Instant) -> bool {
        let Some(stop) = self.stop else { return false };
        // Without a stream it is not worth waiting to give contacts back: their leases run out.
        let is_settled = self.terms.is_none() || self.leases.are_settled();
        let is_done = self.calls.in_progress() == 0 && self.outbox.len() == 0 && is_settled;
        is_done || stop.finish_by <= now
    }

    // Calls tell.

    /// Whether there is room for what calls tell; if not, providers wait.
    pub fn can_hear_calls(&self) -> bool {
        self.outbox.has_reserve()
    }

    pub fn on_call(&mut self, event: CallEvent, now: Instant) {
        let call = &event.call;
        match event.news {
            News::Answered => self.calls.answered(call),
            News::Fact(fact) => self.outbox.push(reports::fact(call, fact), now),
            News::Ended(end) => {
                debug!(attempt_id = call.attempt_id, outcome = ?end.outcome, "call ended");
                if self.calls.ended(call) {
                    self.leases.call_ended(&call.lease);
                    self.outbox.push(reports::call_ended(call, end), now);
                }
            }
        }
    }

    // The service says. Drain is not for us: it ends the stream, not the work.

    pub fn on_response(&mut self, response: Response, now: Instant) {
        match response {
            Response::Batch(batch) => {
                self.credit_contacts = self.credit_contacts.saturating_sub(batch.contacts.len());
                self.leases.add(batch, now);
                if self.is_stopping() {
                    self.leases.stop_all();
                }
            }
            Response::AuthorizeResult(result) => self.on_authorize_result(&result, now),
            Response::ReportAck(ack) => self.outbox.acknowledge(&ack),
            Response::RenewResult(result) => self.leases.renewed(&result.leases),
            Response::ReleaseAck(ack) => self.leases.released(&ack),
            Response::Revoke(revoke) => self.on_revoke(&revoke),
            Response::Idle(idle) => {
                debug!(credit_contacts = idle.credit_contacts, "nothing to dial now");
            }
            Response::Welcome(_) | Response::Drain(_) => {
                warn!("the service sent a message out of place; ignored");
            }
        }
    }

    fn on_authorize_result(&mut self, result: &AuthorizeResult, now: Instant) {
        for granted in self.leases.answer(result, now) {
            if granted.dial {
                self.calls.start(granted);
            } else {
                let (call, attempt) = granted.into_call();
                debug!(attempt_id = attempt.attempt_id, "granted too late; not dialled");
                let end = CallEnd::unanswered(Outcome::Failed);
                self.outbox.push(reports::call_ended(&call, end), now);
            }
        }
    }

    fn on_revoke(&mut self, revoke: &Revoke) {
        if revoke.contact.is_empty() {
            info!(
                campaign = revoke.campaign,
                run = revoke.run,
                reason = revoke.reason().as_str_name(),
                hang_up = revoke.hang_up,
                "the service stopped a campaign"
            );
            self.leases.stop_campaign(&revoke.campaign, revoke.run, !revoke.hang_up);
            if revoke.hang_up {
                self.calls
                    .hang_up(|call, _| call.campaign == revoke.campaign && call.run <= revoke.run);
            }
        } else {
            self.leases.drop_contact(&revoke.campaign, &revoke.contact);
            self.calls.hang_up(|call, is_answered| {
                call.contact == revoke.contact && (revoke.hang_up || !is_answered)
            });
        }
    }

    // We say.

    /// What to say next, most urgent first. Once taken it counts as sent.
    pub fn next_message(&mut self, now: Instant) -> Option<DispatchRequest> {
        let terms = self.terms?;
        let max = terms.max_report_interactions;
        let message = None
            .or_else(|| self.leases.next_renew(now).map(Request::Renew))
            .or_else(|| self.leases.next_release().map(Request::Release))
            .or_else(|| self.outbox.next_report(max, now).map(Request::Report))
            .or_else(|| {
                let places = self.free_places();
                self.leases.next_authorize(places, max, now).map(Request::Authorize)
            })
            .or_else(|| self.next_credit(&terms).map(Request::Credit))?;
        Some(request(message))
    }

    /// How many more calls may be asked for: each question under way may become a call.
    fn free_places(&self) -> usize {
        if self.is_stopping() || !self.outbox.has_room() {
            return 0;
        }
        self.max_calls.saturating_sub(self.calls.in_progress() + self.leases.asked())
    }

    fn next_credit(&mut self, terms: &Terms) -> Option<Credit> {
        if self.is_stopping() {
            return None;
        }
        let target = self.prefetch_contacts.min(terms.max_credit_contacts);
        let missing = target.saturating_sub(self.credit_contacts + self.leases.undialled());
        if missing < (target / CREDIT_TOP_UPS).max(1) {
            return None;
        }
        self.credit_contacts += missing;
        Some(Credit { contacts: i32::try_from(missing).unwrap_or(i32::MAX) })
    }
}
