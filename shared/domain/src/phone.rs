//! Phone numbers: parsed from people's spellings into E.164.
//!
//! No number is read as another one. If a text could be two numbers, or one of two, it is rejected
//! with the reason.

mod problem;
mod text;

use crate::subscriber::other_spelling;
pub use problem::{Cost, PhoneProblem};
use rlibphonenumber::{
    PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat, PhoneNumberType,
};

/// Longest text that is read as a number.
pub const MAX_RAW_LENGTH: usize = 60;

/// Most digits of a number in E.164.
const MAX_DIGITS: usize = 15;

/// Country for reading numbers without a country code.
#[derive(Clone, Copy, Debug)]
pub struct Region(rlibphonenumber::Region);

impl Region {
    /// Returns the region of an ISO 3166 code: two capital letters of a country that has phone
    /// numbers.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        let region: rlibphonenumber::Region = code.parse().ok().filter(|_| is_code)?;
        PHONE_NUMBER_UTIL.get_country_code_for_region(region)?;
        Some(Self(region))
    }

    fn calling_code(self) -> Option<i32> {
        PHONE_NUMBER_UTIL.get_country_code_for_region(self.0)
    }
}

/// Returns the digits of an E.164 number, at most 15, as an integer.
#[must_use]
pub fn as_integer(e164: &str) -> i64 {
    e164.trim_start_matches('+').parse().unwrap_or(0)
}

/// Reads a number of any purpose: to suppress, to identify a caller, or to find the subject of a
/// fact.
///
/// # Errors
/// [`PhoneProblem`] in plain words.
pub fn to_e164(raw: &str, region: Option<Region>) -> Result<String, PhoneProblem> {
    read(raw, region).map(|(_, e164)| e164)
}

/// Rules for reading the numbers that a campaign calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// Region of numbers without a country code.
    pub region: Option<Region>,
    /// Whether numbers that cost extra are accepted.
    pub allows_costly: bool,
}

impl Reading {
    /// Reads a number that is to be called.
    ///
    /// # Errors
    /// [`PhoneProblem`] in plain words.
    pub fn number(&self, raw: &str) -> Result<String, PhoneProblem> {
        let (number, e164) = read(raw, self.region)?;
        match cost(&number, &e164).filter(|_| !self.allows_costly) {
            Some(cost) => Err(PhoneProblem::Costly(cost)),
            None => Ok(e164),
        }
    }

    /// Whether a text is a number that costs extra.
    #[must_use]
    pub fn is_costly(&self, raw: &str) -> bool {
        let strict = Self { allows_costly: false, ..*self };
        matches!(strict.number(raw), Err(PhoneProblem::Costly(_)))
    }
}

fn read(raw: &str, region: Option<Region>) -> Result<(PhoneNumber, String), PhoneProblem> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Err(PhoneProblem::Empty);
    }
    if raw.chars().count() > MAX_RAW_LENGTH {
        return Err(PhoneProblem::TooLong);
    }
    let text = text::clean(raw)?;
    if let Some(first) = text::first_of_several(&text)
        && parse(first, region).is_ok()
    {
        return Err(PhoneProblem::Several);
    }
    let (number, e164) = parse(&text, region)?;
    if let Some(region) = region
        && is_ambiguous(&text, &number, &e164, region)
    {
        return Err(PhoneProblem::Ambiguous);
    }
    Ok((number, e164))
}

/// Reads a text as one valid number.
fn parse(text: &str, region: Option<Region>) -> Result<(PhoneNumber, String), PhoneProblem> {
    let number =
        PhoneNumber::parse(text, region.map(|region| region.0)).map_err(|error| match error {
            ParseError::InvalidCountryCode => PhoneProblem::NoCountry,
            _ => PhoneProblem::Invalid,
        })?;
    if number.extension.is_some() {
        return Err(PhoneProblem::Extension);
    }
    let e164 = number.format_as(PhoneNumberFormat::E164).into_owned();
    if !number.is_valid() {
        // People still write numbers as they were before their country changed them.
        let other = other_spelling(&e164).and_then(|other| PhoneNumber::parse(&other, None).ok());
        let other = other.filter(|other| other.is_valid()).ok_or(PhoneProblem::Invalid)?;
        let e164 = other.format_as(PhoneNumberFormat::E164).into_owned();
        return Ok((other, e164));
    }
    // Some countries have longer numbers for special services. Those are not E.164.
    if e164.len() > 1 + MAX_DIGITS {
        return Err(PhoneProblem::Invalid);
    }
    Ok((number, e164))
}

/// Whether a text read in a region may just as well be another number. It may have lost its plus
/// sign: it begins with the region's own country code, or lacks the zero of the region's national
/// numbers. It may also have lost a zero that belongs to it.
fn is_ambiguous(text: &str, number: &PhoneNumber, e164: &str, region: Region) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let is_other = |text: &str, region| parse(text, region).is_ok_and(|(_, other)| other != e164);
    if let Some(rest) = digits.strip_prefix("00") {
        // In some places a carrier code follows 00, or 00 is not the region's international prefix.
        return is_other(&format!("+{rest}"), None);
    }
    if text.contains('+') || digits.starts_with('0') {
        return false;
    }
    let own_code = region.calling_code().map(|code| code.to_string()).unwrap_or_default();
    if PHONE_NUMBER_UTIL.is_nanpa_country(region.0) {
        return digits.starts_with(&own_code) && is_other(&format!("+{digits}"), None);
    }
    let national = number.format_as(PhoneNumberFormat::National);
    if national.trim_start_matches('(').starts_with('0') || digits.starts_with(&own_code) {
        return is_other(&format!("+{digits}"), None);
    }
    number.get_type() != PhoneNumberType::Mobile && is_other(&format!("0{digits}"), Some(region))
}

/// Returns why a call to a valid number costs extra. Satellite codes: ITU-T E.164, list of assigned
/// country codes. 976 and 555-1212 in North America: NANPA, central office codes.
fn cost(number: &PhoneNumber, e164: &str) -> Option<Cost> {
    if matches!(number.country_code, 870 | 881 | 882 | 883) {
        return Some(Cost::Satellite);
    }
    if number.country_code == 1 && e164.len() == 12 {
        let local = &e164[5..];
        if local == "5551212" {
            return Some(Cost::Directory);
        }
        if local.starts_with("976") {
            return Some(Cost::PremiumRate);
        }
    }
    match number.get_type() {
        PhoneNumberType::PremiumRate => Some(Cost::PremiumRate),
        PhoneNumberType::SharedCost => Some(Cost::SharedCost),
        PhoneNumberType::UAN => Some(Cost::UniversalAccess),
        PhoneNumberType::PersonalNumber => Some(Cost::Personal),
        PhoneNumberType::Pager | PhoneNumberType::VoiceMail => Some(Cost::Service),
        PhoneNumberType::FixedLine
        | PhoneNumberType::Mobile
        | PhoneNumberType::FixedLineOrMobile
        | PhoneNumberType::TollFree
        | PhoneNumberType::VoIP
        | PhoneNumberType::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
