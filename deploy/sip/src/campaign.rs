//! Campaign, as its owner sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use campaign_proto::v1;
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::{CallOutcome, CampaignProgress, CampaignState};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::Result;

/// Histories asked for at the same time.
const CONCURRENT_REQUESTS: usize = 32;
/// Rows in one message of an import.
const ROWS_PER_MESSAGE: usize = 500;

/// Campaign in which everybody is tried once.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Resource name, `campaigns/{id}`.
    pub name: String,
    campaigns: CampaignServiceClient<Channel>,
    contacts: ContactServiceClient<Channel>,
}

/// Number of contacts by the outcome of their last attempt.
pub type Tally = BTreeMap<CallOutcome, u64>;

impl Campaign {
    /// Creates the campaign, with contacts from +15550000000 on.
    ///
    /// # Errors
    /// When the service rejects a request.
    pub async fn create(service: &str, contacts: usize) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{service}"))?.connect().await?;
        let mut campaign = Self {
            name: String::new(),
            campaigns: CampaignServiceClient::new(channel.clone()),
            contacts: ContactServiceClient::new(channel),
        };
        let created = campaign.campaigns.create_campaign(v1::CreateCampaignRequest {
            campaign: Some(at_any_hour_and_once()),
            ..Default::default()
        });
        campaign.name = created.await?.into_inner().name;
        campaign.import(contacts).await?;
        Ok(campaign)
    }

    async fn import(&mut self, contacts: usize) -> Result<()> {
        use v1::import_contacts_request::Part;
        let header = v1::ImportHeader {
            parent: self.name.clone(),
            import_id: "all".to_owned(),
            default_region: "US".to_owned(),
        };
        let numbers: Vec<_> = (0..contacts).collect();
        let messages = numbers.chunks(ROWS_PER_MESSAGE).map(|chunk| {
            let rows = chunk.iter().map(|number| v1::ImportRow {
                phone_number: phone_number(*number),
                ..Default::default()
            });
            let first_row = i64::try_from(chunk[0] + 1).unwrap_or(i64::MAX);
            Part::Rows(v1::ImportRows { first_row, rows: rows.collect() })
        });
        let messages: Vec<_> = std::iter::once(Part::Header(header))
            .chain(messages)
            .map(|part| v1::ImportContactsRequest { part: Some(part) })
            .collect();
        let import =
            self.contacts.import_contacts(tokio_stream::iter(messages)).await?.into_inner();
        if usize::try_from(import.created)? == contacts {
            return Ok(());
        }
        Err(format!("{} of {contacts} contacts were imported", import.created).into())
    }

    /// Launches the campaign.
    ///
    /// # Errors
    /// When the service rejects the launch.
    pub async fn launch(&mut self) -> Result<()> {
        let launch = v1::LaunchCampaignRequest {
            name: self.name.clone(),
            settings: Some(v1::LaunchSettings::default()),
            actor: "sip".to_owned(),
            ..Default::default()
        };
        self.campaigns.launch_campaign(launch).await?;
        Ok(())
    }

    /// Returns the progress of the campaign.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn progress(&mut self) -> Result<CampaignProgress> {
        let request = v1::GetCampaignProgressRequest { name: self.name.clone() };
        Ok(self.campaigns.get_campaign_progress(request).await?.into_inner())
    }

    /// Waits until the campaign is completed, and passes on its progress each half second.
    ///
    /// # Errors
    /// When the campaign is not completed in time.
    pub async fn completed(
        &mut self,
        limit: Duration,
        mut tell: impl FnMut(&CampaignProgress),
    ) -> Result<CampaignProgress> {
        let deadline = Instant::now() + limit;
        loop {
            let progress = self.progress().await?;
            tell(&progress);
            if progress.state() == CampaignState::Completed {
                return Ok(progress);
            }
            if Instant::now() > deadline {
                return Err(format!("the campaign did not end in {limit:?}: {progress:?}").into());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Counts the outcomes of the contacts' last attempts.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn tally(&mut self) -> Result<Tally> {
        let names = self.contact_names().await?;
        let outcomes: Vec<CallOutcome> = stream::iter(names)
            .map(|name| {
                let mut contacts = self.contacts.clone();
                async move {
                    let request = v1::GetContactHistoryRequest { name, ..Default::default() };
                    let history = contacts.get_contact_history(request).await?.into_inner();
                    Ok::<_, tonic::Status>(history.last_outcome())
                }
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        let mut tally = Tally::new();
        for outcome in outcomes {
            *tally.entry(outcome).or_default() += 1;
        }
        Ok(tally)
    }

    async fn contact_names(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                v1::ListContactsRequest { parent: self.name.clone(), page_size: 1_000, page_token };
            let page = self.contacts.list_contacts(request).await?.into_inner();
            names.extend(page.contacts.into_iter().map(|contact| contact.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(names);
            }
        }
    }
}

/// Returns a number of a kind that exists nowhere, in order of the last digits.
pub(crate) fn phone_number(number: usize) -> String {
    format!("+1415555{number:04}", number = number % 10_000)
}

fn at_any_hour_and_once() -> v1::Campaign {
    let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    let once = || Some(v1::RetryRule { max_attempts: 1, ..Default::default() });
    v1::Campaign {
        display_name: "Over SIP".to_owned(),
        description: "Everybody is called once".to_owned(),
        schedule: Some(v1::Schedule {
            time_zone: "America/New_York".to_owned(),
            windows: (1..=7).map(window).collect(),
            ..Default::default()
        }),
        retry_policy: Some(v1::RetryPolicy {
            no_answer: once(),
            busy: once(),
            failed: once(),
            voicemail: once(),
            unknown: once(),
            abandoned: once(),
        }),
        ..Default::default()
    }
}
