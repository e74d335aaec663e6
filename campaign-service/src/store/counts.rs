//! Counts of contacts by the traits that the rules look at, so that the rules judge a class instead
//! of each contact. The whole list is read once, in windows of positions, so that memory does not
//! grow with the list.

use super::states::{self, BLOCK_CONTACTS};
use super::suppressions::HOLDS_FOR_CAMPAIGN;
use super::{StoreResult, Tx, campaigns};
use campaign_domain::Instant;
use campaign_domain::eligibility::Candidate;
use campaign_domain::facts::Flags;
use campaign_domain::history::ContactState;
use campaign_domain::lease::Slot;
use campaign_domain::settings::Epoch;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Positions read at a time.
const WINDOW_CONTACTS: i64 = 2_048 * BLOCK_CONTACTS;

/// Contacts that the rules cannot tell apart.
#[derive(Clone, Debug)]
pub struct Class {
    /// Candidate that stands for the whole class. Its due time is the earliest one ahead; without
    /// one, the candidate is due now.
    pub candidate: Candidate,
    /// Slot that holds a contact of the class in a lease, leased or authorised.
    pub slot: Option<Slot>,
    pub contacts: i64,
}

/// Epoch, run and position limit by which classes are told apart.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub epoch: Epoch,
    pub run: i32,
    pub position_limit: Option<i64>,
}

/// Totals of the history, over contacts that are not deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryTotals {
    pub attempts: i64,
    pub refused: i64,
    pub transferred: i64,
    pub success: i64,
    pub link_opened: i64,
    pub texted: i64,
}

/// All contacts that are not deleted, by class.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub classes: Vec<Class>,
    /// Totals of the generation in view.
    pub totals: HistoryTotals,
}

/// Traits of a contact that the rules look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Traits {
    is_beyond: bool,
    is_suppressed: bool,
    slot: Option<Slot>,
    flags: i16,
    cycle_flags: i16,
    refused_run: i32,
    finished: bool,
    is_later: bool,
}

impl Traits {
    fn class(self, view: View, counted: Counted) -> Class {
        let state = ContactState {
            epoch: view.epoch,
            flags: Flags(self.flags),
            cycle_flags: Flags(self.cycle_flags),
            refused_run: self.refused_run,
            finished: self.finished,
            due_at: counted.next_due_at,
            ..ContactState::default()
        };
        let position = if self.is_beyond { view.position_limit.unwrap_or(0) } else { 0 };
        let candidate = Candidate { position, is_suppressed: self.is_suppressed, state };
        Class { candidate, slot: self.slot, contacts: counted.contacts }
    }
}

/// Number of contacts in a class.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    contacts: i64,
    /// Earliest due time that lies ahead.
    next_due_at: Option<Instant>,
}

impl HistoryTotals {
    fn add(&mut self, state: &ContactState) {
        self.attempts += i64::from(state.attempts);
        for (count, flag) in [
            (&mut self.refused, Flags::REFUSED),
            (&mut self.transferred, Flags::TRANSFERRED),
            (&mut self.success, Flags::SUCCESS),
            (&mut self.link_opened, Flags::LINK_OPENED),
            (&mut self.texted, Flags::TEXTED),
        ] {
            *count += i64::from(state.flags.intersects(flag));
        }
    }
}

/// Counts every contact of a campaign. The transaction must read one snapshot throughout.
pub async fn survey(tx: &Tx<'_>, campaign: Uuid, view: View) -> StoreResult<Survey> {
    let end = campaigns::counters(tx, campaign).await?.next_position;
    let held = held(tx, campaign, view.run).await?;
    let mut counting = Counting {
        view,
        now: tx.now,
        held,
        classes: HashMap::new(),
        totals: HistoryTotals::default(),
    };
    let mut start = 0;
    while start < end {
        let window = start..(start + WINDOW_CONTACTS).min(end);
        counting.count_window(tx, campaign, window).await?;
        start += WINDOW_CONTACTS;
    }
    let classes = counting.classes.into_iter();
    Ok(Survey {
        classes: classes.map(|(traits, counted)| traits.class(view, counted)).collect(),
        totals: counting.totals,
    })
}

struct Counting {
    view: View,
    now: Instant,
    /// Slots that hold contacts, by position.
    held: HashMap<i64, Slot>,
    classes: HashMap<Traits, Counted>,
    totals: HistoryTotals,
}

impl Counting {
    async fn count_window(
        &mut self,
        tx: &Tx<'_>,
        campaign: Uuid,
        window: std::ops::Range<i64>,
    ) -> StoreResult<()> {
        let states = states::in_range(tx, campaign, window.clone()).await?;
        let deleted = deleted(tx, campaign, &window).await?;
        let suppressed = suppressed(tx, campaign, &window).await?;
        let states: HashMap<i64, ContactState> = states.iter().collect();
        // Contacts of which anything is known are looked at one by one. All other contacts are
        // alike.
        let mut special: HashSet<i64> = states.keys().copied().collect();
        special.extend(&suppressed);
        special.extend(self.held.keys().filter(|position| window.contains(position)));
        special.extend(&deleted);
        special.retain(|position| window.contains(position));
        let limit = self.view.position_limit.unwrap_or(i64::MAX);
        let mut plain = [limit.clamp(window.start, window.end) - window.start, 0];
        plain[1] = window.end - window.start - plain[0];
        for position in special {
            let is_beyond = position >= limit;
            plain[usize::from(is_beyond)] -= 1;
            if deleted.contains(&position) {
                continue;
            }
            let state = states.get(&position).cloned().unwrap_or_default().seen_in(self.view.epoch);
            self.totals.add(&state);
            let traits = Traits {
                is_beyond,
                is_suppressed: suppressed.contains(&position),
                slot: self.held.get(&position).copied(),
                flags: state.flags.0,
                cycle_flags: state.cycle_flags.0,
                refused_run: state.refused_run,
                finished: state.finished,
                is_later: state.due_at.is_some_and(|due_at| due_at > self.now),
            };
            let counted = self.classes.entry(traits).or_default();
            counted.contacts += 1;
            let due_at = state.due_at.filter(|due_at| *due_at > self.now);
            counted.next_due_at = counted.next_due_at.into_iter().chain(due_at).min();
        }
        for (is_beyond, count) in [(false, plain[0]), (true, plain[1])] {
            if count > 0 {
                let plain = Traits { is_beyond, ..Traits::default() };
                self.classes.entry(plain).or_default().contacts += count;
            }
        }
        Ok(())
    }
}

/// Returns the contacts in a call under any run, or leased in this run.
async fn held(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<HashMap<i64, Slot>> {
    let mut held = HashMap::new();
    for lease in super::leases::of_runs_before(tx, campaign, run + 1).await? {
        let leased = if lease.run == run { lease.slots.in_state(Slot::Leased) } else { Vec::new() };
        for slot in leased {
            held.entry(lease.positions[slot]).or_insert(Slot::Leased);
        }
        for slot in lease.slots.in_state(Slot::Authorized) {
            held.insert(lease.positions[slot], Slot::Authorized);
        }
    }
    Ok(held)
}

async fn deleted(
    tx: &Tx<'_>,
    campaign: Uuid,
    window: &std::ops::Range<i64>,
) -> StoreResult<HashSet<i64>> {
    let sql = "SELECT position FROM contacts WHERE campaign_id = $1 AND position >= $2
        AND position < $3 AND deleted_at IS NOT NULL";
    let rows = tx.query(sql, &[&campaign, &window.start, &window.end]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn suppressed(
    tx: &Tx<'_>,
    campaign: Uuid,
    window: &std::ops::Range<i64>,
) -> StoreResult<HashSet<i64>> {
    let sql = format!(
        "SELECT c.position FROM contacts c
         JOIN suppressions x ON x.phone = c.phone AND {HOLDS_FOR_CAMPAIGN}
         WHERE c.campaign_id = $1 AND c.position >= $2 AND c.position < $3"
    );
    let rows = tx.query(&sql, &[&campaign, &window.start, &window.end]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
