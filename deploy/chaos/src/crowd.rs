//! Crowd: thousands of campaigns beside the histories. Most run and have nobody to call. Every tenth is scheduled to
//! start during the faults or soon after them, and has one person to call, while there are numbers.

use crate::Result;
use crate::history::Client;
use crate::journal::{Journal, Said};
use crate::now_micros;
use crate::numbers::{NUMBERS_OF_CROWD, of_crowd};
use campaign_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Number of the crowd's first campaign in the journal, far above those of histories.
const FIRST: usize = 1_000;
/// Campaigns that are created at a time.
const AT_ONCE: usize = 16;
/// One campaign in so many is scheduled.
const SCHEDULED_EVERY: usize = 10;
/// Time after the faults in which campaigns still start.
const AFTERWARDS: Duration = Duration::from_secs(6);
/// Longest wait for the last scheduled campaign to be over.
const OVER_LIMIT: Duration = Duration::from_secs(120);
/// Description by which the crowd's scheduled campaigns are found.
const SCHEDULED: &str = "Scheduled among the crowd";

/// Creates and launches the crowd, before any fault.
///
/// # Errors
/// When a request is not answered OK.
pub async fn gather(
    clients: &[Client],
    journal: &Arc<Journal>,
    campaigns: usize,
    window: Duration,
) -> Result<()> {
    let mut founding = JoinSet::new();
    for first in 0..AT_ONCE.min(campaigns) {
        let (client, journal) = (clients[first % clients.len()].clone(), Arc::clone(journal));
        founding.spawn(async move {
            for n in (first..campaigns).step_by(AT_ONCE) {
                found(client.clone(), &journal, n, window).await?;
            }
            Ok::<(), tonic::Status>(())
        });
    }
    while let Some(founded) = founding.join_next().await {
        founded?.map_err(|status| format!("the crowd does not gather: {status}"))?;
    }
    Ok(())
}

/// Waits until every scheduled campaign started, called its person and completed.
///
/// # Errors
/// When the database cannot be read.
pub async fn until_over(database: &tokio_postgres::Client) -> Result<Option<String>> {
    let deadline = Instant::now() + OVER_LIMIT;
    loop {
        let sql = "SELECT count(*) FROM campaigns
            WHERE config ->> 'description' = $1 AND state <> 'COMPLETED'";
        let open: i64 = database.query_one(sql, &[&SCHEDULED]).await?.get(0);
        if open == 0 {
            return Ok(None);
        }
        if Instant::now() > deadline {
            return Ok(Some(format!("{open} scheduled campaigns of the crowd do not end")));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Creates and launches the n-th campaign.
async fn found(
    mut client: Client,
    journal: &Journal,
    n: usize,
    window: Duration,
) -> Result<(), tonic::Status> {
    let is_scheduled = n.is_multiple_of(SCHEDULED_EVERY) && n / SCHEDULED_EVERY < NUMBERS_OF_CROWD;
    let latest = u64::try_from((window + AFTERWARDS).as_micros()).unwrap_or(u64::MAX);
    // The times are spread evenly, and differ from one campaign to the next.
    let ahead = (n as u64).wrapping_mul(7_919_000) % latest;
    let start_at = now_micros().saturating_add_unsigned(ahead);
    let campaign = Some(configuration(n, is_scheduled.then_some(start_at)));
    let request_id = format!("crowd-{n}");
    let request = v1::CreateCampaignRequest { campaign, request_id, ..Default::default() };
    let asked_at = now_micros();
    let name = client.campaigns.create_campaign(request).await?.into_inner().name;
    let campaign = name.trim_start_matches("campaigns/").to_owned();
    journal.note(FIRST + n, asked_at, Said::Created { campaign });
    if is_scheduled {
        let number = of_crowd(n / SCHEDULED_EVERY);
        let contact = v1::Contact { phone_number: number.clone(), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let asked_at = now_micros();
        client.contacts.create_contact(request).await?;
        journal.note(FIRST + n, asked_at, Said::Contacts { numbers: vec![number] });
    }
    let settings = v1::LaunchSettings { live_forever: !is_scheduled, ..Default::default() };
    let request_id = format!("crowd-launch-{n}");
    let request = v1::LaunchCampaignRequest {
        name,
        settings: Some(settings),
        request_id: request_id.clone(),
        ..Default::default()
    };
    let asked_at = now_micros();
    let launched = client.campaigns.launch_campaign(request).await?.into_inner();
    journal.note(FIRST + n, asked_at, Said::Command { request_id, command: "LAUNCH" });
    // A launch that comes late starts the campaign itself.
    if launched.state() == v1::CampaignState::Scheduled {
        journal.note(FIRST + n, asked_at, Said::Scheduled { start_at });
    }
    Ok(())
}

fn configuration(n: usize, start_at: Option<i64>) -> v1::Campaign {
    let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    let once = || {
        let min_delay = Some(prost_types::Duration { seconds: 4, nanos: 0 });
        Some(v1::RetryRule { max_attempts: 1, min_delay })
    };
    let start_time = start_at.map(|micros| prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    });
    v1::Campaign {
        display_name: format!("Crowd {n}"),
        description: if start_at.is_some() { SCHEDULED } else { "Crowd" }.to_owned(),
        schedule: Some(v1::Schedule {
            start_time,
            time_zone: "Europe/Berlin".to_owned(),
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
