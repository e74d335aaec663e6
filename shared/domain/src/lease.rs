//! A lease: a batch of contacts in the hands of one worker. Each contact has a slot in it.

/// Most slots of a lease: their indexes are kept in two bytes.
const MAX_SLOTS: usize = 1 << 16;

/// What became of one leased contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Slot {
    /// Handed out; nothing dialled.
    Leased = 0,
    /// May be dialled by the lease's holder, once.
    Authorized = 1,
    /// The attempt is over.
    Ended = 2,
    /// Given back or found excluded; never dialled under this lease.
    Closed = 3,
}

/// The slots of a lease, stored as one byte each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots(Vec<u8>);

impl Slots {
    /// As many slots as contacts, all leased.
    #[must_use]
    pub fn new(contacts: usize) -> Self {
        Self(vec![Slot::Leased as u8; contacts])
    }

    /// As stored. An unknown byte reads as closed: nothing is dialled on a value nobody wrote.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// To store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The slot with this index, if there is one.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Slot> {
        self.0.get(index).map(|byte| match byte {
            0 => Slot::Leased,
            1 => Slot::Authorized,
            2 => Slot::Ended,
            _ => Slot::Closed,
        })
    }

    /// Moves a slot on: leased to authorised or closed, authorised to ended. Returns whether it did;
    /// any other step is refused, so that an attempt is authorised and ended at most once.
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

    /// Indexes of the slots in a state.
    #[must_use]
    pub fn in_state(&self, wanted: Slot) -> Vec<usize> {
        (0..self.0.len()).filter(|index| self.get(*index) == Some(wanted)).collect()
    }

    /// Whether nothing is left to happen under the lease.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.iter().all(|byte| *byte >= Slot::Ended as u8)
    }
}

/// A slot of a lease of the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    /// Number of the lease in its campaign.
    pub lease: i64,
    /// Index in the lease.
    pub slot: usize,
}

/// Names one attempt: the lease's slot it was authorised in, and the run, from which its epoch follows
/// when the lease is long gone.
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
    /// The slot it was authorised in.
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
        // Only the form we print: no signs, no leading zeros, nothing after it.
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
}
