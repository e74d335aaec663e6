//! State machine of a campaign. [`transition`] is the only place that knows its table.

use crate::Instant;
use serde::{Deserialize, Serialize};

/// State of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not launched yet.
    Draft,
    /// Launched; the start is in the future.
    Scheduled,
    /// Engaging contacts.
    Running,
    /// Paused until it is resumed or cancelled; then continues the same run.
    Paused,
    /// Ended: the list is done or the end time was reached.
    Completed,
    /// Cancelled for good; only a new launch engages contacts again.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Draft,
        Self::Scheduled,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Cancelled,
    ];

    /// Returns the name used in the API, the database and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Scheduled => "SCHEDULED",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Completed => "COMPLETED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Returns the state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a run is under way.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Scheduled | Self::Running | Self::Paused)
    }
}

/// Command that changes a campaign's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A person starts a new run.
    Launch,
    /// The clock reached the scheduled start.
    Start,
    /// A person pauses the run.
    Pause,
    /// A person resumes the run.
    Resume,
    /// A person ends the run for good.
    Cancel,
    /// The list is done or the clock reached the end.
    Complete,
}

impl Command {
    /// All commands.
    pub const ALL: [Self; 6] =
        [Self::Launch, Self::Start, Self::Pause, Self::Resume, Self::Cancel, Self::Complete];

    /// Returns the name used in the audit log and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "LAUNCH",
            Self::Start => "START",
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Cancel => "CANCEL",
            Self::Complete => "COMPLETE",
        }
    }

    /// Whether people give the command, rather than the clock.
    #[must_use]
    pub fn is_given_by_people(self) -> bool {
        !matches!(self, Self::Start | Self::Complete)
    }
}

/// Inputs of the table besides the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Earliest time of a call.
    pub start_time: Option<Instant>,
    /// End of a run that is not live forever.
    pub end_time: Option<Instant>,
    /// Whether the run is live forever. For Launch, this is the new run.
    pub live_forever: bool,
}

impl Plan {
    /// Whether the run's end has come.
    #[must_use]
    pub fn has_ended(&self, now: Instant) -> bool {
        !self.live_forever && self.end_time.is_some_and(|end| end <= now)
    }

    fn starts_later(&self, now: Instant) -> bool {
        self.start_time.is_some_and(|start| start > now)
    }
}

/// Rejection of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// State at the time of the command.
    pub state: State,
    /// Command that was rejected.
    pub command: Command,
    /// Rule that rejected the command.
    pub cause: RefusalCause,
}

/// Rule that rejects a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// The table has no such transition.
    State,
    /// The start is in the future.
    NotStarted,
    /// The end time has passed.
    Ended,
    /// A run that is live forever has no end.
    LiveForever,
}

impl Refusal {
    /// Returns the commands that people can give in this state. The rejected command is not among
    /// them.
    #[must_use]
    pub fn allowed(&self) -> Vec<Command> {
        let mut allowed = allowed_commands(self.state);
        allowed.retain(|command| *command != self.command);
        allowed
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.cause {
            RefusalCause::Ended => {
                f.write_str("schedule.end_time has passed; set a later one")?;
                let is_launch = self.command == Command::Launch;
                f.write_str(if is_launch { " or launch with live_forever" } else { "" })
            }
            RefusalCause::NotStarted => f.write_str("the start time lies ahead"),
            RefusalCause::LiveForever => {
                f.write_str("the run is live forever and does not complete")
            }
            RefusalCause::State => {
                let allowed: Vec<&str> = self.allowed().into_iter().map(Command::name).collect();
                let (command, state) = (self.command.name().to_lowercase(), self.state.name());
                let allowed = allowed.join(", ");
                write!(f, "cannot {command} a campaign that is {state}; allowed now: {allowed}")
            }
        }
    }
}

/// Returns the commands that people can give in a state.
#[must_use]
pub fn allowed_commands(state: State) -> Vec<Command> {
    Command::ALL
        .into_iter()
        .filter(|command| command.is_given_by_people() && is_in_table(state, *command))
        .collect()
}

/// Returns the state after a command.
///
/// # Errors
/// [`Refusal`] that names the state, the command and the rule.
pub fn transition(
    state: State,
    command: Command,
    plan: &Plan,
    now: Instant,
) -> Result<State, Refusal> {
    let refuse = |cause| Err(Refusal { state, command, cause });
    let running_or_scheduled =
        if plan.starts_later(now) { State::Scheduled } else { State::Running };
    match (command, state) {
        (Command::Launch, State::Draft | State::Completed | State::Cancelled) => {
            if plan.has_ended(now) {
                return refuse(RefusalCause::Ended);
            }
            Ok(running_or_scheduled)
        }
        (Command::Start, State::Scheduled) => {
            if plan.starts_later(now) {
                return refuse(RefusalCause::NotStarted);
            }
            Ok(State::Running)
        }
        (Command::Pause, State::Running | State::Scheduled) => Ok(State::Paused),
        (Command::Resume, State::Paused) => {
            if plan.has_ended(now) {
                return refuse(RefusalCause::Ended);
            }
            Ok(running_or_scheduled)
        }
        (Command::Cancel, State::Scheduled | State::Running | State::Paused) => {
            Ok(State::Cancelled)
        }
        // A paused run never completes, because it can be resumed at any time.
        (Command::Complete, State::Running) => {
            if plan.live_forever {
                return refuse(RefusalCause::LiveForever);
            }
            Ok(State::Completed)
        }
        _ => refuse(RefusalCause::State),
    }
}

/// Whether the table has the transition under any plan.
fn is_in_table(state: State, command: Command) -> bool {
    !possible_targets(state, command).is_empty()
}

/// Returns the states that a command can lead to. Asks [`transition`] with every kind of plan.
fn possible_targets(state: State, command: Command) -> Vec<State> {
    let now = Instant::UNIX_EPOCH;
    let later = now + chrono::TimeDelta::seconds(1);
    let mut targets = Vec::new();
    for start_time in [None, Some(later)] {
        let plan = Plan { start_time, ..Plan::default() };
        if let Ok(target) = transition(state, command, &plan, now)
            && !targets.contains(&target)
        {
            targets.push(target);
        }
    }
    targets
}

/// Returns the state machine as a Mermaid diagram, built by asking [`transition`].
#[must_use]
pub fn diagram() -> String {
    let mut lines = vec!["stateDiagram-v2".to_owned(), "    [*] --> DRAFT".to_owned()];
    for state in State::ALL {
        for command in Command::ALL {
            for target in possible_targets(state, command) {
                lines.push(format!(
                    "    {} --> {}: {}",
                    state.name(),
                    target.name(),
                    command.name()
                ));
            }
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use Command::{Cancel, Complete, Launch, Pause, Resume, Start};
    use State::{Cancelled, Completed, Draft, Paused, Running, Scheduled};

    fn at(seconds: i64) -> Instant {
        Instant::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)
    }

    fn run(state: State, command: Command, plan: Plan) -> Result<State, RefusalCause> {
        transition(state, command, &plan, at(100)).map_err(|refusal| {
            assert_eq!((refusal.state, refusal.command), (state, command));
            refusal.cause
        })
    }

    /// Every cell, written out by hand: rows are states, columns are commands.
    #[test]
    fn every_cell_without_times() {
        let no = Err(RefusalCause::State);
        let commands = [Launch, Start, Pause, Resume, Cancel, Complete];
        let table = [
            (Draft, [Ok(Running), no, no, no, no, no]),
            (Scheduled, [no, Ok(Running), Ok(Paused), no, Ok(Cancelled), no]),
            (Running, [no, no, Ok(Paused), no, Ok(Cancelled), Ok(Completed)]),
            (Paused, [no, no, no, Ok(Running), Ok(Cancelled), no]),
            (Completed, [Ok(Running), no, no, no, no, no]),
            (Cancelled, [Ok(Running), no, no, no, no, no]),
        ];
        for (state, row) in table {
            for (command, expected) in commands.into_iter().zip(row) {
                assert_eq!(run(state, command, Plan::default()), expected, "{state:?} {command:?}");
            }
        }
    }

    #[test]
    fn every_cell_with_the_start_ahead() {
        let plan = Plan { start_time: Some(at(101)), ..Plan::default() };
        let no = Err(RefusalCause::State);
        let commands = [Launch, Start, Pause, Resume, Cancel, Complete];
        let table = [
            (Draft, [Ok(Scheduled), no, no, no, no, no]),
            (Scheduled, [no, Err(RefusalCause::NotStarted), Ok(Paused), no, Ok(Cancelled), no]),
            (Running, [no, no, Ok(Paused), no, Ok(Cancelled), Ok(Completed)]),
            (Paused, [no, no, no, Ok(Scheduled), Ok(Cancelled), no]),
            (Completed, [Ok(Scheduled), no, no, no, no, no]),
            (Cancelled, [Ok(Scheduled), no, no, no, no, no]),
        ];
        for (state, row) in table {
            for (command, expected) in commands.into_iter().zip(row) {
                assert_eq!(run(state, command, plan), expected, "{state:?} {command:?}");
            }
        }
    }

    #[test]
    fn the_start_is_in_and_the_end_is_out() {
        let starts_now = Plan { start_time: Some(at(100)), ..Plan::default() };
        assert_eq!(run(Draft, Launch, starts_now), Ok(Running));
        assert_eq!(run(Scheduled, Start, starts_now), Ok(Running));
        let ends_now = Plan { end_time: Some(at(100)), ..Plan::default() };
        assert_eq!(run(Draft, Launch, ends_now), Err(RefusalCause::Ended));
        let ends_later = Plan { end_time: Some(at(101)), ..Plan::default() };
        assert_eq!(run(Draft, Launch, ends_later), Ok(Running));
    }

    #[test]
    fn a_paused_run_is_resumed_only_before_its_end() {
        let ended = Plan { end_time: Some(at(100)), ..Plan::default() };
        assert_eq!(run(Paused, Resume, ended), Err(RefusalCause::Ended));
        assert_eq!(run(Paused, Complete, ended), Err(RefusalCause::State));
        assert_eq!(run(Paused, Cancel, ended), Ok(Cancelled));
        let open = Plan { end_time: Some(at(101)), ..Plan::default() };
        assert_eq!(run(Paused, Resume, open), Ok(Running));
        let live = Plan { live_forever: true, ..ended };
        assert_eq!(run(Paused, Resume, live), Ok(Running));
    }

    #[test]
    fn a_refusal_never_names_the_refused_command_as_allowed() {
        for state in State::ALL {
            for command in Command::ALL {
                let plan = Plan { end_time: Some(at(0)), ..Plan::default() };
                if let Err(refusal) = transition(state, command, &plan, at(100)) {
                    assert!(!refusal.allowed().contains(&command), "{state:?} {command:?}");
                }
            }
        }
    }

    #[test]
    fn live_forever_has_no_end() {
        let plan = Plan { end_time: Some(at(1)), live_forever: true, ..Plan::default() };
        assert_eq!(run(Draft, Launch, plan), Ok(Running));
        assert_eq!(run(Running, Complete, plan), Err(RefusalCause::LiveForever));
        assert_eq!(run(Running, Cancel, plan), Ok(Cancelled));
    }

    #[test]
    fn a_refusal_names_what_people_can_do() {
        assert_eq!(allowed_commands(Draft), [Launch]);
        assert_eq!(allowed_commands(Scheduled), [Pause, Cancel]);
        assert_eq!(allowed_commands(Running), [Pause, Cancel]);
        assert_eq!(allowed_commands(Paused), [Resume, Cancel]);
        assert_eq!(allowed_commands(Completed), [Launch]);
        assert_eq!(allowed_commands(Cancelled), [Launch]);
    }

    #[test]
    fn a_run_is_under_way_from_its_launch_to_its_end() {
        for state in [Scheduled, Running, Paused] {
            assert!(state.is_active(), "{state:?}");
        }
        for state in [Draft, Completed, Cancelled] {
            assert!(!state.is_active(), "{state:?}");
        }
    }

    #[test]
    fn states_are_known_by_names_that_never_change() {
        let names = ["DRAFT", "SCHEDULED", "RUNNING", "PAUSED", "COMPLETED", "CANCELLED"];
        assert_eq!(State::ALL.map(State::name), names);
        assert_eq!(names.map(State::from_name), State::ALL.map(Some));
        assert_eq!(State::from_name("running"), None);
    }

    #[test]
    fn the_diagram_has_a_line_for_each_step() {
        let diagram = diagram();
        let lines: Vec<&str> = diagram.lines().collect();
        assert_eq!(lines.len(), 2 + 15, "{diagram}");
        for step in ["DRAFT --> SCHEDULED: LAUNCH", "PAUSED --> RUNNING: RESUME"] {
            assert!(lines.contains(&&*format!("    {step}")), "{diagram}");
        }
        assert!(diagram.ends_with('\n'));
    }

    #[test]
    fn a_refusal_says_in_words_how_to_go_on() {
        let ended = Plan { end_time: Some(at(100)), ..Plan::default() };
        let ahead = Plan { start_time: Some(at(101)), ..Plan::default() };
        let live = Plan { live_forever: true, ..Plan::default() };
        for (state, command, plan, text) in [
            (
                Running,
                Launch,
                live,
                "cannot launch a campaign that is RUNNING; allowed now: PAUSE, CANCEL",
            ),
            (
                Draft,
                Launch,
                ended,
                "schedule.end_time has passed; set a later one or launch with live_forever",
            ),
            (Paused, Resume, ended, "schedule.end_time has passed; set a later one"),
            (Scheduled, Start, ahead, "the start time lies ahead"),
            (Running, Complete, live, "the run is live forever and does not complete"),
        ] {
            let refusal = transition(state, command, &plan, at(100)).expect_err("refused");
            assert_eq!(refusal.to_string(), text);
        }
        let refusal = transition(Paused, Resume, &ended, at(100)).expect_err("refused");
        assert_eq!(refusal.allowed(), [Cancel], "and not the same again");
    }
}
