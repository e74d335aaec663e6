//! Flags of the provider's program.

use clap::{Parser, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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
