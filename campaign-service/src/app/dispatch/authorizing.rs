//! Authorisation: the last check before a phone rings.

use super::Dispatch;
use super::batch::LeaseKey;
use crate::app::error::{Error, Result};
use crate::store::campaigns;
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::leases::{self, Lease};
use crate::store::{Durability, Gate, Tx, numbers, paces};
use campaign_domain::Instant;
use campaign_domain::access::Reach;
use campaign_domain::campaign::Campaign;
use campaign_domain::caps::capped_until;
use campaign_domain::dispatch::{
    Decision, Objection, admit, decide, is_in_doubt, objection, settle,
};
use campaign_domain::lease::AttemptId;
use campaign_domain::schedule::Hours;
use chrono::TimeDelta;
use std::collections::HashMap;
use tokio::try_join;

/// Answer for one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub decision: Decision,
    /// Attempt that the decision grants or granted before.
    pub attempt: Option<AttemptId>,
}

/// Answers for all slots asked for.
#[derive(Debug)]
pub struct Authorization {
    /// Answers in the order of the slots asked for.
    pub answers: Vec<Answer>,
    /// Wait before throttled slots are asked for again.
    pub retry_after: Option<TimeDelta>,
}

impl Authorization {
    /// Gives all slots the same answer, which grants nothing.
    #[must_use]
    pub fn all(decision: Decision, slots: usize) -> Self {
        let answer = Answer { decision, attempt: None };
        Self { answers: vec![answer; slots], retry_after: None }
    }
}

impl Dispatch {
    /// Decides, for each slot, whether its contact may be dialled now, and makes the decision
    /// durable.
    pub async fn authorize(&self, key: LeaseKey, slots: &[usize]) -> Result<Authorization> {
        loop {
            match self.try_authorize(key, slots).await {
                // The number is found in the next round. So each number causes at most one
                // repetition.
                Err(Error::Store(error)) if numbers::is_noted_meanwhile(&error) => {}
                answer => return answer,
            }
        }
    }

    async fn try_authorize(&self, key: LeaseKey, slots: &[usize]) -> Result<Authorization> {
        let mut connection = self.db.connect().await?;
        let opening = connection.open(Gate::Shared(key.campaign), Durability::Durable).await?;
        let (now, lease, campaign, revision) = try_join!(
            biased;
            opening.pass(),
            leases::lock_slots(&opening, key.campaign, key.number, range_of(slots)),
            campaigns::find(&opening, key.campaign),
            campaigns::facts_revision(&opening, key.campaign),
        )?;
        let tx = opening.at(now);
        let Some(lease) = lease.filter(|lease| lease.token == key.token) else {
            return Ok(Authorization::all(Decision::LeaseLost, slots.len()));
        };
        let campaign = match admit(&lease.terms(), campaign.as_ref(), tx.now) {
            Ok(campaign) => campaign,
            Err(decision) => return Ok(Authorization::all(decision, slots.len())),
        };
        let mut deciding = Deciding::open(&tx, campaign, revision, lease, slots).await?;
        let mut willing = deciding.judge(slots);
        let retry_after = deciding.pace(&mut willing).await?;
        let reach = self.limits.attempt_cap_scope.reach(&campaign.tenant);
        deciding.cap(&mut willing, self.limits.max_attempts_per_number, &reach).await?;
        let answers = deciding.grant(slots, &willing);
        deciding.save().await?;
        tx.commit().await?;
        Ok(Authorization { answers, retry_after })
    }
}

/// Returns the first and the last of some slots. Leaves out slots that no lease can have, since
/// PostgreSQL counts elements from 1 on.
fn range_of(slots: &[usize]) -> (i32, i32) {
    let slots = slots.iter().filter_map(|slot| i32::try_from(*slot).ok());
    let possible: Vec<i32> = slots.filter(|slot| *slot < i32::MAX).collect();
    (possible.iter().copied().min().unwrap_or(0), possible.iter().copied().max().unwrap_or(0))
}

struct Deciding<'a, 'c> {
    campaign: &'a Campaign,
    tx: &'a Tx<'c>,
    /// Whether nothing has happened since the contacts were leased that could change a verdict.
    is_as_judged: bool,
    /// Contacts in doubt, by position.
    subjects: HashMap<i64, Subject>,
    lease: Lease,
    /// Decisions by slot, for the slots asked for.
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
        let is_as_judged = lease.terms().is_as_judged(revision, tx.now);
        let positions: Vec<i64> = slots
            .iter()
            .filter(|slot| is_in_doubt(lease.slots.get(**slot), is_as_judged))
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

    /// Decides by the contacts alone. Returns the slots without an objection, each once.
    fn judge(&mut self, slots: &[usize]) -> Vec<usize> {
        let mut willing = Vec::with_capacity(slots.len());
        let mut is_seen = vec![false; self.decisions.len()];
        for slot in slots.iter().copied() {
            // The slot does not exist, or was asked for twice in one request.
            if is_seen.get_mut(slot).is_none_or(|is_seen| std::mem::replace(is_seen, true)) {
                continue;
            }
            let judge = || self.objection(slot);
            match decide(self.lease.slots.get(slot), self.is_as_judged, judge) {
                // Pacing and the cap decide first.
                (Decision::Granted, _) => willing.push(slot),
                (decision, waits_until) => {
                    self.put_off(slot, waits_until);
                    self.close(slot, decision);
                }
            }
        }
        willing
    }

    /// Keeps as many slots as the campaign's pacing allows. Returns when to ask for the others.
    async fn pace(&mut self, willing: &mut Vec<usize>) -> Result<Option<TimeDelta>> {
        let (tx, id, pacing) = (self.tx, self.campaign.id, self.campaign.config.pacing);
        if !pacing.is_limited() || willing.is_empty() {
            return Ok(None);
        }
        // The lock is held until commit, so that nobody else counts meanwhile.
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

    /// Keeps the slots whose numbers may be dialled once more in 24 hours, and records their
    /// attempts.
    async fn cap(
        &mut self,
        willing: &mut Vec<usize>,
        max_attempts: u16,
        reach: &Reach,
    ) -> Result<()> {
        if max_attempts == 0 || willing.is_empty() {
            return Ok(());
        }
        let mut numbers: Vec<i64> = willing.iter().map(|slot| self.lease.numbers[*slot]).collect();
        numbers.sort_unstable();
        let dialled = numbers::lock(self.tx, reach, &numbers).await?;
        let free_at =
            |number: &i64| capped_until(dialled.times(*number), max_attempts, self.tx.now);
        let (free, capped): (Vec<i64>, Vec<i64>) =
            numbers.into_iter().partition(|number| free_at(number).is_none());
        if !capped.is_empty() {
            self.put_off_capped(willing, &capped, free_at).await?;
        }
        let (again, first): (Vec<i64>, Vec<i64>) =
            free.into_iter().partition(|number| dialled.is_locked(*number));
        try_join!(
            numbers::note_again(self.tx, reach, &again, max_attempts),
            numbers::note_first(self.tx, reach, &first),
        )?;
        Ok(())
    }

    /// Takes contacts with capped numbers out. The contacts are due again when they may be dialled.
    async fn put_off_capped(
        &mut self,
        willing: &mut Vec<usize>,
        capped: &[i64],
        free_at: impl Fn(&i64) -> Option<Instant>,
    ) -> Result<()> {
        // The numbers are in order, as they were read.
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

    /// Authorises the slots that are left. Returns the answer for each slot asked for.
    fn grant(&mut self, slots: &[usize], willing: &[usize]) -> Vec<Answer> {
        for slot in willing {
            if settle(&mut self.lease.slots, *slot, Decision::Granted) {
                self.granted.push(*slot);
                self.decisions[*slot] = Some(Decision::Granted);
            }
        }
        let (run, lease) = (self.lease.run, self.lease.number);
        let mut answer = |slot: &usize| {
            let known = self.decisions.get_mut(*slot).and_then(Option::as_mut);
            let Some(known) = known else {
                return Answer { decision: Decision::SlotClosed, attempt: None };
            };
            let decision = *known;
            // A slot that is asked for twice in one request is granted once.
            if decision == Decision::Granted {
                *known = Decision::AlreadyGranted;
            }
            let attempt = AttemptId { run, lease, slot: *slot };
            Answer { decision, attempt: decision.is_to_dial().then_some(attempt) }
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

    /// Returns the reason against dialling the contact in a slot at this moment.
    fn objection(&self, slot: usize) -> Option<Objection> {
        let position = self.lease.positions[slot];
        let subject = self.subjects.get(&position).filter(|subject| !subject.is_deleted);
        let zone = subject.map_or("", |subject| subject.time_zone.as_str());
        let schedule = self.campaign.config.schedule.as_ref();
        let hours = schedule.map_or(Hours::Open, |schedule| schedule.hours(zone, self.tx.now));
        let candidate = subject.map(|subject| &subject.candidate);
        objection(&self.campaign.rules(), candidate, hours, self.tx.now)
    }

    /// Records that the contact in a slot waits again.
    fn put_off(&mut self, slot: usize, waits_until: Option<Instant>) {
        let position = self.lease.positions.get(slot).copied();
        let subject = position.and_then(|position| self.subjects.get(&position));
        if let (Some(due_at), Some(subject)) = (waits_until, subject) {
            let (position, group) = (subject.candidate.position, subject.group);
            self.later.push(Due { position, group, due_at });
        }
    }

    fn close(&mut self, slot: usize, decision: Decision) {
        settle(&mut self.lease.slots, slot, decision);
        self.decisions[slot] = Some(decision);
    }
}
