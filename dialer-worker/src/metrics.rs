//! Table of the worker's metrics.

use campaign_process::metrics::{Counter, Gauge, MetricTable};

use crate::call::Outcome;

/// Metrics of the worker.
#[derive(Debug)]
pub struct Metrics {
    table: MetricTable,
    /// Dials begun.
    pub(crate) calls: Counter,
    /// Dials that have not ended.
    pub(crate) calls_in_progress: Gauge,
    call_ends: [Counter; Outcome::ALL.len()],
    /// Contacts held or requested and not dialled.
    pub(crate) undialled_contacts: Gauge,
    /// Facts without acknowledgement.
    pub(crate) unacknowledged_facts: Gauge,
    /// Streams that were welcomed.
    pub(crate) connections: Counter,
    /// Whether a stream is open.
    pub(crate) connected: Gauge,
    /// Callbacks without the platform's signature.
    pub(crate) refused_callbacks: Counter,
    /// Connections to the callback listener that were closed in favour of newer ones.
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
                "Callbacks rejected for a missing, expired or wrong signature",
            ),
            callbacks_turned_away: t.one(
                "callback_connections_turned_away",
                "Callback connections closed in favour of newer ones",
            ),
            provider_failing: t
                .one("provider_failing", "1 while the provider fails and nothing is dialled, else 0"),
            table,
        }
    }
}

impl Metrics {
    /// Renders the metrics as text.
    #[must_use]
    pub fn render(&self) -> String {
        self.table.render()
    }

    pub(crate) fn call_ended(&self, outcome: Outcome) {
        self.call_ends[outcome as usize].inc();
    }
}
