//! Facts that reporters state about contacts, and the events that history keeps of them.

use crate::end_detail::EndDetail;
use serde::{Deserialize, Serialize};

/// Set of events of a contact. It is one number, so that SQL can group by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub i16);

impl Flags {
    /// No event.
    pub const NONE: Self = Self(0);
    /// Opted out.
    pub const REFUSED: Self = Self(1);
    /// Transferred after any time on the call.
    pub const TRANSFERRED: Self = Self(1 << 1);
    /// Transferred after more than 60 seconds.
    pub const TRANSFERRED_OVER_60S: Self = Self(1 << 2);
    /// Transferred after more than 90 seconds.
    pub const TRANSFERRED_OVER_90S: Self = Self(1 << 3);
    /// Transferred after more than 120 seconds.
    pub const TRANSFERRED_OVER_120S: Self = Self(1 << 4);
    /// Reached the campaign's goal.
    pub const SUCCESS: Self = Self(1 << 5);
    /// Clicked a link.
    pub const LINK_OPENED: Self = Self(1 << 6);
    /// Received a text.
    pub const TEXTED: Self = Self(1 << 7);

    /// Returns the union of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether both sets share an event. `NONE` shares none.
    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the events of a transfer after `seconds` on the call. Bounds are strict.
    #[must_use]
    pub fn of_transfer(seconds: i32) -> Self {
        let mut flags = Self::TRANSFERRED;
        let bounds = [
            (60, Self::TRANSFERRED_OVER_60S),
            (90, Self::TRANSFERRED_OVER_90S),
            (120, Self::TRANSFERRED_OVER_120S),
        ];
        for (bound_seconds, flag) in bounds {
            if seconds > bound_seconds {
                flags = flags.with(flag);
            }
        }
        flags
    }
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CallOutcome {
    /// Answered by a person.
    Answered,
    /// Not answered.
    NoAnswer,
    /// Line busy.
    Busy,
    /// Answered by a machine.
    Voicemail,
    /// Could not be placed.
    Failed,
    /// Unknown; a later report replaces it.
    Unknown,
    /// Rejected by the person, who does not want this caller.
    Rejected,
    /// No such number.
    InvalidNumber,
    /// No phone can have rung.
    Congested,
    /// Answered by a person, to whom no agent came.
    Abandoned,
    /// Hung up by the caller before an answer.
    Cancelled,
}

impl CallOutcome {
    /// All outcomes, by number.
    pub const ALL: [Self; 11] = [
        Self::Answered,
        Self::NoAnswer,
        Self::Busy,
        Self::Voicemail,
        Self::Failed,
        Self::Unknown,
        Self::Rejected,
        Self::InvalidNumber,
        Self::Congested,
        Self::Abandoned,
        Self::Cancelled,
    ];

    /// Returns the place in [`Self::ALL`]. The place is stored, so it never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::NoAnswer => 1,
            Self::Busy => 2,
            Self::Voicemail => 3,
            Self::Failed => 4,
            Self::Unknown => 5,
            Self::Rejected => 6,
            Self::InvalidNumber => 7,
            Self::Congested => 8,
            Self::Abandoned => 9,
            Self::Cancelled => 10,
        }
    }

    /// Whether a later report of the same attempt replaces this outcome. A machine may be recognised
    /// only after the end, and then it was no answer by a person. A provisional answer gives way to
    /// every other known outcome.
    #[must_use]
    pub fn gives_way_to(self, later: Self, is_provisional: bool) -> bool {
        match self {
            Self::Unknown => later != Self::Unknown,
            Self::Answered if is_provisional => !matches!(later, Self::Answered | Self::Unknown),
            Self::Answered => later == Self::Voicemail,
            _ => false,
        }
    }

    /// Whether the contact is finished with this outcome, whatever the retry policy says.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Answered | Self::Rejected | Self::InvalidNumber)
    }

    /// Returns the name for programs, in capitals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "ANSWERED",
            Self::NoAnswer => "NO_ANSWER",
            Self::Busy => "BUSY",
            Self::Voicemail => "VOICEMAIL",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Rejected => "REJECTED",
            Self::InvalidNumber => "INVALID_NUMBER",
            Self::Congested => "CONGESTED",
            Self::Abandoned => "ABANDONED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// One reported fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Fact {
    /// An attempt ended.
    CallEnded {
        /// Outcome of the call.
        outcome: CallOutcome,
        /// Length of the call in seconds.
        duration_seconds: i32,
        /// Details, if the provider told any.
        #[serde(default)]
        detail: Option<Box<EndDetail>>,
        /// Whether the provider may still correct an answer: see [`CallOutcome::gives_way_to`].
        #[serde(default)]
        is_provisional: bool,
    },
    /// The call was transferred to a person.
    Transferred {
        /// Seconds on the call before the transfer.
        seconds_before_transfer: i32,
    },
    /// The contact asked not to be engaged again.
    OptedOut {
        /// Channel of the request.
        channel: String,
        /// Whether the opt-out covers every campaign: the number is suppressed too.
        #[serde(default)]
        everywhere: bool,
    },
    /// The campaign's goal was reached.
    Success,
    /// The contact clicked a link.
    LinkOpened {
        /// Address of the link.
        link: String,
    },
    /// A text was sent.
    TextSent,
    /// The contact called in and was answered.
    CalledIn {
        /// Length of the call in seconds.
        duration_seconds: i32,
    },
}

impl Fact {
    /// Returns the end of a call without length or details.
    #[must_use]
    pub fn ended(outcome: CallOutcome) -> Self {
        Self::CallEnded { outcome, duration_seconds: 0, detail: None, is_provisional: false }
    }

    /// Whether the fact counts now, whatever the epoch of its attempt. An opt-out after a reset
    /// still counts.
    #[must_use]
    pub fn outlives_reset(&self) -> bool {
        matches!(self, Self::OptedOut { .. })
    }

    /// Whether the number must be suppressed as well.
    #[must_use]
    pub fn suppresses(&self) -> bool {
        matches!(self, Self::OptedOut { everywhere: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opt_out(everywhere: bool) -> Fact {
        Fact::OptedOut { channel: "SMS".to_owned(), everywhere }
    }

    #[test]
    fn events_are_stored_as_bits_that_never_change() {
        let all = [
            (Flags::REFUSED, 1),
            (Flags::TRANSFERRED, 2),
            (Flags::TRANSFERRED_OVER_60S, 4),
            (Flags::TRANSFERRED_OVER_90S, 8),
            (Flags::TRANSFERRED_OVER_120S, 16),
            (Flags::SUCCESS, 32),
            (Flags::LINK_OPENED, 64),
            (Flags::TEXTED, 128),
        ];
        for (flag, stored) in all {
            assert_eq!(flag.0, stored);
            assert!(!flag.intersects(Flags::NONE));
        }
    }

    #[test]
    fn an_event_that_happens_again_stays() {
        let both = Flags::SUCCESS.with(Flags::TEXTED);
        assert_eq!(both.with(Flags::TEXTED), both);
        assert!(both.intersects(Flags::SUCCESS) && both.intersects(Flags::TEXTED));
        assert!(!both.intersects(Flags::REFUSED));
    }

    #[test]
    fn outcomes_are_stored_by_a_number_and_told_by_a_name_that_never_change() {
        let names = [
            "ANSWERED",
            "NO_ANSWER",
            "BUSY",
            "VOICEMAIL",
            "FAILED",
            "UNKNOWN",
            "REJECTED",
            "INVALID_NUMBER",
            "CONGESTED",
            "ABANDONED",
            "CANCELLED",
        ];
        let numbers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        assert_eq!(CallOutcome::ALL.map(CallOutcome::number), numbers);
        assert_eq!(CallOutcome::ALL.map(CallOutcome::name), names);
    }

    #[test]
    fn only_unknown_and_an_answer_are_corrected() {
        use CallOutcome::{Answered, Unknown, Voicemail};
        for before in CallOutcome::ALL {
            for later in CallOutcome::ALL {
                let pair = format!("{before:?}, then {later:?}");
                let is_known_at_last = before == Unknown && later != Unknown;
                let expected = is_known_at_last || (before, later) == (Answered, Voicemail);
                assert_eq!(before.gives_way_to(later, false), expected, "{pair}");
                let concluded = before == Answered && ![Answered, Unknown].contains(&later);
                assert_eq!(
                    before.gives_way_to(later, true),
                    is_known_at_last || concluded,
                    "{pair}"
                );
            }
        }
    }

    #[test]
    fn only_an_opt_out_outlives_a_reset_and_suppresses_if_it_is_meant_everywhere() {
        assert!(opt_out(false).outlives_reset() && opt_out(true).outlives_reset());
        assert!(opt_out(true).suppresses() && !opt_out(false).suppresses());
        for fact in [
            Fact::ended(CallOutcome::Answered),
            Fact::Transferred { seconds_before_transfer: 9 },
            Fact::Success,
            Fact::LinkOpened { link: String::new() },
            Fact::TextSent,
            Fact::CalledIn { duration_seconds: 9 },
        ] {
            assert!(!fact.outlives_reset() && !fact.suppresses(), "{fact:?}");
        }
    }
}
