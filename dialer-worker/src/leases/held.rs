//! One lease and its contacts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use campaign_process::traces::{self, Span, SpanKind, TraceContext};
use campaign_proto::v1::{
    AttemptAuthorization, AuthorizeDecision, AuthorizeResult, LeaseKey, LeasedContact, Release,
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::call::{Attempt, CallId, CallTrace, Leave};

/// Bounds of the wait for a campaign's pacing.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(5);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Standing of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Live,
    /// Stopped: nothing more is requested. `dial_granted` decides whether grants under way are
    /// still dialled.
    Stopped {
        dial_granted: bool,
    },
    /// No longer held by this worker.
    Lost,
}

/// Contact whose authorisation was requested.
#[derive(Debug)]
struct Asked {
    contact: LeasedContact,
    /// Number of requests; more than one if a stream broke before the answer.
    times_asked: u32,
    /// Whether the contact must no longer be dialled.
    is_revoked: bool,
    /// Span of the call, if it comes to one. It lasts until the call ends, or until the answer that
    /// there is none.
    trace: Span,
}

#[derive(Debug)]
pub(super) struct HeldLease {
    pub key: LeaseKey,
    pub campaign: String,
    pub run: i32,
    /// Trace context of the run's launch, if it is traced.
    pub launch: TraceContext,
    standing: Standing,
    /// End of the lease by the worker's own clock, never later than the service assumes. A renewal
    /// counts from its request.
    expires: Instant,
    renew_at: Instant,
    /// Time of the first renewal request without an answer.
    renewal_asked: Option<Instant>,
    waiting: VecDeque<LeasedContact>,
    /// Requested authorisations, by slot.
    asked: BTreeMap<i32, Asked>,
    /// Number of the request under way on this stream. One request at a time, so that capacity
    /// freed meanwhile is requested together.
    request_number: Option<i64>,
    /// Time before which the campaign's pacing allows no call.
    throttled_until: Option<Instant>,
    to_release: Vec<i32>,
    /// Slots sent on this stream and not acknowledged. One release at a time.
    releasing: Vec<i32>,
    calls: usize,
}

impl HeldLease {
    pub fn new(
        key: LeaseKey,
        campaign: String,
        run: i32,
        expires: Instant,
        renew_at: Instant,
        contacts: Vec<LeasedContact>,
    ) -> Self {
        Self {
            key,
            campaign,
            run,
            launch: TraceContext::default(),
            standing: Standing::Live,
            expires,
            renew_at,
            renewal_asked: None,
            waiting: contacts.into(),
            asked: BTreeMap::new(),
            request_number: None,
            throttled_until: None,
            to_release: Vec::new(),
            releasing: Vec::new(),
            calls: 0,
        }
    }

    pub fn undialled(&self) -> usize {
        self.waiting.len() + self.asked.len()
    }

    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    pub fn has_asked(&self, request_number: i64) -> bool {
        self.request_number == Some(request_number)
    }

    pub fn awaits_answer(&self) -> bool {
        self.request_number.is_some() || !self.releasing.is_empty()
    }

    pub fn is_settled(&self) -> bool {
        self.undialled() == 0 && self.to_release.is_empty() && self.releasing.is_empty()
    }

    pub fn is_finished(&self) -> bool {
        self.is_settled() && self.calls == 0
    }

    /// Repeats a request whose answer was lost with an earlier stream.
    pub fn ask_again(&mut self, request_number: i64, max_slots: usize) -> Option<Vec<i32>> {
        if self.request_number.is_some() || self.asked.is_empty() {
            return None;
        }
        let mut slots = Vec::new();
        for (slot, asked) in self.asked.iter_mut().take(max_slots) {
            asked.times_asked += 1;
            slots.push(*slot);
        }
        self.request_number = Some(request_number);
        Some(slots)
    }

    /// Requests authorisation for waiting contacts.
    pub fn ask(&mut self, request_number: i64, places: usize, now: Instant) -> Option<Vec<i32>> {
        let count = places.min(self.waiting.len());
        let is_throttled = self.throttled_until.is_some_and(|until| now < until);
        let may_ask = self.standing == Standing::Live
            && self.request_number.is_none()
            && !is_throttled
            && now < self.expires;
        if !may_ask || count == 0 {
            return None;
        }
        let mut slots = Vec::with_capacity(count);
        for contact in self.waiting.drain(..count) {
            slots.push(contact.slot);
            let trace = begin_call(&self.campaign, self.run, &self.launch);
            let asked = Asked { contact, times_asked: 1, is_revoked: false, trace };
            self.asked.insert(asked.contact.slot, asked);
        }
        self.request_number = Some(request_number);
        Some(slots)
    }

    /// Returns the trace contexts of the traced calls among `slots`.
    pub fn traceparents(&self, slots: &[i32]) -> Vec<String> {
        let asked = slots.iter().filter_map(|slot| self.asked.get(slot));
        TraceContext::traceparents(asked.map(|asked| asked.trace.context()))
    }

    /// Handles an answer. Throttled contacts wait again, for as long as the service says.
    pub fn answer(&mut self, result: &AuthorizeResult, now: Instant) -> Vec<Granted> {
        let mut granted = Vec::new();
        let mut throttled = VecDeque::new();
        for attempt in &result.attempts {
            if attempt.decision() == AuthorizeDecision::Throttled {
                throttled.extend(self.asked.remove(&attempt.slot));
            } else {
                granted.extend(self.decide(attempt, now));
            }
        }
        self.request_number = None;
        self.throttled_until = (!throttled.is_empty()).then(|| now + retry_delay(result));
        // Ahead of the contacts that were not requested yet.
        while let Some(asked) = throttled.pop_back() {
            self.wait_again(asked);
        }
        self.forget_lost();
        granted
    }

    fn wait_again(&mut self, mut asked: Asked) {
        asked.trace.set("decision", AuthorizeDecision::Throttled.as_str_name());
        if self.standing == Standing::Live && !asked.is_revoked {
            self.waiting.push_front(asked.contact);
        } else {
            self.give_back(asked.contact.slot);
        }
    }

    /// Returns when to ask again for throttled contacts.
    pub fn throttled_until(&self) -> Option<Instant> {
        self.throttled_until.filter(|_| !self.waiting.is_empty())
    }

    fn decide(&mut self, attempt: &AttemptAuthorization, now: Instant) -> Option<Granted> {
        let mut asked = self.asked.remove(&attempt.slot)?;
        let decision = attempt.decision();
        asked.trace.set("decision", decision.as_str_name());
        match decision {
            AuthorizeDecision::Granted => return Some(self.grant(asked, attempt, now)),
            // The first answer was lost on its way, so nobody dialled.
            AuthorizeDecision::AlreadyGranted if asked.times_asked > 1 => {
                return Some(self.grant(asked, attempt, now));
            }
            AuthorizeDecision::AlreadyGranted => {
                warn!(
                    attempt_id = attempt.attempt_id,
                    "granted before to another worker; not dialled"
                );
            }
            AuthorizeDecision::LeaseLost => self.lose(),
            AuthorizeDecision::NotRunning => {
                self.give_back(attempt.slot);
                self.give_back_waiting();
            }
            AuthorizeDecision::Excluded
            | AuthorizeDecision::NotNow
            | AuthorizeDecision::SlotClosed
            // Throttled contacts wait again and never reach this match.
            | AuthorizeDecision::Throttled
            | AuthorizeDecision::Unspecified => {}
        }
        debug!(contact = asked.contact.contact, ?decision, "not dialled");
        None
    }

    fn grant(&mut self, asked: Asked, attempt: &AttemptAuthorization, now: Instant) -> Granted {
        let is_wanted = match self.standing {
            Standing::Live => true,
            Standing::Stopped { dial_granted } => dial_granted,
            Standing::Lost => false,
        };
        // An answer that is read late, after the process was suspended, may be out of date.
        let dial = is_wanted && !asked.is_revoked && now < self.expires;
        if dial {
            self.calls += 1;
        }
        Granted {
            lease: self.key.lease.clone(),
            campaign: self.campaign.clone(),
            run: self.run,
            attempt_id: attempt.attempt_id.clone(),
            contact: asked.contact,
            leave: Leave::until(self.expires),
            trace: asked.trace,
            dial,
        }
    }

    pub fn call_ended(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    pub fn is_lost(&self) -> bool {
        self.standing == Standing::Lost
    }

    /// Returns when to renew, or `None` if a renewal gains nothing. A lost lease is still named
    /// while it has calls, because they may have to be hung up.
    pub fn renew_due(&self) -> Option<Instant> {
        let is_in_use = self.calls > 0 || (self.undialled() > 0 && !self.is_lost());
        is_in_use.then_some(self.renew_at)
    }

    pub fn renew_at(&mut self, at: Instant) {
        self.renew_at = at;
    }

    pub fn renewing(&mut self, now: Instant, next: Instant) -> LeaseKey {
        self.renew_at = next;
        self.renewal_asked.get_or_insert(now);
        self.key.clone()
    }

    pub fn renewed(&mut self, ttl: Duration) {
        if let Some(asked) = self.renewal_asked.take() {
            self.expires = self.expires.max(asked + ttl);
        }
    }

    pub fn expires_by(&self, now: Instant) -> bool {
        self.standing != Standing::Lost && self.expires <= now
    }

    /// Drops everything that waits to be dialled or released. Requested contacts may have been
    /// granted before, so their answer is awaited and reported.
    pub fn lose(&mut self) {
        self.standing = Standing::Lost;
        self.waiting.clear();
        self.to_release.clear();
        self.releasing.clear();
        if self.request_number.is_none() {
            self.forget_lost();
        }
    }

    /// Drops the requests of a lost lease, if no answer can arrive for them.
    fn forget_lost(&mut self) {
        if self.standing == Standing::Lost {
            self.asked.clear();
        }
    }

    pub fn stop(&mut self, dial_granted: bool) {
        let stricter = match self.standing {
            Standing::Lost => return,
            Standing::Live => dial_granted,
            Standing::Stopped { dial_granted: before } => before && dial_granted,
        };
        self.standing = Standing::Stopped { dial_granted: stricter };
        self.give_back_waiting();
    }

    pub fn drop_contact(&mut self, contact: &str) {
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.contact == contact) {
            let dropped = self.waiting.remove(index);
            self.to_release.extend(dropped.map(|contact| contact.slot));
        }
        for asked in self.asked.values_mut().filter(|asked| asked.contact.contact == contact) {
            asked.is_revoked = true;
        }
    }

    fn give_back_waiting(&mut self) {
        self.to_release.extend(self.waiting.drain(..).map(|contact| contact.slot));
    }

    fn give_back(&mut self, slot: i32) {
        if self.standing != Standing::Lost {
            self.to_release.push(slot);
        }
    }

    pub fn release(&mut self) -> Option<Release> {
        if self.to_release.is_empty() || !self.releasing.is_empty() {
            return None;
        }
        self.releasing = std::mem::take(&mut self.to_release);
        Some(Release { lease: Some(self.key.clone()), slots: self.releasing.clone() })
    }

    pub fn released(&mut self) {
        self.releasing.clear();
    }

    pub fn end_stream(&mut self) {
        self.request_number = None;
        self.renewal_asked = None;
        self.to_release.append(&mut self.releasing);
        self.forget_lost();
    }
}

/// Begins the trace of a call. A launch covers all calls of a run, so its trace is a separate one.
fn begin_call(campaign: &str, run: i32, launch: &TraceContext) -> Span {
    let none = TraceContext::default();
    let links = std::slice::from_ref(launch);
    let mut trace = traces::begin_linked("call", SpanKind::Internal, &none, links);
    trace.set_name("campaign", campaign);
    trace.set("run", i64::from(run));
    trace
}

/// Returns the delay before a throttled contact is requested again, within bounds.
fn retry_delay(result: &AuthorizeResult) -> Duration {
    let delay = result.retry_delay.and_then(|delay| delay.try_into().ok());
    delay.unwrap_or(MAX_RETRY_DELAY).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY)
}

/// Authorised attempt.
#[derive(Debug)]
pub(crate) struct Granted {
    lease: String,
    campaign: String,
    run: i32,
    attempt_id: String,
    contact: LeasedContact,
    leave: Leave,
    trace: Span,
    /// Whether to dial. If false, the grant came too late, and the attempt is reported as failed.
    pub dial: bool,
}

impl Granted {
    /// Returns the call's identity, the attempt for the provider, and the call's spans.
    pub fn into_call(mut self) -> (Arc<CallId>, Attempt, CallTrace) {
        self.trace.set_name("attempt_id", &self.attempt_id);
        let mut dial = Span::default();
        let mut cause = self.trace.context().clone();
        if self.dial {
            dial = traces::begin("dial", SpanKind::Client, &cause);
            dial.set_name("attempt_id", &self.attempt_id);
            cause.clone_from(dial.context());
        }
        let call = CallId {
            lease: self.lease,
            slot: self.contact.slot,
            attempt_id: self.attempt_id.clone(),
            contact: self.contact.contact.clone(),
            campaign: self.campaign,
            run: self.run,
            trace: cause,
        };
        let attempt = Attempt {
            attempt_id: self.attempt_id,
            contact: self.contact.contact,
            phone_number: self.contact.phone_number,
            display_name: self.contact.display_name,
            time_zone: self.contact.time_zone,
            attributes: self.contact.attributes,
            attempt_number: self.contact.attempt_number,
            link: self.contact.link,
            leave: self.leave,
        };
        (Arc::new(call), attempt, CallTrace { dial, _call: self.trace })
    }
}
