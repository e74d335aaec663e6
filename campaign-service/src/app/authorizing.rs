//! The last word before a phone rings.

use super::App;
use super::error::{Error, Result};
use super::leasing::{LeaseKey, is_held};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::{Durability, Gate, Tx, numbers, paces};
use campaign_domain::Instant;
use campaign_domain::caps::capped_until;
use campaign_domain::eligibility::Verdict;
use campaign_domain::lease::{AttemptId, Slot};
use campaign_domain::schedule::Hours;
use chrono::TimeDelta;
use std::collections::HashMap;
use tokio::try_join;

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
    /// Pacing allows no call now; the slot stays leased.
    Throttled,
}

/// The answer for all slots asked for.
#[derive(Debug)]
pub struct Authorization {
    /// In order.
    pub decisions: Vec<Decision>,
    /// When to ask again for what is throttled.
    pub retry_after: Option<TimeDelta>,
}

impl Authorization {
    /// The same answer for all.
    #[must_use]
    pub fn all(decision: Decision, slots: usize) -> Self {
        Self { decisions: vec![decision; slots], retry_after: None }
    }
}

impl App {
    /// Decides, for each slot, whether its contact may be dialled now, and makes it durable.
    pub async fn authorize(&self, key: LeaseKey, slots: &[usize]) -> Result<Authorization> {
        loop {
            match self.try_authorize(key, slots).await {
                // Now it is there to be found; so each number is in the way once at the most.
                Err(Error::Store(error)) if numbers::is_noted_meanwhile(&error) => {}
                answer => return answer,
            }
        }
    }

    async fn try_authorize(&self, key: LeaseKey, slots: &[usize]) -> Result<Authorization> {
        let mut connection = self.db.connect().await?;
        let opening = connection.open(Gate::Shared(key.campaign), Durability::Durable).await?;
        let number = [key.number];
        let (now, leases, campaign, revision) = try_join!(
            biased;
            opening.pass(),
            leases::lock(&opening, key.campaign, &number),
            campaigns::find(&opening, key.campaign),
            campaigns::revision(&opening, key.campaign),
        )?;
        let tx = opening.at(now);
        let Some(lease) = leases.into_iter().find(|lease| is_held(lease, key, now)) else {
            return Ok(Authorization::all(Decision::LeaseLost, slots.len()));
        };
        let campaign = campaign.filter(|campaign| {
            !campaign.is_deleted && campaign.run == lease.run && campaign.is_dialling(tx.now)
        });
        let Some(campaign) = campaign else {
            return Ok(Authorization::all(Decision::NotRunning, slots.len()));
        };
        let mut deciding = Deciding::open(&tx, &campaign, revision, lease, slots).await?;
        let mut willing = deciding.judge(slots);
        let retry_after = deciding.pace(&mut willing).await?;
        deciding.cap(&mut willing, self.limits.max_attempts_per_number).await?;
        let decisions = deciding.grant(slots, &willing);
        deciding.save().await?;
        tx.commit().await?;
        Ok(Authorization { decisions, retry_after })
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
    /// By slot, of those asked for.
    decisions: Vec<Option<Decision>>,
    later: Vec<Due>,
    granted: Vec<usize>,
}

impl<'a, 'c> Deciding<'a, 'c> {
    async fn open(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        revision: i64,
        lease: Lease,
        slots: &[usize],
    ) -> Result<Self> {
        let is_as_judged = lease.judged_revision == revision && tx.now < lease.judged_until;
        let is_doubtful = |slot: &&usize| lease.slots.get(**slot) != Some(Slot::Leased);
        let positions: Vec<i64> = slots
            .iter()
            .filter(|slot| !is_as_judged || is_doubtful(slot))
            .filter_map(|slot| lease.positions.get(*slot).copied())
            .collect();
        let subjects = contacts::subjects(tx, campaign.id, &positions).await?;
        Ok(Self {
            campaign,
            tx,
            is_as_judged,
            subjects: subjects
                .into_iter()
                .map(|subject| (subject.candidate.position, subject))
                .collect(),
            decisions: vec![None; lease.positions.len()],
            lease,
            later: Vec::new(),
            granted: Vec::new(),
        })
    }

    /// Decides by the contacts alone; returns the slots that nothing stands against, each once.
    fn judge(&mut self, slots: &[usize]) -> Vec<usize> {
        let mut willing = Vec::with_capacity(slots.len());
        let mut is_seen = vec![false; self.decisions.len()];
        for slot in slots.iter().copied() {
            // No such slot, or asked for twice in one breath.
            if is_seen.get_mut(slot).is_none_or(|is_seen| std::mem::replace(is_seen, true)) {
                continue;
            }
            match self.lease.slots.get(slot) {
                Some(Slot::Leased) if self.is_as_judged => willing.push(slot),
                Some(Slot::Leased) => match self.objection(slot) {
                    None => willing.push(slot),
                    Some(Objection::Excluded) => self.close(slot, Decision::Excluded),
                    Some(Objection::Later(due)) => {
                        self.later.push(due);
                        self.close(slot, Decision::NotNow);
                    }
                },
                // The worker may not have heard the answer and dial only now, so it is judged again. The
                // slot stays: whether it rang is known to the worker alone.
                Some(Slot::Authorized) => {
                    let decision = match self.objection(slot) {
                        None => Decision::AlreadyGranted(self.attempt(slot)),
                        Some(Objection::Excluded) => Decision::Excluded,
                        Some(Objection::Later(_)) => Decision::NotNow,
                    };
                    self.decisions[slot] = Some(decision);
                }
                Some(Slot::Ended | Slot::Closed) | None => {
                    self.decisions[slot] = Some(Decision::SlotClosed);
                }
            }
        }
        willing
    }

    /// Leaves as many as the campaign's pacing allows; returns when to ask for the others.
    async fn pace(&mut self, willing: &mut Vec<usize>) -> Result<Option<TimeDelta>> {
        let (tx, id, pacing) = (self.tx, self.campaign.id, self.campaign.config.pacing);
        if !pacing.is_limited() || willing.is_empty() {
            return Ok(None);
        }
        // Held until commit: nobody else counts meanwhile.
        let next_call_at = paces::lock(tx, id).await?;
        let in_progress = if pacing.max_calls_in_progress > 0 {
            leases::calls_in_progress(tx, id).await?
        } else {
            0
        };
        let allowed = pacing.allow(willing.len(), in_progress, next_call_at, tx.now);
        paces::save(tx, id, allowed.next_call_at).await?;
        let throttled = willing.split_off(allowed.calls);
        let retry_after = (!throttled.is_empty()).then_some(allowed.retry_after);
        for slot in throttled {
            self.decisions[slot] = Some(Decision::Throttled);
        }
        Ok(retry_after)
    }

    /// Leaves those whose numbers may be dialled once more today, and notes that they are.
    async fn cap(&mut self, willing: &mut Vec<usize>, max_attempts: u16) -> Result<()> {
        if max_attempts == 0 || willing.is_empty() {
            return Ok(());
        }
        let mut numbers: Vec<i64> = willing.iter().map(|slot| self.lease.numbers[*slot]).collect();
        numbers.sort_unstable();
        let dialled = numbers::lock(self.tx, &numbers).await?;
        let free_at = |number: &i64| {
            capped_until(dialled.get(number).map_or(&[], Vec::as_slice), max_attempts, self.tx.now)
        };
        let (free, capped): (Vec<i64>, Vec<i64>) =
            numbers.into_iter().partition(|number| free_at(number).is_none());
        if !capped.is_empty() {
            self.put_off(willing, &capped, free_at).await?;
        }
        let (again, first): (Vec<i64>, Vec<i64>) =
            free.into_iter().partition(|number| dialled.contains_key(number));
        try_join!(
            numbers::note_again(self.tx, &again, max_attempts),
            numbers::note_first(self.tx, &first),
        )?;
        Ok(())
    }

    /// Takes contacts with capped numbers out; they come again when they may be dialled.
    async fn put_off(
        &mut self,
        willing: &mut Vec<usize>,
        capped: &[i64],
        free_at: impl Fn(&i64) -> Option<Instant>,
    ) -> Result<()> {
        // In order of number, as they were read.
        let is_capped = |slot: &usize| capped.binary_search(&self.lease.numbers[*slot]).is_ok();
        let (refused, left): (Vec<usize>, Vec<usize>) =
            willing.iter().copied().partition(is_capped);
        *willing = left;
        let positions: Vec<i64> = refused.iter().map(|slot| self.lease.positions[*slot]).collect();
        let groups: HashMap<i64, i32> =
            contacts::groups(self.tx, self.campaign.id, &positions).await?.into_iter().collect();
        for slot in refused {
            let position = self.lease.positions[slot];
            let due_at = free_at(&self.lease.numbers[slot]).unwrap_or(self.tx.now);
            if let Some(group) = groups.get(&position) {
                self.later.push(Due { position, group: *group, due_at });
            }
            self.close(slot, Decision::NotNow);
        }
        Ok(())
    }

    /// Authorises the slots that are left; returns the answer for each slot asked for.
    fn grant(&mut self, slots: &[usize], willing: &[usize]) -> Vec<Decision> {
        for slot in willing {
            if self.lease.slots.advance(*slot, Slot::Authorized) {
                self.granted.push(*slot);
                self.decisions[*slot] = Some(Decision::Granted(self.attempt(*slot)));
            }
        }
        let mut answer = |slot: &usize| {
            let decision = self.decisions.get_mut(*slot).and_then(Option::as_mut);
            let Some(decision) = decision else { return Decision::SlotClosed };
            let answer = *decision;
            // Asked for twice in one breath, it is granted once.
            if let Decision::Granted(attempt) = answer {
                *decision = Decision::AlreadyGranted(attempt);
            }
            answer
        };
        slots.iter().map(&mut answer).collect()
    }

    async fn save(self) -> Result<()> {
        let (tx, id) = (self.tx, self.campaign.id);
        let slots: Vec<i32> =
            self.granted.iter().filter_map(|slot| i32::try_from(*slot).ok()).collect();
        let positions: Vec<i64> =
            self.granted.iter().map(|slot| self.lease.positions[*slot]).collect();
        let lease = [&self.lease];
        try_join!(
            leases::log_authorization(tx, &self.lease, &slots, &positions),
            due::put(tx, id, self.campaign.run, &self.later),
            leases::save_slots(tx, id, &lease),
        )?;
        Ok(())
    }

    fn attempt(&self, slot: usize) -> AttemptId {
        AttemptId { run: self.lease.run, lease: self.lease.number, slot }
    }

    /// Why the contact in a slot may not be dialled at this moment.
    fn objection(&self, slot: usize) -> Option<Objection> {
        let position = self.lease.positions[slot];
        let now = self.tx.now;
        let subject = self.subjects.get(&position).filter(|subject| !subject.is_deleted);
        let Some(subject) = subject else { return Some(Objection::Excluded) };
        let schedule = self.campaign.config.schedule.as_ref();
        let is_open =
            schedule.is_none_or(|schedule| schedule.hours(&subject.time_zone, now) == Hours::Open);
        let due_at = match self.campaign.rules().judge(&subject.candidate, now) {
            Verdict::Removed(_) => return Some(Objection::Excluded),
            Verdict::NotBefore(due_at) => due_at,
            Verdict::Eligible if is_open => return None,
            // Due from now on: nobody of its group is leased while the hours are shut, and whoever changes
            // the hours need not know who waits for them.
            Verdict::Eligible => now,
        };
        Some(Objection::Later(Due { position, group: subject.group, due_at }))
    }

    fn close(&mut self, slot: usize, decision: Decision) {
        self.lease.slots.advance(slot, Slot::Closed);
        self.decisions[slot] = Some(decision);
    }
}
