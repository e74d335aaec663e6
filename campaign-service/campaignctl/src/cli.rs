//! Commands, arguments and options of the program.

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

/// Control campaigns from a terminal: create, import, launch, watch, pause, cancel
#[derive(Debug, Parser)]
#[command(name = "campaignctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Address of the service and credentials. The profile supplies each value that neither a flag nor the
/// environment gives.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Output format: tables for people, or JSON with the API's field names
    #[arg(short, long, global = true, env = "CAMPAIGNCTL_OUTPUT", value_enum, default_value_t)]
    pub output: Format,
    /// Profiles file [default: ~/.config/campaignctl/config.toml]
    #[arg(long, global = true, env = "CAMPAIGNCTL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Profile to use [default: default_profile of the profiles file]
    #[arg(long, global = true, env = "CAMPAIGNCTL_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Address of the service [default: http://127.0.0.1:50051]
    #[arg(long, global = true, env = "CAMPAIGNCTL_SERVICE_URL", value_name = "URL")]
    pub service_url: Option<String>,
    /// Certificate authority of the service, PEM [default: those the system trusts]
    #[arg(long, global = true, env = "CAMPAIGNCTL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Client certificate to present to the service, PEM
    #[arg(long, global = true, env = "CAMPAIGNCTL_CLIENT_CERT_FILE", value_name = "FILE")]
    pub client_cert_file: Option<PathBuf>,
    /// Private key of the client certificate, PEM
    #[arg(long, global = true, env = "CAMPAIGNCTL_CLIENT_KEY_FILE", value_name = "FILE")]
    pub client_key_file: Option<PathBuf>,
    /// File with the token to send to the service
    #[arg(long, global = true, env = "CAMPAIGNCTL_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Your name for the audit log, if no token identifies you [default: $USER]
    #[arg(long, global = true, env = "CAMPAIGNCTL_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Longest wait for an answer in seconds, 1 to 3,600 [default: 60]
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
    /// Print a completion script for a shell
    Completions {
        /// Shell: bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// Commands that call the service.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Manage campaigns: create, show, launch, stop
    #[command(subcommand)]
    Campaigns(Box<CampaignsCommand>),
    /// Manage contacts of a campaign: import, show, explain
    #[command(subcommand)]
    Contacts(Box<ContactsCommand>),
    /// Manage the suppression list: numbers that no campaign may engage
    #[command(subcommand)]
    Suppressions(SuppressionsCommand),
    /// Report facts, and ask whether to answer an inbound call
    #[command(subcommand)]
    Interactions(Box<InteractionsCommand>),
    /// Show what a launch would do, without launching
    Preview(PreviewArgs),
    /// Start a new run: shows its settings and counts, then asks
    Launch(Box<LaunchArgs>),
    /// Pause a run: no call begins until it is resumed
    Pause(PauseArgs),
    /// Resume a paused run
    Resume(CommandArgs),
    /// Cancel a run for good: calls in progress are hung up
    Cancel(CommandArgs),
    /// Import contacts from a CSV or NDJSON file, or standard input
    Import(Box<ImportArgs>),
    /// Watch campaigns live
    Watch(WatchArgs),
}

/// Options of every command that changes a campaign.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Expected etag: the command is rejected if the campaign has another one
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    /// Idempotency key: repeating the command with the same ID returns the first answer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub request_id: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Part of a list to print.
#[derive(Args, Clone, Debug)]
pub struct PageArgs {
    /// Entries per page [default: chosen by the service]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub page_size: i32,
    /// Token of the page to print, as the page before it shows
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub page_token: String,
    /// Print every page, to the end of the list
    #[arg(long)]
    pub all: bool,
}
