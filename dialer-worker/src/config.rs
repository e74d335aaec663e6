//! Flags of the program; each can also be given in the environment.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use campaign_process::Secret;
use campaign_process::client::endpoint;
use campaign_process::{ConfigArgs, HealthArgs, LogArgs, TraceArgs};
use clap::builder::RangedI64ValueParser;
use clap::{Args, Parser, ValueEnum};
use tonic::transport::Endpoint;

use crate::http::HttpConfig;
use crate::service::{AccessConfig, Replica};
use crate::sip::SipConfig;

/// Longest worker id the service takes.
const MAX_WORKER_ID_CHARACTERS: usize = 100;

/// Calls started a second where a real provider takes them, unless said otherwise.
const DEFAULT_CALLS_PER_SECOND: u32 = 50;

const EXAMPLES: &str = "Examples:
  dialer-worker --time-scale 0.01
  DIALER_SIP_PASSWORD=... dialer-worker --provider sip --sip-trunk sip.example.com:5060 \\
      --sip-user 4711 --sip-caller +4930555000 --calls-per-second 20 --max-calls 200
  DIALER_HTTP_CALLBACK_SECRET=... dialer-worker --provider http --http-url https://agents.example \\
      --http-callback-listen 127.0.0.1:8090";

/// Takes leased contacts, asks before each dial, dials and reports.
#[derive(Clone, Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Config {
    /// Who places the calls
    #[arg(long, env = "DIALER_PROVIDER", value_enum, default_value_t)]
    pub provider: Provider,
    /// The worker itself.
    #[command(flatten)]
    pub worker: WorkerConfig,
    /// The simulated provider.
    #[command(flatten, next_help_heading = "Simulation (--provider simulated)")]
    pub simulated: SimulatedConfig,
    /// The SIP provider.
    #[command(flatten, next_help_heading = "SIP (--provider sip)")]
    pub sip: SipConfig,
    /// The HTTP provider.
    #[command(flatten, next_help_heading = "HTTP (--provider http)")]
    pub http: HttpConfig,
    /// Where probes ask.
    #[command(flatten, next_help_heading = "Health")]
    pub health: HealthArgs,
    /// Address and port to show Prometheus the metrics at, as /metrics, to everyone who reaches it
    #[arg(long, env = "DIALER_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where traces go.
    #[command(flatten, next_help_heading = "Traces")]
    pub traces: TraceArgs,
    /// Logs.
    #[command(flatten, next_help_heading = "Logs")]
    pub logs: LogArgs,
    /// Options in a file.
    #[command(flatten, next_help_heading = "Options in a file")]
    pub config: ConfigArgs,
}

impl Config {
    /// The worker's flags, with what depends on the provider filled in.
    #[must_use]
    pub fn worker(&self) -> WorkerConfig {
        let mut worker = self.worker.clone();
        if self.provider != Provider::Simulated {
            worker.calls_per_second.get_or_insert(DEFAULT_CALLS_PER_SECOND);
        }
        worker
    }
}

/// Who places the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Nobody: calls are made up.
    #[default]
    Simulated,
    /// A SIP trunk or PBX.
    Sip,
    /// A platform of voice agents, or a sender of messages.
    Http,
}

/// Flags of the worker itself.
#[derive(Args, Clone, Debug)]
pub struct WorkerConfig {
    /// Where the campaign service listens; several, separated by commas, are tried in turn
    #[arg(
        long = "service-url",
        env = "DIALER_SERVICE_URL",
        value_delimiter = ',',
        value_parser = endpoint,
        default_value = "http://127.0.0.1:50051"
    )]
    pub service_urls: Vec<Endpoint>,
    /// How to get in there.
    #[command(flatten)]
    pub access: AccessConfig,
    /// Name of this process, unique among the workers, 1 to 100 characters
    #[arg(
        long,
        env = "DIALER_WORKER_ID",
        value_parser = worker_id,
        default_value_t = default_worker_id()
    )]
    pub worker_id: String,
    /// Most calls in progress, 1 to 10,000
    #[arg(long, env = "DIALER_MAX_CALLS", value_parser = within(1..=10_000), default_value_t = 50)]
    pub max_calls: u32,
    /// Most calls started a second, 1 to 10,000, a tenth of them at once [default: 50 with --provider
    /// sip or http, no limit with simulated]
    #[arg(long, env = "DIALER_CALLS_PER_SECOND", value_parser = within(1..=10_000))]
    pub calls_per_second: Option<u32>,
    /// Most contacts held or asked for and not dialled, 1 to 100,000 [default: twice --max-calls]
    #[arg(long, env = "DIALER_PREFETCH_CONTACTS", value_parser = within(1..=100_000))]
    pub prefetch_contacts: Option<u32>,
    /// Facts waiting for the service's word that they are durable, 1 to 1,000,000. At this many
    /// nothing more is dialled; at twice as many the provider has to wait with its news
    #[arg(
        long,
        env = "DIALER_MAX_UNACKNOWLEDGED_REPORTS",
        value_parser = within(1..=1_000_000),
        default_value_t = 10_000
    )]
    pub max_unacknowledged_reports: u32,
    /// After this many calls in a row that the provider itself failed (no connection, no answer, 5xx)
    /// dialling stops and contacts are given back, 1 to 1,000
    #[arg(
        long,
        env = "DIALER_PROVIDER_FAILURES",
        value_parser = within(1..=1_000),
        default_value_t = 5
    )]
    pub provider_failures: u32,
    /// Then the provider is asked after this time whether it works again, 1 to 3,600; after each
    /// failure the time doubles, up to 32 times
    #[arg(
        long,
        env = "DIALER_PROVIDER_RETRY_SECONDS",
        value_parser = within(1..=3_600),
        default_value_t = 10
    )]
    pub provider_retry_seconds: u32,
    /// When stopping, calls in progress may go on this long, 0 to 3,600
    #[arg(
        long,
        env = "DIALER_DRAIN_GRACE_SECONDS",
        value_parser = within(0..=3_600),
        default_value_t = 30
    )]
    pub drain_grace_seconds: u32,
}

impl WorkerConfig {
    /// Where the service listens, and how to get in.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        Replica::all(&self.service_urls, &self.access)
    }

    /// Most contacts held or asked for and not dialled.
    #[must_use]
    pub fn prefetch_contacts(&self) -> usize {
        self.prefetch_contacts.unwrap_or(self.max_calls * 2) as usize
    }

    /// How long to leave a failed provider alone before it is asked.
    #[must_use]
    pub fn provider_retry(&self) -> Duration {
        Duration::from_secs(self.provider_retry_seconds.into())
    }

    /// How long calls in progress may go on when stopping.
    #[must_use]
    pub fn drain_grace(&self) -> Duration {
        Duration::from_secs(self.drain_grace_seconds.into())
    }
}

/// Flags of the simulated provider.
#[derive(Args, Clone, Debug)]
pub struct SimulatedConfig {
    /// Decides, together with the attempt's id, what becomes of a simulated call
    #[arg(long, env = "DIALER_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Real seconds that a simulated second takes, 0 to 1,000; at 0.001 a call of 90 s takes 90 ms
    #[arg(long, env = "DIALER_TIME_SCALE", value_parser = time_scale, default_value_t = 1.0)]
    pub time_scale: f64,
    /// Append what the simulated provider did to this file, as JSON lines, with phone numbers
    #[arg(long, env = "DIALER_DIAL_LOG", value_name = "FILE")]
    pub dial_log: Option<PathBuf>,
}

/// Takes whole numbers in a range, both ends included.
pub(crate) fn within(range: RangeInclusive<i64>) -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(range)
}

fn worker_id(text: &str) -> Result<String, String> {
    if (1..=MAX_WORKER_ID_CHARACTERS).contains(&text.chars().count()) {
        return Ok(text.to_owned());
    }
    Err(format!("give 1 to {MAX_WORKER_ID_CHARACTERS} characters"))
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "give a number from 0 to 1000".to_owned())?;
    if (0.0..=1_000.0).contains(&scale) {
        return Ok(scale);
    }
    Err("give a number from 0 to 1000".to_owned())
}

/// Host and process: unique while the process lives, and readable.
fn default_worker_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "dialer" } else { host.trim() };
    let host: String = host.chars().take(MAX_WORKER_ID_CHARACTERS - 20).collect();
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from([&["dialer-worker"], flags].concat())
    }

    #[test]
    fn flags_are_consistent_and_have_defaults() {
        Config::command().debug_assert();
        let config = parse(&["--max-calls", "7"]).expect("flags are right").worker;
        assert_eq!(config.prefetch_contacts(), 14);
        assert_eq!(config.service_urls.len(), 1);
        assert!(config.worker_id.ends_with(&std::process::id().to_string()));
    }

    #[test]
    fn several_urls_are_taken_either_way() {
        let flags = ["--service-url", "http://a:1,http://b:2", "--service-url", "http://c:3"];
        let config = parse(&flags).expect("flags are right").worker;
        let hosts: Vec<_> = config.service_urls.iter().map(|url| url.uri().host()).collect();
        assert_eq!(hosts, [Some("a"), Some("b"), Some("c")]);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for flags in [
            ["--max-calls", "0"],
            ["--max-calls", "10001"],
            ["--calls-per-second", "0"],
            ["--provider-failures", "0"],
            ["--provider-retry-seconds", "3601"],
            ["--prefetch-contacts", "0"],
            ["--max-unacknowledged-reports", "0"],
            ["--drain-grace-seconds", "3601"],
            ["--time-scale", "-1"],
            ["--time-scale", "nan"],
            ["--service-url", "ftp://a"],
            ["--service-url", "nonsense"],
            ["--service-client-cert-file", "cert.pem"],
            ["--worker-id", ""],
        ] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
    }
}
