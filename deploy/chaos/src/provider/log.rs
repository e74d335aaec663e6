//! The provider's log: what rang, what happened, what was told and how it was answered.

use crate::{Result, now_micros};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The request to call somebody, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// Names the attempt for ever.
    pub key: String,
    /// Whom, by name.
    pub contact: String,
    /// As the service names it.
    pub attempt_id: String,
    /// Whom, by number.
    pub to: String,
    /// Where to tell.
    pub callback_url: String,
}

/// Something that happened in a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// The call's.
    pub key: String,
    /// As told.
    pub body: Value,
}

impl Event {
    /// What kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    /// Whether the call is over with it.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.kind() == "ended"
    }
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since 1970.
    pub at: i64,
    /// What.
    pub what: What,
}

/// What a line says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Somebody's phone began to ring.
    Rang(Create),
    /// Asked again under a key that it rang for; it does not ring again.
    Repeated(Create),
    /// Asked to hang up.
    HungUp {
        /// The call's.
        key: String,
    },
    /// In a call.
    Happened(Event),
    /// To a worker, which answered so; 0: not at all, so it is told again.
    Told {
        /// The call's.
        key: String,
        /// Of the event.
        kind: String,
        /// Of the answer.
        status: u16,
    },
}

/// Whether an answer to a callback says not to repeat it.
#[must_use]
pub fn is_final(status: u16) -> bool {
    (200..300).contains(&status) || (400..500).contains(&status)
}

/// Appends.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// To a file that may be there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn append_to(path: &Path) -> Result<Self> {
        Ok(Self(File::options().create(true).append(true).open(path)?))
    }

    /// In one piece, and before anybody hears of it: a platform that cannot write its log is dead.
    pub fn write(&mut self, what: What) {
        self.write_of(now_micros(), what);
    }

    /// The same for what was at this time, in microseconds since 1970.
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

/// Reads a log; a last line that was cut off by a kill is none.
///
/// # Errors
/// When it is there and cannot be read, or another line than the last is broken.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
