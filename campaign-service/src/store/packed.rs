//! Packed states: the domain type ContactState in 40 bytes, and its class in 16.
//!
//! A contact to which nothing happened has only zero bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..12 | generation, cycle, refused_run |
//! | 12..20 | due_at in microseconds, 0 for none |
//! | 20..28 | last_call: lease × 8192 + slot, 0 for none |
//! | 28..32 | longest_transfer_seconds |
//! | 32..34 | attempts |
//! | 34..38 | cycle_attempts; last_outcome + 1, and 128 when finished; flags; cycle_flags |
//! | 38 | 1 when `may_ring`, 2 when `is_calling_in`, or their sum |
//! | 39 | marks: 1 when counted as deleted, 2 when counted as suppressed; 8 when `is_finished_otherwise`; 16 × given_back |
//!
//! A class has the fields that the rules look at, apart from the due time: generation, cycle,
//! refused_run, flags, cycle_flags, the bits of [`FINISHED_BIT`] and its neighbours, a zero byte.

use campaign_domain::Instant;
use campaign_domain::facts::{CallOutcome, Flags};
use campaign_domain::history::ContactState;
use campaign_domain::lease::SlotId;
use campaign_domain::settings::Epoch;

/// Bytes of one contact.
pub(super) const STATE_BYTES: usize = 40;
/// State and marks of one contact, packed.
pub(super) type Packed = [u8; STATE_BYTES];
/// Packed state of a contact to which nothing happened.
pub(super) const NO_STATE: Packed = [0; STATE_BYTES];
/// Most slots that a lease can have; a power of two.
const SLOTS: i64 = 8_192;
const FINISHED: u8 = 128;
const MAY_RING: u8 = 1;
const CALLING_IN: u8 = 2;
const DELETED: u8 = 1;
const SUPPRESSED: u8 = 2;
/// Bits of byte 39 that are marks. The version before writes no other bits there, and reads none.
const MARKS: u8 = 7;
const FINISHED_OTHERWISE: u8 = 8;
const GIVEN_BACK_SHIFT: u32 = 4;
const MOST_GIVEN_BACK: u8 = 15;

/// Returns the outcome with a number. A number that only a newer version knows becomes `Unknown`.
pub(super) fn outcome_from_number(number: u8) -> CallOutcome {
    CallOutcome::ALL.get(usize::from(number)).copied().unwrap_or(CallOutcome::Unknown)
}

/// Packs a slot into one number. 0 means none, because no lease has the number 0.
pub(super) fn pack_slot(slot: Option<SlotId>) -> i64 {
    slot.map_or(0, |at| at.lease * SLOTS + i64::try_from(at.slot).unwrap_or(SLOTS - 1))
}

pub(super) fn unpack_slot(packed: i64) -> Option<SlotId> {
    let slot = usize::try_from(packed % SLOTS).unwrap_or(0);
    (packed > 0).then_some(SlotId { lease: packed / SLOTS, slot })
}

/// Converts a count to its stored type. The value `highest` stands for all counts above it.
fn clamped<T: TryFrom<i32> + Default>(count: i32, highest: T) -> T {
    T::try_from(count.max(0)).unwrap_or(highest)
}

/// Packs a state. The marks are left out.
pub(super) fn pack(state: &ContactState) -> Packed {
    let mut bytes = NO_STATE;
    bytes[0..4].copy_from_slice(&state.epoch.generation.to_le_bytes());
    bytes[4..8].copy_from_slice(&state.epoch.cycle.to_le_bytes());
    bytes[8..12].copy_from_slice(&state.refused_run.to_le_bytes());
    let due = state.due_at.map_or(0, |due_at| due_at.timestamp_micros());
    bytes[12..20].copy_from_slice(&due.to_le_bytes());
    bytes[20..28].copy_from_slice(&pack_slot(state.last_call).to_le_bytes());
    bytes[28..32].copy_from_slice(&state.longest_transfer_seconds.to_le_bytes());
    bytes[32..34].copy_from_slice(&clamped(state.attempts, u16::MAX).to_le_bytes());
    bytes[34] = clamped(state.cycle_attempts, u8::MAX);
    let outcome = state.last_outcome.map_or(0, |outcome| outcome.number() + 1);
    bytes[35] = outcome | if state.finished { FINISHED } else { 0 };
    // All existing flags fit in a byte.
    bytes[36] = state.flags.0.to_le_bytes()[0];
    bytes[37] = state.cycle_flags.0.to_le_bytes()[0];
    bytes[38] = if state.may_ring { MAY_RING } else { 0 }
        | if state.is_calling_in { CALLING_IN } else { 0 };
    let given_back = clamped(state.given_back, MOST_GIVEN_BACK).min(MOST_GIVEN_BACK);
    bytes[39] = given_back << GIVEN_BACK_SHIFT
        | if state.is_finished_otherwise { FINISHED_OTHERWISE } else { 0 };
    bytes
}

pub(super) fn unpack(bytes: &[u8]) -> ContactState {
    let int =
        |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| {
        let low = int(at).cast_unsigned();
        let high = int(at + 4).cast_unsigned();
        (u64::from(high) << 32 | u64::from(low)).cast_signed()
    };
    let due = long(12);
    let outcome = bytes[35] & !FINISHED;
    ContactState {
        epoch: Epoch { generation: int(0), cycle: int(4) },
        refused_run: int(8),
        due_at: if due == 0 { None } else { Instant::from_timestamp_micros(due) },
        last_call: unpack_slot(long(20)),
        longest_transfer_seconds: int(28),
        attempts: i32::from(u16::from_le_bytes([bytes[32], bytes[33]])),
        cycle_attempts: i32::from(bytes[34]),
        last_outcome: outcome.checked_sub(1).map(outcome_from_number),
        finished: bytes[35] & FINISHED != 0,
        flags: Flags(i16::from(bytes[36])),
        cycle_flags: Flags(i16::from(bytes[37])),
        may_ring: bytes[38] & MAY_RING != 0,
        is_calling_in: bytes[38] & CALLING_IN != 0,
        given_back: i32::from(bytes[39] >> GIVEN_BACK_SHIFT),
        is_finished_otherwise: bytes[39] & FINISHED_OTHERWISE != 0,
    }
}

/// Marks of a contact beside its state: what it is counted as. The contact and the suppression
/// lists tell what it is; the recounts name the contacts that may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub is_deleted: bool,
    pub is_suppressed: bool,
}

impl Marks {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { is_deleted: bytes[39] & DELETED != 0, is_suppressed: bytes[39] & SUPPRESSED != 0 }
    }
}

/// Returns a packed state with these marks.
pub(super) fn marked(mut packed: Packed, marks: Marks) -> Packed {
    packed[39] = packed[39] & !MARKS
        | if marks.is_deleted { DELETED } else { 0 }
        | if marks.is_suppressed { SUPPRESSED } else { 0 };
    packed
}

/// Class of a contact, packed: contacts that the rules cannot tell apart, whatever the run. Their
/// due times may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClassKey(pub(super) [u8; 16]);

const FINISHED_BIT: u8 = 1;
const BUSY_BIT: u8 = 2;
const DELETED_BIT: u8 = 4;
const SUPPRESSED_BIT: u8 = 8;

impl ClassKey {
    /// Returns the class of a packed state.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut key = [0; 16];
        key[0..12].copy_from_slice(&bytes[0..12]);
        key[12..14].copy_from_slice(&bytes[36..38]);
        let marks = Marks::of(bytes);
        for (is_set, bit) in [
            (bytes[35] & FINISHED != 0, FINISHED_BIT),
            (bytes[38] != 0, BUSY_BIT),
            (marks.is_deleted, DELETED_BIT),
            (marks.is_suppressed, SUPPRESSED_BIT),
        ] {
            key[14] |= if is_set { bit } else { 0 };
        }
        Self(key)
    }

    pub(super) fn marks(self) -> Marks {
        Marks {
            is_deleted: self.0[14] & DELETED_BIT != 0,
            is_suppressed: self.0[14] & SUPPRESSED_BIT != 0,
        }
    }

    /// Returns a state that stands for the class, of a contact that is due at a time.
    pub(super) fn state(self, due_at: Option<Instant>) -> ContactState {
        let mut bytes = NO_STATE;
        bytes[0..12].copy_from_slice(&self.0[0..12]);
        bytes[36..38].copy_from_slice(&self.0[12..14]);
        bytes[35] = if self.0[14] & FINISHED_BIT != 0 { FINISHED } else { 0 };
        bytes[38] = if self.0[14] & BUSY_BIT != 0 { MAY_RING } else { 0 };
        ContactState { due_at, ..unpack(&bytes) }
    }
}

/// Returns the due time of a packed state in microseconds; 0 for none.
pub(super) fn due_micros(bytes: &[u8]) -> i64 {
    let mut due = [0; 8];
    due.copy_from_slice(&bytes[12..20]);
    i64::from_le_bytes(due)
}

/// Returns the attempts of a packed state.
pub(super) fn attempts(bytes: &[u8]) -> i64 {
    i64::from(u16::from_le_bytes([bytes[32], bytes[33]]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use campaign_domain::eligibility::{Candidate, RunRules};
    use campaign_domain::settings::{Exclusions, LaunchSettings, TransferredExclusion};
    use proptest::prelude::*;

    pub fn any_state() -> impl Strategy<Value = ContactState> {
        let numbers = (0..9_i32, 0..9_i32, 0..9_i32, 0..86_401_i32, 0..1_000_i32, 0..256_i32);
        let outcome = proptest::option::of(proptest::sample::select(CallOutcome::ALL.to_vec()));
        let ends = (0..16_i32, any::<bool>());
        let call = proptest::option::of((1..1_i64 << 49, 0..8_192_usize));
        let due = proptest::option::of(1..4_000_000_000_000_000_i64);
        let bools = any::<(bool, bool, bool)>();
        (numbers, 0..256_i16, 0..256_i16, bools, outcome, call, due, ends).prop_map(
            |(
                numbers,
                flags,
                cycle_flags,
                (finished, may_ring, is_calling_in),
                last_outcome,
                call,
                due,
                (given_back, is_finished_otherwise),
            )| {
                let (generation, cycle, refused_run, longest, attempts, cycle_attempts) = numbers;
                ContactState {
                    epoch: Epoch { generation, cycle },
                    flags: Flags(flags),
                    longest_transfer_seconds: longest,
                    attempts,
                    last_outcome,
                    refused_run,
                    cycle_flags: Flags(cycle_flags),
                    cycle_attempts: cycle_attempts.min(255),
                    finished,
                    due_at: due.and_then(Instant::from_timestamp_micros),
                    may_ring,
                    is_calling_in,
                    last_call: call.map(|(lease, slot)| SlotId { lease, slot }),
                    given_back,
                    is_finished_otherwise,
                }
            },
        )
    }

    #[test]
    fn outcomes_read_back() {
        for outcome in CallOutcome::ALL {
            assert_eq!(outcome_from_number(outcome.number()), outcome);
        }
    }

    fn any_rules() -> impl Strategy<Value = RunRules> {
        let transferred = vec![
            TransferredExclusion::Ignore,
            TransferredExclusion::AnyTime,
            TransferredExclusion::MoreThan60s,
            TransferredExclusion::MoreThan90s,
            TransferredExclusion::MoreThan120s,
        ];
        let transferred = proptest::sample::select(transferred);
        (any::<[bool; 6]>(), transferred, 0..9_i32, 0..9_i32, 0..9_i32).prop_map(
            |(choices, transferred, run, generation, cycle)| {
                let [refused, success, link_opened, texted, rerun, reset] = choices;
                let exclude = Exclusions { refused, transferred, success, link_opened, texted };
                let settings = LaunchSettings {
                    exclude,
                    rerun_all_contacts: rerun,
                    reset_contact_history: reset,
                    live_forever: false,
                };
                let epoch = Epoch { generation, cycle };
                RunRules { run, epoch, settings, position_limit: None }
            },
        )
    }

    proptest! {
        #[test]
        fn a_class_is_judged_as_each_of_its_contacts(
            state in any_state(),
            rules in any_rules(),
            now in 1..4_000_000_000_000_000_i64,
        ) {
            let bytes = pack(&state);
            let due = due_micros(&bytes);
            let due_at = if due == 0 { None } else { Instant::from_timestamp_micros(due) };
            let class = ClassKey::of(&bytes).state(due_at);
            let now = Instant::from_timestamp_micros(now).expect("a time");
            let judge = |state: &ContactState| {
                let candidate = Candidate { position: 0, is_suppressed: false, state: state.clone() };
                rules.judge(&candidate, now)
            };
            prop_assert_eq!(judge(&class), judge(&state));
            let (class, state) = (class.seen_in(rules.epoch), state.seen_in(rules.epoch));
            prop_assert_eq!(class.flags, state.flags);
            prop_assert_eq!(class.due_at, state.due_at);
        }

        #[test]
        fn marks_are_a_part_of_the_class(state in any_state(), marks in any::<(bool, bool)>()) {
            let marks = Marks { is_deleted: marks.0, is_suppressed: marks.1 };
            let bytes = marked(pack(&state), marks);
            prop_assert_eq!(Marks::of(&bytes), marks);
            prop_assert_eq!(ClassKey::of(&bytes).marks(), marks);
            prop_assert_eq!(unpack(&bytes), state.clone());
            let all_marks = marked(bytes, Marks { is_deleted: true, is_suppressed: true });
            prop_assert_eq!(unpack(&all_marks), state);
        }
    }
}
