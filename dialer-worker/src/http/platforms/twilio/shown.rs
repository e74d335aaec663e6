//! State of a call or text, as callbacks and look-ups show it.

use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822;
use serde::Deserialize;

use super::endings::{call_ending, message_ending};
use super::signed::Form;
use crate::call::{CallEnd, EndDetail, Fact, Outcome, Party};
use crate::http::events::{End, Shows, What};

/// Longest difference of clocks between Twilio and this machine.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10);

/// Call or message of Twilio's API.
#[derive(Deserialize)]
pub(super) struct Resource {
    pub sid: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    duration: Option<String>,
    #[serde(default)]
    answered_by: Option<String>,
    #[serde(default)]
    error_code: Option<u16>,
    #[serde(default)]
    date_created: Option<String>,
}

/// State of a call or message.
pub(super) struct Shown<'a> {
    sid: &'a str,
    status: &'a str,
    duration: Duration,
    answered_by: &'a str,
    /// Last answer of the carrier; none if Twilio does not say.
    sip_code: Option<u16>,
    error_code: Option<u16>,
}

impl Resource {
    pub fn shown(&self) -> Shown<'_> {
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        Shown {
            sid: &self.sid,
            status: &self.status,
            duration: seconds(&text(&self.duration)),
            answered_by: self.answered_by.as_deref().unwrap_or_default(),
            sip_code: None,
            error_code: self.error_code,
        }
    }
}

/// Whether a resource was created since a time.
pub(super) fn is_since(resource: &Resource, time: SystemTime) -> bool {
    let created = resource.date_created.as_deref().and_then(|date| rfc2822::parse(date).ok());
    let created = created.and_then(|at| SystemTime::try_from(at.timestamp()).ok());
    created.is_some_and(|at| at + CLOCK_DIFFERENCE >= time)
}

impl<'a> Shown<'a> {
    pub fn of_form(form: &'a Form<'_>) -> Self {
        let is_message = !form.get("MessageSid").is_empty();
        let (sid, status) =
            if is_message { ("MessageSid", "MessageStatus") } else { ("CallSid", "CallStatus") };
        Self {
            sid: form.get(sid),
            status: form.get(status),
            duration: seconds(form.get("CallDuration")),
            answered_by: form.get("AnsweredBy"),
            sip_code: form.get("SipResponseCode").parse().ok(),
            error_code: form.get("ErrorCode").parse().ok(),
        }
    }

    /// Returns everything that a call's state shows. A verdict on the voice that follows the end
    /// corrects it.
    pub fn of_call(&self) -> Vec<What> {
        let mut whats = Vec::new();
        if !self.answered_by.is_empty() {
            let is_machine = self.answered_by.starts_with("machine") || self.answered_by == "fax";
            whats.push(What::AnsweredBy { is_machine, id: self.sid.to_owned() });
        }
        match self.status {
            "ringing" => whats.push(What::Rings),
            "in-progress" => whats.push(What::Answered),
            "completed" => {
                whats.push(What::Ended(self.end(Outcome::Answered, self.duration, Shows::Works)));
            }
            "busy" => whats.push(self.unanswered(Outcome::Busy, Shows::Works)),
            "no-answer" => whats.push(self.unanswered(Outcome::NoAnswer, Shows::Works)),
            "canceled" => whats.push(self.unanswered(Outcome::Cancelled, Shows::Nothing)),
            "failed" => {
                let (outcome, shows) = call_ending(self.sip_code, self.error_code);
                whats.push(self.unanswered(outcome, shows));
            }
            _ => {}
        }
        whats
    }

    /// Returns everything that a message's state shows. Not every carrier sends a receipt, so a text
    /// that was sent counts as answered until a receipt says otherwise.
    pub fn of_message(&self) -> Vec<What> {
        let sent = |is_provisional, shows| {
            let End { end, shows } = self.end(Outcome::Answered, Duration::ZERO, shows);
            let end = End::new(end.provisional(is_provisional), shows);
            vec![What::Fact(Fact::TextSent), What::Ended(end)]
        };
        match self.status {
            // The receipt may still tell of trouble with the account.
            "sent" => sent(true, Shows::Nothing),
            "delivered" | "partially_delivered" | "read" => sent(false, Shows::Works),
            "canceled" => vec![self.unanswered(Outcome::Cancelled, Shows::Nothing)],
            "failed" | "undelivered" => {
                let (outcome, shows, opted_out) = message_ending(self.error_code);
                opted_out.into_iter().chain([self.unanswered(outcome, shows)]).collect()
            }
            _ => Vec::new(),
        }
    }

    fn unanswered(&self, outcome: Outcome, shows: Shows) -> What {
        What::Ended(self.end(outcome, Duration::ZERO, shows))
    }

    fn end(&self, outcome: Outcome, duration: Duration, shows: Shows) -> End {
        let detail = EndDetail {
            code: self.error_code.or(self.sip_code),
            provider_call_id: Some(self.sid.to_owned()),
            reason: Some(self.status.to_owned()),
            hung_up_by: (outcome == Outcome::Cancelled).then_some(Party::Caller),
            ..EndDetail::default()
        };
        End::new(CallEnd::new(outcome, duration).with(detail), shows)
    }
}

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap_or_default())
}
