//! Cap on attempts per number, across campaigns.

use crate::Instant;
use crate::access::{Reach, Tenant};
use chrono::TimeDelta;

/// Period that the cap covers.
pub const CAP_WINDOW: TimeDelta = TimeDelta::hours(24);
/// Highest cap that can be set.
pub const MAX_ATTEMPTS_CAP: u16 = 20;

/// Campaigns whose attempts on a number count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CapScope {
    /// Campaigns of one tenant.
    #[default]
    Tenant,
    /// All campaigns. One tenant can use up the cap on a number for another.
    Installation,
}

impl CapScope {
    /// Returns the campaigns whose attempts count for a campaign of a tenant.
    #[must_use]
    pub fn reach(self, tenant: &Tenant) -> Reach {
        match self {
            Self::Tenant => Reach::Of(tenant.clone()),
            Self::Installation => Reach::All,
        }
    }
}

/// Returns when a number may be dialled again, or `None` if it may be dialled now. `attempted_at`
/// holds the earlier dials, newest first. The cap is `max_attempts` in any 24 hours.
#[must_use]
pub fn capped_until(attempted_at: &[Instant], max_attempts: u16, now: Instant) -> Option<Instant> {
    let last_that_counts = usize::from(max_attempts).checked_sub(1)?;
    let free_at = *attempted_at.get(last_that_counts)? + CAP_WINDOW;
    (free_at > now).then_some(free_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_rolling_and_half_open() {
        let at = |hours| Instant::UNIX_EPOCH + TimeDelta::hours(hours);
        let attempts = [at(20), at(10), at(1)];
        assert_eq!(capped_until(&attempts, 3, at(21)), Some(at(25)));
        assert_eq!(capped_until(&attempts, 3, at(25)), None);
        assert_eq!(capped_until(&attempts, 2, at(25)), Some(at(34)));
        assert_eq!(capped_until(&attempts[..2], 3, at(21)), None);
        assert_eq!(capped_until(&attempts, 0, at(21)), None, "no cap");
    }
}
