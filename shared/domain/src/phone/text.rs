//! Normalisation of texts that people write as phone numbers.

use super::problem::PhoneProblem;

/// Zeros of scripts in which people write numbers; each is followed by the other nine digits.
/// Unicode 16, general category Nd.
const ZEROS: [u32; 19] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66,
    0x0e50, 0x0ed0, 0x0f20, 0x1040, 0x17e0, 0x1810, 0xff10,
];
/// Words that precede an extension.
const EXTENSION_WORDS: [&str; 9] =
    ["x", "ext", "extn", "extension", "app", "apparat", "durchwahl", "poste", "int"];

/// Returns the text with ASCII digits, one kind of each sign, and no invisible characters.
///
/// # Errors
/// [`PhoneProblem`] if the text is clearly not one number.
pub(super) fn clean(raw: &str) -> Result<String, PhoneProblem> {
    let text: String = raw.chars().filter(|char| !is_invisible(*char)).map(plain).collect();
    // Spreadsheets mark text with an apostrophe, or as a formula.
    let is_mark = |char: char| char.is_whitespace() || matches!(char, '\'' | '"' | '=');
    let mut text = text.trim_matches(is_mark);
    if text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("tel:")) {
        text = text[4..].trim_start();
    }
    let text = without_decimals(text)?;
    check_signs(text)?;
    if is_date(text) {
        return Err(PhoneProblem::Date);
    }
    Ok(text.to_owned())
}

/// Whether a character is invisible: direction marks, joiners, variation selectors and similar.
fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0100}'..='\u{e01ef}')
}

fn plain(char: char) -> char {
    let digit =
        ZEROS.iter().find_map(|zero| u32::from(char).checked_sub(*zero).filter(|d| *d < 10));
    if let Some(digit) = digit.and_then(|digit| char::from_digit(digit, 10)) {
        return digit;
    }
    match char {
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{ff0b}' | '\u{fe62}' => '+',
        '\u{ff08}' => '(',
        '\u{ff09}' => ')',
        '\u{ff0e}' | '\u{b7}' | '\u{2022}' => '.',
        '\u{ff0f}' => '/',
        '\u{2018}' | '\u{2019}' | '`' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        // Line breaks stay, because they separate two numbers.
        char if char.is_whitespace() && !matches!(char, '\n' | '\r') => ' ',
        char => char,
    }
}

/// Removes the decimals that a spreadsheet adds to a number it took for an amount.
///
/// # Errors
/// [`PhoneProblem::Several`] if dots separate the number too: the last part may belong to it.
fn without_decimals(text: &str) -> Result<&str, PhoneProblem> {
    let Some((whole, decimals)) = text.rsplit_once(['.', ',']) else { return Ok(text) };
    let is_plain = whole.len() >= 5 && whole.bytes().all(|byte| byte.is_ascii_digit());
    match decimals {
        "0" | "00" if whole.contains(['.', ',']) => Err(PhoneProblem::Several),
        "0" | "00" => Ok(whole),
        _ if is_plain && decimals.len() <= 2 => Err(PhoneProblem::Several),
        _ => Ok(text),
    }
}

fn check_signs(text: &str) -> Result<(), PhoneProblem> {
    // No country code begins with 0: ITU-T E.164.
    if text.trim_start_matches(['(', '[', ' ']).starts_with("+0") {
        return Err(PhoneProblem::Invalid);
    }
    if text.rsplit_once('/').is_some_and(|(_, last)| last.trim().len() <= 3) {
        return Err(PhoneProblem::Several);
    }
    let plus = text.char_indices().filter(|(_, char)| *char == '+');
    let is_first = |at: usize| text[..at].chars().all(|char| matches!(char, '(' | '[' | ' '));
    if plus.clone().count() > 1 || plus.clone().any(|(at, _)| !is_first(at)) {
        return Err(PhoneProblem::Several);
    }
    for (at, char) in text.char_indices() {
        match char {
            '0'..='9' | '+' | '-' | '.' | '(' | ')' | '[' | ']' | '/' | ' ' => {}
            ',' | '&' | '|' | '~' | '\n' | '\r' => return Err(PhoneProblem::Several),
            ';' if text[at..].to_ascii_lowercase().starts_with(";ext=") => {
                return Err(PhoneProblem::Extension);
            }
            ';' => return Err(PhoneProblem::Several),
            '#' => return Err(PhoneProblem::Extension),
            char if char.is_alphabetic() => return Err(of_letters(text, at)),
            _ => return Err(PhoneProblem::Invalid),
        }
    }
    Ok(())
}

/// Returns the problem that the letters at `at` indicate.
fn of_letters(text: &str, at: usize) -> PhoneProblem {
    let (before, after) = text.split_at(at);
    let rest = after.trim_start_matches(char::is_alphabetic);
    let word = after[..after.len() - rest.len()].to_lowercase();
    let is_number = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit());
    let is_extension = is_number(before) && is_number(rest) && EXTENSION_WORDS.contains(&&*word);
    if is_extension { PhoneProblem::Extension } else { PhoneProblem::Letters }
}

/// Whether a text is a date, as in 12.03.1985.
fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        && matches!(lengths[..], [1..=2, 1..=2, 4])
}

/// Returns the part that may be a number of its own, if the rest may end a second number or a
/// range. The rest follows a slash, or a hyphen and has up to three digits. A single 0 after a
/// hyphen denotes a switchboard.
pub(super) fn first_of_several(text: &str) -> Option<&str> {
    if let Some((first, _)) = text.split_once('/') {
        return Some(first);
    }
    let (first, last) = text.rsplit_once('-')?;
    let last = last.trim();
    let is_short = (1..=3).contains(&last.len()) && last.bytes().all(|byte| byte.is_ascii_digit());
    (is_short && last != "0").then_some(first)
}

#[cfg(test)]
mod tests {
    use super::PhoneProblem::{Date, Extension, Invalid, Letters, Several};
    use super::*;

    #[test]
    fn spaces_of_all_kinds_become_one_kind_and_line_breaks_stay() {
        assert_eq!(clean("030\t231\u{a0}25\u{2009}123").as_deref(), Ok("030 231 25 123"));
        assert_eq!(clean("030 23125123\r0171 2345678"), Err(Several));
        assert_eq!((plain('\n'), plain('\r')), ('\n', '\r'));
    }

    #[test]
    fn digits_of_a_script_are_those_from_its_zero_to_its_nine() {
        assert_eq!(['\u{660}', '\u{669}', '\u{66a}'].map(plain), ['0', '9', '\u{66a}']);
        assert_eq!(['\u{65f}', '\u{ff10}', '\u{ff19}'].map(plain), ['\u{65f}', '0', '9']);
    }

    #[test]
    fn a_scheme_is_removed_in_any_case() {
        assert_eq!(clean("TEL: +49 30").as_deref(), Ok("+49 30"));
        assert_eq!(clean("tel").as_deref(), Err(&Letters));
    }

    #[test]
    fn decimals_are_removed_if_they_are_zero_and_make_an_amount_otherwise() {
        for (text, wanted) in [
            ("12345.0", Ok("12345")),
            ("12345,00", Ok("12345")),
            ("12345.000", Ok("12345.000")),
            ("1.2345.0", Err(Several)),
            ("12345.6", Err(Several)),
            ("12345.67", Err(Several)),
            ("12345.678", Ok("12345.678")),
            ("1234.5", Ok("1234.5")),
            ("(030)12345.6", Ok("(030)12345.6")),
            ("12345", Ok("12345")),
        ] {
            assert_eq!(without_decimals(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_plus_sign_is_first_alone_and_before_no_zero() {
        for good in ["+49 30", "(+49) 30", "[ +49 ] 30", "49 30"] {
            assert_eq!(check_signs(good), Ok(()), "{good}");
        }
        for (bad, problem) in [
            ("+049 30", Invalid),
            ("(+0", Invalid),
            ("+49 +30", Several),
            ("++49", Several),
            ("49+30", Several),
            ("0+49", Several),
        ] {
            assert_eq!(check_signs(bad), Err(problem), "{bad}");
        }
    }

    #[test]
    fn signs_tell_why_a_text_is_no_number() {
        for (text, wanted) in [
            ("030/1234", Ok(())),
            ("030/123", Err(Several)),
            ("030/ 12 ", Err(Several)),
            ("030;0171", Err(Several)),
            ("030;EXT=7", Err(Extension)),
            ("030#7", Err(Extension)),
            ("030*7", Err(Invalid)),
            ("030&0171", Err(Several)),
            ("O30", Err(Letters)),
        ] {
            assert_eq!(check_signs(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_extension_follows_a_number_and_precedes_one() {
        for (text, at, wanted) in [
            ("030 x7", 4, Extension),
            ("030 Durchwahl 7", 4, Extension),
            ("030 x", 4, Letters),
            ("x7", 0, Letters),
            ("030 y7", 4, Letters),
        ] {
            assert_eq!(of_letters(text, at), wanted, "{text}");
        }
    }

    #[test]
    fn a_date_has_a_day_a_month_and_a_year() {
        for date in ["1.3.1985", "12.03.1985"] {
            assert_eq!(clean(date), Err(Date), "{date}");
        }
        for other in ["123.03.1985", "12.03.19850", "12.031985", "12..1985", "1.2.3.1985"] {
            assert!(!is_date(other), "{other}");
        }
    }

    #[test]
    fn a_short_end_after_a_hyphen_may_be_a_range_but_0_is_a_switchboard() {
        for (text, first) in [
            ("030 1/030 2", Some("030 1")),
            ("030 23125-25", Some("030 23125")),
            ("030 23125-123", Some("030 23125")),
            ("030 23125-7", Some("030 23125")),
            ("030 23125-0", None),
            ("030 23125-1234", None),
            ("030 23125-", None),
            ("030 23125-(1", None),
            ("030 23125", None),
        ] {
            assert_eq!(first_of_several(text), first, "{text}");
        }
    }
}
