//! Rows that were not imported. The service names them. If reading found the reason, that reason is shown.

use super::error_file::ErrorRows;
use super::lines::LineNumbers;
use super::rows::ReadRows;
use super::sending::Sender;
use crate::failure::Failure;
use crate::text::table as print_table;
use campaign_proto::v1;
use std::collections::BTreeMap;

/// Result of an import.
pub struct Told {
    /// Import with its first problems.
    pub import: v1::Import,
    /// Number of all problems.
    pub count: usize,
}

/// Fetches all problems and writes them to the file, if there is one. Without a file, `enough` problems do.
pub async fn collect(
    sender: &Sender,
    read: &ReadRows,
    mut file: Option<ErrorRows>,
    enough: usize,
) -> Result<Told, Failure> {
    let mut import = sender.stand(0).await?;
    let found = &read.problems;
    name_those_found(&mut import, found);
    let mut page = import.problems.clone();
    let mut count = 0;
    while let Some(last) = page.last().map(|problem| problem.row) {
        count += page.len();
        if let Some(file) = &mut file {
            page.iter().try_for_each(|problem| file.add(problem, read.lines.line(problem.row)))?;
        } else if count > enough {
            // The rest is not shown, and its number follows from the counts.
            count = usize::try_from(import.rejected + import.duplicates).unwrap_or(count);
            break;
        }
        let mut next = sender.stand(last).await?;
        name_those_found(&mut next, found);
        page = next.problems;
    }
    if let Some(file) = file {
        file.finish()?;
    }
    Ok(Told { import, count })
}

fn name_those_found(import: &mut v1::Import, found: &BTreeMap<i64, v1::RowProblem>) {
    for problem in &mut import.problems {
        if let Some(known) = found.get(&problem.row) {
            problem.clone_from(known);
        }
    }
}

/// Returns a table of problems for people. Rows have the numbers that the service gives them.
pub fn table<'a>(problems: impl Iterator<Item = &'a v1::RowProblem>) -> String {
    numbered("ROW", problems, |row| row)
}

/// Returns a table of problems for people, with the lines of the file.
pub fn line_table<'a>(
    problems: impl Iterator<Item = &'a v1::RowProblem>,
    lines: &LineNumbers,
) -> String {
    numbered("LINE", problems, |row| lines.line(row))
}

fn numbered<'a>(
    header: &str,
    problems: impl Iterator<Item = &'a v1::RowProblem>,
    number: impl Fn(i64) -> i64,
) -> String {
    let cells = |problem: &v1::RowProblem| {
        [number(problem.row).to_string(), problem.field.clone(), problem.reason.clone()]
    };
    let mut rows = problems.map(cells).peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    print_table([header, "FIELD", "REASON"], rows)
}
