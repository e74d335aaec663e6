//! Attempts that reports name, and times at which their facts happened.

use crate::app::error::Result;
use crate::app::facts::report::Report;
use crate::store::campaigns;
use crate::store::leases::{self, Lease};
use crate::store::{Tx, calls};
use campaign_domain::Instant;
use campaign_domain::campaign::Campaign;
use campaign_domain::facts::Fact;
use campaign_domain::lease::{AttemptId, Slot};
use campaign_domain::settings::Epoch;
use campaign_domain::timing::{self, Launch};
use std::collections::{BTreeSet, HashMap};

/// Returns the lease that holds a report's attempt, and the attempt's slot. `leases` must be in
/// order of number.
pub(super) fn lease_of<'l>(leases: &'l [Lease], report: &Report) -> Option<(&'l Lease, usize)> {
    let attempt = report.attempt?;
    let index = leases.binary_search_by_key(&attempt.lease, |lease| lease.number).ok()?;
    let lease = &leases[index];
    let is_its =
        lease.run == attempt.run && lease.positions.get(attempt.slot) == Some(&report.position);
    is_its.then_some((lease, attempt.slot))
}

/// Returns the slot of a report's attempt, if one of the leases holds it. `leases` must be in order
/// of number.
pub(super) fn slot_of(leases: &[Lease], report: &Report) -> Option<Slot> {
    let (lease, slot) = lease_of(leases, report)?;
    lease.slots.get(slot)
}

/// Returns whether a report is about a call in progress under one of the leases. `leases` must be
/// in order of number.
pub(in crate::app::facts) fn is_of_open_call(leases: &[Lease], report: &Report) -> bool {
    slot_of(leases, report) == Some(Slot::Authorized)
}

/// Returns whether a report is about the end of a call.
pub(super) fn is_end(report: &Report) -> bool {
    matches!(report.fact, Fact::CallEnded { .. })
}

/// Times of facts that are not ends of calls.
pub(super) struct Timing {
    /// Launches, newest first; empty if no fact has a time of its own.
    launches: Vec<Launch>,
    /// Times of authorisation of attempts that no lease of the current run holds.
    authorized: HashMap<AttemptId, Instant>,
}

impl Timing {
    /// Reads the data that dates the facts among some reports. The leases that the reports name
    /// must be in order of number.
    pub(super) async fn read(
        tx: &Tx<'_>,
        campaign: &Campaign,
        leases: &[Lease],
        reports: &[&Report],
    ) -> Result<Self> {
        // A call in progress under the current run has no older facts. A call under an older run
        // may have them.
        let is_of_run = |report: &Report| {
            report.attempt.is_some_and(|attempt| attempt.run == campaign.run)
                && lease_of(leases, report).is_some()
        };
        let facts = reports.iter().copied().filter(|report| !is_end(report) && !is_of_run(report));
        let facts: Vec<&Report> = facts.collect();
        let has_time = facts.iter().any(|report| report.occurred_at.is_some());
        let launches =
            if has_time { campaigns::launches(tx, campaign.id).await? } else { Vec::new() };
        let of_attempts = facts.into_iter().filter_map(|report| Some((report, report.attempt?)));
        let of_attempts: Vec<(&Report, AttemptId)> = of_attempts.collect();
        let gone = of_attempts.iter().filter(|(report, _)| lease_of(leases, report).is_none());
        let numbers: BTreeSet<i64> = gone.map(|(_, attempt)| attempt.lease).collect();
        let numbers: Vec<i64> = numbers.into_iter().collect();
        let ended = calls::of_leases(tx, campaign.id, &numbers).await?;
        let (mut authorized, mut asked) = (HashMap::new(), Vec::new());
        for (report, attempt) in of_attempts {
            let call = ended.get(&attempt.slot_id()).map(|found| found.call);
            let is_ended = call.is_some_and(|call| call.position == report.position);
            let seems_older = report
                .occurred_at
                .is_some_and(|at| timing::epoch_at(&launches, at) != campaign.epoch);
            let needs_time = seems_older && attempt.run != campaign.run;
            if needs_time || !is_ended && lease_of(leases, report).is_none() {
                asked.push((attempt, report.position));
            } else if is_ended {
                // The time of the attempt does not matter.
                authorized.insert(attempt, tx.now);
            }
        }
        authorized.extend(leases::authorized_at(tx, campaign.id, &asked).await?);
        Ok(Self { launches, authorized })
    }

    /// Returns whether an attempt that no lease of the current run holds was authorised.
    pub(super) fn knows(&self, attempt: AttemptId) -> bool {
        self.authorized.contains_key(&attempt)
    }

    /// Returns the epoch that a fact belongs to, by when it happened.
    pub(super) fn epoch_of(
        &self,
        campaign: &Campaign,
        attempt: Option<AttemptId>,
        occurred_at: Option<Instant>,
        now: Instant,
    ) -> Epoch {
        let is_of_run = attempt.is_some_and(|attempt| attempt.run == campaign.run);
        if is_of_run || occurred_at.is_none() {
            return campaign.epoch;
        }
        let authorized_at = attempt.and_then(|attempt| self.authorized.get(&attempt).copied());
        let happened_at = timing::happened_at(occurred_at, authorized_at, now);
        timing::epoch_at(&self.launches, happened_at)
    }
}
