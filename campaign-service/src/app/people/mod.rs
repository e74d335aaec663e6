//! People: the contacts of campaigns, callers, suppression lists, and erasure.
//!
//! Calls go one way. Suppressing, erasing and the recording of opt-outs put numbers on lists through
//! [`listing`], and answer through `revoking`. [`erased`] knows who was erased, for all of them.

mod adding;
pub mod contacts;
pub mod erased;
pub mod erasing;
pub mod explaining;
pub mod importing;
pub mod inbound;
pub mod listing;
mod readmitting;
pub(super) mod revoking;
pub mod suppressing;
