//! Worker under test, with a provider whose calls the test ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use campaign_process::Health;
use dialer_worker::call::{Attempt, CallEnd, CallEvents, Outcome};
use dialer_worker::config::{Config, WorkerConfig};
use dialer_worker::dialer::Dialer;
use dialer_worker::{Summary, run};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::within;

/// Provider whose calls the test ends.
pub struct FakeDialer {
    calls: mpsc::UnboundedSender<FakeCall>,
    probes: mpsc::UnboundedSender<oneshot::Sender<bool>>,
}

/// Call in progress.
pub struct FakeCall {
    pub attempt: Attempt,
    pub events: CallEvents,
    pub hang_up: CancellationToken,
    end: oneshot::Sender<CallEnd>,
}

impl FakeCall {
    pub fn end(self, outcome: Outcome) {
        let _ = self.end.send(CallEnd::new(outcome, Duration::from_secs(7)));
    }

    /// Panics in the middle of the call.
    pub fn panic(self) {
        drop(self.end);
    }

    pub async fn hung_up(self) {
        within("the hang-up", self.hang_up.cancelled()).await;
        self.end(Outcome::NoAnswer);
    }
}

impl Dialer for FakeDialer {
    fn dial(
        &self,
        attempt: Attempt,
        events: CallEvents,
        hang_up: CancellationToken,
    ) -> BoxFuture<'static, CallEnd> {
        let (end, ended) = oneshot::channel();
        let _ = self.calls.send(FakeCall { attempt, events, hang_up, end });
        async move { ended.await.expect("the test ends the call") }.boxed()
    }

    fn channels(&self) -> Vec<String> {
        vec!["fax".to_owned()]
    }

    fn probe(&self) -> BoxFuture<'static, bool> {
        let (answer, answered) = oneshot::channel();
        let _ = self.probes.send(answer);
        async move { answered.await.unwrap_or(false) }.boxed()
    }
}

/// Worker under test.
pub struct FakeWorker {
    calls: mpsc::UnboundedReceiver<FakeCall>,
    probes: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    shutdown: CancellationToken,
    running: JoinHandle<Summary>,
}

impl FakeWorker {
    pub fn start(url: &str, flags: &[&str]) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let (probe_sender, probes) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let config = config(url, flags);
        let dialer = Arc::new(FakeDialer { calls: sender, probes: probe_sender });
        let running = tokio::spawn(async move {
            run(&config, dialer, Health::new().await, Arc::default(), stop).await
        });
        Self { calls, probes, shutdown, running }
    }

    pub async fn dialled(&mut self) -> FakeCall {
        within("a dial", self.calls.recv()).await.expect("the worker runs")
    }

    /// Returns the channel that answers the worker's next probe of the provider.
    pub async fn probed(&mut self) -> oneshot::Sender<bool> {
        within("a probe", self.probes.recv()).await.expect("the worker runs")
    }

    /// Returns the next calls, by attempt.
    pub async fn dialled_all(&mut self, count: usize) -> HashMap<String, FakeCall> {
        let mut calls = HashMap::new();
        for _ in 0..count {
            let call = self.dialled().await;
            calls.insert(call.attempt.attempt_id.clone(), call);
        }
        assert_eq!(calls.len(), count, "an attempt was dialled twice");
        calls
    }

    pub fn stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the worker to end, and checks that every dial was seen by the test.
    pub async fn stopped(mut self) -> Summary {
        let summary = within("the worker's end", self.running).await.expect("no panic");
        let unexpected = self.calls.recv().await.map(|call| call.attempt.attempt_id);
        assert_eq!(unexpected, None, "dialled");
        summary
    }
}

pub fn config(url: &str, flags: &[&str]) -> WorkerConfig {
    let program = ["dialer-worker", "--service-url", url, "--worker-id", "worker-under-test"];
    let flags = program.iter().chain(flags);
    <Config as clap::Parser>::try_parse_from(flags).expect("flags are right").worker
}
