//! What a worker is sent: batches of contacts, and answers to its questions.

use super::convert::timestamp;
use super::names;
use crate::app::authorizing::Decision;
use crate::app::leasing::LeasedBatch;
use crate::store::contacts::Subject;
use campaign_proto::v1;

/// The answer for one slot.
pub fn attempt_to_api(slot: i32, decision: Decision) -> v1::AttemptAuthorization {
    use v1::AuthorizeDecision as Api;
    let (decision, attempt) = match decision {
        Decision::Granted(attempt) => (Api::Granted, Some(attempt)),
        Decision::AlreadyGranted(attempt) => (Api::AlreadyGranted, Some(attempt)),
        Decision::LeaseLost => (Api::LeaseLost, None),
        Decision::NotRunning => (Api::NotRunning, None),
        Decision::Excluded => (Api::Excluded, None),
        Decision::NotNow => (Api::NotNow, None),
        Decision::SlotClosed => (Api::SlotClosed, None),
    };
    v1::AttemptAuthorization {
        slot,
        decision: decision.into(),
        attempt_id: attempt.map(|attempt| attempt.to_string()).unwrap_or_default(),
    }
}

/// A lease as its worker gets it.
pub fn batch_to_api(batch: LeasedBatch) -> v1::Batch {
    let LeasedBatch { lease, contacts, time_zone, epoch } = batch;
    let leased = |(slot, subject): (usize, Subject)| v1::LeasedContact {
        slot: i32::try_from(slot).unwrap_or(i32::MAX),
        contact: names::contact_name(lease.campaign, subject.candidate.position),
        phone_number: subject.phone,
        display_name: subject.display_name,
        time_zone: if subject.time_zone.is_empty() { time_zone.clone() } else { subject.time_zone },
        attributes: subject.attributes.into_iter().collect(),
        attempt_number: subject.candidate.state.seen_in(epoch).cycle_attempts + 1,
    };
    v1::Batch {
        lease: Some(v1::LeaseKey {
            lease: names::lease_name(lease.campaign, lease.number),
            token: lease.token.to_string(),
        }),
        expire_time: Some(timestamp(lease.expires_at)),
        campaign: format!("campaigns/{}", lease.campaign),
        run: lease.run,
        contacts: contacts.into_iter().enumerate().map(leased).collect(),
    }
}
