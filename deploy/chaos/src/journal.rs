//! Requests of clients and their answers: in memory for the checker, and appended to a file for people.

use crate::{Result, now_micros};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Content of an answer that was OK: from here on it must be true.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "acknowledged")]
pub enum Said {
    /// Campaign, by its id.
    Created {
        /// Id of the campaign.
        campaign: String,
    },
    /// Contacts with these numbers.
    Contacts {
        /// Numbers, E.164.
        numbers: Vec<String>,
    },
    /// Command that was carried out.
    Command {
        /// Idempotency key of the command.
        request_id: String,
        /// Name of the command in the audit log.
        command: &'static str,
    },
    /// Fact in the history.
    Fact {
        /// Number of the contact.
        number: String,
        /// Id chosen by the reporter.
        interaction_id: String,
        /// Kind as stored.
        kind: i16,
        /// Status: RECORDED, DUPLICATE or BEFORE_RESET.
        status: String,
    },
    /// Totals of the history in the campaign's progress, when all is over.
    Totals {
        /// Attempts, then contacts that opted out, were transferred, met the goal, clicked, got a text.
        history: [i64; 6],
    },
    /// Request to erase a person, which may happen at any time from then on.
    EraseAsked {
        /// Number, E.164.
        number: String,
    },
    /// Person who is erased.
    Erased {
        /// Number, E.164.
        number: String,
        /// Mark in `chaos.marks` that names the commits of that moment.
        mark: i64,
    },
    /// Request to re-admit an erased person.
    LiftAsked {
        /// Number, E.164.
        number: String,
    },
    /// Erased person who is re-admitted.
    Lifted {
        /// Number, E.164.
        number: String,
    },
    /// Entry of the list for an erased number, when all is over.
    Listed {
        /// Number, E.164.
        number: String,
        /// Source in the list; empty when the number is not on the list.
        source: String,
    },
    /// Campaign that waits for its start.
    Scheduled {
        /// Start of its schedule, in microseconds since 1970.
        start_at: i64,
    },
    /// Command that was not answered in time, though a replica was well.
    Unanswered {
        /// Idempotency key of the command.
        request_id: String,
        /// Name of the command in the audit log.
        command: &'static str,
    },
    /// Number on the suppression list.
    Suppressed {
        /// Number, E.164.
        number: String,
        /// Mark in `chaos.marks` that names the commits of that moment.
        mark: i64,
    },
}

/// Answer to a request.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Number of the history.
    pub history: usize,
    /// Time of the request, in microseconds since 1970.
    pub asked_at: i64,
    /// Time of the answer, in microseconds since 1970.
    pub answered_at: i64,
    /// Content of the answer.
    pub said: Said,
}

/// Journal of all histories of a round.
#[derive(Debug)]
pub struct Journal {
    entries: Mutex<(Vec<Entry>, File)>,
    errors: Mutex<Vec<String>>,
}

impl Journal {
    /// Creates a journal with its file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let entries = Mutex::new((Vec::new(), File::create(path)?));
        Ok(Self { entries, errors: Mutex::default() })
    }

    /// Notes an answer.
    pub fn note(&self, history: usize, asked_at: i64, said: Said) {
        let entry = Entry { history, asked_at, answered_at: now_micros(), said };
        let mut inner = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&entry).unwrap_or_default();
        // The file is for people only; the checker reads the entries in memory.
        let _ = writeln!(inner.1, "{line}");
        inner.0.push(entry);
    }

    /// Notes an answer that was not OK.
    pub fn fail(&self, error: String) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
    }

    /// Returns the answers that were not OK.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns all answers so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
