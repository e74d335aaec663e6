//! Spellings of one subscriber's number.
//!
//! | country | spellings | source |
//! |---|---|---|
//! | Mexico | +52 and, until 2019 for mobile numbers, +52 1 | IFT, Plan Técnico Fundamental de Numeración |
//! | Argentina | +54 and, for mobile numbers from abroad, +54 9 | ENACOM, Plan Fundamental de Numeración Nacional |
//! | Brazil | mobile numbers with and without the ninth digit | Anatel, Resolução 553/2010 |

use std::borrow::Cow;

/// Returns all spellings of an E.164 number; the number itself comes first.
#[must_use]
pub fn spellings(e164: &str) -> Vec<Cow<'_, str>> {
    let other = other_spelling(e164).map(Cow::Owned);
    std::iter::once(Cow::Borrowed(e164)).chain(other).collect()
}

/// Returns all spellings of some E.164 numbers, in order and each once.
#[must_use]
pub fn all_spellings<'a>(numbers: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> =
        numbers.into_iter().flat_map(spellings).map(Cow::into_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Returns one spelling that stands for all of an E.164 number: the shortest.
#[must_use]
pub fn canonical(e164: &str) -> Cow<'_, str> {
    let shorter = other_spelling(e164).filter(|other| other.len() < e164.len());
    shorter.map_or(Cow::Borrowed(e164), Cow::Owned)
}

/// Returns the other spelling of an E.164 number that has two.
pub(crate) fn other_spelling(e164: &str) -> Option<String> {
    let digits = e164.strip_prefix('+')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (country, national) = digits.split_at_checked(2)?;
    match (country, national.len()) {
        ("52", 11) => Some(format!("+52{}", national.strip_prefix('1')?)),
        ("52", 10) => Some(format!("+521{national}")),
        ("54", 11) => Some(format!("+54{}", national.strip_prefix('9')?)),
        ("54", 10) => Some(format!("+549{national}")),
        ("55", 11) => {
            let (area, number) = national.split_at(2);
            let short = number.strip_prefix('9').filter(|short| is_brazilian_mobile(short))?;
            Some(format!("+55{area}{short}"))
        }
        ("55", 10) => {
            let (area, number) = national.split_at(2);
            is_brazilian_mobile(number).then(|| format!("+55{area}9{number}"))
        }
        _ => None,
    }
}

/// Whether the eight digits of a number without its ninth digit are a mobile phone's.
fn is_brazilian_mobile(digits: &str) -> bool {
    digits.starts_with(['6', '7', '8', '9'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_subscriber_name_each_other() {
        for (long, short) in [
            ("+5215512345678", "+525512345678"),
            ("+5491123456789", "+541123456789"),
            ("+5511987654321", "+551187654321"),
        ] {
            assert_eq!(spellings(long), [long, short]);
            assert_eq!(spellings(short), [short, long]);
            assert_eq!((canonical(long), canonical(short)), (Cow::from(short), Cow::from(short)));
        }
        let all = all_spellings(["+5215512345678", "+525512345678", "+14155550100"]);
        assert_eq!(all, ["+14155550100", "+5215512345678", "+525512345678"]);
    }

    #[test]
    fn all_others_have_one_spelling() {
        // A landline in São Paulo, a Mexican number that begins with 1, others, and texts that are
        // not numbers.
        for only in ["+551123456789", "+14155550100", "+4930901820", "+52123", "", "+", "erased:ab"]
        {
            assert_eq!(spellings(only), [only]);
        }
    }
}
