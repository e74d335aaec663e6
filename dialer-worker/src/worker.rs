//! Loop of the worker: connects, converses, reconnects, and stops in order.
//!
//! One task owns the state and is the only one that waits. It always listens while it waits for
//! room to send, so the two sides cannot deadlock.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use campaign_process::Health;
use campaign_process::health::READINESS;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::{Drain, Hello};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::call::{CallEvent, EarlierCalls};
use crate::config::WorkerConfig;
use crate::dialer::Dialer;
use crate::metrics::Metrics;
use crate::service::Replica;
use crate::session::{Session, SessionError};
use crate::state::{State, Summary};

/// Version of the protocol that the worker speaks.
const PROTOCOL_VERSION: i32 = 1;
/// Capacity for events of calls that wait for the loop. At the limit, providers wait.
const CALL_EVENTS_CAPACITY: usize = 1_024;
/// Delay before the first reconnection. Each further delay grows by half, up to
/// `MAX_RECONNECT_DELAY`.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(100);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);
/// Longest wait for answers after the service sent drain, if the service grants that much.
const MAX_DRAIN_WAIT: Duration = Duration::from_secs(5);

/// Works until `shutdown` is cancelled, then stops in order. Calls in progress get their grace, and
/// all facts are reported.
pub async fn run(
    config: &WorkerConfig,
    dialer: Arc<dyn Dialer>,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> Summary {
    let (sender, events) = mpsc::channel(CALL_EVENTS_CAPACITY);
    dialer.begin(EarlierCalls { sender: sender.clone() });
    let (probe_sender, probe_answers) = mpsc::channel(1);
    let hello = Hello {
        worker_id: config.worker_id.clone(),
        protocol_version: PROTOCOL_VERSION,
        campaigns: config.campaigns.clone(),
        pools: config.pools.clone(),
        channels: dialer.channels(),
        ..Default::default()
    };
    let mut worker = Worker {
        hello,
        health: health.clone(),
        state: State::new(config, Arc::clone(&dialer), metrics, sender, probe_sender),
        outside: Outside { events, probe_answers, shutdown: shutdown.clone() },
    };
    let callers = async {
        shutdown.cancelled().await;
        health.set(READINESS, false).await;
        dialer.stop(config.drain_grace()).await
    };
    let replicas = config.replicas();
    let ((), unrecorded_callers) = tokio::join!(worker.work(&replicas), callers);
    let mut summary = worker.state.summary();
    summary.unacknowledged += unrecorded_callers;
    info!(
        calls = summary.calls,
        reported = summary.reported,
        unacknowledged = summary.unacknowledged,
        unfinished_calls = summary.unfinished_calls,
        "stopped"
    );
    summary
}

/// Reason for the end of a conversation with the service.
enum Parting {
    /// The worker is done.
    Finished,
    /// The service sent drain.
    Drained,
}

struct Worker {
    /// Hello of each stream, without the leases that the worker holds by then.
    hello: Hello,
    /// Health of the worker: ready while a stream is open.
    health: Health,
    state: State,
    outside: Outside,
}

impl Worker {
    async fn work(&mut self, replicas: &[Replica]) {
        let mut delays = reconnect_delays();
        let mut index = first_url(&self.hello.worker_id, replicas.len());
        while let Some(replica) = replicas.get(index) {
            let parting = self.serve(replica, &mut delays).await;
            let url = &replica.url;
            self.state.end_stream(Instant::now());
            self.health.set(READINESS, false).await;
            let delay = delays.next().unwrap_or(MAX_RECONNECT_DELAY);
            match parting {
                Ok(Parting::Finished) => return,
                Ok(Parting::Drained) => {
                    info!(url = %url.uri(), "the service asked to leave; connecting again")
                }
                Err(error) => {
                    warn!(url = %url.uri(), %error, ?delay, "no stream; connecting again");
                }
            }
            if self.attend(sleep(delay)).await.is_none() {
                return;
            }
            index = other_url(index, replicas.len());
        }
    }

    /// Serves one stream from hello to its end.
    async fn serve(
        &mut self,
        replica: &Replica,
        delays: &mut ExponentialBackoff,
    ) -> Result<Parting, SessionError> {
        let named = self.state.begin_stream(Instant::now());
        let hello =
            Hello { leases: named.leases, lost_leases: named.lost_leases, ..self.hello.clone() };
        let Some(opened) = self.attend(Session::open(replica, hello)).await else {
            return Ok(Parting::Finished);
        };
        let (session, welcome) = opened?;
        info!(url = %replica.url.uri(), worker_id = self.hello.worker_id, "connected");
        *delays = reconnect_delays();
        self.state.welcome(&welcome, session.terms);
        self.health.set(READINESS, !self.state.is_stopping()).await;
        self.converse(session).await
    }

    /// Converses until the stream ends, the service sends drain, or the worker is done.
    async fn converse(&mut self, mut session: Session) -> Result<Parting, SessionError> {
        let mut next_message = None;
        let mut leave_by: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.state.tick(now);
            if self.state.is_finished(now) {
                session.close().await;
                return Ok(Parting::Finished);
            }
            if leave_by.is_some_and(|limit| limit <= now || !self.state.awaits_answers()) {
                session.close().await;
                return Ok(Parting::Drained);
            }
            if next_message.is_none() && leave_by.is_none() {
                next_message = self.state.next_message(now);
            }
            let can_send = next_message.is_none() && leave_by.is_none();
            let deadline =
                self.state.next_deadline(can_send, now).into_iter().chain(leave_by).min();
            tokio::select! {
                permit = session.outgoing.reserve(), if next_message.is_some() => {
                    let permit = permit.map_err(|_| SessionError::Ended)?;
                    if let Some(message) = next_message.take() {
                        permit.send(message);
                    }
                }
                response = session.incoming.next() => {
                    let response = response.ok_or(SessionError::Ended)??;
                    match response.message {
                        Some(Response::Drain(drain)) => leave_by = Some(now + drain_wait(&drain)),
                        Some(Response::Rejected(rejected)) => {
                            return Err(SessionError::Rejected(rejected.message, rejected.reason));
                        }
                        Some(message) => self.state.on_response(message, Instant::now()),
                        // The message comes from a newer service.
                        None => {}
                    }
                }
                news = self.outside.next(&self.state, deadline) => self.on_news(news),
            }
        }
    }

    /// Waits for `wanted` and meanwhile handles all events except messages of the service. Returns
    /// `None` if the worker is done.
    async fn attend<T>(&mut self, wanted: impl Future<Output = T>) -> Option<T> {
        let mut wanted = pin!(wanted);
        loop {
            let now = Instant::now();
            self.state.tick(now);
            if self.state.is_finished(now) {
                return None;
            }
            let deadline = self.state.next_deadline(false, now);
            tokio::select! {
                result = &mut wanted => return Some(result),
                news = self.outside.next(&self.state, deadline) => self.on_news(news),
            }
        }
    }

    fn on_news(&mut self, news: OutsideNews) {
        let now = Instant::now();
        match news {
            OutsideNews::Call(event) => self.state.on_call(event, now),
            OutsideNews::Probe(works) => self.state.on_probe(works, now),
            OutsideNews::Stop => self.state.stop(now),
            OutsideNews::Deadline => {}
        }
    }
}

/// Sources of events other than the service.
struct Outside {
    events: mpsc::Receiver<CallEvent>,
    probe_answers: mpsc::Receiver<bool>,
    shutdown: CancellationToken,
}

enum OutsideNews {
    Call(CallEvent),
    /// Whether the provider answered.
    Probe(bool),
    Stop,
    /// Deadline reached; the loop looks for due work.
    Deadline,
}

impl Outside {
    /// Returns the next event. The future may be dropped before it completes; nothing is lost.
    async fn next(&mut self, state: &State, deadline: Option<Instant>) -> OutsideNews {
        let alarm = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.events.recv(), if state.can_hear_calls() => OutsideNews::Call(event),
            Some(works) = self.probe_answers.recv() => OutsideNews::Probe(works),
            () = self.shutdown.cancelled(), if !state.is_stopping() => OutsideNews::Stop,
            () = alarm => OutsideNews::Deadline,
        }
    }
}

/// Returns the index of the URL to begin with. Workers spread over the URLs by their names.
fn first_url(worker_id: &str, urls: usize) -> usize {
    let sum: usize =
        worker_id.bytes().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % urls.max(1)
}

/// Returns the index of another URL, each as likely. So workers that replicas send away spread over
/// all replicas, wherever they were.
fn other_url(index: usize, urls: usize) -> usize {
    match urls {
        0 | 1 => index,
        _ => (index + rand::random_range(1..urls)) % urls,
    }
}

fn reconnect_delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(MIN_RECONNECT_DELAY)
        .with_max_delay(MAX_RECONNECT_DELAY)
        .with_factor(1.5)
        .with_jitter()
        .without_max_times()
        .build()
}

fn drain_wait(drain: &Drain) -> Duration {
    let grace = drain.grace.and_then(|grace| grace.try_into().ok());
    grace.unwrap_or(MAX_DRAIN_WAIT).min(MAX_DRAIN_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_spread_over_the_urls() {
        let mut workers = [0_u32; 3];
        for process in 0..300 {
            workers[first_url(&format!("dialer-{process}"), 3)] += 1;
        }
        assert!(workers.iter().all(|count| (80..=120).contains(count)), "{workers:?}");
        assert_eq!(first_url("alone", 1), 0);
    }

    #[test]
    fn workers_that_are_sent_away_spread_over_the_urls() {
        let mut workers = [300_usize, 0, 0];
        for _ in 0..10 {
            let mut moved = [0; 3];
            for (index, count) in workers.into_iter().enumerate() {
                for _ in 0..count {
                    let other = other_url(index, 3);
                    assert_ne!(other, index);
                    moved[other] += 1;
                }
            }
            workers = moved;
        }
        assert!(workers.iter().all(|count| (50..=150).contains(count)), "{workers:?}");
        assert_eq!(other_url(0, 1), 0);
    }
}
