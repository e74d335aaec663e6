//! What this worker holds: leases, and where each leased contact stands.
//!
//! ```text
//! waiting ──► asked ──► in call ──► over
//!    │          ├─────► not dialled (refused, or no longer wanted)
//!    └──────────┴─────► to release ──► releasing ──► over
//! ```
//!
//! A stream that breaks takes the answers with it: what was asked is asked again, what was being
//! released is released again.

mod held;
#[cfg(test)]
mod tests;

use std::time::Duration;

use campaign_process::traces::TraceContext;
use campaign_proto::v1::{
    Authorize, AuthorizeResult, Batch, Release, ReleaseAck, Renew, RenewedLease,
};
use tokio::time::Instant;
use tracing::{debug, warn};

pub(crate) use held::Granted;
use held::HeldLease;

/// Most leases that one hello or renew names.
const MAX_NAMED_LEASES: usize = 100;
/// A lease is renewed this often while it lives, so that two renewals may get lost.
const RENEWALS_PER_TTL: u32 = 3;

/// The leases held, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Vec<HeldLease>,
    ttl: Duration,
    last_request_number: i64,
}

impl Leases {
    /// Takes the lifetime of leases as the service says it.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// Contacts that are held and not dialled.
    pub fn undialled(&self) -> usize {
        self.held.iter().map(HeldLease::undialled).sum()
    }

    /// Whether contacts wait to be asked for.
    pub fn have_waiting(&self) -> bool {
        self.undialled() > self.asked()
    }

    /// Contacts whose authorisation was asked for and not answered; each may be granted.
    pub fn asked(&self) -> usize {
        self.held.iter().map(HeldLease::asked).sum()
    }

    /// Whether an answer is due on this stream, to a question or a release.
    pub fn await_answers(&self) -> bool {
        self.held.iter().any(HeldLease::awaits_answer)
    }

    /// Whether nothing is left to ask, dial or release.
    pub fn are_settled(&self) -> bool {
        self.held.iter().all(HeldLease::is_settled)
    }

    /// Takes a batch in.
    pub fn add(&mut self, batch: Batch, now: Instant) {
        let Some(key) = batch.lease else {
            warn!(campaign = batch.campaign, "the service sent a batch without a lease; ignored");
            return;
        };
        if self.find(&key.lease).is_some() {
            warn!(lease = key.lease, "the service sent a lease twice; the second is ignored");
            return;
        }
        debug!(lease = key.lease, contacts = batch.contacts.len(), "leased");
        let renew_at = now + self.renew_interval();
        let (campaign, run) = (batch.campaign, batch.run);
        let expires = now + self.ttl;
        let mut lease = HeldLease::new(key, campaign, run, expires, renew_at, batch.contacts);
        lease.launch = TraceContext::of_traceparent(&batch.launch_traceparent);
        self.held.push(lease);
    }

    /// The next question: as many contacts of the oldest lease as there are free call places. What
    /// was asked on an earlier stream goes first and has its places already.
    pub fn next_authorize(
        &mut self,
        free_places: usize,
        max_slots: usize,
        now: Instant,
    ) -> Option<Authorize> {
        let request_number = self.last_request_number + 1;
        let ask = |lease: &mut HeldLease| {
            let slots = lease
                .ask_again(request_number, max_slots)
                .or_else(|| lease.ask(request_number, free_places.min(max_slots), now))?;
            let traceparents = lease.traceparents(&slots);
            Some(Authorize { request_number, lease: Some(lease.key.clone()), slots, traceparents })
        };
        let authorize = self.held.iter_mut().find_map(ask)?;
        self.last_request_number = request_number;
        Some(authorize)
    }

    /// Takes an answer; returns what was granted, to be dialled or at least reported.
    pub fn answer(&mut self, result: &AuthorizeResult, now: Instant) -> Vec<Granted> {
        let lease = self.held.iter_mut().find(|lease| lease.has_asked(result.request_number));
        let granted = lease.map(|lease| lease.answer(result, now)).unwrap_or_default();
        self.forget_finished();
        granted
    }

    /// When to ask for something that is throttled.
    pub fn throttled_until(&self) -> Option<Instant> {
        self.held.iter().filter_map(HeldLease::throttled_until).min()
    }

    /// A call ended that was granted under this lease.
    pub fn call_ended(&mut self, lease: &str) {
        if let Some(lease) = self.find(lease) {
            lease.call_ended();
        }
        self.forget_finished();
    }

    /// When to renew something next.
    pub fn renew_due(&self) -> Option<Instant> {
        self.held.iter().filter_map(HeldLease::renew_due).min()
    }

    /// The leases to renew by now, if any, and those that are lost and have calls in progress.
    pub fn next_renew(&mut self, now: Instant) -> Option<Renew> {
        let due = |lease: &HeldLease| lease.renew_due().is_some_and(|due| due <= now);
        let renew = self.name_for_renewal(due, now);
        (!renew.leases.is_empty()).then_some(renew)
    }

    /// Takes the answer to a renewal or hello.
    pub fn renewed(&mut self, leases: &[RenewedLease]) {
        let ttl = self.ttl;
        for renewed in leases {
            let lease = self.find(&renewed.lease).filter(|lease| !lease.is_lost());
            let Some(lease) = lease else { continue };
            if renewed.lost || renewed.expire_time.is_none() {
                warn!(lease = renewed.lease, "the lease is lost; the rest of it is not dialled");
                lease.lose();
            } else {
                lease.renewed(ttl);
            }
        }
        self.forget_finished();
    }

    /// The next contacts to give back.
    pub fn next_release(&mut self) -> Option<Release> {
        self.held.iter_mut().find_map(HeldLease::release)
    }

    /// What was being released of a lease is released.
    pub fn released(&mut self, ack: &ReleaseAck) {
        if let Some(lease) = self.find(&ack.lease) {
            lease.released();
        }
        self.forget_finished();
    }

    /// Stops a campaign up to a run: gives back what waits. Grants that are still on their way are
    /// dialled or not.
    pub fn stop_campaign(&mut self, campaign: &str, run: i32, dial_granted: bool) {
        for lease in &mut self.held {
            if lease.campaign == campaign && lease.run <= run {
                lease.stop(dial_granted);
            }
        }
        self.forget_finished();
    }

    /// Stops everything. Grants that are still on their way are dialled or not.
    pub fn stop_all(&mut self, dial_granted: bool) {
        for lease in &mut self.held {
            lease.stop(dial_granted);
        }
        self.forget_finished();
    }

    /// Gives one contact back, or does not dial it should it be granted.
    pub fn drop_contact(&mut self, campaign: &str, contact: &str) {
        for lease in &mut self.held {
            if lease.campaign == campaign {
                lease.drop_contact(contact);
            }
        }
        self.forget_finished();
    }

    /// Loses the leases whose time is over by our own clock.
    pub fn expire(&mut self, now: Instant) {
        for lease in &mut self.held {
            if lease.expires_by(now) {
                warn!(lease = lease.key.lease, "the lease ran out; the rest of it is not dialled");
                lease.lose();
            }
        }
        self.forget_finished();
    }

    /// A stream begins: names the leases to go on with. Those that hello has no room for are renewed
    /// right after it.
    pub fn begin_stream(&mut self, now: Instant) -> Renew {
        for lease in &mut self.held {
            lease.renew_at(now);
        }
        self.name_for_renewal(|lease| lease.renew_due().is_some(), now)
    }

    /// The stream is gone, and with it the answers under way.
    pub fn end_stream(&mut self) {
        for lease in &mut self.held {
            lease.end_stream();
        }
        self.forget_finished();
    }

    fn name_for_renewal(&mut self, wanted: impl Fn(&HeldLease) -> bool, now: Instant) -> Renew {
        let next = now + self.renew_interval();
        let mut renew = Renew::default();
        for lease in self.held.iter_mut().filter(|lease| wanted(lease)).take(MAX_NAMED_LEASES) {
            let key = lease.renewing(now, next);
            if lease.is_lost() {
                renew.lost_leases.push(key.lease.clone());
            }
            renew.leases.push(key);
        }
        renew
    }

    fn renew_interval(&self) -> Duration {
        self.ttl / RENEWALS_PER_TTL
    }

    fn find(&mut self, lease: &str) -> Option<&mut HeldLease> {
        self.held.iter_mut().find(|held| held.key.lease == lease)
    }

    fn forget_finished(&mut self) {
        self.held.retain(|lease| !lease.is_finished());
    }
}
