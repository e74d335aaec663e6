//! Metrics of campaigns and contacts that wait.

use campaign_process::metrics::{Gauge, MetricTable, SecondsGauge};

/// Backlog: counts of campaigns and contacts.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    pub scheduled: usize,
    pub running: usize,
    pub paused: usize,
    pub ahead: usize,
    pub due: usize,
    /// Contacts ahead or due that may be called at this hour.
    pub callable: usize,
    pub leased: usize,
    pub in_call: usize,
    pub oldest_due_seconds: f64,
    pub overdue_start_seconds: f64,
    pub clock_lag_seconds: f64,
    pub purge_contacts: usize,
}

/// Metrics of campaigns and contacts that wait.
#[derive(Debug)]
pub struct BacklogMetrics {
    campaigns: [Gauge; 3],
    contacts: [Gauge; 4],
    backlog: Gauge,
    oldest_due: SecondsGauge,
    overdue_start: SecondsGauge,
    clock_lag: SecondsGauge,
    purge_contacts: Gauge,
}

impl BacklogMetrics {
    pub(super) fn new(t: &mut MetricTable) -> Self {
        Self {
            campaigns: t.each(
                "campaigns",
                "Campaigns by state, without drafts and ended campaigns; the same at each replica",
                ("state", ["SCHEDULED", "RUNNING", "PAUSED"]),
            ),
            contacts: t.each(
                "contacts",
                "Contacts of running campaigns by where they wait, every few seconds: ahead of the run, \
                 excluded ones among them; due again by now; handed out and not dialled; in a call. Ahead \
                 and due are counted to 100,000 in all; the same at each replica",
                ("bucket", ["AHEAD", "DUE", "LEASED", "IN_CALL"]),
            ),
            backlog: t.one(
                "backlog_contacts",
                "Contacts that wait for a worker: AHEAD and DUE of campaign_contacts together, those left out \
                 whose hours are shut, at most 100,000; the same at each replica",
            ),
            oldest_due: t.one(
                "oldest_due_contact_seconds",
                "How long the contact of a running campaign has waited that is due again and waits longest, \
                 also while its hours are shut; 0: none",
            ),
            overdue_start: t.one(
                "overdue_start_seconds",
                "How long the start of a scheduled campaign is overdue; 0: none is",
            ),
            clock_lag: t.one(
                "agenda_clock_lag_seconds",
                "Time by which the clock is late for the campaign that waits longest for it, over all replicas",
            ),
            purge_contacts: t.one(
                "history_purge_contacts",
                "Contacts of resets whose old history is still to be deleted in the background",
            ),
        }
    }

    /// Sets the gauges of the backlog.
    pub fn set(&self, backlog: &Backlog) {
        set(&self.campaigns, [backlog.scheduled, backlog.running, backlog.paused]);
        set(&self.contacts, [backlog.ahead, backlog.due, backlog.leased, backlog.in_call]);
        set(std::slice::from_ref(&self.backlog), [backlog.callable]);
        set(std::slice::from_ref(&self.purge_contacts), [backlog.purge_contacts]);
        self.oldest_due.set(backlog.oldest_due_seconds);
        self.overdue_start.set(backlog.overdue_start_seconds);
        self.clock_lag.set(backlog.clock_lag_seconds);
    }
}

/// Sets gauges to values, in order.
pub(super) fn set<const N: usize>(gauges: &[Gauge], values: [usize; N]) {
    for (gauge, value) in gauges.iter().zip(values) {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}
