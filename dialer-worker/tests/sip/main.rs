//! The SIP provider against sipp.

mod agents;
mod broken;
#[path = "../protocol/fake.rs"]
#[allow(dead_code, reason = "the tests of the protocol use the rest of it")]
mod fake;
mod inbound;
mod mixed;
mod peers;
mod service;
mod single;
mod standards;
