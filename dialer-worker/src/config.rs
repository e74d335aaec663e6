//! Flags of the program. The environment can set each of them too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use campaign_process::client::endpoint;
use campaign_process::{ConfigArgs, HealthArgs, LogArgs, TraceArgs};
use clap::{Args, Parser, ValueEnum};
use tonic::transport::Endpoint;

use crate::flags::{campaign, within};
use crate::http::HttpConfig;
use crate::service::{AccessConfig, Replica};
use crate::sip::SipConfig;

/// Longest worker id that the service accepts.
const MAX_WORKER_ID_CHARACTERS: usize = 100;

/// Longest name of a pool that the service accepts.
const MAX_POOL_LENGTH: usize = 63;

/// Default rate of calls with a real provider, in calls per second.
const DEFAULT_CALLS_PER_SECOND: u32 = 50;

const EXAMPLES: &str = "Examples:
  dialer-worker --time-scale 0.01
  DIALER_SIP_PASSWORD=... dialer-worker --provider sip --sip-trunk sip.example.com:5060 \\
      --sip-user 4711 --sip-caller +4930555000 --calls-per-second 20 --max-calls 200
  DIALER_HTTP_CALLBACK_SECRET=... dialer-worker --provider http --http-url https://agents.example \\
      --http-callback-listen 127.0.0.1:8090";

/// Leases contacts, asks the service before each dial, dials and reports
#[derive(Clone, Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Config {
    /// Provider that places the calls
    #[arg(long, env = "DIALER_PROVIDER", value_enum, default_value_t)]
    pub provider: Provider,
    /// Options of the worker itself.
    #[command(flatten)]
    pub worker: WorkerConfig,
    /// Options of the simulated provider.
    #[command(flatten, next_help_heading = "Simulation (--provider simulated)")]
    pub simulated: SimulatedConfig,
    /// Options of the SIP provider.
    #[command(flatten, next_help_heading = "SIP (--provider sip)")]
    pub sip: SipConfig,
    /// Options of the HTTP provider.
    #[command(flatten, next_help_heading = "HTTP (--provider http)")]
    pub http: HttpConfig,
    /// Options of the health listener.
    #[command(flatten, next_help_heading = "Health")]
    pub health: HealthArgs,
    /// Address and port of the Prometheus metrics at /metrics; open to everyone who can reach it
    #[arg(long, env = "DIALER_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Options of trace export.
    #[command(flatten, next_help_heading = "Traces")]
    pub traces: TraceArgs,
    /// Options of logging.
    #[command(flatten, next_help_heading = "Logs")]
    pub logs: LogArgs,
    /// Options read from a file.
    #[command(flatten, next_help_heading = "Options in a file")]
    pub config: ConfigArgs,
}

impl Config {
    /// Returns the worker's options, with provider-dependent defaults filled in.
    #[must_use]
    pub fn worker(&self) -> WorkerConfig {
        let mut worker = self.worker.clone();
        if self.provider != Provider::Simulated {
            worker.calls_per_second.get_or_insert(DEFAULT_CALLS_PER_SECOND);
        }
        worker
    }
}

/// Provider that places the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Provider {
    /// Simulated calls; nobody is dialled.
    #[default]
    Simulated,
    /// SIP trunk or PBX.
    Sip,
    /// Platform of voice agents, or sender of messages.
    Http,
}

/// Flags of the worker itself.
#[derive(Args, Clone, Debug)]
pub struct WorkerConfig {
    /// Addresses of the campaign service, separated by commas; the worker tries them in turn
    #[arg(
        long = "service-url",
        env = "DIALER_SERVICE_URL",
        value_delimiter = ',',
        value_parser = endpoint,
        default_value = "http://127.0.0.1:50051"
    )]
    pub service_urls: Vec<Endpoint>,
    /// Credentials for the service.
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
    /// Pool of the worker, as in a campaign's worker_pool; repeat for more [default: the worker serves
    /// campaigns without a pool]
    #[arg(
        long = "pool",
        env = "DIALER_POOLS",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = pool
    )]
    pub pools: Vec<String>,
    /// Campaign to serve, as in campaigns/0198…; repeat for more [default: every campaign that fits
    /// the worker's pools and channels]
    #[arg(
        long = "campaign",
        env = "DIALER_CAMPAIGNS",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = campaign
    )]
    pub campaigns: Vec<String>,
    /// Most calls in progress, 1 to 10,000
    #[arg(long, env = "DIALER_MAX_CALLS", value_parser = within(1..=10_000), default_value_t = 50)]
    pub max_calls: u32,
    /// Most calls started per second, a tenth of them at once, 1 to 10,000 [default: 50 with
    /// --provider sip or http, no limit with simulated]
    #[arg(long, env = "DIALER_CALLS_PER_SECOND", value_parser = within(1..=10_000))]
    pub calls_per_second: Option<u32>,
    /// Most contacts held or requested and not yet dialled, 1 to 100,000 [default: twice
    /// --max-calls]
    #[arg(long, env = "DIALER_PREFETCH_CONTACTS", value_parser = within(1..=100_000))]
    pub prefetch_contacts: Option<u32>,
    /// Most facts without an acknowledgement. At this number dialling stops; at twice this number
    /// the provider's events wait, 1 to 1,000,000
    #[arg(
        long,
        env = "DIALER_MAX_UNACKNOWLEDGED_REPORTS",
        value_parser = within(1..=1_000_000),
        default_value_t = 10_000
    )]
    pub max_unacknowledged_reports: u32,
    /// Calls in a row after which dialling stops and contacts are released, 1 to 1,000. They were
    /// failed by the provider (no connection, no answer, 5xx, 402, 403, 429), or ended alike for
    /// different contacts before any phone rang
    #[arg(
        long,
        env = "DIALER_PROVIDER_FAILURES",
        value_parser = within(1..=1_000),
        default_value_t = 5
    )]
    pub provider_failures: u32,
    /// Seconds from that stop to the first probe of the provider; doubled by each failed probe, up
    /// to 32 times, 1 to 3,600
    #[arg(
        long,
        env = "DIALER_PROVIDER_RETRY_SECONDS",
        value_parser = within(1..=3_600),
        default_value_t = 10
    )]
    pub provider_retry_seconds: u32,
    /// Seconds that calls in progress may continue after a stop, 0 to 3,600
    #[arg(
        long,
        env = "DIALER_DRAIN_GRACE_SECONDS",
        value_parser = within(0..=3_600),
        default_value_t = 30
    )]
    pub drain_grace_seconds: u32,
}

impl WorkerConfig {
    /// Returns the replicas of the service, each with the credentials for it.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        Replica::all(&self.service_urls, &self.access)
    }

    /// Returns the most contacts held or requested and not yet dialled.
    #[must_use]
    pub fn prefetch_contacts(&self) -> usize {
        self.prefetch_contacts.unwrap_or(self.max_calls * 2) as usize
    }

    /// Returns the delay before the first probe of a failed provider.
    #[must_use]
    pub fn provider_retry(&self) -> Duration {
        Duration::from_secs(self.provider_retry_seconds.into())
    }

    /// Returns how long calls in progress may continue after a stop.
    #[must_use]
    pub fn drain_grace(&self) -> Duration {
        Duration::from_secs(self.drain_grace_seconds.into())
    }
}

/// Flags of the simulated provider.
#[derive(Args, Clone, Debug)]
pub struct SimulatedConfig {
    /// Seed of the simulation. Seed and attempt id together decide how a simulated call ends
    #[arg(long, env = "DIALER_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Real seconds per simulated second; at 0.001 a call of 90 s takes 90 ms, 0 to 1,000
    #[arg(long, env = "DIALER_TIME_SCALE", value_parser = time_scale, default_value_t = 1.0)]
    pub time_scale: f64,
    /// Percentage of simulated calls in which the trunk is congested and no phone rings, 0 to 100
    #[arg(long, env = "DIALER_CONGESTED_PERCENT", default_value_t = 0,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub congested_percent: u8,
    /// File to which the simulated provider appends its calls, as JSON lines with phone numbers
    #[arg(long, env = "DIALER_DIAL_LOG", value_name = "FILE")]
    pub dial_log: Option<PathBuf>,
}

fn worker_id(text: &str) -> Result<String, String> {
    if (1..=MAX_WORKER_ID_CHARACTERS).contains(&text.chars().count()) {
        return Ok(text.to_owned());
    }
    Err(format!("give 1 to {MAX_WORKER_ID_CHARACTERS} characters"))
}

fn pool(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if is_plain && (1..=MAX_POOL_LENGTH).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!("give 1 to {MAX_POOL_LENGTH} of a to z, 0 to 9 and -"))
}

fn time_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "give a number from 0 to 1000".to_owned())?;
    if (0.0..=1_000.0).contains(&scale) {
        return Ok(scale);
    }
    Err("give a number from 0 to 1000".to_owned())
}

/// Returns host name and process id: unique while the process lives, and readable.
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
    fn pools_and_campaigns_are_named_several_times() {
        let config = parse(&[]).expect("flags are right").worker;
        assert_eq!((config.pools.len(), config.campaigns.len()), (0, 0));
        let flags = ["--pool", "a", "--pool", "b,c-1", "--campaign", "campaigns/1"];
        let config = parse(&flags).expect("flags are right").worker;
        assert_eq!(config.pools, ["a", "b", "c-1"]);
        assert_eq!(config.campaigns, ["campaigns/1"]);
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
            ["--pool", ""],
            ["--pool", "Berlin"],
            ["--campaign", "spring"],
            ["--campaign", "campaigns/1/contacts/2"],
        ] {
            assert!(parse(&flags).is_err(), "{flags:?}");
        }
    }
}
