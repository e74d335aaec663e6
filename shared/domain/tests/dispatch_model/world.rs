//! State of the model.

use crate::promises::Seen;
use campaign_domain::Instant;
use campaign_domain::access::Tenant;
use campaign_domain::campaign::{Campaign, Config};
use campaign_domain::dispatch::{Decision, Terms};
use campaign_domain::eligibility::{Candidate, Verdict};
use campaign_domain::facts::CallOutcome;
use campaign_domain::history::ContactState;
use campaign_domain::lease::{AttemptId, Slot, Slots};
use campaign_domain::lifecycle::State;
use campaign_domain::retry::{GiveBacks, RetryPolicy, RetryRule};
use campaign_domain::schedule::Hours;
use campaign_domain::settings::LaunchSettings;
use campaign_domain::standing::{Standing, standing};
use chrono::TimeDelta;
use std::hash::{Hash, Hasher};
use uuid::Uuid;

pub const WORKERS: usize = 2;
pub const CONTACTS: usize = 2;
/// Last tick of the clock. By then a lease has expired, and its attempts may be repeated.
pub const LAST_TICK: i64 = 3;
pub const LEASE_TTL_TICKS: i64 = 2;
pub const RETRY_DELAY_TICKS: i64 = 1;
pub const MAX_ATTEMPTS: i32 = 2;
/// Most leases of a run of the model.
pub const MAX_LEASES: usize = 2;
/// Contact whose hours are shut at tick 1. The other contact's hours are always open.
pub const EARLY_SLEEPER: usize = 1;

/// State that the service stores for a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub ContactState);

impl Hash for Known {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let state = &self.0;
        (state.flags, state.attempts, state.last_outcome, state.refused_run).hash(hasher);
        (state.cycle_flags, state.cycle_attempts, state.finished).hash(hasher);
        (state.due_at, state.may_ring, state.last_call, state.given_back).hash(hasher);
        (state.epoch.generation, state.epoch.cycle).hash(hasher);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Number of the lease in the campaign.
    pub number: i64,
    pub worker: usize,
    pub contacts: Vec<usize>,
    pub slots: Slots,
    pub terms: Terms,
}

impl Hash for Lease {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.number, self.worker, &self.contacts, self.slots.as_bytes(), self.terms).hash(hasher);
    }
}

/// Authorisation request of a worker that holds the lease or once did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub lease: i64,
    pub slot: usize,
}

/// Authorisation under way in a replica: decided by the data it read, not committed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deciding {
    pub ask: Ask,
    pub decision: Decision,
    /// Whether the contact waits again when the decision closes its slot.
    pub waits_again: bool,
}

/// Authorised attempt and its recorded end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub id: AttemptId,
    pub contact: usize,
    pub worker: usize,
    /// Whether the worker has the answer and dialled. Its report may come at any time from now on.
    pub has_rung: bool,
    pub recorded: Option<CallOutcome>,
    /// Whether it was recorded as CONGESTED while it was in progress.
    pub is_given_back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Instant,
    pub state: State,
    /// Number of the run: 1, then 2 after a launch that resets the history.
    pub run: i32,
    pub revision: i64,
    pub contacts: [Known; CONTACTS],
    /// Whether a contact is in no lease: ahead of the frontier, or due at some time.
    pub is_waiting: [bool; CONTACTS],
    pub leases: Vec<Lease>,
    pub leases_given: usize,
    pub is_alive: [bool; WORKERS],
    pub deciding: Vec<Deciding>,
    pub attempts: Vec<Attempt>,
    /// Observations of an onlooker, apart from the service's own data.
    pub seen: Seen,
}

pub fn at(tick: i64) -> Instant {
    Instant::UNIX_EPOCH + TimeDelta::seconds(tick)
}

pub fn retry() -> RetryPolicy {
    let rule = RetryRule { max_attempts: MAX_ATTEMPTS, min_delay_seconds: RETRY_DELAY_TICKS };
    RetryPolicy {
        no_answer: rule,
        busy: rule,
        failed: rule,
        voicemail: rule,
        unknown: rule,
        abandoned: rule,
    }
}

pub const GIVE_BACKS: GiveBacks = GiveBacks { first_wait_seconds: 1 };

/// Returns a contact's hours at a time.
pub fn hours(contact: usize, now: Instant) -> Hours {
    let is_shut = contact == EARLY_SLEEPER && now == at(1);
    if is_shut { Hours::ShutUntil(at(2)) } else { Hours::Open }
}

/// Returns the end of the hours that are open at a time for all of some contacts.
pub fn open_until(contacts: &[usize], now: Instant) -> Instant {
    let shuts = contacts.contains(&EARLY_SLEEPER) && now < at(1);
    if shuts { at(1) } else { at(LAST_TICK + 1) }
}

fn first_run() -> LaunchSettings {
    LaunchSettings::default()
}

pub fn second_run() -> LaunchSettings {
    LaunchSettings { reset_contact_history: true, ..LaunchSettings::default() }
}

impl World {
    pub fn begin() -> Self {
        Self {
            now: at(0),
            state: State::Running,
            run: 1,
            revision: 0,
            contacts: Default::default(),
            is_waiting: [true; CONTACTS],
            leases: Vec::new(),
            leases_given: 0,
            is_alive: [true; WORKERS],
            deciding: Vec::new(),
            attempts: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Returns the campaign as of a run: the first, or the one after the reset.
    pub fn campaign_in(&self, run: i32) -> Campaign {
        let draft = Campaign::draft(Uuid::nil(), Tenant::default(), Config::default(), at(0));
        let contacts = i64::try_from(CONTACTS).expect("few contacts");
        let first = draft.launched(State::Running, first_run(), contacts);
        if run == 1 { first } else { first.launched(State::Running, second_run(), contacts) }
    }

    pub fn campaign(&self) -> Campaign {
        Campaign { state: self.state, ..self.campaign_in(self.run) }
    }

    /// Returns the requests that may arrive now. A worker that knew the lease may have sent them at any time
    /// since, once or more often, also if it died meanwhile or the lease is gone.
    pub fn questions(&self) -> Vec<Ask> {
        let of_lease = |lease| (0..CONTACTS).map(move |slot| Ask { lease, slot });
        (1..=i64::try_from(self.leases_given).expect("few leases")).flat_map(of_lease).collect()
    }

    pub fn candidate(&self, contact: usize) -> Candidate {
        let position = i64::try_from(contact).expect("few contacts");
        Candidate { position, is_suppressed: false, state: self.contacts[contact].0.clone() }
    }

    pub fn verdict(&self, contact: usize) -> Verdict {
        self.campaign().rules().judge(&self.candidate(contact), self.now)
    }

    /// Returns the slot that holds a contact: in a call under any run, or leased in this one.
    pub fn open_slot(&self, contact: usize) -> Option<Slot> {
        let of = |lease: &Lease| {
            let index = lease.contacts.iter().position(|held| *held == contact)?;
            let slot = lease.slots.get(index)?;
            let is_open =
                slot == Slot::Authorized || slot == Slot::Leased && lease.terms.run == self.run;
            is_open.then_some(slot)
        };
        self.leases.iter().filter_map(of).max_by_key(|slot| *slot as u8)
    }

    pub fn standing(&self, contact: usize) -> Standing {
        standing(self.verdict(contact), self.open_slot(contact))
    }

    /// Returns the end of the lease under which a contact is in a call of an older run.
    pub fn older_call_until(&self, contact: usize) -> Option<Instant> {
        let is_in_call = |lease: &&Lease| {
            let index = lease.contacts.iter().position(|held| *held == contact);
            let slot = index.and_then(|index| lease.slots.get(index));
            lease.terms.run != self.run && slot == Some(Slot::Authorized)
        };
        self.leases.iter().find(is_in_call).map(|lease| lease.terms.expires_at)
    }

    /// Returns whether a contact may be leased now, as the picking of a lease decides.
    pub fn may_lease(&self, contact: usize, ignores_older_call: bool) -> bool {
        let older = self.older_call_until(contact).filter(|_| !ignores_older_call);
        let rules = self.campaign().rules();
        self.is_waiting[contact]
            && hours(contact, self.now) == Hours::Open
            && rules.judge_beside(&self.candidate(contact), older, self.now) == Verdict::Eligible
    }
}
