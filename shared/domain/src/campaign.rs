//! A campaign's configuration, and what of it may change when.

use crate::lifecycle::State;
use crate::pacing::Pacing;
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// What people set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Shown to people.
    pub display_name: String,
    /// What the campaign is for; must be set before a launch.
    pub description: String,
    /// When calls may be placed; must be set before a launch.
    pub schedule: Option<Schedule>,
    /// When a contact is tried again.
    pub retry_policy: RetryPolicy,
    /// How fast it dials, beside which weight others.
    pub pacing: Pacing,
    /// Where links in texts lead; empty: nowhere, and texts carry none.
    pub link_url: String,
    /// Whether numbers are taken in that cost whoever calls them.
    #[serde(default)]
    pub allow_costly_numbers: bool,
}

impl Config {
    /// The fields that must be set before a launch and are not.
    #[must_use]
    pub fn missing_for_launch(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.description.is_empty() {
            missing.push("description");
        }
        if self.schedule.is_none() {
            missing.push("schedule");
        }
        missing
    }
}

/// Whether a field (by its name in the API) may change now. The configuration is frozen while a run
/// is scheduled or running, but for what does not change whom it engages.
#[must_use]
pub fn may_edit(state: State, is_live_forever: bool, field: &str) -> bool {
    match state {
        State::Draft | State::Paused | State::Completed | State::Cancelled => true,
        State::Scheduled | State::Running => {
            matches!(field, "description" | "pacing")
                || (is_live_forever && field == "schedule.end_time")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_campaign_is_frozen() {
        for state in State::ALL {
            let frozen = matches!(state, State::Running | State::Scheduled);
            assert_eq!(may_edit(state, false, "schedule"), !frozen, "{state:?}");
            assert_eq!(may_edit(state, false, "schedule.end_time"), !frozen, "{state:?}");
            assert!(may_edit(state, true, "schedule.end_time"), "{state:?}");
            assert!(may_edit(state, false, "description"), "{state:?}");
            assert!(may_edit(state, false, "pacing"), "{state:?}");
        }
    }
}
