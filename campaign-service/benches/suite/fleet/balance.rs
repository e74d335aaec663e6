//! How workers spread over replicas after a rolling restart.

use crate::args::Args;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, scrape, start_dialer};
use campaign_testkit::free_address;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const REPLICAS: usize = 3;
/// Processes of the dialer worker.
const WORKERS: usize = 60;
/// Time after the restart within which workers are to be spread.
const SPREAD_TIME: Duration = Duration::from_secs(300);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for a replica to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub async fn run(args: &Args) -> Figure {
    let scratch = Scratch::new(&args.database_url).await;
    let metrics: Vec<SocketAddr> = (0..REPLICAS).map(|_| free_address()).collect();
    let mut replicas = Vec::new();
    for address in &metrics {
        let flags = ["--metrics-listen", &address.to_string()];
        replicas.push(match replicas.len() {
            0 => Replica::first_with(&scratch.url, &flags).await,
            _ => Replica::start(&scratch.url, &flags).await,
        });
    }
    let urls: Vec<&str> = replicas.iter().map(|replica| replica.url.as_str()).collect();
    let workers: Vec<_> = (0..WORKERS).map(|_| start_dialer(&urls.join(","))).collect();
    until_all(&metrics).await;
    for (replica, address) in replicas.iter_mut().zip(&metrics) {
        replica.program.stop(STOP_LIMIT).await.unwrap();
        replica.restart(&scratch.url, &["--metrics-listen", &address.to_string()]).await;
        until_all(&metrics).await;
    }
    let (started, mut fullest) = (Instant::now(), Vec::new());
    while started.elapsed() < SPREAD_TIME {
        fullest.push(fullest_over_mean(&streams(&metrics).await));
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    drop(workers);
    println!("  workers on the fullest replica over the mean: {fullest:.2?}");
    let name = format!("workers on the fullest of {REPLICAS} replicas over the mean, 5 minutes on");
    let value = fullest.last().copied().unwrap_or(f64::NAN);
    let detail = json!({ "every_5_s": fullest });
    Figure::new("", Measure { name, value, detail }).goal(Goal::AtMost(1.5))
}

fn fullest_over_mean(streams: &[usize]) -> f64 {
    let (most, all) = (streams.iter().max().copied().unwrap_or(0), streams.iter().sum::<usize>());
    most as f64 * streams.len() as f64 / all as f64
}

/// Waits until every worker has a stream.
async fn until_all(metrics: &[SocketAddr]) {
    while streams(metrics).await.iter().sum::<usize>() != WORKERS {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns the number of workers on each replica, as its metrics have it.
async fn streams(metrics: &[SocketAddr]) -> Vec<usize> {
    let mut found = Vec::new();
    for address in metrics {
        let text = scrape(*address).await;
        let is_it = |line: &&str| {
            line.starts_with("campaign_grpc_requests_in_progress{") && line.contains("\"Dispatch\"")
        };
        let value = text.lines().find(is_it).and_then(|line| line.rsplit(' ').next());
        found.push(value.and_then(|value| value.parse().ok()).unwrap_or(0));
    }
    found
}
