//! Rows as people export them: CSV with a header, or JSON lines. They are read one by one, each of bounded size.
//! A row that cannot be read keeps its number, so that all rows have their numbers in the file.

use super::quotes::Quotes;
use super::{FileFormat, ImportArgs, OtherColumns};
use crate::failure::Failure;
use campaign_proto::v1;
use prost::Message;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

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
    /// Rows that could not be read, by number.
    pub problems: BTreeMap<i64, v1::RowProblem>,
}

/// Row, or the field that cannot be read with the reason.
type RowOrProblem = Result<v1::ImportRow, (&'static str, String)>;

/// Reader of a file of rows.
pub struct Rows {
    source: Source,
    /// Bytes read since the last row.
    since_row: Arc<AtomicU64>,
}

enum Source {
    Csv { reader: Box<csv::Reader<Limited>>, columns: Vec<Column> },
    Ndjson(Box<BufReader<Limited>>),
}

/// Input that counts the bytes read and stops at a row that has no end.
struct Limited {
    inner: Box<dyn Read + Send>,
    since_row: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
    /// Quotes of a CSV on standard input.
    quotes: Option<Quotes>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(quotes) = &mut self.quotes {
            quotes.feed(&buffer[..read]);
            // At the end, the current row has swallowed everything after its open quote.
            let problem = if read == 0 { quotes.end() } else { None };
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

/// Purpose of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    PhoneNumber,
    DisplayName,
    TimeZone,
    Priority,
    Attribute(String),
    Ignored,
}

impl Rows {
    pub fn open(
        inner: Box<dyn Read + Send>,
        args: &ImportArgs,
        total: Arc<AtomicU64>,
    ) -> Result<Self, Failure> {
        let since_row = Arc::new(AtomicU64::new(0));
        let mut limited = Limited { inner, since_row: Arc::clone(&since_row), total, quotes: None };
        let source = match args.format() {
            FileFormat::Ndjson => {
                let mut reader = BufReader::new(limited);
                check_lines(&mut reader, &args.file)?;
                Source::Ndjson(Box::new(reader))
            }
            FileFormat::Csv => {
                let delimiter = args.delimiter()?;
                // A file's quotes were checked ahead.
                limited.quotes = (args.file == "-").then(|| Quotes::new(delimiter));
                let mut reader = csv::ReaderBuilder::new()
                    .has_headers(false)
                    .flexible(true)
                    .delimiter(delimiter)
                    .from_reader(limited);
                let columns = header(&mut reader, args)?;
                Source::Csv { reader: Box::new(reader), columns }
            }
        };
        Ok(Self { source, since_row })
    }

    /// Passes on the rows from `next_row` on. Stops when the receiver is gone.
    pub fn read_into(
        mut self,
        next_row: i64,
        chunks: &mpsc::Sender<Chunk>,
    ) -> Result<ReadRows, String> {
        let mut read = ReadRows::default();
        let mut chunk = Chunk { rows: v1::ImportRows::default(), bytes: 0 };
        while let Some(row) =
            self.next().map_err(|error| format!("row {}: {error}", read.rows + 1))?
        {
            read.rows += 1;
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

    fn next(&mut self) -> Result<Option<RowOrProblem>, String> {
        self.since_row.store(0, Ordering::Relaxed);
        match &mut self.source {
            Source::Csv { reader, columns } => {
                let mut record = csv::ByteRecord::new();
                let is_row =
                    reader.read_byte_record(&mut record).map_err(|error| error.to_string())?;
                Ok(is_row.then(|| csv_row(&record, columns)))
            }
            Source::Ndjson(reader) => loop {
                let mut line = Vec::new();
                let read =
                    reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
                if read == 0 {
                    return Ok(None);
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(json_row(&line)));
                }
            },
        }
    }
}

/// Rejects JSON that is not one object a line, since some of its lines would pass for rows.
fn check_lines(reader: &mut BufReader<Limited>, file: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::usage(format!("{file} cannot be read: {error}"));
    let start = reader.fill_buf().map_err(wrong)?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if start.starts_with(b"[") || line.trim_ascii() == b"{" {
        let text = format!("{file} is not one JSON object a line; none of it was imported");
        return Err(Failure::usage(text)
            .next(format!("jq -c '.[]' {file} writes an array as one object a line")));
    }
    Ok(())
}

pub(super) fn by_name(file: &str) -> FileFormat {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    match extension.as_deref() {
        Some("ndjson" | "jsonl" | "json") => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

/// Returns the names in a header. Rejects names that are not text, or are there twice, with the next step.
fn names_of(header: &csv::ByteRecord) -> Result<Vec<String>, (String, &'static str)> {
    let mut names = Vec::new();
    for name in header {
        let name = std::str::from_utf8(name)
            .map_err(|_| ("the header is not UTF-8".to_owned(), "save the file as UTF-8"))?;
        names.push(name.trim_start_matches('\u{feff}').trim().to_owned());
    }
    let twice = |name: &&String| names.iter().filter(|other| other == name).count() > 1;
    match names.iter().filter(|name| !name.is_empty()).find(twice) {
        Some(name) => Err((format!("two columns are named {name:?}"), "rename one of them")),
        None => Ok(names),
    }
}

/// Reads the header. Returns the purpose of each column.
fn header(reader: &mut csv::Reader<Limited>, args: &ImportArgs) -> Result<Vec<Column>, Failure> {
    let wrong = |text: String| Failure::usage(format!("{}: {text}", args.file));
    let mut record = csv::ByteRecord::new();
    let found = reader.read_byte_record(&mut record).map_err(|error| wrong(error.to_string()))?;
    if !found {
        return Err(wrong("it is empty; the first line must name the columns".to_owned()));
    }
    let names = names_of(&record).map_err(|(text, next)| wrong(text).next(next))?;
    let mut columns: Vec<Option<Column>> = names.iter().map(|name| by_header(name)).collect();
    for pair in &args.columns {
        let (field, name) = pair
            .split_once('=')
            .and_then(|(field, name)| Some((by_field(field)?, name.trim())))
            .ok_or_else(|| {
                Failure::usage(format!(
                    "--column {pair:?} is not valid; write it as in phone_number=Mobile"
                ))
            })?;
        let at = names.iter().position(|known| known == name).ok_or_else(|| {
            wrong(format!("there is no column {name:?}; the columns are: {}", names.join(", ")))
        })?;
        for column in columns.iter_mut().filter(|column| **column == Some(field.clone())) {
            *column = None;
        }
        columns[at] = Some(field);
    }
    let others: Vec<&str> = names
        .iter()
        .zip(&columns)
        .filter(|(_, column)| column.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if !columns.contains(&Some(Column::PhoneNumber)) {
        let text = format!("no column is phone_number; the columns are: {}", names.join(", "));
        return Err(wrong(text).next(
            "name it with --column phone_number=HEADER, or set the separator with --delimiter",
        ));
    }
    if args.other_columns == OtherColumns::Refuse && !others.is_empty() {
        return Err(wrong(format!("columns that are no field: {}", others.join(", "))).next(
            "--other-columns attributes passes them to the worker, --other-columns ignore skips them",
        ));
    }
    for name in ["phone_number", "display_name", "time_zone", "priority"] {
        let field = by_field(name);
        let found = names.iter().zip(&columns).filter(|(_, column)| **column == field);
        let found: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
        if found.len() > 1 {
            let text = format!("two columns could be {name}: {}", found.join(", "));
            return Err(wrong(text).next(format!("choose one with --column {name}=HEADER")));
        }
    }
    let other = |name: &String| match args.other_columns {
        OtherColumns::Attributes => Column::Attribute(name.clone()),
        OtherColumns::Refuse | OtherColumns::Ignore => Column::Ignored,
    };
    Ok(names
        .iter()
        .zip(columns)
        .map(|(name, column)| column.unwrap_or_else(|| other(name)))
        .collect())
}

fn by_field(name: &str) -> Option<Column> {
    match name {
        "phone_number" => Some(Column::PhoneNumber),
        "display_name" => Some(Column::DisplayName),
        "time_zone" => Some(Column::TimeZone),
        "priority" => Some(Column::Priority),
        _ => None,
    }
}

/// Returns the column of a header as people write it.
fn by_header(name: &str) -> Option<Column> {
    if let Some(key) = name.strip_prefix("attributes.") {
        return Some(Column::Attribute(key.to_owned()));
    }
    match name.to_lowercase().replace([' ', '-'], "_").as_str() {
        "phone_number" | "phone" => Some(Column::PhoneNumber),
        "display_name" | "name" | "full_name" => Some(Column::DisplayName),
        "time_zone" | "timezone" => Some(Column::TimeZone),
        "priority" => Some(Column::Priority),
        _ => None,
    }
}

fn csv_row(record: &csv::ByteRecord, columns: &[Column]) -> RowOrProblem {
    if record.len() > columns.len() {
        let (has, wants) = (record.len(), columns.len());
        let reason = format!(
            "has {has} fields where the header has {wants}; quote fields that contain the delimiter"
        );
        return Err(("row", reason));
    }
    let mut row = v1::ImportRow::default();
    for (bytes, column) in record.iter().zip(columns) {
        let text = std::str::from_utf8(bytes).map_err(|_| ("row", "is not UTF-8".to_owned()))?;
        match column {
            Column::PhoneNumber => text.clone_into(&mut row.phone_number),
            Column::DisplayName => text.clone_into(&mut row.display_name),
            Column::TimeZone => text.clone_into(&mut row.time_zone),
            Column::Priority if text.trim().is_empty() => {}
            Column::Priority => {
                row.priority = text
                    .trim()
                    .parse()
                    .map_err(|_| ("priority", "must be a number from 0 to 9".to_owned()))?;
            }
            Column::Attribute(key) if !text.trim().is_empty() => {
                row.attributes.insert(key.clone(), text.to_owned());
            }
            Column::Attribute(_) | Column::Ignored => {}
        }
    }
    Ok(row)
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
}

fn json_row(line: &[u8]) -> RowOrProblem {
    let row: JsonRow = serde_json::from_slice(line)
        .map_err(|error| ("row", format!("is not a valid row: {error}")))?;
    let JsonRow { phone_number, display_name, time_zone, priority, attributes } = row;
    Ok(v1::ImportRow { phone_number, display_name, time_zone, priority, attributes })
}
