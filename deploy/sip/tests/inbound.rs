//! Tests of people who call in over SIP: the service decides who is answered, and records the result.

mod database;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use campaign_proto::v1;
use campaign_proto::v1::campaign_service_client::CampaignServiceClient;
use campaign_proto::v1::contact_service_client::ContactServiceClient;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::interaction_service_client::InteractionServiceClient;
use campaign_sip::{Caller, Campaign, STOP_LIMIT, Traffic, programs};
use campaign_testkit::{Program, Programs, free_address};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use database::Database;

const PATIENCE: Duration = Duration::from_secs(20);
const KNOWN: &str = "+14155550000";
const SUPPRESSED: &str = "+14155550001";
const REFUSED: &str = "+14155550002";
const UNKNOWN: &str = "+14155550009";

/// Campaign without an end, and a worker on a silent trunk: it soon calls nobody itself.
struct Stage {
    database: Database,
    programs: Programs,
    service: Program,
    worker: Program,
    worker_address: String,
    traffic: Traffic,
    campaign: Campaign,
    channel: Channel,
    _silent: UdpSocket,
}

fn worker_log(programs: &Programs) -> String {
    std::fs::read_to_string(programs.logs().join("inbound.log")).expect("a log")
}

impl Stage {
    async fn set(traffic: Traffic) -> Self {
        let database = Database::create().await;
        let programs = programs(Path::new(env!("CARGO_BIN_EXE_sip-demo"))).expect("a folder");
        let flags = ["--chore-interval-millis", "100", "--log", "warn"];
        let (service, address) = programs.service(&database.url(), &flags).await.expect("service");
        let campaign = Campaign::create(&address, 3).await.expect("a campaign");
        let channel = Channel::from_shared(format!("http://{address}")).expect("a URL");
        let channel = channel.connect().await.expect("it listens");
        let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let trunk = silent.local_addr().expect("bound").to_string();
        let worker_address = free_address().to_string();
        let flags = [
            "--provider",
            "sip",
            "--sip-trunk",
            &trunk,
            "--sip-listen",
            &worker_address,
            "--sip-transport",
            traffic.transport(),
            "--sip-response-limit-seconds",
            "1",
            "--provider-failures",
            "1",
            "--provider-retry-seconds",
            "3600",
            "--sip-inbound-campaign",
            &campaign.name,
            "--sip-inbound-region",
            "US",
        ];
        let worker = programs.worker("inbound", &address, &flags).expect("a worker");
        let (mut stage, settings) = (
            Self {
                database,
                programs,
                service,
                worker,
                worker_address,
                traffic,
                campaign,
                channel,
                _silent: silent,
            },
            v1::LaunchSettings { live_forever: true, ..Default::default() },
        );
        stage.launch(settings).await;
        // Over UDP sipp tries again until somebody listens.
        let deadline = Instant::now() + PATIENCE;
        while traffic == Traffic::Tcp && TcpStream::connect(&stage.worker_address).await.is_err() {
            assert!(
                Instant::now() < deadline,
                "the worker does not listen: {}",
                worker_log(&stage.programs)
            );
            sleep(Duration::from_millis(20)).await;
        }
        stage
    }

    async fn launch(&mut self, settings: v1::LaunchSettings) {
        let launch = v1::LaunchCampaignRequest {
            name: self.campaign.name.clone(),
            settings: Some(settings),
            ..Default::default()
        };
        self.campaigns().launch_campaign(launch).await.expect("launched");
    }

    fn campaigns(&self) -> CampaignServiceClient<Channel> {
        CampaignServiceClient::new(self.channel.clone())
    }

    fn contacts(&self) -> ContactServiceClient<Channel> {
        ContactServiceClient::new(self.channel.clone())
    }

    async fn suppress(&self, number: &str) {
        let request = v1::AddSuppressionsRequest {
            phone_numbers: vec![number.to_owned()],
            source: "test".to_owned(),
            ..Default::default()
        };
        self.contacts().add_suppressions(request).await.expect("suppressed");
    }

    async fn opt_out(&self, number: &str) {
        let fact = Fact::OptedOut(v1::OptedOut { channel: "web".to_owned(), everywhere: false });
        let interaction = v1::Interaction {
            interaction_id: "web".to_owned(),
            occur_time: Some(std::time::SystemTime::now().into()),
            fact: Some(fact),
            ..Default::default()
        };
        let interaction = v1::ReportedInteraction {
            interaction: Some(interaction),
            phone_number: number.to_owned(),
        };
        let request = v1::RecordInteractionsRequest {
            parent: self.campaign.name.clone(),
            interactions: vec![interaction],
        };
        let mut interactions = InteractionServiceClient::new(self.channel.clone());
        let results = interactions.record_interactions(request).await.expect("answered");
        let result = results.into_inner().results.remove(0);
        assert_eq!(result.status(), v1::InteractionStatus::Recorded, "{result:?}");
    }

    /// Gives the campaign other hours, while it is paused.
    async fn change_hours(&self, windows: Vec<v1::WeeklyWindow>) {
        let name = self.campaign.name.clone();
        let pause = v1::PauseCampaignRequest { name: name.clone(), ..Default::default() };
        self.campaigns().pause_campaign(pause).await.expect("paused");
        let schedule = v1::Schedule { time_zone: "UTC".to_owned(), windows, ..Default::default() };
        let campaign = v1::Campaign {
            name: name.clone(),
            schedule: Some(schedule),
            ..v1::Campaign::default()
        };
        let paths = vec!["schedule".to_owned()];
        let update = v1::UpdateCampaignRequest {
            campaign: Some(campaign),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        self.campaigns().update_campaign(update).await.expect("updated");
        let resume = v1::ResumeCampaignRequest { name, ..Default::default() };
        self.campaigns().resume_campaign(resume).await.expect("resumed");
    }

    /// Calls in. Returns the answer.
    async fn call(&self, caller: Caller) -> String {
        let caller = Caller { traffic: self.traffic, ..caller };
        let said = caller.call("calls_in", &self.worker_address).await.expect("a call");
        assert_eq!(said.len(), 1, "{said:?}");
        said[0].clone()
    }

    async fn call_from(&self, number: &str) -> String {
        self.call(Caller::new(number)).await
    }

    /// Returns the lengths of the calls that a number's contact made; `None` if the number has no contact.
    async fn called_in(&self, number: &str) -> Option<Vec<f64>> {
        let request = v1::ListContactsRequest {
            parent: self.campaign.name.clone(),
            page_size: 100,
            ..Default::default()
        };
        let contacts = self.contacts().list_contacts(request).await.expect("contacts").into_inner();
        let contact =
            contacts.contacts.into_iter().find(|contact| contact.phone_number == number)?;
        let request = v1::GetContactHistoryRequest { name: contact.name, ..Default::default() };
        let history = self.contacts().get_contact_history(request).await.expect("a history");
        let calls = history.into_inner().interactions.into_iter().filter_map(|interaction| {
            let Some(Fact::CalledIn(call)) = interaction.fact else { return None };
            let duration = Duration::try_from(call.duration?).ok()?;
            Some(duration.as_secs_f64())
        });
        Some(calls.collect())
    }

    async fn has_called_in(&self, number: &str, times: usize) -> Vec<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let calls = self.called_in(number).await.unwrap_or_default();
            if calls.len() == times {
                return calls;
            }
            assert!(Instant::now() < deadline, "{number} called in {calls:?}, not {times} times");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn strike(mut self) {
        self.worker.stop(STOP_LIMIT).await.expect("everything is recorded");
        let log = worker_log(&self.programs);
        assert!(log.contains("stopped") && !log.contains("4155550"), "a number is logged: {log}");
        self.service.stop(STOP_LIMIT).await.expect("stopped");
        self.database.drop().await;
        std::fs::remove_dir_all(self.programs.logs()).expect("they are ours");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn callers_are_answered_or_turned_away_as_the_service_says() {
    for traffic in [Traffic::Udp, Traffic::Tcp] {
        answered_or_turned_away(Stage::set(traffic).await).await;
    }
}

async fn answered_or_turned_away(stage: Stage) {
    stage.suppress(SUPPRESSED).await;
    stage.opt_out(REFUSED).await;

    assert_eq!(stage.call_from(KNOWN).await, "200");
    let calls = stage.has_called_in(KNOWN, 1).await;
    assert!((0.9..3.0).contains(&calls[0]), "{calls:?}");
    // The number is written as people write it.
    assert_eq!(stage.call_from("4155550000").await, "200");
    stage.has_called_in(KNOWN, 2).await;

    assert_eq!(stage.called_in(UNKNOWN).await, None);
    assert_eq!(stage.call_from(UNKNOWN).await, "200", "the run is live");
    stage.has_called_in(UNKNOWN, 1).await;

    assert_eq!(stage.call_from(SUPPRESSED).await, "603");
    assert_eq!(stage.call_from(REFUSED).await, "603");
    let anonymous =
        Caller { from: "<sip:anonymous@anonymous.invalid>".to_owned(), ..Caller::new("") };
    assert_eq!(stage.call(anonymous).await, "433");
    assert_eq!(stage.call_from("123").await, "433", "no number of anybody");

    for number in [SUPPRESSED, REFUSED] {
        assert_eq!(stage.called_in(number).await, Some(Vec::new()), "{number}");
    }
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn nobody_is_answered_while_the_campaign_does_not_run() {
    let stage = Stage::set(Traffic::Udp).await;
    let name = stage.campaign.name.clone();
    let pause = v1::PauseCampaignRequest { name: name.clone(), ..Default::default() };
    stage.campaigns().pause_campaign(pause).await.expect("paused");
    assert_eq!(stage.call_from(KNOWN).await, "480 600");
    assert_eq!(stage.call_from(UNKNOWN).await, "480 600");
    let resume = v1::ResumeCampaignRequest { name: name.clone(), ..Default::default() };
    stage.campaigns().resume_campaign(resume).await.expect("resumed");
    assert_eq!(stage.call_from(KNOWN).await, "200");
    let cancel = v1::CancelCampaignRequest { name, ..Default::default() };
    stage.campaigns().cancel_campaign(cancel).await.expect("cancelled");
    assert_eq!(stage.call_from(KNOWN).await, "480 600");

    stage.has_called_in(KNOWN, 1).await;
    assert_eq!(stage.called_in(UNKNOWN).await, None, "not made a contact");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sipp: make test-sip"]
async fn while_the_hours_are_shut_callers_are_told_when_they_open() {
    let stage = Stage::set(Traffic::Udp).await;
    let now = std::time::SystemTime::now();
    let days = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() / 86_400;
    // The weekday is three days from now; 1970-01-01 was a Thursday, ISO weekday 4.
    let weekday = i32::try_from((days + 3 + 3) % 7).expect("small") + 1;
    let all_day = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    stage.change_hours(vec![all_day(weekday)]).await;
    // A day is the longest wait that any caller is told.
    for number in [KNOWN, UNKNOWN] {
        assert_eq!(stage.call_from(number).await, "480 86400", "{number}");
    }
    assert_eq!(stage.called_in(KNOWN).await, Some(Vec::new()), "a rejected caller was not reached");
    assert_eq!(stage.called_in(UNKNOWN).await, None, "not made a contact");

    stage.change_hours((1..=7).map(all_day).collect()).await;
    assert_eq!(stage.call_from(KNOWN).await, "200");
    stage.has_called_in(KNOWN, 1).await;
    stage.strike().await;
}
