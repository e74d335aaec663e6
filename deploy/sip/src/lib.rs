//! People to call over SIP, for tests and the demo: sipp plays them, and keeps its own books.

mod sipp;

pub use sipp::{Invite, Sipp, Traffic};
