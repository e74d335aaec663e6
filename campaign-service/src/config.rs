//! The command line. Every limit has a name, a unit and a default here.

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
use campaign_domain::caps::MAX_ATTEMPTS_CAP;
use campaign_domain::links::is_web_address;
use campaign_process::{ConfigArgs, HealthArgs, LogArgs, Secret, TraceArgs, read_key_file};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Owns campaigns and streams their contacts to dialer workers
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Logs
    #[command(flatten)]
    pub logs: LogArgs,
    /// Options in a file
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What the program can do
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database schema up to date, then exit
    Migrate {
        /// The database
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Check that the database is as the service needs it, then exit; fails if it is not
    Doctor {
        /// The database
        #[command(flatten)]
        database: DatabaseArgs,
        /// Where time zone data is
        #[command(flatten)]
        zones: ZoneArgs,
    },
    /// Serve the API
    Serve(Box<ServeArgs>),
    /// Check that the audit logs are as they were written, then exit; fails if one is not
    VerifyAudit {
        /// The database
        #[command(flatten)]
        database: DatabaseArgs,
        /// Only this campaign, as in campaigns/ID [default: all]
        #[arg(long)]
        campaign: Option<String>,
    },
    /// Print the state machine as a Mermaid diagram, then exit
    Diagram,
}

/// The database
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// PostgreSQL, as in postgres://user:password@host:5432/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Secret,
    /// Who vouches for the database's certificate, PEM, where the URL says sslmode=require, verify-ca or
    /// verify-full (the same as sslrootcert there) [default: whom the system trusts]
    #[arg(long, env = "CAMPAIGN_DATABASE_CA_FILE")]
    pub database_ca_file: Option<PathBuf>,
    /// Connections to the database at the same time (1 to 500)
    #[arg(long, env = "CAMPAIGN_DATABASE_MAX_CONNECTIONS", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=500))]
    pub database_max_connections: u16,
    /// Longest wait for a connection to the database (1 to 300)
    #[arg(long, env = "CAMPAIGN_DATABASE_WAIT_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=300))]
    pub database_wait_seconds: u16,
    /// Longest run of one database statement (1 to 3600)
    #[arg(long, env = "CAMPAIGN_STATEMENT_TIMEOUT_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub statement_timeout_seconds: u16,
}

impl DatabaseArgs {
    /// The database.
    ///
    /// # Errors
    /// When the URL or the file cannot be read.
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

/// How to serve
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The database
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Where time zone data is
    #[command(flatten)]
    pub zones: ZoneArgs,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "CAMPAIGN_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Address and port to show Prometheus the metrics at, as /metrics, to everyone who reaches it
    #[arg(long, env = "CAMPAIGN_METRICS_LISTEN")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where traces go
    #[command(flatten)]
    pub traces: TraceArgs,
    /// A lease ends this long after it was given or renewed (1 to 3600)
    #[arg(long, env = "CAMPAIGN_LEASE_TTL_SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub lease_ttl_seconds: u16,
    /// Most contacts in one batch (1 to 5000)
    #[arg(long, env = "CAMPAIGN_MAX_BATCH_CONTACTS", default_value_t = 500,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub max_batch_contacts: u16,
    /// Most contacts looked at for one batch (1 to 1000000)
    #[arg(long, env = "CAMPAIGN_MAX_SCAN_CONTACTS", default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_scan_contacts: u32,
    /// Most outstanding credit of one worker, in contacts (1 to 100000)
    #[arg(long, env = "CAMPAIGN_MAX_CREDIT_CONTACTS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_credit_contacts: u32,
    /// Most interactions in one report, and attempts in one authorisation (1 to 5000)
    #[arg(long, env = "CAMPAIGN_MAX_REPORT_INTERACTIONS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub max_report_interactions: u16,
    /// Most attempts on one phone number in any 24 hours, over all campaigns (0 to 20; 0: no cap)
    #[arg(long, env = "CAMPAIGN_MAX_ATTEMPTS_PER_NUMBER", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(0..=i64::from(MAX_ATTEMPTS_CAP)))]
    pub max_attempts_per_number: u16,
    /// Least wait before a contact is called again whose last call ended nobody knows how, since its phone may
    /// still ring; a campaign's retry policy may ask for more (1 to 86400)
    #[arg(long, env = "CAMPAIGN_UNKNOWN_RETRY_MIN_SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub unknown_retry_min_seconds: u32,
    /// When stopping, workers may stay and requests may take this long; 2 seconds later what is left is cut
    /// (0 to 3600)
    #[arg(long, env = "CAMPAIGN_DRAIN_GRACE_SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(0..=3600))]
    pub drain_grace_seconds: u16,
    /// Where probes ask
    #[command(flatten)]
    pub health: HealthArgs,
    /// What callers get
    #[command(flatten)]
    pub calls: CallArgs,
    /// Links in texts
    #[command(flatten)]
    pub links: LinkArgs,
    /// Who gets in
    #[command(flatten)]
    pub access: AccessArgs,
    /// Time between rounds of the chores: starts, ends, expired leases, old history (50 to 60000)
    #[arg(long, env = "CAMPAIGN_CHORE_INTERVAL_MILLIS", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(50..=60_000))]
    pub chore_interval_millis: u32,
    /// How long single calls and other interactions are kept, in days; what follows from them for a contact
    /// (refused, attempts, outcome) is kept as long as its campaign. Reported again after that, they count
    /// again (0 to 36500; 0: as long as the campaign)
    #[arg(long, env = "CAMPAIGN_HISTORY_RETENTION_DAYS", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=36_500))]
    pub history_retention_days: u16,
    /// Secret that erased people are known by afterwards, at least 32 bytes, the same for all replicas; several
    /// files, separated by commas: the first is used, all are known, and none may ever be left out that was used
    /// [default: nobody can be erased]
    #[arg(long, env = "CAMPAIGN_ERASURE_KEY_FILE", value_delimiter = ',')]
    pub erasure_key_file: Vec<PathBuf>,
    /// After so long an erasure whose service died is finished by another, 1 to 3,600
    #[arg(long, env = "CAMPAIGN_ERASURE_PATIENCE_SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u16).range(1..=3_600))]
    pub erasure_patience_seconds: u16,
}

/// Links in texts. All three, or none: then texts carry no links
#[derive(Args, Clone, Debug)]
pub struct LinkArgs {
    /// Address and port to listen on for clicks (HTTP; put TLS before it)
    #[arg(long, env = "CAMPAIGN_LINK_LISTEN", requires_all = ["link_base_url", "link_key"])]
    pub link_listen: Option<SocketAddr>,
    /// How people reach it, as in https://go.example.com
    #[arg(long, env = "CAMPAIGN_LINK_BASE_URL", requires = "link_listen")]
    pub link_base_url: Option<String>,
    /// Secret that links are signed with, the same for all replicas (at least 32 characters)
    #[arg(long, env = "CAMPAIGN_LINK_KEY", hide_env_values = true, requires = "link_listen")]
    pub link_key: Option<Secret>,
}

impl LinkArgs {
    /// As given.
    ///
    /// # Errors
    /// When the key is too short, or the address is not one.
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
    /// Who knows erased people.
    ///
    /// # Errors
    /// When a key cannot be read, or is too short.
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

    /// As options.
    #[must_use]
    pub fn chore_options(&self) -> ChoreOptions {
        let days = i64::from(self.history_retention_days);
        ChoreOptions {
            interval: Duration::from_millis(self.chore_interval_millis.into()),
            history_retention: (days > 0).then(|| TimeDelta::days(days)),
            erasure_patience: TimeDelta::seconds(self.erasure_patience_seconds.into()),
        }
    }

    /// As limits.
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
            unknown_retry_min_seconds: self.unknown_retry_min_seconds,
            drain_grace: Duration::from_secs(self.drain_grace_seconds.into()),
        }
    }
}
