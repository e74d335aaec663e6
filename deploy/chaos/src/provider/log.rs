//! Log of the provider: phones that rang, events, notifications and their answers.

use crate::{Result, now_micros};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Request to call somebody, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Key that names the attempt for ever.
    pub key: String,
    /// Name of the contact.
    pub contact: String,
    /// Name of the attempt, as the service gave it.
    pub attempt_id: String,
    /// Number of the contact.
    pub to: String,
    /// Address for callbacks.
    pub callback_url: String,
}

impl Create {
    /// Returns the campaign, whose id begins the key.
    #[must_use]
    pub fn campaign(&self) -> &str {
        self.key.split('.').next().unwrap_or_default()
    }
}

/// Event in a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Key of the call.
    pub key: String,
    /// Body as notified.
    pub body: Value,
}

impl Event {
    /// Returns the kind of the event.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// Whether the event ends the call.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.kind() == "ended"
    }
}

/// Line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970.
    pub at: i64,
    /// Content of the line.
    pub what: What,
}

/// Content of a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Phone that began to ring.
    Rang(Create),
    /// Repeated request under a key for which a phone rang; the phone does not ring again.
    Repeated(Create),
    /// Request to hang up.
    HungUp {
        /// Key of the call.
        key: String,
    },
    /// Event in a call.
    Happened(Event),
    /// Callback to a worker, and its answer. Status 0: no answer, so the callback is repeated.
    Told {
        /// Key of the call.
        key: String,
        /// Kind of the event.
        kind: String,
        /// Status of the answer.
        status: u16,
    },
}

/// Whether an answer to a callback says not to repeat it.
#[must_use]
pub fn is_final(status: u16) -> bool {
    (200..300).contains(&status) || (400..500).contains(&status)
}

/// Log that is appended to.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Opens a file that may be there.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn append_to(path: &Path) -> Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(path)?))
    }

    /// Writes a line in one piece, before anybody hears of it. A platform that cannot write its log
    /// is dead.
    pub fn write(&mut self, what: What) {
        self.write_of(now_micros(), what);
    }

    /// Writes a line about an earlier time, in microseconds since 1970.
    pub fn write_of(&mut self, at: i64, what: What) {
        let entry = Entry { at, what };
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = self.0.write_all(&line) {
            eprintln!("the log cannot be written: {error}");
            std::process::exit(1);
        }
    }
}

/// Reads a log. A last line that a kill cut off is ignored.
///
/// # Errors
/// When the log is there and cannot be read, or another line than the last is broken.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
