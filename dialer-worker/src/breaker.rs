//! Circuit breaker: stops dialling while the provider fails, so that contacts lose no attempts to
//! it.
//!
//! ```text
//! closed ── failures in a row ──► open ── delay ──► probing ── works ──► trial ── a call works ──► closed
//!                                  ▲                   │ fails             │ a call fails
//!                                  └─── longer delay ──┴───────────────────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::call::Fault;

/// Cap of the probe delay, as a multiple of the first delay. Each failed probe doubles the delay.
const MAX_DELAY_FACTOR: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Closed { failures: u32 },
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
    /// Fault that last stopped dialling.
    fault: Option<Fault>,
}

impl Breaker {
    pub fn new(max_failures: u32, first_delay: Duration) -> Self {
        let position = Position::Closed { failures: 0 };
        Self { max_failures, first_delay, delay: first_delay, position, fault: None }
    }

    /// Whether the worker may request contacts and keep them.
    pub fn is_closed(&self) -> bool {
        matches!(self.position, Position::Closed { .. })
    }

    /// Returns the fault that stops dialling or limits it to a trial call.
    pub fn failure(&self) -> Option<String> {
        let fault = self.fault.filter(|_| !self.is_closed())?;
        Some(format!("the provider failed several calls in a row, the last with: {fault}"))
    }

    /// Whether waiting contacts must be released.
    pub fn is_open(&self) -> bool {
        matches!(self.position, Position::Open { .. } | Position::Probing)
    }

    /// Returns how many calls may be set up at once.
    pub fn max_setups(&self) -> usize {
        match self.position {
            Position::Closed { .. } => usize::MAX,
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
            self.open_for_longer("it does not answer yet", now);
        }
    }

    /// Records that the provider did its part in a call.
    pub fn works(&mut self) {
        match self.position {
            // The news belongs to a call from before the fault.
            Position::Open { .. } | Position::Probing => return,
            Position::Trial => info!("the provider works again; dialling goes on"),
            Position::Closed { .. } => {}
        }
        self.delay = self.first_delay;
        self.position = Position::Closed { failures: 0 };
    }

    /// Records that the provider failed a call. Returns whether that failure stops dialling.
    pub fn failed(&mut self, fault: Fault, now: Instant) -> bool {
        match self.position {
            Position::Closed { failures } if failures + 1 < self.max_failures => {
                self.position = Position::Closed { failures: failures + 1 };
                false
            }
            Position::Closed { .. } => {
                warn!(
                    failures = self.max_failures,
                    probe_after = ?self.delay,
                    "the provider failed several calls in a row, the last with: {fault}. Dialling stops and \
                     contacts are given back until it works; look at the provider"
                );
                self.position = Position::Open { probe_at: now + self.delay };
                self.fault = Some(fault);
                true
            }
            Position::Trial => {
                self.fault = Some(fault);
                self.open_for_longer("the call tried failed", now);
                true
            }
            Position::Open { .. } | Position::Probing => false,
        }
    }

    fn open_for_longer(&mut self, why: &str, now: Instant) {
        self.delay = (self.delay * 2).min(self.first_delay * MAX_DELAY_FACTOR);
        warn!(probe_after = ?self.delay, "the provider still fails: {why}");
        self.position = Position::Open { probe_at: now + self.delay };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(10);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, DELAY);
        let opened: Vec<_> = (0..3).map(|_| breaker.failed(Fault::Silent, now)).collect();
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[test]
    fn opens_only_after_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, DELAY);
        for _ in 0..5 {
            assert!(!breaker.failed(Fault::Refusing(503), now));
            breaker.works();
        }
        assert_eq!((breaker.is_closed(), breaker.max_setups()), (true, usize::MAX));
        assert!(!breaker.failed(Fault::Silent, now));
        assert!(breaker.failed(Fault::Silent, now));
        assert_eq!((breaker.is_open(), breaker.max_setups()), (true, 0));
        assert!(breaker.failure().is_some_and(|why| why.ends_with("no answer in time")));
    }

    #[test]
    fn one_call_is_tried_after_a_probe_and_closes_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.works();
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
        breaker.works();
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
                assert!(breaker.failed(Fault::Unreachable, now));
            }
            delay = (delay * 2).min(DELAY * MAX_DELAY_FACTOR);
            assert_eq!(breaker.probe_at(), Some(now + delay), "round {round}");
        }
        now += delay;
        assert!(breaker.take_probe(now));
        breaker.probed(true, now);
        breaker.works();
        for _ in 0..3 {
            breaker.failed(Fault::Silent, now);
        }
        assert_eq!(breaker.probe_at(), Some(now + DELAY));
    }
}
