//! One transaction's worth of facts: everything they touch, read at once and written at once.

use super::error::Result;
use super::leasing::next_attempt;
use super::recording::{Outcome, Report};
use crate::store::Tx;
use crate::store::calls::{self, Call, CallReport};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts;
use crate::store::due::{self, Due};
use crate::store::interactions::{self, Interaction};
use crate::store::leases::{self, Lease};
use crate::store::notify::{self, ControlEvent, RemovalCause};
use crate::store::states::{self, States};
use campaign_domain::history::{CallOutcome, Fact, Recording};
use campaign_domain::lease::{AttemptId, Slot, SlotId};
use campaign_domain::settings::Epoch;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What makes two facts that are not ends of calls the same: the contact's position and the reporter's
/// id. For the end of a call it is the slot.
type Key = (i64, String);

pub(super) struct Ledger<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    /// By number, locked.
    leases: BTreeMap<i64, Lease>,
    /// Positions of contacts that are there, deleted or not.
    contacts: HashSet<i64>,
    /// Of all contacts reported on, locked.
    states: States,
    /// Of the runs that attempts belong to.
    epochs: HashMap<i32, Epoch>,
    /// Ends of calls recorded before: the contact, how it ended, and its call before. Grows with the new.
    ended_calls: HashMap<SlotId, (i64, CallOutcome, Option<SlotId>)>,
    new_calls: BTreeMap<i64, CallReport>,
    /// Other facts recorded before; grows with the new ones.
    recorded: HashSet<Key>,
    new: Vec<Interaction>,
    changed_leases: BTreeSet<i64>,
    /// Contacts that something was recorded of.
    touched: BTreeSet<i64>,
    /// Contacts whose attempt is over, and the run it was of.
    ended: BTreeMap<i64, i32>,
    opted_out: BTreeSet<i64>,
}

/// The attempts under way that reports are of, by the leases that hold them.
pub(super) fn open_calls<'a>(
    leases: &[Lease],
    reports: impl IntoIterator<Item = &'a Report>,
) -> HashSet<AttemptId> {
    let by_number: HashMap<i64, &Lease> =
        leases.iter().map(|lease| (lease.number, lease)).collect();
    let is_open = |attempt: &AttemptId, position: i64| {
        by_number.get(&attempt.lease).is_some_and(|lease| {
            lease.run == attempt.run
                && lease.positions.get(attempt.slot) == Some(&position)
                && lease.slots.get(attempt.slot) == Some(Slot::Authorized)
        })
    };
    reports
        .into_iter()
        .filter_map(|report| Some((report.attempt?, report.position)))
        .filter(|(attempt, position)| is_open(attempt, *position))
        .map(|(attempt, _)| attempt)
        .collect()
}

fn is_end(report: &Report) -> bool {
    matches!(report.fact, Fact::CallEnded { .. })
}

impl<'a, 'c> Ledger<'a, 'c> {
    /// Reads what the reports touch; the leases they name must be locked.
    pub(super) async fn open(
        tx: &'a Tx<'c>,
        campaign: &'a Campaign,
        leases: Vec<Lease>,
        reports: &[&Report],
    ) -> Result<Self> {
        let id = campaign.id;
        let open = open_calls(&leases, reports.iter().copied());
        // A call in progress is of a contact that is there, and was not recorded as ended before.
        let (of_open, others): (Vec<&Report>, Vec<&Report>) = reports
            .iter()
            .copied()
            .partition(|report| report.attempt.is_some_and(|at| open.contains(&at)));
        let unsure: Vec<i64> = others.iter().map(|report| report.position).collect();
        let mut contacts: HashSet<i64> =
            contacts::existing(tx, id, &unsure).await?.into_iter().collect();
        contacts.extend(of_open.iter().map(|report| report.position));
        let ends = others.iter().filter(|report| is_end(report));
        let ended_in: BTreeSet<i64> =
            ends.filter_map(|report| Some(report.attempt?.lease)).collect();
        let ended_in: Vec<i64> = ended_in.into_iter().collect();
        let ended_calls = calls::of_leases(tx, id, &ended_in).await?.into_iter();
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
        let there = reports.iter().map(|report| report.position);
        let there = there.filter(|position| contacts.contains(position));
        let states = states::lock(tx, id, there).await?;
        Ok(Self {
            tx,
            campaign,
            leases: leases.into_iter().map(|lease| (lease.number, lease)).collect(),
            contacts,
            states,
            epochs,
            ended_calls: ended_calls
                .map(|(at, found)| {
                    (at, (found.call.position, found.call.outcome, found.call.previous))
                })
                .collect(),
            new_calls: BTreeMap::new(),
            recorded: recorded.into_iter().collect(),
            new: Vec::new(),
            changed_leases: BTreeSet::new(),
            touched: BTreeSet::new(),
            ended: BTreeMap::new(),
            opted_out: BTreeSet::new(),
        })
    }

    /// Takes a fact in.
    pub(super) fn record(&mut self, report: &Report) -> Outcome {
        if !self.contacts.contains(&report.position) {
            return Outcome::Rejected("the contact does not exist".to_owned());
        }
        let Some(fact_epoch) = self.fact_epoch(report) else {
            return Outcome::Rejected("attempt_id names no run of this campaign".to_owned());
        };
        match (&report.fact, report.attempt) {
            (Fact::CallEnded { outcome, duration_seconds }, Some(attempt)) => {
                self.record_end(report, attempt, fact_epoch, (*outcome, *duration_seconds))
            }
            (Fact::CallEnded { .. }, None) => {
                Outcome::Rejected("attempt_id must be set for the end of a call".to_owned())
            }
            _ => self.record_fact(report, fact_epoch),
        }
    }

    fn record_end(
        &mut self,
        report: &Report,
        attempt: AttemptId,
        fact_epoch: Epoch,
        (outcome, duration_seconds): (CallOutcome, i32),
    ) -> Outcome {
        let before = self.ended_calls.get(&attempt.slot_id()).copied();
        let replaced = match before.filter(|(position, ..)| *position == report.position) {
            Some((_, CallOutcome::Unknown, previous)) if outcome != CallOutcome::Unknown => {
                Some(previous)
            }
            Some(_) => return Outcome::Duplicate,
            None if self.end_attempt(report, attempt) => None,
            None if fact_epoch.generation < self.campaign.epoch.generation => {
                return Outcome::BeforeReset;
            }
            None => return Outcome::Rejected("the attempt was never authorised".to_owned()),
        };
        let state = self.states.get(report.position).seen_in(self.campaign.epoch);
        let previous = replaced.unwrap_or(state.last_call);
        if !self.change_state(report, fact_epoch, replaced.is_some()) {
            return Outcome::BeforeReset;
        }
        let of_lease = self.new_calls.entry(attempt.lease).or_insert_with(|| CallReport {
            lease: attempt.lease,
            run: attempt.run,
            calls: Vec::new(),
        });
        of_lease.calls.push(Call {
            slot: attempt.slot,
            position: report.position,
            outcome,
            duration_seconds,
            occurred_at: report.occurred_at,
            previous,
        });
        self.ended_calls.insert(attempt.slot_id(), (report.position, outcome, previous));
        Outcome::Recorded
    }

    fn record_fact(&mut self, report: &Report, fact_epoch: Epoch) -> Outcome {
        let key = (report.position, report.interaction_id.clone());
        if self.recorded.contains(&key) {
            return Outcome::Duplicate;
        }
        if !self.change_state(report, fact_epoch, false) {
            return Outcome::BeforeReset;
        }
        let outlives_reset = report.fact.outlives_reset();
        let epoch = if outlives_reset { self.campaign.epoch } else { fact_epoch };
        self.recorded.insert(key);
        self.new.push(Interaction {
            position: report.position,
            id: report.interaction_id.clone(),
            generation: epoch.generation,
            run: report.attempt.map_or(self.campaign.run, |attempt| attempt.run),
            attempt: report.attempt,
            fact: report.fact.clone(),
            occurred_at: report.occurred_at,
            recorded_at: self.tx.now,
        });
        if outlives_reset {
            self.opted_out.insert(report.position);
        }
        Outcome::Recorded
    }

    /// Changes what is known of the contact; returns whether the fact belongs to history that is there.
    fn change_state(&mut self, report: &Report, fact_epoch: Epoch, replaces_unknown: bool) -> bool {
        let at = Recording {
            epoch: self.campaign.epoch,
            run: self.campaign.run,
            fact_epoch,
            replaces_unknown,
            call: report.attempt.map(|attempt| attempt.slot_id()),
            retry: &self.campaign.config.retry_policy,
            now: self.tx.now,
        };
        let state = self.states.get(report.position).after(&report.fact, &at);
        self.states.set(report.position, &state);
        self.touched.insert(report.position);
        !at.is_before_reset(&report.fact)
    }

    /// The epoch a fact belongs to; `None` when its attempt is of no run we know.
    fn fact_epoch(&self, report: &Report) -> Option<Epoch> {
        match report.attempt {
            Some(attempt) => self.epochs.get(&attempt.run).copied(),
            None => Some(self.campaign.epoch),
        }
    }

    /// Ends the attempt's slot in its lease; returns whether there was such an attempt under way.
    fn end_attempt(&mut self, report: &Report, attempt: AttemptId) -> bool {
        let lease = self.leases.get_mut(&attempt.lease).filter(|lease| {
            lease.run == attempt.run && lease.positions.get(attempt.slot) == Some(&report.position)
        });
        let ended = lease.is_some_and(|lease| lease.slots.advance(attempt.slot, Slot::Ended));
        if ended {
            self.ended.insert(report.position, attempt.run);
            self.changed_leases.insert(attempt.lease);
        }
        ended
    }

    /// Writes facts of calls in progress under the current run. Their contacts are in no other place.
    pub(super) async fn save_of_open_calls(self) -> Result<()> {
        self.write().await?;
        let ended: Vec<i64> = self.ended.keys().copied().collect();
        let places = self.places(&ended).await?;
        due::put(self.tx, self.campaign.id, self.campaign.run, &places.due).await?;
        Ok(())
    }

    /// Writes any facts. The campaign's gate must be held alone.
    pub(super) async fn save_alone(self) -> Result<()> {
        self.write().await?;
        let (tx, id, run) = (self.tx, self.campaign.id, self.campaign.run);
        let touched: Vec<i64> = self.touched.iter().copied().collect();
        let places = self.places(&touched).await?;
        due::put(tx, id, run, &places.due).await?;
        due::reschedule(tx, id, run, &places.free).await?;
        due::remove(tx, id, &places.done).await?;
        if !touched.is_empty() {
            campaigns::bump_revision(tx, id).await?;
        }
        for position in self.opted_out {
            let cause = RemovalCause::OptedOut;
            let event = ControlEvent::ContactRemoved { campaign: id, position, cause };
            notify::send(tx, &event).await?;
        }
        Ok(())
    }

    async fn write(&self) -> Result<()> {
        let (tx, id) = (self.tx, self.campaign.id);
        let leases: Vec<&Lease> =
            self.changed_leases.iter().filter_map(|number| self.leases.get(number)).collect();
        leases::save_slots(tx, id, &leases).await?;
        let new_calls: Vec<&CallReport> = self.new_calls.values().collect();
        calls::append(tx, id, self.campaign.epoch.generation, &new_calls).await?;
        interactions::append(tx, id, &self.new).await?;
        states::save(tx, id, &self.states).await?;
        Ok(())
    }

    /// Where contacts go, by what is written. Those that were in no attempt wait where they waited.
    async fn places(&self, positions: &[i64]) -> Result<Places> {
        let rules = self.campaign.rules();
        let is_finished =
            |position: &i64| self.states.get(*position).seen_in(self.campaign.epoch).finished;
        let (done, open): (Vec<i64>, Vec<i64>) = positions.iter().copied().partition(is_finished);
        let mut places = Places { done, ..Places::default() };
        for subject in contacts::subjects(self.tx, self.campaign.id, &open).await? {
            let position = subject.candidate.position;
            let Some(due_at) = next_attempt(&rules, &subject, self.tx.now) else {
                places.done.push(position);
                continue;
            };
            let due = Due { position, group: subject.group, due_at };
            match self.ended.get(&position) {
                Some(run) if *run == self.campaign.run => places.due.push(due),
                Some(_) => places.free.push(due),
                None => {}
            }
        }
        Ok(places)
    }
}

/// Where contacts go that something happened to.
#[derive(Default)]
struct Places {
    /// To be tried again in this run.
    due: Vec<Due>,
    /// Out of a call of a run before, for whose end this run may be waiting.
    free: Vec<Due>,
    /// Not to be engaged any more.
    done: Vec<i64>,
}
