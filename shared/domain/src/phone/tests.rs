use super::*;

fn read(raw: &str, region: &str) -> Result<String, PhoneProblem> {
    to_e164(raw, Region::from_code(region))
}

#[test]
fn a_number_longer_than_e164_allows_is_none() {
    let longest = "+493023125123456";
    assert_eq!(read(longest, ""), Ok(longest.to_owned()));
    assert_eq!(as_integer(longest), 493_023_125_123_456);
    assert_eq!(read("+49240006156896827", ""), Err(PhoneProblem::Invalid));
}

#[test]
fn a_text_has_at_most_60_characters() {
    let spread = |spaces| format!("+1{}4155550100", " ".repeat(spaces));
    assert_eq!(read(&spread(48), ""), Ok("+14155550100".to_owned()));
    assert_eq!(read(&spread(49), ""), Err(PhoneProblem::TooLong));
}

#[test]
fn a_campaign_calls_numbers_that_cost_only_if_it_may() {
    let premium = "+19005550123";
    let lenient = Reading { allows_costly: true, ..Reading::default() };
    assert_eq!(lenient.number(premium).as_deref(), Ok(premium));
    for reading in [Reading::default(), lenient] {
        assert!(reading.is_costly(premium));
        assert!(!reading.is_costly("+14155550100") && !reading.is_costly("no number"));
    }
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
        // Without its plus sign, this may be a German mobile number.
        ("+1 512-555-0123", "DE", "+15125550123"),
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
        let wanted =
            if expected.is_empty() { Err(PhoneProblem::Letters) } else { Ok(expected.to_owned()) };
        assert_eq!(read(raw, region), wanted, "{raw} {region}");
    }
}

#[test]
fn refuses_what_could_be_another_number() {
    use PhoneProblem::{Ambiguous, Date, Extension, Letters, Several};
    for (raw, region, expected) in [
        ("492214710648", "DE", Ambiguous),
        // In Berlin without its zero, or in Athens without its plus sign.
        ("30 2123456789", "DE", Ambiguous),
        // A mobile number, or one in Rome without its plus sign.
        ("3906 123456", "IT", Ambiguous),
        // A freephone number, or a landline without its zero.
        ("800 123456", "IT", Ambiguous),
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
        ("+443031234567", Cost::UniversalAccess),
        ("+447640123456", Cost::Service),
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
    // In Bucharest and in Iceland, 976 and 555-1212 have no meaning.
    for raw in [
        "+14155550100",
        "+493023125123",
        "+18005550100",
        "+33199001234",
        "+40219761234",
        "+3545551212",
    ] {
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
            let example = PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region.0, kind);
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
