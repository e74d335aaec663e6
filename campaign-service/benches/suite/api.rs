//! API of the service, as the benchmarks use it.

use campaign_proto::v1;
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use std::time::{Duration, SystemTime};
use tonic::transport::Channel;

/// Name of every campaign; typed to confirm a reset.
const DISPLAY_NAME: &str = "Bench";
/// Rows in one message of an import.
const IMPORT_ROWS: usize = 5_000;
/// Time between two polls of a campaign's state.
const STATE_POLL: Duration = Duration::from_millis(20);

/// Clients of one replica.
#[derive(Clone, Debug)]
pub struct Api {
    pub channel: Channel,
    pub campaigns: CampaignServiceClient<Channel>,
    pub contacts: ContactServiceClient<Channel>,
    pub interactions: InteractionServiceClient<Channel>,
}

impl Api {
    pub fn new(channel: &Channel) -> Self {
        Self {
            channel: channel.clone(),
            campaigns: CampaignServiceClient::new(channel.clone()),
            contacts: ContactServiceClient::new(channel.clone()),
            interactions: InteractionServiceClient::new(channel.clone()),
        }
    }

    /// Creates a campaign that dials at any hour and tries each contact once. Returns its name.
    pub async fn create(&mut self) -> String {
        self.create_starting(None).await
    }

    /// Creates such a campaign that starts in a year. Returns its name.
    pub async fn create_starting_later(&mut self) -> String {
        let start = SystemTime::now() + Duration::from_secs(365 * 86_400);
        self.create_starting(Some(start.into())).await
    }

    async fn create_starting(&mut self, start_time: Option<prost_types::Timestamp>) -> String {
        let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
        let once = Some(v1::RetryRule { max_attempts: 1, min_delay: None });
        let campaign = v1::Campaign {
            display_name: DISPLAY_NAME.to_owned(),
            description: "Measured".to_owned(),
            schedule: Some(v1::Schedule {
                time_zone: "Etc/UTC".to_owned(),
                windows: (1..=7).map(window).collect(),
                start_time,
                ..Default::default()
            }),
            retry_policy: Some(v1::RetryPolicy {
                no_answer: once,
                busy: once,
                failed: once,
                voicemail: once,
                unknown: once,
                abandoned: once,
            }),
            ..Default::default()
        };
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        self.campaigns.create_campaign(request).await.unwrap().into_inner().name
    }

    /// Creates a campaign with contacts. Returns its name.
    pub async fn create_with(&mut self, contacts: usize) -> String {
        let name = self.create().await;
        self.import(&name, contacts).await;
        name
    }

    pub async fn import(&mut self, parent: &str, contacts: usize) {
        let header = v1::ImportHeader {
            parent: parent.to_owned(),
            import_id: "bench".to_owned(),
            default_region: String::new(),
        };
        let chunks = (0..contacts).step_by(IMPORT_ROWS).map(move |first| {
            let row = |n| v1::ImportRow {
                phone_number: phone(n),
                display_name: format!("Contact {n}"),
                ..Default::default()
            };
            let rows = (first..(first + IMPORT_ROWS).min(contacts)).map(row).collect();
            Part::Rows(v1::ImportRows { first_row: i64::try_from(first).unwrap() + 1, rows })
        });
        let parts = std::iter::once(Part::Header(header))
            .chain(chunks)
            .map(|part| v1::ImportContactsRequest { part: Some(part) });
        let import = self.contacts.import_contacts(tokio_stream::iter(parts)).await.unwrap();
        assert_eq!(import.into_inner().created, i64::try_from(contacts).unwrap());
    }

    pub async fn launch(&mut self, name: &str, settings: v1::LaunchSettings) {
        let confirm_reset =
            if settings.reset_contact_history { DISPLAY_NAME } else { "" }.to_owned();
        let request = v1::LaunchCampaignRequest {
            name: name.to_owned(),
            settings: Some(settings),
            confirm_reset,
            ..Default::default()
        };
        self.campaigns.launch_campaign(request).await.unwrap();
    }

    pub async fn pause(&mut self, name: &str) {
        let request = v1::PauseCampaignRequest { name: name.to_owned(), ..Default::default() };
        self.campaigns.pause_campaign(request).await.unwrap();
    }

    pub async fn resume(&mut self, name: &str) {
        let request = v1::ResumeCampaignRequest { name: name.to_owned(), ..Default::default() };
        self.campaigns.resume_campaign(request).await.unwrap();
    }

    pub async fn cancel(&mut self, name: &str) {
        let request = v1::CancelCampaignRequest { name: name.to_owned(), ..Default::default() };
        self.campaigns.cancel_campaign(request).await.unwrap();
    }

    pub async fn wait_until_completed(&mut self, name: &str) {
        let request = v1::GetCampaignRequest { name: name.to_owned() };
        loop {
            let campaign = self.campaigns.get_campaign(request.clone()).await.unwrap();
            if campaign.into_inner().state() == v1::CampaignState::Completed {
                return;
            }
            tokio::time::sleep(STATE_POLL).await;
        }
    }

    /// Checks that every contact was attempted once and is finished.
    pub async fn check_history(&mut self, name: &str, contacts: usize) {
        let request = v1::GetCampaignProgressRequest { name: name.to_owned() };
        let progress = self.campaigns.get_campaign_progress(request).await.unwrap().into_inner();
        let reason = v1::ExclusionReason::Finished;
        let finished = progress.removed.iter().find(|removed| removed.reason() == reason);
        let finished = finished.map_or(0, |removed| removed.contacts);
        let contacts = i64::try_from(contacts).unwrap();
        let attempts = progress.history.unwrap_or_default().attempts;
        assert_eq!((finished, attempts), (contacts, contacts), "history holds everyone");
    }
}

/// Returns launch settings without an end.
pub fn endless() -> v1::LaunchSettings {
    v1::LaunchSettings { live_forever: true, ..Default::default() }
}

/// Returns launch settings that engage everyone again.
pub fn rerun() -> v1::LaunchSettings {
    v1::LaunchSettings { rerun_all_contacts: true, ..Default::default() }
}

/// Returns a number of the North American plan; such numbers are never dialled, only counted.
pub fn phone(n: usize) -> String {
    format!("+1{}{:07}", 212 + n / 7_000_000, 2_000_000 + n % 7_000_000)
}
