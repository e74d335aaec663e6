//! Rate of dialling, and the number of contacts to hold in advance.

use std::time::Duration;

use tokio::time::Instant;

/// Part of a second whose calls may start together. The limit spares the provider a whole second's
/// calls at once.
const BURST_PARTS: u32 = 10;

/// Rate of calls, as a bucket that fills with time.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Interval between calls; `None` means no limit.
    interval: Option<Duration>,
    burst: u32,
    /// Moment when the bucket was empty. All time since then is unused.
    empty_at: Instant,
}

impl Pace {
    pub fn new(calls_per_second: Option<u32>, now: Instant) -> Self {
        let interval = calls_per_second.map(|calls| Duration::from_secs(1) / calls.max(1));
        let burst = (calls_per_second.unwrap_or(1) / BURST_PARTS).max(1);
        Self { interval, burst, empty_at: now }
    }

    /// Returns how many calls may start now.
    pub fn available(&self, now: Instant) -> usize {
        let Some(interval) = self.interval else { return usize::MAX };
        let since = now.saturating_duration_since(self.empty_at);
        let calls = since.as_nanos() / interval.as_nanos().max(1);
        usize::try_from(calls.min(self.burst.into())).unwrap_or(usize::MAX)
    }

    /// Returns how many calls may start within `time`; at least one.
    pub fn within(&self, time: Duration) -> usize {
        let Some(interval) = self.interval else { return usize::MAX };
        let calls = time.as_nanos() / interval.as_nanos().max(1);
        usize::try_from(calls).unwrap_or(usize::MAX).max(1)
    }

    /// Returns when the next call may start, if none may start now.
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval.filter(|_| self.available(now) == 0)?;
        Some(self.empty_at + interval)
    }

    /// Takes calls from the bucket.
    pub fn take(&mut self, calls: usize, now: Instant) {
        let Some(interval) = self.interval else { return };
        // Time that the bucket could not hold is lost.
        if let Some(full_since) = now.checked_sub(interval * self.burst) {
            self.empty_at = self.empty_at.max(full_since);
        }
        self.empty_at += interval * u32::try_from(calls).unwrap_or(u32::MAX);
    }

    /// Puts calls back into the bucket that were taken and did not start.
    pub fn give_back(&mut self, calls: usize) {
        let Some(interval) = self.interval else { return };
        let unused = interval * u32::try_from(calls).unwrap_or(u32::MAX);
        self.empty_at = self.empty_at.checked_sub(unused).unwrap_or(self.empty_at);
    }
}

/// Contacts dialled in the latest lifetimes of a lease. They predict the next lifetime.
#[derive(Debug)]
pub(crate) struct Throughput {
    window: Duration,
    begun: Instant,
    before: usize,
    current: usize,
}

impl Throughput {
    pub fn new(now: Instant) -> Self {
        Self { window: Duration::ZERO, begun: now, before: 0, current: 0 }
    }

    pub fn set_window(&mut self, lease_ttl: Duration) {
        self.window = lease_ttl;
    }

    pub fn add(&mut self, calls: usize, now: Instant) {
        self.advance(now);
        self.current += calls;
    }

    /// Returns how many contacts to expect in one window.
    pub fn expected(&mut self, now: Instant) -> usize {
        self.advance(now);
        self.before.max(self.current)
    }

    fn advance(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.begun);
        if age < self.window {
            return;
        }
        self.before = if age < self.window * 2 { self.current } else { 0 };
        self.current = 0;
        self.begun = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_means_none() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        pace.take(1_000, now);
        assert_eq!((pace.available(now), pace.next_at(now)), (usize::MAX, None));
    }

    #[test]
    fn starts_are_spread_over_the_second() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(50), start);
        let mut started = Vec::new();
        for step in 1..=4_000_u32 {
            let now = start + Duration::from_millis(1) * step;
            let calls = pace.available(now);
            pace.take(calls, now);
            started.push(calls);
        }
        let most_in_a_second = started.windows(1_000).map(|w| w.iter().sum::<usize>()).max();
        assert_eq!(most_in_a_second, Some(50));
        assert_eq!(started.iter().sum::<usize>(), 200);
        assert_eq!(started.iter().max(), Some(&1));
    }

    #[test]
    fn what_was_not_used_is_kept_only_for_a_tenth_of_a_second() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(50), start);
        let later = start + Duration::from_secs(3_600);
        assert_eq!(pace.available(later), 5);
        pace.take(5, later);
        assert_eq!(pace.available(later), 0);
        assert_eq!(pace.next_at(later), Some(later + Duration::from_millis(20)));
        pace.give_back(2);
        assert_eq!(pace.available(later), 2);
    }

    #[test]
    fn slow_paces_work() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1), start);
        assert_eq!(pace.available(start), 0);
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.available(later), 1);
        pace.take(1, later);
        assert_eq!(pace.next_at(later), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn expects_what_the_last_window_saw() {
        let window = Duration::from_secs(60);
        let start = Instant::now();
        let mut throughput = Throughput::new(start);
        throughput.set_window(window);
        throughput.add(30, start + window / 2);
        assert_eq!(throughput.expected(start + window / 2), 30);
        throughput.add(5, start + window);
        assert_eq!(throughput.expected(start + window), 30);
        assert_eq!(throughput.expected(start + window * 2), 5);
        assert_eq!(throughput.expected(start + window * 9), 0);
    }
}
