//! What can be typed.

use crate::campaigns::{CampaignsCommand, CommandArgs, PauseArgs};
use crate::contacts::ContactsCommand;
use crate::failure::EXIT_CODES;
use crate::import::ImportArgs;
use crate::interactions::InteractionsCommand;
use crate::launching::{LaunchArgs, PreviewArgs};
use crate::printing::Format;
use crate::suppressions::SuppressionsCommand;
use crate::watch::WatchArgs;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Campaigns from a terminal: set up, import, launch, watch, pause, cancel
#[derive(Debug, Parser)]
#[command(name = "campaignctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the service is and how to get in. What is not given here or in the environment is taken from the
/// profile.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// How to print: tables for people, or JSON with the names of the API
    #[arg(short, long, global = true, env = "CAMPAIGNCTL_OUTPUT", value_enum, default_value_t)]
    pub output: Format,
    /// File of profiles [default: ~/.config/campaignctl/config.toml]
    #[arg(long, global = true, env = "CAMPAIGNCTL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Profile of that file [default: its default_profile]
    #[arg(long, global = true, env = "CAMPAIGNCTL_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Address of the service [default: http://127.0.0.1:50051]
    #[arg(long, global = true, env = "CAMPAIGNCTL_SERVICE_URL", value_name = "URL")]
    pub service_url: Option<String>,
    /// Who vouches for the service's certificate, PEM [default: whom the system trusts]
    #[arg(long, global = true, env = "CAMPAIGNCTL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the service, PEM
    #[arg(long, global = true, env = "CAMPAIGNCTL_CLIENT_CERT_FILE", value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, global = true, env = "CAMPAIGNCTL_CLIENT_KEY_FILE", value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,
    /// Token to send to the service
    #[arg(long, global = true, env = "CAMPAIGNCTL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Who asks, for the audit log, where no token says it [default: $USER]
    #[arg(long, global = true, env = "CAMPAIGNCTL_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Longest wait for an answer [default: 60]
    #[arg(
        long,
        global = true,
        env = "CAMPAIGNCTL_TIMEOUT_SECONDS",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    pub timeout_seconds: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Service(ServiceCommand),
    /// Check configuration, connection, token, health, clock and versions
    Doctor,
    /// Print a script that completes commands in a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// What the service is asked for.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Campaigns: set up, look, launch, stop
    #[command(subcommand)]
    Campaigns(Box<CampaignsCommand>),
    /// Contacts of a campaign: import, look, explain
    #[command(subcommand)]
    Contacts(Box<ContactsCommand>),
    /// Numbers that nobody may engage
    #[command(subcommand)]
    Suppressions(SuppressionsCommand),
    /// Report facts, and ask whether to answer who calls in
    #[command(subcommand)]
    Interactions(Box<InteractionsCommand>),
    /// What a launch would do, without doing it
    Preview(PreviewArgs),
    /// Start a new run: shows its settings and counts, and asks
    Launch(Box<LaunchArgs>),
    /// Hold a run: no more calls begin until it is resumed
    Pause(PauseArgs),
    /// Go on with a paused run
    Resume(CommandArgs),
    /// End a run for good: calls in progress are hung up
    Cancel(CommandArgs),
    /// Import contacts from a CSV or NDJSON file, or standard input
    Import(Box<ImportArgs>),
    /// Live view of campaigns
    Watch(WatchArgs),
}

/// What every command that changes a campaign takes.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Only if the campaign's etag is still this
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    /// Idempotency key: the same id gets the first answer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub request_id: String,
    /// Why, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Which part of a list.
#[derive(Args, Clone, Debug)]
pub struct PageArgs {
    /// Entries of a page [default: the service's]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub page_size: i32,
    /// Go on where the page before ended
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub page_token: String,
    /// Print page after page, to the end
    #[arg(long)]
    pub all: bool,
}
