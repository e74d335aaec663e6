//! Stream of an import: a header, then rows.

use super::access::Admitted;
use super::check::Check;
use super::names;
use super::rows::new_contact;
use crate::app::campaigns::Campaigns;
use crate::app::error::Error;
use crate::app::people::contacts::Contacts;
use crate::app::people::importing::{Row, Sent};
use crate::store::imports::Import;
use campaign_domain::fingerprint::{self, Hash, NO_ROWS};
use campaign_domain::phone::Reading;
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};
use uuid::Uuid;

/// Most rows in one message.
const MAX_IMPORT_ROWS: usize = 5_000;
/// Most rows in an import.
const MAX_IMPORT_ROW: i64 = 1_000_000_000_000;
/// Longest silence of a client that imports.
const IMPORT_IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Result of a stream of rows.
pub struct Received {
    pub campaign: Uuid,
    pub import_id: String,
    /// Rows of the stream that created a contact.
    pub created: i64,
    /// Rows of the stream that were committed before.
    pub repeated: i64,
}

/// Receives an import to its end.
pub async fn receive(
    campaigns: &Campaigns,
    contacts: &Contacts,
    admitted: &Admitted,
    mut stream: Streaming<v1::ImportContactsRequest>,
) -> Result<Received, Status> {
    let Some(Part::Header(header)) = next_part(admitted, &mut stream).await? else {
        return Err(Error::invalid("header", "must be the first message").into());
    };
    let campaign = names::campaign("header.parent", &header.parent)?;
    let mut check = Check::default();
    check.id("header.import_id", &header.import_id);
    check.require(!header.import_id.contains('/'), "header.import_id", "must not contain a slash");
    let region = check.region("header.default_region", &header.default_region);
    check.finish()?;
    let id = campaign.within(campaigns, &admitted.caller.reach()).await?;
    let nothing = Sent { rows: Vec::new(), before: None };
    let start = contacts.import_chunk(id, &header.import_id, &nothing).await?;
    let allows_costly = campaigns.get(id).await?.0.config.allow_costly_numbers;
    let reading = Reading { region, allows_costly };
    // While one chunk is stored, the next is read.
    let (mut storing, mut last, mut repeated) = (None, start.clone(), 0);
    let mut sent = Some((1, NO_ROWS));
    let salt = header.default_region.clone();
    while let Some(part) = next_part(admitted, &mut stream).await? {
        let Part::Rows(rows) = part else {
            return Err(Error::invalid("header", "must be the first message only").into());
        };
        let salt = salt.clone();
        let rows = tokio::task::spawn_blocking(move || read_rows(rows, reading, &salt));
        let rows = rows.await.map_err(|_| Error::Interrupted)??;
        let is_repeated = |row: &&Row| row.number < start.next_row;
        repeated += i64::try_from(rows.iter().filter(is_repeated).count()).unwrap_or(0);
        // Rows without a gap from the first row on can be compared with rows sent before.
        let (first, count) = (rows[0].number, i64::try_from(rows.len()).unwrap_or(0));
        let before = sent.filter(|(next, _)| *next == first).map(|(_, hash)| hash);
        let pass = |hash, row: &Row| fingerprint::then(&hash, &row.hash);
        sent = before.map(|hash| (first + count, rows.iter().fold(hash, pass)));
        last = stored(storing.take()).await?.unwrap_or(last);
        let (contacts, import_id) = (contacts.clone(), header.import_id.clone());
        let sent = Sent { rows, before };
        let store = async move { contacts.import_chunk(id, &import_id, &sent).await };
        storing = Some(tokio::spawn(store));
    }
    last = stored(storing).await?.unwrap_or(last);
    let created = last.created - start.created;
    Ok(Received { campaign: id, import_id: header.import_id, created, repeated })
}

/// Reads rows. The hash of each row includes `salt`.
pub(super) fn read_rows(
    rows: v1::ImportRows,
    reading: Reading,
    salt: &str,
) -> Result<Vec<Row>, Error> {
    let count = rows.rows.len();
    let mut check = Check::default();
    check.require(
        (1..=MAX_IMPORT_ROW).contains(&rows.first_row),
        "rows.first_row",
        "must be 1 to 1,000,000,000,000",
    );
    check.require(
        (1..=MAX_IMPORT_ROWS).contains(&count),
        "rows.rows",
        "must have 1 to 5000 entries",
    );
    check.finish()?;
    let read = |(number, row): (i64, v1::ImportRow)| Row {
        number,
        hash: hash(&row, salt),
        contact: new_contact("", row, reading).map_err(|error| match error {
            Error::Invalid { violations } => violations.into_iter().next().map_or_else(
                || ("row".to_owned(), "is not understood".to_owned()),
                |violation| (violation.field, violation.description),
            ),
            other => ("row".to_owned(), other.to_string()),
        }),
    };
    Ok((rows.first_row..).zip(rows.rows).map(read).collect())
}

/// Returns the hash of a row as the client sent it.
fn hash(row: &v1::ImportRow, salt: &str) -> Hash {
    let priority = row.priority.to_string();
    let mut attributes: Vec<(&str, &str)> =
        row.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    attributes.sort_unstable();
    let fields = [salt, &row.phone_number, &row.display_name, &row.time_zone, &priority];
    let attributes = attributes.into_iter().flat_map(|(key, value)| [key, value]);
    fingerprint::of_fields(fields.into_iter().chain(attributes))
}

/// Returns the next message of an import; `None` at its end. Fails if the client is silent for 60
/// seconds, or if its token expires.
async fn next_part(
    admitted: &Admitted,
    stream: &mut Streaming<v1::ImportContactsRequest>,
) -> Result<Option<Part>, Status> {
    let message = tokio::select! {
        message = tokio::time::timeout(IMPORT_IDLE_LIMIT, stream.message()) => message,
        error = admitted.end() => return Err(error.into()),
    };
    let late = || Status::deadline_exceeded("no rows for 60 seconds; continue the import later");
    match message.map_err(|_| late())?? {
        None => Ok(None),
        Some(v1::ImportContactsRequest { part: Some(part) }) => Ok(Some(part)),
        Some(v1::ImportContactsRequest { part: None }) => {
            Err(Error::invalid("part", "must be header or rows").into())
        }
    }
}

/// Waits for the chunk of an import that is being stored.
async fn stored(
    storing: Option<JoinHandle<Result<Import, Error>>>,
) -> Result<Option<Import>, Error> {
    match storing {
        Some(storing) => Ok(Some(storing.await.map_err(|_| Error::Interrupted)??)),
        None => Ok(None),
    }
}
