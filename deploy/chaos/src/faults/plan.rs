//! Plan of faults, made from the seed alone.

use crate::proxy::{Kind, Mode, Point};
use crate::world::{REPLICAS, WORKERS, Who};
use rand::Rng;
use rand::rngs::SmallRng;
use std::fmt;
use std::time::Duration;

/// Replica that is frozen in rounds of that kind. The others stay well.
pub const FROZEN: usize = 0;
/// Length of that freeze, longer than a command may take.
const FREEZE: Duration = Duration::from_secs(12);

/// Connection between two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Connection from a replica to PostgreSQL.
    Database(usize),
    /// Connection to a replica.
    Service(usize),
    /// Connection from the workers to the provider.
    Provider,
}

/// Fault done to the connection in a trap, or to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Kill -9 of a process, which comes back after a while.
    Kill(Who, Duration),
    /// Cut of the connection at the trap.
    Cut,
    /// Delay of the message.
    Hold(Duration),
    /// Freeze of a process.
    Freeze(Who, Duration),
}

/// Fault in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Kill -9 of a process, which comes back after a while.
    Kill(Who, Duration),
    /// SIGSTOP, and SIGCONT after a while.
    Freeze(Who, Duration),
    /// Long freeze of a replica when it is about to commit, after so many commits.
    Stall(usize, u32, Duration),
    /// Kill -9 of one of PostgreSQL's own processes: PostgreSQL recovers from its log.
    CrashBackend,
    /// Bad network for a while. Afterwards connections go on, or end with a reset.
    Network(Wire, Mode, Duration, bool),
    /// Action at a named point, after so many messages passed it.
    At(Wire, Point, u32, Action),
    /// No writes in PostgreSQL for a while.
    ReadOnly(Duration),
    /// Other defaults for new sessions for a while. They break promises if the service relies on PostgreSQL's defaults.
    Defaults(Duration),
    /// No notices for a while, as when a session that nobody watches fills PostgreSQL's queue.
    NoNotices(Duration),
    /// Full disk for PostgreSQL for a while.
    DiskFull(Duration),
    /// Jump of a replica's clock by so many seconds.
    Clock(usize, i64),
    /// Restart of one replica after the other, each stopped in order.
    RollingRestart,
    /// Migration of the schema, and replacement of each program by that of this version.
    Upgrade,
}

/// Fault with its time.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// Time since the start.
    pub at: Duration,
    /// Fault to do.
    pub fault: Fault,
}

impl Fault {
    /// Returns the kind of the fault in a word or two.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Kill(who, _) => format!("kill {}", name(*who)),
            Self::Freeze(who, _) => format!("freeze {}", name(*who)),
            Self::Stall(..) => "long freeze of a replica in a transaction".to_owned(),
            Self::CrashBackend => "crash of PostgreSQL's process".to_owned(),
            Self::Network(_, Mode::Delay(_), ..) => "slow network".to_owned(),
            Self::Network(_, Mode::HalfOpen, ..) => "half-open connections".to_owned(),
            Self::Network(_, Mode::Reset, ..) => "reset connections".to_owned(),
            Self::Network(_, Mode::Lost, ..) => "lost packets".to_owned(),
            Self::Network(..) => "cut network".to_owned(),
            Self::At(_, point, ..) => format!("at {point}"),
            Self::ReadOnly(_) => "read-only database".to_owned(),
            Self::Defaults(_) => "other defaults".to_owned(),
            Self::NoNotices(_) => "no notices".to_owned(),
            Self::DiskFull(_) => "full disk".to_owned(),
            Self::Clock(..) => "clock jump".to_owned(),
            Self::RollingRestart => "rolling restart".to_owned(),
            Self::Upgrade => "upgrade from the version before".to_owned(),
        }
    }
}

impl Fault {
    /// Whether the previous version was not made to withstand the fault.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Defaults(_) | Self::NoNotices(_) | Self::Network(_, Mode::Lost, ..))
    }

    /// Whether the fault leaves PostgreSQL, the replicas and their connections alone.
    fn spares_replicas(&self) -> bool {
        match self {
            Self::Kill(who, _) | Self::Freeze(who, _) => {
                matches!(who, Who::Worker(_) | Who::Provider)
            }
            Self::Network(wire, ..) | Self::At(wire, ..) => *wire == Wire::Provider,
            Self::Clock(..) => true,
            _ => false,
        }
    }
}

fn name(who: Who) -> &'static str {
    match who {
        Who::Postgres => "PostgreSQL",
        Who::Replica(_) => "a replica",
        Who::Worker(_) => "a worker",
        Who::Provider => "the provider",
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(wire, point, passes, action) => {
                write!(f, "at {point} of {wire:?}, after {passes}: {action:?}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// Plans faults for a window, one every 0.1 to 0.5 seconds, sized by the lease's length.
#[must_use]
pub fn plan(random: &mut SmallRng, window: Duration, lease_ttl: Duration) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut at = Duration::from_millis(random.random_range(100..500));
    while at < window {
        planned.push(Planned { at, fault: any_fault(random, lease_ttl) });
        at += Duration::from_millis(random.random_range(100..500));
    }
    planned
}

/// Plans a replica that stands still in the middle of its work. PostgreSQL, the other replica and the way to it stay
/// well, so that the other replica has no excuse.
#[must_use]
pub fn plan_frozen(random: &mut SmallRng, window: Duration, lease_ttl: Duration) -> Vec<Planned> {
    let mut planned = plan(random, window.max(FREEZE), lease_ttl);
    planned.retain(|planned| planned.fault.spares_replicas());
    let fault = Fault::Stall(FROZEN, random.random_range(0..25), FREEZE);
    planned.push(Planned { at: millis(random, 100..1_000), fault });
    planned
}

/// Plans an upgrade somewhere in the middle of the window.
#[must_use]
pub fn upgrade(random: &mut SmallRng, window: Duration) -> Planned {
    Planned { at: window.mul_f64(random.random_range(0.2..0.6)), fault: Fault::Upgrade }
}

fn millis(random: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

fn any_fault(random: &mut SmallRng, lease_ttl: Duration) -> Fault {
    match random.random_range(0..100) {
        0..14 => Fault::Kill(anybody(random), millis(random, 0..900)),
        14..26 => {
            // The time is about as long as a lease lives: a little less, a little more, much more.
            let time = lease_ttl.mul_f64(random.random_range(0.2..1.8));
            Fault::Freeze(anybody(random), time)
        }
        26..30 => Fault::CrashBackend,
        30..50 => {
            let time = millis(random, 100..1_500);
            Fault::Network(any_wire(random), bad_network(random), time, random.random_bool(0.5))
        }
        50..53 => {
            // The listening connection is lost with the others.
            let wire = Wire::Database(random.random_range(0..REPLICAS));
            Fault::Network(wire, Mode::Lost, millis(random, 0..1_500), false)
        }
        53..56 => Fault::Defaults(millis(random, 500..3_000)),
        56..59 => Fault::NoNotices(millis(random, 200..2_000)),
        59..90 => at_a_point(random, lease_ttl),
        90..93 => Fault::ReadOnly(millis(random, 200..1_000)),
        93..95 => Fault::DiskFull(millis(random, 200..1_200)),
        95..98 => {
            Fault::Clock(random.random_range(0..REPLICAS), random.random_range(-9_000..9_000))
        }
        _ => Fault::RollingRestart,
    }
}

fn anybody(random: &mut SmallRng) -> Who {
    match random.random_range(0..10) {
        0..2 => Who::Postgres,
        2..5 => Who::Replica(random.random_range(0..REPLICAS)),
        5..9 => Who::Worker(random.random_range(0..WORKERS)),
        _ => Who::Provider,
    }
}

fn any_wire(random: &mut SmallRng) -> Wire {
    match random.random_range(0..5) {
        0..2 => Wire::Database(random.random_range(0..REPLICAS)),
        2..4 => Wire::Service(random.random_range(0..REPLICAS)),
        _ => Wire::Provider,
    }
}

fn bad_network(random: &mut SmallRng) -> Mode {
    match random.random_range(0..4) {
        0 => Mode::Delay(millis(random, 20..250)),
        1 => Mode::HalfOpen,
        2 => Mode::Cut,
        _ => Mode::Reset,
    }
}

fn at_a_point(random: &mut SmallRng, lease_ttl: Duration) -> Fault {
    let wire = any_wire(random);
    let kinds = match wire {
        Wire::Database(_) => [Kind::Commit, Kind::Committed],
        Wire::Service(_) => [Kind::Send, Kind::Acknowledge],
        Wire::Provider => [Kind::Dial, Kind::Dialled],
    };
    let kind = kinds[random.random_range(0..2)];
    let point = Point { kind, is_after: random.random_bool(0.4) };
    let who = match (wire, random.random_range(0..4)) {
        (Wire::Database(n) | Wire::Service(n), 0..2) => Who::Replica(n),
        (Wire::Database(_), _) => Who::Postgres,
        (Wire::Provider, 0..2) => Who::Provider,
        (_, n) => Who::Worker(n % WORKERS),
    };
    let action = match random.random_range(0..10) {
        0..4 => Action::Kill(who, millis(random, 0..600)),
        4..6 => Action::Cut,
        6..9 => {
            // Some messages are held back until just after their lease has expired.
            let factor = if random.random_bool(0.5) { 0.3 } else { 1.05 };
            Action::Hold(lease_ttl.mul_f64(factor) + millis(random, 0..300))
        }
        _ => Action::Freeze(who, lease_ttl.mul_f64(random.random_range(0.3..1.5))),
    };
    Fault::At(wire, point, random.random_range(0..25), action)
}
