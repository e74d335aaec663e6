//! Commands, arguments and options of the program.

use crate::args::Global;
use crate::campaigns::CampaignsCommand;
use crate::contacts::ContactsCommand;
use crate::failure::EXIT_CODES;
use crate::import::ImportArgs;
use crate::interactions::InteractionsCommand;
use crate::launching::{LaunchArgs, PreviewArgs};
use crate::running::{CommandArgs, ConfirmedArgs, PauseArgs};
use crate::suppressions::SuppressionsCommand;
use crate::watch::WatchArgs;
use clap::{Parser, Subcommand};

/// Control campaigns from a terminal: create, import, launch, watch, pause, cancel
#[derive(Debug, Parser)]
#[command(name = "campaignctl", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
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
    /// Cancel a run for good, after a question: calls in progress are hung up
    Cancel(ConfirmedArgs),
    /// Import contacts from a CSV or NDJSON file, or standard input
    Import(Box<ImportArgs>),
    /// Watch campaigns live
    Watch(WatchArgs),
}
