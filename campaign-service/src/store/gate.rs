//! Gates of campaigns, and the limits of those who hold them.

use super::session::DURABLE;
use uuid::Uuid;

/// Gate of a campaign, which keeps a transaction apart from some changes until commit.
///
/// Transactions that lease or authorise share the gate, and those that record facts of calls in
/// progress. Transactions that stop or exclude (commands, other facts, suppressing) hold the gate
/// exclusively. So when a pause or an
/// opt-out is committed, every earlier authorisation is committed too, and every later one sees the
/// change.
///
/// A transaction that adds contacts has the campaign's positions locked, which may mean a wait for
/// an import. So the positions come before the gate, and nobody waits for them inside the gate.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    /// No gate: for reads, and for changes that nobody waits for.
    Open,
    /// No gate, but the positions of this campaign: for new contacts.
    Adding(Uuid),
    /// Gate of this campaign, shared with other transactions.
    Shared(Uuid),
    /// Gate of this campaign, held exclusively.
    Exclusive(Uuid),
    /// Positions of this campaign, then its gate, held exclusively.
    ExclusiveAdding(Uuid),
}

/// Longest wait for a gate, or for a lock inside an exclusive one.
pub(super) const GATE_WAIT_MILLIS: &str = "8000";
/// Longest wait for a lock inside a shared gate. It is shorter than the time after which PostgreSQL
/// ends a transaction that hangs. Otherwise the transactions of a frozen replica would get each
/// other's locks, and hang one after the other.
const INSIDE_WAIT_MILLIS: &str = "3000";

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The commit waits.
    Durable,
    /// The commit does not wait. For changes that a crash of the database may lose, as long as they
    /// are lost whole. A later durable commit makes these changes durable too.
    Relaxed,
}

/// Statement that locks the campaign's counters until commit, so that nobody else takes positions or
/// adds groups.
pub(super) const LOCK_POSITIONS: &str =
    "SELECT FROM campaign_counters WHERE campaign_id = $1 FOR UPDATE";

/// Returns the column that limits the waits of a transaction in a gate. Must come before the gate.
pub(super) fn limit() -> String {
    limit_to(GATE_WAIT_MILLIS)
}

fn limit_to(millis: &str) -> String {
    format!("set_config('lock_timeout', '{millis}', true)")
}

impl Gate {
    /// Returns the statement that passes the gate, reads the clock and sets the durability, and its
    /// argument.
    pub(super) fn passing(self, durability: Durability) -> (String, i64) {
        let (lock, key) = match self {
            Self::Open | Self::Adding(_) => ("$1::int8", 0),
            Self::Shared(id) => ("pg_advisory_xact_lock_shared($1)", gate_key(id)),
            Self::Exclusive(id) | Self::ExclusiveAdding(id) => {
                ("pg_advisory_xact_lock($1)", gate_key(id))
            }
        };
        let limit = match self {
            Self::Open => String::new(),
            _ => format!("{}, ", limit()),
        };
        let commit = match durability {
            Durability::Durable => DURABLE,
            Durability::Relaxed => "'off'",
        };
        let inside = match self {
            Self::Shared(_) => format!(", {}", limit_to(INSIDE_WAIT_MILLIS)),
            _ => String::new(),
        };
        // The clock is read after the wait at the gate: columns are computed in order.
        let sql = format!(
            "SELECT {limit}{lock}, clock_timestamp() AS now, set_config('synchronous_commit', {commit}, true){inside}"
        );
        (sql, key)
    }
}

/// Returns the number of a campaign's gate: the random half of its id.
pub(super) fn gate_key(id: Uuid) -> i64 {
    id.as_u64_pair().1.cast_signed()
}
