//! The service inside the test's process, on a port of its own.

use super::{TestDb, always, phone};
use campaign_domain::caps::CapScope;
use campaign_process::Health;
use campaign_process::connections::ConnectionLimits;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::dispatch_service_client::DispatchServiceClient;
use campaign_proto::v1::import_contacts_request::Part;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use campaign_service::app::DispatchLimits;
use campaign_service::app::chores::ChoreOptions;
use campaign_service::grpc::limits::CallLimits;
use campaign_service::grpc::reading::ReadingLimits;
use campaign_service::server::{self, Access, Listeners, Options};
use campaign_service::store::Db;
use chrono::TimeDelta;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// Largest message that a test sends.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Running service, which stops with this value.
#[derive(Debug)]
pub struct Service {
    pub clients: Clients,
    pub url: String,
    /// Address for clicks, if the options have links.
    pub link_address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Token of a client, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Way = InterceptedService<Channel, Token>;

/// Clients of one service.
#[derive(Clone, Debug)]
pub struct Clients {
    pub channel: Channel,
    pub campaigns: CampaignServiceClient<Way>,
    pub contacts: ContactServiceClient<Way>,
    pub interactions: InteractionServiceClient<Way>,
    pub dispatch: DispatchServiceClient<Way>,
}

/// Returns the test options without chores, whose statements and rows would be counted too.
pub fn without_chores() -> Options {
    let mut options = test_options();
    options.chores.interval = Duration::from_secs(3_600);
    options
}

/// Returns the options that tests rely on: leases do not expire by themselves.
pub fn test_options() -> Options {
    Options {
        limits: DispatchLimits {
            lease_ttl: Duration::from_secs(300),
            max_batch_contacts: 100,
            max_scan_contacts: 1_000,
            max_credit_contacts: 5_000,
            max_report_interactions: 1_000,
            // Tests dial some numbers more often than the daily cap allows.
            max_attempts_per_number: 0,
            attempt_cap_scope: CapScope::Tenant,
            // Tests do not wait for phones that ring.
            unknown_retry_min_seconds: 0,
            congested_retry_seconds: 0,
            drain_grace: Duration::from_secs(20),
            stream_max_age: None,
        },
        chores: ChoreOptions {
            interval: Duration::from_millis(50),
            history_retention: None,
            deleted_retention: TimeDelta::days(30),
            erasure_patience: TimeDelta::minutes(1),
        },
        links: None,
        eraser: None,
        access: Access::default(),
        calls: CallLimits {
            max_requests: 256,
            max_streams: 1_000,
            place_timeout: Duration::from_millis(500),
            max_requests_per_second: None,
            request_timeout: Duration::from_secs(60),
        },
        connections: connections(),
        reading: ReadingLimits {
            message_timeout: Duration::from_secs(10),
            max_memory_bytes: 64 * 1024 * 1024,
        },
        side: connections(),
    }
}

fn connections() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: 1_000,
        max_connections_per_address: 1_000,
        max_strangers: 64,
        max_streams_per_connection: 96,
        max_streams_per_address: 1_000,
        first_request: Duration::from_secs(15),
        idle: Duration::from_secs(300),
    }
}

impl Service {
    pub async fn start(db: &TestDb) -> Self {
        Self::start_with(db, test_options()).await
    }

    pub async fn start_with(db: &TestDb, options: Options) -> Self {
        Self::start_over(db, options, None).await
    }

    /// Starts a service on a database that was opened before.
    pub async fn start_on(db: Db) -> Self {
        Self::start_all(db, test_options(), None).await
    }

    /// Starts a service with clients that speak TLS.
    pub async fn start_over(db: &TestDb, options: Options, tls: Option<ClientTlsConfig>) -> Self {
        Self::start_all(db.db(), options, tls).await
    }

    async fn start_all(db: Db, options: Options, tls: Option<ClientTlsConfig>) -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0");
        let (api, links) = (listen().await.unwrap(), listen().await.unwrap());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", api.local_addr().unwrap());
        let link_address = links.local_addr().unwrap();
        let listeners = Listeners { api, links: Some(links), metrics: None };
        let stop = CancellationToken::new();
        let health = Health::new().await;
        tokio::spawn(server::serve(listeners, db, options, health, stop.clone()));
        let mut endpoint = Channel::from_shared(url.clone()).unwrap();
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        let clients = Clients::connect_to(endpoint).await;
        Self { clients, url, link_address, stop }
    }
}

impl Clients {
    pub async fn connect(url: &str) -> Self {
        Self::connect_to(Channel::from_shared(url.to_owned()).unwrap()).await
    }

    async fn connect_to(endpoint: Endpoint) -> Self {
        let channel = super::eventually("the service answers", || {
            let endpoint = endpoint.clone();
            async move { endpoint.connect().await.ok() }
        })
        .await;
        Self::over(channel, Token::default())
    }

    pub fn over(channel: Channel, token: Token) -> Self {
        let way = InterceptedService::new(channel.clone(), token);
        Self {
            channel,
            campaigns: CampaignServiceClient::new(way.clone())
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            contacts: ContactServiceClient::new(way.clone())
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            interactions: InteractionServiceClient::new(way.clone()),
            dispatch: DispatchServiceClient::new(way),
        }
    }

    /// Returns the same clients with a token.
    pub fn with_token(&self, token: &str) -> Self {
        let value = format!("Bearer {token}").parse().unwrap();
        Self::over(self.channel.clone(), Token(Some(value)))
    }

    /// Creates a campaign that can be launched and dials at any hour. Returns its name.
    pub async fn create_campaign(&mut self) -> String {
        self.create_campaign_retrying(v1::RetryPolicy::default()).await
    }

    /// Creates such a campaign with a retry policy. Returns its name.
    pub async fn create_campaign_retrying(&mut self, policy: v1::RetryPolicy) -> String {
        self.create_campaign_with(v1::Campaign {
            display_name: "Spring".to_owned(),
            description: "For tests".to_owned(),
            schedule: Some(always()),
            retry_policy: Some(policy),
            ..v1::Campaign::default()
        })
        .await
    }

    /// Launches a run that lives forever and calls no contact twice. Returns its campaign's name.
    pub async fn launch_endless(&mut self) -> String {
        let name = self.create_campaign_retrying(super::once()).await;
        let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
        self.launch_with(&name, settings).await;
        name
    }

    pub async fn create_campaign_with(&mut self, campaign: v1::Campaign) -> String {
        let request = v1::CreateCampaignRequest { campaign: Some(campaign), ..Default::default() };
        self.campaigns.create_campaign(request).await.unwrap().into_inner().name
    }

    /// Imports contacts with the numbers from `phone(first)` on.
    pub async fn add_contacts(&mut self, campaign: &str, numbers: std::ops::Range<usize>) {
        let header = v1::ImportHeader {
            parent: campaign.to_owned(),
            import_id: format!("{}-{}", numbers.start, numbers.end),
            default_region: String::new(),
        };
        let row = |n| v1::ImportRow { phone_number: phone(n), ..Default::default() };
        let rows = v1::ImportRows { first_row: 1, rows: numbers.clone().map(row).collect() };
        let parts = [Part::Header(header), Part::Rows(rows)]
            .map(|part| v1::ImportContactsRequest { part: Some(part) });
        let import = self.contacts.import_contacts(tokio_stream::iter(parts)).await.unwrap();
        assert_eq!(import.into_inner().created, i64::try_from(numbers.len()).unwrap());
    }

    pub async fn launch(&mut self, name: &str) -> v1::Campaign {
        self.launch_with(name, v1::LaunchSettings::default()).await
    }

    pub async fn launch_with(&mut self, name: &str, settings: v1::LaunchSettings) -> v1::Campaign {
        let confirm_reset =
            if settings.reset_contact_history { "Spring".to_owned() } else { String::new() };
        let request = v1::LaunchCampaignRequest {
            name: name.to_owned(),
            settings: Some(settings),
            confirm_reset,
            ..Default::default()
        };
        self.campaigns.launch_campaign(request).await.unwrap().into_inner()
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

    pub async fn campaign(&mut self, name: &str) -> v1::Campaign {
        let request = v1::GetCampaignRequest { name: name.to_owned() };
        self.campaigns.get_campaign(request).await.unwrap().into_inner()
    }

    pub async fn wait_for(&mut self, name: &str, wanted: v1::CampaignState) {
        super::eventually(&format!("the campaign is {wanted:?}"), || {
            let mut clients = self.clone();
            async move { (clients.campaign(name).await.state() == wanted).then_some(()) }
        })
        .await;
    }

    pub async fn progress(&mut self, name: &str) -> v1::CampaignProgress {
        let request = v1::GetCampaignProgressRequest { name: name.to_owned() };
        self.campaigns.get_campaign_progress(request).await.unwrap().into_inner()
    }

    pub async fn history(&mut self, contact: &str) -> v1::ContactHistory {
        let request =
            v1::GetContactHistoryRequest { name: contact.to_owned(), ..Default::default() };
        self.contacts.get_contact_history(request).await.unwrap().into_inner()
    }

    pub async fn explain(&mut self, contact: &str) -> v1::ContactExplanation {
        let request = v1::ExplainContactRequest { name: contact.to_owned() };
        self.contacts.explain_contact(request).await.unwrap().into_inner()
    }

    /// Records a fact that belongs to no attempt. Returns its result.
    pub async fn record(
        &mut self,
        contact: &str,
        interaction_id: &str,
        fact: v1::interaction::Fact,
    ) -> v1::InteractionStatus {
        let interaction = v1::Interaction {
            interaction_id: interaction_id.to_owned(),
            contact: contact.to_owned(),
            fact: Some(fact),
            ..Default::default()
        };
        let reported =
            v1::ReportedInteraction { interaction: Some(interaction), phone_number: String::new() };
        let parent = contact.split("/contacts/").next().unwrap().to_owned();
        let request = v1::RecordInteractionsRequest { parent, interactions: vec![reported] };
        let response = self.interactions.record_interactions(request).await.unwrap().into_inner();
        response.results[0].status()
    }
}
