//! Packed details of the ends of calls, for the few calls that have any.
//!
//! Each detail is an entry:
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | slot |
//! | 2..4 | length of the rest |
//! | 4 | party that hung up, 0 for none |
//! | 5..7 | code, 0 for none |
//! | 7 | cause, 0 for none |
//! | 8..10 | length of the provider's id |
//! | 10.. | provider's id, then the reason up to the end |
//!
//! A newer version may only add parts after the length of the rest, so that this one skips them.

use campaign_domain::end_detail::{EndDetail, Party};
use std::collections::HashMap;

/// Bytes of an entry before its rest.
const HEAD_BYTES: usize = 4;
/// Bytes of the rest before its texts.
const FIXED_BYTES: usize = 6;

fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}

/// Packs details by slot. Returns `None` if there are none.
pub(super) fn pack(details: &[(usize, EndDetail)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (slot, detail) in details {
        let (id, reason) = (detail.provider_call_id.as_bytes(), detail.reason.as_bytes());
        bytes.extend(short(*slot));
        bytes.extend(short(FIXED_BYTES + id.len() + reason.len()));
        bytes.push(detail.hung_up_by.map_or(0, Party::number));
        bytes.extend(detail.code.unwrap_or(0).to_le_bytes());
        bytes.push(detail.cause.unwrap_or(0));
        bytes.extend(short(id.len()));
        bytes.extend(id);
        bytes.extend(reason);
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// Unpacks details by slot. What cannot be read is left out.
pub(super) fn unpack(bytes: Option<&[u8]>) -> HashMap<usize, EndDetail> {
    let mut left = bytes.unwrap_or_default();
    let mut details = HashMap::new();
    while let Some((head, rest)) = left.split_first_chunk::<HEAD_BYTES>() {
        let slot = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some((entry, after)) = rest.split_at_checked(length) else { break };
        details.extend(read(entry).map(|detail| (slot, detail)));
        left = after;
    }
    details
}

fn read(entry: &[u8]) -> Option<EndDetail> {
    let (fixed, texts) = entry.split_first_chunk::<FIXED_BYTES>()?;
    let [party, code_low, code_high, cause, id_low, id_high] = *fixed;
    let code = u16::from_le_bytes([code_low, code_high]);
    let id_length = usize::from(u16::from_le_bytes([id_low, id_high]));
    let (id, reason) = texts.split_at_checked(id_length)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(EndDetail {
        code: (code > 0).then_some(code),
        cause: (cause > 0).then_some(cause),
        provider_call_id: text(id),
        reason: text(reason),
        hung_up_by: Party::from_number(party),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> EndDetail {
        EndDetail {
            code: Some(486),
            cause: Some(17),
            provider_call_id: "a84b4c76e66710@pc33".to_owned(),
            reason: "Besetzt, ü".to_owned(),
            hung_up_by: Some(Party::Contact),
        }
    }

    #[test]
    fn details_read_back_and_nothing_is_stored_without_any() {
        let longest = EndDetail {
            provider_call_id: "€".repeat(200),
            reason: "€".repeat(200),
            ..EndDetail::default()
        };
        let only = |code| EndDetail { code: Some(code), ..EndDetail::default() };
        let details = vec![(0, busy()), (4_999, longest), (7, only(u16::MAX)), (8, only(1))];
        let packed = pack(&details).expect("there are some");
        let read = unpack(Some(&packed));
        assert_eq!(read, details.into_iter().collect());
        assert_eq!(pack(&[]), None);
        assert!(unpack(None).is_empty());
        let size = pack(&[(3, busy())]).map(|bytes| bytes.len());
        assert_eq!(size, Some(HEAD_BYTES + FIXED_BYTES + 19 + 11));
    }

    #[test]
    fn a_detail_that_was_cut_off_is_left_out() {
        let packed = pack(&[(1, busy()), (2, busy())]).expect("there are some");
        for length in 0..packed.len() {
            let read = unpack(Some(&packed[..length]));
            let whole = usize::from(length >= packed.len() / 2);
            assert_eq!(read.len(), whole, "{length} bytes");
        }
        let mut wrong = pack(&[(1, busy())]).expect("there is one");
        wrong[8..10].copy_from_slice(&[255, 255]);
        assert!(unpack(Some(&wrong)).is_empty(), "an id longer than the entry");
    }
}
