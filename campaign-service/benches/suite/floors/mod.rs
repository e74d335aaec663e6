//! Raw SQL that does the least: what our figures are measured against.

pub mod block;
pub mod textbook;
