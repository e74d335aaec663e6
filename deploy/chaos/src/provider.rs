//! Provider of calls with faults of its own: a platform of voice agents, Twilio's API, or a SIP trunk.

mod callback;
pub mod log;
mod person;
mod platform;
mod sip;
mod twilio;
mod voice_agent;

use crate::{Result, now_micros};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
pub use callback::SECRET;
use clap::{Parser, ValueEnum};
use platform::Platform;
use std::net::SocketAddr;
use std::path::PathBuf;
pub use twilio::ACCOUNT;

/// Answers calls as people do, and as providers do
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Address to listen on; with `sip` by UDP too
    #[arg(long)]
    pub listen: SocketAddr,
    /// Log of events; read at the start, then appended to
    #[arg(long)]
    pub log: PathBuf,
    /// Seed that decides the course of each call
    #[arg(long)]
    pub seed: u64,
    /// Share of requests in which the provider itself fails: it rejects them or forgets to answer, 0 to 1
    #[arg(long, default_value_t = 0.03)]
    pub odds: f64,
    /// Protocol by which calls are asked for
    #[arg(long, value_enum, default_value_t)]
    pub door: Door,
}

/// Protocol by which calls are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Door {
    /// deploy/openapi/voice-agent.yaml.
    #[default]
    VoiceAgent,
    /// Twilio's API for calls.
    Twilio,
    /// SIP over UDP.
    Sip,
}

impl Door {
    /// Returns the name, as the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VoiceAgent => "voice-agent",
            Self::Twilio => "twilio",
            Self::Sip => "sip",
        }
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When the provider cannot listen, or cannot read or write its log.
pub async fn run(args: Args) -> Result<()> {
    let platform = Platform::new(&args)?;
    let router = match args.door {
        Door::VoiceAgent => voice_agent::router(),
        Door::Twilio => twilio::router(),
        Door::Sip => Router::new(),
    };
    let router = router.route("/quiet", get(quiet)).with_state(platform.clone());
    if args.door == Door::Sip {
        let trunk = sip::Trunk::bind(args.listen).await?;
        platform.serve_sip(trunk);
    }
    platform.remember(log::read(&args.log)?);
    let listener = tokio::net::TcpListener::bind(args.listen).await?;
    Ok(axum::serve(listener, router).await?)
}

/// Answers 200 if every call is over and all events are acknowledged, else 503.
async fn quiet(State(platform): State<Platform>) -> (StatusCode, String) {
    let unsettled = platform.unsettled();
    let status = if unsettled == 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{unsettled} calls and events not settled, at {}", now_micros()))
}
