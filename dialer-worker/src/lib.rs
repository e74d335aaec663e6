//! Takes leased contacts, asks before each dial, dials and reports.
//!
//! The path of a contact: a batch arrives (`session`) and waits (`leases`); when a call place is free
//! its attempt is authorised; the provider dials it (`calls`, `dialer`); what happened waits in the
//! outbox (`reports`) until the service says it is durable. `state` decides, `worker` does the
//! waiting and keeps the state while streams come and go.

mod breaker;
mod calls;
pub mod config;
pub mod dialer;
mod leases;
mod pace;
mod reports;
mod session;
pub mod simulated;
pub mod sip;
mod state;
mod worker;

pub use worker::{Summary, run};
