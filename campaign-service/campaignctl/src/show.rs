//! Answers as people read them. This file has those about campaigns.

mod contacts;

use crate::settings;
use crate::text::{clock, counted, day_name, grouped, sheet, table};
use campaign_proto::v1;
use chrono::DateTime;
use prost::Message;
use prost_types::Timestamp;

/// Answer that can be printed.
pub trait Show: Message {
    /// Name of its message in `campaign.v1`.
    const NAME: &'static str;
    fn human(&self) -> String;
}

pub fn time(time: Option<&Timestamp>) -> String {
    let known = time.and_then(|time| DateTime::from_timestamp(time.seconds, 0));
    known.map(|time| time.format("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}

/// Returns `CAMPAIGN_STATE_RUNNING` as `RUNNING`.
pub fn state(state: v1::CampaignState) -> &'static str {
    state.as_str_name().trim_start_matches("CAMPAIGN_STATE_")
}

/// Returns the reason of an exclusion in words.
pub fn exclusion(reason: v1::ExclusionReason) -> String {
    words(reason.as_str_name(), "EXCLUSION_REASON_")
}

/// Returns an enum's value in words: in lower case, without the prefix. Returns nothing for `UNSPECIFIED`.
fn words(name: &str, prefix: &str) -> String {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    if rest == "UNSPECIFIED" { String::new() } else { rest.to_lowercase().replace('_', " ") }
}

pub fn idle(progress: &v1::CampaignProgress) -> String {
    let why = match progress.idle_reason() {
        v1::IdleReason::Unspecified => return String::new(),
        v1::IdleReason::NotRunning => "not running",
        v1::IdleReason::WindowClosed => "no contact's local hours allow a call now",
        v1::IdleReason::WaitingRetry => "only retries that are not due yet are left",
        v1::IdleReason::Exhausted => "no contact is left",
        v1::IdleReason::NoWorker if progress.idle_message.is_empty() => {
            "no worker takes its contacts: is one running?"
        }
        v1::IdleReason::NoWorker => "no worker takes its contacts",
        v1::IdleReason::Capped => {
            "all contacts left have reached the daily limit of attempts on a number"
        }
        v1::IdleReason::Throttled => "pacing allows no call at this moment",
        v1::IdleReason::Paused => "paused",
        v1::IdleReason::ProviderFailing => "the workers' provider fails",
    };
    let until = time(progress.idle_until.as_ref());
    let until = if until.is_empty() { until } else { format!(", until {until}") };
    let message = &progress.idle_message;
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("{why}{until}{said}")
}

fn more(next_page_token: &str) -> String {
    if next_page_token.is_empty() {
        return String::new();
    }
    format!("there is more: --page-token {next_page_token}, or --all\n")
}

impl Show for v1::Campaign {
    const NAME: &'static str = "Campaign";

    fn human(&self) -> String {
        let pacing = self.pacing.unwrap_or_default();
        let limit = |n: i32, what: &str| if n == 0 { None } else { Some(format!("{n} {what}")) };
        let limits = [
            limit(pacing.max_calls_per_second, "calls a second"),
            limit(pacing.max_calls_in_progress, "calls in progress"),
            limit(pacing.weight, "weight"),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        let run = if self.run == 0 { "never launched".to_owned() } else { self.run.to_string() };
        sheet([
            ("name", self.name.clone()),
            ("display name", self.display_name.clone()),
            ("state", state(self.state()).to_owned()),
            ("run", run),
            ("settings", self.launch_settings.as_ref().map(settings::summary).unwrap_or_default()),
            ("contacts", grouped(self.contact_count)),
            ("description", self.description.clone()),
            ("schedule", self.schedule.as_ref().map(schedule).unwrap_or_default()),
            ("pacing", limits.join(", ")),
            ("worker pool", self.worker_pool.clone()),
            ("channels", self.channels.join(", ")),
            ("link url", self.link_url.clone()),
            ("etag", self.etag.clone()),
            ("updated", time(self.update_time.as_ref())),
        ])
    }
}

fn schedule(schedule: &v1::Schedule) -> String {
    let mut parts = vec![schedule.time_zone.clone()];
    for (word, at) in [("from", &schedule.start_time), ("until", &schedule.end_time)] {
        if let Some(at) = at {
            parts.push(format!("{word} {}", time(Some(at))));
        }
    }
    parts.push(match schedule.windows.len() {
        0 => "08:00 to 21:00 every day".to_owned(),
        _ => schedule.windows.iter().map(window).collect::<Vec<_>>().join(" "),
    });
    if !schedule.blackout_dates.is_empty() {
        parts.push(format!("not on {}", schedule.blackout_dates.join(", ")));
    }
    parts.join(", ")
}

fn window(window: &v1::WeeklyWindow) -> String {
    let (day, start, end) = (window.weekday, window.start_minute, window.end_minute);
    format!("{} {}-{}", day_name(day), clock(start), clock(end))
}

impl Show for v1::ListCampaignsResponse {
    const NAME: &'static str = "ListCampaignsResponse";

    fn human(&self) -> String {
        if self.campaigns.is_empty() {
            return "no campaigns; create one with: campaignctl campaigns create\n".to_owned();
        }
        let rows = self.campaigns.iter().map(|one| {
            let contacts = grouped(one.contact_count);
            [
                one.display_name.clone(),
                state(one.state()).to_owned(),
                one.run.to_string(),
                contacts,
                one.name.clone(),
            ]
        });
        table(["CAMPAIGN", "STATE", "RUN", "CONTACTS", "NAME"], rows) + &more(&self.next_page_token)
    }
}

/// Returns how many contacts are not engaged any more.
pub fn left_out(progress: &v1::CampaignProgress) -> i64 {
    progress.removed.iter().map(|count| count.contacts).sum()
}

/// Returns reasons with their counts, largest first.
pub fn removed(counts: &[v1::ReasonCount]) -> Vec<(String, i64)> {
    let mut counts: Vec<(String, i64)> =
        counts.iter().map(|count| (exclusion(count.reason()), count.contacts)).collect();
    counts.sort_by_key(|(_, contacts)| -contacts);
    counts
}

impl Show for v1::PreviewLaunchResponse {
    const NAME: &'static str = "PreviewLaunchResponse";

    fn human(&self) -> String {
        let mut text = format!(
            "{} of {} would be engaged\n",
            grouped(self.eligible),
            counted(self.total, "contact", "contacts")
        );
        for (reason, contacts) in removed(&self.removed) {
            text.push_str(&format!("  {:>12}  excluded: {reason}\n", grouped(contacts)));
        }
        for warning in &self.warnings {
            text.push_str(&format!("warning: {}\n", crate::text::clean(warning)));
        }
        text
    }
}

impl Show for v1::CampaignProgress {
    const NAME: &'static str = "CampaignProgress";

    fn human(&self) -> String {
        let history = self.history.unwrap_or_default();
        let reasons: Vec<String> = removed(&self.removed)
            .into_iter()
            .map(|(reason, contacts)| format!("{} {reason}", grouped(contacts)))
            .collect();
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
        let purge = self.purge.unwrap_or_default();
        sheet([
            ("state", format!("{}, run {}", state(self.state()), self.run)),
            ("contacts", grouped(self.total)),
            ("waiting", grouped(self.waiting)),
            ("waiting to retry", grouped(self.waiting_retry)),
            ("at a worker", grouped(self.leased)),
            ("in a call", grouped(self.in_call)),
            ("done or excluded", format!("{}{reasons}", grouped(left_out(self)))),
            ("attempts", grouped(history.attempts)),
            ("success", grouped(history.success)),
            ("transferred", grouped(history.transferred)),
            ("opted out", grouped(history.refused)),
            ("texted", grouped(history.texted)),
            ("link opened", grouped(history.link_opened)),
            ("idle", idle(self)),
            (
                "deleting history",
                if purge.running {
                    format!("{} of {}", grouped(purge.contacts_done), grouped(purge.contacts_total))
                } else {
                    String::new()
                },
            ),
            ("read at", time(self.read_time.as_ref())),
        ])
    }
}

impl Show for v1::ListRunsResponse {
    const NAME: &'static str = "ListRunsResponse";

    fn human(&self) -> String {
        let rows = self.runs.iter().map(|run| {
            [
                run.number.to_string(),
                time(run.launch_time.as_ref()),
                time(run.end_time.as_ref()),
                grouped(run.authorized_attempts),
                run.settings.as_ref().map(settings::summary).unwrap_or_default(),
            ]
        });
        table(["RUN", "LAUNCHED", "ENDED", "ATTEMPTS", "SETTINGS"], rows)
            + &more(&self.next_page_token)
    }
}

impl Show for v1::ListAuditEventsResponse {
    const NAME: &'static str = "ListAuditEventsResponse";

    fn human(&self) -> String {
        let rows = self.audit_events.iter().map(|event| {
            let after = state(event.state_after());
            let states = match event.state_before() {
                v1::CampaignState::Unspecified => after.to_owned(),
                before => format!("{} -> {after}", state(before)),
            };
            [
                time(event.event_time.as_ref()),
                event.command.clone(),
                states,
                event.run.to_string(),
                event.actor.clone(),
                event.reason.clone(),
            ]
        });
        table(["TIME", "COMMAND", "STATE", "RUN", "ACTOR", "REASON"], rows)
            + &more(&self.next_page_token)
    }
}
