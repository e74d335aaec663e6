//! Reports to the service whether the provider fails, so that a campaign can say why nobody is
//! called.

use std::time::Duration;

use campaign_proto::v1::ProviderReport;
use tokio::time::Instant;

/// Interval at which a failure is repeated. The service believes a report for five minutes.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Provider status reported on this stream. On a new stream the service believes that the provider
/// works.
#[derive(Debug, Default)]
pub(crate) struct ProviderStatus {
    told_failing_at: Option<Instant>,
}

impl ProviderStatus {
    /// Returns the report due by now. `failure` is the reason why the provider fails, if it does.
    pub fn next_report(&mut self, failure: Option<&str>, now: Instant) -> Option<ProviderReport> {
        let is_due = match self.told_failing_at {
            None => failure.is_some(),
            Some(told_at) => failure.is_none() || told_at + REPEAT_INTERVAL <= now,
        };
        if !is_due {
            return None;
        }
        self.told_failing_at = failure.map(|_| now);
        let reason = failure.unwrap_or_default().to_owned();
        Some(ProviderReport { failing: failure.is_some(), reason })
    }

    /// Returns when to repeat the report, if nothing changes before.
    pub fn repeat_at(&self) -> Option<Instant> {
        self.told_failing_at.map(|told_at| told_at + REPEAT_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_each_change_once_and_a_failure_every_minute() {
        let mut status = ProviderStatus::default();
        let mut now = Instant::now();
        assert_eq!(status.next_report(None, now), None, "it works, as the service believes");
        let failing = ProviderReport { failing: true, reason: "no connection".to_owned() };
        assert_eq!(status.next_report(Some("no connection"), now), Some(failing.clone()));
        assert_eq!(status.next_report(Some("no connection"), now), None);
        for _ in 0..3 {
            now += REPEAT_INTERVAL / 2;
            assert_eq!(status.next_report(Some("no connection"), now), None);
            now += REPEAT_INTERVAL / 2;
            assert_eq!(status.repeat_at(), Some(now));
            assert_eq!(status.next_report(Some("no connection"), now), Some(failing.clone()));
        }
        assert_eq!(status.next_report(None, now), Some(ProviderReport::default()));
        assert_eq!((status.next_report(None, now), status.repeat_at()), (None, None));
    }
}
