//! State of the worker and its decisions. The state outlives streams and never waits.

use std::sync::Arc;
use std::time::Duration;

use campaign_process::metrics::Gauge;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{
    Authorize, AuthorizeResult, Credit, DispatchRequest, Renew, Report, Revoke, Welcome,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::breaker::Breaker;
use crate::call::{CallEnd, CallEvent, CallId, News, Outcome, Sign};
use crate::calls::Calls;
use crate::config::WorkerConfig;
use crate::dialer::Dialer;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::pace::{Pace, Throughput};
use crate::provider_status::ProviderStatus;
use crate::reports::{self, Outbox};
use crate::session::{Terms, request};

/// Time for the last acknowledgements, after the grace for calls is over.
const LAST_REPORTS_LIMIT: Duration = Duration::from_secs(10);
/// Divisor of the credit: the part that must be used before a top-up, so that no contact causes its
/// own.
const CREDIT_TOP_UPS: usize = 4;

/// Deadlines of a worker that was told to stop.
#[derive(Clone, Copy, Debug)]
struct Stop {
    hang_up_at: Instant,
    is_hung_up: bool,
    finish_by: Instant,
}

/// Summary of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Calls dialled.
    pub calls: u64,
    /// Facts the service acknowledged.
    pub reported: u64,
    /// Facts without acknowledgement at the end; none after an orderly stop.
    pub unacknowledged: usize,
    /// Calls that did not end although they were hung up; none after an orderly stop.
    pub unfinished_calls: usize,
}

pub(crate) struct State {
    metrics: Arc<Metrics>,
    max_calls: usize,
    prefetch_contacts: usize,
    drain_grace: Duration,
    pace: Pace,
    throughput: Throughput,
    breaker: Breaker,
    provider_status: ProviderStatus,
    /// Channel for the results of probes.
    probe_answers: mpsc::Sender<bool>,
    leases: Leases,
    calls: Calls,
    outbox: Outbox,
    /// Limits of the open stream, if there is one.
    terms: Option<Terms>,
    /// Contacts that may still arrive on this stream.
    credit_contacts: usize,
    stop: Option<Stop>,
}

impl State {
    pub fn new(
        config: &WorkerConfig,
        dialer: Arc<dyn Dialer>,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<CallEvent>,
        probe_answers: mpsc::Sender<bool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            metrics,
            max_calls: config.max_calls as usize,
            prefetch_contacts: config.prefetch_contacts(),
            drain_grace: config.drain_grace(),
            pace: Pace::new(config.calls_per_second, now),
            throughput: Throughput::new(now),
            breaker: Breaker::new(
                config.provider_failures,
                config.provider_retry(),
                dialer.tells_health(),
                dialer.has_agent(),
            ),
            provider_status: ProviderStatus::default(),
            probe_answers,
            leases: Leases::default(),
            calls: Calls::new(dialer, events),
            outbox: Outbox::new(config.max_unacknowledged_reports as usize),
            terms: None,
            credit_contacts: 0,
            stop: None,
        }
    }

    /// Returns the work done so far and the work still open.
    pub fn summary(&self) -> Summary {
        Summary {
            calls: self.calls.dialled(),
            reported: self.outbox.acknowledged(),
            unacknowledged: self.outbox.len(),
            unfinished_calls: self.calls.in_progress(),
        }
    }

    // Streams.

    /// Returns the leases to name in hello.
    pub fn begin_stream(&mut self, now: Instant) -> Renew {
        self.leases.expire(now);
        self.leases.begin_stream(now)
    }

    pub fn welcome(&mut self, welcome: &Welcome, terms: Terms) {
        self.terms = Some(terms);
        self.metrics.connections.inc();
        self.metrics.connected.set(1);
        self.leases.set_ttl(terms.lease_ttl);
        self.throughput.set_window(terms.lease_ttl);
        self.leases.renewed(&welcome.leases);
    }

    pub fn end_stream(&mut self, now: Instant) {
        self.terms = None;
        self.metrics.connected.set(0);
        self.credit_contacts = 0;
        self.leases.end_stream();
        self.outbox.end_stream(now);
        self.provider_status = ProviderStatus::default();
    }

    /// Whether the service owes an answer on this stream.
    pub fn awaits_answers(&self) -> bool {
        self.leases.await_answers() || self.outbox.awaits_acks()
    }

    // Time.

    /// Does everything that is due by now.
    pub fn tick(&mut self, now: Instant) {
        self.leases.expire(now);
        self.show();
        if !self.is_stopping() && self.breaker.take_probe(now) {
            self.calls.probe(self.probe_answers.clone());
        }
        if let Some(stop) = &mut self.stop
            && !stop.is_hung_up
            && stop.hang_up_at <= now
        {
            stop.is_hung_up = true;
            self.leases.stop_all(false);
            self.calls.hang_up(|_, _| true);
        }
    }

    /// Updates the gauges.
    fn show(&self) {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.metrics.calls_in_progress, self.calls.in_progress());
        set(&self.metrics.undialled_contacts, self.leases.undialled());
        set(&self.metrics.unacknowledged_facts, self.outbox.len());
        self.metrics.provider_failing.set(self.breaker.is_open().into());
    }

    /// Returns when something is due next, if nothing happens before. Messages count only if
    /// `can_send`.
    pub fn next_deadline(&self, can_send: bool, now: Instant) -> Option<Instant> {
        let stop =
            self.stop.map(|stop| if stop.is_hung_up { stop.finish_by } else { stop.hang_up_at });
        let messages = can_send && self.terms.is_some();
        let flush = self.outbox.flush_at().filter(|_| messages);
        let renew = self.leases.renew_due().filter(|_| messages);
        let may_ask = messages && self.leases.have_waiting() && self.free_places() > 0;
        let pace = self.pace.next_at(now).filter(|_| may_ask);
        let probe = self.breaker.probe_at().filter(|_| !self.is_stopping());
        // A deadline in the past would only preempt other work. The next tick picks the contact up.
        let throttled = self.leases.throttled_until().filter(|until| may_ask && *until > now);
        let status = self.provider_status.repeat_at().filter(|_| messages);
        [stop, flush, renew, pace, probe, throttled, status].into_iter().flatten().min()
    }

    /// Begins to stop. The worker requests nothing more, and calls in progress get their grace.
    /// Calls already requested get it too; otherwise their attempts would be lost.
    pub fn stop(&mut self, now: Instant) {
        let hang_up_at = now + self.drain_grace;
        let finish_by = hang_up_at + LAST_REPORTS_LIMIT;
        self.stop = Some(Stop { hang_up_at, is_hung_up: false, finish_by });
        self.leases.stop_all(self.may_dial());
        info!(
            calls = self.calls.in_progress(),
            grace_seconds = self.drain_grace.as_secs(),
            "stopping; calls in progress may finish within the grace"
        );
    }

    /// Whether attempts granted from now on may still be dialled.
    fn may_dial(&self) -> bool {
        !self.breaker.is_open() && self.stop.is_none_or(|stop| !stop.is_hung_up)
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Whether a stop was requested and all work is done or the time is up.
    pub fn is_finished(&self, now: Instant) -> bool {
        let Some(stop) = self.stop else { return false };
        // Without a stream, releases are not worth the wait: the leases expire.
        let is_settled = self.terms.is_none() || self.leases.are_settled();
        let is_done = self.calls.in_progress() == 0 && self.outbox.len() == 0 && is_settled;
        is_done || stop.finish_by <= now
    }

    // Calls.

    /// Whether there is room for events of calls. If not, providers wait.
    pub fn can_hear_calls(&self) -> bool {
        self.outbox.has_reserve()
    }

    pub fn on_call(&mut self, event: CallEvent, now: Instant) {
        let call = &event.call;
        match event.news {
            News::Answered => self.calls.answered(call),
            News::Provider(sign) => {
                // A phone that rings shows nothing of the agent, who has yet to come.
                if !(matches!(sign, Sign::Works) && self.breaker.awaits_agents()) {
                    self.calls.heard(call);
                }
                self.on_sign(call, sign, now);
            }
            News::Fact(fact, done) => {
                self.outbox.push_for(call, reports::fact(call, fact), done, now);
            }
            News::Ended(end) => {
                debug!(attempt_id = call.attempt_id, outcome = ?end.outcome, "call ended");
                if let Some(done) = self.calls.ended(call) {
                    self.leases.call_ended(&call.lease);
                    self.metrics.call_ended(end.outcome);
                    self.outbox.push_for(call, reports::call_ended(call, end), done, now);
                }
            }
            News::TellWhenEnded(done) => self.calls.tell_when_ended(call, done),
            News::EndedBefore(end, done) => {
                self.outbox.push_for(call, reports::call_ended(call, end), Some(done), now);
            }
        }
    }

    /// Records what a call shows of the provider's health.
    fn on_sign(&mut self, call: &CallId, sign: Sign, now: Instant) {
        let stops = match sign {
            Sign::Works => {
                self.breaker.works(now);
                false
            }
            Sign::AgentWorks => {
                self.breaker.agent_works(now);
                false
            }
            Sign::Failed(fault, retry_after) => {
                debug!(attempt_id = call.attempt_id, %fault, "the provider failed a call");
                self.breaker.failed(fault, retry_after, now)
            }
            Sign::Unrung(code) => {
                debug!(attempt_id = call.attempt_id, code, "a call ended before any phone rang");
                let begun_at = self.calls.begun_at(call).unwrap_or(now);
                self.breaker.ended_unrung(code, &call.contact, begun_at, now)
            }
        };
        if stops {
            self.leases.stop_all(false);
        }
    }

    /// Records whether the provider answered a probe.
    pub fn on_probe(&mut self, works: bool, now: Instant) {
        self.breaker.probed(works, now);
    }

    // Responses of the service. A drain is handled by the caller: it ends the stream, not the work.

    pub fn on_response(&mut self, response: Response, now: Instant) {
        match response {
            Response::Batch(batch) => {
                self.credit_contacts = self.credit_contacts.saturating_sub(batch.contacts.len());
                self.leases.add(batch, now);
                if self.is_stopping() || self.breaker.is_open() {
                    self.leases.stop_all(self.may_dial());
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
            Response::Welcome(_) | Response::Drain(_) | Response::Rejected(_) => {
                warn!("the service sent an unexpected message; ignored");
            }
        }
    }

    fn on_authorize_result(&mut self, result: &AuthorizeResult, now: Instant) {
        self.throughput.add(result.attempts.len(), now);
        let mut dialled = 0;
        for granted in self.leases.answer(result, now) {
            if granted.dial {
                dialled += 1;
                self.metrics.calls.inc();
                self.calls.start(granted);
            } else {
                let (call, attempt, _) = granted.into_call();
                debug!(attempt_id = attempt.attempt_id, "granted too late; not dialled");
                // Nothing was asked of the provider, so the attempt is given back.
                let end = CallEnd::unanswered(Outcome::Congested);
                self.outbox.push(&call, reports::call_ended(&call, end), now);
            }
        }
        self.pace.give_back(result.attempts.len().saturating_sub(dialled));
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
            let is_of_it =
                |call: &CallId| call.campaign == revoke.campaign && call.run <= revoke.run;
            if revoke.hang_up {
                self.calls.hang_up(|call, _| is_of_it(call));
            } else {
                self.calls.withdraw(is_of_it);
            }
        } else {
            self.leases.drop_contact(&revoke.campaign, &revoke.contact);
            self.calls.hang_up(|call, is_answered| {
                call.contact == revoke.contact && (revoke.hang_up || !is_answered)
            });
        }
    }

    // Messages to the service.

    /// Returns the next message, most urgent first. A returned message counts as sent.
    pub fn next_message(&mut self, now: Instant) -> Option<DispatchRequest> {
        let terms = self.terms?;
        let max = terms.max_report_interactions;
        let failure = self.breaker.failure();
        let message = self
            .provider_status
            .next_report(failure.as_deref(), now)
            .map(Request::ProviderReport)
            .or_else(|| self.leases.next_renew(now).map(Request::Renew))
            .or_else(|| self.leases.next_release().map(Request::Release))
            .or_else(|| self.next_report(&terms, now).map(Request::Report))
            .or_else(|| self.next_authorize(max, now).map(Request::Authorize))
            .or_else(|| self.next_credit(&terms, now).map(Request::Credit))?;
        Some(request(message))
    }

    fn next_report(&mut self, terms: &Terms, now: Instant) -> Option<Report> {
        let mut report = self.outbox.next_report(terms.max_report_interactions, now)?;
        terms.outcomes.put(&mut report);
        Some(report)
    }

    fn next_authorize(&mut self, max_slots: usize, now: Instant) -> Option<Authorize> {
        let places = self.free_places().min(self.pace.available(now));
        let asked_before = self.leases.asked();
        let authorize = self.leases.next_authorize(places, max_slots, now)?;
        // Repeated requests have their capacity already.
        self.pace.take(self.leases.asked() - asked_before, now);
        Some(authorize)
    }

    /// Returns how many more calls may be requested. Each request under way may become a call.
    fn free_places(&self) -> usize {
        if self.is_stopping() || !self.outbox.has_room() {
            return 0;
        }
        let asked = self.leases.asked();
        let places = self.max_calls.saturating_sub(self.calls.in_progress() + asked);
        match self.breaker.max_setups() {
            usize::MAX => places,
            setups => places.min(setups.saturating_sub(self.calls.unheard() + asked)),
        }
    }

    fn next_credit(&mut self, terms: &Terms, now: Instant) -> Option<Credit> {
        if self.is_stopping() || self.breaker.is_open() {
            return None;
        }
        let target = self.wanted_contacts(terms, now);
        let missing = target.saturating_sub(self.credit_contacts + self.leases.undialled());
        if missing < (target / CREDIT_TOP_UPS).max(1) {
            return None;
        }
        self.credit_contacts += missing;
        Some(Credit { contacts: i32::try_from(missing).unwrap_or(i32::MAX) })
    }

    /// Returns how many contacts to hold or request: an estimate of the contacts that can be
    /// dialled in a lease's lifetime. Each free call place counts as one call. The number dialled
    /// in the latest lifetime may repeat.
    fn wanted_contacts(&mut self, terms: &Terms, now: Instant) -> usize {
        if !self.breaker.is_closed() {
            return self.breaker.max_setups().saturating_sub(self.calls.unheard());
        }
        let can_be_dialled = self.max_calls + self.throughput.expected(now);
        let by_pace = self.pace.within(terms.lease_ttl);
        self.prefetch_contacts.min(terms.max_credit_contacts).min(can_be_dialled).min(by_pace)
    }
}
