//! The model: campaigns as `design` describes them, written without the service's code. The model keeps every
//! event and answers each question by looking through them.

use campaign_proto::v1;
use campaign_proto::v1::{CallOutcome, CampaignState, ContactStanding, ExclusionReason};
use std::collections::BTreeMap;

/// Launch settings, with every default spelled out.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub refused: bool,
    /// Bound in seconds; `None` ignores transfers, -1 means any.
    pub transferred: Option<i32>,
    pub success: bool,
    pub link_opened: bool,
    pub texted: bool,
    pub rerun: bool,
    pub reset: bool,
    pub live: bool,
}

impl Settings {
    pub fn to_api(self) -> v1::LaunchSettings {
        use v1::TransferredExclusion as Api;
        let transferred = match self.transferred {
            None => Api::Ignore,
            Some(60) => Api::MoreThan60s,
            Some(90) => Api::MoreThan90s,
            Some(120) => Api::MoreThan120s,
            Some(_) => Api::AnyTime,
        };
        v1::LaunchSettings {
            exclude: Some(v1::Exclusions {
                refused: Some(self.refused),
                transferred: transferred.into(),
                success: self.success,
                link_opened: self.link_opened,
                texted: self.texted,
            }),
            rerun_all_contacts: self.rerun,
            reset_contact_history: self.reset,
            live_forever: self.live,
        }
    }
}

/// Kinds of facts of a contact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Transfer(i32),
    OptOut,
    Success,
    Link,
    Text,
    /// The person called in, and the call is over.
    CalledIn,
    /// An attempt is over; `was_unknown` until its outcome is reported.
    Ended {
        outcome: CallOutcome,
        was_unknown: bool,
    },
}

/// Outcomes after which a contact is never dialled again.
const FINAL: [CallOutcome; 3] =
    [CallOutcome::Answered, CallOutcome::Rejected, CallOutcome::InvalidNumber];

#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub kind: Kind,
    pub generation: i32,
    pub cycle: i32,
    /// Run of the campaign when the fact was recorded.
    pub run: i32,
}

impl Event {
    /// Returns whether it is an attempt in which nothing rang, and that counts for nothing. At most six of a cycle do,
    /// of which `before` came before this one.
    pub fn is_given_back(&self, before: usize) -> bool {
        let congested = Kind::Ended { outcome: CallOutcome::Congested, was_unknown: false };
        self.kind == congested && before < 6
    }
}

/// Hold of a worker on a contact.
#[derive(Clone, Debug)]
pub struct Hold {
    pub run: i32,
    pub generation: i32,
    pub cycle: i32,
    pub is_in_call: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Contact {
    pub events: Vec<Event>,
    pub is_suppressed: bool,
    pub is_deleted: bool,
    /// Holds of this and older runs. There are several if a run was cancelled with the contact held.
    pub holds: Vec<Hold>,
    /// Whether the end of its last call is unknown, so that the phone may still ring.
    pub may_ring: bool,
    /// Whether it called in and the end of that call was not reported.
    pub is_calling_in: bool,
    /// Generation and cycle in which the contact waits, since a call of an earlier one had an unknown end.
    pub waits_in: Option<(i32, i32)>,
}

/// Returns the most attempts, and whether the wait is longer than any test.
fn retry_rule(outcome: CallOutcome) -> (usize, bool) {
    match outcome {
        CallOutcome::NoAnswer | CallOutcome::Cancelled => (3, false),
        CallOutcome::Busy | CallOutcome::Abandoned => (2, false),
        CallOutcome::Voicemail => (2, true),
        CallOutcome::Unknown => (2, true),
        _ => (1, false),
    }
}

impl Contact {
    fn events(&self, generation: i32) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.generation == generation)
    }

    /// Replaces the outcome of the last attempt of a cycle that ended like this.
    pub fn correct(&mut self, cycle: i32, before: CallOutcome, after: CallOutcome) {
        let ended = self.events.iter_mut().rev().find_map(|event| match &mut event.kind {
            Kind::Ended { outcome, .. } if *outcome == before && event.cycle == cycle => {
                Some(outcome)
            }
            _ => None,
        });
        *ended.unwrap() = after;
    }

    /// Returns the attempts of a generation in which nothing rang, and that count for nothing. Those of a cycle that is
    /// over are not limited.
    pub fn given_back(&self, generation: i32) -> usize {
        let mut by_cycle: BTreeMap<i32, usize> = BTreeMap::new();
        for event in self.events(generation) {
            let before = by_cycle.entry(event.cycle).or_default();
            *before += usize::from(event.is_given_back(*before));
        }
        by_cycle.values().sum()
    }

    /// Returns whether the attempts of a cycle leave the contact finished, and whether it has to wait.
    fn attempts(&self, generation: i32, cycle: i32) -> (bool, bool) {
        let (mut count, mut given_back, mut is_finished, mut waits) = (0, 0, false, false);
        for event in self.events(generation).filter(|event| event.cycle == cycle) {
            is_finished |= event.kind == Kind::CalledIn;
            if let Kind::Ended { outcome, was_unknown } = event.kind {
                if event.is_given_back(given_back) {
                    given_back += 1;
                    waits = false;
                    continue;
                }
                count += 1;
                let judged = if was_unknown { CallOutcome::Unknown } else { outcome };
                let (most, is_long) = retry_rule(judged);
                is_finished |= FINAL.contains(&outcome) || count >= most;
                waits = is_long;
            }
        }
        (is_finished, waits && !is_finished)
    }
}

/// Model of one campaign.
#[derive(Clone, Debug)]
pub struct Model {
    pub state: CampaignState,
    pub run: i32,
    pub generation: i32,
    pub cycle: i32,
    pub settings: Settings,
    /// Number of contacts of a run that is not live.
    pub size_at_launch: usize,
    pub contacts: Vec<Contact>,
    /// Generation and cycle of each launch, each with whether a day has passed since.
    launches: Vec<(i32, i32, bool)>,
    /// Whether the hours are open.
    pub is_open: bool,
}

pub const DEFAULT_SETTINGS: Settings = Settings {
    refused: true,
    transferred: None,
    success: false,
    link_opened: false,
    texted: false,
    rerun: false,
    reset: false,
    live: false,
};

/// View of a run on the history: its number, history generation, cycle and settings.
#[derive(Clone, Copy, Debug)]
pub struct View {
    run: i32,
    generation: i32,
    cycle: i32,
    settings: Settings,
    size: usize,
}

/// Verdict of the rules on a contact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Eligible,
    Waits,
    Removed(ExclusionReason),
}

impl Model {
    pub fn new() -> Self {
        Self {
            state: CampaignState::Draft,
            run: 0,
            generation: 0,
            cycle: 0,
            settings: DEFAULT_SETTINGS,
            size_at_launch: usize::MAX,
            contacts: Vec::new(),
            launches: Vec::new(),
            is_open: true,
        }
    }

    pub fn is_active(&self) -> bool {
        matches!(self.state, CampaignState::Running | CampaignState::Paused)
    }

    /// Returns the view of the current run, or of one with default settings.
    pub fn view(&self) -> View {
        if self.run == 0 {
            return self.next_view(DEFAULT_SETTINGS);
        }
        let (run, generation, cycle) = (self.run, self.generation, self.cycle);
        let size = if self.settings.live { usize::MAX } else { self.size_at_launch };
        View { run, generation, cycle, settings: self.settings, size }
    }

    /// Returns the view of the run that a launch would begin.
    pub fn next_view(&self, settings: Settings) -> View {
        let run = self.run + 1;
        let is_fresh = settings.rerun || settings.reset;
        View {
            run,
            generation: self.generation + i32::from(settings.reset),
            cycle: if is_fresh { run } else { self.cycle },
            settings,
            size: usize::MAX,
        }
    }

    pub fn launch(&mut self, settings: Settings) {
        let view = self.next_view(settings);
        self.state = CampaignState::Running;
        (self.run, self.generation, self.cycle) = (view.run, view.generation, view.cycle);
        self.launches.push((view.generation, view.cycle, false));
        self.settings = settings;
        self.size_at_launch = self.contacts.len();
        if settings.rerun || settings.reset {
            for contact in self.contacts.iter_mut().filter(|contact| contact.may_ring) {
                contact.waits_in = Some((view.generation, view.cycle));
            }
        }
    }

    pub fn verdict(&self, view: &View, position: usize) -> Verdict {
        use ExclusionReason as Reason;
        let contact = &self.contacts[position];
        let settings = view.settings;
        if position >= view.size {
            return Verdict::Removed(Reason::NotInRun);
        }
        if contact.is_suppressed {
            return Verdict::Removed(Reason::Suppressed);
        }
        let mut opt_outs =
            contact.events(view.generation).filter(|event| event.kind == Kind::OptOut).peekable();
        let is_refused = opt_outs.peek().is_some();
        let since_launch = opt_outs.any(|event| event.run >= view.run);
        if is_refused && (settings.refused || settings.rerun || since_launch) {
            return Verdict::Removed(Reason::Refused);
        }
        let counts = |event: &&Event| !settings.rerun || event.cycle == view.cycle;
        let happened = |wanted: &dyn Fn(&Kind) -> bool| {
            contact.events(view.generation).filter(counts).any(|event| wanted(&event.kind))
        };
        let is_over =
            |bound| happened(&|kind| matches!(kind, Kind::Transfer(seconds) if *seconds > bound));
        if settings.transferred.is_some_and(is_over) {
            return Verdict::Removed(Reason::Transferred);
        }
        if settings.success && happened(&|kind| *kind == Kind::Success) {
            return Verdict::Removed(Reason::Success);
        }
        if settings.link_opened && happened(&|kind| *kind == Kind::Link) {
            return Verdict::Removed(Reason::LinkOpened);
        }
        if settings.texted && happened(&|kind| *kind == Kind::Text) {
            return Verdict::Removed(Reason::Texted);
        }
        let is_held_off = contact.waits_in == Some((view.generation, view.cycle));
        match contact.attempts(view.generation, view.cycle) {
            (true, _) => Verdict::Removed(Reason::Finished),
            (false, waits) if waits || is_held_off || contact.is_calling_in => Verdict::Waits,
            (false, _) => Verdict::Eligible,
        }
    }

    pub fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.contacts.len()).filter(|position| !self.contacts[*position].is_deleted)
    }

    /// Returns the standing of a contact that is in a call, or held by this run.
    fn held(&self, position: usize) -> Option<ContactStanding> {
        let holds = &self.contacts[position].holds;
        if holds.iter().any(|hold| hold.is_in_call) {
            return Some(ContactStanding::InCall);
        }
        let of_run = holds.iter().any(|hold| hold.run == self.run);
        of_run.then_some(ContactStanding::Leased)
    }

    pub fn standing(&self, position: usize) -> (ContactStanding, ExclusionReason) {
        let none = ExclusionReason::Unspecified;
        match (self.held(position), self.verdict(&self.view(), position)) {
            (Some(ContactStanding::InCall), _) => (ContactStanding::InCall, none),
            (_, Verdict::Removed(reason)) => (ContactStanding::Removed, reason),
            (Some(held), _) => (held, none),
            (None, Verdict::Waits) => (ContactStanding::WaitingRetry, none),
            (None, Verdict::Eligible) => (ContactStanding::Waiting, none),
        }
    }

    /// Returns the contacts that a worker with unlimited credit gets now.
    pub fn leasable(&self) -> Vec<usize> {
        if self.state != CampaignState::Running || !self.is_open {
            return Vec::new();
        }
        let view = self.view();
        self.present()
            .filter(|position| self.held(*position).is_none())
            .filter(|position| self.verdict(&view, *position) == Verdict::Eligible)
            .collect()
    }

    /// Returns the contacts eligible now or later, and those removed by each reason, as a preview counts them.
    pub fn preview(&self, settings: Settings) -> (i64, BTreeMap<i32, i64>) {
        let view = self.next_view(settings);
        let (mut eligible, mut removed) = (0, BTreeMap::new());
        for position in self.present() {
            match self.verdict(&view, position) {
                Verdict::Eligible | Verdict::Waits => eligible += 1,
                Verdict::Removed(reason) => *removed.entry(reason as i32).or_default() += 1,
            }
        }
        (eligible, removed)
    }

    /// Lets a day pass.
    pub fn age(&mut self) {
        self.launches.iter_mut().for_each(|(_, _, is_old)| *is_old = true);
    }

    /// Records a fact that happened an hour ago. Returns false if a reset since has made the fact void. The fact
    /// belongs to the last launch before it. An opt-out counts as of now, whenever it happened.
    pub fn record_late(&mut self, position: usize, kind: Kind) -> bool {
        let before = self.launches.iter().rev().find(|(_, _, is_old)| *is_old);
        let (mut generation, mut cycle) = before.map_or((0, 0), |launch| (launch.0, launch.1));
        if kind == Kind::OptOut {
            (generation, cycle) = (self.generation, self.cycle);
        }
        if generation < self.generation {
            return false;
        }
        self.contacts[position].events.push(Event { kind, generation, cycle, run: self.run });
        true
    }

    /// Returns whether an inbound call of the contact is answered.
    pub fn answers(&self, position: usize) -> bool {
        let contact = &self.contacts[position];
        let is_refused = contact.events(self.generation).any(|event| event.kind == Kind::OptOut);
        let is_on = self.state == CampaignState::Running && self.is_open;
        is_on && !contact.is_suppressed && !is_refused
    }

    /// Records a fact that happened now.
    pub fn record(&mut self, position: usize, kind: Kind) {
        let (generation, cycle, run) = (self.generation, self.cycle, self.run);
        self.contacts[position].events.push(Event { kind, generation, cycle, run });
    }

    /// Records the end of an attempt, which belongs to the run that made it. Returns false if a reset has made the
    /// end void.
    pub fn end(&mut self, position: usize, hold: &Hold, kind: Kind) -> bool {
        if hold.generation < self.generation {
            return false;
        }
        let (generation, run) = (self.generation, self.run);
        let event = Event { kind, generation, cycle: hold.cycle, run };
        self.contacts[position].events.push(event);
        true
    }

    /// Lets all leases expire, as if every worker were gone for longer than a lease.
    pub fn expire(&mut self) {
        for position in 0..self.contacts.len() {
            for hold in std::mem::take(&mut self.contacts[position].holds) {
                if hold.is_in_call {
                    self.contacts[position].may_ring = true;
                    let now = (self.generation, self.cycle);
                    if (hold.generation, hold.cycle) != now {
                        self.contacts[position].waits_in = Some(now);
                    }
                    let outcome = CallOutcome::Unknown;
                    self.end(position, &hold, Kind::Ended { outcome, was_unknown: true });
                }
            }
        }
    }

    /// Returns whether no contact of the run is left to engage.
    pub fn is_done(&self) -> bool {
        let someone_held = self.contacts.iter().any(|contact| !contact.holds.is_empty());
        let view = self.view();
        let someone_left = self
            .present()
            .any(|position| !matches!(self.verdict(&view, position), Verdict::Removed(_)));
        !someone_held && !someone_left
    }
}
