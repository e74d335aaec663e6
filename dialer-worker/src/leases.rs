//! Leases of this worker, and the state of each leased contact.
//!
//! ```text
//! waiting ──► asked ──► in call ──► over
//!    │          ├─────► not dialled (rejected, or no longer wanted)
//!    └──────────┴─────► to release ──► releasing ──► over
//! ```
//!
//! A broken stream loses the answers under way. The worker then repeats its requests for
//! authorisations and its releases on the next stream.

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

/// Most leases named in one hello or renew.
const MAX_NAMED_LEASES: usize = 100;
/// Renewals per lifetime of a lease, so that two renewals may get lost.
const RENEWALS_PER_TTL: u32 = 3;

/// Held leases, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Vec<HeldLease>,
    ttl: Duration,
    last_request_number: i64,
}

impl Leases {
    /// Sets the lifetime of leases that the service announced.
    pub fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// Returns the number of held contacts that are not dialled.
    pub fn undialled(&self) -> usize {
        self.held.iter().map(HeldLease::undialled).sum()
    }

    /// Whether any contact waits for an authorisation request.
    pub fn have_waiting(&self) -> bool {
        self.undialled() > self.asked()
    }

    /// Returns the number of requested authorisations without an answer. Each may be granted.
    pub fn asked(&self) -> usize {
        self.held.iter().map(HeldLease::asked).sum()
    }

    /// Whether an authorisation or release on this stream awaits its answer.
    pub fn await_answers(&self) -> bool {
        self.held.iter().any(HeldLease::awaits_answer)
    }

    /// Whether nothing is left to authorise, dial or release.
    pub fn are_settled(&self) -> bool {
        self.held.iter().all(HeldLease::is_settled)
    }

    /// Adds a batch of leased contacts.
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

    /// Returns the next authorisation request: as many contacts of the oldest lease as there is
    /// free call capacity. Requests from an earlier stream go first; they have their capacity
    /// already.
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

    /// Handles an answer. Returns the granted attempts, to be dialled or at least reported.
    pub fn answer(&mut self, result: &AuthorizeResult, now: Instant) -> Vec<Granted> {
        let lease = self.held.iter_mut().find(|lease| lease.has_asked(result.request_number));
        let granted = lease.map(|lease| lease.answer(result, now)).unwrap_or_default();
        self.forget_finished();
        granted
    }

    /// Returns when to ask again for a throttled contact.
    pub fn throttled_until(&self) -> Option<Instant> {
        self.held.iter().filter_map(HeldLease::throttled_until).min()
    }

    /// Records the end of a call that was granted under this lease.
    pub fn call_ended(&mut self, lease: &str) {
        if let Some(lease) = self.find(lease) {
            lease.call_ended();
        }
        self.forget_finished();
    }

    /// Returns when the next renewal is due.
    pub fn renew_due(&self) -> Option<Instant> {
        self.held.iter().filter_map(HeldLease::renew_due).min()
    }

    /// Returns the renewal due by now. It also names lost leases that have calls in progress.
    pub fn next_renew(&mut self, now: Instant) -> Option<Renew> {
        let due = |lease: &HeldLease| lease.renew_due().is_some_and(|due| due <= now);
        let renew = self.name_for_renewal(due, now);
        (!renew.leases.is_empty()).then_some(renew)
    }

    /// Handles the answer to a renewal or hello.
    pub fn renewed(&mut self, leases: &[RenewedLease]) {
        let ttl = self.ttl;
        for renewed in leases {
            let lease = self.find(&renewed.lease).filter(|lease| !lease.is_lost());
            let Some(lease) = lease else { continue };
            if renewed.lost || renewed.expire_time.is_none() {
                warn!(lease = renewed.lease, "the lease is lost; the rest is not dialled");
                lease.lose();
            } else {
                lease.renewed(ttl);
            }
        }
        self.forget_finished();
    }

    /// Returns the next release of contacts.
    pub fn next_release(&mut self) -> Option<Release> {
        self.held.iter_mut().find_map(HeldLease::release)
    }

    /// Records that the contacts being released of a lease are released.
    pub fn released(&mut self, ack: &ReleaseAck) {
        if let Some(lease) = self.find(&ack.lease) {
            lease.released();
        }
        self.forget_finished();
    }

    /// Stops a campaign up to a run and releases its waiting contacts. `dial_granted` decides
    /// whether grants under way are still dialled.
    pub fn stop_campaign(&mut self, campaign: &str, run: i32, dial_granted: bool) {
        for lease in &mut self.held {
            if lease.campaign == campaign && lease.run <= run {
                lease.stop(dial_granted);
            }
        }
        self.forget_finished();
    }

    /// Stops all campaigns. `dial_granted` decides whether grants under way are still dialled.
    pub fn stop_all(&mut self, dial_granted: bool) {
        for lease in &mut self.held {
            lease.stop(dial_granted);
        }
        self.forget_finished();
    }

    /// Releases one contact. If its authorisation is under way and granted, the contact is not
    /// dialled.
    pub fn drop_contact(&mut self, campaign: &str, contact: &str) {
        for lease in &mut self.held {
            if lease.campaign == campaign {
                lease.drop_contact(contact);
            }
        }
        self.forget_finished();
    }

    /// Drops the leases that have expired by the worker's own clock.
    pub fn expire(&mut self, now: Instant) {
        for lease in &mut self.held {
            if lease.expires_by(now) {
                warn!(lease = lease.key.lease, "the lease expired; the rest is not dialled");
                lease.lose();
            }
        }
        self.forget_finished();
    }

    /// Begins a stream. Returns the leases to continue with. Leases for which hello has no room are
    /// renewed right after it.
    pub fn begin_stream(&mut self, now: Instant) -> Renew {
        for lease in &mut self.held {
            lease.renew_at(now);
        }
        self.name_for_renewal(|lease| lease.renew_due().is_some(), now)
    }

    /// Ends the stream. Answers under way are lost with it.
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
