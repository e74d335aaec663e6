//! People: the contacts of campaigns, callers, suppression lists, and erasure.
//!
//! Calls go one way: erasing uses suppressing, never the other way round. [`erased`] knows who was
//! erased, for all of them.

mod adding;
pub mod contacts;
pub mod erased;
pub mod erasing;
pub mod explaining;
pub mod importing;
pub mod inbound;
mod readmitting;
mod revoking;
pub mod suppressing;
