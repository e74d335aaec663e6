//! Provider of the fault tests, as a process of its own.
#![forbid(unsafe_code)]

use campaign_chaos::provider;
use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match provider::run(provider::Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("provider: {error}");
            ExitCode::FAILURE
        }
    }
}
