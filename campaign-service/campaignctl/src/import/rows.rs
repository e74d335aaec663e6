//! Rows as people export them: CSV with a header, or JSON lines. They are read one by one, each of bounded size.
//! A row that cannot be read keeps its number, so that all rows have their numbers in the file.

use super::args::{FileFormat, ImportArgs};
use super::columns::{self, Column, RowOrProblem};
use super::lines::{LineNumbers, RowStarts};
use crate::failure::Failure;
use campaign_proto::v1;
use prost::Message;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// Byte order mark of UTF-8.
pub const BOM: &[u8] = b"\xef\xbb\xbf";
/// Most rows and bytes of one message.
const MAX_CHUNK_ROWS: usize = 2_500;
const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Size of the longest row.
const MAX_ROW_BYTES: u64 = 1024 * 1024;
/// Most unreadable rows of which the reason is kept. The service names further ones too, in its own words.
const MAX_PROBLEMS: usize = 10_000;

/// Rows for one message.
#[derive(Debug)]
pub struct Chunk {
    pub rows: v1::ImportRows,
    /// Size of the rows.
    pub bytes: usize,
}

/// Totals of all that was read.
#[derive(Debug, Default)]
pub struct ReadRows {
    pub rows: i64,
    pub lines: LineNumbers,
    /// Rows that could not be read, by number.
    pub problems: BTreeMap<i64, v1::RowProblem>,
}

/// Reader of a file of rows.
pub struct Rows {
    source: Source,
    /// Bytes read since the last row.
    since_row: Arc<AtomicU64>,
    /// Line of the header of a CSV, which counts as row 0.
    lines: LineNumbers,
}

enum Source {
    Csv { reader: Box<csv::Reader<Limited>>, columns: Vec<Column> },
    Ndjson { reader: Box<BufReader<Limited>>, line: i64 },
}

/// Input that counts the bytes read and stops at a row that has no end.
struct Limited {
    inner: Box<dyn Read + Send>,
    since_row: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
    /// Rows of a CSV.
    starts: Option<RowStarts>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(starts) = &mut self.starts {
            starts.feed(&buffer[..read]);
            // At the end, the current row has swallowed everything after its open quote.
            let problem = if read == 0 { starts.end() } else { None };
            if let Some(problem) = problem {
                return Err(std::io::Error::other(problem));
            }
        }
        self.total.fetch_add(read as u64, Ordering::Relaxed);
        let since = self.since_row.fetch_add(read as u64, Ordering::Relaxed);
        if since > MAX_ROW_BYTES {
            let text = "a row has more than 1 MiB; look for a quote that is never closed";
            return Err(std::io::Error::other(text));
        }
        Ok(read)
    }
}

impl Rows {
    pub fn open(
        inner: Box<dyn Read + Send>,
        args: &ImportArgs,
        total: Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        let since_row = Arc::new(AtomicU64::new(0));
        let mut limited = Limited { inner, since_row: Arc::clone(&since_row), total, starts: None };
        let mut lines = LineNumbers::default();
        let source = match args.format() {
            FileFormat::Ndjson => {
                let mut reader = BufReader::new(limited);
                check_lines(&mut reader, &args.file)?;
                Source::Ndjson { reader: Box::new(reader), line: 0 }
            }
            FileFormat::Csv => {
                let delimiter = args.delimiter;
                limited.starts = Some(RowStarts::new(delimiter));
                let mut reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    .delimiter(delimiter)
                    .from_reader(limited);
                let columns = header(&mut reader, args)?;
                if let Some(line) = take_line(&mut reader) {
                    lines.add(0, line);
                }
                Source::Csv { reader: Box::new(reader), columns }
            }
        };
        Ok(Self { source, since_row, lines })
    }

    /// Passes on the rows from `next_row` on. Stops when the receiver is gone.
    pub fn read_into(
        mut self,
        next_row: i64,
        chunks: &mpsc::Sender<Chunk>,
    ) -> Result<ReadRows, String> {
        let lines = std::mem::take(&mut self.lines);
        let mut read = ReadRows { lines, ..ReadRows::default() };
        let mut chunk = Chunk { rows: v1::ImportRows::default(), bytes: 0 };
        while let Some((line, row)) = self
            .next()
            .map_err(|error| format!("after line {}: {error}", read.lines.line(read.rows)))?
        {
            read.rows += 1;
            // A line is unknown only if the two readers disagree about the end of a row.
            let line = line.unwrap_or_else(|| read.lines.line(read.rows - 1) + 1);
            read.lines.add(read.rows, line);
            let row = row.unwrap_or_else(|(field, reason)| {
                if read.problems.len() < MAX_PROBLEMS {
                    let problem =
                        v1::RowProblem { row: read.rows, field: field.to_owned(), reason };
                    read.problems.insert(read.rows, problem);
                }
                // The service rejects this row, since it has no phone number.
                v1::ImportRow::default()
            });
            if read.rows < next_row {
                continue;
            }
            if chunk.rows.rows.is_empty() {
                chunk.rows.first_row = read.rows;
            }
            chunk.bytes += row.encoded_len();
            chunk.rows.rows.push(row);
            if chunk.rows.rows.len() >= MAX_CHUNK_ROWS || chunk.bytes >= MAX_CHUNK_BYTES {
                let full = std::mem::replace(
                    &mut chunk,
                    Chunk { rows: v1::ImportRows::default(), bytes: 0 },
                );
                if chunks.blocking_send(full).is_err() {
                    return Ok(read);
                }
            }
        }
        if !chunk.rows.rows.is_empty() {
            // The receiver is gone only if sending failed, which is reported elsewhere.
            let _ = chunks.blocking_send(chunk);
        }
        Ok(read)
    }

    /// Reads the next row, with its line.
    fn next(&mut self) -> Result<Option<(Option<i64>, RowOrProblem)>, String> {
        self.since_row.store(0, Ordering::Relaxed);
        match &mut self.source {
            Source::Csv { reader, columns } => {
                let mut record = csv::ByteRecord::new();
                let is_row =
                    reader.read_byte_record(&mut record).map_err(|error| error.to_string())?;
                Ok(is_row.then(|| (take_line(reader), columns::row(&record, columns))))
            }
            Source::Ndjson { reader, line } => loop {
                let mut text = Vec::new();
                let read =
                    reader.read_until(b'\n', &mut text).map_err(|error| error.to_string())?;
                if read == 0 {
                    return Ok(None);
                }
                *line += 1;
                if !text.trim_ascii().is_empty() {
                    return Ok(Some((Some(*line), json_row(&text))));
                }
            },
        }
    }
}

/// Takes the line of the row that was read.
fn take_line(reader: &mut csv::Reader<Limited>) -> Option<i64> {
    reader.get_mut().starts.as_mut().and_then(RowStarts::take)
}

/// Reads the header. Returns the purpose of each column.
fn header(reader: &mut csv::Reader<Limited>, args: &ImportArgs) -> Result<Vec<Column>, Failure> {
    let mut record = csv::ByteRecord::new();
    let found = reader
        .read_byte_record(&mut record)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.file)))?;
    columns::of(found.then_some(&record), args)
}

/// Skips the byte order mark with which some programs begin UTF-8. Returns whether there is one.
pub fn skip_bom(reader: &mut impl BufRead) -> std::io::Result<bool> {
    let has_bom = reader.fill_buf()?.starts_with(BOM);
    reader.consume(if has_bom { BOM.len() } else { 0 });
    Ok(has_bom)
}

/// Rejects JSON that is not one object a line, since some of its lines would pass for rows.
fn check_lines(reader: &mut BufReader<Limited>, file: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::usage(format!("{file} cannot be read: {error}"));
    skip_bom(reader).map_err(wrong)?;
    let start = reader.fill_buf().map_err(wrong)?.trim_ascii_start();
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if start.starts_with(b"[") || line.trim_ascii() == b"{" {
        let text = format!("{file} is not one JSON object a line; none of it was imported");
        return Err(Failure::usage(text)
            .next(format!("jq -c '.[]' {file} writes an array as one object a line")));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    #[serde(alias = "phoneNumber", default)]
    phone_number: String,
    #[serde(alias = "displayName", default)]
    display_name: String,
    #[serde(alias = "timeZone", default)]
    time_zone: String,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    attributes: HashMap<String, String>,
    // An errors file has these three.
    line: Option<IgnoredAny>,
    field: Option<IgnoredAny>,
    reason: Option<IgnoredAny>,
}

fn json_row(line: &[u8]) -> RowOrProblem {
    let row: JsonRow = serde_json::from_slice(line)
        .map_err(|error| ("row", format!("is not a valid row: {error}")))?;
    let own = [("line", row.line), ("field", row.field), ("reason", row.reason)];
    let is_of_errors_file = own.iter().all(|(_, value)| value.is_some());
    let stray = own.iter().find(|(_, value)| value.is_some() && !is_of_errors_file);
    if let Some((name, _)) = stray {
        return Err(("row", format!("is not a valid row: unknown field `{name}`")));
    }
    let JsonRow { phone_number, display_name, time_zone, priority, attributes, .. } = row;
    Ok(v1::ImportRow { phone_number, display_name, time_zone, priority, attributes })
}

#[cfg(test)]
mod tests {
    use super::super::args::parsed;
    use super::*;

    #[test]
    fn an_endless_first_row_comes_after_the_header() {
        let text = format!("\nphone\n\"{}", "x".repeat(3 * 1024 * 1024));
        let input = Box::new(std::io::Cursor::new(text));
        let rows = Rows::open(input, &parsed(&[]), Arc::default()).expect("rows");
        let (chunks, _received) = mpsc::channel(1);
        let error = rows.read_into(1, &chunks).expect_err("endless");
        assert!(error.starts_with("after line 2: a row has more than 1 MiB"), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_json_row() {
        let input = Box::new(&b"\xef\xbb\xbf{\"phone_number\": \"1\"}\n"[..]);
        let rows = Rows::open(input, &parsed(&["--format", "ndjson"]), Arc::default());
        let (chunks, _received) = mpsc::channel(1);
        let read = rows.expect("rows").read_into(1, &chunks).expect("read");
        assert!(read.rows == 1 && read.problems.is_empty(), "{read:?}");
    }

    #[test]
    fn a_row_of_an_errors_file_is_a_row() {
        let row = json_row(br#"{"line": 3, "field": "row", "reason": "x", "phone_number": "1"}"#);
        assert_eq!(row.expect("a row").phone_number, "1");
        let (_, stray) = json_row(br#"{"reason": "x", "phone_number": "1"}"#).expect_err("stray");
        assert!(stray.contains("unknown field `reason`"), "{stray}");
    }
}
