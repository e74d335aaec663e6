//! Facts of one transaction. Everything that they touch is read at once and written at once.

mod attempts;
mod saving;

use super::report::{Outcome, Report};
use crate::app::error::Result;
use crate::app::people::listing::OptOuts;
use crate::app::people::revoking::PendingRevocation;
use crate::store::Tx;
use crate::store::calls::{self, Call, CallReport};
use crate::store::campaigns;
use crate::store::contacts;
use crate::store::interactions::{self, Interaction};
use crate::store::leases::Lease;
use crate::store::states::{self, States};
pub(super) use attempts::is_of_open_call;
use attempts::{Timing, is_end, lease_of, slot_of};
use campaign_domain::access::Reach;
use campaign_domain::campaign::Campaign;
use campaign_domain::end_detail::EndDetail;
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_domain::history::{ContactState, Recording};
use campaign_domain::lease::{AttemptId, Slot, SlotId};
use campaign_domain::retry::{GiveBacks, RetryPolicy};
use campaign_domain::settings::Epoch;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Identity of a fact: the contact's position and the reporter's id. Except: the end of a call is
/// identified by its slot.
type Key = (i64, String);

/// End of a call, as reported.
struct End<'r> {
    outcome: CallOutcome,
    duration_seconds: i32,
    detail: &'r Option<Box<EndDetail>>,
    is_provisional: bool,
}

/// Rules for attempts that end.
pub(super) struct EndRules {
    pub retry: RetryPolicy,
    pub give_backs: GiveBacks,
    /// Reach of the cap on attempts of a number; `None` without a cap.
    pub cap: Option<Reach>,
}

pub(super) struct Ledger<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    /// Locked leases, in order of number.
    leases: Vec<Lease>,
    /// Positions of existing contacts, deleted or not. Except: contacts in calls in progress are
    /// left out.
    contacts: HashSet<i64>,
    /// Positions of erased contacts.
    erased: HashSet<i64>,
    /// Locked states of all contacts reported on.
    states: States,
    /// Epochs of the runs that attempts belong to.
    epochs: HashMap<i32, Epoch>,
    timing: Timing,
    rules: EndRules,
    /// Ends of calls recorded before. Grows with the new ones.
    ended_calls: HashMap<SlotId, Call>,
    new_calls: BTreeMap<i64, CallReport>,
    /// Other facts recorded before; grows with the new ones.
    recorded: HashSet<Key>,
    new: Vec<Interaction>,
    changed_leases: BTreeSet<i64>,
    /// Contacts with a fact recorded; some more than once.
    touched: Vec<i64>,
    /// Contacts whose phone was recorded as in use before.
    was_busy: HashSet<i64>,
    /// Contacts whose attempt is over, and the run of the attempt.
    ended: Vec<(i64, i32)>,
    /// Attempts that were given back: none of their phones rang.
    given_back: Vec<AttemptId>,
    /// Contacts that a correction made unfinished.
    reopened: Vec<i64>,
    opted_out: BTreeSet<i64>,
    /// Contacts that opted out of every campaign.
    opt_outs: OptOuts<'a>,
}

impl<'a, 'c> Ledger<'a, 'c> {
    /// Reads everything that the reports touch. The leases that the reports name must be locked.
    pub(super) async fn open(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        rules: EndRules,
        leases: Vec<Lease>,
        reports: &[&Report],
    ) -> Result<Self> {
        let id = campaign.id;
        // A call in progress belongs to an existing contact, and was not recorded as ended before.
        let (of_open, others): (Vec<&Report>, Vec<&Report>) =
            reports.iter().copied().partition(|report| is_of_open_call(&leases, report));
        let unsure: Vec<i64> = others.iter().map(|report| report.position).collect();
        let there = contacts::existing(tx, id, &unsure).await?;
        let contacts: HashSet<i64> = there.iter().map(|(position, _)| *position).collect();
        let erased =
            there.into_iter().filter_map(|(position, is_erased)| is_erased.then_some(position));
        let erased: HashSet<i64> = erased.collect();
        let ends = others.iter().filter(|report| is_end(report));
        let ended_in: BTreeSet<i64> =
            ends.filter_map(|report| Some(report.attempt?.lease)).collect();
        let ended_in: Vec<i64> = ended_in.into_iter().collect();
        let ended_calls = calls::of_leases(tx, id, &ended_in).await?;
        let facts: Vec<(i64, &str)> = reports
            .iter()
            .filter(|report| !is_end(report))
            .map(|report| (report.position, report.interaction_id.as_str()))
            .collect();
        let recorded = interactions::find_recorded(tx, id, &facts).await?;
        let older_runs: BTreeSet<i32> = reports
            .iter()
            .filter_map(|report| Some(report.attempt?.run))
            .filter(|run| *run != campaign.run)
            .collect();
        let older_runs: Vec<i32> = older_runs.into_iter().collect();
        let mut epochs: HashMap<i32, Epoch> =
            campaigns::run_epochs(tx, id, &older_runs).await?.into_iter().collect();
        // No run has the number 0, which the campaign has before its first launch.
        if campaign.run > 0 {
            epochs.insert(campaign.run, campaign.epoch);
        }
        let timing = Timing::read(tx, campaign, &leases, reports).await?;
        let in_calls = of_open.iter().map(|report| report.position);
        let there = in_calls.chain(contacts.iter().copied());
        let states = states::lock(tx, id, there).await?;
        Ok(Self {
            tx,
            campaign,
            leases,
            contacts,
            erased,
            states,
            epochs,
            timing,
            rules,
            ended_calls: ended_calls.into_iter().map(|(at, found)| (at, found.call)).collect(),
            new_calls: BTreeMap::new(),
            recorded: recorded.into_iter().collect(),
            new: Vec::new(),
            changed_leases: BTreeSet::new(),
            touched: Vec::new(),
            was_busy: HashSet::new(),
            ended: Vec::new(),
            given_back: Vec::new(),
            reopened: Vec::new(),
            opted_out: BTreeSet::new(),
            opt_outs: OptOuts::read(tx, campaign, &suppressing(reports)).await?,
        })
    }

    /// Records a fact. The reporter of an opt-out of every campaign gets the outcome once the number
    /// is revoked.
    pub(super) fn record(&mut self, report: &Report) -> PendingRevocation<Outcome> {
        let outcome = self.outcome(report);
        let position = report.fact.suppresses().then_some(report.position);
        self.opt_outs.answer(position, outcome == Outcome::Recorded, outcome)
    }

    fn outcome(&mut self, report: &Report) -> Outcome {
        // A report before this one may have ended a call that was in progress at first.
        let slot = slot_of(&self.leases, report);
        let is_in_call = matches!(slot, Some(Slot::Authorized | Slot::Ended));
        if !is_in_call && !self.contacts.contains(&report.position) {
            return Outcome::Rejected("the contact does not exist".to_owned());
        }
        if self.is_of_erased(report) {
            return self.record_of_erased(report);
        }
        match (&report.fact, report.attempt) {
            (
                &Fact::CallEnded { outcome, duration_seconds, ref detail, is_provisional },
                Some(attempt),
            ) => {
                let Some(fact_epoch) = self.epochs.get(&attempt.run).copied() else {
                    let why = "attempt_id names no run of this campaign";
                    return Outcome::Rejected(why.to_owned());
                };
                let end = End { outcome, duration_seconds, detail, is_provisional };
                self.record_end(report, attempt, fact_epoch, &end)
            }
            (Fact::CallEnded { .. }, None) => {
                Outcome::Rejected("attempt_id must be set for the end of a call".to_owned())
            }
            _ => self.record_fact(report),
        }
    }

    /// Returns whether a report is about an erased contact, also one erased during the call.
    fn is_of_erased(&self, report: &Report) -> bool {
        let lease = lease_of(&self.leases, report);
        let number = lease.and_then(|(lease, slot)| lease.numbers.get(slot));
        number == Some(&0) || self.erased.contains(&report.position)
    }

    /// Records that a call of an erased contact is over. Nothing else is kept of such a contact.
    fn record_of_erased(&mut self, report: &Report) -> Outcome {
        let attempt = report.attempt.filter(|_| is_end(report));
        match attempt {
            Some(attempt) if self.end_attempt(report, attempt) => Outcome::Recorded,
            _ => Outcome::BeforeReset,
        }
    }

    fn record_end(
        &mut self,
        report: &Report,
        attempt: AttemptId,
        fact_epoch: Epoch,
        end: &End<'_>,
    ) -> Outcome {
        let outcome = end.outcome;
        let before = self.ended_calls.get(&attempt.slot_id()).copied();
        let replaced = match before.filter(|before| before.position == report.position) {
            Some(before) if before.outcome.gives_way_to(outcome, before.is_provisional) => {
                Some(before)
            }
            Some(_) => return Outcome::Duplicate,
            None if self.end_attempt(report, attempt) => None,
            None if fact_epoch.generation < self.campaign.epoch.generation => {
                return Outcome::BeforeReset;
            }
            // A report recorded just now ended the attempt.
            None if slot_of(&self.leases, report) == Some(Slot::Ended) => {
                return Outcome::Duplicate;
            }
            None => return Outcome::Rejected("the attempt was never authorised".to_owned()),
        };
        let state = self.states.get(report.position).seen_in(self.campaign.epoch);
        let previous = replaced.map_or(state.last_call, |before| before.previous);
        let replaces = replaced.map(|before| before.outcome);
        if !self.change_state(report, fact_epoch, replaces) {
            return Outcome::BeforeReset;
        }
        self.note_turn(report.position, attempt, &state, end.outcome, replaces);
        let of_lease = self.new_calls.entry(attempt.lease).or_insert_with(|| CallReport {
            lease: attempt.lease,
            run: attempt.run,
            ..CallReport::default()
        });
        of_lease.details.extend(end.detail.as_deref().map(|d| (attempt.slot, d.clone())));
        let call = Call {
            slot: attempt.slot,
            position: report.position,
            outcome,
            duration_seconds: end.duration_seconds,
            occurred_at: report.occurred_at,
            previous,
            is_provisional: end.is_provisional,
        };
        of_lease.calls.push(call);
        self.ended_calls.insert(attempt.slot_id(), call);
        Outcome::Recorded
    }

    /// Notes what the end of an attempt means for the run, beside the contact's state.
    fn note_turn(
        &mut self,
        position: i64,
        attempt: AttemptId,
        before: &ContactState,
        outcome: CallOutcome,
        replaces: Option<CallOutcome>,
    ) {
        if outcome != CallOutcome::Congested && replaces.is_none() {
            return;
        }
        let after = self.states.get(position);
        let is_counted = after.attempts > before.attempts;
        if outcome == CallOutcome::Congested && replaces.is_none() && !is_counted {
            self.given_back.push(attempt);
        }
        if before.finished && !after.finished {
            self.reopened.push(position);
        }
    }

    fn record_fact(&mut self, report: &Report) -> Outcome {
        let key = (report.position, report.interaction_id.clone());
        if self.recorded.contains(&key) {
            return Outcome::Duplicate;
        }
        let attempt = report.attempt.filter(|attempt| self.was_authorized(report, *attempt));
        // A person's opt-out counts, whatever else the report says.
        if attempt != report.attempt && !report.fact.outlives_reset() {
            return Outcome::Rejected("attempt_id names no attempt on this contact".to_owned());
        }
        let (campaign, now) = (self.campaign, self.tx.now);
        let fact_epoch = self.timing.epoch_of(campaign, attempt, report.occurred_at, now);
        if !self.change_state(report, fact_epoch, None) {
            return Outcome::BeforeReset;
        }
        let outlives_reset = report.fact.outlives_reset();
        let epoch = if outlives_reset { self.campaign.epoch } else { fact_epoch };
        self.recorded.insert(key);
        self.new.push(Interaction {
            position: report.position,
            id: report.interaction_id.clone(),
            generation: epoch.generation,
            run: attempt.map_or(self.campaign.run, |attempt| attempt.run),
            attempt,
            fact: report.fact.clone(),
            occurred_at: report.occurred_at,
            recorded_at: self.tx.now,
        });
        if outlives_reset {
            self.opted_out.insert(report.position);
        }
        Outcome::Recorded
    }

    /// Changes the state of the contact. Returns whether the fact belongs to history that still
    /// exists.
    fn change_state(
        &mut self,
        report: &Report,
        fact_epoch: Epoch,
        replaces: Option<CallOutcome>,
    ) -> bool {
        let at = Recording {
            epoch: self.campaign.epoch,
            run: self.campaign.run,
            fact_epoch,
            replaces,
            call: report.attempt.map(|attempt| attempt.slot_id()),
            retry: &self.rules.retry,
            give_backs: self.rules.give_backs,
            now: self.tx.now,
        };
        let state = self.states.get(report.position);
        if state.may_ring {
            self.was_busy.insert(report.position);
        }
        let state = state.after(&report.fact, &at);
        self.states.set(report.position, &state);
        self.touched.push(report.position);
        !at.is_before_reset(&report.fact)
    }

    /// Returns whether an attempt that a fact names was made on its contact.
    fn was_authorized(&self, report: &Report, attempt: AttemptId) -> bool {
        let slot = slot_of(&self.leases, report);
        matches!(slot, Some(Slot::Authorized | Slot::Ended)) || self.timing.knows(attempt)
    }

    /// Ends the attempt's slot in its lease. Returns whether such an attempt was under way.
    fn end_attempt(&mut self, report: &Report, attempt: AttemptId) -> bool {
        if !is_of_open_call(&self.leases, report) {
            return false;
        }
        let number = attempt.lease;
        let lease = self.leases.binary_search_by_key(&number, |lease| lease.number);
        let lease = lease.ok().and_then(|index| self.leases.get_mut(index));
        let ended = lease.is_some_and(|lease| lease.slots.advance(attempt.slot, Slot::Ended));
        if ended {
            self.ended.push((report.position, attempt.run));
            self.changed_leases.insert(number);
        }
        ended
    }

    /// Returns whether the contact's phone was recorded as in use. The run may have met such a
    /// contact once more, or may yet. So the end of its call needs the gate exclusively.
    pub(super) fn is_noted_busy(&self, report: &Report) -> bool {
        self.states.get(report.position).may_ring
    }
}

/// Returns the positions of the contacts that opt out of every campaign.
fn suppressing(reports: &[&Report]) -> Vec<i64> {
    let suppressing = reports.iter().filter(|report| report.fact.suppresses());
    suppressing.map(|report| report.position).collect()
}
