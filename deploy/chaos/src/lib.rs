//! Fault tests: faults at seeded moments and at named points, against real processes of PostgreSQL, the service, its
//! workers and a provider. A checker judges afterwards, for each campaign apart, whether the promises held. README.md
//! beside this crate says how to use the tests and what they judge.
#![forbid(unsafe_code)]

pub mod check;
pub mod clocks;
pub mod crowd;
pub mod faults;
pub mod history;
pub mod journal;
pub mod numbers;
pub mod postgres;
pub mod provider;
pub mod proxy;
pub mod round;
pub mod setting;
pub mod supervised;
pub mod world;

/// Result of most functions here.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Returns microseconds since 1970, by the clock that PostgreSQL on this machine has too.
#[must_use]
pub fn now_micros() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
