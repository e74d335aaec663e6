//! The HTTP provider against a platform that fails, delays, repeats, reorders and loses.

mod callbacks;
mod chaos;
mod elevenlabs;
#[path = "../protocol/fake.rs"]
#[allow(dead_code, reason = "the tests of the protocol use the rest of it")]
mod fake;
mod many;
mod peer;
mod platform;
mod retell;
mod secure;
#[path = "../sip/service.rs"]
#[allow(dead_code, reason = "the tests of SIP use the rest of it")]
mod service;
mod strangers;
mod tls;
mod twilio;
mod vapi;
