//! Conversion of campaigns, settings and progress between API and domain.

use super::check::{Check, MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH};
use crate::app::campaigns::lifecycle::Invocation;
use crate::app::error::Error;
use crate::app::watch::progress::Progress;
use crate::store::audit::Event;
use crate::store::campaigns::Run;
use campaign_domain::Instant;
use campaign_domain::access::Caller;
use campaign_domain::campaign::{Campaign, Config, ConfigField};
use campaign_domain::eligibility::Reason;
use campaign_domain::lifecycle::State;
use campaign_domain::links::is_web_address;
use campaign_domain::pacing::{MAX_CALLS_LIMIT, MAX_WEIGHT, Pacing};
use campaign_domain::retry::{MAX_ATTEMPTS_LIMIT, MIN_DELAY_LIMIT_SECONDS, RetryPolicy, RetryRule};
use campaign_domain::schedule::{MAX_BLACKOUT_DATES, MAX_WINDOWS, Schedule, WeeklyWindow};
use campaign_domain::serving::{MAX_CHANNEL_LENGTH, MAX_CHANNELS, MAX_POOL_LENGTH, Needs};
use campaign_domain::settings::{Exclusions, LaunchSettings, TransferredExclusion};
use campaign_domain::standing::IdleReason;
use campaign_proto::v1;
use chrono::NaiveDate;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Namespace of request fingerprints.
const FINGERPRINT_NAMESPACE: Uuid = Uuid::from_u128(0x5a8e_3d70_64c2_4c4e_9e0b_7f2d_51a6_c3f8);

pub fn timestamp(instant: Instant) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: instant.timestamp(),
        nanos: i32::try_from(instant.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

fn duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// Reads and checks the common fields of a command. The fingerprint tells a repeat from another request or from
/// another caller's request. If the caller authenticated, its token subject replaces `actor`.
pub fn invocation<M: prost::Message>(
    method: &str,
    request: &M,
    [etag, request_id, actor, reason]: [&str; 4],
    caller: &Caller,
) -> Result<Invocation, Error> {
    let mut check = Check::default();
    check.text("request_id", request_id, 0..=super::check::MAX_ID_LENGTH);
    check.text("actor", actor, 0..=MAX_NAME_LENGTH);
    check.text("reason", reason, 0..=1_000);
    check.finish()?;
    // An etag that the service never gave matches no revision.
    let revision = (!etag.is_empty()).then(|| etag.parse().unwrap_or(-1));
    let mut bytes = method.as_bytes().to_vec();
    bytes.extend(request.encode_to_vec());
    bytes.extend(caller.actor.as_bytes());
    let mut caller = caller.clone();
    if caller.actor.is_empty() {
        actor.clone_into(&mut caller.actor);
    }
    Ok(Invocation {
        revision,
        request_id: request_id.to_owned(),
        fingerprint: Uuid::new_v5(&FINGERPRINT_NAMESPACE, &bytes),
        caller,
        reason: reason.to_owned(),
    })
}

/// Reads a configuration. Only the fields in `fields` are checked; `None` checks all.
pub fn config(campaign: v1::Campaign, fields: Option<&[ConfigField]>) -> Result<Config, Error> {
    let wants = |field: ConfigField| fields.is_none_or(|fields| fields.contains(&field));
    let mut check = Check::default();
    if wants(ConfigField::DisplayName) {
        check.text("campaign.display_name", &campaign.display_name, 1..=MAX_NAME_LENGTH);
    }
    if wants(ConfigField::Description) {
        check.text("campaign.description", &campaign.description, 0..=MAX_DESCRIPTION_LENGTH);
    }
    let is_whole = wants(ConfigField::Schedule);
    let schedule = match campaign.schedule {
        Some(value) if is_whole || wants(ConfigField::ScheduleEndTime) => {
            Some(schedule(&mut check, value, is_whole))
        }
        _ => None,
    };
    let retry_policy = match campaign.retry_policy {
        Some(policy) if wants(ConfigField::RetryPolicy) => retry_policy(&mut check, policy),
        _ => RetryPolicy::default(),
    };
    let pacing = match campaign.pacing {
        Some(value) if wants(ConfigField::Pacing) => pacing(&mut check, value),
        _ => Pacing::default(),
    };
    if wants(ConfigField::LinkUrl) && !campaign.link_url.is_empty() {
        let is_web_address = is_web_address(&campaign.link_url);
        let how = "must be an http or https address of at most 2000 characters";
        check.require(is_web_address, "campaign.link_url", how);
    }
    if wants(ConfigField::WorkerPool) {
        check.plain_name("campaign.worker_pool", &campaign.worker_pool, MAX_POOL_LENGTH);
    }
    if wants(ConfigField::Channels) {
        let (channels, most) = (&campaign.channels, MAX_CHANNELS);
        check.names("campaign.channels", channels, most, MAX_CHANNEL_LENGTH);
    }
    check.finish()?;
    Ok(Config {
        display_name: campaign.display_name,
        description: campaign.description,
        schedule,
        retry_policy,
        pacing,
        link_url: campaign.link_url,
        allow_costly_numbers: campaign.allow_costly_numbers,
        needs: Needs { worker_pool: campaign.worker_pool, channels: campaign.channels },
    })
}

fn pacing(check: &mut Check, pacing: v1::Pacing) -> Pacing {
    let v1::Pacing { max_calls_per_second, max_calls_in_progress, weight } = pacing;
    for (name, value, most) in [
        ("max_calls_per_second", max_calls_per_second, MAX_CALLS_LIMIT),
        ("max_calls_in_progress", max_calls_in_progress, MAX_CALLS_LIMIT),
        ("weight", weight, MAX_WEIGHT),
    ] {
        let field = format!("campaign.pacing.{name}");
        check.require((0..=most).contains(&value), &field, &format!("must be 0 to {most}"));
    }
    Pacing { max_calls_per_second, max_calls_in_progress, weight: weight.max(1) }
}

fn schedule(check: &mut Check, schedule: v1::Schedule, is_whole: bool) -> Schedule {
    let start_time = check.time("campaign.schedule.start_time", schedule.start_time);
    let end_time = check.time("campaign.schedule.end_time", schedule.end_time);
    if is_whole {
        check.time_zone("campaign.schedule.time_zone", &schedule.time_zone, false);
    }
    let windows = windows(check, &schedule.windows);
    let blackout_dates = blackout_dates(check, &schedule.blackout_dates);
    let time_zone = schedule.time_zone;
    let schedule = Schedule { start_time, end_time, time_zone, windows, blackout_dates };
    check.require(
        !schedule.ends_before_it_starts(),
        "campaign.schedule.end_time",
        "must be after start_time",
    );
    schedule
}

fn windows(check: &mut Check, windows: &[v1::WeeklyWindow]) -> Vec<WeeklyWindow> {
    let field = "campaign.schedule.windows";
    if windows.len() > MAX_WINDOWS {
        check.fail(field, format!("must have at most {MAX_WINDOWS} entries"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(windows.len());
    for (index, window) in windows.iter().enumerate() {
        let v1::WeeklyWindow { weekday, start_minute, end_minute } = *window;
        let at = |part: &str| format!("{field}[{index}].{part}");
        check.require((1..=7).contains(&weekday), &at("weekday"), "must be 1 (Monday) to 7");
        check.require((0..1_440).contains(&start_minute), &at("start_minute"), "must be 0 to 1439");
        check.require(
            end_minute > start_minute && end_minute <= 1_440,
            &at("end_minute"),
            "must be after start_minute and at most 1440",
        );
        read.push(WeeklyWindow { weekday, start_minute, end_minute });
    }
    read
}

fn blackout_dates(check: &mut Check, dates: &[String]) -> Vec<NaiveDate> {
    let field = "campaign.schedule.blackout_dates";
    if dates.len() > MAX_BLACKOUT_DATES {
        check.fail(field, format!("must have at most {MAX_BLACKOUT_DATES} entries"));
        return Vec::new();
    }
    let mut read = Vec::with_capacity(dates.len());
    for (index, text) in dates.iter().enumerate() {
        match text.parse::<NaiveDate>() {
            Ok(date) => read.push(date),
            Err(_) => check.fail(&format!("{field}[{index}]"), "must be a date as in 2026-12-24"),
        }
    }
    read
}

fn retry_policy(check: &mut Check, policy: v1::RetryPolicy) -> RetryPolicy {
    let default = RetryPolicy::default();
    let mut rule = |name: &str, rule: Option<v1::RetryRule>, default: RetryRule| {
        let Some(rule) = rule else { return default };
        let field = format!("campaign.retry_policy.{name}");
        check.require(
            (1..=MAX_ATTEMPTS_LIMIT).contains(&rule.max_attempts),
            &format!("{field}.max_attempts"),
            "must be 1 to 20",
        );
        let min_delay_seconds =
            check.seconds(&format!("{field}.min_delay"), rule.min_delay, MIN_DELAY_LIMIT_SECONDS);
        RetryRule { max_attempts: rule.max_attempts, min_delay_seconds }
    };
    RetryPolicy {
        no_answer: rule("no_answer", policy.no_answer, default.no_answer),
        busy: rule("busy", policy.busy, default.busy),
        failed: rule("failed", policy.failed, default.failed),
        voicemail: rule("voicemail", policy.voicemail, default.voicemail),
        unknown: rule("unknown", policy.unknown, default.unknown),
        abandoned: rule("abandoned", policy.abandoned, default.abandoned),
    }
}

/// Reads launch settings. Rejects a request without settings.
pub fn settings(settings: Option<v1::LaunchSettings>) -> Result<LaunchSettings, Error> {
    let Some(settings) = settings else {
        return Err(Error::invalid("settings", "must be set: every run has settings of its own"));
    };
    let exclude = settings.exclude.unwrap_or_default();
    let transferred = match v1::TransferredExclusion::try_from(exclude.transferred) {
        Ok(v1::TransferredExclusion::Unspecified | v1::TransferredExclusion::Ignore) => {
            TransferredExclusion::Ignore
        }
        Ok(v1::TransferredExclusion::AnyTime) => TransferredExclusion::AnyTime,
        Ok(v1::TransferredExclusion::MoreThan60s) => TransferredExclusion::MoreThan60s,
        Ok(v1::TransferredExclusion::MoreThan90s) => TransferredExclusion::MoreThan90s,
        Ok(v1::TransferredExclusion::MoreThan120s) => TransferredExclusion::MoreThan120s,
        Err(_) => {
            let known = "is not a value this version knows";
            return Err(Error::invalid("settings.exclude.transferred", known));
        }
    };
    Ok(LaunchSettings {
        exclude: Exclusions {
            refused: exclude.refused.unwrap_or(true),
            transferred,
            success: exclude.success,
            link_opened: exclude.link_opened,
            texted: exclude.texted,
        },
        rerun_all_contacts: settings.rerun_all_contacts,
        reset_contact_history: settings.reset_contact_history,
        live_forever: settings.live_forever,
    })
}

fn settings_to_api(settings: &LaunchSettings) -> v1::LaunchSettings {
    let transferred = match settings.exclude.transferred {
        TransferredExclusion::Ignore => v1::TransferredExclusion::Ignore,
        TransferredExclusion::AnyTime => v1::TransferredExclusion::AnyTime,
        TransferredExclusion::MoreThan60s => v1::TransferredExclusion::MoreThan60s,
        TransferredExclusion::MoreThan90s => v1::TransferredExclusion::MoreThan90s,
        TransferredExclusion::MoreThan120s => v1::TransferredExclusion::MoreThan120s,
    };
    v1::LaunchSettings {
        exclude: Some(v1::Exclusions {
            refused: Some(settings.exclude.refused),
            transferred: transferred.into(),
            success: settings.exclude.success,
            link_opened: settings.exclude.link_opened,
            texted: settings.exclude.texted,
        }),
        rerun_all_contacts: settings.rerun_all_contacts,
        reset_contact_history: settings.reset_contact_history,
        live_forever: settings.live_forever,
    }
}

pub fn state_to_api(state: State) -> v1::CampaignState {
    match state {
        State::Draft => v1::CampaignState::Draft,
        State::Scheduled => v1::CampaignState::Scheduled,
        State::Running => v1::CampaignState::Running,
        State::Paused => v1::CampaignState::Paused,
        State::Completed => v1::CampaignState::Completed,
        State::Cancelled => v1::CampaignState::Cancelled,
    }
}

pub fn campaign_to_api(campaign: &Campaign, contact_count: i64) -> v1::Campaign {
    let rule = |rule: RetryRule| {
        Some(v1::RetryRule {
            max_attempts: rule.max_attempts,
            min_delay: Some(duration(rule.min_delay_seconds)),
        })
    };
    let (retry, pacing) = (&campaign.config.retry_policy, campaign.config.pacing);
    v1::Campaign {
        name: format!("campaigns/{}", campaign.id),
        display_name: campaign.config.display_name.clone(),
        description: campaign.config.description.clone(),
        schedule: campaign.config.schedule.as_ref().map(schedule_to_api),
        retry_policy: Some(v1::RetryPolicy {
            no_answer: rule(retry.no_answer),
            busy: rule(retry.busy),
            failed: rule(retry.failed),
            voicemail: rule(retry.voicemail),
            unknown: rule(retry.unknown),
            abandoned: rule(retry.abandoned),
        }),
        pacing: Some(v1::Pacing {
            max_calls_per_second: pacing.max_calls_per_second,
            max_calls_in_progress: pacing.max_calls_in_progress,
            weight: pacing.weight,
        }),
        link_url: campaign.config.link_url.clone(),
        allow_costly_numbers: campaign.config.allow_costly_numbers,
        worker_pool: campaign.config.needs.worker_pool.clone(),
        channels: campaign.config.needs.channels.clone(),
        state: state_to_api(campaign.state).into(),
        run: campaign.run,
        launch_settings: campaign.settings.as_ref().map(settings_to_api),
        history_generation: campaign.epoch.generation,
        contact_count,
        etag: campaign.revision.to_string(),
        create_time: Some(timestamp(campaign.created_at)),
        update_time: Some(timestamp(campaign.updated_at)),
    }
}

fn schedule_to_api(schedule: &Schedule) -> v1::Schedule {
    v1::Schedule {
        start_time: schedule.start_time.map(timestamp),
        end_time: schedule.end_time.map(timestamp),
        time_zone: schedule.time_zone.clone(),
        windows: schedule
            .windows
            .iter()
            .map(|window| v1::WeeklyWindow {
                weekday: window.weekday,
                start_minute: window.start_minute,
                end_minute: window.end_minute,
            })
            .collect(),
        blackout_dates: schedule.blackout_dates.iter().map(ToString::to_string).collect(),
    }
}

pub fn run_to_api(campaign: Uuid, run: &Run) -> v1::Run {
    v1::Run {
        name: format!("campaigns/{campaign}/runs/{}", run.number),
        number: run.number,
        settings: Some(settings_to_api(&run.settings)),
        history_generation: run.epoch.generation,
        launch_time: Some(timestamp(run.launched_at)),
        start_time: run.started_at.map(timestamp),
        end_time: run.ended_at.map(timestamp),
        authorized_attempts: run.authorized_attempts,
    }
}

pub fn event_to_api(parent: &str, event: &Event, source: &str) -> v1::AuditEvent {
    let state = |state: Option<State>| state.map_or(0, |state| state_to_api(state).into());
    v1::AuditEvent {
        name: format!("{parent}/auditEvents/{}", event.number),
        event_time: Some(timestamp(event.happened_at)),
        actor: event.actor.clone(),
        reason: event.reason.clone(),
        command: event.command.clone(),
        state_before: state(event.before),
        state_after: state(event.after),
        run: event.run,
        request_id: event.request_id.clone(),
        source: source.to_owned(),
    }
}

pub fn reason_to_api(reason: Reason) -> v1::ExclusionReason {
    match reason {
        Reason::NotInRun => v1::ExclusionReason::NotInRun,
        Reason::Suppressed => v1::ExclusionReason::Suppressed,
        Reason::Refused => v1::ExclusionReason::Refused,
        Reason::Transferred => v1::ExclusionReason::Transferred,
        Reason::Success => v1::ExclusionReason::Success,
        Reason::LinkOpened => v1::ExclusionReason::LinkOpened,
        Reason::Texted => v1::ExclusionReason::Texted,
        Reason::Finished => v1::ExclusionReason::Finished,
    }
}

pub fn removed_to_api(removed: &BTreeMap<Reason, i64>) -> Vec<v1::ReasonCount> {
    removed
        .iter()
        .map(|(reason, contacts)| v1::ReasonCount {
            reason: reason_to_api(*reason).into(),
            contacts: *contacts,
        })
        .collect()
}

pub fn progress_to_api(progress: &Progress) -> v1::CampaignProgress {
    let (idle_reason, idle_until) = match progress.idle {
        None => (v1::IdleReason::Unspecified, None),
        Some((reason, until)) => (idle_to_api(reason), until),
    };
    let buckets = &progress.buckets;
    let history = progress.history;
    v1::CampaignProgress {
        name: format!("campaigns/{}", progress.campaign.id),
        state: state_to_api(progress.campaign.state).into(),
        run: progress.campaign.run,
        read_time: Some(timestamp(progress.read_at)),
        total: buckets.total,
        waiting: buckets.waiting,
        waiting_retry: buckets.waiting_retry,
        leased: buckets.leased,
        in_call: buckets.in_call,
        removed: removed_to_api(&buckets.removed),
        history: Some(v1::HistoryTotals {
            attempts: history.attempts,
            refused: history.refused,
            transferred: history.transferred,
            success: history.success,
            link_opened: history.link_opened,
            texted: history.texted,
        }),
        idle_reason: idle_reason.into(),
        idle_until: idle_until.map(timestamp),
        idle_message: progress.idle_message.clone(),
        purge: progress.purge.map(|purge| v1::PurgeProgress {
            running: true,
            contacts_done: purge.positions_done,
            contacts_total: purge.positions_total,
        }),
    }
}

fn idle_to_api(reason: IdleReason) -> v1::IdleReason {
    match reason {
        IdleReason::NotRunning => v1::IdleReason::NotRunning,
        IdleReason::WindowClosed => v1::IdleReason::WindowClosed,
        IdleReason::WaitingRetry => v1::IdleReason::WaitingRetry,
        IdleReason::Exhausted => v1::IdleReason::Exhausted,
        IdleReason::NoWorker => v1::IdleReason::NoWorker,
        IdleReason::Capped => v1::IdleReason::Capped,
        IdleReason::Throttled => v1::IdleReason::Throttled,
        IdleReason::Paused => v1::IdleReason::Paused,
        IdleReason::ProviderFailing => v1::IdleReason::ProviderFailing,
    }
}
