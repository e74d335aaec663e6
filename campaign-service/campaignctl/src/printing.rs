//! Answers on standard output: tables for people, or JSON with the names that grpcurl prints.

use crate::failure::{Exit, Failure};
use crate::json;
use crate::show::Show;
use crate::text::Format;
use prost_reflect::DescriptorPool;
use std::io::Write;

/// Printer of answers.
#[derive(Clone, Debug)]
pub struct Printer {
    pub format: Format,
    pub pool: DescriptorPool,
}

impl Printer {
    pub fn new(format: Format) -> Result<Self, Failure> {
        Ok(Self { format, pool: json::pool()? })
    }

    /// Prints an answer of the service.
    pub fn answer<M: Show>(&self, answer: &M) -> Result<(), Failure> {
        match self.format {
            Format::Human => self.text(&answer.human()),
            Format::Json => self.text(&json::pretty(&self.pool, answer)?),
        }
    }

    /// Prints one answer of many; in JSON, on a line of its own.
    pub fn answer_of_many<M: Show>(&self, answer: &M) -> Result<(), Failure> {
        match self.format {
            Format::Human => self.text(&answer.human()),
            Format::Json => self.text(&json::line(&self.pool, answer)?),
        }
    }

    /// Prints a remark for people, which no program needs.
    pub fn remark(&self, text: &str) -> Result<(), Failure> {
        if self.format == Format::Human { self.text(text) } else { Ok(()) }
    }

    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut output = std::io::stdout().lock();
        output.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            output.write_all(b"\n")?;
        }
        Ok(output.flush()?)
    }
}

/// Returns the failure of a command that was done in part.
pub fn in_part(message: String) -> Failure {
    Failure::new(Exit::InPart, message)
}
