//! Sending of batches of rows until they are committed.

use super::telling::Telling;
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use backon::{ExponentialBuilder, Retryable};
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use std::error::Error;
use std::time::Duration;
use tonic::{Code, Status};

/// Bounds of the wait between retries.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Sender of one import.
#[derive(Clone, Debug)]
pub struct Sender {
    connection: Connection,
    header: v1::ImportHeader,
    give_up: Duration,
    /// Whether committed rows are sent too, to be compared.
    sends_all: bool,
}

impl Sender {
    pub fn new(connection: &Connection, header: v1::ImportHeader, give_up: Duration) -> Self {
        Self { connection: connection.clone(), header, give_up, sends_all: false }
    }

    /// Returns a sender that also sends committed rows.
    pub fn sending_all(self) -> Self {
        Self { sends_all: true, ..self }
    }

    /// Returns the number of the first row that is not committed.
    pub async fn next_row(&self) -> Result<i64, Status> {
        match self.stand(i64::MAX).await {
            Ok(import) => Ok(import.next_row),
            Err(status) if status.code() == Code::NotFound => Ok(1),
            Err(status) => Err(status),
        }
    }

    /// Fetches the import's progress, with the problems of rows after this one.
    pub async fn stand(&self, problems_after_row: i64) -> Result<v1::Import, Status> {
        let name = format!("{}/imports/{}", self.header.parent, self.header.import_id);
        let request = v1::GetImportRequest { name, problems_after_row };
        Ok(self.connection.contacts().get_import(request).await?.into_inner())
    }

    /// Sends rows until they are committed, over broken streams and restarts of the service.
    pub async fn send(
        &self,
        batch: &[v1::ImportRows],
        telling: &Telling,
    ) -> Result<v1::Import, Failure> {
        let waits = ExponentialBuilder::default()
            .with_min_delay(SHORTEST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .with_jitter()
            .without_max_times()
            .with_total_delay(Some(self.give_up));
        let sent = (|| self.send_once(batch))
            .retry(waits)
            .when(may_pass)
            .notify(|status, wait| telling.broken(status, wait))
            .await;
        sent.map_err(|status| {
            let is_away = may_pass(&status);
            let mut failure = Failure::from(status);
            if is_away {
                // The status code does not tell: a broken connection reports UNKNOWN.
                failure.exit = Exit::Unavailable;
                failure.next("run the same command again; the import resumes where it broke off")
            } else {
                failure
            }
        })
    }

    async fn send_once(&self, batch: &[v1::ImportRows]) -> Result<v1::Import, Status> {
        let next_row = self.next_row().await?;
        let is_due = |rows: &&v1::ImportRows| {
            let count = i64::try_from(rows.rows.len()).unwrap_or(i64::MAX);
            self.sends_all || rows.first_row.saturating_add(count) > next_row
        };
        let mut parts = vec![Part::Header(self.header.clone())];
        parts.extend(batch.iter().filter(is_due).cloned().map(Part::Rows));
        let parts = parts.into_iter().map(|part| v1::ImportContactsRequest { part: Some(part) });
        let stream = tokio_stream::iter(parts);
        Ok(self.connection.importing().import_contacts(stream).await?.into_inner())
    }
}

/// Returns whether a retry may succeed: the service is unavailable or busy, or the connection broke.
fn may_pass(status: &Status) -> bool {
    let is_away = matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::ResourceExhausted | Code::DeadlineExceeded
    );
    // A status from the connection itself has a source; a status from the service has none.
    is_away || matches!(status.code(), Code::Unknown | Code::Internal) && status.source().is_some()
}
