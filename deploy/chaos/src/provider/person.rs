//! Person whom a call reaches: decided by the seed and the call's key alone, whatever happens meanwhile.

use super::args::Door;
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

    /// Returns the events, each with its time after the phone began to ring.
    pub fn events(self, door: Door) -> Vec<(Duration, Value)> {
        match door {
            Door::VoiceAgent => self.told_in_any_order(),
            Door::Twilio => self.on_the_line(true),
            Door::Sip => self.on_the_line(false),
        }
    }

    /// Returns what happens on a line, which tells no facts. A machine that answers may be recognised after the end.
    fn on_the_line(mut self, recognises_machines: bool) -> Vec<(Duration, Value)> {
        let (outcome, is_machine) = match self.random.random_range(0..100) {
            0..45 => ("answered", false),
            45..57 => ("answered", recognises_machines),
            57..72 => ("no_answer", false),
            72..82 => ("busy", false),
            82..88 => ("failed", false),
            88..92 => ("invalid_number", false),
            92..97 => ("congested", false),
            _ => ("rejected", false),
        };
        let most = if self.random.random_bool(0.06) { LONGEST_CALL_MILLIS } else { 400 };
        let ended_after = self.random.random_range(10..most);
        let after = |millis| Duration::from_millis(millis);
        let mut events = vec![(after(ended_after), json!({"type": "ended", "outcome": outcome}))];
        if outcome == "answered" {
            let answered_after = self.random.random_range(5..ended_after);
            events.push((after(answered_after), json!({"type": "answered"})));
            if is_machine {
                let told_after = self.random.random_range(answered_after..2 * most);
                events.push((after(told_after), json!({"type": "machine"})));
            }
        }
        if !matches!(outcome, "failed" | "invalid_number" | "congested") {
            events.push((after(1), json!({"type": "ringing"})));
        }
        events.sort_by_key(|(after, _)| *after);
        events
    }

    /// Returns the events of a call and facts, in any order: facts come in late, too.
    fn told_in_any_order(mut self) -> Vec<(Duration, Value)> {
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
