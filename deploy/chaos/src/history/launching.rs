//! Commands and their subjects: launches, pauses, contacts, suppressions.

use super::History;
use super::clients::Client;
use crate::journal::Said;
use crate::numbers::name;
use crate::{now_micros, postgres};
use campaign_proto::v1;
use campaign_proto::v1::import_contacts_request::Part;
use rand::Rng;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Response, Status};

/// Rows in one message of an import.
const ROWS_PER_MESSAGE: usize = 6;
/// Longest time for a command to be answered by a replica that is well, as P10 has it.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for PostgreSQL itself to note what was committed.
const MARK_LIMIT: Duration = Duration::from_secs(20);

impl History {
    /// Launches with seeded settings. Returns whether the answer was OK.
    pub(super) async fn launch(&mut self, is_last: bool) -> bool {
        let settings = self.settings(is_last);
        let (name, display_name) = (self.campaign.clone(), self.display_name());
        let request_id = self.id("launch");
        let confirm_reset =
            if settings.reset_contact_history { display_name } else { String::new() };
        let request = v1::LaunchCampaignRequest {
            name,
            settings: Some(settings),
            confirm_reset,
            request_id: request_id.clone(),
            ..Default::default()
        };
        let (asked_at, times) = (now_micros(), self.patience());
        let launched = self
            .ask(times, |mut client| {
                let request = request.clone();
                async move { client.campaigns.launch_campaign(request).await }
            })
            .await;
        if launched.is_some() {
            self.note(asked_at, Said::Command { request_id, command: "LAUNCH" });
        }
        launched.is_some()
    }

    fn settings(&mut self, is_last: bool) -> v1::LaunchSettings {
        let random = &mut self.random;
        let exclude = v1::Exclusions {
            refused: random.random_bool(0.5).then(|| random.random_bool(0.5)),
            transferred: random.random_range(0..=5),
            success: random.random_bool(0.4),
            link_opened: random.random_bool(0.3),
            texted: random.random_bool(0.2),
        };
        v1::LaunchSettings {
            exclude: Some(exclude),
            rerun_all_contacts: random.random_bool(0.25),
            reset_contact_history: random.random_bool(0.15),
            live_forever: !is_last && random.random_bool(0.2),
        }
    }

    /// Pauses, resumes or cancels.
    pub(super) async fn command(&mut self, command: &'static str) {
        let (name, request_id) = (self.campaign.clone(), self.id("command"));
        let hang_up_calls = self.random.random_bool(0.3);
        let (asked_at, is_well) = (now_micros(), self.stage.is_asked_well);
        let times = if is_well { usize::MAX } else { self.patience() };
        let limit = if is_well { COMMAND_LIMIT } else { Duration::MAX };
        let id = request_id.clone();
        let asking = self
            .ask(times, |client| give(client, command, name.clone(), id.clone(), hang_up_calls));
        match timeout(limit, asking).await {
            Ok(Some(_)) => self.note(asked_at, Said::Command { request_id, command }),
            Ok(None) => {}
            Err(_) => self.note(asked_at, Said::Unanswered { request_id, command }),
        }
    }

    /// Continues the import until so many rows of it are in, as far as possible.
    pub(super) async fn import_up_to(&mut self, rows: usize) {
        let rows = rows.min(self.numbers);
        let times = self.patience();
        // The import begins at the first row, as a client does that does not know how far it came.
        let numbers: Vec<String> = (0..rows).map(|n| self.number(n)).collect();
        if let Some(committed) = self.import("list", &numbers, times).await {
            self.imported = self.imported.max(committed);
        }
    }

    /// Imports another list, which shares contacts with the first one and may hold erased people.
    pub(super) async fn import_another_list(&mut self) {
        let (first, rows) = (self.any_number(), self.random.random_range(1..8));
        let numbers: Vec<String> = (first..first + rows).map(|n| self.number(n)).collect();
        let (id, times) = (self.id("list"), self.patience());
        self.import(&id, &numbers, times).await;
    }

    /// Imports a list from its first row on. Returns how many rows are committed, accepted or not.
    pub(super) async fn import(
        &mut self,
        import_id: &str,
        numbers: &[String],
        times: usize,
    ) -> Option<usize> {
        let header = v1::ImportHeader {
            parent: self.campaign.clone(),
            import_id: import_id.to_owned(),
            default_region: String::new(),
        };
        let mut parts = vec![Part::Header(header)];
        let mut first_row = 1;
        for chunk in numbers.chunks(ROWS_PER_MESSAGE) {
            let row = |number: &String| v1::ImportRow {
                phone_number: number.clone(),
                display_name: name(number),
                ..Default::default()
            };
            let rows = chunk.iter().map(row).collect();
            parts.push(Part::Rows(v1::ImportRows { first_row, rows }));
            first_row += i64::try_from(chunk.len()).unwrap_or(0);
        }
        let asked_at = now_micros();
        let import = self
            .ask(times, |mut client| {
                let request = |part| v1::ImportContactsRequest { part: Some(part) };
                let parts: Vec<_> = parts.iter().cloned().map(request).collect();
                async move { client.contacts.import_contacts(tokio_stream::iter(parts)).await }
            })
            .await;
        let committed = usize::try_from(import?.next_row - 1).unwrap_or(0).min(numbers.len());
        let numbers = numbers[..committed].to_vec();
        self.note(asked_at, Said::Contacts { numbers });
        Some(committed)
    }

    /// Whether everybody is imported.
    pub(super) fn is_imported(&self) -> bool {
        self.imported >= self.numbers
    }

    pub(super) async fn create_contact(&mut self) {
        // Some of these are numbers that the import brings too, and some are others.
        let n = self.random.random_range(0..self.numbers + 10);
        let number = self.number(n);
        let contact = v1::Contact {
            phone_number: number.clone(),
            display_name: name(&number),
            ..Default::default()
        };
        let request = v1::CreateContactRequest {
            parent: self.campaign.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let (asked_at, times) = (now_micros(), self.patience());
        let created = self
            .ask(times, |mut client| {
                let request = request.clone();
                async move { client.contacts.create_contact(request).await }
            })
            .await;
        if created.is_some() {
            self.note(asked_at, Said::Contacts { numbers: vec![number] });
        }
    }

    pub(super) async fn suppress(&mut self) {
        let n = self.any_number();
        let number = self.number(n);
        let request = v1::AddSuppressionsRequest {
            phone_numbers: vec![number.clone()],
            source: "chaos".to_owned(),
            ..Default::default()
        };
        let (asked_at, times) = (now_micros(), self.patience());
        let added = self
            .ask(times, |mut client| {
                let request = request.clone();
                async move { client.contacts.add_suppressions(request).await }
            })
            .await;
        if added.is_some() {
            let mark = self.committed_now().await;
            self.note(asked_at, Said::Suppressed { number, mark });
        }
    }

    /// Returns a mark that names the commits up to now. If that cannot be noted, the negative time stands in for the
    /// mark.
    pub(super) async fn committed_now(&mut self) -> i64 {
        let mark = self.random.random_range(1..i64::MAX);
        let answered_at = now_micros();
        // While PostgreSQL is away, nothing is authorised either.
        let is_marked = matches!(timeout(MARK_LIMIT, self.mark(mark)).await, Ok(Ok(())));
        if is_marked { mark } else { -answered_at }
    }

    /// Notes in the database which transactions are committed now.
    async fn mark(&self, mark: i64) -> crate::Result<()> {
        let client = postgres::connect(self.stage.database_port).await?;
        client.batch_execute("SET default_transaction_read_only = off").await?;
        let sql = "INSERT INTO chaos.marks VALUES ($1, pg_current_snapshot()::text)";
        client.execute(sql, &[&mark]).await?;
        Ok(())
    }
}

/// Sends a command to a replica.
async fn give(
    mut client: Client,
    command: &str,
    name: String,
    request_id: String,
    hang_up_calls: bool,
) -> Result<Response<v1::Campaign>, Status> {
    match command {
        "PAUSE" => {
            let request =
                v1::PauseCampaignRequest { name, request_id, hang_up_calls, ..Default::default() };
            client.campaigns.pause_campaign(request).await
        }
        "RESUME" => {
            let request = v1::ResumeCampaignRequest { name, request_id, ..Default::default() };
            client.campaigns.resume_campaign(request).await
        }
        _ => {
            let request = v1::CancelCampaignRequest { name, request_id, ..Default::default() };
            client.campaigns.cancel_campaign(request).await
        }
    }
}
