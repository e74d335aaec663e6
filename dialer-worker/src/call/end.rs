//! End of a call: its outcome, and the details that the provider told.

use std::time::Duration;

use campaign_proto::v1::{CallEndDetail, CallOutcome, CallParty};

/// Longest text of a detail, in characters. A longer text is cut.
pub const MAX_TEXT_CHARS: usize = 200;

/// End of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// Outcome of the call.
    pub outcome: Outcome,
    /// Time from answer to end; zero if nobody answered.
    pub duration: Duration,
    /// Details that the provider told.
    pub detail: EndDetail,
    /// Whether the provider may still correct an answer, with another end of the same attempt.
    pub is_provisional: bool,
}

impl CallEnd {
    /// Returns the end of a call, without any detail. It is the provider's last word.
    #[must_use]
    pub fn new(outcome: Outcome, duration: Duration) -> Self {
        Self { outcome, duration, detail: EndDetail::default(), is_provisional: false }
    }

    /// Returns the end of a call that nobody answered.
    #[must_use]
    pub fn unanswered(outcome: Outcome) -> Self {
        Self::new(outcome, Duration::ZERO)
    }

    /// Adds the details that the provider told.
    #[must_use]
    pub fn with(mut self, detail: EndDetail) -> Self {
        self.detail = detail;
        self
    }

    /// Sets whether the provider may still correct an answer.
    #[must_use]
    pub fn provisional(mut self, is_provisional: bool) -> Self {
        self.is_provisional = is_provisional;
        self
    }
}

/// Details of the end of a call, as the provider told them. Each part is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndDetail {
    /// Status code: that of SIP, or the platform's own.
    pub code: Option<u16>,
    /// Cause by Q.850, 1 to 127.
    pub cause: Option<u8>,
    /// Provider's own id of the call.
    pub provider_call_id: Option<String>,
    /// Reason in words. Must name nobody. See [`MAX_TEXT_CHARS`].
    pub reason: Option<String>,
    /// Party that ended the call.
    pub hung_up_by: Option<Party>,
}

impl EndDetail {
    /// Converts to the API's detail. Returns `None` if there is nothing to tell.
    pub(crate) fn to_api(&self) -> Option<CallEndDetail> {
        let text = |text: &Option<String>| text.as_deref().map(bounded).unwrap_or_default();
        let detail = CallEndDetail {
            status_code: self.code.map_or(0, i32::from),
            q850_cause: self.cause.map_or(0, i32::from),
            provider_call_id: text(&self.provider_call_id),
            reason: text(&self.reason),
            hung_up_by: self.hung_up_by.map_or(CallParty::Unspecified, Party::to_api).into(),
        };
        (detail != CallEndDetail::default()).then_some(detail)
    }
}

/// Returns a text with at most [`MAX_TEXT_CHARS`] characters and no control characters.
fn bounded(text: &str) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    text.trim().chars().take(MAX_TEXT_CHARS).map(printable).collect()
}

/// Party of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Caller: this worker, by itself or because the service told it to.
    Caller,
    /// Person who was called, or the machine that answered.
    Contact,
    /// Agent who talked to the contact.
    Agent,
    /// Provider, trunk or network.
    Provider,
}

impl Party {
    fn to_api(self) -> CallParty {
        match self {
            Self::Caller => CallParty::Caller,
            Self::Contact => CallParty::Contact,
            Self::Agent => CallParty::Agent,
            Self::Provider => CallParty::Provider,
        }
    }
}

/// Outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Answered by a person.
    Answered,
    /// Rang, but nobody answered.
    NoAnswer,
    /// Line busy.
    Busy,
    /// Answered by a machine.
    Voicemail,
    /// Could not be placed, for a reason of this contact or an unclear one.
    Failed,
    /// Unknown: the phone may have rung. The service's retry policy decides on a retry. A real
    /// outcome that arrives later replaces this one.
    Unknown,
    /// The person rejects this caller, as by SIP code 607. The contact is not tried again.
    Rejected,
    /// No such number. The contact is not tried again.
    InvalidNumber,
    /// No phone can have rung: the trunk or the network failed, or nothing was asked of the
    /// provider. The service gives the attempt back.
    Congested,
    /// A person answered, and no agent came to talk.
    Abandoned,
    /// This worker hung up before an answer, and the phone may have rung.
    Cancelled,
}

impl Outcome {
    /// All outcomes, in order.
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

    /// Converts to the API's outcome.
    #[must_use]
    pub fn to_api(self) -> CallOutcome {
        match self {
            Self::Answered => CallOutcome::Answered,
            Self::NoAnswer => CallOutcome::NoAnswer,
            Self::Busy => CallOutcome::Busy,
            Self::Voicemail => CallOutcome::Voicemail,
            Self::Failed => CallOutcome::Failed,
            Self::Unknown => CallOutcome::Unknown,
            Self::Rejected => CallOutcome::Rejected,
            Self::InvalidNumber => CallOutcome::InvalidNumber,
            Self::Congested => CallOutcome::Congested,
            Self::Abandoned => CallOutcome::Abandoned,
            Self::Cancelled => CallOutcome::Cancelled,
        }
    }

    /// Returns the API's name of the outcome, for metrics and traces.
    #[must_use]
    pub fn name(self) -> &'static str {
        let name = self.to_api().as_str_name();
        name.strip_prefix("CALL_OUTCOME_").unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_detail_is_sent() {
        let detail = EndDetail {
            code: Some(486),
            cause: Some(17),
            provider_call_id: Some("CA12".to_owned()),
            reason: Some("User Busy".to_owned()),
            hung_up_by: Some(Party::Contact),
        };
        let expected = CallEndDetail {
            status_code: 486,
            q850_cause: 17,
            provider_call_id: "CA12".to_owned(),
            reason: "User Busy".to_owned(),
            hung_up_by: CallParty::Contact.into(),
        };
        assert_eq!(detail.to_api(), Some(expected));
        assert_eq!(EndDetail::default().to_api(), None, "nothing is sent when nothing was told");
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        let reason = format!(" line\r\none\u{7f}{}", "é".repeat(300));
        let sent = EndDetail { reason: Some(reason), ..EndDetail::default() }.to_api();
        let text = sent.expect("there is a reason").reason;
        assert_eq!(text.chars().count(), MAX_TEXT_CHARS);
        assert!(text.starts_with("line  one é"), "{text}");
        assert!(!text.chars().any(char::is_control));
    }

    #[test]
    fn outcomes_have_the_names_of_the_api() {
        let names = Outcome::ALL.map(Outcome::name);
        assert_eq!(
            names[5..],
            ["UNKNOWN", "REJECTED", "INVALID_NUMBER", "CONGESTED", "ABANDONED", "CANCELLED"]
        );
    }
}
