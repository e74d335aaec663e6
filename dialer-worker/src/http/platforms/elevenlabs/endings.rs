//! Endings of ElevenLabs' calls.

use serde_json::Value;

use super::super::carrier;
use crate::call::{Fault, Outcome};
use crate::http::events::Shows;
use crate::http::platform::{Created, Means};

/// Results of a call, by `call_result` and by the reason of a failed beginning.
const RESULTS: &[(&str, Outcome, Shows)] = &[
    ("answered", Outcome::Answered, Shows::Works),
    ("voicemail", Outcome::Voicemail, Shows::Works),
    ("busy", Outcome::Busy, Shows::Works),
    ("no_answer", Outcome::NoAnswer, Shows::Works),
    ("no-answer", Outcome::NoAnswer, Shows::Works),
];
/// Sign of a call that failed without a code.
const UNPLACED: (Outcome, Shows) = (Outcome::Failed, Shows::Unrung(500));
const BROKEN: Shows = Shows::Fault(Fault::Told("an error of the agent"));

/// Parts of a conversation that tell how it ended.
pub(super) struct Told<'a> {
    pub has_failed: bool,
    pub has_error: bool,
    pub call_result: Option<&'a str>,
    pub is_voicemail: bool,
    pub was_connected: bool,
}

/// Returns the outcome of a conversation, and what that shows.
pub(super) fn ending(told: &Told<'_>) -> (Outcome, Shows) {
    if told.is_voicemail {
        return (Outcome::Voicemail, Shows::Works);
    }
    let result = told.call_result.and_then(result);
    match result {
        // A person answered, and the agent broke.
        Some((Outcome::Answered, _)) | None if told.has_failed && told.has_error => {
            let outcome = if told.was_connected { Outcome::Abandoned } else { Outcome::Congested };
            (outcome, BROKEN)
        }
        Some(ending) => ending,
        None if told.was_connected => (Outcome::Answered, Shows::Works),
        None => UNPLACED,
    }
}

/// Returns the outcome of a call that reached nobody, what that shows, and the carrier's code.
pub(super) fn initiation_failure(reason: &str, metadata: &Value) -> (Outcome, Shows, Option<u16>) {
    let body = &metadata["body"];
    let code = ["SipResponseCode", "sip_status_code", "sip_code"].iter().find_map(|name| {
        let value = &body[name];
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    });
    let code = code.and_then(|code| u16::try_from(code).ok());
    let (outcome, shows) = result(reason).or(code.map(carrier::ending)).unwrap_or(UNPLACED);
    (outcome, shows, code)
}

/// Returns the meaning of a request that was answered with `success: false`. The code, of the
/// carrier or of the account, is only in the text.
pub(super) fn refusal(body: &[u8]) -> Created {
    let code = code(body);
    let (outcome, shows) = code.map_or(UNPLACED, carrier::ending);
    let is_fault = matches!(shows, Shows::Fault(_));
    let means = if is_fault { Means::Provider } else { Means::Contact(outcome) };
    Created::Refused { code: code.unwrap_or(500), means, retry_after: None }
}

/// Returns the first SIP or HTTP code in a text.
fn code(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body);
    let numbers = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '+');
    numbers.filter(|word| word.len() == 3).find_map(|word| {
        let code: u16 = word.parse().ok()?;
        (400..700).contains(&code).then_some(code)
    })
}

fn result(name: &str) -> Option<(Outcome, Shows)> {
    let row = RESULTS.iter().find(|(own, ..)| *own == name);
    row.map(|(_, outcome, shows)| (*outcome, *shows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOLD: Told<'static> = Told {
        has_failed: false,
        has_error: false,
        call_result: None,
        is_voicemail: false,
        was_connected: true,
    };

    #[test]
    fn conversations_end_by_their_result_if_there_is_one() {
        let of = |result| ending(&Told { call_result: Some(result), ..TOLD }).0;
        assert_eq!(of("voicemail"), Outcome::Voicemail);
        assert_eq!(of("no_answer"), Outcome::NoAnswer);
        assert_eq!(ending(&TOLD).0, Outcome::Answered);
        assert_eq!(ending(&Told { was_connected: false, ..TOLD }), UNPLACED);
        assert_eq!(ending(&Told { is_voicemail: true, ..TOLD }).0, Outcome::Voicemail);
    }

    #[test]
    fn an_agent_that_breaks_is_the_platforms_fault() {
        let broken = Told { has_failed: true, has_error: true, ..TOLD };
        assert_eq!(ending(&broken), (Outcome::Abandoned, BROKEN));
        let unheard = Told { was_connected: false, ..broken };
        assert_eq!(ending(&unheard), (Outcome::Congested, BROKEN));
    }

    #[test]
    fn failures_to_begin_are_told_apart_by_reason_and_code() {
        let failed = |reason, body| initiation_failure(reason, &json!({"body": body})).0;
        assert_eq!(failed("busy", json!({})), Outcome::Busy);
        assert_eq!(failed("no-answer", json!({})), Outcome::NoAnswer);
        assert_eq!(failed("unknown", json!({"SipResponseCode": "404"})), Outcome::InvalidNumber);
        assert_eq!(failed("unknown", json!({"sip_status_code": 503})), Outcome::Congested);
        assert_eq!(failed("unknown", json!({})), Outcome::Failed);
    }

    #[test]
    fn codes_are_found_in_texts_and_not_in_numbers() {
        assert_eq!(code(b"SIP error: 403 Forbidden"), Some(403));
        assert_eq!(code(b"calling +4930555404 failed"), None);
        assert_eq!(code(b"no such thing"), None);
    }
}
