//! Arguments of an import.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Campaign: campaigns/ID, ID, or display name
    pub campaign: String,
    /// CSV file with a header, or NDJSON file with the API's field names; - for standard input
    pub file: String,
    /// Format of the file [default: by its extension; CSV if that does not tell]
    #[arg(long, value_enum)]
    pub format: Option<FileFormat>,
    /// Country of phone numbers without a country code, as in US
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    pub default_region: String,
    /// Column of a field, as in phone_number=Mobile; fields: phone_number, display_name, time_zone, priority
    #[arg(long = "column", value_name = "FIELD=HEADER")]
    pub columns: Vec<String>,
    /// Treatment of columns that are no field
    #[arg(long, value_enum, default_value_t)]
    pub other_columns: OtherColumns,
    /// Character between columns, as in ; or |, or tab
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = delimiter)]
    pub delimiter: u8,
    /// File to write the rows that were not imported to, each with its line, field and reason. Correct and import it
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,
    /// ID of the import; running again with the same ID resumes it [default: from the file's content]
    #[arg(long, value_name = "ID")]
    pub import_id: Option<String>,
    /// Time in seconds to retry while the service is unavailable, 0 to 86,400
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub give_up_seconds: u64,
}

impl ImportArgs {
    pub fn format(&self) -> FileFormat {
        self.format.unwrap_or_else(|| by_name(&self.file))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    Csv,
    Ndjson,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OtherColumns {
    /// Stop before the import, naming the columns
    #[default]
    Refuse,
    /// Skip the columns
    Ignore,
    /// Pass the columns to the worker as attributes of the contact
    Attributes,
}

fn by_name(file: &str) -> FileFormat {
    let extension = file.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    match extension.as_deref() {
        Some("ndjson" | "jsonl" | "json") => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    }
}

/// Reads a delimiter as shells can pass it: the character, or a tab by its name.
fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" | b"tab" | b"TAB" => Ok(b'\t'),
        [b'"' | b'\r' | b'\n'] => {
            Err("quotes and line ends have another meaning in a CSV".to_owned())
        }
        [c] => Ok(*c),
        _ => Err("a delimiter must be one ASCII character, as in ; or |, or tab".to_owned()),
    }
}

/// Returns the arguments of an import of `file.csv`.
#[cfg(test)]
pub fn parsed(more: &[&str]) -> ImportArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ImportArgs,
    }
    let line = [&["import", "Spring", "file.csv"], more].concat();
    <Line as clap::Parser>::parse_from(line).args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_one_ascii_character_or_tab() {
        for (text, wanted) in
            [("\\t", b'\t'), ("tab", b'\t'), ("\t", b'\t'), (";", b';'), ("|", b'|'), (",", b',')]
        {
            assert_eq!(delimiter(text), Ok(wanted), "{text:?}");
        }
        for wrong in ["", ";;", "\\n", "§", "semicolon"] {
            let error = delimiter(wrong).expect_err(wrong);
            assert!(error.contains("one ASCII character"), "{error}");
        }
        assert!(delimiter("\"").is_err());
    }
}
