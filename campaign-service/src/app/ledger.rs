//! One transaction's worth of facts: everything they touch, read at once and written at once.

use super::error::Result;
use super::leasing::next_attempt;
use super::recording::{Outcome, Report};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts;
use crate::store::due::{self, Due};
use crate::store::interactions::{self, Interaction};
use crate::store::leases::{self, Lease};
use crate::store::notify::{self, ControlEvent, RemovalCause};
use crate::store::{Tx, states};
use campaign_domain::history::{CallOutcome, ContactState, Fact, Recording};
use campaign_domain::lease::{AttemptId, Slot};
use campaign_domain::settings::Epoch;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What makes two facts the same: the contact's position and the report's key.
type Key = (i64, String);

pub(super) struct Ledger<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    /// By number, locked.
    leases: BTreeMap<i64, Lease>,
    /// Positions of contacts that are there, deleted or not.
    contacts: HashSet<i64>,
    /// Contacts that have a state stored.
    stored: HashSet<i64>,
    /// By position; those that have none stored begin with nothing.
    states: HashMap<i64, ContactState>,
    /// Of the runs that attempts belong to.
    epochs: HashMap<i32, Epoch>,
    /// Facts recorded before; grows with the new ones.
    recorded: HashMap<Key, Fact>,
    new: BTreeMap<Key, Interaction>,
    /// New facts that stand in the place of one recorded before.
    replacing: BTreeSet<Key>,
    changed_leases: BTreeSet<i64>,
    changed: BTreeSet<i64>,
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
        let is_open = |report: &Report| report.attempt.is_some_and(|at| open.contains(&at));
        let positions: BTreeSet<i64> = reports.iter().map(|report| report.position).collect();
        let positions: Vec<i64> = positions.into_iter().collect();
        // A call in progress is of a contact that is there, and was not recorded as ended before.
        let (of_open, others): (Vec<&Report>, Vec<&Report>) =
            reports.iter().copied().partition(|report| is_open(report));
        let unsure: Vec<i64> = others.iter().map(|report| report.position).collect();
        let mut contacts: HashSet<i64> =
            contacts::existing(tx, id, &unsure).await?.into_iter().collect();
        contacts.extend(of_open.iter().map(|report| report.position));
        let may_be_recorded =
            |report: &&&Report| !(is_open(report) && matches!(report.fact, Fact::CallEnded { .. }));
        let keys: Vec<Key> = reports
            .iter()
            .filter(may_be_recorded)
            .map(|report| (report.position, report.key()))
            .collect();
        let keys: Vec<(i64, &str)> = keys.iter().map(|(at, key)| (*at, key.as_str())).collect();
        let recorded = interactions::find_recorded(tx, id, &keys).await?;
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
        let states = states::find(tx, id, &positions).await?;
        Ok(Self {
            tx,
            campaign,
            leases: leases.into_iter().map(|lease| (lease.number, lease)).collect(),
            contacts,
            stored: states.keys().copied().collect(),
            states,
            epochs,
            recorded: recorded.into_iter().map(|(at, key, fact)| ((at, key), fact)).collect(),
            new: BTreeMap::new(),
            replacing: BTreeSet::new(),
            changed_leases: BTreeSet::new(),
            changed: BTreeSet::new(),
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
        let key = (report.position, report.key());
        let mut replaces_unknown = false;
        match (self.recorded.get(&key), &report.fact) {
            (
                Some(Fact::CallEnded { outcome: CallOutcome::Unknown, .. }),
                Fact::CallEnded { outcome, .. },
            ) if *outcome != CallOutcome::Unknown => replaces_unknown = true,
            (Some(_), _) => return Outcome::Duplicate,
            (None, Fact::CallEnded { .. }) => {
                if !self.end_attempt(report)
                    && fact_epoch.generation == self.campaign.epoch.generation
                {
                    return Outcome::Rejected("the attempt was never authorised".to_owned());
                }
            }
            (None, _) => {}
        }
        let at = Recording {
            epoch: self.campaign.epoch,
            run: self.campaign.run,
            fact_epoch,
            replaces_unknown,
            retry: &self.campaign.config.retry_policy,
            now: self.tx.now,
        };
        let state = self.states.entry(report.position).or_default();
        *state = std::mem::take(state).after(&report.fact, &at);
        self.changed.insert(report.position);
        if at.is_before_reset(&report.fact) {
            return Outcome::BeforeReset;
        }
        self.note(report, key, fact_epoch);
        Outcome::Recorded
    }

    /// The epoch a fact belongs to; `None` when its attempt is of no run we know.
    fn fact_epoch(&self, report: &Report) -> Option<Epoch> {
        match report.attempt {
            Some(attempt) => self.epochs.get(&attempt.run).copied(),
            None => Some(self.campaign.epoch),
        }
    }

    /// Ends the attempt's slot in its lease; returns whether there was such an attempt under way.
    fn end_attempt(&mut self, report: &Report) -> bool {
        let Some(attempt) = report.attempt else { return false };
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

    fn note(&mut self, report: &Report, key: Key, fact_epoch: Epoch) {
        let generation = if report.fact.outlives_reset() {
            self.campaign.epoch.generation
        } else {
            fact_epoch.generation
        };
        let interaction = Interaction {
            position: report.position,
            key: key.1.clone(),
            generation,
            run: report.attempt.map_or(self.campaign.run, |attempt| attempt.run),
            attempt: report.attempt,
            fact: report.fact.clone(),
            occurred_at: report.occurred_at,
            recorded_at: self.tx.now,
        };
        let was_recorded = self.recorded.insert(key.clone(), report.fact.clone()).is_some();
        if was_recorded && !self.new.contains_key(&key) {
            self.replacing.insert(key.clone());
        }
        self.new.insert(key, interaction);
        if report.fact.outlives_reset() {
            self.opted_out.insert(report.position);
        }
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
        let ended = self.ended.keys().copied();
        let touched: BTreeSet<i64> = self.changed.iter().copied().chain(ended).collect();
        let touched: Vec<i64> = touched.into_iter().collect();
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
        let (replacing, new): (Vec<_>, Vec<_>) =
            self.new.iter().partition(|(key, _)| self.replacing.contains(key));
        let new: Vec<&Interaction> = new.into_iter().map(|(_, interaction)| interaction).collect();
        interactions::append(tx, id, &new).await?;
        for (_, end) in replacing {
            interactions::replace_end(tx, id, end).await?;
        }
        let states = self.changed.iter().filter_map(|at| Some((*at, self.states.get(at)?)));
        let (stored, new): (Vec<_>, Vec<_>) =
            states.partition(|(position, _)| self.stored.contains(position));
        states::insert(tx, id, &new).await?;
        states::update(tx, id, &stored).await?;
        Ok(())
    }

    /// Where contacts go, by what is written. Those that were in no attempt wait where they waited.
    async fn places(&self, positions: &[i64]) -> Result<Places> {
        let rules = self.campaign.rules();
        let is_finished = |position: &i64| {
            let state = self.states.get(position).cloned().unwrap_or_default();
            state.seen_in(self.campaign.epoch).finished
        };
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
