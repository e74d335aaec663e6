//! What can happen, and what it does.

use crate::promises::{self, Seen};
use campaign_domain::Instant;
use campaign_domain::eligibility::{Candidate, RunRules, Verdict};
use campaign_domain::history::{CallOutcome, ContactState, Fact, Recording};
use campaign_domain::lease::{AttemptId, Slot, Slots};
use campaign_domain::lifecycle::{self, Command, Plan};
use campaign_domain::retry::{RetryPolicy, RetryRule};
use campaign_domain::settings::{Epoch, LaunchSettings};
use chrono::TimeDelta;
use stateright::{Model, Property};
use std::hash::{Hash, Hasher};

pub const WORKERS: usize = 2;
pub const CONTACTS: usize = 2;
/// The clock stops here: a lease has run out, and its attempts may be made again.
const LAST_TICK: i64 = 2;
const LEASE_TTL_TICKS: i64 = 1;
pub const RETRY_DELAY_TICKS: i64 = 1;
pub const MAX_ATTEMPTS: i32 = 2;
/// Leases, in all.
const MAX_LEASES: usize = 2;
const RUN: i32 = 1;

/// What is taken away, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// A slot is authorised again as if it had not been.
    SlotGrantedTwice,
    /// An attempt that nobody knows the end of is given back as if it had not been made.
    UnknownRetriedAtOnce,
    /// Authorising does not ask whether the campaign runs.
    StateNotAsked,
    /// Commands do not wait for authorisations under way.
    CommandsPassNoGate,
    /// A contact in doubt is not judged again.
    ContactNotJudged,
    /// An opt-out does not put contacts that were judged before in doubt.
    RefusalKeepsRevision,
    /// An opt-out does not wait for authorisations under way.
    RefusalPassesNoGate,
    /// A lease that has run out still authorises.
    ExpiryNotAsked,
}

/// What the service knows of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub ContactState);

impl Hash for Known {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let state = &self.0;
        (state.flags, state.attempts, state.last_outcome, state.refused_run).hash(hasher);
        (state.cycle_flags, state.cycle_attempts, state.finished).hash(hasher);
        (state.due_at, state.may_ring, state.last_call).hash(hasher);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its number in the campaign.
    pub number: i64,
    pub worker: usize,
    pub expires_at: Instant,
    pub contacts: Vec<usize>,
    pub slots: Slots,
    pub judged_revision: u8,
}

impl Hash for Lease {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.number, self.worker, self.expires_at, &self.contacts).hash(hasher);
        (self.slots.as_bytes(), self.judged_revision).hash(hasher);
    }
}

/// A worker's question. It holds the lease or once did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub lease: i64,
    pub slot: usize,
}

/// An authorisation under way in a replica: decided by what it read, not committed yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deciding {
    pub ask: Ask,
    pub decision: Decision,
}

/// As in `app::authorizing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    Granted,
    AlreadyGranted,
    LeaseLost,
    NotRunning,
    Excluded,
    NotNow,
    SlotClosed,
}

/// One attempt that was authorised, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub id: AttemptId,
    pub contact: usize,
    pub worker: usize,
    /// The worker has the answer and dialled: its report may come at any time from now on.
    pub has_rung: bool,
    pub recorded: Option<CallOutcome>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Instant,
    pub state: lifecycle::State,
    pub revision: u8,
    pub contacts: [Known; CONTACTS],
    /// In no lease: ahead of the frontier, or due at some time.
    pub is_waiting: [bool; CONTACTS],
    pub leases: Vec<Lease>,
    pub leases_given: usize,
    pub is_alive: [bool; WORKERS],
    pub deciding: Vec<Deciding>,
    pub attempts: Vec<Attempt>,
    /// What an onlooker saw, apart from what the service knows.
    pub seen: Seen,
}

impl World {
    /// Those that may arrive now: of a worker that knew the lease, sent at any time since, once or more
    /// often, also if it died meanwhile or the lease is gone.
    pub fn questions(&self) -> Vec<Ask> {
        let of_lease = |lease| (0..CONTACTS).map(move |slot| Ask { lease, slot });
        (1..=i64::try_from(self.leases_given).expect("few leases")).flat_map(of_lease).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    Lease {
        worker: usize,
        contacts: [bool; CONTACTS],
    },
    /// A question arrives, for the first time or again.
    Decide(Ask),
    /// What was decided is committed.
    Commit(usize),
    /// The worker hears the answer and dials.
    Ring(usize),
    /// The report of a call arrives, for the first time or again.
    End(usize, CallOutcome),
    Command(Command),
    OptOut(usize),
    /// A lease that ran out is taken back.
    Expire(usize),
    WorkerDies(usize),
}

#[derive(Debug)]
pub struct Dispatch {
    pub broken: Option<Break>,
}

pub fn retry() -> RetryPolicy {
    let rule = RetryRule { max_attempts: MAX_ATTEMPTS, min_delay_seconds: RETRY_DELAY_TICKS };
    RetryPolicy { no_answer: rule, busy: rule, failed: rule, voicemail: rule, unknown: rule }
}

pub fn at(tick: i64) -> Instant {
    Instant::UNIX_EPOCH + TimeDelta::seconds(tick)
}

impl Dispatch {
    pub fn has(&self, part: Break) -> bool {
        self.broken == Some(part)
    }

    fn rules() -> RunRules {
        let settings = LaunchSettings::default();
        RunRules { run: RUN, epoch: Epoch::default(), settings, position_limit: None }
    }

    fn judge(world: &World, contact: usize) -> Verdict {
        let position = i64::try_from(contact).expect("few contacts");
        let state = world.contacts[contact].0.clone();
        Self::rules().judge(&Candidate { position, is_suppressed: false, state }, world.now)
    }

    /// Whether a gate can be had alone: nobody shares it.
    fn is_gate_free(world: &World) -> bool {
        world.deciding.is_empty()
    }

    /// What `App::authorize` answers.
    pub fn decide(&self, world: &World, ask: Ask) -> Decision {
        let held = world.leases.iter().find(|lease| lease.number == ask.lease);
        let held = held.filter(|l| l.expires_at > world.now || self.has(Break::ExpiryNotAsked));
        let Some(lease) = held else { return Decision::LeaseLost };
        if world.state != lifecycle::State::Running && !self.has(Break::StateNotAsked) {
            return Decision::NotRunning;
        }
        let slot = lease.slots.get(ask.slot);
        let Some(contact) = lease.contacts.get(ask.slot) else { return Decision::SlotClosed };
        let is_as_judged = lease.judged_revision == world.revision && slot == Some(Slot::Leased);
        let verdict = if is_as_judged || self.has(Break::ContactNotJudged) {
            Verdict::Eligible
        } else {
            Self::judge(world, *contact)
        };
        match (slot, verdict) {
            (Some(Slot::Ended | Slot::Closed) | None, _) => Decision::SlotClosed,
            (_, Verdict::Removed(_)) => Decision::Excluded,
            (_, Verdict::NotBefore(_)) => Decision::NotNow,
            (Some(Slot::Leased), Verdict::Eligible) => Decision::Granted,
            (Some(Slot::Authorized), Verdict::Eligible) if self.has(Break::SlotGrantedTwice) => {
                Decision::Granted
            }
            (Some(Slot::Authorized), Verdict::Eligible) => Decision::AlreadyGranted,
        }
    }

    fn commit(&self, world: &mut World, index: usize) {
        let Deciding { ask, decision } = world.deciding.remove(index);
        let found = world.leases.iter().position(|lease| lease.number == ask.lease);
        // Locked since it was read.
        let Some(found) = found else { return };
        let lease = &mut world.leases[found];
        let (contact, worker) = (lease.contacts[ask.slot], lease.worker);
        match decision {
            Decision::Granted => {
                let advanced = lease.slots.advance(ask.slot, Slot::Authorized);
                if !advanced && !self.has(Break::SlotGrantedTwice) {
                    return;
                }
                let id = AttemptId { run: RUN, lease: ask.lease, slot: ask.slot };
                promises::note_grant(world, id, contact);
                if advanced {
                    let attempt = Attempt { id, contact, worker, has_rung: false, recorded: None };
                    world.attempts.push(attempt);
                }
            }
            Decision::Excluded => {
                lease.slots.advance(ask.slot, Slot::Closed);
            }
            Decision::NotNow => {
                world.is_waiting[contact] |= lease.slots.advance(ask.slot, Slot::Closed);
            }
            _ => {}
        }
    }

    fn record(world: &mut World, contact: usize, fact: &Fact, of: Option<(AttemptId, bool)>) {
        let at = Recording {
            epoch: Epoch::default(),
            run: RUN,
            fact_epoch: Epoch::default(),
            replaces_unknown: of.is_some_and(|(_, replaces_unknown)| replaces_unknown),
            call: of.map(|(id, _)| id.slot_id()),
            retry: &retry(),
            now: world.now,
        };
        world.contacts[contact].0 = world.contacts[contact].0.clone().after(fact, &at);
    }

    /// Records how an attempt ended, once; the real end takes the place of UNKNOWN.
    fn end(world: &mut World, index: usize, outcome: CallOutcome) {
        let attempt = world.attempts[index];
        let replaces_unknown = match attempt.recorded {
            None => false,
            Some(CallOutcome::Unknown) if outcome != CallOutcome::Unknown => true,
            Some(_) => return,
        };
        let lease = world.leases.iter_mut().find(|lease| lease.number == attempt.id.lease);
        if !replaces_unknown {
            if !lease.is_some_and(|lease| lease.slots.advance(attempt.id.slot, Slot::Ended)) {
                return;
            }
            world.is_waiting[attempt.contact] = true;
        }
        world.attempts[index].recorded = Some(outcome);
        let fact = Fact::CallEnded { outcome, duration_seconds: 0 };
        Self::record(world, attempt.contact, &fact, Some((attempt.id, replaces_unknown)));
    }

    /// As `App::expire_lease`.
    fn expire(&self, world: &mut World, index: usize) {
        let waiting = world.leases[index].slots.in_state(Slot::Leased);
        for slot in waiting {
            world.is_waiting[world.leases[index].contacts[slot]] = true;
        }
        let (number, authorised) =
            (world.leases[index].number, world.leases[index].slots.in_state(Slot::Authorized));
        for slot in authorised {
            let id = AttemptId { run: RUN, lease: number, slot };
            let attempt = world.attempts.iter().position(|attempt| attempt.id == id);
            let attempt = attempt.expect("what is authorised is an attempt");
            let contact = world.attempts[attempt].contact;
            promises::note_unknown(world, contact);
            if self.has(Break::UnknownRetriedAtOnce) {
                world.is_waiting[contact] = true;
                world.attempts[attempt].recorded = Some(CallOutcome::Unknown);
            } else {
                Self::end(world, attempt, CallOutcome::Unknown);
            }
        }
        world.leases.remove(index);
    }

    fn lease(world: &mut World, worker: usize, contacts: [bool; CONTACTS]) {
        let contacts: Vec<usize> = (0..CONTACTS).filter(|contact| contacts[*contact]).collect();
        for contact in &contacts {
            world.is_waiting[*contact] = false;
        }
        world.leases_given += 1;
        world.leases.push(Lease {
            number: i64::try_from(world.leases_given).expect("few leases"),
            worker,
            expires_at: world.now + TimeDelta::seconds(LEASE_TTL_TICKS),
            slots: Slots::new(contacts.len()),
            contacts,
            judged_revision: world.revision,
        });
    }

    fn opt_out(&self, world: &mut World, contact: usize) {
        Self::record(
            world,
            contact,
            &Fact::OptedOut { channel: String::new(), everywhere: false },
            None,
        );
        if !self.has(Break::RefusalKeepsRevision) {
            world.revision += 1;
        }
        world.seen.refused[contact] = true;
    }
}

impl Model for Dispatch {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: at(0),
            state: lifecycle::State::Running,
            revision: 0,
            contacts: Default::default(),
            is_waiting: [true; CONTACTS],
            leases: Vec::new(),
            leases_given: 0,
            is_alive: [true; WORKERS],
            deciding: Vec::new(),
            attempts: Vec::new(),
            seen: Seen::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let alone = Self::is_gate_free(world);
        if world.now < at(LAST_TICK) {
            actions.push(Action::Tick);
        }
        let may_lease = |contact: usize| {
            world.is_waiting[contact] && Self::judge(world, contact) == Verdict::Eligible
        };
        for worker in (0..WORKERS).filter(|worker| world.is_alive[*worker]) {
            actions.push(Action::WorkerDies(worker));
            let has_room = world.leases_given < MAX_LEASES;
            // With the names changed it would be the same: worker 0 has the first lease.
            let is_same = worker > 0 && world.leases_given == 0;
            if world.state != lifecycle::State::Running || !has_room || is_same {
                continue;
            }
            for contacts in [[true, false], [false, true], [true, true]] {
                if (0..CONTACTS).all(|contact| !contacts[contact] || may_lease(contact)) {
                    actions.push(Action::Lease { worker, contacts });
                }
            }
        }
        for (index, lease) in world.leases.iter().enumerate() {
            if alone && lease.expires_at <= world.now {
                actions.push(Action::Expire(index));
            }
        }
        // The lease's row is locked by whoever decides about it.
        let is_locked = |lease| world.deciding.iter().any(|deciding| deciding.ask.lease == lease);
        let arriving = world.questions().into_iter().filter(|ask| !is_locked(ask.lease));
        actions.extend(arriving.map(Action::Decide));
        actions.extend((0..world.deciding.len()).map(Action::Commit));
        for (index, attempt) in world.attempts.iter().enumerate() {
            if !attempt.has_rung {
                if world.is_alive[attempt.worker] {
                    actions.push(Action::Ring(index));
                }
            } else if !is_locked(attempt.id.lease) {
                actions.push(Action::End(index, CallOutcome::Answered));
            }
        }
        if alone || self.has(Break::CommandsPassNoGate) {
            let commands = [Command::Pause, Command::Resume, Command::Cancel];
            actions.extend(commands.map(Action::Command));
        }
        if alone || self.has(Break::RefusalPassesNoGate) {
            let anyone = !world.seen.refused.contains(&true);
            actions.extend((0..CONTACTS).filter(|_| anyone).map(Action::OptOut));
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Tick => world.now += TimeDelta::seconds(1),
            Action::Lease { worker, contacts } => Self::lease(&mut world, worker, contacts),
            Action::Decide(ask) => {
                let decision = self.decide(before, ask);
                // Refused, nothing is written.
                if decision == Decision::Granted {
                    promises::note_yes(&mut world, ask.lease);
                }
                if matches!(decision, Decision::Granted | Decision::Excluded | Decision::NotNow) {
                    world.deciding.push(Deciding { ask, decision });
                    world.deciding.sort_unstable_by_key(|deciding| deciding.ask.lease);
                }
            }
            Action::Commit(index) => self.commit(&mut world, index),
            Action::Ring(index) => world.attempts[index].has_rung = true,
            Action::End(index, outcome) => Self::end(&mut world, index, outcome),
            Action::Command(command) => {
                let plan = Plan::default();
                world.state = lifecycle::transition(world.state, command, &plan, world.now).ok()?;
                world.seen.is_stopped = command != Command::Resume;
            }
            Action::OptOut(contact) => self.opt_out(&mut world, contact),
            Action::Expire(index) => self.expire(&mut world, index),
            Action::WorkerDies(worker) => world.is_alive[worker] = false,
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
