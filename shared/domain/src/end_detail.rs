//! Details of the end of a call, as the provider told them.

use serde::{Deserialize, Serialize};

/// Longest text, in characters.
pub const MAX_TEXT_CHARS: usize = 200;
/// Highest cause that Q.850 has room for.
const MAX_CAUSE: u8 = 127;

/// Party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Party {
    /// Caller: the worker, by itself or by command.
    Caller,
    /// Contact, or the machine that answered.
    Contact,
    /// Agent who talked to the contact.
    Agent,
    /// Provider, trunk or network.
    Provider,
}

impl Party {
    /// All parties, by number.
    pub const ALL: [Self; 4] = [Self::Caller, Self::Contact, Self::Agent, Self::Provider];

    /// Returns the place in [`Self::ALL`], from 1. The place is stored, so it never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Caller => 1,
            Self::Contact => 2,
            Self::Agent => 3,
            Self::Provider => 4,
        }
    }

    /// Returns the party with a number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|party| party.number() == number)
    }
}

/// Details of the end of a call. Each part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndDetail {
    /// Status code of SIP or of the platform.
    pub code: Option<u16>,
    /// Cause by Q.850, 1 to 127.
    pub cause: Option<u8>,
    /// Provider's own id of the call. Empty if not told.
    pub provider_call_id: String,
    /// Reason in words. Empty if not told.
    pub reason: String,
    /// Party that ended the call.
    pub hung_up_by: Option<Party>,
}

impl EndDetail {
    /// Returns the detail without the parts that do not fit: codes out of range are left out, and
    /// texts are cut. The end of a call is never rejected for what a provider said about it.
    /// Returns `None` if nothing is left.
    #[must_use]
    pub fn bounded(mut self) -> Option<Self> {
        self.code = self.code.filter(|code| *code > 0);
        self.cause = self.cause.filter(|cause| (1..=MAX_CAUSE).contains(cause));
        for text in [&mut self.provider_call_id, &mut self.reason] {
            *text = bounded(text);
        }
        (self != Self::default()).then_some(self)
    }
}

/// Returns a text with at most [`MAX_TEXT_CHARS`] characters and no control characters.
fn bounded(text: &str) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    let text: String = text.trim().chars().take(MAX_TEXT_CHARS).map(printable).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_are_stored_by_numbers_that_never_change() {
        assert_eq!(Party::ALL.map(Party::number), [1, 2, 3, 4]);
        for party in Party::ALL {
            assert_eq!(Party::from_number(party.number()), Some(party));
        }
        assert_eq!((Party::from_number(0), Party::from_number(5)), (None, None));
    }

    #[test]
    fn parts_that_do_not_fit_are_cut_or_left_out() {
        let wrong = EndDetail { code: Some(0), cause: Some(128), ..EndDetail::default() };
        assert_eq!(wrong.bounded(), None);
        assert_eq!(EndDetail { cause: Some(0), ..EndDetail::default() }.bounded(), None);
        assert_eq!(
            EndDetail { reason: "\r\n ".to_owned(), ..EndDetail::default() }.bounded(),
            None
        );
        let long = EndDetail {
            code: Some(486),
            cause: Some(127),
            provider_call_id: " a\tb\0".to_owned(),
            reason: "ü".repeat(201),
            hung_up_by: Some(Party::Agent),
        };
        let fitting = EndDetail {
            provider_call_id: "a b".to_owned(),
            reason: "ü".repeat(200),
            ..long.clone()
        };
        assert_eq!(long.bounded(), Some(fitting.clone()));
        assert_eq!(fitting.clone().bounded(), Some(fitting), "what fits stays");
    }
}
