//! Hash chain of the audit log: the hashed parts, and the findings of a reader.

use crate::Instant;
use sha2::{Digest, Sha256};

/// Hash of an event and, through the previous hash, of all events before it.
pub type Hash = [u8; 32];

/// Hash that precedes the first hashed event.
pub const NOTHING_BEFORE: Hash = [0; 32];

/// Event of the audit log, with all its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Id of the event's campaign.
    pub campaign: u128,
    /// Number of the event, from 1 without gaps.
    pub number: i64,
    /// Time by the database's clock, in microseconds.
    pub happened_at: Instant,
    /// Caller who gave the command.
    pub actor: String,
    /// Reason that the caller gave.
    pub reason: String,
    /// Name of the command.
    pub command: String,
    /// Name of the state before; `None` if there was none.
    pub state_before: Option<String>,
    /// Name of the state after.
    pub state_after: String,
    /// Number of the run.
    pub run: i32,
    /// Id of the request; may be empty.
    pub request_id: String,
    /// Details as JSON, with keys in order.
    pub details: String,
    /// Snapshot of the transactions that the command saw.
    pub snapshot: String,
}

impl Event {
    /// Returns the event's hash, chained to the hash before it. Each part is preceded by its
    /// length, so no text can move from one part to the next.
    #[must_use]
    pub fn hash(&self, before: &Hash) -> Hash {
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        add(before);
        add(&self.campaign.to_be_bytes());
        add(&self.number.to_be_bytes());
        add(&self.happened_at.timestamp_micros().to_be_bytes());
        add(self.actor.as_bytes());
        add(self.reason.as_bytes());
        add(self.command.as_bytes());
        // The empty text stands for `None`, because no state has an empty name.
        add(self.state_before.as_deref().unwrap_or_default().as_bytes());
        add(self.state_after.as_bytes());
        add(&self.run.to_be_bytes());
        add(self.request_id.as_bytes());
        add(self.details.as_bytes());
        add(self.snapshot.as_bytes());
        hasher.finalize().into()
    }
}

/// Last event that has a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the event.
    pub number: i64,
    /// Hash of the event.
    pub hash: Hash,
}

/// Fault of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Event that was changed after its writing, or does not follow the one before.
    Changed(i64),
    /// Events missing from the first number to the second.
    Deleted(i64, i64),
    /// Event that the service did not write.
    Inserted(i64),
    /// Unknown last event, although there were events.
    HeadMissing,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Changed(number) => write!(f, "event {number} was changed"),
            Self::Deleted(first, last) if first == last => write!(f, "event {first} was deleted"),
            Self::Deleted(first, last) => write!(f, "events {first} to {last} were deleted"),
            Self::Inserted(number) => write!(
                f,
                "event {number} was inserted: it has no hash (or an older version of the service \
                 wrote it after a newer one)"
            ),
            Self::HeadMissing => {
                f.write_str("the note of the last event is gone: events at the end may be, too")
            }
        }
    }
}

/// Reading of one campaign's log from its start.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Events so far.
    pub events: u64,
    /// Events at the start that precede the introduction of hashes.
    pub without_hash: u64,
    last_number: i64,
    head: Option<Head>,
    findings: Vec<Finding>,
}

impl Reading {
    /// Reads the next event, with its stored hash.
    pub fn take(&mut self, event: &Event, hash: Option<Hash>) {
        self.events += 1;
        if event.number > self.last_number + 1 {
            self.findings.push(Finding::Deleted(self.last_number + 1, event.number - 1));
        }
        let is_gap = event.number != self.last_number + 1;
        self.last_number = event.number;
        match (hash, self.head) {
            (None, None) => self.without_hash += 1,
            (None, Some(_)) => self.findings.push(Finding::Inserted(event.number)),
            (Some(hash), head) => {
                let before = head.map_or(NOTHING_BEFORE, |head| head.hash);
                // After a gap the event itself cannot be checked. The events after it are chained
                // to it.
                if !is_gap && event.hash(&before) != hash {
                    self.findings.push(Finding::Changed(event.number));
                }
                self.head = Some(Head { number: event.number, hash });
            }
        }
    }

    /// Ends the reading with the recorded head. Returns all findings, and the head that was found.
    #[must_use]
    pub fn end(mut self, noted: Option<Head>) -> (Vec<Finding>, Option<Head>) {
        match (self.head, noted) {
            (Some(_), None) => self.findings.push(Finding::HeadMissing),
            (found, Some(noted)) => {
                let last = found.map_or(0, |head| head.number);
                if noted.number > last {
                    let first = self.last_number.max(last) + 1;
                    self.findings.push(Finding::Deleted(first.min(noted.number), noted.number));
                } else if Some(noted) != found {
                    // An event follows the last one of the service, or replaces it.
                    self.findings.push(Finding::Changed(last));
                }
            }
            (None, None) => {}
        }
        (self.findings, self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> Event {
        Event {
            campaign: 7,
            number,
            happened_at: Instant::UNIX_EPOCH,
            actor: "ann".to_owned(),
            reason: "lunch".to_owned(),
            command: "PAUSE".to_owned(),
            state_before: Some("RUNNING".to_owned()),
            state_after: "PAUSED".to_owned(),
            run: 1,
            request_id: String::new(),
            details: "{}".to_owned(),
            snapshot: "1:1:".to_owned(),
        }
    }

    /// Returns events 1 to 6; the first two precede the introduction of hashes.
    fn log() -> Vec<(Event, Option<Hash>)> {
        let mut before = NOTHING_BEFORE;
        let hashed = |number| {
            let event = event(number);
            (number > 2).then(|| before = event.hash(&before));
            (event, (number > 2).then_some(before))
        };
        (1..=6).map(hashed).collect()
    }

    fn head(log: &[(Event, Option<Hash>)]) -> Option<Head> {
        let (event, hash) = log.last()?;
        Some(Head { number: event.number, hash: (*hash)? })
    }

    fn read(log: &[(Event, Option<Hash>)], noted: Option<Head>) -> Vec<Finding> {
        let mut reading = Reading::default();
        log.iter().for_each(|(event, hash)| reading.take(event, *hash));
        reading.end(noted).0
    }

    #[test]
    fn a_log_as_written_is_intact() {
        assert_eq!(read(&log(), head(&log())), []);
        assert_eq!(read(&log()[..2], None), [], "older than hashes");
        assert_eq!(read(&[], None), []);
    }

    #[test]
    fn every_part_of_an_event_counts() {
        let changes: [fn(&mut Event); 12] = [
            |event| event.campaign += 1,
            |event| event.number += 1,
            |event| event.happened_at += chrono::TimeDelta::microseconds(1),
            |event| event.actor.push('a'),
            |event| event.reason.push('a'),
            |event| event.command.push('a'),
            |event| event.state_before = None,
            |event| event.state_after.push('a'),
            |event| event.run += 1,
            |event| event.request_id.push('a'),
            |event| event.details.push('a'),
            |event| event.snapshot.push('a'),
        ];
        for change in changes {
            let mut changed = event(3);
            change(&mut changed);
            assert_ne!(changed.hash(&NOTHING_BEFORE), event(3).hash(&NOTHING_BEFORE));
        }
        let moved = Event { actor: "an".to_owned(), reason: "nlunch".to_owned(), ..event(3) };
        assert_ne!(moved.hash(&NOTHING_BEFORE), event(3).hash(&NOTHING_BEFORE));
        assert_ne!(event(3).hash(&[1; 32]), event(3).hash(&NOTHING_BEFORE));
    }

    #[test]
    fn what_was_done_to_a_log_is_found() {
        let noted = head(&log());
        for at in 2..6 {
            let mut changed = log();
            changed[at].0.actor = "bob".to_owned();
            let number = changed[at].0.number;
            assert_eq!(read(&changed, noted), [Finding::Changed(number)], "{at}");
        }
        for at in 0..5 {
            let mut without = log();
            let number = without.remove(at).0.number;
            assert_eq!(read(&without, noted), [Finding::Deleted(number, number)], "{at}");
        }
        assert_eq!(read(&log()[..4], noted), [Finding::Deleted(5, 6)], "the tail");
        assert_eq!(read(&[], noted), [Finding::Deleted(1, 6)], "everything");
        assert_eq!(read(&log(), None), [Finding::HeadMissing]);
        let mut more = log();
        more.push((event(7), None));
        assert_eq!(read(&more, noted), [Finding::Inserted(7)]);
        more[6].1 = Some([9; 32]);
        assert_eq!(read(&more, noted), [Finding::Changed(7), Finding::Changed(7)]);
        more[6].1 = Some(more[6].0.hash(&more[5].1.unwrap_or_default()));
        assert_eq!(read(&more, noted), [Finding::Changed(7)], "the head was not moved with it");
    }

    #[test]
    fn an_event_made_anew_with_its_hash_breaks_the_next() {
        let mut log = log();
        let noted = head(&log);
        log[3].0.actor = "bob".to_owned();
        log[3].1 = log[2].1.map(|before| log[3].0.hash(&before));
        assert_eq!(read(&log, noted), [Finding::Changed(5)]);
    }

    #[test]
    fn a_reading_counts_events_and_returns_the_head_it_found() {
        let (log, mut reading) = (log(), Reading::default());
        log.iter().for_each(|(event, hash)| reading.take(event, *hash));
        assert_eq!((reading.events, reading.without_hash), (6, 2));
        assert_eq!(reading.end(head(&log)), (vec![], head(&log)));
        assert_eq!(Reading::default().end(None), (vec![], None));
    }

    #[test]
    fn findings_name_the_events() {
        for (finding, text) in [
            (Finding::Changed(4), "event 4 was changed"),
            (Finding::Deleted(4, 4), "event 4 was deleted"),
            (Finding::Deleted(4, 6), "events 4 to 6 were deleted"),
            (Finding::Inserted(7), "event 7 was inserted: it has no hash"),
            (Finding::HeadMissing, "the note of the last event is gone"),
        ] {
            assert!(finding.to_string().starts_with(text), "{finding}");
        }
    }
}
