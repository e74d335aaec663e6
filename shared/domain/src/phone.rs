//! Phone numbers: parsed from people's spellings into E.164.
//!
//! No number is read as another one. If a text could be two numbers, or one of two, it is rejected
//! with the reason.

mod text;

use crate::subscriber::other_spelling;
use rlibphonenumber::{
    PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat, PhoneNumberType,
};

/// Longest text that is read as a number.
pub const MAX_RAW_LENGTH: usize = 60;

/// Most digits of a number in E.164.
const MAX_DIGITS: usize = 15;

/// Reason why a text is not a usable phone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneProblem {
    /// Empty text.
    #[error("is empty")]
    Empty,
    /// Text too long for a number.
    #[error("is longer than 60 characters")]
    TooLong,
    /// Number with an extension, which cannot be dialled.
    #[error("has an extension; give a number that can be dialled directly")]
    Extension,
    /// Text with letters.
    #[error("has letters; give digits only")]
    Letters,
    /// Two numbers, or a range of numbers.
    #[error("may be more than one number, or a range; give one number")]
    Several,
    /// Date.
    #[error("looks like a date")]
    Date,
    /// Number that lost its plus sign or its leading zero, and could be either.
    #[error("may have lost its + or its leading 0; write it with + and the country code")]
    Ambiguous,
    /// No country code, and no region to supply it.
    #[error("has no country code; write it with + and the country code, or set default_region")]
    NoCountry,
    /// Number that is not assigned to anyone.
    #[error("is not a valid phone number")]
    Invalid,
    /// Number that costs its caller.
    #[error("is {0}, which costs more than a call; allow_costly_numbers lets the campaign call it")]
    Costly(Cost),
}

/// Reason why a call to a number costs extra.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cost {
    /// Premium rate.
    #[error("a premium-rate number")]
    PremiumRate,
    /// Shared cost.
    #[error("a shared-cost number")]
    SharedCost,
    /// Company's access number.
    #[error("a universal access number")]
    UniversalAccess,
    /// Personal number, which is forwarded at the caller's cost.
    #[error("a personal number")]
    Personal,
    /// Pager or voice mail system.
    #[error("a pager or voice mail number")]
    Service,
    /// Satellite phone.
    #[error("a satellite number")]
    Satellite,
    /// Directory assistance.
    #[error("a directory number")]
    Directory,
}

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
        // Numbers that the countries' regulators reserve for fiction.
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
            ("call me", "US", PhoneProblem::Letters),
            ("+1 415 555", "US", PhoneProblem::Invalid),
            ("+999 123 456 789", "", PhoneProblem::NoCountry),
            ("+1 415-555-0100 x77", "", PhoneProblem::Extension),
            ("12", "US", PhoneProblem::Invalid),
            ("+00554940931649", "BR", PhoneProblem::Invalid),
        ];
        for (raw, region, expected) in cases {
            assert_eq!(read(raw, region), Err(expected), "{raw}");
        }
        assert_eq!(read(&"1".repeat(61), "US"), Err(PhoneProblem::TooLong));
    }

    #[test]
    fn reads_what_spreadsheets_make_of_numbers() {
        for (raw, region, expected) in [
            ("4155550100.0", "US", "+14155550100"),
            ("03023125123.0", "DE", "+493023125123"),
            ("3023125123,00", "DE", "+493023125123"),
            ("3.023.125.123", "DE", "+493023125123"),
            ("'+14155550100", "", "+14155550100"),
            ("=\"4155550102\"", "US", "+14155550102"),
            ("\u{202a}+14155550123\u{202c}", "", "+14155550123"),
            ("+1\u{fe0d}-415-555-0123", "", "+14155550123"),
            (
                "\u{ff0b}\u{ff11}\u{ff14}\u{ff11}\u{ff15}\u{ff15}\u{ff15}\u{ff10}\u{ff11}\u{ff12}\u{ff13}x",
                "",
                "",
            ),
            (
                "\u{664}\u{661}\u{665}\u{665}\u{665}\u{665}\u{660}\u{661}\u{662}\u{663}",
                "US",
                "+14155550123",
            ),
            ("415\u{2011}555\u{2011}0123", "US", "+14155550123"),
            ("2079460018", "GB", "+442079460018"),
            ("442079460018", "GB", "+442079460018"),
            ("7911123456", "GB", "+447911123456"),
            ("4930 23125123", "DE", "+493023125123"),
            ("030/23125123", "DE", "+493023125123"),
            ("030 23125-0", "DE", "+4930231250"),
            ("(+49) 30 23125123", "", "+493023125123"),
            ("00493023125123", "DE", "+493023125123"),
            ("3201234567", "IT", "+393201234567"),
            ("3312345678", "IT", "+393312345678"),
            ("+52 1 55 1234 5678", "", "+525512345678"),
            ("+55 11 8123-4567", "", "+5511981234567"),
        ] {
            let wanted = if expected.is_empty() {
                Err(PhoneProblem::Letters)
            } else {
                Ok(expected.to_owned())
            };
            assert_eq!(read(raw, region), wanted, "{raw} {region}");
        }
    }

    #[test]
    fn refuses_what_could_be_another_number() {
        use PhoneProblem::{Ambiguous, Date, Extension, Letters, Several};
        for (raw, region, expected) in [
            ("492214710648", "DE", Ambiguous),
            ("030 23125123/124", "DE", Several),
            ("030 23125123/030 23125124", "DE", Several),
            ("+49 30 23125123 / +49 30 23125124", "", Several),
            ("030 23125123, 0171 2345678", "DE", Several),
            ("030 23125123-25", "DE", Several),
            ("011 1580-7267/12", "AR", Several),
            ("0415909121.5", "FI", Several),
            ("00554940931649", "BR", Ambiguous),
            ("030 23125123\n0171 2345678", "DE", Several),
            ("1.234.567,89", "DE", Several),
            ("12.03.1985", "DE", Date),
            ("DE89 3704 0044", "DE", Letters),
            ("030 23125123 und 0171 2345678", "DE", Letters),
            ("O30 23125123", "DE", Letters),
            ("1-800-FLOWERS", "US", Letters),
            ("4.15555E+9", "US", Several),
            ("030 23125123 App. 12", "DE", Extension),
            ("415-555-0100 ext 7", "US", Extension),
            ("tel:+1-415-555-0142;ext=7", "", Extension),
            ("415-555-0100#7", "US", Extension),
        ] {
            assert_eq!(read(raw, region), Err(expected), "{raw} {region}");
        }
    }

    #[test]
    fn regions_are_countries_with_numbers() {
        for good in ["US", "GB", "DE", "XK"] {
            assert!(Region::from_code(good).is_some(), "{good}");
        }
        for bad in ["UK", "EU", "ZZ", "AQ", "001", "us", ""] {
            assert!(Region::from_code(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn numbers_that_cost_are_known() {
        for (raw, cost) in [
            ("+19005550123", Cost::PremiumRate),
            ("+14159761234", Cost::PremiumRate),
            ("+499001234567", Cost::PremiumRate),
            ("+979123456789", Cost::PremiumRate),
            ("+449012345678", Cost::PremiumRate),
            ("+491801234567", Cost::SharedCost),
            ("+447012345678", Cost::Personal),
            ("+870773111632", Cost::Satellite),
            ("+881612345678", Cost::Satellite),
            ("+14155551212", Cost::Directory),
        ] {
            match to_e164(raw, None) {
                Ok(number) => {
                    assert_eq!(
                        Reading::default().number(raw),
                        Err(PhoneProblem::Costly(cost)),
                        "{number}"
                    );
                }
                Err(problem) => panic!("{raw} is no number: {problem}"),
            }
        }
        for raw in ["+14155550100", "+493023125123", "+18005550100", "+33199001234"] {
            assert_eq!(Reading::default().number(raw).as_deref(), Ok(raw));
        }
    }

    /// Example numbers of all countries in libphonenumber. Each is read as written in its country.
    /// None becomes another number when it loses the plus sign or passes through a spreadsheet.
    #[test]
    fn no_number_of_any_country_becomes_another() {
        let (mut read_back, mut all) = (0, 0);
        for region in PHONE_NUMBER_UTIL.get_supported_regions() {
            let region = Region(region);
            for kind in [PhoneNumberType::FixedLine, PhoneNumberType::Mobile] {
                let example =
                    PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region.0, kind);
                let Ok(example) = example else { continue };
                let e164 = example.format_as(PhoneNumberFormat::E164).into_owned();
                let national = example.format_as(PhoneNumberFormat::National).into_owned();
                let digits = e164.trim_start_matches('+');
                let trimmed = national.trim_start_matches(['(', '0']).to_owned();
                let written =
                    [&national, &e164, digits, &format!("{digits}.0"), &format!("{national}.0")];
                for raw in written.into_iter().chain([trimmed.as_str()]) {
                    let Ok((other, number)) = super::read(raw, Some(region)) else { continue };
                    // Some countries write two forms of a subscriber's number alike.
                    let is_same = other.format_as(PhoneNumberFormat::National) == national;
                    assert!(number == e164 || is_same, "{raw} in {region:?}: {number}, not {e164}");
                }
                all += 1;
                read_back += i32::from(to_e164(&national, Some(region)) == Ok(e164.clone()));
                assert_eq!(to_e164(&e164, Some(region)), Ok(e164), "{region:?}");
            }
        }
        assert!(read_back * 100 >= all * 97, "only {read_back} of {all} were read as written");
    }
}
