//! Phone numbers: as people write them in, E.164 out.

use rlibphonenumber::{ParseError, PhoneNumber, PhoneNumberFormat};

/// Longest text that is read as a number.
pub const MAX_RAW_LENGTH: usize = 60;

/// Most digits of a number in E.164.
const MAX_DIGITS: usize = 15;

/// Why a text is not a phone number we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneProblem {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Too long to be one.
    #[error("is longer than 60 characters")]
    TooLong,
    /// Has an extension, which cannot be dialled.
    #[error("has an extension; give a number that can be dialled directly")]
    Extension,
    /// No country code, and no region to take it from.
    #[error("has no country code; write it with + and the country code, or set default_region")]
    NoCountry,
    /// Not a number anyone has.
    #[error("is not a valid phone number")]
    Invalid,
}

/// A country to read numbers without a country code in.
#[derive(Clone, Copy, Debug)]
pub struct Region(rlibphonenumber::Region);

impl Region {
    /// Reads an ISO 3166 code of two capital letters.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        code.parse().ok().map(Self)
    }
}

/// The digits of a number in E.164, which has at most 15, as one number.
#[must_use]
pub fn as_integer(e164: &str) -> i64 {
    e164.trim_start_matches('+').parse().unwrap_or(0)
}

/// Normalises a number to E.164.
///
/// # Errors
/// A [`PhoneProblem`] in plain words.
pub fn to_e164(raw: &str, region: Option<Region>) -> Result<String, PhoneProblem> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Err(PhoneProblem::Empty);
    }
    if raw.chars().count() > MAX_RAW_LENGTH {
        return Err(PhoneProblem::TooLong);
    }
    let number =
        PhoneNumber::parse(raw, region.map(|region| region.0)).map_err(|error| match error {
            ParseError::InvalidCountryCode => PhoneProblem::NoCountry,
            _ => PhoneProblem::Invalid,
        })?;
    if number.extension.is_some() {
        return Err(PhoneProblem::Extension);
    }
    if !number.is_valid() {
        return Err(PhoneProblem::Invalid);
    }
    let e164 = number.format_as(PhoneNumberFormat::E164).into_owned();
    // Some countries have longer numbers, for special services; they are not E.164.
    if e164.len() > 1 + MAX_DIGITS {
        return Err(PhoneProblem::Invalid);
    }
    Ok(e164)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str, region: &str) -> Result<String, PhoneProblem> {
        to_e164(raw, Region::from_code(region))
    }

    #[test]
    fn a_number_longer_than_e164_allows_is_none() {
        assert_eq!(read("+49240006156896827", ""), Err(PhoneProblem::Invalid));
    }

    #[test]
    fn reads_what_people_write() {
        // Numbers set aside for fiction by the regulators of their countries.
        let cases = [
            ("+1 415-555-0100", "", "+14155550100"),
            ("(415) 555-0100", "US", "+14155550100"),
            ("1.415.555.0100", "US", "+14155550100"),
            ("020 7946 0123", "GB", "+442079460123"),
            ("+44 (0)20 7946 0018", "", "+442079460018"),
            ("0044 20 7946 0018", "DE", "+442079460018"),
            ("030 23125 123", "DE", "+493023125123"),
            ("+33 1 99 00 12 34", "", "+33199001234"),
            ("0121 496 0123", "GB", "+441214960123"),
            ("0491 570 156", "AU", "+61491570156"),
            ("tel:+1-415-555-0142", "", "+14155550142"),
        ];
        for (raw, region, expected) in cases {
            assert_eq!(read(raw, region), Ok(expected.to_owned()), "{raw}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        let cases = [
            ("", "US", PhoneProblem::Empty),
            ("   ", "US", PhoneProblem::Empty),
            ("415-555-0100", "", PhoneProblem::NoCountry),
            ("call me", "US", PhoneProblem::Invalid),
            ("+1 415 555", "US", PhoneProblem::Invalid),
            ("+999 123 456 789", "", PhoneProblem::NoCountry),
            ("+1 415-555-0100 x77", "", PhoneProblem::Extension),
            ("12", "US", PhoneProblem::Invalid),
        ];
        for (raw, region, expected) in cases {
            assert_eq!(read(raw, region), Err(expected), "{raw}");
        }
        assert_eq!(read(&"1".repeat(61), "US"), Err(PhoneProblem::TooLong));
    }
}
