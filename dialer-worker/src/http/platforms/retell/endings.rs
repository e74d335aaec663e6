//! Endings of Retell's calls.

use crate::call::{EndDetail, Fault, Outcome, Party};
use crate::http::events::Shows;

/// Ending of a call.
struct Row {
    reason: &'static str,
    outcome: Outcome,
    shows: Means,
    /// Party that ended the call, if the reason says so.
    by: Option<Party>,
}

/// Meaning of an ending for the platform's health.
#[derive(Clone, Copy)]
enum Means {
    Works,
    /// Nothing rang, for a reason that this SIP code names.
    Unrung(u16),
    /// The platform or the account failed.
    Failed,
}

const fn row(reason: &'static str, outcome: Outcome, shows: Means, by: Option<Party>) -> Row {
    Row { reason, outcome, shows, by }
}

const CONTACT: Option<Party> = Some(Party::Contact);
const AGENT: Option<Party> = Some(Party::Agent);
const PROVIDER: Option<Party> = Some(Party::Provider);

/// All endings, by `disconnection_reason`.
const TABLE: &[Row] = &[
    // A person or the agent ended the call.
    row("user_hangup", Outcome::Answered, Means::Works, CONTACT),
    row("agent_hangup", Outcome::Answered, Means::Works, AGENT),
    row("user_requested_dnc", Outcome::Answered, Means::Works, None),
    row("user_requested_callback", Outcome::Answered, Means::Works, None),
    row("call_transfer", Outcome::Answered, Means::Works, AGENT),
    row("transfer_bridged", Outcome::Answered, Means::Works, AGENT),
    row("transfer_cancelled", Outcome::Answered, Means::Works, None),
    row("call_take_over", Outcome::Answered, Means::Works, None),
    row("inactivity", Outcome::Answered, Means::Works, PROVIDER),
    row("max_duration_reached", Outcome::Answered, Means::Works, PROVIDER),
    row("manual_stopped", Outcome::Answered, Means::Works, Some(Party::Caller)),
    // A machine answered.
    row("voicemail_reached", Outcome::Voicemail, Means::Works, AGENT),
    row("ivr_reached", Outcome::Voicemail, Means::Works, AGENT),
    // Nobody answered.
    row("dial_busy", Outcome::Busy, Means::Works, CONTACT),
    row("dial_no_answer", Outcome::NoAnswer, Means::Works, None),
    row("user_declined", Outcome::Rejected, Means::Works, CONTACT),
    row("invalid_destination", Outcome::InvalidNumber, Means::Unrung(404), PROVIDER),
    row("dial_failed", Outcome::Failed, Means::Unrung(500), PROVIDER),
    row("marked_as_spam", Outcome::Failed, Means::Unrung(608), PROVIDER),
    row("network_blocked", Outcome::Failed, Means::Unrung(403), PROVIDER),
    // The account, or its trunk.
    row("concurrency_limit_reached", Outcome::Congested, Means::Failed, PROVIDER),
    row("no_concurrency_fallback", Outcome::Congested, Means::Failed, PROVIDER),
    row("no_valid_payment", Outcome::Congested, Means::Failed, PROVIDER),
    row("credit_exhausted", Outcome::Congested, Means::Failed, PROVIDER),
    row("budget_reached", Outcome::Congested, Means::Failed, PROVIDER),
    row("scam_detected", Outcome::Congested, Means::Failed, PROVIDER),
    row("telephony_provider_permission_denied", Outcome::Congested, Means::Failed, PROVIDER),
    row("telephony_provider_unavailable", Outcome::Congested, Means::Failed, PROVIDER),
    row("sip_routing_error", Outcome::Congested, Means::Failed, PROVIDER),
    row("registered_call_timeout", Outcome::Congested, Means::Failed, PROVIDER),
    // The agent failed. Whoever answered heard nobody.
    row("error_llm_websocket_open", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_llm_websocket_lost_connection", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_llm_websocket_runtime", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_llm_websocket_corrupt_payload", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_no_audio_received", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_asr", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_retell", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_unknown", Outcome::Abandoned, Means::Failed, PROVIDER),
    row("error_user_not_joined", Outcome::Abandoned, Means::Failed, PROVIDER),
];

/// Returns the outcome of a call, the sign that it gives of the platform's health, and details.
/// `was_connected` says whether the call had any length.
pub(super) fn ending(reason: &str, was_connected: bool) -> (Outcome, Shows, EndDetail) {
    let told = (!reason.is_empty()).then(|| reason.to_owned());
    let detail = EndDetail { reason: told, ..EndDetail::default() };
    let Some(row) = TABLE.iter().find(|row| row.reason == reason) else {
        return (Outcome::Unknown, Shows::Nothing, detail);
    };
    let outcome = match row.outcome {
        _ if row.reason.starts_with("error_") && !was_connected => Outcome::Congested,
        _ if row.reason == "manual_stopped" && !was_connected => Outcome::Cancelled,
        outcome => outcome,
    };
    let shows = match row.shows {
        Means::Works => Shows::Works,
        Means::Unrung(code) => Shows::Unrung(code),
        Means::Failed => Shows::Fault(Fault::Told(row.reason)),
    };
    (outcome, shows, EndDetail { hung_up_by: row.by, ..detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_once() {
        let mut reasons: Vec<_> = TABLE.iter().map(|row| row.reason).collect();
        reasons.sort_unstable();
        let before = reasons.len();
        reasons.dedup();
        assert_eq!(reasons.len(), before);
    }

    fn outcome(reason: &str, was_connected: bool) -> (Outcome, Shows) {
        let (outcome, shows, _) = ending(reason, was_connected);
        (outcome, shows)
    }

    #[test]
    fn an_agent_that_fails_abandons_only_who_answered() {
        let failed = Shows::Fault(Fault::Told("error_retell"));
        assert_eq!(outcome("error_retell", true), (Outcome::Abandoned, failed));
        assert_eq!(outcome("error_retell", false), (Outcome::Congested, failed));
    }

    #[test]
    fn a_stopped_call_was_cancelled_if_nobody_had_answered() {
        assert_eq!(outcome("manual_stopped", false), (Outcome::Cancelled, Shows::Works));
        assert_eq!(outcome("manual_stopped", true), (Outcome::Answered, Shows::Works));
    }

    #[test]
    fn a_reason_of_a_newer_platform_is_unknown_and_told() {
        let (outcome, shows, detail) = ending("something_newer", true);
        assert_eq!((outcome, shows), (Outcome::Unknown, Shows::Nothing));
        assert_eq!(detail.reason.as_deref(), Some("something_newer"));
    }
}
