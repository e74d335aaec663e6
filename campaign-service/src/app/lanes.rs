//! Lanes of campaigns: state that callers of one campaign share as long as one of them is there.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Lanes by campaign, of the campaigns that somebody calls.
pub struct Lanes<L>(Arc<Mutex<HashMap<Uuid, Arc<L>>>>);

/// Caller in a campaign's lane. The lane is forgotten with the last one.
pub struct InLane<L> {
    lanes: Lanes<L>,
    campaign: Uuid,
    lane: Arc<L>,
}

impl<L> Clone for Lanes<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L> Default for Lanes<L> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<L> fmt::Debug for Lanes<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

impl<L> fmt::Debug for InLane<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InLane").field("campaign", &self.campaign).finish_non_exhaustive()
    }
}

impl<L> Lanes<L> {
    /// Enters the lane of a campaign. Makes a `new` lane if nobody is there.
    pub fn enter(&self, campaign: Uuid, new: impl FnOnce() -> L) -> InLane<L> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = Arc::clone(lanes.entry(campaign).or_insert_with(|| Arc::new(new())));
        InLane { lanes: self.clone(), campaign, lane }
    }

    /// Returns whether nobody is in any lane.
    #[cfg(test)]
    pub fn are_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl<L> Deref for InLane<L> {
    type Target = L;
    fn deref(&self) -> &L {
        &self.lane
    }
}

impl<L> Drop for InLane<L> {
    fn drop(&mut self) {
        let mut lanes = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The two references are the map's and ours. Under the map's lock, nobody gets another.
        if Arc::strong_count(&self.lane) <= 2 {
            lanes.remove(&self.campaign);
        }
    }
}
