//! Options that several commands share.

use crate::text::Format;
use clap::Args;
use std::path::PathBuf;

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

/// Campaign, and the part of one of its lists to print.
#[derive(Args, Debug)]
pub struct CampaignPageArgs {
    /// Campaign: campaigns/ID, ID, or display name
    pub campaign: String,
    #[command(flatten)]
    pub page: PageArgs,
}
