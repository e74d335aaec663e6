//! Actions of the model, and when they are possible.

use crate::promises;
use crate::world::{
    Ask, CONTACTS, Deciding, LAST_TICK, MAX_LEASES, WORKERS, World, at, second_run,
};
use campaign_domain::dispatch::Decision;
use campaign_domain::facts::CallOutcome;
use campaign_domain::lifecycle::{self, Command, Plan, State};
use chrono::TimeDelta;
use stateright::{Model, Property};

/// Safeguard that is removed, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// A slot is authorised again as if it were unused.
    SlotGrantedTwice,
    /// An attempt with an unknown end is returned as if it had not been made.
    UnknownRetriedAtOnce,
    /// Authorising does not check whether the campaign runs.
    StateNotAsked,
    /// Commands do not wait for authorisations under way.
    CommandsPassNoGate,
    /// A contact in doubt is not judged again.
    ContactNotJudged,
    /// An opt-out does not put previously judged contacts in doubt.
    RefusalKeepsRevision,
    /// An opt-out does not wait for authorisations under way.
    RefusalPassesNoGate,
    /// An expired lease still authorises.
    ExpiryNotAsked,
    /// A lease stays as judged after its contacts' hours shut.
    HoursNotAsked,
    /// A contact that is given back is put in no list.
    GivenBackNowhere,
    /// A new run leases contacts that are in a call of the run before.
    OlderCallIgnored,
    /// A reset forgets that a phone may still ring.
    ResetForgetsCalls,
    /// An attempt that is given back counts as one that failed.
    GiveBackCounts,
    /// A contact whose attempt is given back does not wait.
    GiveBackAtOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    Lease {
        worker: usize,
        contacts: [bool; CONTACTS],
    },
    /// A request arrives, for the first time or again.
    Decide(Ask),
    /// A decision is committed.
    Commit(usize),
    /// The worker hears the answer and dials.
    Ring(usize),
    /// The report of a call arrives, for the first time or again.
    End(usize, CallOutcome),
    Command(Command),
    /// A new run starts, and its launch resets the history.
    Relaunch,
    /// The chore after a reset clears the stored state of a contact.
    Purge(usize),
    OptOut(usize),
    /// An expired lease is taken back.
    Expire(usize),
    WorkerDies(usize),
}

/// Part of what can happen: both at once would be too many states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One run: two workers, pauses, opt-outs.
    OneRun,
    /// A run, its cancel, and a launch that resets the history: one worker.
    Reset,
}

#[derive(Debug)]
pub struct Dispatch {
    pub scope: Scope,
    pub broken: Option<Break>,
}

impl Dispatch {
    pub fn has(&self, part: Break) -> bool {
        self.broken == Some(part)
    }

    /// Returns whether a gate is free to be held exclusively: nobody shares it.
    fn is_gate_free(world: &World) -> bool {
        world.deciding.is_empty()
    }

    fn lease_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let may_lease = |contact| world.may_lease(contact, self.has(Break::OlderCallIgnored));
        let workers = if self.scope == Scope::Reset { 1 } else { WORKERS };
        for worker in (0..workers).filter(|worker| world.is_alive[*worker]) {
            actions.push(Action::WorkerDies(worker));
            let has_room = world.leases_given < MAX_LEASES;
            // A run with the workers' names exchanged is the same: worker 0 has the first lease.
            let is_same = worker > 0 && world.leases_given == 0;
            if world.state != State::Running || !has_room || is_same {
                continue;
            }
            for contacts in [[true, false], [false, true], [true, true]] {
                if (0..CONTACTS).all(|contact| !contacts[contact] || may_lease(contact)) {
                    actions.push(Action::Lease { worker, contacts });
                }
            }
        }
    }

    fn worker_actions(world: &World, actions: &mut Vec<Action>) {
        // Each decision locks the row of its lease.
        let is_locked = |lease| world.deciding.iter().any(|deciding| deciding.ask.lease == lease);
        let arriving = world.questions().into_iter().filter(|ask| !is_locked(ask.lease));
        actions.extend(arriving.map(Action::Decide));
        actions.extend((0..world.deciding.len()).map(Action::Commit));
        // A worker that gave an attempt back dials nothing more for it.
        let open = world.attempts.iter().enumerate().filter(|(_, attempt)| !attempt.is_given_back);
        for (index, attempt) in open {
            if !attempt.has_rung {
                if world.is_alive[attempt.worker] {
                    actions.push(Action::Ring(index));
                    // The trunk took nothing. Two contacts to which that happens would be too many states.
                    if attempt.contact == 0 && !is_locked(attempt.id.lease) {
                        actions.push(Action::End(index, CallOutcome::Congested));
                    }
                }
            } else if !is_locked(attempt.id.lease) {
                actions.push(Action::End(index, CallOutcome::Answered));
            }
        }
    }

    fn control_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let alone = Self::is_gate_free(world);
        if alone || self.has(Break::CommandsPassNoGate) {
            actions.push(Action::Command(Command::Cancel));
        }
        match self.scope {
            Scope::OneRun => {
                if alone || self.has(Break::CommandsPassNoGate) {
                    actions.extend([Command::Pause, Command::Resume].map(Action::Command));
                }
                if alone || self.has(Break::RefusalPassesNoGate) {
                    let anyone = !world.seen.refused.contains(&true);
                    actions.extend((0..CONTACTS).filter(|_| anyone).map(Action::OptOut));
                }
            }
            Scope::Reset if alone => {
                if world.run == 1 && world.state == State::Cancelled {
                    actions.push(Action::Relaunch);
                }
                if world.run == 2 {
                    actions.extend((0..CONTACTS).map(Action::Purge));
                }
            }
            Scope::Reset => {}
        }
        for (index, lease) in world.leases.iter().enumerate() {
            if alone && !lease.terms.is_in_force(world.now) {
                actions.push(Action::Expire(index));
            }
        }
    }
}

impl Model for Dispatch {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.now < at(LAST_TICK) {
            actions.push(Action::Tick);
        }
        self.lease_actions(world, actions);
        Self::worker_actions(world, actions);
        self.control_actions(world, actions);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Tick => world.now += TimeDelta::seconds(1),
            Action::Lease { worker, contacts } => world.lease(worker, contacts),
            Action::Decide(ask) => {
                let (decision, waits_again) = self.decide(before, ask);
                if decision.is_to_dial() {
                    promises::note_yes(&mut world, ask);
                }
                // A decision that changes nothing is not written.
                if matches!(decision, Decision::Granted | Decision::Excluded | Decision::NotNow) {
                    world.deciding.push(Deciding { ask, decision, waits_again });
                    world.deciding.sort_unstable_by_key(|deciding| deciding.ask.lease);
                }
            }
            Action::Commit(index) => self.commit(&mut world, index),
            Action::Ring(index) => world.attempts[index].has_rung = true,
            Action::End(index, outcome) => world.end(index, outcome, self.broken),
            Action::Command(command) => {
                let plan = Plan::default();
                world.state = lifecycle::transition(world.state, command, &plan, world.now).ok()?;
                world.seen.is_stopped = command != Command::Resume;
            }
            Action::Relaunch => world.relaunch(second_run()),
            Action::Purge(contact) => self.purge(&mut world, contact),
            Action::OptOut(contact) => self.opt_out(&mut world, contact),
            Action::Expire(index) => self.expire(&mut world, index),
            Action::WorkerDies(worker) => world.is_alive[worker] = false,
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self.scope)
    }
}
