//! Support of the tests: a database for each, a running service, clients, and a worker under control.

pub mod access;
mod behind;
pub mod collector;
mod copying;
mod database;
pub mod postgres;
pub mod processes;
pub mod proxy;
mod service;
mod worker;

pub use behind::{gate_key, hold_gate, rows_touched, until_alone, waits};
pub use copying::{WITH_CONTACTS, WITHOUT_CONTACTS, copy_campaign, id_of};
pub use database::{TestDb, open};
pub use service::{Clients, Service, test_options, without_chores};
pub use worker::{Held, Worker};

use campaign_proto::v1;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Longest wait for an event that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, and checks it again and again.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns a schedule that is open at every hour.
pub fn always() -> v1::Schedule {
    let window = |weekday| v1::WeeklyWindow { weekday, start_minute: 0, end_minute: 1_440 };
    v1::Schedule {
        time_zone: "Europe/Berlin".to_owned(),
        windows: (1..=7).map(window).collect(),
        ..v1::Schedule::default()
    }
}

/// Returns the n-th phone number set aside for fiction: North American 555-01xx, in many areas.
pub fn phone(n: usize) -> String {
    const AREAS: [u32; 20] = [
        201, 202, 203, 205, 206, 207, 208, 209, 210, 212, 213, 214, 215, 216, 217, 218, 219, 224,
        225, 228,
    ];
    assert!(n < AREAS.len() * 100, "more numbers than there are");
    format!("+1{}55501{:02}", AREAS[n / 100], n % 100)
}

/// Returns a policy that calls every contact once, whatever the outcome.
pub fn once() -> v1::RetryPolicy {
    let rule = Some(retry(1, 0));
    v1::RetryPolicy {
        no_answer: rule,
        busy: rule,
        failed: rule,
        voicemail: rule,
        unknown: rule,
        abandoned: rule,
    }
}

/// Returns a rule with this number of attempts and this delay in seconds.
pub fn retry(max_attempts: i32, min_delay_seconds: i64) -> v1::RetryRule {
    let min_delay = Some(prost_types::Duration { seconds: min_delay_seconds, nanos: 0 });
    v1::RetryRule { max_attempts, min_delay }
}

/// Returns the fields that a status names as invalid.
pub fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().expect("BadRequest").field_violations;
    violations.into_iter().map(|violation| violation.field).collect()
}

/// Returns the reason that a status gives to programs.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("ErrorInfo").reason
}
