//! Work on kept counts that this process noticed and left for later.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Rows that are added up in the background rather than by each reader.
pub(super) const MANY_ROWS: usize = 256;
/// Most campaigns noted at a time. If there are more, the periodic checks find them.
const MAX_NOTED: usize = 65_536;

/// Campaigns whose kept counts need work.
#[derive(Debug, Default)]
pub(super) struct ToCount {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    /// Rows to add up that this process appended or read since its last look, by campaign.
    rows: HashMap<Uuid, usize>,
    /// Campaigns whose counts are not known to be right, and were asked for.
    unkept: HashSet<Uuid>,
}

impl ToCount {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that rows to add up were appended.
    pub(super) fn note_rows(&self, campaign: Uuid, rows: usize) {
        let mut noted = self.noted();
        if noted.rows.len() >= MAX_NOTED {
            noted.rows.clear();
        }
        *noted.rows.entry(campaign).or_default() += rows;
    }

    /// Notes that a reader found rows to add up, if they are many.
    pub(super) fn note_many(&self, campaign: Uuid, rows: usize) {
        if rows >= MANY_ROWS {
            self.note_rows(campaign, rows);
        }
    }

    /// Notes that a campaign's counts were asked for and are not known to be right.
    pub(super) fn note_unkept(&self, campaign: Uuid) {
        let mut noted = self.noted();
        if noted.unkept.len() < MAX_NOTED {
            noted.unkept.insert(campaign);
        }
    }

    /// Takes the campaigns with many rows to add up.
    pub(super) fn take_to_fold(&self) -> Vec<Uuid> {
        let many = |_: &Uuid, rows: &mut usize| *rows >= MANY_ROWS;
        self.noted().rows.extract_if(many).map(|(campaign, _)| campaign).collect()
    }

    /// Takes the campaigns whose counts are not known to be right.
    pub(super) fn take_unkept(&self) -> HashSet<Uuid> {
        std::mem::take(&mut self.noted().unkept)
    }
}
