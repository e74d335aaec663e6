//! Faults at seeded moments and at named points, against real processes of PostgreSQL, the service, its
//! workers and a provider of their own; and a checker that judges afterwards, for each campaign apart,
//! whether the promises held. README.md beside this crate says how it is used and what it judges.
#![forbid(unsafe_code)]

pub mod check;
pub mod clocks;
pub mod faults;
pub mod history;
pub mod journal;
pub mod numbers;
pub mod postgres;
pub mod program;
pub mod provider;
pub mod proxy;
pub mod round;
pub mod world;

/// What most things here give.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Microseconds since 1970, by the clock that PostgreSQL on this machine has too.
#[must_use]
pub fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
