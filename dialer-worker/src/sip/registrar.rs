//! Registration at the trunk (RFC 3261 §10), for trunks that call only registered users or take
//! calls only from them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rsipstack::dialog::registration::Registration;
use rsipstack::sip::Response;
use rsipstack::sip::typed::Contact;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::credentials::for_stack;
use super::stack::Stack;

/// Interval that is asked for.
const EXPIRES_SECONDS: u32 = 600;
/// Shortest and longest delay between two requests.
const DELAYS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3_600));
/// Longest delay after a failure.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// Registers the worker until it leaves, then takes the registration back.
pub(super) async fn keep_registered(
    stack: Arc<Stack>,
    proxy: Option<SocketAddr>,
    leaving: CancellationToken,
) {
    let credential = stack.login().map(|login| for_stack(login));
    let mut registration = Registration::new(stack.endpoint(), credential);
    stack.begin(registration.call_id.value(), stack.login());
    let (uri, params) = (stack.registered_contact(), Vec::new());
    registration.contact = Some(Contact { display_name: None, uri, params });
    registration.outbound_proxy = proxy;
    let mut failures = 0_u32;
    loop {
        let delay = match ask(&stack, &mut registration, EXPIRES_SECONDS).await {
            Ok(granted) => {
                if failures > 0 || registration.last_seq <= 2 {
                    info!(expires = ?granted, "registered at the trunk");
                }
                failures = 0;
                (granted / 2).clamp(DELAYS.0, DELAYS.1)
            }
            Err(reason) => {
                failures += 1;
                let delay = (DELAYS.0 * 2_u32.saturating_pow(failures - 1)).min(RETRY_LIMIT);
                warn!(reason, ?delay, "not registered at the trunk; trying again");
                delay
            }
        };
        tokio::select! {
            () = sleep(delay) => {}
            () = leaving.cancelled() => break,
        }
    }
    if ask(&stack, &mut registration, 0).await.is_err() {
        warn!("the registration was not taken back; it ends by itself");
    }
}

/// Sends one REGISTER. Returns the interval granted.
async fn ask(
    stack: &Stack,
    registration: &mut Registration,
    expires: u32,
) -> Result<Duration, String> {
    stack.connect(stack.trunks.first()).await.map_err(|fault| fault.to_string())?;
    let asked = registration.register(stack.registrar(), Some(expires));
    let answer: Response = match timeout(stack.limits.response, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no answer in time".to_owned()),
    };
    match answer.status_code.code() {
        200..=299 => Ok(Duration::from_secs(registration.expires().into())),
        code => Err(format!("it answered {code}")),
    }
}
