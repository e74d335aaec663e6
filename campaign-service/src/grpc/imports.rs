//! The stream of an import: a header, then rows.

use super::access::Admitted;
use super::check::Check;
use super::contacts::new_contact;
use super::names;
use crate::app::App;
use crate::app::error::Error;
use crate::app::importing::Row;
use crate::store::imports::Import;
use campaign_domain::phone::Reading;
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use std::sync::Arc;
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

/// Takes an import in to its end; returns the campaign and the import's id.
pub async fn receive(
    app: &Arc<App>,
    admitted: &Admitted,
    mut stream: Streaming<v1::ImportContactsRequest>,
) -> Result<(Uuid, String), Status> {
    let Some(Part::Header(header)) = next_part(admitted, &mut stream).await? else {
        return Err(Error::invalid("header", "must be the first message").into());
    };
    let campaign = names::campaign("header.parent", &header.parent)?;
    let mut check = Check::default();
    check.id("header.import_id", &header.import_id);
    check.require(!header.import_id.contains('/'), "header.import_id", "must not contain a slash");
    let region = check.region("header.default_region", &header.default_region);
    check.finish()?;
    let id = campaign.within(app, &admitted.caller.reach()).await?;
    app.import_chunk(id, &header.import_id, &[]).await?;
    let allows_costly = app.get_campaign(id).await?.0.config.allow_costly_numbers;
    let reading = Reading { region, allows_costly };
    // While one chunk is stored, the next is read.
    let mut storing = None;
    while let Some(part) = next_part(admitted, &mut stream).await? {
        let Part::Rows(rows) = part else {
            return Err(Error::invalid("header", "must be the first message only").into());
        };
        let rows = tokio::task::spawn_blocking(move || read_rows(rows, reading));
        let rows = rows.await.map_err(|_| Error::Interrupted)??;
        stored(storing.take()).await?;
        let (app, import_id) = (Arc::clone(app), header.import_id.clone());
        let store = async move { app.import_chunk(id, &import_id, &rows).await };
        storing = Some(tokio::spawn(store));
    }
    stored(storing).await?;
    Ok((id, header.import_id))
}

pub(super) fn read_rows(rows: v1::ImportRows, reading: Reading) -> Result<Vec<Row>, Error> {
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
    let read = |(number, row)| Row {
        number,
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

/// The next message of an import, of a client that does not keep us waiting for ever, while its token holds.
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
async fn stored(storing: Option<JoinHandle<Result<Import, Error>>>) -> Result<(), Error> {
    if let Some(storing) = storing {
        storing.await.map_err(|_| Error::Interrupted)??;
    }
    Ok(())
}
