//! States of contacts: the domain type ContactState, packed into blocks of consecutive positions.
//!
//! A block is one narrow row, so that a lease's contacts cost a few rows to read and to write. A
//! contact takes 40 bytes of its block. A contact to which nothing happened has only zero bytes:
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
//! | 39 | not used yet |

use super::place::Place;
use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::facts::{CallOutcome, Flags};
use campaign_domain::history::ContactState;
use campaign_domain::lease::SlotId;
use campaign_domain::settings::Epoch;
use std::collections::BTreeMap;
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

/// Contacts in a block.
pub const BLOCK_CONTACTS: i64 = 32;
const STATE_BYTES: usize = 40;
const BLOCK_BYTES: usize = STATE_BYTES * 32;
/// Most slots that a lease can have; a power of two.
const SLOTS: i64 = 8_192;
const FINISHED: u8 = 128;
const MAY_RING: u8 = 1;
const CALLING_IN: u8 = 2;

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

fn pack(state: &ContactState) -> [u8; STATE_BYTES] {
    let mut bytes = [0; STATE_BYTES];
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
    bytes
}

fn unpack(bytes: &[u8]) -> ContactState {
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
    }
}

/// Returns the block that a position is in.
#[must_use]
pub fn block_of(position: i64) -> i64 {
    position.div_euclid(BLOCK_CONTACTS)
}

fn range_of(position: i64) -> std::ops::Range<usize> {
    let index = usize::try_from(position.rem_euclid(BLOCK_CONTACTS)).unwrap_or(0);
    index * STATE_BYTES..(index + 1) * STATE_BYTES
}

/// States of some contacts, and of their neighbours in the same blocks.
#[derive(Debug, Default)]
pub struct States {
    /// Blocks by number.
    blocks: BTreeMap<i64, Block>,
}

/// Block, as stored or about to be stored.
#[derive(Debug, Default)]
struct Block {
    /// Packed states; empty if no contact of the block has one.
    states: Vec<u8>,
    /// Place of the block in its table, if stored. Finding the block again would mean a walk past
    /// all its old versions, as long as somebody's snapshot keeps those versions.
    place: Option<Place>,
    is_changed: bool,
}

impl States {
    /// Returns the state of a contact.
    #[must_use]
    pub fn get(&self, position: i64) -> ContactState {
        let block = self.blocks.get(&block_of(position));
        block.and_then(|block| block.get(position)).unwrap_or_default()
    }

    /// Returns a reader of one contact after the other, which is cheap in order of position.
    #[must_use]
    pub fn in_order(&self) -> InOrder<'_> {
        InOrder { states: self, block: None }
    }

    /// Changes the state of a contact, to be saved.
    pub fn set(&mut self, position: i64, state: &ContactState) {
        let number = block_of(position);
        let block = self.blocks.entry(number).or_default();
        block.states.resize(BLOCK_BYTES, 0);
        block.states[range_of(position)].copy_from_slice(&pack(state));
        block.is_changed = true;
    }

    fn changed(&self) -> impl Iterator<Item = (i64, &Block)> {
        let blocks = self.blocks.iter().map(|(number, block)| (*number, block));
        blocks.filter(|(_, block)| block.is_changed)
    }

    /// Returns the contacts to which something happened, in order of position.
    pub fn iter(&self) -> impl Iterator<Item = (i64, ContactState)> {
        self.blocks.iter().flat_map(|(number, block)| {
            let states = (number * BLOCK_CONTACTS..).zip(block.states.chunks_exact(STATE_BYTES));
            let known = states.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
            known.map(|(position, bytes)| (position, unpack(bytes)))
        })
    }
}

/// Reader of states in order: see [`States::in_order`].
#[derive(Debug)]
pub struct InOrder<'a> {
    states: &'a States,
    /// Block looked at last, and its number.
    block: Option<(i64, Option<&'a Block>)>,
}

impl InOrder<'_> {
    /// Returns the state of a contact.
    pub fn get(&mut self, position: i64) -> ContactState {
        let number = block_of(position);
        let block = match self.block {
            Some((last, block)) if last == number => block,
            _ => self.states.blocks.get(&number),
        };
        self.block = Some((number, block));
        block.and_then(|block| block.get(position)).unwrap_or_default()
    }
}

impl Block {
    /// Returns the state of a contact that is in the block.
    fn get(&self, position: i64) -> Option<ContactState> {
        self.states.get(range_of(position)).map(unpack)
    }
}

fn blocks_of(positions: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut blocks: Vec<i64> = positions.into_iter().map(block_of).collect();
    // Positions mostly come in order, many of one block side by side.
    blocks.dedup();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

/// Query for the states of a range of blocks.
const IN_BLOCKS: &str = "SELECT block, states, ctid FROM state_blocks
    WHERE campaign_id = $1 AND block >= $2 AND block < $3 ORDER BY campaign_id, block";
/// Query for the states of some blocks.
const AT_BLOCKS: &str = "SELECT s.block, s.states, s.place FROM unnest($2::int8[]) AS w(block)
    CROSS JOIN LATERAL (SELECT block, states, ctid AS place FROM state_blocks
        WHERE campaign_id = $1 AND block = w.block LIMIT 1) s";

/// Returns the range that blocks are in, if they are so close that reading the whole range is
/// cheaper.
fn close_range(blocks: &[i64]) -> Option<(i64, i64)> {
    let (first, last) = (*blocks.first()?, *blocks.last()?);
    let is_close = usize::try_from(last - first).is_ok_and(|span| span < 2 * blocks.len());
    is_close.then_some((first, last + 1))
}

fn read(rows: &[Row]) -> States {
    let block =
        |row: &Row| Block { states: row.get(1), place: Some(row.get(2)), is_changed: false };
    States { blocks: rows.iter().map(|row| (row.get(0), block(row))).collect() }
}

/// Returns the states of contacts. To change states, use [`lock`] instead.
pub async fn find(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: impl IntoIterator<Item = i64>,
) -> StoreResult<States> {
    let wanted = blocks_of(positions);
    if wanted.is_empty() {
        return Ok(States::default());
    }
    let rows = match close_range(&wanted) {
        Some((first, end)) => tx.query(IN_BLOCKS, &[&campaign, &first, &end]).await?,
        None => tx.query(AT_BLOCKS, &[&campaign, &wanted]).await?,
    };
    Ok(read(&rows))
}

/// Returns the blocks of which only some contacts are among `positions`. The positions must be in
/// order, each once.
fn shared_blocks(positions: &[i64]) -> Vec<i64> {
    positions
        .chunk_by(|left, right| block_of(*left) == block_of(*right))
        .filter(|contacts| contacts.len() * STATE_BYTES < BLOCK_BYTES)
        .map(|contacts| block_of(contacts[0]))
        .collect()
}

/// Locks the states of contacts until commit, and returns them.
///
/// The caller already holds these contacts, by their leases or by the campaign's gate. So a block
/// needs a lock only if it holds other contacts too, which another caller may hold.
pub async fn lock(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: impl IntoIterator<Item = i64>,
) -> StoreResult<States> {
    let mut positions: Vec<i64> = positions.into_iter().collect();
    positions.sort_unstable();
    positions.dedup();
    let wanted = blocks_of(positions.iter().copied());
    if wanted.is_empty() {
        return Ok(States::default());
    }
    // Missing blocks are inserted, because a row that does not exist cannot be locked. All are
    // locked in one order, so that no two transactions deadlock. A condition that is never true
    // locks a row without writing it.
    let lock = "INSERT INTO state_blocks (campaign_id, block, states)
        SELECT $1, w.block, '' FROM unnest($2::int8[]) AS w(block)
        ON CONFLICT (campaign_id, block) DO UPDATE SET states = excluded.states WHERE false";
    let shared = shared_blocks(&positions);
    let these: Params<'_> = &[&campaign, &shared];
    let rows = match close_range(&wanted) {
        Some((first, end)) => {
            tx.then_query(lock, these, IN_BLOCKS, &[&campaign, &first, &end]).await?
        }
        None => tx.then_query(lock, these, AT_BLOCKS, &[&campaign, &wanted]).await?,
    };
    Ok(read(&rows))
}

/// Writes back the changes of locked states.
pub async fn save(tx: &Tx<'_>, campaign: Uuid, states: &States) -> StoreResult<()> {
    let (stored, new): (Vec<_>, Vec<_>) =
        states.changed().partition(|(_, block)| block.place.is_some());
    try_join!(insert(tx, campaign, &new), update(tx, &stored))?;
    Ok(())
}

async fn insert(tx: &Tx<'_>, campaign: Uuid, blocks: &[(i64, &Block)]) -> StoreResult<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = blocks.iter().map(|(number, _)| *number).collect();
    let states: Vec<&[u8]> = blocks.iter().map(|(_, block)| block.states.as_slice()).collect();
    let sql = "INSERT INTO state_blocks (campaign_id, block, states)
        SELECT $1, * FROM unnest($2::int8[], $3::bytea[])";
    tx.execute(sql, &[&campaign, &numbers, &states]).await?;
    Ok(())
}

/// Writes blocks at the places where they were found.
async fn update(tx: &Tx<'_>, blocks: &[(i64, &Block)]) -> StoreResult<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let places: Vec<Option<Place>> = blocks.iter().map(|(_, block)| block.place).collect();
    let states: Vec<&[u8]> = blocks.iter().map(|(_, block)| block.states.as_slice()).collect();
    let sql = "UPDATE state_blocks s SET states = t.states
        FROM unnest($1::tid[], $2::bytea[]) AS t(place, states) WHERE s.ctid = t.place";
    let written = tx.execute(sql, &[&places, &states]).await?;
    // If a block was not found, none of the writes may count.
    if written == blocks.len() as u64 { Ok(()) } else { Err(StoreError::Meddled) }
}

/// Returns the states of all contacts in a range of positions that begins with a block.
pub async fn in_range(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: std::ops::Range<i64>,
) -> StoreResult<States> {
    let (first, end) = (block_of(positions.start), block_of(positions.end + BLOCK_CONTACTS - 1));
    Ok(read(&tx.query(IN_BLOCKS, &[&campaign, &first, &end]).await?))
}

/// Deletes the states of generations before `generation` in a range of whole blocks. Except:
/// contacts that wait because their phone may still ring. The caller must hold the campaign's gate
/// exclusively.
pub async fn purge(
    tx: &Tx<'_>,
    campaign: Uuid,
    positions: std::ops::Range<i64>,
    generation: i32,
) -> StoreResult<()> {
    let mut states = in_range(tx, campaign, positions).await?;
    let after = |(position, state): (i64, ContactState)| {
        let left = state.clone().after_reset(generation, tx.now);
        (left != state).then_some((position, left))
    };
    let cleared: Vec<(i64, ContactState)> = states.iter().filter_map(after).collect();
    for (position, left) in cleared {
        states.set(position, &left);
    }
    let is_empty = |(_, block): &(i64, &Block)| block.states.iter().all(|byte| *byte == 0);
    let (gone, kept): (Vec<_>, Vec<_>) = states.changed().partition(is_empty);
    let gone: Vec<i64> = gone.into_iter().map(|(number, _)| number).collect();
    let sql = "DELETE FROM state_blocks WHERE campaign_id = $1 AND block = ANY($2)";
    tx.execute(sql, &[&campaign, &gone]).await?;
    update(tx, &kept).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = ContactState> {
        let numbers = (0..9_i32, 0..9_i32, 0..9_i32, 0..86_401_i32, 0..1_000_i32, 0..256_i32);
        let outcome = proptest::option::of(proptest::sample::select(CallOutcome::ALL.to_vec()));
        let call = proptest::option::of((1..1_i64 << 49, 0..8_192_usize));
        let due = proptest::option::of(1..4_000_000_000_000_000_i64);
        (numbers, 0..256_i16, 0..256_i16, any::<(bool, bool, bool)>(), outcome, call, due).prop_map(
            |(
                numbers,
                flags,
                cycle_flags,
                (finished, may_ring, is_calling_in),
                last_outcome,
                call,
                due,
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

    proptest! {
        #[test]
        fn a_block_is_shared_unless_all_of_it_is_asked_for(missing in 0..32_i64, more in 0..32_i64) {
            let whole = 64..96_i64;
            let asked = |mut positions: Vec<i64>| {
                positions.dedup();
                shared_blocks(&positions)
            };
            prop_assert_eq!(asked(whole.clone().collect()), [0_i64; 0]);
            prop_assert_eq!(asked(whole.clone().filter(|at| *at != 64 + missing).collect()), [2]);
            prop_assert_eq!(asked(whole.chain([96 + more, 96 + more]).collect()), [3]);
        }

        #[test]
        fn states_read_back_and_neighbours_stay(first in any_state(), second in any_state()) {
            let mut states = States::default();
            states.set(33, &first);
            states.set(34, &second);
            prop_assert_eq!(states.get(33), first);
            prop_assert_eq!(states.get(34), second);
            prop_assert_eq!(states.get(32), ContactState::default());
            prop_assert_eq!(states.get(1), ContactState::default());
        }
    }
}
