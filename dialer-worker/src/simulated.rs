//! Simulated provider: dials nobody. Seed and attempt id decide the course of a call, so a rerun
//! gives the same calls, whatever the timing.

mod dial_log;
mod plan;
#[cfg(test)]
mod tests;

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::call::{Attempt, CallEnd, CallEvents, EndDetail, Fact, Outcome, Party};
use crate::config::SimulatedConfig;
use crate::dialer::Dialer;
use dial_log::DialLog;
pub use plan::Odds;
use plan::Plan;

/// Most links that wait to be opened after their call. Further links are opened at once.
const MAX_LINKS_TO_OPEN: usize = 10_000;
/// Link in the texts of a campaign that has none.
const LINK: &str = "https://example.com/offer";

/// Simulated provider.
#[derive(Clone, Debug)]
pub struct SimulatedDialer {
    seed: u64,
    time_scale: f64,
    odds: Odds,
    log: Option<DialLog>,
    links_to_open: Arc<Semaphore>,
}

impl SimulatedDialer {
    /// # Errors
    /// Returns an error if the dial log cannot be opened.
    pub fn new(config: &SimulatedConfig) -> io::Result<Self> {
        Ok(Self {
            seed: config.seed,
            time_scale: config.time_scale,
            odds: Odds {
                congested: f64::from(config.congested_percent) / 100.0,
                ..Odds::default()
            },
            log: config.dial_log.as_deref().map(DialLog::open).transpose()?,
            links_to_open: Arc::new(Semaphore::new(MAX_LINKS_TO_OPEN)),
        })
    }

    async fn call(
        self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> CallEnd {
        let plan = Plan::new(self.seed, &attempt.attempt_id, &self.odds);
        // Written before the phone rings, because a process that dies during the call has dialled. No
        // phone rings while the trunk is congested.
        let log = self.log.as_ref().filter(|_| plan.outcome != Outcome::Congested);
        if let Some(log) = log
            && let Err(error) = log.dialed(&attempt)
        {
            error!(%error, "--dial-log cannot be written; free some space; the call is not placed");
            return CallEnd::unanswered(Outcome::Congested);
        }
        let end = self.play(&plan, &attempt.link, &events, &hang_up).await;
        if let Some(log) = log
            && let Err(error) = log.ended(&attempt, end.outcome)
        {
            error!(%error, "--dial-log cannot be written; free some space; a call's end is missing");
        }
        end
    }

    /// Plays the call as planned, or until it is hung up.
    async fn play(
        &self,
        plan: &Plan,
        link: &str,
        events: &CallEvents,
        hang_up: &CancellationToken,
    ) -> CallEnd {
        if !self.reach(Instant::now(), plan.ring_seconds, hang_up).await {
            let hung_up_by = Some(Party::Caller);
            let detail = EndDetail { hung_up_by, ..EndDetail::default() };
            return CallEnd::unanswered(Outcome::Cancelled).with(detail);
        }
        let answered = Instant::now();
        if matches!(plan.outcome, Outcome::Answered | Outcome::Abandoned) {
            events.answered().await;
        }
        for (at_seconds, fact) in &plan.facts {
            if !self.reach(answered, *at_seconds, hang_up).await {
                return self.cut_off(plan, answered);
            }
            events.report(fact.clone()).await;
        }
        if !self.reach(answered, plan.talk_seconds, hang_up).await {
            return self.cut_off(plan, answered);
        }
        if let Some(delay_seconds) = plan.link_opened_after_seconds {
            let link = if link.is_empty() { LINK } else { link }.to_owned();
            tokio::spawn(self.clone().open_link(link, delay_seconds, events.clone()));
        }
        let duration = Duration::from_secs_f64(plan.talk_seconds);
        CallEnd::new(plan.outcome, duration).with(plan::detail(plan.outcome))
    }

    /// Returns the end of a call that was hung up after its answer.
    fn cut_off(&self, plan: &Plan, answered: Instant) -> CallEnd {
        let seconds = (answered.elapsed().as_secs_f64() / self.time_scale).min(plan.talk_seconds);
        CallEnd::new(plan.outcome, Duration::from_secs_f64(seconds))
    }

    /// Opens the link of the contact's text, unless the worker stops before.
    async fn open_link(self, link: String, delay_seconds: f64, events: CallEvents) {
        let permit = self.links_to_open.try_acquire();
        let delay_seconds = if permit.is_ok() { delay_seconds } else { 0.0 };
        tokio::select! {
            () = events.closed() => return,
            () = sleep_until(Instant::now() + self.real(delay_seconds)) => {}
        }
        events.report(Fact::LinkOpened { link }).await;
    }

    /// Waits for a simulated time. Returns false if the call was hung up before.
    async fn reach(&self, start: Instant, seconds: f64, hang_up: &CancellationToken) -> bool {
        hang_up.run_until_cancelled(sleep_until(start + self.real(seconds))).await.is_some()
    }

    fn real(&self, simulated_seconds: f64) -> Duration {
        Duration::from_secs_f64(simulated_seconds * self.time_scale)
    }
}

impl Dialer for SimulatedDialer {
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd> {
        self.clone().call(attempt, events, hang_up).boxed()
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        ready(true).boxed()
    }
}
