//! Circuit breaker: stops dialling while the provider fails, so that contacts lose no attempts to
//! it.
//!
//! Two things count: calls that the provider failed, and calls of different contacts that ended with
//! one code before any phone rang. The second shows a provider that rejects everybody, whatever its
//! code says. A phone that rings, or an answer, takes both counts back to zero. Calls begun before
//! that do not count as alike: rejections come quicker than rings, so they come in clusters.
//!
//! Calls without their AI agent count apart: a person who rings up shows nothing of the agent.
//!
//! While there is doubt, as many calls are set up at a time as may still fail. So a broken provider
//! costs no more contacts an attempt than were being set up when it broke.
//!
//! ```text
//! closed ── failures in a row ──► open ── delay ──► probing ── works ──► trial ── a call works ──► closed
//!                                  ▲                   │ fails             │ a call fails
//!                                  └─── longer delay ──┴───────────────────┘
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::call::Fault;

/// Cap of the probe delay, as a multiple of the first delay. Each failed probe doubles the delay.
const MAX_DELAY_FACTOR: u32 = 32;
/// Longest delay that a provider may ask for.
const MAX_ASKED_DELAY: Duration = Duration::from_secs(3_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Closed,
    Open { probe_at: Instant },
    Probing,
    Trial,
}

/// Circuit breaker between the worker and its provider.
#[derive(Debug)]
pub(crate) struct Breaker {
    max_failures: u32,
    first_delay: Duration,
    delay: Duration,
    position: Position,
    /// Calls in a row that the provider failed.
    failures: u32,
    /// Code with which calls in a row ended before any phone rang, and their contacts.
    unrung: Option<(u16, BTreeSet<String>)>,
    /// Calls in a row that were answered and had no agent.
    agentless: u32,
    /// Whether calls tell that the provider works.
    tells_health: bool,
    /// Whether an agent has yet to show that it comes.
    awaits_agent: bool,
    has_agent: bool,
    /// Time at which a call last told that.
    proven_at: Option<Instant>,
    /// Fault that last stopped dialling.
    fault: Option<Fault>,
}

impl Breaker {
    /// Creates a closed breaker. `tells_health` says whether the provider's calls tell that it works,
    /// `has_agent` whether an AI agent must come to them.
    pub fn new(
        max_failures: u32,
        first_delay: Duration,
        tells_health: bool,
        has_agent: bool,
    ) -> Self {
        Self {
            max_failures,
            first_delay,
            delay: first_delay,
            position: Position::Closed,
            failures: 0,
            unrung: None,
            agentless: 0,
            tells_health,
            awaits_agent: has_agent,
            has_agent,
            proven_at: None,
            fault: None,
        }
    }

    /// Whether the worker may request contacts and keep them.
    pub fn is_closed(&self) -> bool {
        self.position == Position::Closed
    }

    /// Returns the fault that stops dialling or limits it to a trial call.
    pub fn failure(&self) -> Option<String> {
        let fault = self.fault.filter(|_| !self.is_closed())?;
        Some(format!("the provider failed several calls in a row, the last with: {fault}"))
    }

    /// Whether an AI agent must come to each call.
    pub fn awaits_agents(&self) -> bool {
        self.has_agent
    }

    /// Whether waiting contacts must be released.
    pub fn is_open(&self) -> bool {
        matches!(self.position, Position::Open { .. } | Position::Probing)
    }

    /// Returns how many calls may be set up at once.
    pub fn max_setups(&self) -> usize {
        match self.position {
            Position::Closed => self.max_doubtful_setups(),
            Position::Trial => 1,
            Position::Open { .. } | Position::Probing => 0,
        }
    }

    /// Returns when the next probe of the provider is due.
    pub fn probe_at(&self) -> Option<Instant> {
        match self.position {
            Position::Open { probe_at } => Some(probe_at),
            _ => None,
        }
    }

    /// Reports whether a probe is due, and starts it. Each probe is started once.
    pub fn take_probe(&mut self, now: Instant) -> bool {
        let is_due = self.probe_at().is_some_and(|at| at <= now);
        if is_due {
            self.position = Position::Probing;
        }
        is_due
    }

    /// Records whether the provider answered a probe.
    pub fn probed(&mut self, works: bool, now: Instant) {
        if self.position != Position::Probing {
            return;
        }
        if works {
            info!("the provider answers again; trying one call");
            self.position = Position::Trial;
        } else {
            self.open_for_longer("it does not answer yet", Duration::ZERO, now);
        }
    }

    /// Records that the provider did its part in a call.
    pub fn works(&mut self, now: Instant) {
        match self.position {
            // The news belongs to a call from before the fault.
            Position::Open { .. } | Position::Probing => return,
            // A phone rings, and the agent has yet to come.
            Position::Trial if self.fault == Some(Fault::NoAgent) && self.awaits_agent => return,
            Position::Trial => info!("the provider works again; dialling goes on"),
            Position::Closed => {}
        }
        self.delay = self.first_delay;
        self.position = Position::Closed;
        (self.failures, self.unrung, self.proven_at) = (0, None, Some(now));
    }

    /// Records that the AI agent came to a call.
    pub fn agent_works(&mut self, now: Instant) {
        if !self.is_open() {
            (self.agentless, self.awaits_agent) = (0, false);
            self.works(now);
        }
    }

    /// Records that the provider failed a call. Returns whether that failure stops dialling.
    /// `retry_after` is the delay that the provider asks for.
    pub fn failed(&mut self, fault: Fault, retry_after: Option<Duration>, now: Instant) -> bool {
        let least = retry_after.unwrap_or_default().min(MAX_ASKED_DELAY);
        match self.position {
            Position::Closed => {
                let stops = self.failures_after(fault) >= self.max_failures;
                if stops {
                    self.open(fault, least, now);
                }
                stops
            }
            Position::Trial => {
                self.fault = Some(fault);
                self.open_for_longer("the call tried failed", least, now);
                true
            }
            Position::Open { .. } | Position::Probing => false,
        }
    }

    /// Records that the call of a contact, begun at some time, ended with a code before any phone
    /// rang. Returns whether that stops dialling.
    pub fn ended_unrung(
        &mut self,
        code: u16,
        contact: &str,
        begun_at: Instant,
        now: Instant,
    ) -> bool {
        match self.position {
            Position::Closed if self.proven_at.is_some_and(|at| begun_at < at) => return false,
            Position::Closed => {}
            Position::Trial if self.fault == Some(Fault::Alike(code)) => {
                self.open_for_longer("the call tried ended like those before", Duration::ZERO, now);
                return true;
            }
            Position::Trial => {
                self.works(now);
                return false;
            }
            Position::Open { .. } | Position::Probing => return false,
        }
        let alike = match &mut self.unrung {
            Some((last, contacts)) if *last == code => contacts,
            other => &mut other.insert((code, BTreeSet::new())).1,
        };
        alike.insert(contact.to_owned());
        let stops = self.unrung_calls() >= self.max_failures;
        if stops {
            self.open(Fault::Alike(code), Duration::ZERO, now);
        }
        stops
    }

    /// Counts a failure. Returns how many there were in a row.
    fn failures_after(&mut self, fault: Fault) -> u32 {
        let failures = match fault {
            Fault::NoAgent => &mut self.agentless,
            _ => &mut self.failures,
        };
        *failures += 1;
        *failures
    }

    /// Returns the number of different contacts whose calls in a row ended alike.
    fn unrung_calls(&self) -> u32 {
        let calls = self.unrung.as_ref().map_or(0, |(_, contacts)| contacts.len());
        u32::try_from(calls).unwrap_or(u32::MAX)
    }

    /// Returns how many calls may be set up at once while nothing has stopped dialling.
    fn max_doubtful_setups(&self) -> usize {
        let doubts = self.failures.max(self.agentless).max(self.unrung_calls());
        let is_proven = self.proven_at.is_some() || !self.tells_health;
        if is_proven && !self.awaits_agent && doubts == 0 {
            return usize::MAX;
        }
        usize::try_from(self.max_failures.saturating_sub(doubts)).unwrap_or(usize::MAX).max(1)
    }

    /// Stops dialling, for `least` at least.
    fn open(&mut self, fault: Fault, least: Duration, now: Instant) {
        let delay = self.delay.max(least);
        warn!(
            failures = self.max_failures,
            probe_after = ?delay,
            "the provider failed several calls in a row, the last with: {fault}. Dialling stops and \
             contacts are given back until it works; look at the provider"
        );
        self.position = Position::Open { probe_at: now + delay };
        (self.failures, self.unrung, self.agentless) = (0, None, 0);
        self.awaits_agent = self.has_agent;
        self.fault = Some(fault);
    }

    fn open_for_longer(&mut self, why: &str, least: Duration, now: Instant) {
        self.delay = (self.delay * 2).min(self.first_delay * MAX_DELAY_FACTOR);
        let delay = self.delay.max(least);
        warn!(probe_after = ?delay, "the provider still fails: {why}");
        self.position = Position::Open { probe_at: now + delay };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(10);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, DELAY, false, false);
        let opened: Vec<_> = (0..3).map(|_| breaker.failed(Fault::Silent, None, now)).collect();
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[test]
    fn opens_only_after_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, DELAY, false, false);
        for _ in 0..5 {
            assert!(!breaker.failed(Fault::Refusing(503), None, now));
            breaker.works(now);
        }
        assert_eq!((breaker.is_closed(), breaker.max_setups()), (true, usize::MAX));
        assert!(!breaker.failed(Fault::Silent, None, now));
        assert!(breaker.failed(Fault::Silent, None, now));
        assert_eq!((breaker.is_open(), breaker.max_setups()), (true, 0));
        assert!(breaker.failure().is_some_and(|why| why.ends_with("no answer in time")));
    }

    #[test]
    fn one_call_is_tried_after_a_probe_and_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.works(now);
        assert!(breaker.is_open(), "news of a call from before the fault changes nothing");
        assert!(!breaker.take_probe(now + DELAY / 2));
        assert!(breaker.take_probe(now + DELAY));
        assert!(!breaker.take_probe(now + DELAY), "once");
        breaker.probed(true, now + DELAY);
        assert_eq!(
            (breaker.is_open(), breaker.is_closed(), breaker.max_setups()),
            (false, false, 1)
        );
        assert!(breaker.failure().is_some(), "a trial call does not end the failure");
        breaker.works(now);
        assert!(breaker.is_closed());
        assert_eq!(breaker.failure(), None);
    }

    #[test]
    fn each_failure_doubles_the_delay_up_to_a_limit_and_success_resets_it() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut delay = DELAY;
        for round in 0..10 {
            now += delay;
            assert!(breaker.take_probe(now), "round {round}");
            breaker.probed(round % 2 == 0, now);
            if round % 2 == 0 {
                assert!(breaker.failed(Fault::Unreachable, None, now));
            }
            delay = (delay * 2).min(DELAY * MAX_DELAY_FACTOR);
            assert_eq!(breaker.probe_at(), Some(now + delay), "round {round}");
        }
        now += delay;
        assert!(breaker.take_probe(now));
        breaker.probed(true, now);
        breaker.works(now);
        for _ in 0..3 {
            breaker.failed(Fault::Silent, None, now);
        }
        assert_eq!(breaker.probe_at(), Some(now + DELAY));
    }

    #[test]
    fn one_answer_to_different_numbers_opens_and_single_numbers_do_not() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, DELAY, false, false);
        for contact in ["a", "b", "b", "a"] {
            assert!(!breaker.ended_unrung(404, contact, now, now));
        }
        assert!(!breaker.ended_unrung(410, "c", now, now), "another code counts anew");
        for contact in ["d", "e"] {
            assert!(!breaker.ended_unrung(404, contact, now, now));
        }
        breaker.works(now);
        for contact in ["f", "g"] {
            assert!(!breaker.ended_unrung(404, contact, now, now));
        }
        assert!(breaker.ended_unrung(404, "h", now, now));
        assert!(breaker.failure().is_some_and(|why| why.contains("404 to different numbers")));
    }

    #[test]
    fn calls_begun_before_a_phone_rang_do_not_count_as_alike() {
        let begun_at = Instant::now();
        let now = begun_at + DELAY;
        let mut breaker = Breaker::new(2, DELAY, false, false);
        breaker.works(now);
        for contact in ["a", "b", "c"] {
            assert!(!breaker.ended_unrung(603, contact, begun_at, now));
        }
        assert!(!breaker.ended_unrung(603, "d", now, now));
        assert!(breaker.ended_unrung(603, "e", now, now));
    }

    #[test]
    fn a_trial_call_that_ends_like_those_before_is_no_sign_of_health() {
        let now = Instant::now();
        let mut breaker = Breaker::new(1, DELAY, false, false);
        assert!(breaker.ended_unrung(404, "a", now, now));
        assert!(breaker.take_probe(now + DELAY));
        breaker.probed(true, now + DELAY);
        assert!(breaker.ended_unrung(404, "b", now + DELAY, now + DELAY));
        assert_eq!(breaker.probe_at(), Some(now + 3 * DELAY));
        assert!(breaker.take_probe(now + 3 * DELAY));
        breaker.probed(true, now + 3 * DELAY);
        assert!(!breaker.ended_unrung(486, "c", now + 3 * DELAY, now + 3 * DELAY));
        assert!(breaker.is_closed());
    }

    #[test]
    fn no_more_calls_are_set_up_than_may_fail_while_there_is_doubt() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, DELAY, true, false);
        assert_eq!(breaker.max_setups(), 3, "nothing has shown yet that the provider works");
        breaker.failed(Fault::Silent, None, now);
        assert_eq!(breaker.max_setups(), 2);
        breaker.works(now);
        assert_eq!(breaker.max_setups(), usize::MAX);
        breaker.ended_unrung(404, "a", now, now);
        breaker.ended_unrung(404, "b", now, now);
        assert_eq!(breaker.max_setups(), 1);
    }

    #[test]
    fn an_agent_that_does_not_come_stops_dialling_though_phones_ring() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, DELAY, true, true);
        breaker.works(now);
        assert_eq!(breaker.max_setups(), 3, "no agent has come yet");
        breaker.agent_works(now);
        assert_eq!(breaker.max_setups(), usize::MAX);
        for stops in [false, false, true] {
            breaker.works(now);
            assert_eq!(breaker.failed(Fault::NoAgent, None, now), stops);
        }
        assert!(breaker.take_probe(now + DELAY));
        breaker.probed(true, now + DELAY);
        breaker.works(now + DELAY);
        assert_eq!((breaker.is_closed(), breaker.max_setups()), (false, 1), "a phone only rings");
        breaker.agent_works(now + DELAY);
        assert_eq!((breaker.is_closed(), breaker.max_setups()), (true, usize::MAX));
    }

    #[test]
    fn a_delay_that_the_provider_asks_for_is_kept_up_to_an_hour() {
        let now = Instant::now();
        let mut breaker = Breaker::new(1, DELAY, false, false);
        assert!(breaker.failed(Fault::Refusing(503), Some(Duration::from_secs(20)), now));
        assert_eq!(breaker.probe_at(), Some(now + Duration::from_secs(20)));
        let mut breaker = Breaker::new(1, DELAY, false, false);
        assert!(breaker.failed(Fault::Refusing(503), Some(Duration::from_secs(90_000)), now));
        assert_eq!(breaker.probe_at(), Some(now + MAX_ASKED_DELAY));
    }
}
