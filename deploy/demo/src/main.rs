//! Command of `make demo`: the main job from end to end, with real processes and a real PostgreSQL.
//!
//! The demo prints the grpcurl line of each step and then does exactly that step. It uses its own client, or, with
//! `--grpcurl`, runs the line as printed. A line that is cut on the screen is run from the file that holds it in full.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

mod api;
mod check;
mod codec;
mod contacts;
mod lines;
mod processes;
mod result;
mod story;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the main job end to end and checks its totals
#[derive(Debug, Parser)]
struct Args {
    /// PostgreSQL to use; its database gets the service's tables
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Contacts to import
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/contacts.csv"))]
    contacts: PathBuf,
    /// Folder for logs, the imported rows, and all lines in full [default: target/demo]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Program that runs each printed grpcurl line, instead of our own client
    #[arg(long)]
    grpcurl: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match story::tell(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
