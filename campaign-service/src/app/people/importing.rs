//! Imports: chunks of rows, each committed as a whole with the import's progress.

use super::adding::{find_in_any_spelling, revive};
use super::contacts::Contacts;
use super::erased::Erased;
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::contacts::{self, NewContact};
use crate::store::imports::{self, Import, Problem};
use crate::store::notify::ControlEvent;
use crate::store::{Gate, Tx, agenda, campaigns, erasures, groups};
use campaign_domain::campaign::Campaign;
use campaign_domain::fingerprint::{self, Hash};
use campaign_domain::subscriber::canonical;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use tokio::try_join;
use uuid::Uuid;

/// Most problems that an answer carries.
const MAX_PROBLEMS: i64 = 1_000;

/// Reason for rejecting the number of an erased person.
const PERSON_ERASED: &str = "is of a person who was erased, and is not imported again";

/// Row as read.
#[derive(Clone, Debug)]
pub struct Row {
    /// Number of the row, from 1.
    pub number: i64,
    /// The contact, or the field that is wrong and why.
    pub contact: std::result::Result<NewContact, (String, String)>,
    /// Hash of the row as it was sent.
    pub hash: Hash,
}

/// Rows as they were sent, and the hash of all rows that the stream sent before them. The hash is
/// `None` unless the stream began with the first row.
#[derive(Clone, Debug)]
pub struct Sent {
    pub rows: Vec<Row>,
    pub before: Option<Hash>,
}

/// Import, and some of its problems.
#[derive(Clone, Debug)]
pub struct ImportReport {
    pub import: Import,
    pub problems: Vec<Problem>,
}

impl Contacts {
    /// Imports the next rows and returns the import's progress. Skips rows that were committed
    /// before.
    pub async fn import_chunk(&self, id: Uuid, import_id: &str, sent: &Sent) -> Result<Import> {
        let mut connection = self.db.connect().await?;
        let mut tx = connection.begin(Gate::Adding(id)).await?;
        let mut chunk = Chunk::open(&self.erased, &tx, id, import_id, sent).await?;
        if chunk.has_deleted() {
            // Deleted contacts come back, into the run under way too, which needs the campaign's
            // gate exclusively.
            drop(tx);
            tx = connection.begin(Gate::ExclusiveAdding(id)).await?;
            chunk = Chunk::open(&self.erased, &tx, id, import_id, sent).await?;
        }
        chunk.sort(&tx).await?;
        let import = chunk.save(&tx).await?;
        tx.commit().await?;
        Ok(import)
    }

    /// Returns an import's progress, with the first problems after a row.
    pub async fn get_import(
        &self,
        id: Uuid,
        import_id: &str,
        after_row: i64,
    ) -> Result<ImportReport> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Open).await?;
        existing(&tx, id).await?;
        let Some(import) = imports::find(&tx, id, import_id).await? else {
            return Err(Error::NotFound(format!("campaigns/{id}/imports/{import_id}")));
        };
        let problems = imports::problems(&tx, id, import_id, after_row, MAX_PROBLEMS).await?;
        Ok(ImportReport { import, problems })
    }
}

/// Rows of a chunk that are not committed yet. While a chunk is open, no other import adds
/// contacts.
struct Chunk<'a> {
    campaign: Campaign,
    import_id: &'a str,
    import: Import,
    rows: Vec<&'a Row>,
    /// Numbers that the campaign has, each in the canonical spelling of its subscriber. Maps to the
    /// position, and whether the contact is deleted.
    known: HashMap<String, (i64, bool)>,
    /// Numbers of erased people.
    erased: HashSet<&'a str>,
    fresh: Vec<&'a NewContact>,
    problems: Vec<Problem>,
}

impl<'a> Chunk<'a> {
    async fn open(
        erased: &Erased,
        tx: &Tx<'_>,
        id: Uuid,
        import_id: &'a str,
        sent: &'a Sent,
    ) -> Result<Self> {
        let rows = &sent.rows;
        let campaign = existing(tx, id).await?;
        let import = imports::lock(tx, id, import_id).await?;
        check_repeated(&import, sent)?;
        let first = rows.first().map_or(import.next_row, |row| row.number);
        if first > import.next_row {
            return Err(Error::invalid(
                "rows.first_row",
                format!("must be at most {}, the first row not committed yet", import.next_row),
            ));
        }
        let rows: Vec<&Row> = rows.iter().filter(|row| row.number >= import.next_row).collect();
        let phones: Vec<&'a str> = rows
            .iter()
            .filter_map(|row| row.contact.as_ref().ok())
            .map(|contact| contact.phone.as_str())
            .collect();
        let (mut found, keys) =
            try_join!(find_in_any_spelling(tx, id, &phones), erasures::key_ids(tx))?;
        let erased = erased.among(tx, &keys, &campaign.tenant, &phones).await?;
        // If two spellings are found, the contact that is not deleted is the known one.
        found.sort_by_key(|(_, _, is_deleted)| !*is_deleted);
        let known = found
            .into_iter()
            .map(|(phone, at, deleted)| (canonical(&phone).into_owned(), (at, deleted)))
            .collect();
        let (fresh, problems) = (Vec::new(), Vec::new());
        Ok(Self { campaign, import_id, import, rows, known, erased, fresh, problems })
    }

    fn has_deleted(&self) -> bool {
        self.known.values().any(|(_, is_deleted)| *is_deleted)
    }

    /// Sorts rows into new contacts, contacts that come back, duplicates, and rejected rows.
    async fn sort(&mut self, tx: &Tx<'_>) -> Result<()> {
        let mut seen: HashSet<Cow<'_, str>> = HashSet::new();
        for row in std::mem::take(&mut self.rows) {
            // Skipped if a version that knows no fingerprints committed rows.
            if self.import.fingerprint.rows == self.import.next_row - 1 {
                self.import.fingerprint.add(&row.hash);
            }
            self.import.next_row += 1;
            let contact = match &row.contact {
                Ok(contact) => contact,
                Err((field, reason)) => {
                    self.import.rejected += 1;
                    self.add_problem(row, field, reason);
                    continue;
                }
            };
            if self.erased.contains(contact.phone.as_str()) {
                self.import.rejected += 1;
                self.add_problem(row, "phone_number", PERSON_ERASED);
                continue;
            }
            let number = canonical(&contact.phone);
            let known = self.known.get(number.as_ref()).copied();
            let is_first = seen.insert(number);
            match known {
                None if is_first => self.fresh.push(contact),
                Some((position, true)) if is_first => {
                    self.bring_back(tx, row, contact, position).await?;
                }
                _ => {
                    self.import.duplicates += 1;
                    let reason = "is already in the campaign, or came earlier in the import";
                    self.add_problem(row, "phone_number", reason);
                }
            }
        }
        Ok(())
    }

    async fn bring_back(
        &mut self,
        tx: &Tx<'_>,
        row: &Row,
        contact: &NewContact,
        position: i64,
    ) -> Result<()> {
        let wanted = [(contact.time_zone.clone(), contact.priority)];
        let group = groups::ensure(tx, self.campaign.id, &wanted).await?[0];
        match revive(tx, &self.campaign, position, contact, group).await {
            Ok(()) => self.import.created += 1,
            Err(Error::Precondition { description, .. }) => {
                self.import.rejected += 1;
                self.add_problem(row, "phone_number", &description);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn add_problem(&mut self, row: &Row, field: &str, reason: &str) {
        let (field, reason) = (field.to_owned(), reason.to_owned());
        self.problems.push(Problem { row: row.number, field, reason });
    }

    async fn save(mut self, tx: &Tx<'_>) -> Result<Import> {
        let id = self.campaign.id;
        let created = i64::try_from(self.fresh.len()).unwrap_or(0);
        if created > 0 {
            let first = campaigns::take_positions(tx, id, created).await?;
            insert(tx, id, first, &self.fresh).await?;
            self.import.created += created;
        }
        imports::save(tx, id, self.import_id, &self.import, &self.problems).await?;
        agenda::wake(tx, id, tx.now).await?;
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
        Ok(self.import)
    }
}

/// Rejects rows that differ from the rows committed under the import's id.
fn check_repeated(import: &Import, sent: &Sent) -> Result<()> {
    let Some(mut all) = sent.before else { return Ok(()) };
    for row in sent.rows.iter().take_while(|row| row.number < import.next_row) {
        all = fingerprint::then(&all, &row.hash);
        if !import.fingerprint.agrees(row.number, &all) {
            let how = format!(
                "was used for another list, which differs in row {} or before; choose another import_id",
                row.number
            );
            return Err(Error::invalid("header.import_id", how));
        }
    }
    Ok(())
}

/// Adds new contacts. Contacts of a group get positions side by side, in the order they came. So a
/// lease, which has few groups, finds the states of its contacts in few blocks.
async fn insert(tx: &Tx<'_>, id: Uuid, first: i64, fresh: &[&NewContact]) -> Result<()> {
    let wanted: Vec<(String, i16)> =
        fresh.iter().map(|contact| (contact.time_zone.clone(), contact.priority)).collect();
    let groups = groups::ensure(tx, id, &wanted).await?;
    let mut rows: Vec<(&NewContact, i32)> = fresh.iter().copied().zip(groups).collect();
    rows.sort_by_key(|(_, group)| *group);
    contacts::insert(tx, id, first, &rows).await?;
    Ok(())
}
