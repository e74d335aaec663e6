//! Imports from files and streams. They resume where they broke off, and report every row that was not imported.

mod args;
mod columns;
mod error_file;
mod lines;
mod problems;
mod quotes;
mod rows;
mod sending;
mod telling;

pub use args::ImportArgs;
pub use problems::table as problem_table;

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::names;
use crate::printing::{Printer, in_part};
use crate::text::counted;
use args::FileFormat;
use campaign_proto::v1;
use error_file::{ErrorFile, ErrorRows, Spool};
use lines::LineNumbers;
use quotes::Quotes;
use rows::{Chunk, Rows};
use sending::Sender;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use telling::Telling;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// Rows that one stream commits. They are kept until the stream is answered, to be sent again if it breaks.
const MAX_BATCH_ROWS: usize = 20_000;
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Chunks that are read ahead of sending.
const CHUNKS_AHEAD: usize = 4;
/// Problems that are shown without an `--errors` file.
const PROBLEMS_SHOWN: usize = 10;

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    args: ImportArgs,
) -> Result<(), Failure> {
    let parent = names::campaign(connection, &args.campaign).await?;
    let (input, length) = open(&args.file)?;
    let (input, spool) = if args.file == "-" && args.errors.is_some() {
        let (spool, copied) = Spool::over(input)?;
        (Box::new(copied) as Box<dyn Read + Send>, Some(spool))
    } else {
        (input, None)
    };
    let bytes = Arc::new(AtomicU64::new(0));
    let rows = Rows::open(input, &args, Arc::clone(&bytes))?;
    let content_id = read_ahead(&args)?;
    let create = |path: &PathBuf| ErrorFile::create(path, &args.file);
    let errors = args.errors.as_ref().map(create).transpose()?;
    let import_id = args.import_id.clone().unwrap_or(content_id);
    let header = v1::ImportHeader {
        parent,
        import_id: import_id.clone(),
        default_region: args.default_region.clone(),
    };
    let sender = Sender::new(connection, header, Duration::from_secs(args.give_up_seconds));
    let next_row = sender.next_row().await?;
    // A chosen import ID may belong to another list, so the service compares all rows.
    let is_chosen = args.import_id.is_some();
    let sender = if is_chosen { sender.sending_all() } else { sender };
    let from_row = if is_chosen { 1 } else { next_row };
    let telling = Telling::start(&import_id, next_row, length, bytes);
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let (finished, read) = oneshot::channel();
    // Nothing waits for this thread: when sending fails, it may still wait for standard input.
    std::thread::spawn(move || finished.send(rows.read_into(from_row, &chunks)));
    let sent = send_all(&sender, received, &telling).await;
    telling.finish();
    let is_outside_run = sent?;
    let read = read
        .await
        .map_err(|_| Failure::new(Exit::Failed, "the file's reader stopped unexpectedly"))?;
    let read = read.map_err(|error| Failure::usage(format!("{}: {error}", args.file)))?;
    if read.rows == 0 {
        return Err(Failure::usage(format!("{} has no rows; nothing was imported", args.file)));
    }
    let errors = errors.map(|file| error_rows(file, spool, &args)).transpose()?;
    let told = problems::collect(&sender, &read, errors, PROBLEMS_SHOWN).await?;
    if read.rows < next_row {
        printer.remark(
            "this list was imported before, and nothing was added; to import contacts deleted since, give \
             another --import-id",
        )?;
    }
    if is_outside_run {
        printer.remark(
            "the current run was launched before this import and excludes the new contacts; the next launch \
             includes them",
        )?;
    }
    report(printer, &args, told, &read.lines)
}

/// Sends the rows that are read, batch by batch. Returns whether the current run excludes the new contacts.
async fn send_all(
    sender: &Sender,
    mut received: mpsc::Receiver<Chunk>,
    telling: &Telling,
) -> Result<bool, Failure> {
    let (mut batch, mut rows, mut bytes, mut is_outside_run) = (Vec::new(), 0, 0, false);
    loop {
        let chunk = received.recv().await;
        let is_last = chunk.is_none();
        if let Some(chunk) = chunk {
            rows += chunk.rows.rows.len();
            bytes += chunk.bytes;
            batch.push(chunk.rows);
        }
        let is_full = rows >= MAX_BATCH_ROWS || bytes >= MAX_BATCH_BYTES;
        if !batch.is_empty() && (is_full || is_last) {
            let import = sender.send(&batch, telling).await?;
            telling.update(&import);
            is_outside_run |= import.outside_run;
            (batch, rows, bytes) = (Vec::new(), 0, 0);
        }
        if is_last {
            return Ok(is_outside_run);
        }
    }
}

/// Returns the writer of the errors file, which reads the input once more.
fn error_rows(
    file: ErrorFile,
    spool: Option<Spool>,
    args: &ImportArgs,
) -> std::io::Result<ErrorRows> {
    let input: Box<dyn Read> = match spool {
        Some(spool) => Box::new(spool.again()?),
        None => Box::new(File::open(&args.file)?),
    };
    file.over(input, args)
}

fn report(
    printer: &Printer,
    args: &ImportArgs,
    told: problems::Told,
    lines: &LineNumbers,
) -> Result<(), Failure> {
    printer.answer(&told.import)?;
    let rest = told.count.saturating_sub(told.import.problems.len().min(PROBLEMS_SHOWN));
    match &args.errors {
        Some(path) if told.count > 0 => {
            printer.remark(&format!("rows that were not imported: {}", path.display()))?;
        }
        None if told.count > 0 => {
            let shown = told.import.problems.iter().take(PROBLEMS_SHOWN);
            let mut text = problems::line_table(shown, lines);
            if rest > 0 {
                text.push_str(&format!("and {rest} more; --errors FILE writes all of them\n"));
            }
            printer.remark(&text)?;
        }
        _ => {}
    }
    match told.import.rejected {
        0 => Ok(()),
        rejected => {
            let rows = counted(rejected, "row was", "rows were");
            let next = match &args.errors {
                Some(path) => format!("correct the rows in {} and import it", path.display()),
                None => "--errors FILE writes these rows, to correct and import them".to_owned(),
            };
            Err(in_part(format!("{rows} rejected; all others are in the campaign")).next(next))
        }
    }
}

/// Opens the input. Returns it with its length in bytes, if that is known.
fn open(file: &str) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if file == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let wrong = |error| Failure::usage(format!("{file} cannot be read: {error}"));
    let opened = File::open(file).map_err(wrong)?;
    let metadata = opened.metadata().map_err(wrong)?;
    if !metadata.is_file() {
        // A file is read more than once.
        let text = format!("{file} is not a regular file, which can be read twice");
        return Err(
            Failure::usage(text).next("give - as the file, and pipe the rows to standard input")
        );
    }
    Ok((Box::new(opened), Some(metadata.len())))
}

/// Reads a file before anything is sent. Rejects a CSV whose quotes are not closed. Returns an import ID that is
/// the same for the same content read in the same way.
///
/// Standard input cannot be read twice. Its ID differs each time, and its quotes are checked as they arrive.
fn read_ahead(args: &ImportArgs) -> Result<String, Failure> {
    if args.file == "-" {
        return Ok(format!("stdin-{}", Uuid::new_v4().simple()));
    }
    let is_csv = args.format() == FileFormat::Csv;
    let mut quotes = if is_csv { Some(Quotes::new(args.delimiter)) } else { None };
    let mut hash = Sha256::new();
    let ImportArgs { default_region, columns, other_columns, format, .. } = args;
    // IDs stay the same from version to version, and they have the delimiter as a character.
    let delimiter = char::from(args.delimiter);
    hash.update(format!(
        "{default_region:?} {columns:?} {other_columns:?} {delimiter:?} {format:?}"
    ));
    let wrong = |error| Failure::usage(format!("{} cannot be read: {error}", args.file));
    let mut file = File::open(&args.file).map_err(wrong)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(wrong)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        if let Some(quotes) = &mut quotes {
            quotes.feed(&buffer[..read]);
        }
    }
    if let Some(problem) = quotes.and_then(|quotes| quotes.end()) {
        let text = format!("{}: {problem}", args.file);
        let next = "nothing was imported; correct the line and import again";
        return Err(Failure::usage(text).next(next));
    }
    let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("file-{hex}"))
}
