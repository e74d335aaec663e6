//! Dial log: the simulated provider's own record of its calls. Tests judge a worker by this log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::call::{Attempt, Outcome};

/// Log that appends lines. Several processes may share the file.
#[derive(Clone, Debug)]
pub(super) struct DialLog {
    file: Arc<File>,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    attempt_id: &'a str,
    contact: &'a str,
    phone_number: &'a str,
    unix_millis: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

impl DialLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Arc::new(file) })
    }

    /// Records that the phone begins to ring.
    pub fn dialed(&self, attempt: &Attempt) -> io::Result<()> {
        self.write("dialed", attempt, None)
    }

    /// Records that the call is over.
    pub fn ended(&self, attempt: &Attempt, outcome: Outcome) -> io::Result<()> {
        let outcome = match outcome {
            Outcome::Answered => "answered",
            Outcome::NoAnswer => "no_answer",
            Outcome::Busy => "busy",
            Outcome::Voicemail => "voicemail",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
            Outcome::Rejected => "rejected",
            Outcome::InvalidNumber => "invalid_number",
            Outcome::Congested => "congested",
            Outcome::Abandoned => "abandoned",
            Outcome::Cancelled => "cancelled",
        };
        self.write("ended", attempt, Some(outcome))
    }

    fn write(
        &self,
        event: &'static str,
        attempt: &Attempt,
        outcome: Option<&'static str>,
    ) -> io::Result<()> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = serde_json::to_vec(&Line {
            event,
            attempt_id: &attempt.attempt_id,
            contact: &attempt.contact,
            phone_number: &attempt.phone_number,
            unix_millis: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            outcome,
        })?;
        line.push(b'\n');
        // One write per line keeps the lines of several writers apart and leaves none in this
        // process.
        (&*self.file).write_all(&line)
    }
}
