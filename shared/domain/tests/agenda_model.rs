//! Explored model of the agenda of one campaign: every interleaving of the statements of
//! transactions that add contacts, record retries, lease, and put the campaign to sleep, on two
//! replicas. A campaign that has work and sleeps would never be dialled.
//!
//! Statements see what is committed when they begin, as under READ COMMITTED. An update waits for
//! the row's lock and looks again. The model also runs with parts of the protocol left out, and must
//! find the lost work then.
#![allow(clippy::expect_used, reason = "a test")]

use stateright::{Checker, Model, Property};

/// Parts of the protocol of whoever puts the campaign to sleep.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    passes_gate_alone: bool,
    locks_positions: bool,
    /// Whether an entry that is lost or late is mended.
    mends: bool,
}

const WHOLE: Protocol = Protocol { passes_gate_alone: true, locks_positions: true, mends: true };

/// Kinds of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Adds a contact, with the positions locked.
    Import,
    /// Makes a contact due, in the shared gate.
    Report,
    /// Takes all contacts there are, in the shared gate.
    Lease,
    /// Puts the campaign to sleep, or leaves it awake.
    Settle,
}

/// Transactions of two replicas.
const KINDS: [Kind; 5] = [Kind::Import, Kind::Report, Kind::Lease, Kind::Settle, Kind::Settle];
/// Times that each transaction runs.
const RUNS: u8 = 2;

/// Transaction: how far it is, and its changes that are not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    step: u8,
    runs: u8,
    adds: u8,
    takes: u8,
    /// Value that the transaction gave the entry.
    wakes: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    /// Contacts that wait, as committed.
    work: u8,
    /// Whether the entry says that there is work, as committed.
    is_awake: bool,
    /// Whether a fault made the entry late, and nobody mended it.
    is_lost: bool,
    faults: u8,
    shared: u8,
    alone: Option<usize>,
    positions: Option<usize>,
    /// Holder of the lock of the entry's row.
    entry: Option<usize>,
    transactions: [Progress; KINDS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// The next statement of a transaction.
    Step(usize),
    /// The entry is lost or late, as by a version that knows no agenda.
    Lose,
    /// The slow check compares the entry with the campaign.
    Mend,
}

impl World {
    fn is_quiet(&self) -> bool {
        self.transactions.iter().all(|progress| progress.step == 0)
    }

    /// Ends a transaction, and applies its changes if it commits.
    fn end(&mut self, index: usize, commits: bool) {
        let progress = self.transactions[index];
        if commits {
            self.work = self.work + progress.adds - progress.takes;
            if let Some(is_awake) = progress.wakes {
                self.is_awake = is_awake;
            }
        }
        if matches!(KINDS[index], Kind::Report | Kind::Lease) {
            self.shared -= 1;
        }
        for holder in [&mut self.alone, &mut self.positions, &mut self.entry] {
            if *holder == Some(index) {
                *holder = None;
            }
        }
        self.transactions[index] = Progress { runs: progress.runs + 1, ..Progress::default() };
    }

    /// Runs `UPDATE … SET awake WHERE asleep`. Returns whether it is done, and does not wait for the
    /// row.
    fn wake(&mut self, index: usize) -> bool {
        if self.is_awake && self.entry != Some(index) {
            return true;
        }
        if self.entry.is_some_and(|holder| holder != index) {
            return false;
        }
        self.entry = Some(index);
        self.transactions[index].wakes = Some(true);
        true
    }

    /// Runs the next statement of a transaction. Returns whether anything happened: a statement that
    /// waits for a lock did nothing.
    fn step(&mut self, index: usize, protocol: Protocol) -> bool {
        let step = self.transactions[index].step;
        let done = match (KINDS[index], step) {
            (Kind::Import, 0) => {
                let is_free = self.positions.is_none();
                if is_free {
                    self.positions = Some(index);
                    self.transactions[index].adds = 1;
                }
                is_free
            }
            (Kind::Report, 0) => {
                let is_free = self.alone.is_none();
                if is_free {
                    self.shared += 1;
                    self.transactions[index].adds = 1;
                }
                is_free
            }
            (Kind::Import | Kind::Report, 1) => self.wake(index),
            (Kind::Lease, 0) => {
                let is_free = self.alone.is_none();
                self.shared += u8::from(is_free);
                is_free
            }
            (Kind::Lease, 1) => {
                self.transactions[index].takes = self.work;
                true
            }
            (Kind::Settle, 0) => return self.try_alone(index, protocol),
            (Kind::Settle, 1) => {
                // The work is read in one statement, and the entry written in the next.
                self.transactions[index].wakes = Some(self.work > 0);
                true
            }
            (Kind::Settle, 2) => {
                let is_free = self.entry.is_none_or(|holder| holder == index);
                if is_free {
                    self.entry = Some(index);
                }
                is_free
            }
            _ => {
                self.end(index, true);
                return true;
            }
        };
        if done {
            self.transactions[index].step += 1;
        }
        done
    }

    fn try_alone(&mut self, index: usize, protocol: Protocol) -> bool {
        let is_gate_free = self.shared == 0 && self.alone.is_none();
        let are_positions_free = self.positions.is_none();
        let may_begin = (is_gate_free || !protocol.passes_gate_alone)
            && (are_positions_free || !protocol.locks_positions);
        if !may_begin {
            // Busy: nothing is written, and the next round tries again.
            self.transactions[index].runs += 1;
            return true;
        }
        if protocol.passes_gate_alone {
            self.alone = Some(index);
        }
        if protocol.locks_positions {
            self.positions = Some(index);
        }
        self.transactions[index].step = 1;
        true
    }
}

struct Agenda(Protocol);

impl Model for Agenda {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World { is_awake: true, ..World::default() }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, progress) in world.transactions.iter().enumerate() {
            if progress.runs < RUNS {
                actions.push(Action::Step(index));
            }
        }
        if world.faults == 0 && world.entry.is_none() {
            actions.push(Action::Lose);
        }
        if self.0.mends && world.is_lost {
            actions.push(Action::Mend);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Step(index) => next.step(index, self.0).then_some(next),
            Action::Lose => {
                next.is_awake = false;
                next.is_lost = true;
                next.faults += 1;
                Some(next)
            }
            // The check does nothing while others are in the gate or add contacts.
            Action::Mend
                if next.shared == 0 && next.alone.is_none() && next.positions.is_none() =>
            {
                next.is_awake = next.work > 0;
                next.is_lost = false;
                Some(next)
            }
            Action::Mend => None,
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("work that is committed is awake", |_, world: &World| {
                !world.is_quiet() || world.is_lost || world.work == 0 || world.is_awake
            }),
            Property::sometimes("the campaign sleeps", |_, world: &World| !world.is_awake),
            Property::sometimes("the campaign wakes again", |_, world: &World| {
                world.is_quiet() && world.is_awake && world.work > 0 && world.faults == 0
            }),
        ]
    }
}

#[test]
fn work_is_never_asleep() {
    let checker = Agenda(WHOLE).checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 1_000, "{}", checker.unique_state_count());
}

#[test]
fn without_its_locks_the_protocol_loses_work() {
    for broken in [
        Protocol { passes_gate_alone: false, ..WHOLE },
        Protocol { locks_positions: false, ..WHOLE },
    ] {
        let checker = Agenda(broken).checker().spawn_bfs().join();
        let lost = checker.discovery("work that is committed is awake");
        assert!(lost.is_some(), "{broken:?} loses nothing");
    }
}
