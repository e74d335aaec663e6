//! Variables for an agent: everything that it may say to a contact.

use std::collections::BTreeMap;

use crate::call::Attempt;

/// Returns name, link, time zone and attributes of the contact, without empty ones.
pub(super) fn variables(attempt: &Attempt) -> BTreeMap<&str, &str> {
    let own = [
        ("display_name", &attempt.display_name),
        ("time_zone", &attempt.time_zone),
        ("link", &attempt.link),
    ];
    let attributes = attempt.attributes.iter().map(|(name, value)| (name.as_str(), value));
    attributes
        .chain(own)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.as_str()))
        .collect()
}
