//! Faults of a round: planned from the seed, then done.

mod doing;
mod plan;

pub use doing::{Done, run};
pub use plan::{Action, FROZEN, Fault, Planned, Wire, plan, plan_frozen, upgrade};
