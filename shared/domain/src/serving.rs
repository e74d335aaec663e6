//! Rule which workers serve a campaign, by pool and channel. It is judged when a campaign is
//! offered to a worker, and again in the transaction that leases.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most channels of a campaign.
pub const MAX_CHANNELS: usize = 10;
/// Longest name of a channel, in characters.
pub const MAX_CHANNEL_LENGTH: usize = 50;
/// Longest name of a pool, in characters.
pub const MAX_POOL_LENGTH: usize = 63;

/// Needs of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Pool whose workers serve the campaign; empty: workers without pools.
    pub worker_pool: String,
    /// Channels that the campaign goes out by; empty: any.
    pub channels: Vec<String>,
}

/// Abilities of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Pools of the worker; empty: campaigns without a pool.
    pub pools: BTreeSet<String>,
    /// Channels that the worker engages contacts by; empty: any.
    pub channels: BTreeSet<String>,
}

impl Abilities {
    /// Returns whether the worker serves campaigns with these needs.
    #[must_use]
    pub fn meet(&self, needs: &Needs) -> bool {
        let is_in_pool = if needs.worker_pool.is_empty() {
            self.pools.is_empty()
        } else {
            self.pools.contains(&needs.worker_pool)
        };
        is_in_pool && self.has_channel(&needs.channels)
    }

    fn has_channel(&self, wanted: &[String]) -> bool {
        let takes_any = wanted.is_empty() || self.channels.is_empty();
        takes_any || wanted.iter().any(|channel| self.channels.contains(channel))
    }
}

impl Needs {
    /// Returns the needs in words, for people who wait for a worker; empty if any worker will do.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = Vec::new();
        if !self.worker_pool.is_empty() {
            words.push(format!("of the pool {}", self.worker_pool));
        }
        if !self.channels.is_empty() {
            words.push(format!("for {}", self.channels.join(" or ")));
        }
        if words.is_empty() {
            String::new()
        } else {
            format!("it needs workers {}", words.join(" "))
        }
    }
}

/// Returns whether a name of a pool or channel has only characters that are allowed.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(pools: &[&str], channels: &[&str]) -> Abilities {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Abilities { pools: set(pools), channels: set(channels) }
    }

    fn campaign(pool: &str, channels: &[&str]) -> Needs {
        let channels = channels.iter().map(|name| (*name).to_owned()).collect();
        Needs { worker_pool: pool.to_owned(), channels }
    }

    #[test]
    fn a_pool_is_served_by_its_workers_and_nobody_else() {
        for (pools, pool, serves) in [
            (&[][..], "", true),
            (&[], "a", false),
            (&["a"], "a", true),
            (&["a"], "b", false),
            (&["a", "b"], "b", true),
            (&["a"], "", false),
        ] {
            assert_eq!(worker(pools, &[]).meet(&campaign(pool, &[])), serves, "{pools:?} {pool:?}");
        }
    }

    #[test]
    fn a_worker_does_only_what_it_can() {
        for (can, wanted, serves) in [
            (&[][..], &[][..], true),
            (&[], &["call"], true),
            (&["sms"], &[], true),
            (&["sms"], &["call"], false),
            (&["sms"], &["call", "sms"], true),
            (&["sms", "email"], &["email"], true),
            (&["sms", "email"], &["call", "fax"], false),
        ] {
            assert_eq!(worker(&[], can).meet(&campaign("", wanted)), serves, "{can:?} {wanted:?}");
        }
    }

    #[test]
    fn pool_and_channel_must_both_fit() {
        let needs = campaign("a", &["call"]);
        assert!(worker(&["a"], &["call"]).meet(&needs));
        assert!(!worker(&["a"], &["sms"]).meet(&needs));
        assert!(!worker(&["b"], &["call"]).meet(&needs));
    }

    #[test]
    fn an_older_worker_serves_campaigns_without_a_pool() {
        let older = Abilities::default();
        assert!(older.meet(&Needs::default()));
        assert!(older.meet(&campaign("", &["call"])), "it may do anything");
        assert!(!older.meet(&campaign("a", &[])));
    }

    #[test]
    fn needs_are_told_in_words() {
        assert_eq!(Needs::default().in_words(), "");
        assert_eq!(campaign("a", &[]).in_words(), "it needs workers of the pool a");
        assert_eq!(campaign("", &["call", "sms"]).in_words(), "it needs workers for call or sms");
        assert_eq!(campaign("a", &["sms"]).in_words(), "it needs workers of the pool a for sms");
    }

    #[test]
    fn names_are_plain() {
        assert!(is_name("voice-eu-1") && is_name(""));
        for name in ["Voice", "a b", "a_b", "é", "a\0"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
