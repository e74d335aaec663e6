//! Endings of Vapi's calls. There are some 600 reasons, so most rows name the beginning of them.

use super::super::carrier;
use crate::call::{EndDetail, Fault, Outcome, Party};
use crate::http::events::Shows;

/// Reason of a call that a person took over.
pub(super) const FORWARDED: &str = "assistant-forwarded-call";
/// Beginning of reasons that hold the carrier's SIP code.
const CARRIER: &str = "call.in-progress.error-providerfault-outbound-sip-";

/// Ending of a call. The first row whose beginning fits counts.
struct Row {
    begins: &'static str,
    means: Means,
    by: Option<Party>,
}

#[derive(Clone, Copy)]
enum Means {
    /// The line was reached.
    Line(Outcome),
    /// A connection ended without a word by whom. Nobody answered if it had no length.
    Ended,
    /// Nothing rang, for a reason that this SIP code names.
    Unrung(Outcome, u16),
    /// The platform, the assistant or the account failed. Whoever answered heard nobody.
    Failed,
}

const fn row(begins: &'static str, means: Means, by: Option<Party>) -> Row {
    Row { begins, means, by }
}

const CONTACT: Option<Party> = Some(Party::Contact);
const AGENT: Option<Party> = Some(Party::Agent);
const PROVIDER: Option<Party> = Some(Party::Provider);
const ANSWERED: Means = Means::Line(Outcome::Answered);
const UNPLACED: Means = Means::Unrung(Outcome::Failed, 500);

/// All endings, by the beginning of `endedReason`.
const TABLE: &[Row] = &[
    // A person, the assistant or a limit ended the call.
    row("customer-ended-call", ANSWERED, CONTACT),
    row("assistant-ended-call", ANSWERED, AGENT),
    row("assistant-said-end-call-phrase", ANSWERED, AGENT),
    row(FORWARDED, ANSWERED, AGENT),
    row("call.forwarding.", ANSWERED, None),
    row("call.in-progress.error-warm-transfer-", ANSWERED, None),
    row("call.in-progress.error-transfer-failed", ANSWERED, None),
    row("silence-timed-out", ANSWERED, PROVIDER),
    row("exceeded-max-duration", ANSWERED, PROVIDER),
    row("call.ringing.hook-executed-", ANSWERED, AGENT),
    row("call.ending.hook-executed-", ANSWERED, AGENT),
    row("call.in-progress.twilio-completed-call", Means::Ended, None),
    row("call.in-progress.sip-completed-call", Means::Ended, None),
    row("vonage-completed", Means::Ended, None),
    row("vonage-disconnected", Means::Ended, None),
    row("phone-call-provider-closed-websocket", Means::Ended, PROVIDER),
    // A machine answered, or nobody.
    row("voicemail", Means::Line(Outcome::Voicemail), AGENT),
    row("customer-busy", Means::Line(Outcome::Busy), CONTACT),
    row("customer-did-not-answer", Means::Line(Outcome::NoAnswer), None),
    row("manually-canceled", Means::Line(Outcome::Cancelled), Some(Party::Caller)),
    row("scheduled-call-deleted", Means::Line(Outcome::Cancelled), Some(Party::Caller)),
    row("call-deleted", Means::Line(Outcome::Cancelled), Some(Party::Caller)),
    // Nothing rang.
    row("sip-outbound-unallocated-number", Means::Unrung(Outcome::InvalidNumber, 404), PROVIDER),
    row("twilio-reported-customer-misdialed", Means::Unrung(Outcome::InvalidNumber, 404), PROVIDER),
    row("sip-outbound-carrier-released-call", Means::Unrung(Outcome::Failed, 480), PROVIDER),
    row("vonage-rejected", Means::Unrung(Outcome::Failed, 603), PROVIDER),
    row("twilio-failed-to-connect-call", UNPLACED, PROVIDER),
    row("vonage-failed-to-connect-call", UNPLACED, PROVIDER),
    row("call.in-progress.error-sip-", UNPLACED, PROVIDER),
    row("call.ringing.", UNPLACED, PROVIDER),
    row("customer-did-not-give-microphone-permission", UNPLACED, CONTACT),
    // The platform, its assistant, its providers, or the account.
    row("call.start.", Means::Failed, PROVIDER),
    row("call-start-error-", Means::Failed, PROVIDER),
    row("assistant-not-", Means::Failed, PROVIDER),
    row("assistant-request-", Means::Failed, PROVIDER),
    row("assistant-join-timed-out", Means::Failed, PROVIDER),
    row("phone-call-provider-bypass-enabled", Means::Failed, PROVIDER),
    row("worker-shutdown", Means::Failed, PROVIDER),
    row("pipeline-", Means::Failed, PROVIDER),
    row("call.in-progress.error-", Means::Failed, PROVIDER),
];

/// Returns the outcome of a call, the sign that it gives of the platform's health, and details.
/// `was_connected` says whether the call had any length.
pub(super) fn ending(reason: &str, was_connected: bool) -> (Outcome, Shows, EndDetail) {
    let told = (!reason.is_empty()).then(|| reason.to_owned());
    let detail = EndDetail { reason: told, ..EndDetail::default() };
    if let Some(code) = sip_code(reason) {
        let (outcome, shows) = carrier::ending(code);
        return (outcome, shows, EndDetail { code: Some(code), ..detail });
    }
    let Some(row) = TABLE.iter().find(|row| reason.starts_with(row.begins)) else {
        return (Outcome::Unknown, Shows::Nothing, detail);
    };
    let (outcome, shows) = match row.means {
        Means::Line(Outcome::Cancelled) if was_connected => (Outcome::Answered, Shows::Works),
        Means::Line(outcome) => (outcome, Shows::Works),
        Means::Ended if was_connected => (Outcome::Answered, Shows::Works),
        Means::Ended => (Outcome::NoAnswer, Shows::Nothing),
        Means::Unrung(outcome, code) => (outcome, Shows::Unrung(code)),
        Means::Failed if was_connected => {
            (Outcome::Abandoned, Shows::Fault(Fault::Told(row.begins)))
        }
        Means::Failed => (Outcome::Congested, Shows::Fault(Fault::Told(row.begins))),
    };
    (outcome, shows, EndDetail { hung_up_by: row.by, ..detail })
}

/// Returns the SIP code that a reason holds.
fn sip_code(reason: &str) -> Option<u16> {
    reason.strip_prefix(CARRIER)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_hides_a_later_one() {
        for (at, row) in TABLE.iter().enumerate() {
            let found = TABLE.iter().position(|other| row.begins.starts_with(other.begins));
            assert_eq!(found, Some(at), "{}", row.begins);
        }
    }

    #[test]
    fn endings_are_told_apart() {
        let told = |reason, was_connected| ending(reason, was_connected).0;
        assert_eq!(told("manually-canceled", false), Outcome::Cancelled);
        assert_eq!(told("manually-canceled", true), Outcome::Answered);
        assert_eq!(told("call.in-progress.sip-completed-call", false), Outcome::NoAnswer);
        assert_eq!(told("pipeline-error-openai-429-exceeded-quota", true), Outcome::Abandoned);
        assert_eq!(told("call.start.error-subscription-frozen", false), Outcome::Congested);
        assert_eq!(told("something-newer", true), Outcome::Unknown);
    }

    #[test]
    fn the_carriers_code_decides_where_it_is_told() {
        let (outcome, shows, detail) = ending(&format!("{CARRIER}407-proxy"), false);
        let fault = Shows::Fault(Fault::Refusing(407));
        assert_eq!((outcome, shows, detail.code), (Outcome::Congested, fault, Some(407)));
    }
}
