//! File of the rows that were not imported: the rows themselves in the format of the input, each with its line,
//! field and reason. People correct it and import it.

use super::args::{FileFormat, ImportArgs};
use super::columns::{OWN, is_of_errors_file};
use super::rows::{BOM, skip_bom};
use crate::failure::Failure;
use campaign_proto::v1;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use uuid::Uuid;

type Input = BufReader<Box<dyn Read>>;

/// Errors file of an import, before the rows are known.
pub struct ErrorFile(File);

impl ErrorFile {
    /// Creates the file before the import, so that this does not fail afterwards.
    pub fn create(path: &Path, input: &str) -> Result<Self, Failure> {
        let is_input = match (path.canonicalize(), Path::new(input).canonicalize()) {
            (Ok(errors), Ok(input)) => errors == input,
            _ => false,
        };
        if is_input {
            let text = format!("--errors would overwrite {input}, which is imported");
            return Err(Failure::usage(text).next("give --errors another file"));
        }
        let wrong =
            |error| Failure::usage(format!("{} cannot be written: {error}", path.display()));
        Ok(Self(File::create(path).map_err(wrong)?))
    }

    /// Returns the writer of the rows. It reads them from `input`, which is the input of the import once more.
    pub fn over(self, input: Box<dyn Read>, args: &ImportArgs) -> std::io::Result<ErrorRows> {
        let mut input = BufReader::new(input);
        let has_bom = skip_bom(&mut input)?;
        let mut output = BufWriter::new(self.0);
        let rows = match args.format() {
            FileFormat::Ndjson => Rows::Ndjson { input, output },
            FileFormat::Csv => {
                // Spreadsheets read a file with this mark as UTF-8.
                output.write_all(if has_bom { BOM } else { b"" })?;
                csv_rows(input, output, args.delimiter)?
            }
        };
        Ok(ErrorRows { rows, row: 0 })
    }
}

fn csv_rows(input: Input, output: BufWriter<File>, delimiter: u8) -> std::io::Result<Rows> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(input);
    let mut writer =
        csv::WriterBuilder::new().flexible(true).delimiter(delimiter).from_writer(output);
    let mut header = csv::ByteRecord::new();
    reader.read_byte_record(&mut header)?;
    let header_names = header.iter().map(<[u8]>::trim_ascii);
    // The three columns of an errors file are replaced.
    let skipped = if is_of_errors_file(header_names) { OWN.len() } else { 0 };
    let own = OWN.iter().map(|name| name.as_bytes());
    writer.write_record(own.chain(header.iter().skip(skipped)))?;
    Ok(Rows::Csv { reader: Box::new(reader), writer: Box::new(writer), skipped })
}

enum Rows {
    Csv {
        reader: Box<csv::Reader<Input>>,
        writer: Box<csv::Writer<BufWriter<File>>>,
        /// First columns of the input that are left out, since the file has its own.
        skipped: usize,
    },
    Ndjson {
        input: Input,
        output: BufWriter<File>,
    },
}

/// Writer of rows, in their order.
pub struct ErrorRows {
    rows: Rows,
    /// Number of the last row that was read.
    row: i64,
}

impl ErrorRows {
    /// Writes the row of a problem.
    pub fn add(&mut self, problem: &v1::RowProblem, line: i64) -> std::io::Result<()> {
        let v1::RowProblem { row, field, reason } = problem;
        match &mut self.rows {
            Rows::Csv { reader, writer, skipped } => {
                let mut record = csv::ByteRecord::new();
                while self.row < *row && reader.read_byte_record(&mut record)? {
                    self.row += 1;
                }
                let line = line.to_string();
                let own = [line.as_bytes(), field.as_bytes(), reason.as_bytes()];
                writer.write_record(own.into_iter().chain(record.iter().skip(*skipped)))?;
            }
            Rows::Ndjson { input, output } => {
                let mut text = Vec::new();
                while self.row < *row {
                    text.clear();
                    if input.read_until(b'\n', &mut text)? == 0 {
                        break;
                    }
                    self.row += i64::from(!text.trim_ascii().is_empty());
                }
                writeln!(output, "{}", with_problem(&text, line, field, reason))?;
            }
        }
        Ok(())
    }

    pub fn finish(self) -> std::io::Result<()> {
        match self.rows {
            Rows::Csv { mut writer, .. } => writer.flush(),
            Rows::Ndjson { mut output, .. } => output.flush(),
        }
    }
}

/// Returns a row with its problem in front. A row that is no object is kept as text.
fn with_problem(row: &[u8], line: i64, field: &str, reason: &str) -> String {
    let mut fields = serde_json::from_slice::<Map<String, Value>>(row).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(row.trim_ascii()).into_owned();
        Map::from_iter([("row".to_owned(), text.into())])
    });
    fields.retain(|name, _| !OWN.contains(&name.as_str()));
    let rest: String =
        fields.iter().map(|(name, value)| format!(", {}: {value}", json!(name))).collect();
    format!(
        "{{\"line\": {line}, \"field\": {}, \"reason\": {}{rest}}}",
        json!(field),
        json!(reason)
    )
}

/// Copy of standard input, which cannot be read twice. Nobody else can open it, and it ends with the process.
pub struct Spool(File);

/// Input that is copied while it is read.
pub struct Copied {
    input: Box<dyn Read + Send>,
    copy: File,
}

impl Spool {
    /// Returns the copy and the input to read.
    pub fn over(input: Box<dyn Read + Send>) -> std::io::Result<(Self, Copied)> {
        let path = std::env::temp_dir().join(format!("campaignctl-{}", Uuid::new_v4().simple()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        let copy = file.try_clone()?;
        Ok((Self(file), Copied { input, copy }))
    }

    /// Returns the input from its begin, once all of it was read.
    pub fn again(mut self) -> std::io::Result<File> {
        self.0.seek(SeekFrom::Start(0))?;
        Ok(self.0)
    }
}

impl Read for Copied {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.copy.write_all(&buffer[..read])?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_row_keeps_its_fields_and_gets_its_problem() {
        let row =
            with_problem(br#"{"phone_number": "n/a", "line": 9}"#, 3, "phone_number", "is\nbad");
        assert_eq!(
            row,
            r#"{"line": 3, "field": "phone_number", "reason": "is\nbad", "phone_number": "n/a"}"#
        );
        let text = with_problem(b"not JSON\n", 4, "row", "x");
        assert!(text.ends_with(r#""row": "not JSON"}"#), "{text}");
    }

    #[test]
    fn standard_input_is_read_twice() {
        let (spool, mut input) = Spool::over(Box::new(&b"phone\n1\n"[..])).expect("a spool");
        let (mut first, mut second) = (String::new(), String::new());
        input.read_to_string(&mut first).expect("read");
        spool.again().expect("again").read_to_string(&mut second).expect("read");
        assert_eq!((first.as_str(), second.as_str()), ("phone\n1\n", "phone\n1\n"));
    }
}
