//! Campaigns over SIP, to people whom sipp plays: for the demo, tests and the benchmark. sipp keeps its own books, so
//! that the books of our side can be judged.

mod caller;
mod campaign;
mod dispatch;
mod programs;
mod sipp;

pub use caller::Caller;
pub use campaign::{Campaign, Tally};
pub use dispatch::Dispatch;
pub use programs::{Program, Programs};
pub use sipp::{Invite, Sipp, Traffic};

/// Result with an error in plain words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
