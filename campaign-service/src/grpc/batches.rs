//! Messages to a worker: batches of contacts, and answers to its authorisation requests.

use super::convert::timestamp;
use super::names;
use crate::app::dispatch::authorizing::Answer;
use crate::app::dispatch::batch::{LeasedBatch, LeasedContact};
use campaign_domain::dispatch::Decision;
use campaign_proto::v1;

/// Converts the answer for one slot.
pub fn attempt_to_api(slot: i32, answer: Answer) -> v1::AttemptAuthorization {
    use v1::AuthorizeDecision as Api;
    let decision = match answer.decision {
        Decision::Granted => Api::Granted,
        Decision::AlreadyGranted => Api::AlreadyGranted,
        Decision::LeaseLost => Api::LeaseLost,
        Decision::NotRunning => Api::NotRunning,
        Decision::Excluded => Api::Excluded,
        Decision::NotNow => Api::NotNow,
        Decision::SlotClosed => Api::SlotClosed,
        Decision::Throttled => Api::Throttled,
    };
    v1::AttemptAuthorization {
        slot,
        decision: decision.into(),
        attempt_id: answer.attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
    }
}

/// Converts a lease to the batch that its worker receives.
pub fn batch_to_api(batch: LeasedBatch) -> v1::Batch {
    let LeasedBatch { lease, launch_traceparent, contacts } = batch;
    let leased = |leased: LeasedContact| v1::LeasedContact {
        slot: i32::try_from(leased.slot).unwrap_or(i32::MAX),
        contact: names::contact_name(lease.campaign, leased.contact.position),
        phone_number: leased.contact.phone,
        display_name: leased.contact.display_name,
        time_zone: leased.time_zone,
        attributes: leased.contact.attributes.into_iter().collect(),
        attempt_number: leased.attempt_number,
        link: leased.link,
    };
    v1::Batch {
        lease: Some(v1::LeaseKey {
            lease: names::lease_name(lease.campaign, lease.number),
            token: lease.token.to_string(),
        }),
        expire_time: Some(timestamp(lease.expires_at)),
        campaign: format!("campaigns/{}", lease.campaign),
        run: lease.run,
        contacts: contacts.into_iter().map(leased).collect(),
        launch_traceparent,
    }
}
