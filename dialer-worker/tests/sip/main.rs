//! The SIP provider against sipp.

mod broken;
#[path = "../protocol/fake.rs"]
#[allow(dead_code, reason = "the tests of the protocol use the rest of it")]
mod fake;
mod inbound;
mod mixed;
mod service;
mod single;
