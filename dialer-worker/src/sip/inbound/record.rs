//! Record of an inbound call.

use std::time::{Duration, SystemTime};

use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    CalledIn, Interaction, OptedOut, RecordInteractionsRequest, ReportedInteraction,
};
use sha2::{Digest, Sha256};

use super::super::conversation::CHANNEL;
use super::super::digest::hex;

/// Inbound call that was answered.
#[derive(Debug)]
pub(super) struct AnsweredCall {
    pub campaign: String,
    pub contact: String,
    pub call_id: String,
    pub duration: Duration,
    /// Whether the caller opted out by a key.
    pub opted_out: bool,
}

/// Returns the request that records a call.
pub(super) fn request(call: &AnsweredCall) -> RecordInteractionsRequest {
    let duration = prost_types::Duration::try_from(call.duration).unwrap_or_default();
    let id = interaction_id(&call.call_id);
    let now = SystemTime::now();
    let reported = |interaction_id: String, fact: Fact| ReportedInteraction {
        interaction: Some(Interaction {
            interaction_id,
            contact: call.contact.clone(),
            occur_time: Some(now.into()),
            fact: Some(fact),
            ..Interaction::default()
        }),
        phone_number: String::new(),
    };
    let called_in = CalledIn { duration: Some(duration) };
    let mut interactions = vec![reported(id.clone(), Fact::CalledIn(called_in))];
    if call.opted_out {
        let opted_out = OptedOut { channel: CHANNEL.to_owned(), ..OptedOut::default() };
        interactions.push(reported(format!("{id}.out"), Fact::OptedOut(opted_out)));
    }
    RecordInteractionsRequest { parent: call.campaign.clone(), interactions }
}

/// Returns an id that is the same however often the call is recorded. A Call-ID may have any
/// length.
fn interaction_id(call_id: &str) -> String {
    format!("sip.{}", hex(&Sha256::digest(call_id.as_bytes())[..20]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_of_the_call_and_short_enough() {
        let id = interaction_id(&"x".repeat(500));
        assert_eq!(id.len(), 44);
        assert_eq!(id, interaction_id(&"x".repeat(500)));
        assert_ne!(id, interaction_id("x"));
    }
}
