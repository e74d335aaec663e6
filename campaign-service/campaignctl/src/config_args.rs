//! A campaign's configuration from flags and from a file.

use crate::failure::Failure;
use crate::json;
use crate::printing::Printer;
use crate::windows::Window;
use crate::zones::Zone;
use campaign_proto::v1;
use chrono::DateTime;
use clap::Args;
use prost_types::{Duration, Timestamp};
use serde_json::Value;
use std::str::FromStr;

/// Configuration of a campaign. Flags override the file.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration as JSON with the API's field names, as in {"schedule": {"timeZone": "Europe/Berlin"}}; -
    /// for standard input
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Purpose of the campaign; must be set before a launch
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Time zone of contacts whose own is not known, as in Europe/Berlin, Berlin or Eastern; must be set before a
    /// launch
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Zone>,
    /// Calling hours, as in mon-fri=09:00-17:30, sat=9am-5pm or fri=22:00-02:00; repeat for more [default: 08:00 to 21:00 every day]
    #[arg(long = "window", value_name = "DAYS=HOURS")]
    windows: Vec<Window>,
    /// Day without calls, YYYY-MM-DD; repeat for more
    #[arg(long = "blackout-date", value_name = "DATE")]
    blackout_dates: Vec<String>,
    /// Time before which no call begins, as in 2027-01-31T09:00:00+01:00
    #[arg(long, value_name = "TIME")]
    start_time: Option<Time>,
    /// Time at which the run ends, in the same format
    #[arg(long, value_name = "TIME")]
    end_time: Option<Time>,
    /// Most attempts, and shortest delay in minutes, after an outcome, as in busy=3/30; outcomes: no_answer, busy,
    /// failed, voicemail, unknown, abandoned; repeat for more
    #[arg(long = "retry", value_name = "OUTCOME=ATTEMPTS/MINUTES")]
    retries: Vec<Retry>,
    /// Most new calls a second; 0: no limit
    #[arg(long, value_name = "N")]
    max_calls_per_second: Option<i32>,
    /// Most calls at the same time; 0: no limit
    #[arg(long, value_name = "N")]
    max_calls_in_progress: Option<i32>,
    /// Share of the workers that serve several campaigns, 1 to 100
    #[arg(long, value_name = "N")]
    weight: Option<i32>,
    /// Target of the links in texts
    #[arg(long, value_name = "URL")]
    link_url: Option<String>,
    /// Whether the campaign accepts numbers that cost their caller
    #[arg(long, value_name = "BOOL")]
    allow_costly_numbers: Option<bool>,
    /// Pool whose workers serve the campaign; '' for workers without a pool
    #[arg(long, value_name = "NAME")]
    worker_pool: Option<String>,
    /// Channel that the campaign goes out by, as in call, sms or email; repeat for more; '' for any
    #[arg(long = "channel", value_name = "NAME")]
    channels: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Time(Timestamp);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|error| format!("{error}; write it as in 2027-01-31T09:00:00+01:00"))?;
        let nanos = time.timestamp_subsec_nanos().try_into().unwrap_or(0);
        Ok(Self(Timestamp { seconds: time.timestamp(), nanos }))
    }
}

#[derive(Clone, Debug)]
struct Retry {
    outcome: String,
    rule: v1::RetryRule,
}

impl FromStr for Retry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (outcome, rule) = text.split_once('=')?;
            let known = ["no_answer", "busy", "failed", "voicemail", "unknown", "abandoned"];
            let outcome = known.contains(&outcome).then(|| outcome.to_owned())?;
            let (attempts, minutes) = rule.split_once('/')?;
            let seconds = minutes.parse::<i64>().ok()?.checked_mul(60)?;
            let min_delay = Some(Duration { seconds, nanos: 0 });
            let rule = v1::RetryRule { max_attempts: attempts.parse().ok()?, min_delay };
            Some(Self { outcome, rule })
        };
        read().ok_or_else(|| {
            "write it as in busy=3/30; outcomes: no_answer, busy, failed, voicemail, unknown, \
             abandoned"
                .to_owned()
        })
    }
}

impl ConfigArgs {
    /// Applies the file and the flags to a campaign. Returns the paths of the fields that they set.
    pub fn apply(
        &self,
        printer: &Printer,
        campaign: &mut v1::Campaign,
    ) -> Result<Vec<String>, Failure> {
        let mut paths = Vec::new();
        let zone = self.time_zone.as_ref().and_then(Zone::understood);
        for told in zone.into_iter().chain(self.windows.iter().filter_map(Window::understood)) {
            printer.remark(&told)?;
        }
        if let Some(file) = &self.file {
            paths.extend(from_file(printer, &json::file(file)?, campaign)?);
        }
        let mut touch = |path: &str| {
            if !paths.iter().any(|touched| touched == path) {
                paths.push(path.to_owned());
            }
        };
        if let Some(description) = &self.description {
            campaign.description.clone_from(description);
            touch("description");
        }
        if let Some(link_url) = &self.link_url {
            campaign.link_url.clone_from(link_url);
            touch("link_url");
        }
        if let Some(allowed) = self.allow_costly_numbers {
            campaign.allow_costly_numbers = allowed;
            touch("allow_costly_numbers");
        }
        if let Some(pool) = &self.worker_pool {
            campaign.worker_pool.clone_from(pool);
            touch("worker_pool");
        }
        if !self.channels.is_empty() {
            let named = self.channels.iter().filter(|channel| !channel.is_empty());
            campaign.channels = named.cloned().collect();
            touch("channels");
        }
        if self.schedule(campaign.schedule.get_or_insert_default()) {
            touch("schedule");
        } else if let Some(Time(end)) = self.end_time {
            campaign.schedule.get_or_insert_default().end_time = Some(end);
            // The only part of the schedule that may change while a run is live forever.
            touch("schedule.end_time");
        } else if campaign.schedule == Some(v1::Schedule::default()) {
            campaign.schedule = None;
        }
        if self.pacing(campaign.pacing.get_or_insert_default()) {
            touch("pacing");
        }
        for Retry { outcome, rule } in &self.retries {
            let policy = campaign.retry_policy.get_or_insert_default();
            let place = match outcome.as_str() {
                "no_answer" => &mut policy.no_answer,
                "busy" => &mut policy.busy,
                "failed" => &mut policy.failed,
                "voicemail" => &mut policy.voicemail,
                "abandoned" => &mut policy.abandoned,
                _ => &mut policy.unknown,
            };
            *place = Some(*rule);
            touch("retry_policy");
        }
        Ok(paths)
    }

    /// Applies the schedule's flags. Returns whether any was given; an end time alone does not count.
    fn schedule(&self, schedule: &mut v1::Schedule) -> bool {
        let is_given = self.time_zone.is_some()
            || !self.windows.is_empty()
            || !self.blackout_dates.is_empty()
            || self.start_time.is_some();
        if !is_given {
            return false;
        }
        if let Some(time_zone) = &self.time_zone {
            schedule.time_zone.clone_from(&time_zone.name);
        }
        if !self.windows.is_empty() {
            schedule.windows = self.windows.iter().flat_map(|window| window.to_api()).collect();
        }
        if !self.blackout_dates.is_empty() {
            schedule.blackout_dates.clone_from(&self.blackout_dates);
        }
        if let Some(Time(start)) = self.start_time {
            schedule.start_time = Some(start);
        }
        if let Some(Time(end)) = self.end_time {
            schedule.end_time = Some(end);
        }
        true
    }

    fn pacing(&self, pacing: &mut v1::Pacing) -> bool {
        let given = [
            (self.max_calls_per_second, &mut pacing.max_calls_per_second),
            (self.max_calls_in_progress, &mut pacing.max_calls_in_progress),
            (self.weight, &mut pacing.weight),
        ];
        let mut is_given = false;
        for (value, place) in given {
            if let Some(value) = value {
                *place = value;
                is_given = true;
            }
        }
        is_given
    }
}

/// Copies the fields that a file has to the campaign, each as a whole. Returns their paths.
fn from_file(
    printer: &Printer,
    value: &Value,
    campaign: &mut v1::Campaign,
) -> Result<Vec<String>, Failure> {
    let read: v1::Campaign = json::read(&printer.pool, "Campaign", value)?;
    let mut paths = Vec::new();
    for key in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
        let path = match key.as_str() {
            "displayName" | "display_name" => {
                campaign.display_name.clone_from(&read.display_name);
                "display_name"
            }
            "description" => {
                campaign.description.clone_from(&read.description);
                "description"
            }
            "schedule" => {
                campaign.schedule.clone_from(&read.schedule);
                "schedule"
            }
            "retryPolicy" | "retry_policy" => {
                campaign.retry_policy = read.retry_policy;
                "retry_policy"
            }
            "pacing" => {
                campaign.pacing = read.pacing;
                "pacing"
            }
            "linkUrl" | "link_url" => {
                campaign.link_url.clone_from(&read.link_url);
                "link_url"
            }
            "allowCostlyNumbers" | "allow_costly_numbers" => {
                campaign.allow_costly_numbers = read.allow_costly_numbers;
                "allow_costly_numbers"
            }
            "workerPool" | "worker_pool" => {
                campaign.worker_pool.clone_from(&read.worker_pool);
                "worker_pool"
            }
            "channels" => {
                campaign.channels.clone_from(&read.channels);
                "channels"
            }
            // The service's own fields, as `campaigns get -o json` prints them.
            _ => continue,
        };
        paths.push(path.to_owned());
    }
    Ok(paths)
}
