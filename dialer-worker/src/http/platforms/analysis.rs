//! Facts in the data that platforms extract from a call by rules of the customer.

use serde_json::{Map, Value};

use crate::call::Fact;
use crate::http::config::Channel;
use crate::http::events::What;

/// Returns the facts in extracted data: `success` and `opted_out`, if they are true.
pub(super) fn facts(data: &Map<String, Value>) -> Vec<What> {
    let is_true = |name: &str| match data.get(name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let mut facts = Vec::new();
    if is_true("success") {
        facts.push(What::Fact(Fact::Success));
    }
    if is_true("opted_out") {
        facts.push(opted_out(false));
    }
    facts
}

/// Returns the opt-out of a person in a call.
pub(super) fn opted_out(everywhere: bool) -> What {
    What::Fact(Fact::OptedOut { channel: Channel::Call.name().to_owned(), everywhere })
}
