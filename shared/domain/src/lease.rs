//! Lease: a batch of contacts held by one worker. Each contact has a slot in it.

/// Most slots of a lease; an index is stored in two bytes.
const MAX_SLOTS: usize = 1 << 16;

/// State of one leased contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Slot {
    /// Leased; not dialled.
    Leased = 0,
    /// Authorised: the lease's holder may dial it once.
    Authorized = 1,
    /// Ended: the attempt is over.
    Ended = 2,
    /// Released or found excluded; never dialled under this lease.
    Closed = 3,
}

/// Slots of a lease, stored as one byte each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(Vec<u8>);

impl Slots {
    /// Returns one leased slot per contact.
    #[must_use]
    pub fn new(contacts: usize) -> Self {
        Self(vec![Slot::Leased as u8; contacts])
    }

    /// Returns slots as stored. An unknown byte reads as closed, so nothing is dialled on a value
    /// that nobody wrote.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the slot with this index, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Slot> {
        self.0.get(index).map(|byte| match byte {
            0 => Slot::Leased,
            1 => Slot::Authorized,
            2 => Slot::Ended,
            _ => Slot::Closed,
        })
    }

    /// Moves a slot on: leased to authorised or closed, authorised to ended. Returns whether it
    /// did. Any other step is rejected, so an attempt is authorised and ended at most once.
    pub fn advance(&mut self, index: usize, to: Slot) -> bool {
        let allowed = matches!(
            (self.get(index), to),
            (Some(Slot::Leased), Slot::Authorized | Slot::Closed)
                | (Some(Slot::Authorized), Slot::Ended)
        );
        if allowed {
            self.0[index] = to as u8;
        }
        allowed
    }

    /// Returns the indexes of the slots in a state.
    #[must_use]
    pub fn in_state(&self, wanted: Slot) -> Vec<usize> {
        (0..self.0.len()).filter(|index| self.get(*index) == Some(wanted)).collect()
    }

    /// Whether nothing can happen under the lease any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.iter().all(|byte| *byte >= Slot::Ended as u8)
    }
}

/// Slot of a lease of the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    /// Number of the lease in its campaign.
    pub lease: i64,
    /// Index in the lease.
    pub slot: usize,
}

/// Identity of one attempt: its run and the slot in which it was authorised. The run determines the
/// attempt's epoch even when the lease is long gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// Run of the lease.
    pub run: i32,
    /// Number of the lease in its campaign.
    pub lease: i64,
    /// Index in the lease.
    pub slot: usize,
}

impl AttemptId {
    /// Returns the slot in which the attempt was authorised.
    #[must_use]
    pub fn slot_id(&self) -> SlotId {
        SlotId { lease: self.lease, slot: self.slot }
    }
}

impl std::fmt::Display for AttemptId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.run, self.lease, self.slot)
    }
}

impl std::str::FromStr for AttemptId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(());
        let id = Self {
            run: next()?.parse().map_err(|_| ())?,
            lease: next()?.parse().map_err(|_| ())?,
            slot: next()?.parse().map_err(|_| ())?,
        };
        let can_be = id.run > 0 && id.lease > 0 && id.slot < MAX_SLOTS;
        // Only the printed form is accepted: no signs, no leading zeros, nothing after it.
        if can_be && id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_authorised_once_and_ended_once() {
        let mut slots = Slots::new(2);
        assert!(!slots.advance(0, Slot::Ended), "not before it is authorised");
        assert!(slots.advance(0, Slot::Authorized));
        assert!(!slots.advance(0, Slot::Authorized));
        assert!(!slots.advance(0, Slot::Closed), "an authorised attempt cannot be given back");
        assert!(slots.advance(0, Slot::Ended));
        assert!(!slots.advance(0, Slot::Ended));
        assert!(!slots.is_done());
        assert!(slots.advance(1, Slot::Closed));
        assert!(!slots.advance(1, Slot::Authorized));
        assert!(slots.is_done());
        assert!(!slots.advance(2, Slot::Authorized), "there is no such slot");
    }

    #[test]
    fn attempt_ids_read_back() {
        let id = AttemptId { run: 2, lease: 41, slot: 499 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1-2", "1-2-3-4", "1-2--3", "+1-2-3", "01-2-3", "a-b-c", "1-2-3 "] {
            assert_eq!(bad.parse::<AttemptId>(), Err(()), "{bad:?}");
        }
        for never in ["0-2-3", "1-0-3", "1-2-65536", "1-2-2147483648", "1-2-18446744073709551615"] {
            assert_eq!(never.parse::<AttemptId>(), Err(()), "{never:?}");
        }
    }

    #[test]
    fn slots_read_as_they_were_stored_and_an_unknown_byte_is_closed() {
        let mut slots = Slots::from_bytes(vec![0, 1, 2, 3, 4, 255]);
        let states = [Slot::Leased, Slot::Authorized, Slot::Ended].map(Some);
        assert_eq!([0, 1, 2].map(|index| slots.get(index)), states);
        assert_eq!([3, 4, 5].map(|index| slots.get(index)), [Some(Slot::Closed); 3]);
        assert_eq!(slots.get(6), None);
        assert_eq!(slots.in_state(Slot::Closed), [3, 4, 5]);
        assert!(slots.advance(0, Slot::Authorized));
        assert_eq!(slots.as_bytes(), [1, 1, 2, 3, 4, 255]);
        assert_eq!(Slots::new(2).as_bytes(), [0, 0]);
    }

    #[test]
    fn a_lease_is_done_when_no_slot_can_be_dialled_or_end() {
        for (bytes, is_done) in [
            (vec![], true),
            (vec![2, 3, 255], true),
            (vec![2, 0, 3], false),
            (vec![2, 1, 3], false),
        ] {
            assert_eq!(Slots::from_bytes(bytes.clone()).is_done(), is_done, "{bytes:?}");
        }
    }

    #[test]
    fn an_attempt_begins_at_run_1_lease_1_and_slot_0() {
        for edge in ["1-1-0", "1-1-65535", "2147483647-9223372036854775807-0"] {
            assert_eq!(edge.parse::<AttemptId>().map(|id| id.to_string()), Ok(edge.to_owned()));
        }
        let id = AttemptId { run: 2, lease: 41, slot: 499 };
        assert_eq!(id.slot_id(), SlotId { lease: 41, slot: 499 });
    }
}
