//! Programs as processes of their own, for tests, demos, benchmarks and fault tests. The crate finds them, starts them,
//! waits for them, and stops, signals and kills them. It knows the service and the worker by their options only.
//!
//! Errors are texts for people: they name the program and its log, and say what to do.
#![forbid(unsafe_code)]

mod finding;
mod ports;
pub mod postgres;
mod program;
mod programs;

pub use finding::{beside, from_here};
pub use ports::{free_address, free_port};
pub use program::{Program, signal};
pub use programs::{Programs, migrate};
