//! Campaigns over SIP, to people whom sipp plays: for the demo, tests and the benchmark. sipp keeps its own books, so
//! that the books of our side can be judged.

use campaign_testkit::Programs;
use std::path::Path;
use std::time::Duration;

mod caller;
mod campaign;
mod dispatch;
mod peers;
mod sipp;

pub use caller::Caller;
pub use campaign::{Campaign, Tally};
pub use dispatch::Dispatch;
pub use peers::{Baresip, Dnsmasq, Identity, Kamailio};
pub use sipp::{Invite, Sipp, Traffic, takes};

/// Result with an error in plain words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Longest wait for a program to stop by itself.
pub const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Finds the programs beside `built`, any program of the same build. Their logs are in a folder of their own.
///
/// # Errors
/// When that folder cannot be made.
pub fn programs(built: &Path) -> Result<Programs> {
    let logs = std::env::temp_dir().join(format!("campaign-sip-{}", uuid::Uuid::new_v4()));
    Ok(Programs::new(built.to_owned(), logs)?)
}
