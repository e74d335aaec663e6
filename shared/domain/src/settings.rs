//! Launch settings: the choices of one launch, fixed for its run.

use crate::facts::Flags;
use serde::{Deserialize, Serialize};

/// Settings of one launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSettings {
    /// Contacts to exclude.
    pub exclude: Exclusions,
    /// Whether all contacts are engaged again, whatever happened before this launch. Only refusals
    /// still count.
    pub rerun_all_contacts: bool,
    /// Whether all history of the campaign is cleared first, including opt-outs.
    pub reset_contact_history: bool,
    /// Whether the run continues beyond the end time and an empty list. New contacts join the run.
    pub live_forever: bool,
}

/// Contacts to exclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusions {
    /// Contacts that opted out. False brings back refusals from before the launch, no others.
    pub refused: bool,
    /// Contacts transferred, by the longest time on a call before a transfer.
    pub transferred: TransferredExclusion,
    /// Contacts with a success.
    pub success: bool,
    /// Contacts that clicked a link.
    pub link_opened: bool,
    /// Contacts that received a text.
    pub texted: bool,
}

impl Default for Exclusions {
    fn default() -> Self {
        Self {
            refused: true,
            transferred: TransferredExclusion::Ignore,
            success: false,
            link_opened: false,
            texted: false,
        }
    }
}

/// Transferred contacts to exclude; a bound means strictly more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TransferredExclusion {
    /// None.
    #[default]
    Ignore,
    /// All.
    AnyTime,
    /// More than 60 seconds.
    MoreThan60s,
    /// More than 90 seconds.
    MoreThan90s,
    /// More than 120 seconds.
    MoreThan120s,
}

impl TransferredExclusion {
    /// Returns the flag of the contacts that this setting excludes.
    #[must_use]
    pub fn flag(self) -> Flags {
        match self {
            Self::Ignore => Flags::NONE,
            Self::AnyTime => Flags::TRANSFERRED,
            Self::MoreThan60s => Flags::TRANSFERRED_OVER_60S,
            Self::MoreThan90s => Flags::TRANSFERRED_OVER_90S,
            Self::MoreThan120s => Flags::TRANSFERRED_OVER_120S,
        }
    }
}

impl Exclusions {
    /// Returns the names of the exclusions besides refusals, for the warning that a rerun overrides
    /// them.
    #[must_use]
    pub fn names_besides_refused(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        if self.transferred != TransferredExclusion::Ignore {
            names.push("transferred");
        }
        if self.success {
            names.push("success");
        }
        if self.link_opened {
            names.push("link_opened");
        }
        if self.texted {
            names.push("texted");
        }
        names
    }
}

/// History and completions that count. Rows are compared with these numbers. A reset or a rerun
/// therefore costs the same for any number of contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of resets so far; older history does not exist.
    pub generation: i32,
    /// Run that last let all contacts start afresh (rerun or reset), or 0 if none did. A contact
    /// finished before that run is no longer finished.
    pub cycle: i32,
}

impl LaunchSettings {
    /// Returns the epoch of run number `run`, launched with these settings after `before`.
    #[must_use]
    pub fn epoch_after(&self, before: Epoch, run: i32) -> Epoch {
        let starts_afresh = self.rerun_all_contacts || self.reset_contact_history;
        Epoch {
            generation: before.generation + i32::from(self.reset_contact_history),
            cycle: if starts_afresh { run } else { before.cycle },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rerun_warns_of_each_exclusion_that_it_overrides() {
        let none = Exclusions::default();
        assert_eq!(none.names_besides_refused(), [""; 0]);
        let transferred = TransferredExclusion::AnyTime;
        for (exclude, name) in [
            (Exclusions { transferred, ..none }, "transferred"),
            (Exclusions { success: true, ..none }, "success"),
            (Exclusions { link_opened: true, ..none }, "link_opened"),
            (Exclusions { texted: true, ..none }, "texted"),
        ] {
            assert_eq!(exclude.names_besides_refused(), [name]);
        }
    }

    #[test]
    fn a_rerun_starts_a_cycle_and_a_reset_a_generation_too() {
        let before = Epoch { generation: 3, cycle: 2 };
        let goes_on = LaunchSettings::default();
        let rerun = LaunchSettings { rerun_all_contacts: true, ..goes_on };
        let reset = LaunchSettings { reset_contact_history: true, ..goes_on };
        for (settings, generation, cycle) in [(goes_on, 3, 2), (rerun, 3, 7), (reset, 4, 7)] {
            assert_eq!(settings.epoch_after(before, 7), Epoch { generation, cycle });
        }
    }
}
