//! All SQL of the service: one function per statement, and one file per table family. The store
//! keeps what the domain decided, and decides nothing itself.
//!
//! Statements on the data path name many rows by key at once, as `unnest(keys) CROSS JOIN LATERAL
//! (SELECT … LIMIT 1)`. LIMIT leaves the planner no choice but one index probe per key. Otherwise
//! the planner reads a whole campaign for each batch, as long as statistics say that the campaign
//! is small.

pub mod agenda;
pub mod audit;
pub mod backlog;
mod call_details;
pub mod calls;
pub mod campaigns;
pub mod checking;
mod classes;
pub mod clusters;
pub mod contacts;
pub mod counts;
mod db;
pub mod deleted;
pub mod due;
pub mod erasures;
mod error;
pub mod fitness;
pub mod folding;
mod gate;
pub mod gates;
pub mod groups;
pub mod imports;
pub mod interactions;
mod json;
pub mod kept;
pub mod leases;
mod listening;
pub mod migrations;
pub mod notify;
pub mod numbers;
mod outages;
pub mod paces;
mod packed;
mod place;
pub mod purge;
pub mod recounts;
pub mod requests;
pub mod retention;
pub mod revoking;
pub mod run_counts;
mod session;
mod shared;
pub mod standings;
pub mod states;
pub mod suppressions;
mod tls;
mod to_count;
pub mod troubles;
mod tx;
mod url;

pub use db::{Db, DbLimits, PoolStatus};
pub use error::{StoreError, StoreResult};
pub use gate::{Durability, Gate};
use json::from_json;
pub(crate) use json::to_json;
pub use listening::Listener;
use tx::Params;
pub use tx::{Connection, Opening, Statements, Tx};
