//! History: the whole life of a campaign, driven by a seeded client. The client sends seeded requests at seeded times
//! to any replica, and repeats requests without an answer.

mod asking;
mod clients;
mod erasing;
mod finishing;
mod launching;
mod reporting;

use crate::journal::{Journal, Said};
use crate::now_micros;
use crate::numbers::{NUMBERS_EACH, number};
use campaign_proto::v1;
use clients::Clients;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

pub use clients::{Client, connect};

/// Resources that the histories of a round share.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Clients of the replicas.
    pub clients: Clients,
    /// Journal of answers.
    pub journal: Arc<Journal>,
    /// Port of PostgreSQL itself, to note commits.
    pub database_port: u16,
    /// Whether one replica is frozen, and the clients ask another, which has to answer in time.
    pub is_asked_well: bool,
    /// Whether the provider may recognise a machine after the end of its call.
    pub recognises_machines: bool,
    /// Whether faults are over.
    pub is_calm: watch::Receiver<bool>,
}

/// Life of one campaign.
pub struct History {
    stage: Stage,
    /// Number of the history in its round.
    pub index: usize,
    random: SmallRng,
    /// Resource name, `campaigns/{id}`.
    pub campaign: String,
    /// Contacts to import in all.
    numbers: usize,
    /// Contacts imported so far.
    imported: usize,
    next_id: u32,
    /// Numbers that were erased and not re-admitted.
    erased: Vec<usize>,
    /// Facts reported before, to be repeated.
    reported: Vec<(usize, String, v1::interaction::Fact)>,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("index", &self.index).finish_non_exhaustive()
    }
}

impl History {
    /// Creates a history that has not begun yet.
    #[must_use]
    pub fn new(stage: Stage, seed: u64, index: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ index as u64);
        let numbers = random.random_range(8..NUMBERS_EACH - 10);
        Self {
            stage,
            index,
            random,
            campaign: String::new(),
            numbers,
            imported: 0,
            next_id: 0,
            erased: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// Lives the history to its end.
    ///
    /// # Errors
    /// When the history comes to no end though all faults are over.
    pub async fn live(mut self) -> Result<Self, String> {
        self.create().await?;
        let first = self.random.random_range(1..=self.numbers);
        self.import_up_to(first).await;
        self.launch(false).await;
        while !*self.stage.is_calm.borrow() {
            self.wait(10..120).await;
            self.step().await;
        }
        self.finish().await?;
        Ok(self)
    }

    /// Asks for the totals of the history and for the erased people, when nothing can happen any more.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn total(&mut self) -> Result<(), String> {
        let asked_at = now_micros();
        let progress = self.progress().await.ok_or("no progress")?;
        let totals = progress.history.unwrap_or_default();
        let history = [
            totals.attempts,
            totals.refused,
            totals.transferred,
            totals.success,
            totals.link_opened,
            totals.texted,
        ];
        self.note(asked_at, Said::Totals { history });
        self.look_for_erased().await
    }

    async fn step(&mut self) {
        match self.random.random_range(0..110) {
            0..22 => self.report_opt_out().await,
            22..36 => self.report_fact().await,
            36..46 => self.report_again().await,
            46..58 => {
                self.command("PAUSE").await;
                self.wait(10..300).await;
                self.command("RESUME").await;
            }
            58..62 => self.command("PAUSE").await,
            62..70 => self.command("RESUME").await,
            70..76 => self.command("CANCEL").await,
            76..84 => drop(self.launch(false).await),
            84..89 => self.create_contact().await,
            89..95 => {
                let more = self.random.random_range(1..8);
                self.import_up_to(self.imported + more).await;
            }
            95..100 => self.suppress().await,
            100..106 => self.erase().await,
            106 => self.let_in_again().await,
            _ => self.import_another_list().await,
        }
    }

    async fn wait(&mut self, millis: std::ops::Range<u64>) {
        sleep(Duration::from_millis(self.random.random_range(millis))).await;
    }

    fn id(&mut self, what: &str) -> String {
        self.next_id += 1;
        format!("{what}-{}-{}", self.index, self.next_id)
    }

    fn note(&self, asked_at: i64, said: Said) {
        self.stage.journal.note(self.index, asked_at, said);
    }

    /// Returns the campaign's name, which is typed to confirm a reset.
    fn display_name(&self) -> String {
        format!("History {}", self.index)
    }

    /// Returns how often a client asks that gets no answer: some clients give up soon.
    fn patience(&mut self) -> usize {
        if self.random.random_bool(0.3) { 1 } else { self.random.random_range(3..8) }
    }

    async fn create(&mut self) -> Result<(), String> {
        let campaign = self.configuration();
        let request_id = format!("create-{}", self.index);
        let asked_at = now_micros();
        let campaign = Some(campaign);
        let request = v1::CreateCampaignRequest { campaign, request_id, ..Default::default() };
        let created = self
            .ask(usize::MAX, |mut client| {
                let request = request.clone();
                async move { client.campaigns.create_campaign(request).await }
            })
            .await
            .ok_or("the campaign was not created")?;
        self.campaign = created.name;
        let id = self.campaign.trim_start_matches("campaigns/").to_owned();
        self.note(asked_at, Said::Created { campaign: id });
        Ok(())
    }

    fn configuration(&mut self) -> v1::Campaign {
        let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
        let mut rule = |attempts: RangeInclusive<i32>, seconds: RangeInclusive<i64>| {
            let seconds = self.random.random_range(seconds);
            Some(v1::RetryRule {
                max_attempts: self.random.random_range(attempts),
                min_delay: Some(prost_types::Duration { seconds, nanos: 0 }),
            })
        };
        let retry_policy = v1::RetryPolicy {
            no_answer: rule(1..=3, 0..=1),
            busy: rule(1..=3, 0..=1),
            failed: rule(1..=2, 0..=1),
            voicemail: rule(1..=2, 0..=1),
            // The delay is longer than anything is held up here, so that no call overtakes one of which nobody knew.
            unknown: rule(1..=2, 4..=4),
            abandoned: rule(1..=2, 0..=1),
        };
        let max_calls_in_progress = if self.random.random_bool(0.15) { 3 } else { 0 };
        v1::Campaign {
            display_name: self.display_name(),
            description: "Faults".to_owned(),
            schedule: Some(v1::Schedule {
                time_zone: "Europe/Berlin".to_owned(),
                windows: (1..=7).map(window).collect(),
                ..Default::default()
            }),
            retry_policy: Some(retry_policy),
            pacing: Some(v1::Pacing { max_calls_in_progress, ..Default::default() }),
            ..Default::default()
        }
    }

    /// Returns one of the history's own numbers, whether it is a contact's yet or not.
    fn any_number(&mut self) -> usize {
        let is_known = self.imported > 0 && self.random.random_bool(0.8);
        let among = if is_known { self.imported } else { self.numbers };
        self.random.random_range(0..among)
    }

    fn number(&self, n: usize) -> String {
        number(self.index, n)
    }
}
