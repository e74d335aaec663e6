//! Steady work: campaigns that are launched again whenever they are completed.

use crate::api::{Api, rerun};
use crate::args::BATCH_CONTACTS;
use crate::service::Replica;
use crate::stream::{Done, Stream, work};
use campaign_proto::v1;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Work that ends when this value is dropped.
pub struct Steady {
    done: Arc<Done>,
    tasks: JoinSet<()>,
}

impl Steady {
    /// Imports campaigns and starts workers on them.
    pub async fn start(
        replica: &Replica,
        campaigns: usize,
        contacts: usize,
        workers: usize,
    ) -> Self {
        Self::start_with(replica, replica, campaigns, contacts, workers).await
    }

    /// Does the same as `start`, importing through one replica and working through another.
    pub async fn start_with(
        importer: &Replica,
        replica: &Replica,
        campaigns: usize,
        contacts: usize,
        workers: usize,
    ) -> Self {
        let mut importing = Api::new(&importer.channel);
        let api = Api::new(&replica.channel);
        let done = Arc::new(Done::new(usize::MAX));
        let mut tasks = JoinSet::new();
        let mut names = Vec::new();
        for _ in 0..campaigns {
            names.push(importing.create_with(contacts).await);
        }
        for name in names {
            let mut api = api.clone();
            api.launch(&name, v1::LaunchSettings::default()).await;
            tasks.spawn(async move {
                loop {
                    api.wait_until_completed(&name).await;
                    api.launch(&name, rerun()).await;
                }
            });
        }
        for n in 0..workers {
            let stream = Stream::open(&replica.channel, format!("bench-{n}"), &[]).await;
            let done = Arc::clone(&done);
            tasks.spawn(async move { work(stream, BATCH_CONTACTS, &done).await });
        }
        Self { done, tasks }
    }

    /// Returns the contacts that the workers have done so far. Fails if one of the tasks failed.
    pub fn count(&mut self) -> usize {
        if let Some(ended) = self.tasks.try_join_next() {
            panic!("a worker ended: {ended:?}");
        }
        self.done.count()
    }

    /// Returns the contacts per second, in each second from now on.
    pub async fn rates(&mut self, seconds: u64) -> Vec<f64> {
        rates(seconds, || self.count()).await
    }
}

/// Returns how much a count grows in each second from now on.
pub async fn rates(seconds: u64, mut count: impl FnMut() -> usize) -> Vec<f64> {
    let mut rates = Vec::new();
    let (mut at, mut before) = (Instant::now(), count());
    for second in 1..=seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (now, counted) = (Instant::now(), count());
        rates.push((counted - before) as f64 / (now - at).as_secs_f64());
        (at, before) = (now, counted);
        if second.is_multiple_of(10) {
            println!("    {second:>4} s: {:>8.0} a second", mean(&rates[rates.len() - 10..]));
        }
    }
    rates
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
