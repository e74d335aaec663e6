//! Campaign with its current run, its configuration, and the rules for editing fields.

use crate::Instant;
use crate::access::Tenant;
use crate::eligibility::RunRules;
use crate::lifecycle::{Plan, State};
use crate::pacing::Pacing;
use crate::retry::RetryPolicy;
use crate::schedule::Schedule;
use crate::serving::Needs;
use crate::settings::{Epoch, LaunchSettings};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A campaign with its current or last run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// Identifier; never changes.
    pub id: Uuid,
    /// Owner; never changes.
    #[serde(default)]
    pub tenant: Tenant,
    /// Place in the lifecycle.
    pub state: State,
    /// Configuration, as people set it.
    pub config: Config,
    /// Number of the current or last run; 0 before the first launch.
    pub run: i32,
    /// Epoch of the run.
    pub epoch: Epoch,
    /// Settings of the run; `None` before the first launch.
    pub settings: Option<LaunchSettings>,
    /// First position that is not in the run; `None` when all are.
    pub position_limit: Option<i64>,
    /// Trace of the request that launched the run; empty when it was not traced.
    #[serde(default)]
    pub launch_traceparent: String,
    /// Version for the etag; grows with every command.
    pub revision: i64,
    /// Time of creation.
    pub created_at: Instant,
    /// Time of the last command.
    pub updated_at: Instant,
    /// Whether the campaign was deleted.
    pub is_deleted: bool,
}

impl Campaign {
    /// Creates a draft.
    #[must_use]
    pub fn draft(id: Uuid, tenant: Tenant, config: Config, now: Instant) -> Self {
        Self {
            id,
            tenant,
            state: State::Draft,
            config,
            run: 0,
            epoch: Epoch::default(),
            settings: None,
            position_limit: None,
            launch_traceparent: String::new(),
            revision: 1,
            created_at: now,
            updated_at: now,
            is_deleted: false,
        }
    }

    /// Returns the campaign in its next run. `next_position` is the position of the next contact to come.
    #[must_use]
    pub fn launched(self, state: State, settings: LaunchSettings, next_position: i64) -> Self {
        let RunRules { run, epoch, .. } = self.rules_of_next_run(settings);
        Self {
            state,
            run,
            epoch,
            settings: Some(settings),
            position_limit: (!settings.live_forever).then_some(next_position),
            ..self
        }
    }

    /// Whether the run is live forever.
    #[must_use]
    pub fn is_live_forever(&self) -> bool {
        self.settings.is_some_and(|settings| settings.live_forever)
    }

    /// Returns the facts that the state machine depends on, for a run that is or is not live forever.
    #[must_use]
    pub fn plan(&self, live_forever: bool) -> Plan {
        let schedule = self.config.schedule.as_ref();
        Plan {
            start_time: schedule.and_then(|schedule| schedule.start_time),
            end_time: schedule.and_then(|schedule| schedule.end_time),
            live_forever,
        }
    }

    /// Returns the rules of the current run; before the first, of a run with default settings.
    #[must_use]
    pub fn rules(&self) -> RunRules {
        match self.settings {
            Some(settings) => RunRules {
                run: self.run,
                epoch: self.epoch,
                settings,
                position_limit: self.position_limit,
            },
            None => self.rules_of_next_run(LaunchSettings::default()),
        }
    }

    /// Returns the rules of a run that would be launched now with these settings.
    #[must_use]
    pub fn rules_of_next_run(&self, settings: LaunchSettings) -> RunRules {
        let run = self.run + 1;
        let epoch = settings.epoch_after(self.epoch, run);
        RunRules { run, epoch, settings, position_limit: None }
    }

    /// Whether new contacts stay out of the run under way.
    #[must_use]
    pub fn leaves_out_new_contacts(&self) -> bool {
        self.state.is_active() && self.position_limit.is_some()
    }

    /// Whether contacts are engaged at this moment.
    #[must_use]
    pub fn is_dialling(&self, now: Instant) -> bool {
        let has_ended = self.plan(self.is_live_forever()).has_ended(now);
        self.state == State::Running && !has_ended && !self.is_deleted
    }
}

/// Configuration, as people set it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name shown to people.
    pub display_name: String,
    /// Purpose of the campaign; must be set before a launch.
    pub description: String,
    /// Times at which calls may be placed; must be set before a launch.
    pub schedule: Option<Schedule>,
    /// Rules for another attempt.
    pub retry_policy: RetryPolicy,
    /// Speed limits, and the weight beside other campaigns.
    pub pacing: Pacing,
    /// Target of the links in texts; empty: texts carry no link.
    pub link_url: String,
    /// Whether numbers that cost their caller may be contacts.
    #[serde(default)]
    pub allow_costly_numbers: bool,
    /// Needs that a worker must meet to serve the campaign.
    #[serde(default)]
    pub needs: Needs,
}

impl Config {
    /// Returns the fields that must be set before a launch and are not.
    #[must_use]
    pub fn missing_for_launch(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.description.is_empty() {
            missing.push(ConfigField::Description.name());
        }
        if self.schedule.is_none() {
            missing.push(ConfigField::Schedule.name());
        }
        missing
    }
}

/// A field of the configuration that people may edit: the only list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigField {
    /// [`Config::display_name`].
    DisplayName,
    /// [`Config::description`].
    Description,
    /// [`Config::schedule`] as a whole.
    Schedule,
    /// The end time within the schedule.
    ScheduleEndTime,
    /// [`Config::retry_policy`].
    RetryPolicy,
    /// [`Config::pacing`].
    Pacing,
    /// [`Config::link_url`].
    LinkUrl,
    /// [`Config::allow_costly_numbers`].
    AllowCostlyNumbers,
    /// [`Needs::worker_pool`].
    WorkerPool,
    /// [`Needs::channels`].
    Channels,
}

impl ConfigField {
    /// All fields.
    pub const ALL: [Self; 10] = [
        Self::DisplayName,
        Self::Description,
        Self::Schedule,
        Self::ScheduleEndTime,
        Self::RetryPolicy,
        Self::Pacing,
        Self::LinkUrl,
        Self::AllowCostlyNumbers,
        Self::WorkerPool,
        Self::Channels,
    ];

    /// Returns the path in the API's update mask.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DisplayName => "display_name",
            Self::Description => "description",
            Self::Schedule => "schedule",
            Self::ScheduleEndTime => "schedule.end_time",
            Self::RetryPolicy => "retry_policy",
            Self::Pacing => "pacing",
            Self::LinkUrl => "link_url",
            Self::AllowCostlyNumbers => "allow_costly_numbers",
            Self::WorkerPool => "worker_pool",
            Self::Channels => "channels",
        }
    }

    /// Returns the field with this path.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name() == name)
    }

    /// Whether the field may change in a state. A scheduled or running run freezes all fields that
    /// decide whom it engages, and when.
    #[must_use]
    pub fn may_edit(self, state: State, is_live_forever: bool) -> bool {
        match state {
            State::Draft | State::Paused | State::Completed | State::Cancelled => true,
            State::Scheduled | State::Running => match self {
                Self::Description | Self::Pacing | Self::WorkerPool | Self::Channels => true,
                Self::ScheduleEndTime => is_live_forever,
                _ => false,
            },
        }
    }

    /// Copies the field from one configuration to another.
    ///
    /// # Errors
    /// [`NoSchedule`] if only the end time is given and there is no schedule to hold it.
    pub fn copy(self, from: &Config, to: &mut Config) -> Result<(), NoSchedule> {
        match self {
            Self::DisplayName => to.display_name.clone_from(&from.display_name),
            Self::Description => to.description.clone_from(&from.description),
            Self::Schedule => to.schedule.clone_from(&from.schedule),
            Self::ScheduleEndTime => {
                let schedule = to.schedule.as_mut().ok_or(NoSchedule)?;
                schedule.end_time = from.schedule.as_ref().and_then(|from| from.end_time);
            }
            Self::RetryPolicy => to.retry_policy = from.retry_policy,
            Self::Pacing => to.pacing = from.pacing,
            Self::LinkUrl => to.link_url.clone_from(&from.link_url),
            Self::AllowCostlyNumbers => to.allow_costly_numbers = from.allow_costly_numbers,
            Self::WorkerPool => to.needs.worker_pool.clone_from(&from.needs.worker_pool),
            Self::Channels => to.needs.channels.clone_from(&from.needs.channels),
        }
        Ok(())
    }
}

/// Error: the configuration has no schedule whose end time could be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schedule must be set as a whole first")]
pub struct NoSchedule;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_campaign_is_frozen() {
        for state in State::ALL {
            let is_open = !matches!(state, State::Running | State::Scheduled);
            for field in ConfigField::ALL {
                let is_harmless = matches!(
                    field,
                    ConfigField::Description
                        | ConfigField::Pacing
                        | ConfigField::WorkerPool
                        | ConfigField::Channels
                );
                let is_end = field == ConfigField::ScheduleEndTime;
                assert_eq!(field.may_edit(state, false), is_open || is_harmless, "{field:?}");
                let may_edit = is_open || is_harmless || is_end;
                assert_eq!(field.may_edit(state, true), may_edit, "{field:?} in {state:?}");
            }
        }
    }

    #[test]
    fn each_field_is_copied_alone() {
        let schedule = Schedule {
            start_time: None,
            end_time: Some(Instant::UNIX_EPOCH),
            time_zone: "UTC".to_owned(),
            windows: Vec::new(),
            blackout_dates: Vec::new(),
        };
        let mut retry_policy = RetryPolicy::default();
        retry_policy.busy.max_attempts += 1;
        let from = Config {
            display_name: "name".to_owned(),
            description: "description".to_owned(),
            schedule: Some(schedule.clone()),
            retry_policy,
            pacing: Pacing { weight: 7, ..Pacing::default() },
            link_url: "https://example.com".to_owned(),
            allow_costly_numbers: true,
            needs: Needs { worker_pool: "pool".to_owned(), channels: vec!["sms".to_owned()] },
        };
        let before = Config {
            schedule: Some(Schedule {
                end_time: None,
                time_zone: "Etc/GMT".to_owned(),
                ..schedule
            }),
            ..Config::default()
        };
        let mut seen = Vec::new();
        let mut all = before.clone();
        for field in ConfigField::ALL {
            assert_eq!(ConfigField::from_name(field.name()), Some(field));
            let mut one = before.clone();
            field.copy(&from, &mut one).expect("there is a schedule");
            assert_ne!(one, before, "{field:?} changes something");
            assert!(!seen.contains(&one), "{field:?} is not another field");
            seen.push(one);
            field.copy(&from, &mut all).expect("there is a schedule");
        }
        assert_eq!(all, from, "the list has every field");
        let no_schedule = ConfigField::ScheduleEndTime.copy(&from, &mut Config::default());
        assert_eq!(no_schedule, Err(NoSchedule));
    }

    #[test]
    fn a_launch_needs_description_and_schedule() {
        let config = Config::default();
        assert_eq!(config.missing_for_launch(), ["description", "schedule"]);
    }

    #[test]
    fn a_launch_starts_the_next_run_with_the_contacts_of_that_moment() {
        let now = Instant::UNIX_EPOCH;
        let draft = Campaign::draft(Uuid::nil(), Tenant::default(), Config::default(), now);
        assert!(!draft.is_dialling(now) && !draft.leaves_out_new_contacts());
        let settings = LaunchSettings { rerun_all_contacts: true, ..LaunchSettings::default() };
        let launched = draft.clone().launched(State::Running, settings, 5);
        assert_eq!((launched.run, launched.position_limit), (1, Some(5)));
        assert_eq!(launched.epoch, settings.epoch_after(draft.epoch, 1));
        assert_eq!(launched.rules().position_limit, Some(5));
        assert_eq!(launched.rules().epoch, draft.rules_of_next_run(settings).epoch);
        assert!(launched.is_dialling(now) && launched.leaves_out_new_contacts());
        assert!(!Campaign { is_deleted: true, ..launched.clone() }.is_dialling(now));
        let live = LaunchSettings { live_forever: true, ..settings };
        let live = launched.launched(State::Running, live, 9);
        assert_eq!((live.run, live.position_limit, live.is_live_forever()), (2, None, true));
        assert!(!live.leaves_out_new_contacts());
    }

    #[test]
    fn a_run_dials_until_its_end_and_for_ever_when_it_is_live() {
        let at = |seconds| Instant::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        let schedule = Schedule {
            start_time: Some(at(5)),
            end_time: Some(at(10)),
            time_zone: "UTC".to_owned(),
            windows: Vec::new(),
            blackout_dates: Vec::new(),
        };
        let config = Config { schedule: Some(schedule), ..Config::default() };
        let draft = Campaign::draft(Uuid::nil(), Tenant::default(), config, at(0));
        let plan = Plan { start_time: Some(at(5)), end_time: Some(at(10)), live_forever: false };
        assert_eq!(draft.plan(false), plan);
        assert_eq!(draft.plan(true), Plan { live_forever: true, ..plan });
        let run = |settings| draft.clone().launched(State::Running, settings, 1);
        let ending = LaunchSettings::default();
        assert!(run(ending).is_dialling(at(9)) && !run(ending).is_dialling(at(10)));
        assert!(run(LaunchSettings { live_forever: true, ..ending }).is_dialling(at(10)));
        let paused = Campaign { state: State::Paused, ..run(ending) };
        assert!(!paused.is_dialling(at(9)), "before the end, but stopped");
    }
}
