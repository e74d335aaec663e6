//! Metrics of a process, for Prometheus. A process declares each metric once, in one table;
//! `/metrics` shows them. Counting costs an atomic addition, whether or not anything scrapes.

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::fmt;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;

/// Upper bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Spans of this process that were dropped: the collector did not accept them, or too many waited.
pub(crate) static LOST_SPANS: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Names and values of labels. Labels are the program's own text only, never a person's id, number
/// or name.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Gauge of seconds or of a time.
pub type SecondsGauge = Gauge<f64, AtomicU64>;

/// Histograms of durations, by labels.
pub type Durations<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Metrics of a process. Names follow Prometheus; counters omit their `_total`.
#[derive(Debug)]
pub struct MetricTable(Registry);

impl MetricTable {
    /// Returns a table with the metrics common to all processes. Each name starts with `prefix` and
    /// an underscore.
    #[must_use]
    pub fn new(prefix: &'static str) -> Self {
        let mut table = Self(Registry::with_prefix(prefix));
        let help = "Spans dropped because the collector did not accept them or too many waited";
        table.add("lost_spans", help, LOST_SPANS.clone());
        table
    }

    fn add<M: Metric + Clone>(&mut self, name: &'static str, help: &'static str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    /// Adds a metric without labels.
    pub fn one<M>(&mut self, name: &'static str, help: &'static str) -> M
    where
        M: Metric + Clone + Default,
    {
        self.add(name, help, M::default())
    }

    /// Adds one metric per value of a label. All of them exist from the start.
    pub fn each<M, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, [&'static str; N]),
    ) -> [M; N]
    where
        M: EncodeMetric + TypedMetric + fmt::Debug + Clone + Default + Send + Sync + 'static,
    {
        let family: Family<Labels<1>, M> = self.family(name, help);
        values.map(|value| family.get_or_create_owned(&[(label, value)]))
    }

    /// Adds a metric whose labels appear when they are first used.
    pub fn family<M, const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Family<Labels<N>, M>
    where
        M: EncodeMetric + TypedMetric + fmt::Debug + Clone + Default + Send + Sync + 'static,
    {
        self.add(name, help, Family::default())
    }

    /// Adds a histogram of durations, in seconds.
    pub fn duration(&mut self, name: &'static str, help: &'static str) -> Histogram {
        self.add(name, help, histogram())
    }

    /// Adds a histogram of durations in seconds, whose labels appear when they are first used.
    pub fn durations<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Durations<N> {
        self.add(name, help, Family::new_with_constructor(histogram as fn() -> Histogram))
    }

    /// Renders all metrics as text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.0);
        text
    }
}

fn histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}
