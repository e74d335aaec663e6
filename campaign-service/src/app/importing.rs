//! Imports: chunks of rows, each committed as a whole with the import's progress.

use super::contacts::revive;
use super::error::{Error, Result};
use super::{App, existing};
use crate::store::contacts::{self, NewContact};
use crate::store::imports::{self, Import, Problem};
use crate::store::notify::{self, ControlEvent};
use crate::store::{Gate, Tx, campaigns, groups};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Most problems that an answer carries.
const MAX_PROBLEMS: i64 = 1_000;

/// One row, read.
#[derive(Clone, Debug)]
pub struct Row {
    /// From 1.
    pub number: i64,
    /// The contact, or the field that is wrong and why.
    pub contact: std::result::Result<NewContact, (String, String)>,
}

/// An import and its first problems.
#[derive(Clone, Debug)]
pub struct ImportReport {
    pub import: Import,
    pub problems: Vec<Problem>,
}

impl App {
    /// Takes in the next rows, those committed before excepted, and answers where the import stands.
    pub async fn import_chunk(&self, id: Uuid, import_id: &str, rows: &[Row]) -> Result<Import> {
        self.revive_deleted(id, rows).await?;
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        let mut import = imports::lock(&tx, id, import_id).await?;
        let first = rows.first().map_or(import.next_row, |row| row.number);
        if first > import.next_row {
            return Err(Error::invalid(
                "rows.first_row",
                format!("must be at most {}, the first row not committed yet", import.next_row),
            ));
        }
        let new: Vec<&Row> = rows.iter().filter(|row| row.number >= import.next_row).collect();
        let mut problems = Vec::new();
        let readable = readable_rows(&new, &mut problems);
        import.rejected += i64::try_from(problems.len()).unwrap_or(0);
        let known = problems.len();
        // Taking positions first keeps other imports out until commit.
        let count = i64::try_from(readable.len()).unwrap_or(0);
        let position = campaigns::take_positions(&tx, id, count).await?;
        let fresh = fresh_rows(&tx, id, readable, &mut problems).await?;
        import.duplicates += i64::try_from(problems.len() - known).unwrap_or(0);
        let created = i64::try_from(fresh.len()).unwrap_or(0);
        campaigns::count_contacts(&tx, id, created).await?;
        import.created += created;
        import.next_row += i64::try_from(new.len()).unwrap_or(0);
        insert(&tx, id, position, &fresh).await?;
        problems.sort_by_key(|problem| problem.row);
        imports::save(&tx, id, import_id, &import, &problems).await?;
        if !fresh.is_empty() {
            notify::send(&tx, &ControlEvent::Work { campaign: id }).await?;
        }
        tx.commit().await?;
        Ok(import)
    }

    /// Where an import stands.
    pub async fn get_import(&self, id: Uuid, import_id: &str) -> Result<ImportReport> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        let Some(import) = imports::find(&tx, id, import_id).await? else {
            return Err(Error::NotFound(format!("campaigns/{id}/imports/{import_id}")));
        };
        let problems = imports::problems(&tx, id, import_id, MAX_PROBLEMS).await?;
        Ok(ImportReport { import, problems })
    }

    /// Contacts of the rows that were deleted before come back, with their history.
    async fn revive_deleted(&self, id: Uuid, rows: &[Row]) -> Result<()> {
        let by_phone: HashMap<&str, &NewContact> = rows
            .iter()
            .filter_map(|row| row.contact.as_ref().ok())
            .map(|contact| (contact.phone.as_str(), contact))
            .collect();
        let phones: Vec<&str> = by_phone.keys().copied().collect();
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        let found = contacts::find_by_phones(&tx, id, &phones).await?;
        drop(tx);
        let deleted: Vec<_> = found.into_iter().filter(|(_, _, is_deleted)| *is_deleted).collect();
        if deleted.is_empty() {
            return Ok(());
        }
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let campaign = existing(&tx, id).await?;
        for (phone, position, _) in deleted {
            let Some(contact) = by_phone.get(phone.as_str()) else { continue };
            let wanted = [(contact.time_zone.clone(), contact.priority)];
            let group = groups::ensure(&tx, id, &wanted).await?[0];
            revive(&tx, &campaign, position, contact, group).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The rows that make sense, one for each number; the others become problems.
fn readable_rows<'a>(rows: &[&'a Row], problems: &mut Vec<Problem>) -> Vec<(i64, &'a NewContact)> {
    let mut readable = Vec::with_capacity(rows.len());
    for row in rows {
        match &row.contact {
            Ok(contact) => readable.push((row.number, contact)),
            Err((field, reason)) => problems.push(Problem {
                row: row.number,
                field: field.clone(),
                reason: reason.clone(),
            }),
        }
    }
    readable
}

/// The rows whose number is new to the campaign and to the rows before; the others become problems.
async fn fresh_rows<'a>(
    tx: &Tx<'_>,
    id: Uuid,
    rows: Vec<(i64, &'a NewContact)>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<&'a NewContact>> {
    let phones: Vec<&str> = rows.iter().map(|(_, contact)| contact.phone.as_str()).collect();
    let known = contacts::find_by_phones(tx, id, &phones).await?;
    let mut seen: HashSet<&str> = known.iter().map(|(phone, _, _)| phone.as_str()).collect();
    let mut fresh = Vec::with_capacity(rows.len());
    for (row, contact) in rows {
        if seen.insert(contact.phone.as_str()) {
            fresh.push(contact);
        } else {
            let reason = "is already in the campaign, or came earlier in the import".to_owned();
            problems.push(Problem { row, field: "phone_number".to_owned(), reason });
        }
    }
    Ok(fresh)
}

async fn insert(tx: &Tx<'_>, id: Uuid, first: i64, fresh: &[&NewContact]) -> Result<()> {
    if fresh.is_empty() {
        return Ok(());
    }
    let wanted: Vec<(String, i16)> =
        fresh.iter().map(|contact| (contact.time_zone.clone(), contact.priority)).collect();
    let groups = groups::ensure(tx, id, &wanted).await?;
    let rows: Vec<(NewContact, i32)> =
        fresh.iter().map(|contact| (*contact).clone()).zip(groups).collect();
    contacts::insert(tx, id, first, &rows).await?;
    Ok(())
}
