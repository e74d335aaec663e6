//! Columns of a CSV: their purposes by header, and rows read by them.

use super::args::{ImportArgs, OtherColumns};
use crate::failure::Failure;
use campaign_proto::v1;

/// First columns of an errors file. An import ignores them.
pub const OWN: [&str; 3] = ["line", "field", "reason"];

/// Row, or the field that cannot be read with the reason.
pub type RowOrProblem = Result<v1::ImportRow, (&'static str, String)>;

/// Purpose of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    PhoneNumber,
    DisplayName,
    TimeZone,
    Priority,
    Attribute(String),
    Ignored,
}

/// Returns the names in a header. Rejects names that are not text, or are there twice, with the next step.
fn names_of(header: &csv::ByteRecord) -> Result<Vec<String>, (String, &'static str)> {
    let mut names = Vec::new();
    for name in header {
        let name = std::str::from_utf8(name)
            .map_err(|_| ("the header is not UTF-8".to_owned(), "save the file as UTF-8"))?;
        names.push(name.trim_start_matches('\u{feff}').trim().to_owned());
    }
    for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = names[..at].iter().position(|other| other == name) {
            let text = format!("columns {} and {} are both named {name:?}", first + 1, at + 1);
            return Err((text, "rename one of them in the header"));
        }
    }
    Ok(names)
}

/// Returns whether a header is that of an errors file.
pub fn is_of_errors_file<'a>(mut header: impl Iterator<Item = &'a [u8]>) -> bool {
    OWN.iter().all(|own| header.next() == Some(own.as_bytes()))
}

/// Returns the purpose of each column of a header.
pub fn of(header: Option<&csv::ByteRecord>, args: &ImportArgs) -> Result<Vec<Column>, Failure> {
    let wrong = |text: String| Failure::usage(format!("{}: {text}", args.file));
    let header = header
        .ok_or_else(|| wrong("it is empty; the first line must name the columns".to_owned()))?;
    let names = names_of(header).map_err(|(text, next)| wrong(text).next(next))?;
    let mut columns: Vec<Option<Column>> = names.iter().map(|name| by_header(name)).collect();
    if is_of_errors_file(names.iter().map(String::as_bytes)) {
        columns[..OWN.len()].fill(Some(Column::Ignored));
    }
    choose(&mut columns, &names, args)?;
    if !columns.contains(&Some(Column::PhoneNumber)) {
        let text = format!("no column is phone_number; the columns are: {}", names.join(", "));
        return Err(wrong(text).next(
            "name it with --column phone_number=HEADER, or set the separator with --delimiter",
        ));
    }
    let others: Vec<&str> = names
        .iter()
        .zip(&columns)
        .filter(|(_, column)| column.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if args.other_columns == OtherColumns::Refuse && !others.is_empty() {
        return Err(wrong(format!("columns that are no field: {}", others.join(", "))).next(
            "--other-columns attributes passes them to the worker, --other-columns ignore skips them",
        ));
    }
    let other = |name: &String| match args.other_columns {
        OtherColumns::Attributes => Column::Attribute(name.clone()),
        OtherColumns::Refuse | OtherColumns::Ignore => Column::Ignored,
    };
    let columns: Vec<Column> = names
        .iter()
        .zip(columns)
        .map(|(name, column)| column.unwrap_or_else(|| other(name)))
        .collect();
    check_distinct(&columns, &names).map_err(|(text, next)| wrong(text).next(next))?;
    Ok(columns)
}

/// Applies the columns that `--column` names.
fn choose(
    columns: &mut [Option<Column>],
    names: &[String],
    args: &ImportArgs,
) -> Result<(), Failure> {
    let mut chosen = vec![false; names.len()];
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
            let columns = names.join(", ");
            let text = format!("there is no column {name:?}; the columns are: {columns}");
            Failure::usage(format!("{}: {text}", args.file))
        })?;
        if std::mem::replace(&mut chosen[at], true) {
            let text = format!("--column names {name:?} for two fields; a column is for one");
            return Err(Failure::usage(text));
        }
        for column in columns.iter_mut().filter(|column| **column == Some(field.clone())) {
            *column = None;
        }
        columns[at] = Some(field);
    }
    Ok(())
}

/// Rejects two columns of one purpose. Returns what is wrong, and the next step.
fn check_distinct(columns: &[Column], names: &[String]) -> Result<(), (String, String)> {
    // Columns without a name have no purpose to confuse.
    let has_purpose =
        |column: &Column| *column != Column::Ignored && *column != Column::Attribute(String::new());
    for (at, column) in columns.iter().enumerate().filter(|(_, one)| has_purpose(one)) {
        let Some(first) = columns[..at].iter().position(|other| other == column) else { continue };
        let (first, second) = (&names[first], &names[at]);
        return Err(match column.field() {
            Some(field) => (
                format!("the columns {first:?} and {second:?} could both be {field}"),
                format!(
                    "choose one, as in --column {field}={second:?}, and skip the other with \
                     --other-columns ignore"
                ),
            ),
            None => (
                format!("the columns {first:?} and {second:?} are attributes of the same name"),
                "rename one of them in the header".to_owned(),
            ),
        });
    }
    Ok(())
}

impl Column {
    /// Returns the name of the contact's field, if the column is one.
    fn field(&self) -> Option<&'static str> {
        match self {
            Self::PhoneNumber => Some("phone_number"),
            Self::DisplayName => Some("display_name"),
            Self::TimeZone => Some("time_zone"),
            Self::Priority => Some("priority"),
            Self::Attribute(_) | Self::Ignored => None,
        }
    }
}

fn by_field(name: &str) -> Option<Column> {
    let fields = [Column::PhoneNumber, Column::DisplayName, Column::TimeZone, Column::Priority];
    fields.into_iter().find(|column| column.field() == Some(name))
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

/// Reads a row by its columns.
pub fn row(record: &csv::ByteRecord, columns: &[Column]) -> RowOrProblem {
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

#[cfg(test)]
mod tests {
    use super::super::args::parsed;
    use super::*;

    fn of_header(names: &[&str], more: &[&str]) -> Result<Vec<Column>, String> {
        let mut told = Vec::new();
        of(Some(&csv::ByteRecord::from(names.to_vec())), &parsed(more)).map_err(|failure| {
            failure.tell(crate::text::Format::Human, &mut told);
            String::from_utf8_lossy(&told).into_owned()
        })
    }

    #[test]
    fn two_columns_of_one_purpose_are_named_with_the_way_out() {
        let error = of_header(&["Phone", "phone_number"], &[]).expect_err("twice");
        assert!(error.contains(r#"the columns "Phone" and "phone_number""#), "{error}");
        assert!(error.contains(r#"--column phone_number="phone_number""#), "{error}");
        let chosen = ["--column", "phone_number=phone_number", "--other-columns", "ignore"];
        let columns = of_header(&["Phone", "phone_number"], &chosen).expect("one is chosen");
        assert_eq!(columns, [Column::Ignored, Column::PhoneNumber]);
        let error = of_header(&["phone", "note", "note"], &[]).expect_err("twice");
        assert!(error.contains("columns 2 and 3 are both named \"note\""), "{error}");
        let twice = ["--column", "phone_number=x", "--column", "display_name=x"];
        let error = of_header(&["x"], &twice).expect_err("for two fields");
        assert!(error.contains("for two fields"), "{error}");
        let names = ["phone", "note", "attributes.note"];
        let error = of_header(&names, &["--other-columns", "attributes"]).expect_err("twice");
        assert!(error.contains("attributes of the same name"), "{error}");
    }

    #[test]
    fn the_own_columns_of_an_errors_file_are_ignored() {
        let columns = of_header(&["line", "field", "reason", "phone"], &[]).expect("columns");
        assert_eq!(columns.last(), Some(&Column::PhoneNumber));
        assert!(columns[..3].iter().all(|column| *column == Column::Ignored), "{columns:?}");
        // A reason of the user's own is a column like any other.
        let error = of_header(&["phone", "reason"], &[]).expect_err("no field");
        assert!(error.contains("no field: reason"), "{error}");
    }
}
