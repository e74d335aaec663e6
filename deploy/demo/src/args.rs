//! Options of the demo.

use clap::Parser;
use std::path::PathBuf;

/// Runs the main job end to end and checks its totals
#[derive(Debug, Parser)]
pub struct Args {
    /// PostgreSQL to use; its database gets the service's tables
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Contacts to import
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/contacts.csv"))]
    pub contacts: PathBuf,
    /// Folder for logs, the imported rows, and all lines in full [default: target/demo]
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// Program that runs each printed grpcurl line, instead of our own client
    #[arg(long)]
    pub grpcurl: Option<PathBuf>,
}
