//! The last word before a phone rings.

use super::App;
use super::error::Result;
use super::leasing::{LeaseKey, lock_held, reopening};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::{Gate, Tx};
use campaign_domain::eligibility::Verdict;
use campaign_domain::lease::{AttemptId, Slot};
use std::collections::HashMap;

/// The answer for one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Dial now.
    Granted(AttemptId),
    /// Granted before under this lease.
    AlreadyGranted(AttemptId),
    /// The lease ran out or never was the asker's.
    LeaseLost,
    /// The campaign does not dial, or a newer run began.
    NotRunning,
    /// The rules exclude the contact by now.
    Excluded,
    /// It comes again later.
    NotNow,
    /// Given back or ended before, or no such slot.
    SlotClosed,
}

impl App {
    /// Decides, for each slot, whether its contact may be dialled now, and makes it durable.
    pub async fn authorize(&self, key: LeaseKey, slots: &[usize]) -> Result<Vec<Decision>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Shared(key.campaign)).await?;
        let Some(lease) = lock_held(&tx, key).await? else {
            return Ok(vec![Decision::LeaseLost; slots.len()]);
        };
        let campaign = campaigns::find(&tx, key.campaign).await?.filter(|campaign| {
            !campaign.is_deleted && campaign.run == lease.run && campaign.is_dialling(tx.now)
        });
        let Some(campaign) = campaign else {
            return Ok(vec![Decision::NotRunning; slots.len()]);
        };
        let revision = campaigns::revision(&tx, key.campaign).await?;
        let is_as_judged = lease.judged_revision == revision && tx.now < lease.judged_until;
        let is_doubtful = |slot: &&usize| lease.slots.get(**slot) != Some(Slot::Leased);
        let positions: Vec<i64> = slots
            .iter()
            .filter(|slot| !is_as_judged || is_doubtful(slot))
            .filter_map(|slot| lease.positions.get(*slot).copied())
            .collect();
        let subjects = contacts::subjects(&tx, key.campaign, &positions).await?;
        let mut deciding = Deciding {
            campaign: &campaign,
            tx: &tx,
            is_as_judged,
            subjects: subjects
                .into_iter()
                .map(|subject| (subject.candidate.position, subject))
                .collect(),
            lease,
            later: Vec::new(),
            granted: Vec::new(),
        };
        let decisions: Vec<Decision> = slots.iter().map(|slot| deciding.decide(*slot)).collect();
        let Deciding { lease, later, granted, .. } = deciding;
        if !granted.is_empty() {
            let slots: Vec<i32> =
                granted.iter().filter_map(|slot| i32::try_from(*slot).ok()).collect();
            let positions: Vec<i64> = granted.iter().map(|slot| lease.positions[*slot]).collect();
            leases::log_authorization(&tx, &lease, &slots, &positions).await?;
        }
        due::put(&tx, campaign.id, campaign.run, &later).await?;
        leases::save_slots(&tx, key.campaign, &[&lease]).await?;
        tx.commit().await?;
        Ok(decisions)
    }
}

/// What stands against a dial.
enum Objection {
    Excluded,
    Later(Due),
}

struct Deciding<'a, 'c> {
    campaign: &'a Campaign,
    tx: &'a Tx<'c>,
    /// Whether nothing that could change a verdict happened since the contacts were leased.
    is_as_judged: bool,
    /// Those in doubt, by position.
    subjects: HashMap<i64, Subject>,
    lease: Lease,
    later: Vec<Due>,
    granted: Vec<usize>,
}

impl Deciding<'_, '_> {
    fn decide(&mut self, slot: usize) -> Decision {
        let attempt = AttemptId { run: self.lease.run, lease: self.lease.number, slot };
        match self.lease.slots.get(slot) {
            Some(Slot::Leased) => self.decide_leased(slot, attempt),
            // The worker may not have heard the answer and dial only now, so it is judged again. The
            // slot stays: whether it rang is known to the worker alone.
            Some(Slot::Authorized) => match self.objection(slot) {
                None => Decision::AlreadyGranted(attempt),
                Some(Objection::Excluded) => Decision::Excluded,
                Some(Objection::Later(_)) => Decision::NotNow,
            },
            Some(Slot::Ended | Slot::Closed) | None => Decision::SlotClosed,
        }
    }

    fn decide_leased(&mut self, slot: usize, attempt: AttemptId) -> Decision {
        let objection = if self.is_as_judged { None } else { self.objection(slot) };
        match objection {
            Some(Objection::Excluded) => self.close(slot, Decision::Excluded),
            Some(Objection::Later(due)) => {
                self.later.push(due);
                self.close(slot, Decision::NotNow)
            }
            None if self.lease.slots.advance(slot, Slot::Authorized) => {
                self.granted.push(slot);
                Decision::Granted(attempt)
            }
            None => Decision::SlotClosed,
        }
    }

    /// Why the contact in a slot may not be dialled at this moment.
    fn objection(&self, slot: usize) -> Option<Objection> {
        let position = self.lease.positions[slot];
        let now = self.tx.now;
        let subject = self.subjects.get(&position).filter(|subject| !subject.is_deleted);
        let Some(subject) = subject else { return Some(Objection::Excluded) };
        let schedule = self.campaign.config.schedule.as_ref();
        let hours = schedule.map(|schedule| schedule.hours(&subject.time_zone, now));
        let due_at = match self.campaign.rules().judge(&subject.candidate, now) {
            Verdict::Removed(_) => return Some(Objection::Excluded),
            Verdict::NotBefore(due_at) => due_at,
            Verdict::Eligible => hours.and_then(|hours| reopening(hours, now))?,
        };
        Some(Objection::Later(Due { position, group: subject.group, due_at }))
    }

    fn close(&mut self, slot: usize, decision: Decision) -> Decision {
        self.lease.slots.advance(slot, Slot::Closed);
        decision
    }
}
