//! Provider of calls with faults of its own: a platform of voice agents, Twilio's API, or a SIP trunk.

mod args;
mod callback;
pub mod log;
mod person;
mod platform;
mod sip;
mod twilio;
mod voice_agent;

use crate::{Result, now_micros};
pub use args::{Args, Door};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
pub use callback::SECRET;
use platform::{Platform, Tell};
use std::sync::Arc;
pub use twilio::ACCOUNT;

/// Serves until it is killed.
///
/// # Errors
/// When the provider cannot listen, or cannot read or write its log.
pub async fn run(args: Args) -> Result<()> {
    let (router, platform) = match args.door {
        Door::VoiceAgent => {
            let tell: Tell = Box::new(|create, event| Box::pin(voice_agent::notify(create, event)));
            (voice_agent::router(), Platform::new(&args, tell)?)
        }
        Door::Twilio => {
            let tell: Tell = Box::new(|create, event| Box::pin(twilio::notify(create, event)));
            (twilio::router(), Platform::new(&args, tell)?)
        }
        Door::Sip => {
            let trunk = sip::Trunk::bind(args.listen).await?;
            let signalling = Arc::clone(&trunk);
            let tell: Tell = Box::new(move |_, event| {
                let trunk = Arc::clone(&signalling);
                Box::pin(async move { trunk.notify(&event).await })
            });
            let platform = Platform::new(&args, tell)?;
            tokio::spawn(trunk.serve(platform.clone()));
            (Router::new(), platform)
        }
    };
    let router = router.route("/quiet", get(quiet)).with_state(platform.clone());
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
