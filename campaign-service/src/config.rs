//! Command line of the service. Every limit has a name, a unit and a default here.

mod access;
mod calls;

pub use access::AccessArgs;
pub use calls::CallArgs;

use crate::app::DispatchLimits;
use crate::app::chores::ChoreOptions;
use crate::eraser::Eraser;
use crate::links::Links;
use crate::store::{Db, DbLimits};
use crate::zone_data::ZoneArgs;
use campaign_domain::caps::{CapScope, MAX_ATTEMPTS_CAP};
use campaign_domain::links::is_web_address;
use campaign_domain::retry::GIVE_BACK_WAIT_LIMIT_SECONDS;
use campaign_process::{ConfigArgs, HealthArgs, LogArgs, Secret, TraceArgs, read_key_file};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Owns campaigns and streams their contacts to dialer workers
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// Command to run
    #[command(subcommand)]
    pub command: Command,
    /// Log options
    #[command(flatten)]
    pub logs: LogArgs,
    /// Options file
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Commands of the program
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database schema up to date, then exit
    Migrate {
        /// Database options
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Check that the database meets the service's needs, then exit; fails if it does not
    Doctor {
        /// Database options
        #[command(flatten)]
        database: DatabaseArgs,
        /// Time zone data options
        #[command(flatten)]
        zones: ZoneArgs,
    },
    /// Serve the API
    Serve(Box<ServeArgs>),
    /// Check that no audit log was altered, then exit; fails if a log was altered
    VerifyAudit {
        /// Database options
        #[command(flatten)]
        database: DatabaseArgs,
        /// Campaign whose log is checked, as in campaigns/ID [default: all]
        #[arg(long)]
        campaign: Option<String>,
    },
    /// Print the state machine as a Mermaid diagram, then exit
    Diagram,
}

/// Database options
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// Address of the PostgreSQL database, as in postgres://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Certificate authorities that the database's certificate may come from, PEM. The option applies if the URL
    /// says sslmode=require, verify-ca or verify-full, like sslrootcert in the URL [default: those the system trusts]
    #[arg(long, env = "CAMPAIGN_DATABASE_CA_FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Most concurrent connections to the database, 1 to 500
    #[arg(long, env = "CAMPAIGN_DATABASE_MAX_CONNECTIONS", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=500))]
    pub database_max_connections: u16,
    /// Longest wait for a connection to the database, 1 to 300
    #[arg(long, env = "CAMPAIGN_DATABASE_WAIT_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub database_wait_seconds: u16,
    /// Longest run of one database statement, 1 to 3,600
    #[arg(long, env = "CAMPAIGN_STATEMENT_TIMEOUT_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub statement_timeout_seconds: u16,
}

impl DatabaseArgs {
    /// Opens the database.
    ///
    /// # Errors
    /// Returns an error if the URL or the file cannot be read.
    pub fn open(&self) -> Result<Db, String> {
        Db::new(self.database_url.reveal(), self.database_ca_file.as_deref(), &self.limits())
    }

    fn limits(&self) -> DbLimits {
        DbLimits {
            max_connections: self.database_max_connections.into(),
            connection_wait: Duration::from_secs(self.database_wait_seconds.into()),
            statement_timeout: Duration::from_secs(self.statement_timeout_seconds.into()),
        }
    }
}

/// Options of `serve`
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Database options
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Time zone data options
    #[command(flatten)]
    pub zones: ZoneArgs,
    /// Address and port of the API; port 0 takes a free port
    #[arg(long, env = "CAMPAIGN_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Address and port of the Prometheus metrics, at /metrics, readable by everyone who reaches this address
    #[arg(long, env = "CAMPAIGN_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Trace options
    #[command(flatten)]
    pub traces: TraceArgs,
    /// Time from the grant or renewal of a lease to its expiry, 1 to 3,600
    #[arg(long, env = "CAMPAIGN_LEASE_TTL_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub lease_ttl_seconds: u16,
    /// Most contacts in one batch, 1 to 5,000
    #[arg(long, env = "CAMPAIGN_MAX_BATCH_CONTACTS", default_value_t = 500,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub max_batch_contacts: u16,
    /// Most contacts examined for one batch, 1 to 1,000,000
    #[arg(long, env = "CAMPAIGN_MAX_SCAN_CONTACTS", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_scan_contacts: u32,
    /// Most outstanding credit of one worker, in contacts, 1 to 100,000
    #[arg(long, env = "CAMPAIGN_MAX_CREDIT_CONTACTS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_credit_contacts: u32,
    /// Most interactions in one report, and most attempts in one authorisation, 1 to 5,000
    #[arg(long, env = "CAMPAIGN_MAX_REPORT_INTERACTIONS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub max_report_interactions: u16,
    /// Most attempts on one phone number in any 24 hours, 0 to 20; 0: no cap
    #[arg(long, env = "CAMPAIGN_MAX_ATTEMPTS_PER_NUMBER", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_ATTEMPTS_CAP)))]
    pub max_attempts_per_number: u16,
    /// Campaigns whose attempts on a number count together for the cap. The same for all replicas
    #[arg(long, env = "CAMPAIGN_ATTEMPT_CAP_SCOPE", value_enum, default_value_t)]
    pub attempt_cap_scope: AttemptCapScope,
    /// Shortest wait before a retry after a call whose end is unknown, 1 to 86,400. The phone of such a call may
    /// still ring. A campaign's retry policy may set a longer wait
    #[arg(long, env = "CAMPAIGN_UNKNOWN_RETRY_MIN_SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub unknown_retry_min_seconds: u32,
    /// Wait before a contact is tried again after an attempt in which no phone can have rung, 1 to 3,600. It doubles
    /// each time. Such an attempt costs the contact nothing, up to six times; a rerun counts anew
    #[arg(long, env = "CAMPAIGN_CONGESTED_RETRY_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(GIVE_BACK_WAIT_LIMIT_SECONDS)))]
    pub congested_retry_seconds: u32,
    /// Time for workers to leave and for requests to finish when the service stops, 0 to 3,600. The service cuts
    /// off the rest 2 seconds later
    #[arg(long, env = "CAMPAIGN_DRAIN_GRACE_SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub drain_grace_seconds: u16,
    /// Time after which a worker's stream is ended in order, up to a fifth earlier, 0 to 86,400; 0: never. The
    /// worker connects again at once, so that workers spread over all replicas after a rollout
    #[arg(long, env = "CAMPAIGN_STREAM_MAX_AGE_SECONDS", default_value_t = 150,
          value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub stream_max_age_seconds: u32,
    /// Health probe options
    #[command(flatten)]
    pub health: HealthArgs,
    /// Limits of callers
    #[command(flatten)]
    pub calls: CallArgs,
    /// Options of links in texts
    #[command(flatten)]
    pub links: LinkArgs,
    /// Access options
    #[command(flatten)]
    pub access: AccessArgs,
    /// Time between rounds of the chores (starts, ends, expired leases, old history), 50 to 60,000
    #[arg(long, env = "CAMPAIGN_CHORE_INTERVAL_MILLIS", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(50..=60_000))]
    pub chore_interval_millis: u32,
    /// Days that single calls and other interactions are kept, 0 to 36,500; 0: as long as the campaign. The
    /// effect of an interaction on its contact (refused, attempts, outcome) is kept as long as the campaign. An
    /// interaction that is reported again after these days counts again
    #[arg(long, env = "CAMPAIGN_HISTORY_RETENTION_DAYS", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=36_500))]
    pub history_retention_days: u16,
    /// Days that everything of a deleted campaign is kept, 0 to 36,500. Its audit log is kept for ever
    #[arg(long, env = "CAMPAIGN_DELETED_CAMPAIGN_RETENTION_DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(0..=36_500))]
    pub deleted_campaign_retention_days: u16,
    /// Files of secret keys, separated by commas, each with at least 32 bytes, the same for all replicas. The
    /// first key hashes the numbers of people who are erased; all keys identify erased people. Never leave out
    /// a key that was used [default: nobody can be erased]
    #[arg(long, env = "CAMPAIGN_ERASURE_KEY_FILE", value_delimiter = ',')]
    pub erasure_key_file: Vec<PathBuf>,
    /// Time after which another replica finishes the erasure of a replica that died, 1 to 3,600
    #[arg(long, env = "CAMPAIGN_ERASURE_PATIENCE_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u16).range(1..=3_600))]
    pub erasure_patience_seconds: u16,
}

/// Scope of the cap on attempts per number
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum AttemptCapScope {
    /// Each tenant by itself
    #[default]
    Tenant,
    /// All tenants together, which can then use the cap up for each other
    Installation,
}

/// Options of links in texts. Give all three or none; without them texts carry no links
#[derive(Args, Clone, Debug)]
pub struct LinkArgs {
    /// Address and port that clicks reach over HTTP; put a proxy with TLS before it
    #[arg(long, env = "CAMPAIGN_LINK_LISTEN", requires_all = ["link_base_url", "link_key"])]
    pub link_listen: Option<SocketAddr>,
    /// Public address of the links, as in https://go.example.com
    #[arg(long, env = "CAMPAIGN_LINK_BASE_URL", requires = "link_listen")]
    pub link_base_url: Option<String>,
    /// Secret that signs links, at least 32 characters, the same for all replicas
    #[arg(long, env = "CAMPAIGN_LINK_KEY", hide_env_values = true, requires = "link_listen")]
    pub link_key: Option<Secret>,
}

impl LinkArgs {
    /// Returns the maker of links; `None` without the options.
    ///
    /// # Errors
    /// Returns an error if the key is too short, or if the base URL is not a web address.
    pub fn links(&self) -> Result<Option<Links>, String> {
        let Some((key, base_url)) = self.link_key.as_ref().zip(self.link_base_url.as_ref()) else {
            return Ok(None);
        };
        if !is_web_address(base_url) {
            return Err("--link-base-url must be an http or https address".to_owned());
        }
        Links::new(key.reveal(), base_url).map(Some)
    }
}

impl ServeArgs {
    /// Reads the erasure keys; `None` without any.
    ///
    /// # Errors
    /// Returns an error if a key cannot be read or is too short.
    pub fn eraser(&self) -> Result<Option<Eraser>, String> {
        let mut eraser = None;
        for path in &self.erasure_key_file {
            let key = read_key_file(path).map_err(|error| error.to_string());
            let with_key = key.and_then(|key| match eraser.take() {
                None => Eraser::new(&key),
                Some(known) => Eraser::with_former(known, &key),
            });
            let wrong = |why| format!("--erasure-key-file {}: {why}", path.display());
            eraser = Some(with_key.map_err(wrong)?);
        }
        Ok(eraser)
    }

    /// Returns the options of the chores.
    #[must_use]
    pub fn chore_options(&self) -> ChoreOptions {
        let days = i64::from(self.history_retention_days);
        ChoreOptions {
            interval: Duration::from_millis(self.chore_interval_millis.into()),
            history_retention: (days > 0).then(|| TimeDelta::days(days)),
            deleted_retention: TimeDelta::days(self.deleted_campaign_retention_days.into()),
            erasure_patience: TimeDelta::seconds(self.erasure_patience_seconds.into()),
        }
    }

    /// Returns the limits of dispatch.
    #[must_use]
    pub fn dispatch_limits(&self) -> DispatchLimits {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        DispatchLimits {
            lease_ttl: Duration::from_secs(self.lease_ttl_seconds.into()),
            max_batch_contacts: self.max_batch_contacts.into(),
            max_scan_contacts: count(self.max_scan_contacts),
            max_credit_contacts: count(self.max_credit_contacts),
            max_report_interactions: self.max_report_interactions.into(),
            max_attempts_per_number: self.max_attempts_per_number,
            attempt_cap_scope: match self.attempt_cap_scope {
                AttemptCapScope::Tenant => CapScope::Tenant,
                AttemptCapScope::Installation => CapScope::Installation,
            },
            unknown_retry_min_seconds: self.unknown_retry_min_seconds,
            congested_retry_seconds: self.congested_retry_seconds,
            drain_grace: Duration::from_secs(self.drain_grace_seconds.into()),
            stream_max_age: (self.stream_max_age_seconds > 0)
                .then(|| Duration::from_secs(self.stream_max_age_seconds.into())),
        }
    }
}
