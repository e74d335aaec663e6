//! Command of `make demo`: the main job from end to end, with real processes and a real PostgreSQL.
//!
//! The demo prints the grpcurl line of each step and then does exactly that step. It uses its own client, or, with
//! `--grpcurl`, runs the line as printed. A line that is cut on the screen is run from the file that holds it in full.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this program exists to print")]

mod api;
mod args;
mod check;
mod codec;
mod contacts;
mod lines;
mod processes;
mod result;
mod story;

use args::Args;
use clap::Parser;
use std::process::ExitCode;

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
