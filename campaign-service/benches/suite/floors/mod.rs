//! Floors: raw SQL that does the least, as the reference of our figures.

pub mod block;
pub mod textbook;
