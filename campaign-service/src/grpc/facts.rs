//! Conversion of reported facts between API and domain.

use super::check::{Check, MAX_LINK_LENGTH};
use super::convert::timestamp;
use super::names::contact_name;
use crate::app::error::Error;
use crate::app::facts::report::{Outcome, Report};
use crate::store::interactions::Interaction;
use campaign_domain::end_detail::{EndDetail, Party};
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact as ApiFact;
use uuid::Uuid;

/// Longest call, and longest time before a transfer, in seconds.
const MAX_CALL_SECONDS: i64 = 24 * 3600;
const MAX_CHANNEL_LENGTH: usize = 100;

/// Reads a report about the contact at a position.
pub fn report(interaction: v1::Interaction, position: i64) -> Result<Report, Error> {
    let mut check = Check::default();
    let is_call_ended = matches!(interaction.fact, Some(ApiFact::CallEnded(_)));
    let attempt = interaction.attempt_id.parse().ok();
    if is_call_ended {
        check.require(
            attempt.is_some(),
            "attempt_id",
            "must be the attempt's, as authorised, for call_ended",
        );
    } else {
        check.id("interaction_id", &interaction.interaction_id);
        check.require(
            attempt.is_some() || interaction.attempt_id.is_empty(),
            "attempt_id",
            "must be an attempt's, as authorised, or empty",
        );
    }
    let occurred_at = check.time("occur_time", interaction.occur_time);
    let fact = fact(&mut check, interaction.fact);
    check.finish()?;
    let Some(fact) = fact else { return Err(Error::invalid("fact", "must be set")) };
    let interaction_id = interaction.interaction_id;
    Ok(Report { position, interaction_id, attempt, fact, occurred_at })
}

fn fact(check: &mut Check, fact: Option<ApiFact>) -> Option<Fact> {
    Some(match fact? {
        ApiFact::CallEnded(ended) => {
            let outcome = outcome(ended.outcome);
            if outcome.is_none() {
                check.fail("call_ended.outcome", "must be a known outcome");
            }
            let seconds = check.seconds("call_ended.duration", ended.duration, MAX_CALL_SECONDS);
            let duration_seconds = i32::try_from(seconds).unwrap_or(0);
            let detail = ended.detail.and_then(detail).map(Box::new);
            Fact::CallEnded {
                outcome: outcome?,
                duration_seconds,
                detail,
                is_provisional: ended.provisional && outcome == Some(CallOutcome::Answered),
            }
        }
        ApiFact::Transferred(transferred) => {
            let seconds = transferred.seconds_before_transfer;
            check.require(
                (0..=MAX_CALL_SECONDS).contains(&i64::from(seconds)),
                "transferred.seconds_before_transfer",
                "must be 0 to 86400",
            );
            Fact::Transferred { seconds_before_transfer: seconds }
        }
        ApiFact::OptedOut(opted_out) => {
            check.text("opted_out.channel", &opted_out.channel, 0..=MAX_CHANNEL_LENGTH);
            Fact::OptedOut { channel: opted_out.channel, everywhere: opted_out.everywhere }
        }
        ApiFact::Success(_) => Fact::Success,
        ApiFact::LinkOpened(opened) => {
            check.text("link_opened.link", &opened.link, 0..=MAX_LINK_LENGTH);
            Fact::LinkOpened { link: opened.link }
        }
        ApiFact::TextSent(_) => Fact::TextSent,
        ApiFact::CalledIn(called) => {
            let seconds = check.seconds("called_in.duration", called.duration, MAX_CALL_SECONDS);
            Fact::CalledIn { duration_seconds: i32::try_from(seconds).unwrap_or(0) }
        }
    })
}

/// Whether an interaction is a well-formed opt-out of every campaign.
pub fn suppresses(interaction: &v1::Interaction) -> bool {
    report(interaction.clone(), 0).is_ok_and(|report| report.fact.suppresses())
}

/// Whether an interaction reports that a person opted out.
pub fn is_opt_out(interaction: &v1::Interaction) -> bool {
    matches!(interaction.fact, Some(ApiFact::OptedOut(_)))
}

fn seconds(seconds: i32) -> prost_types::Duration {
    prost_types::Duration { seconds: seconds.into(), nanos: 0 }
}

fn outcome(value: i32) -> Option<CallOutcome> {
    Some(match v1::CallOutcome::try_from(value).ok()? {
        v1::CallOutcome::Unspecified => return None,
        v1::CallOutcome::Answered => CallOutcome::Answered,
        v1::CallOutcome::NoAnswer => CallOutcome::NoAnswer,
        v1::CallOutcome::Busy => CallOutcome::Busy,
        v1::CallOutcome::Voicemail => CallOutcome::Voicemail,
        v1::CallOutcome::Failed => CallOutcome::Failed,
        v1::CallOutcome::Unknown => CallOutcome::Unknown,
        v1::CallOutcome::Rejected => CallOutcome::Rejected,
        v1::CallOutcome::InvalidNumber => CallOutcome::InvalidNumber,
        v1::CallOutcome::Congested => CallOutcome::Congested,
        v1::CallOutcome::Abandoned => CallOutcome::Abandoned,
        v1::CallOutcome::Cancelled => CallOutcome::Cancelled,
    })
}

pub fn outcome_to_api(outcome: CallOutcome) -> v1::CallOutcome {
    match outcome {
        CallOutcome::Answered => v1::CallOutcome::Answered,
        CallOutcome::NoAnswer => v1::CallOutcome::NoAnswer,
        CallOutcome::Busy => v1::CallOutcome::Busy,
        CallOutcome::Voicemail => v1::CallOutcome::Voicemail,
        CallOutcome::Failed => v1::CallOutcome::Failed,
        CallOutcome::Unknown => v1::CallOutcome::Unknown,
        CallOutcome::Rejected => v1::CallOutcome::Rejected,
        CallOutcome::InvalidNumber => v1::CallOutcome::InvalidNumber,
        CallOutcome::Congested => v1::CallOutcome::Congested,
        CallOutcome::Abandoned => v1::CallOutcome::Abandoned,
        CallOutcome::Cancelled => v1::CallOutcome::Cancelled,
    }
}

/// Reads the details of an end, as far as they fit.
fn detail(detail: v1::CallEndDetail) -> Option<EndDetail> {
    let hung_up_by = match detail.hung_up_by() {
        v1::CallParty::Unspecified => None,
        v1::CallParty::Caller => Some(Party::Caller),
        v1::CallParty::Contact => Some(Party::Contact),
        v1::CallParty::Agent => Some(Party::Agent),
        v1::CallParty::Provider => Some(Party::Provider),
    };
    let code = u16::try_from(detail.status_code).ok();
    let cause = u8::try_from(detail.q850_cause).ok();
    let (provider_call_id, reason) = (detail.provider_call_id, detail.reason);
    EndDetail { code, cause, provider_call_id, reason, hung_up_by }.bounded()
}

fn detail_to_api(detail: EndDetail) -> v1::CallEndDetail {
    let hung_up_by = match detail.hung_up_by {
        None => v1::CallParty::Unspecified,
        Some(Party::Caller) => v1::CallParty::Caller,
        Some(Party::Contact) => v1::CallParty::Contact,
        Some(Party::Agent) => v1::CallParty::Agent,
        Some(Party::Provider) => v1::CallParty::Provider,
    };
    v1::CallEndDetail {
        status_code: detail.code.map_or(0, i32::from),
        q850_cause: detail.cause.map_or(0, i32::from),
        provider_call_id: detail.provider_call_id,
        reason: detail.reason,
        hung_up_by: hung_up_by.into(),
    }
}

/// Converts a stored interaction. The end of a call has no id from its reporter.
pub fn interaction_to_api(campaign: Uuid, stored: Interaction) -> v1::Interaction {
    let is_call_ended = matches!(stored.fact, Fact::CallEnded { .. });
    let fact = match stored.fact {
        Fact::CallEnded { outcome, duration_seconds, detail, is_provisional } => {
            ApiFact::CallEnded(v1::CallEnded {
                outcome: outcome_to_api(outcome).into(),
                duration: Some(seconds(duration_seconds)),
                detail: detail.map(|detail| detail_to_api(*detail)),
                provisional: is_provisional,
            })
        }
        Fact::Transferred { seconds_before_transfer } => {
            ApiFact::Transferred(v1::Transferred { seconds_before_transfer })
        }
        Fact::OptedOut { channel, everywhere } => {
            ApiFact::OptedOut(v1::OptedOut { channel, everywhere })
        }
        Fact::Success => ApiFact::Success(v1::Success {}),
        Fact::LinkOpened { link } => ApiFact::LinkOpened(v1::LinkOpened { link }),
        Fact::TextSent => ApiFact::TextSent(v1::TextSent {}),
        Fact::CalledIn { duration_seconds } => {
            ApiFact::CalledIn(v1::CalledIn { duration: Some(seconds(duration_seconds)) })
        }
    };
    v1::Interaction {
        interaction_id: if is_call_ended { String::new() } else { stored.id },
        contact: contact_name(campaign, stored.position),
        attempt_id: stored.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
        occur_time: stored.occurred_at.map(timestamp),
        fact: Some(fact),
        record_time: Some(timestamp(stored.recorded_at)),
    }
}

/// Converts the outcome of a report.
pub fn result(interaction_id: String, outcome: Outcome) -> v1::InteractionResult {
    let (status, message) = match outcome {
        Outcome::Recorded => (v1::InteractionStatus::Recorded, String::new()),
        Outcome::Duplicate => (v1::InteractionStatus::Duplicate, String::new()),
        Outcome::BeforeReset => (v1::InteractionStatus::BeforeReset, String::new()),
        Outcome::Rejected(why) => (v1::InteractionStatus::Rejected, why),
    };
    v1::InteractionResult { interaction_id, status: status.into(), message }
}
