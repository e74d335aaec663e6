//! Cache of campaigns without leases of earlier runs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// Most campaigns remembered. Others are looked up again.
const MAX_CAMPAIGNS: usize = 10_000;

/// Knowledge that earlier runs have no leases, which stays true. A lease always belongs to the run
/// that is current when it is given. So once all leases of earlier runs are gone, no other comes.
#[derive(Debug, Default)]
pub(super) struct PastRuns {
    /// Run of each campaign before which there are no leases.
    over_before: Mutex<HashMap<Uuid, i32>>,
}

impl PastRuns {
    /// Returns whether the runs before `run` are known to have no leases.
    pub fn are_over(&self, campaign: Uuid, run: i32) -> bool {
        let over_before = self.over_before.lock().unwrap_or_else(PoisonError::into_inner);
        over_before.get(&campaign).is_some_and(|known| *known >= run)
    }

    /// Remembers that the runs before `run`, which is or was current, have no leases.
    pub fn note_over(&self, campaign: Uuid, run: i32) {
        let mut over_before = self.over_before.lock().unwrap_or_else(PoisonError::into_inner);
        if over_before.len() >= MAX_CAMPAIGNS {
            over_before.clear();
        }
        let known = over_before.entry(campaign).or_insert(run);
        *known = run.max(*known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_run_is_looked_into_again() {
        let (runs, campaign) = (PastRuns::default(), Uuid::new_v4());
        assert!(!runs.are_over(campaign, 1));
        runs.note_over(campaign, 2);
        runs.note_over(campaign, 1);
        assert!(runs.are_over(campaign, 1) && runs.are_over(campaign, 2));
        assert!(!runs.are_over(campaign, 3));
        assert!(!runs.are_over(Uuid::new_v4(), 1));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let runs = PastRuns::default();
        for _ in 0..MAX_CAMPAIGNS + 1 {
            runs.note_over(Uuid::new_v4(), 1);
        }
        assert!(runs.over_before.lock().expect("not poisoned").len() <= MAX_CAMPAIGNS);
    }
}
