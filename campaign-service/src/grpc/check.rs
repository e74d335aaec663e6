//! Checks of requests. An error names all invalid fields at once.

use crate::app::error::{Error, Violation};
use crate::store::contacts::Attributes;
use campaign_domain::Instant;
use campaign_domain::campaign::ConfigField;
use campaign_domain::phone::Region;
use campaign_domain::serving::is_name;
use campaign_domain::zones::zone;
use chrono::DateTime;
use std::collections::{BTreeSet, HashMap};

/// Longest name shown to people, in characters.
pub const MAX_NAME_LENGTH: usize = 200;
/// Longest description, in characters.
pub const MAX_DESCRIPTION_LENGTH: usize = 2_000;
/// Longest id chosen by a caller, in characters.
pub const MAX_ID_LENGTH: usize = 64;
/// Longest link, in characters.
pub const MAX_LINK_LENGTH: usize = 2_000;
const MAX_ATTRIBUTES: usize = 20;
const MAX_ATTRIBUTE_KEY_LENGTH: usize = 64;
const MAX_ATTRIBUTE_VALUE_LENGTH: usize = 500;
/// Most bytes of a contact's attributes. A batch of 500 contacts stays well below 4 MiB, the
/// default limit of gRPC clients.
const MAX_ATTRIBUTES_BYTES: usize = 4_000;

/// Collector of the invalid fields of a request.
#[derive(Debug, Default)]
pub struct Check {
    violations: Vec<Violation>,
}

impl Check {
    /// Records an invalid field.
    pub fn fail(&mut self, field: &str, description: impl Into<String>) {
        self.violations
            .push(Violation { field: field.to_owned(), description: description.into() });
    }

    /// Records an invalid field unless `ok`.
    pub fn require(&mut self, ok: bool, field: &str, description: &str) {
        if !ok {
            self.fail(field, description);
        }
    }

    /// Returns an error with all invalid fields, if there are any.
    pub fn finish(self) -> Result<(), Error> {
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid { violations: self.violations })
        }
    }

    /// Checks the length of a text, in characters. Rejects NUL, which PostgreSQL cannot store.
    pub fn text(&mut self, field: &str, value: &str, bounds: std::ops::RangeInclusive<usize>) {
        let length = value.chars().count();
        if length > *bounds.end() {
            let description =
                format!("must have at most {} characters, has {length}", bounds.end());
            self.fail(field, description);
        } else if length < *bounds.start() {
            self.fail(field, "must not be empty");
        } else if value.contains('\0') {
            self.fail(field, "must not contain NUL characters");
        }
    }

    /// Checks a name of a pool or a channel, which may be empty.
    pub fn plain_name(&mut self, field: &str, value: &str, max_length: usize) {
        if value.len() > max_length || !is_name(value) {
            let how = format!("must be at most {max_length} of a to z, 0 to 9 and \"-\"");
            self.fail(field, how);
        }
    }

    /// Checks names of pools or channels, of which none may be empty.
    pub fn names(&mut self, field: &str, values: &[String], max: usize, max_length: usize) {
        if values.len() > max {
            self.fail(field, format!("must be at most {max}"));
            return;
        }
        for (index, value) in values.iter().enumerate() {
            let field = format!("{field}[{index}]");
            self.require(!value.is_empty(), &field, "must not be empty");
            self.plain_name(&field, value, max_length);
        }
    }

    /// Checks an id chosen by the caller.
    pub fn id(&mut self, field: &str, value: &str) {
        self.text(field, value, 1..=MAX_ID_LENGTH);
    }

    /// Reads a time between the years 1 and 9999. An absent time stays absent.
    pub fn time(&mut self, field: &str, value: Option<prost_types::Timestamp>) -> Option<Instant> {
        let value = value?;
        let time = u32::try_from(value.nanos)
            .ok()
            .and_then(|nanos| DateTime::from_timestamp(value.seconds, nanos))
            // The range that google.protobuf.Timestamp allows: years 1 to 9999.
            .filter(|time| (-62_135_596_800..=253_402_300_799).contains(&time.timestamp()));
        if time.is_none() {
            self.fail(field, "is not a time between the years 1 and 9999");
        }
        time
    }

    /// Reads a duration of 0 to `max_seconds`, in whole seconds. An absent duration is 0.
    pub fn seconds(
        &mut self,
        field: &str,
        value: Option<prost_types::Duration>,
        max_seconds: i64,
    ) -> i64 {
        let Some(value) = value else { return 0 };
        if !(0..=max_seconds).contains(&value.seconds) || value.nanos < 0 {
            self.fail(field, format!("must be 0 to {max_seconds} seconds"));
        }
        value.seconds
    }

    /// Checks an IANA time zone, which may be empty if `is_optional`.
    pub fn time_zone(&mut self, field: &str, value: &str, is_optional: bool) {
        if value.is_empty() && is_optional {
            return;
        }
        if value.is_empty() {
            self.fail(field, "must be set, to an IANA zone as in \"Europe/Berlin\"");
        } else if zone(value).is_none() {
            self.fail(field, "is not an IANA zone; write it as in \"Europe/Berlin\"");
        }
    }

    /// Reads the country that numbers are read in; empty for none.
    pub fn region(&mut self, field: &str, value: &str) -> Option<Region> {
        if value.is_empty() {
            return None;
        }
        let region = Region::from_code(value);
        if region.is_none() {
            self.fail(field, "is not an ISO 3166 country code as in \"US\"");
        }
        region
    }

    /// Reads a contact's priority, 0 to 9.
    pub fn priority(&mut self, field: &str, value: i32) -> i16 {
        match i16::try_from(value) {
            Ok(priority @ 0..=9) => priority,
            _ => {
                self.fail(field, "must be 0 to 9");
                0
            }
        }
    }

    /// Checks a contact's attributes.
    pub fn attributes(&mut self, field: &str, values: HashMap<String, String>) -> Attributes {
        if values.len() > MAX_ATTRIBUTES {
            self.fail(field, format!("must have at most {MAX_ATTRIBUTES} entries"));
            return Attributes::new();
        }
        let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_ATTRIBUTES_BYTES {
            self.fail(field, format!("must have at most {MAX_ATTRIBUTES_BYTES} bytes in all"));
        }
        for (key, value) in &values {
            self.text(&format!("{field} key"), key, 1..=MAX_ATTRIBUTE_KEY_LENGTH);
            self.text(&format!("{field} value"), value, 0..=MAX_ATTRIBUTE_VALUE_LENGTH);
        }
        values.into_iter().collect()
    }
}

/// Returns the fields of a configuration that an update mask names.
pub fn config_fields(mask: Option<prost_types::FieldMask>) -> Result<Vec<ConfigField>, Error> {
    let paths = mask_paths(mask, &ConfigField::ALL.map(ConfigField::name))?;
    Ok(paths.iter().filter_map(|path| ConfigField::from_name(path)).collect())
}

/// Returns the paths of an update mask. Rejects an empty mask and unknown paths.
pub fn mask_paths(
    mask: Option<prost_types::FieldMask>,
    known: &[&str],
) -> Result<Vec<String>, Error> {
    let paths: BTreeSet<String> = mask.unwrap_or_default().paths.into_iter().collect();
    if paths.is_empty() {
        let description = format!("must name what to change: {}", known.join(", "));
        return Err(Error::invalid("update_mask", description));
    }
    if let Some(path) = paths.iter().find(|path| !known.contains(&path.as_str())) {
        let path: String = path.chars().take(100).collect();
        let description = format!("has {path:?}; can change: {}", known.join(", "));
        return Err(Error::invalid("update_mask", description));
    }
    Ok(paths.into_iter().collect())
}

/// Rejects a count above `max`. A count of 0 is accepted, so that an empty message is answered too.
pub fn within(field: &str, count: usize, max: usize) -> Result<(), Error> {
    if count <= max { Ok(()) } else { Err(Error::invalid(field, format!("must be at most {max}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_documents_every_field_that_may_be_edited() {
        let proto = include_str!("../../../proto/campaign/v1/campaign_service.proto");
        let (_, list) = proto.split_once("Fields to change, at least one of: ").expect("the list");
        let (list, _) = list.split_once(". A named field").expect("its end");
        let documented: BTreeSet<&str> = list
            .split(|c: char| c == ',' || c == '/' || c.is_whitespace())
            .filter(|name| !name.is_empty())
            .collect();
        let editable: BTreeSet<&str> =
            ConfigField::ALL.into_iter().map(ConfigField::name).collect();
        assert_eq!(documented, editable);
    }
}
