//! Rows that were not imported. The service names them. If reading found the reason, that reason is shown.

use super::sending::Sender;
use crate::failure::Failure;
use crate::text::table as print_table;
use campaign_proto::v1;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// CSV file of the rows that were not imported.
pub struct ErrorFile(csv::Writer<File>);

impl ErrorFile {
    /// Creates the file before the import, so that this does not fail afterwards.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("{} cannot be written: {error}", path.display()))
        };
        let mut writer =
            csv::Writer::from_writer(File::create(path).map_err(|error| wrong(&error))?);
        writer.write_record(["row", "field", "reason"]).map_err(|error| wrong(&error))?;
        Ok(Self(writer))
    }

    fn add(&mut self, problem: &v1::RowProblem) -> Result<(), Failure> {
        let row = problem.row.to_string();
        let written =
            self.0.write_record([row.as_str(), problem.field.as_str(), problem.reason.as_str()]);
        written.map_err(|error| Failure::from(std::io::Error::from(error)))
    }
}

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
    found: BTreeMap<i64, v1::RowProblem>,
    mut file: Option<ErrorFile>,
    enough: usize,
) -> Result<Told, Failure> {
    let mut import = sender.stand(0).await?;
    name_those_found(&mut import, &found);
    let mut page = import.problems.clone();
    let mut count = 0;
    while let Some(last) = page.last().map(|problem| problem.row) {
        count += page.len();
        if let Some(file) = &mut file {
            page.iter().try_for_each(|problem| file.add(problem))?;
        } else if count > enough {
            // The rest is not shown, and its number follows from the counts.
            count = usize::try_from(import.rejected + import.duplicates).unwrap_or(count);
            break;
        }
        let mut next = sender.stand(last).await?;
        name_those_found(&mut next, &found);
        page = next.problems;
    }
    if let Some(mut file) = file {
        file.0.flush()?;
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

/// Returns a table of problems for people.
pub fn table<'a>(problems: impl Iterator<Item = &'a v1::RowProblem>) -> String {
    let mut rows = problems
        .map(|problem| [problem.row.to_string(), problem.field.clone(), problem.reason.clone()])
        .peekable();
    if rows.peek().is_none() {
        return String::new();
    }
    print_table(["ROW", "FIELD", "REASON"], rows)
}
