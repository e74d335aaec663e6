//! Person whom a call reaches: decided by the seed and the call's key alone, whatever happens meanwhile.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Longest call. It is shorter than the campaigns' wait after an unknown outcome: phones are silent by then.
const LONGEST_CALL_MILLIS: u64 = 1_500;

/// Behaviour of a person who is called.
#[derive(Debug)]
pub(super) struct Person {
    random: SmallRng,
}

impl Person {
    pub fn of(seed: u64, key: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, key).hash(&mut hasher);
        Self { random: SmallRng::seed_from_u64(hasher.finish()) }
    }

    /// Returns the events, each with its time after the phone began to ring. They come in any order: facts come in
    /// late, too.
    pub fn events(mut self) -> Vec<(Duration, Value)> {
        let outcome = match self.random.random_range(0..100) {
            0..45 => "answered",
            45..62 => "no_answer",
            62..78 => "busy",
            78..88 => "voicemail",
            88..96 => "failed",
            _ => "unknown",
        };
        let ended = json!({"type": "ended", "outcome": outcome, "duration_seconds": 1.5});
        let mut events = vec![ended];
        if outcome == "answered" {
            events.push(json!({"type": "answered"}));
            let seconds = self.random.random_range(20..150);
            let facts = [
                (0.25, json!({"type": "transferred", "seconds_before_transfer": seconds})),
                (0.10, json!({"type": "opted_out", "channel": "call"})),
                (0.20, json!({"type": "success"})),
                (0.10, json!({"type": "text_sent"})),
                (0.10, json!({"type": "link_opened", "link": "https://example.com"})),
            ];
            for (odds, fact) in facts {
                if self.random.random_bool(odds) {
                    events.push(fact);
                }
            }
        }
        // Most calls are short; some outlast a lease.
        let most = if self.random.random_bool(0.06) { LONGEST_CALL_MILLIS } else { 400 };
        let mut after: Vec<u64> =
            events.iter().map(|_| self.random.random_range(5..most)).collect();
        after.sort_unstable();
        events.shuffle(&mut self.random);
        after.into_iter().map(Duration::from_millis).zip(events).collect()
    }
}
