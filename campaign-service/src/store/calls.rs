//! Ends of calls, append-only. One row holds all calls of a lease that were reported together.
//!
//! A call takes 32 bytes of a row: slot, outcome, 1 if an answer is provisional, seconds, position,
//! previous call, time. The contact's previous call is packed as in `packed`. The time is in
//! microseconds by the reporter's clock, or 0. Details of the ends are in a column of their own, for
//! the few that have any.

use super::call_details;
use super::packed::{outcome_from_number, pack_slot, unpack_slot};
use super::{Params, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::end_detail::EndDetail;
use campaign_domain::facts::CallOutcome;
use campaign_domain::lease::SlotId;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

const CALL_BYTES: usize = 32;

/// End of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub slot: usize,
    pub position: i64,
    pub outcome: CallOutcome,
    pub duration_seconds: i32,
    pub occurred_at: Option<Instant>,
    /// Previous call of the contact in the same generation.
    pub previous: Option<SlotId>,
    /// Whether the provider may still correct an answer.
    pub is_provisional: bool,
}

/// Call as stored, with its run, the time of recording, and the details of its end.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub call: Call,
    pub run: i32,
    pub recorded_at: Instant,
    pub detail: Option<EndDetail>,
}

/// Calls of one lease, reported together.
#[derive(Debug, Default)]
pub struct CallReport {
    pub lease: i64,
    pub run: i32,
    pub calls: Vec<Call>,
    /// Details of some of the calls, by slot.
    pub details: Vec<(usize, EndDetail)>,
}

fn pack(call: &Call, bytes: &mut Vec<u8>) {
    bytes.extend(u16::try_from(call.slot).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend([call.outcome.number(), u8::from(call.is_provisional)]);
    bytes.extend(call.duration_seconds.to_le_bytes());
    bytes.extend(call.position.to_le_bytes());
    bytes.extend(pack_slot(call.previous).to_le_bytes());
    let occurred = call.occurred_at.map_or(0, |at| at.timestamp_micros());
    bytes.extend(occurred.to_le_bytes());
}

fn unpack(bytes: &[u8]) -> Call {
    let long = |at: usize| {
        bytes[at..at + 8]
            .iter()
            .rev()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
            .cast_signed()
    };
    let occurred = long(24);
    Call {
        slot: usize::from(u16::from_le_bytes([bytes[0], bytes[1]])),
        outcome: outcome_from_number(bytes[2]),
        is_provisional: bytes[3] == 1,
        duration_seconds: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        position: long(8),
        previous: unpack_slot(long(16)),
        occurred_at: if occurred == 0 { None } else { Instant::from_timestamp_micros(occurred) },
    }
}

/// Appends calls that ended in a generation.
pub async fn append(
    tx: &Tx<'_>,
    campaign: Uuid,
    generation: i32,
    reports: &[&CallReport],
) -> StoreResult<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let leases: Vec<i64> = reports.iter().map(|report| report.lease).collect();
    let runs: Vec<i32> = reports.iter().map(|report| report.run).collect();
    let calls: Vec<Vec<u8>> = reports
        .iter()
        .map(|report| {
            let mut bytes = Vec::with_capacity(report.calls.len() * CALL_BYTES);
            report.calls.iter().for_each(|call| pack(call, &mut bytes));
            bytes
        })
        .collect();
    let details: Vec<Option<Vec<u8>>> =
        reports.iter().map(|report| call_details::pack(&report.details)).collect();
    let sql =
        "INSERT INTO call_reports (campaign_id, generation, recorded_at, lease, run, calls, details)
        SELECT $1, $2, $3, * FROM unnest($4::int8[], $5::int[], $6::bytea[], $7::bytea[])";
    let params: Params<'_> = &[&campaign, &generation, &tx.now, &leases, &runs, &calls, &details];
    tx.execute(sql, params).await?;
    Ok(())
}

/// Returns the calls of some leases whose end is recorded. If a call was recorded again, the last
/// record counts.
pub async fn of_leases(
    tx: &Tx<'_>,
    campaign: Uuid,
    leases: &[i64],
) -> StoreResult<HashMap<SlotId, Recorded>> {
    if leases.is_empty() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT lease, run, recorded_at, calls, details FROM call_reports
        WHERE campaign_id = $1 AND lease = ANY($2) ORDER BY lease, report";
    let mut found = HashMap::new();
    for row in tx.query(sql, &[&campaign, &leases]).await? {
        let (lease, run, recorded_at) = (row.get(0), row.get(1), row.get(2));
        let calls: &[u8] = row.get(3);
        let mut details = call_details::unpack(row.get(4));
        for bytes in calls.chunks_exact(CALL_BYTES) {
            let mut call = unpack(bytes);
            let slot = SlotId { lease, slot: call.slot };
            let detail = details.remove(&call.slot);
            // A correction without length or details leaves those of the first record.
            let before: Option<&Recorded> = found.get(&slot);
            if call.duration_seconds == 0 {
                call.duration_seconds = before.map_or(0, |first| first.call.duration_seconds);
            }
            let detail = detail.or_else(|| before.and_then(|first| first.detail.clone()));
            found.insert(slot, Recorded { call, run, recorded_at, detail });
        }
    }
    Ok(found)
}

/// Returns a contact's calls from the last one back, at most `limit`. Each call names the one before
/// it.
pub async fn chain(
    tx: &Tx<'_>,
    campaign: Uuid,
    last: Option<SlotId>,
    limit: usize,
) -> StoreResult<Vec<(SlotId, Recorded)>> {
    let mut found = Vec::new();
    let mut next = last;
    while let Some(at) = next.filter(|_| found.len() < limit) {
        let Some(recorded) = of_leases(tx, campaign, &[at.lease]).await?.remove(&at) else { break };
        next = recorded.call.previous;
        found.push((at, recorded));
    }
    Ok(found)
}

/// Deletes the details of some calls. Their other data stays. The caller must hold the campaign's
/// gate exclusively.
pub async fn forget_details(tx: &Tx<'_>, campaign: Uuid, calls: &[SlotId]) -> StoreResult<()> {
    let leases: Vec<i64> = calls.iter().map(|call| call.lease).collect();
    let gone: HashSet<SlotId> = calls.iter().copied().collect();
    let find = "SELECT lease, report, details FROM call_reports
        WHERE campaign_id = $1 AND lease = ANY($2) AND details IS NOT NULL";
    for row in tx.query(find, &[&campaign, &leases]).await? {
        let (lease, report): (i64, i64) = (row.get(0), row.get(1));
        let details = call_details::unpack(row.get(2)).into_iter();
        let left = details.filter(|(slot, _)| !gone.contains(&SlotId { lease, slot: *slot }));
        let left = call_details::pack(&left.collect::<Vec<_>>());
        let sql = "UPDATE call_reports SET details = $4
            WHERE campaign_id = $1 AND lease = $2 AND report = $3";
        tx.execute(sql, &[&campaign, &lease, &report, &left]).await?;
    }
    Ok(())
}

/// Deletes the calls of generations before `generation`, from `from_lease` on, in at most `limit`
/// rows. Returns the lease to continue from, or `None` when nothing is left. Leases of a newer
/// generation have higher numbers.
pub async fn purge(
    tx: &Tx<'_>,
    campaign: Uuid,
    from_lease: i64,
    generation: i32,
    limit: i64,
) -> StoreResult<Option<i64>> {
    let find = "SELECT max(lease) FROM (SELECT lease, generation FROM call_reports
        WHERE campaign_id = $1 AND lease >= $2 ORDER BY lease LIMIT $4) t WHERE generation < $3";
    let last: Option<i64> =
        tx.query_one(find, &[&campaign, &from_lease, &generation, &limit]).await?.get(0);
    let Some(last) = last else { return Ok(None) };
    let sql = "DELETE FROM call_reports
        WHERE campaign_id = $1 AND lease >= $2 AND lease <= $3 AND generation < $4";
    tx.execute(sql, &[&campaign, &from_lease, &last, &generation]).await?;
    Ok(Some(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_read_back() {
        let call = Call {
            slot: 4_999,
            position: 1 << 40,
            outcome: CallOutcome::Voicemail,
            duration_seconds: 86_400,
            occurred_at: Instant::from_timestamp_micros(1_700_000_000_123_456),
            previous: Some(SlotId { lease: 7, slot: 8_191 }),
            is_provisional: true,
        };
        let first = Call {
            previous: None,
            is_provisional: false,
            occurred_at: None,
            slot: 0,
            position: 0,
            ..call
        };
        let mut bytes = Vec::new();
        pack(&call, &mut bytes);
        pack(&first, &mut bytes);
        assert_eq!(bytes.len(), 2 * CALL_BYTES);
        assert_eq!(bytes.chunks_exact(CALL_BYTES).map(unpack).collect::<Vec<_>>(), [call, first]);
    }
}
