//! Lines of grpcurl: short on the screen, in full in a file.

use crate::result::Result;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Most columns of a printed line.
pub const COLUMNS: usize = 120;
/// Prompt before a printed command.
const PROMPT: &str = "  $ ";
/// Indent of a command's second line.
const INDENT: &str = "      ";
/// Mark of what is left out.
const CUT: char = '…';

/// One call of grpcurl.
#[derive(Debug)]
pub struct Line {
    /// Request as JSON, or `@` for standard input.
    pub data: String,
    /// Address of the service.
    pub address: String,
    /// Method, `package.Service/Method`.
    pub method: String,
    /// File for standard input.
    pub input: Option<PathBuf>,
}

impl Line {
    /// Returns the line up to the data, its quoted data, and the rest.
    fn parts(&self) -> (&'static str, String, String) {
        let data = match self.data.as_str() {
            "@" => "@".to_owned(),
            json => format!("'{}'", json.replace('\'', r"'\''")),
        };
        let mut rest = format!("{} {}", self.address, self.method);
        if let Some(input) = &self.input {
            rest.push_str(&format!(" < {}", input.display()));
        }
        ("grpcurl -plaintext -d ", data, rest)
    }

    /// Returns the whole command on one line.
    fn full(&self) -> String {
        let (begin, data, rest) = self.parts();
        format!("{begin}{data} {rest}")
    }

    /// Returns the command on one or two lines of at most [`COLUMNS`], and whether its data was cut.
    fn short(&self) -> (String, bool) {
        let (begin, data, rest) = self.parts();
        let full = self.full();
        if width(PROMPT) + width(&full) <= COLUMNS {
            return (full, false);
        }
        let room = COLUMNS - width(PROMPT) - width(begin) - width(" \\");
        let is_cut = width(&data) > room;
        let data =
            if is_cut { data.chars().take(room - 2).chain([CUT, '\'']).collect() } else { data };
        (format!("{begin}{data} \\\n{INDENT}{rest}"), is_cut)
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// File that holds each command and answer in full.
#[derive(Debug)]
pub struct Transcript {
    file: Mutex<File>,
}

impl Transcript {
    /// Starts the file anew.
    pub fn create(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Prints the title of a step.
    pub fn title(&self, text: &str) -> Result<()> {
        println!("\n{text}");
        self.append(&format!("\n# {text}\n")).map(drop)
    }

    /// Prints a command. Returns it as a reader has it: as printed, or from the file if it was cut.
    pub fn command(&self, line: &Line) -> Result<String> {
        let (shown, is_cut) = line.short();
        println!("{PROMPT}{shown}");
        let written = self.append(&format!("{}\n", line.full()))?;
        Ok(if is_cut { written } else { shown })
    }

    /// Keeps an answer in the file, as a comment.
    pub fn answer(&self, answer: &Value) -> Result<()> {
        let text = serde_json::to_string_pretty(answer)?;
        self.append(&text.lines().map(|line| format!("# {line}\n")).collect::<String>()).map(drop)
    }

    /// Appends a text, and returns it as the file now has it.
    fn append(&self, text: &str) -> Result<String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = file.seek(SeekFrom::End(0))?;
        file.write_all(text.as_bytes())?;
        file.seek(SeekFrom::Start(begin))?;
        let mut written = String::new();
        file.read_to_string(&mut written)?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(data: &str) -> Line {
        let method = "campaign.v1.CampaignService/PauseCampaign".to_owned();
        Line { data: data.to_owned(), address: "127.0.0.1:50051".to_owned(), method, input: None }
    }

    fn widest(text: &str) -> usize {
        format!("{PROMPT}{text}").lines().map(width).max().unwrap_or(0)
    }

    #[test]
    fn a_short_command_stands_on_one_line() {
        let line = line(r#"{"name":"a"}"#);
        assert_eq!(line.short(), (line.full(), false));
    }

    #[test]
    fn a_command_that_fits_on_two_lines_is_whole() {
        let (shown, is_cut) = line(&format!("{:?}", "a".repeat(87))).short();
        assert!(!is_cut && shown.contains("' \\\n      127.0.0.1:50051 "), "{shown}");
        assert!(widest(&shown) <= COLUMNS, "{shown}");
    }

    #[test]
    fn a_longer_command_is_cut_where_the_line_ends() {
        for length in [89, 90, 91, 4_000] {
            let line = line(&"ä".repeat(length));
            let (shown, is_cut) = line.short();
            assert_eq!(is_cut, shown.contains("…' \\\n"), "{shown}");
            assert_eq!(is_cut, length > 90, "{length}");
            assert!(widest(&shown) <= COLUMNS, "{shown}");
        }
    }

    #[test]
    fn quotes_in_the_data_stay_quoted() {
        assert!(line(r#"{"a":"it's"}"#).full().contains(r#"'{"a":"it'\''s"}'"#));
    }
}
