//! What clients asked and how they were answered: in memory for the checker, and appended to a file for
//! people.

use crate::{Result, now_micros};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What an answer said that was OK: from here on it must be true.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "acknowledged")]
pub enum Said {
    /// A campaign, by its id.
    Created {
        /// The id.
        campaign: String,
    },
    /// These numbers are contacts.
    Contacts {
        /// In E.164.
        numbers: Vec<String>,
    },
    /// A command was carried out.
    Command {
        /// Its idempotency key.
        request_id: String,
        /// As in the audit log.
        command: &'static str,
    },
    /// A fact is in the history.
    Fact {
        /// Whose.
        number: String,
        /// The reporter's id.
        interaction_id: String,
        /// As stored.
        kind: i16,
        /// RECORDED, DUPLICATE or BEFORE_RESET.
        status: String,
    },
    /// What the campaign's progress says of its history, when all is over.
    Totals {
        /// Attempts, then contacts that refused, were transferred, met the goal, clicked, got a text.
        history: [i64; 6],
    },
    /// Somebody is to be erased: asked only, and may happen at any time from then on.
    EraseAsked {
        /// In E.164.
        number: String,
    },
    /// Somebody is erased.
    Erased {
        /// In E.164.
        number: String,
        /// Names what was committed then, in chaos.marks.
        mark: i64,
    },
    /// Somebody who was erased is to be let in again: asked only.
    LiftAsked {
        /// In E.164.
        number: String,
    },
    /// Somebody who was erased is let in again.
    Lifted {
        /// In E.164.
        number: String,
    },
    /// What the list says of a number that was erased, when all is over.
    Listed {
        /// In E.164.
        number: String,
        /// Empty when it is not on the list.
        source: String,
    },
    /// A number is on the suppression list.
    Suppressed {
        /// In E.164.
        number: String,
        /// Names what was committed then, in chaos.marks.
        mark: i64,
    },
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Of which history.
    pub history: usize,
    /// Microseconds since 1970, when it was asked.
    pub asked_at: i64,
    /// And answered.
    pub answered_at: i64,
    /// What it said.
    pub said: Said,
}

/// Of all histories of a round.
#[derive(Debug)]
pub struct Journal {
    entries: Mutex<(Vec<Entry>, File)>,
    errors: Mutex<Vec<String>>,
}

impl Journal {
    /// A new one.
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
        // For people only; the checker reads what is in memory.
        let _ = writeln!(inner.1, "{line}");
        inner.0.push(entry);
    }

    /// Notes an answer that was not OK.
    pub fn fail(&self, error: String) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
    }

    /// What answers said that were not OK.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All answers so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
