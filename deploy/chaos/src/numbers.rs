//! Numbers set aside for fiction: North American 555-01xx, in many areas.

const AREAS: [u16; 60] = [
    201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224, 225,
    228, 229, 231, 234, 239, 240, 248, 251, 252, 253, 254, 256, 260, 262, 267, 269, 270, 276, 281,
    301, 302, 303, 304, 305, 307, 308, 309, 310, 312, 313, 314, 315, 316, 317, 318, 319, 320, 321,
    323, 325, 330,
];
/// Phone numbers of one history.
pub const NUMBERS_EACH: usize = 50;
/// Numbers of the crowd's people, the last ones.
pub const NUMBERS_OF_CROWD: usize = 300;
/// Number of histories that have numbers of their own.
pub const MAX_HISTORIES: usize = (AREAS.len() * 100 - NUMBERS_OF_CROWD) / NUMBERS_EACH;

/// Returns the n-th number of a history.
#[must_use]
pub fn number(history: usize, n: usize) -> String {
    nth(history * NUMBERS_EACH + n % NUMBERS_EACH)
}

/// Returns the n-th number of the crowd.
#[must_use]
pub fn of_crowd(n: usize) -> String {
    nth(MAX_HISTORIES * NUMBERS_EACH + n)
}

fn nth(at: usize) -> String {
    format!("+1{}55501{:02}", AREAS[at / 100 % AREAS.len()], at % 100)
}

/// Returns the name of the person with a number: the number's digits as letters, a to j.
#[must_use]
pub fn name(number: &str) -> String {
    let digits = number.chars().filter_map(|digit| digit.to_digit(10));
    digits.filter_map(|digit| char::from_digit(digit + 10, 20)).collect()
}
