//! States of contacts: packed, in blocks of consecutive positions.
//!
//! A block is one narrow row, so that a lease's contacts cost a few rows to read and to write.
//! A transaction that changes a state changes the kept counts too.

use super::classes::{self, Tally};
use super::packed::{Marks, NO_STATE, Packed, STATE_BYTES, marked, pack, unpack};
use super::place::Place;
use super::{Params, StoreError, StoreResult, Tx};
use campaign_domain::Instant;
use campaign_domain::history::ContactState;
use std::collections::BTreeMap;
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

/// Contacts in a block.
pub const BLOCK_CONTACTS: i64 = 32;
const BLOCK_BYTES: usize = STATE_BYTES * 32;

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
    /// States before the first change; `None` if none was changed.
    before: Option<Vec<u8>>,
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

    /// Changes the state of a contact, to be saved. The contact's marks stay.
    pub fn set(&mut self, position: i64, state: &ContactState) {
        let marks = Marks::of(&self.packed(position));
        self.put(position, pack(state), marks);
    }

    /// Changes what a contact is counted as, to be saved.
    pub(super) fn set_marks(&mut self, position: i64, marks: Marks) {
        self.put(position, self.packed(position), marks);
    }

    fn put(&mut self, position: i64, packed: Packed, marks: Marks) {
        let block = self.blocks.entry(block_of(position)).or_default();
        if block.before.is_none() {
            block.before = Some(block.states.clone());
        }
        block.states.resize(BLOCK_BYTES, 0);
        block.states[range_of(position)].copy_from_slice(&marked(packed, marks));
    }

    fn changed(&self) -> impl Iterator<Item = (i64, &Block)> {
        let blocks = self.blocks.iter().map(|(number, block)| (*number, block));
        blocks.filter(|(_, block)| block.before.is_some())
    }

    /// Returns how the changes change the counts.
    fn tally(&self, now: Instant) -> Tally {
        let mut tally = Tally::new(now);
        for (_, block) in self.changed() {
            let before = block.before.as_deref().unwrap_or_default();
            for (index, new) in block.states.chunks_exact(STATE_BYTES).enumerate() {
                let at = index * STATE_BYTES..(index + 1) * STATE_BYTES;
                let old = before.get(at).unwrap_or(&NO_STATE);
                if old != new {
                    tally.add(old, -1);
                    tally.add(new, 1);
                }
            }
        }
        tally
    }

    /// Returns the contacts to which something happened, in order of position.
    pub fn iter(&self) -> impl Iterator<Item = (i64, ContactState)> {
        self.all_packed().map(|(position, bytes)| (position, unpack(bytes)))
    }

    /// Returns the packed states that are not empty, in order of position.
    pub(super) fn all_packed(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.blocks.iter().flat_map(|(number, block)| {
            let states = (number * BLOCK_CONTACTS..).zip(block.states.chunks_exact(STATE_BYTES));
            states.filter(|(_, bytes)| **bytes != NO_STATE)
        })
    }

    /// Returns the packed state of a contact.
    pub(super) fn packed(&self, position: i64) -> Packed {
        let block = self.blocks.get(&block_of(position));
        let bytes = block.and_then(|block| block.states.get(range_of(position)));
        bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or(NO_STATE)
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
    let block = |row: &Row| Block { states: row.get(1), place: Some(row.get(2)), before: None };
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

/// Writes back the changes of locked states, and counts them.
pub async fn save(tx: &Tx<'_>, campaign: Uuid, states: &States) -> StoreResult<()> {
    let (stored, new): (Vec<_>, Vec<_>) =
        states.changed().partition(|(_, block)| block.place.is_some());
    let tally = states.tally(tx.now);
    try_join!(
        insert(tx, campaign, &new),
        update(tx, &stored),
        classes::append(tx, campaign, &tally),
    )?;
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
    update(tx, &kept).await?;
    classes::append(tx, campaign, &states.tally(tx.now)).await
}

#[cfg(test)]
mod tests {
    use super::super::packed::tests::any_state;
    use super::*;
    use proptest::prelude::*;

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
