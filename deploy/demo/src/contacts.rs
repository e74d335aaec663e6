//! Reading of contacts as people export them from a spreadsheet.

use crate::result::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Rows in one message.
const CHUNK_ROWS: usize = 1_000;

/// Returns the messages of an import of a CSV file, first the header, and the number of rows.
///
/// Rows that are too short are sent unchanged: the service reports what is wrong with them.
pub fn read(file: &Path, parent: &str, import_id: &str) -> Result<(Vec<Value>, usize)> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_path(file)?;
    let columns: Vec<String> = reader
        .headers()?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_lowercase())
        .collect();
    let column = |name: &str| {
        let found = columns.iter().position(|column| column == name);
        found.ok_or_else(|| format!("{} has no column {name:?}", file.display()))
    };
    let (name, phone) = (column("full name")?, column("phone number")?);
    let (zone, priority) = (column("time zone")?, column("priority")?);
    let company = column("company")?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let field = |index: usize| record.get(index).unwrap_or_default();
        rows.push(json!({
            "phoneNumber": field(phone),
            "displayName": field(name),
            "timeZone": field(zone),
            "priority": field(priority).parse::<i32>().unwrap_or(0),
            "attributes": { "company": field(company) },
        }));
    }
    let header = json!({ "parent": parent, "importId": import_id, "defaultRegion": "US" });
    let mut messages = vec![json!({ "header": header })];
    for (index, chunk) in rows.chunks(CHUNK_ROWS).enumerate() {
        let first_row = index * CHUNK_ROWS + 1;
        messages.push(json!({ "rows": { "firstRow": first_row, "rows": chunk } }));
    }
    Ok((messages, rows.len()))
}
