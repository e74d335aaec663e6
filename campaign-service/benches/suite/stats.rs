//! Medians and percentiles.

use std::time::Duration;

/// Returns the middle value; of an even number, the higher of the two.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// Returns the smallest value that at least `percent` of all do not exceed; NaN of none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).floor() as usize;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
