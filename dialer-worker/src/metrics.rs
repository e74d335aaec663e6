//! What the worker counts: the table of its metrics.

use campaign_process::metrics::{Counter, Gauge, MetricTable};

use crate::dialer::Outcome;

/// One for each metric.
#[derive(Debug)]
pub struct Metrics {
    table: MetricTable,
    /// Dials begun.
    pub(crate) calls: Counter,
    /// Dials that have not ended.
    pub(crate) calls_in_progress: Gauge,
    call_ends: [Counter; 6],
    /// Contacts held or asked for.
    pub(crate) undialled_contacts: Gauge,
    /// Facts without acknowledgement.
    pub(crate) unacknowledged_facts: Gauge,
    /// Streams that were welcomed.
    pub(crate) connections: Counter,
    /// Whether there is a stream.
    pub(crate) connected: Gauge,
    /// Callbacks without the platform's signature.
    pub(crate) refused_callbacks: Counter,
    /// Connections to the listener for callbacks that had to go.
    pub(crate) callbacks_turned_away: Counter,
    /// Whether the provider fails.
    pub(crate) provider_failing: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut table = MetricTable::new("dialer");
        let t = &mut table;
        Self {
            calls: t.one("calls", "Calls dialled"),
            calls_in_progress: t.one("calls_in_progress", "Calls dialled that have not ended"),
            call_ends: t.each(
                "call_ends",
                "Calls that ended, by outcome",
                ("outcome", Outcome::ALL.map(Outcome::name)),
            ),
            undialled_contacts: t
                .one("undialled_contacts", "Contacts in hand that are not dialled yet"),
            unacknowledged_facts: t.one(
                "unacknowledged_facts",
                "Facts that the service has not said are durable; at --max-unacknowledged-reports nothing \
                 more is dialled",
            ),
            connections: t.one("connections", "Streams to the service that were welcomed"),
            connected: t.one("connected", "1 while there is a stream to the service, else 0"),
            refused_callbacks: t.one(
                "refused_callbacks",
                "Callbacks refused since their signature was missing, too old or wrong",
            ),
            callbacks_turned_away: t.one(
                "callback_connections_turned_away",
                "Connections for callbacks that had to give way to newer ones",
            ),
            provider_failing: t
                .one("provider_failing", "1 while the provider fails and nothing is dialled, else 0"),
            table,
        }
    }
}

impl Metrics {
    /// As text.
    #[must_use]
    pub fn render(&self) -> String {
        self.table.render()
    }

    pub(crate) fn call_ended(&self, outcome: Outcome) {
        self.call_ends[outcome as usize].inc();
    }
}
