//! Exact counts of contacts by the traits that the rules look at, so that the rules judge a class
//! instead of each contact. The whole list is read once, in windows of positions, so that memory
//! does not grow with the list.

use super::classes::Kept;
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
use std::ops::Range;
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
pub(super) struct Traits {
    pub is_beyond: bool,
    pub is_suppressed: bool,
    pub slot: Option<Slot>,
    pub flags: i16,
    pub cycle_flags: i16,
    pub refused_run: i32,
    pub finished: bool,
    pub is_later: bool,
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
    fn add(&mut self, state: &ContactState, contacts: i64, attempts: i64) {
        self.attempts += attempts;
        for (count, flag) in [
            (&mut self.refused, Flags::REFUSED),
            (&mut self.transferred, Flags::TRANSFERRED),
            (&mut self.success, Flags::SUCCESS),
            (&mut self.link_opened, Flags::LINK_OPENED),
            (&mut self.texted, Flags::TEXTED),
        ] {
            *count += if state.flags.intersects(flag) { contacts } else { 0 };
        }
    }
}

/// Contacts counted by traits.
#[derive(Debug)]
pub(super) struct Counting {
    view: View,
    now: Instant,
    classes: HashMap<Traits, Counted>,
    totals: HistoryTotals,
}

impl Counting {
    pub(super) fn new(view: View, now: Instant) -> Self {
        Self { view, now, classes: HashMap::new(), totals: HistoryTotals::default() }
    }

    /// Counts contacts with these traits. `next_due_at` is the earliest due time ahead.
    pub(super) fn add(&mut self, traits: Traits, contacts: i64, next_due_at: Option<Instant>) {
        if contacts == 0 {
            return;
        }
        let counted = self.classes.entry(traits).or_default();
        counted.contacts += contacts;
        counted.next_due_at = counted.next_due_at.into_iter().chain(next_due_at).min();
    }

    /// Counts one contact.
    pub(super) fn add_contact(
        &mut self,
        position: i64,
        state: ContactState,
        is_suppressed: bool,
        slot: Option<Slot>,
    ) {
        let state = state.seen_in(self.view.epoch);
        self.totals.add(&state, 1, i64::from(state.attempts));
        let later = state.due_at.filter(|due_at| *due_at > self.now);
        let is_beyond = self.view.position_limit.is_some_and(|limit| position >= limit);
        let traits = Traits { is_beyond, slot, ..self.traits(&state, is_suppressed) };
        self.add(Traits { is_later: later.is_some(), ..traits }, 1, later);
    }

    /// Counts contacts of a class with this state, as far as the rules look at it. Of these, `later`
    /// wait for a due time ahead.
    pub(super) fn add_class(&mut self, state: &ContactState, is_suppressed: bool, kept: &Kept) {
        let due = ContactState { due_at: Some(Instant::MAX_UTC), ..state.clone() };
        let due = due.seen_in(self.view.epoch);
        let later = if due.due_at.is_some() { kept.later } else { 0 };
        let is_of_generation = state.epoch.generation == self.view.epoch.generation;
        let attempts = if is_of_generation { kept.count.attempts } else { 0 };
        let contacts = kept.count.contacts;
        self.totals.add(&due, contacts, attempts);
        let traits = self.traits(&due, is_suppressed);
        self.add(traits, contacts - later, None);
        self.add(Traits { is_later: true, ..traits }, later, kept.next_due_at);
    }

    /// Returns the traits of a state as seen in the epoch, of a contact that is due.
    fn traits(&self, state: &ContactState, is_suppressed: bool) -> Traits {
        Traits {
            is_suppressed,
            flags: state.flags.0,
            cycle_flags: state.cycle_flags.0,
            refused_run: state.refused_run,
            finished: state.finished,
            ..Traits::default()
        }
    }

    pub(super) fn survey(self) -> Survey {
        let view = self.view;
        let classes = self.classes.into_iter();
        Survey {
            classes: classes.map(|(traits, counted)| traits.class(view, counted)).collect(),
            totals: self.totals,
        }
    }
}

/// Counts every contact of a campaign. The transaction must read one snapshot throughout.
pub async fn survey(tx: &Tx<'_>, campaign: Uuid, view: View) -> StoreResult<Survey> {
    let end = campaigns::counters(tx, campaign).await?.next_position;
    let held = held(tx, campaign, view.run).await?;
    let mut counting = Counting::new(view, tx.now);
    for window in windows(end) {
        count_window(&mut counting, &held, tx, campaign, window).await?;
    }
    Ok(counting.survey())
}

/// Returns the windows in which positions below `end` are read.
pub(super) fn windows(end: i64) -> impl Iterator<Item = Range<i64>> {
    let starts = (0..).map(|window| window * WINDOW_CONTACTS).take_while(move |start| *start < end);
    starts.map(move |start| start..(start + WINDOW_CONTACTS).min(end))
}

async fn count_window(
    counting: &mut Counting,
    held: &HashMap<i64, Slot>,
    tx: &Tx<'_>,
    campaign: Uuid,
    window: Range<i64>,
) -> StoreResult<()> {
    let states = states::in_range(tx, campaign, window.clone()).await?;
    let deleted = deleted(tx, campaign, &window).await?;
    let suppressed = suppressed(tx, campaign, &window).await?;
    let states: HashMap<i64, ContactState> = states.iter().collect();
    // Contacts of which anything is known are looked at one by one. All other contacts are alike.
    let mut special: HashSet<i64> = states.keys().copied().collect();
    special.extend(&suppressed);
    special.extend(held.keys().filter(|position| window.contains(position)));
    special.extend(&deleted);
    special.retain(|position| window.contains(position));
    let limit = counting.view.position_limit.unwrap_or(i64::MAX);
    let mut plain = [limit.clamp(window.start, window.end) - window.start, 0];
    plain[1] = window.end - window.start - plain[0];
    for position in special {
        plain[usize::from(position >= limit)] -= 1;
        if !deleted.contains(&position) {
            let state = states.get(&position).cloned().unwrap_or_default();
            let slot = held.get(&position).copied();
            counting.add_contact(position, state, suppressed.contains(&position), slot);
        }
    }
    for (is_beyond, count) in [(false, plain[0]), (true, plain[1])] {
        counting.add(Traits { is_beyond, ..Traits::default() }, count, None);
    }
    Ok(())
}

/// Returns the contacts in a call under any run, or leased in this run.
pub(super) async fn held(tx: &Tx<'_>, campaign: Uuid, run: i32) -> StoreResult<HashMap<i64, Slot>> {
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

/// Returns the deleted contacts in a window.
pub(super) async fn deleted(
    tx: &Tx<'_>,
    campaign: Uuid,
    window: &Range<i64>,
) -> StoreResult<HashSet<i64>> {
    let sql = "SELECT position FROM contacts WHERE campaign_id = $1 AND position >= $2
        AND position < $3 AND deleted_at IS NOT NULL";
    let rows = tx.query(sql, &[&campaign, &window.start, &window.end]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Returns the contacts in a window whose numbers are on a list that holds for the campaign.
pub(super) async fn suppressed(
    tx: &Tx<'_>,
    campaign: Uuid,
    window: &Range<i64>,
) -> StoreResult<HashSet<i64>> {
    let sql = format!(
        "SELECT c.position FROM contacts c
         JOIN suppressions x ON x.phone = c.phone AND {HOLDS_FOR_CAMPAIGN}
         WHERE c.campaign_id = $1 AND c.position >= $2 AND c.position < $3"
    );
    let rows = tx.query(&sql, &[&campaign, &window.start, &window.end]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
