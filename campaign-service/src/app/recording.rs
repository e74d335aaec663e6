//! Facts come in: each changes history once, whoever reports it, however often and in whatever order.

use super::App;
use super::error::{Error, Result};
use super::leasing::{give_back, next_attempt};
use crate::store::campaigns::{self, Campaign};
use crate::store::contacts::{self, Subject};
use crate::store::due::{self, Due};
use crate::store::history::{self, Interaction};
use crate::store::leases::{self, Lease};
use crate::store::notify::{self, ControlEvent, RemovalCause};
use crate::store::{Gate, Tx};
use campaign_domain::Instant;
use campaign_domain::history::{CallOutcome, Fact, Recording};
use campaign_domain::lease::{AttemptId, Slot};
use campaign_domain::settings::Epoch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// A fact about a contact of the campaign it is recorded in.
#[derive(Clone, Debug)]
pub struct Report {
    pub position: i64,
    /// Reporter's id; for the end of a call the attempt is the key instead.
    pub interaction_id: String,
    pub attempt: Option<AttemptId>,
    pub fact: Fact,
    pub occurred_at: Option<Instant>,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, and in the history.
    Recorded,
    /// Was there before.
    Duplicate,
    /// Belongs to history that a reset cleared.
    BeforeReset,
    /// Cannot be recorded; why.
    Rejected(String),
}

impl Report {
    /// What makes it the same fact when it comes again.
    fn key(&self) -> String {
        match (&self.fact, self.attempt) {
            (Fact::CallEnded { .. }, Some(attempt)) => format!("call:{attempt}"),
            _ => format!("id:{}", self.interaction_id),
        }
    }
}

impl App {
    /// Records facts about contacts of one campaign; one outcome each, in order, all durable.
    pub async fn record(&self, id: Uuid, reports: &[Report]) -> Result<Vec<Outcome>> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let Some(campaign) = campaigns::find(&tx, id).await? else {
            return Err(Error::NotFound(format!("campaigns/{id}")));
        };
        let mut ledger = Ledger::open(&tx, &campaign, reports).await?;
        let outcomes = reports.iter().map(|report| ledger.record(report)).collect();
        ledger.save().await?;
        tx.commit().await?;
        Ok(outcomes)
    }

    /// Takes back what is left of a lease that ran out: nobody knows how its attempts ended, and its
    /// other contacts were not dialled.
    pub async fn expire_lease(&self, id: Uuid, number: i64) -> Result<()> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let lease = leases::lock(&tx, id, &[number]).await?.pop();
        let Some(mut lease) = lease.filter(|lease| lease.expires_at <= tx.now) else {
            return Ok(());
        };
        let Some(campaign) = campaigns::find(&tx, id).await? else { return Ok(()) };
        let waiting = lease.slots.in_state(Slot::Leased);
        give_back(&tx, &mut lease, &waiting).await?;
        leases::save_slots(&tx, &lease).await?;
        let unknown: Vec<Report> = lease
            .slots
            .in_state(Slot::Authorized)
            .into_iter()
            .map(|slot| Report {
                position: lease.positions[slot],
                interaction_id: String::new(),
                attempt: Some(AttemptId { run: lease.run, lease: lease.number, slot }),
                fact: Fact::CallEnded { outcome: CallOutcome::Unknown, duration_seconds: 0 },
                occurred_at: None,
            })
            .collect();
        let mut ledger = Ledger::open(&tx, &campaign, &unknown).await?;
        for report in &unknown {
            ledger.record(report);
        }
        ledger.save().await?;
        notify::send(&tx, &ControlEvent::Work { campaign: id }).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Everything a group of reports touches, read at once and written at once.
struct Ledger<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    /// By position.
    subjects: HashMap<i64, Subject>,
    /// By number.
    leases: BTreeMap<i64, Lease>,
    /// Of the runs that attempts belong to.
    epochs: HashMap<i32, Epoch>,
    /// Facts recorded before, by position and key.
    recorded: HashMap<(i64, String), Fact>,
    new: Vec<Interaction>,
    changed: BTreeSet<i64>,
    /// Contacts whose attempt is over, and the run it was of.
    ended: BTreeMap<i64, i32>,
    opted_out: BTreeSet<i64>,
}

impl<'a, 'c> Ledger<'a, 'c> {
    async fn open(tx: &'a Tx<'c>, campaign: &'a Campaign, reports: &[Report]) -> Result<Self> {
        let id = campaign.id;
        let positions: Vec<i64> = reports.iter().map(|report| report.position).collect();
        let attempts: Vec<AttemptId> = reports.iter().filter_map(|report| report.attempt).collect();
        let lease_numbers: Vec<i64> = attempts.iter().map(|attempt| attempt.lease).collect();
        let runs: Vec<i32> = attempts.iter().map(|attempt| attempt.run).collect();
        let keys: Vec<String> = reports.iter().map(Report::key).collect();
        let pairs: Vec<(i64, &str)> =
            positions.iter().copied().zip(keys.iter().map(String::as_str)).collect();

        let subjects = contacts::subjects(tx, id, &positions).await?;
        let leases = leases::lock(tx, id, &lease_numbers).await?;
        let recorded = history::find_recorded(tx, id, &pairs).await?;
        Ok(Self {
            tx,
            campaign,
            subjects: subjects.into_iter().map(|found| (found.candidate.position, found)).collect(),
            leases: leases.into_iter().map(|lease| (lease.number, lease)).collect(),
            epochs: campaigns::run_epochs(tx, id, &runs).await?.into_iter().collect(),
            recorded: recorded.into_iter().map(|(at, key, fact)| ((at, key), fact)).collect(),
            new: Vec::new(),
            changed: BTreeSet::new(),
            ended: BTreeMap::new(),
            opted_out: BTreeSet::new(),
        })
    }

    fn record(&mut self, report: &Report) -> Outcome {
        if !self.subjects.contains_key(&report.position) {
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
        if let Some(subject) = self.subjects.get_mut(&report.position) {
            let state = std::mem::take(&mut subject.candidate.state);
            subject.candidate.state = state.after(&report.fact, &at);
        }
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
        }
        ended
    }

    fn note(&mut self, report: &Report, key: (i64, String), fact_epoch: Epoch) {
        let generation = if report.fact.outlives_reset() {
            self.campaign.epoch.generation
        } else {
            fact_epoch.generation
        };
        self.new.push(Interaction {
            position: report.position,
            key: key.1.clone(),
            generation,
            run: report.attempt.map_or(self.campaign.run, |attempt| attempt.run),
            attempt_id: report.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
            fact: report.fact.clone(),
            occurred_at: report.occurred_at,
            recorded_at: self.tx.now,
        });
        self.recorded.insert(key, report.fact.clone());
        if report.fact.outlives_reset() {
            self.opted_out.insert(report.position);
        }
    }

    async fn save(self) -> Result<()> {
        let (tx, id) = (self.tx, self.campaign.id);
        for lease in self.leases.values() {
            leases::save_slots(tx, lease).await?;
        }
        let places = self.sort_by_verdict();
        due::put(tx, id, self.campaign.run, &places.due).await?;
        due::reschedule(tx, id, self.campaign.run, &places.free).await?;
        due::remove(tx, id, &places.done).await?;
        if self.changed.is_empty() {
            return Ok(());
        }
        let states: Vec<_> = self
            .changed
            .iter()
            .filter_map(|position| self.subjects.get(position))
            .map(|subject| (subject.candidate.position, subject.candidate.state.clone()))
            .collect();
        history::append(tx, id, &last_of_each_key(self.new)).await?;
        history::upsert_states(tx, id, &states).await?;
        campaigns::bump_history_revision(tx, id).await?;
        for position in self.opted_out {
            let cause = RemovalCause::OptedOut;
            notify::send(tx, &ControlEvent::ContactRemoved { campaign: id, position, cause })
                .await?;
        }
        Ok(())
    }

    /// Where the contacts go. Those that were not in an attempt wait where they waited.
    fn sort_by_verdict(&self) -> Places {
        let rules = self.campaign.rules();
        let mut places = Places::default();
        let ended: BTreeSet<i64> = self.ended.keys().copied().collect();
        for position in self.changed.union(&ended) {
            let Some(subject) = self.subjects.get(position) else { continue };
            let Some(due_at) = next_attempt(&rules, subject, self.tx.now) else {
                places.done.push(*position);
                continue;
            };
            let due = Due { position: *position, group: subject.group, due_at };
            match self.ended.get(position) {
                Some(run) if *run == self.campaign.run => places.due.push(due),
                Some(_) => places.free.push(due),
                None => {}
            }
        }
        places
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

/// One group may hold an attempt's UNKNOWN and its real end; only the last is stored.
fn last_of_each_key(new: Vec<Interaction>) -> Vec<Interaction> {
    let by_key: BTreeMap<(i64, String), Interaction> =
        new.into_iter().map(|new| ((new.position, new.key.clone()), new)).collect();
    by_key.into_values().collect()
}
