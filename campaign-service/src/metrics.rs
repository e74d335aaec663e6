//! Metrics of the service: their table, and the counting of the service's facts.
//!
//! Counts of the database are the same at each replica. Add up only counts of a replica's own work.

mod backlog;

use crate::app::facts::report::{Outcome, Report};
use crate::store::PoolStatus;
use backlog::set;
pub use backlog::{Backlog, BacklogMetrics};
use campaign_domain::dispatch::Decision;
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_process::metrics::{
    Counter, Durations, Family, Gauge, Histogram, Labels, MetricTable, SecondsGauge,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Reasons of rejected callers, from [`crate::app::error::Error::Busy`].
const REFUSALS: [&str; 3] = ["RATE_LIMITED", "OVERLOADED", "TOO_MANY_STREAMS"];

/// Chores. Each has its own rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    ExpireLeases,
    AdvanceCampaigns,
    PurgeHistory,
    ForgetAnswers,
    ForgetAttempts,
    DeleteHistory,
    FinishErasures,
    CountAttempts,
    PurgeDeletedCampaigns,
    CheckAgenda,
    KeepCounts,
    CheckCounts,
}

impl Chore {
    /// All chores, in order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::ExpireLeases,
        Self::AdvanceCampaigns,
        Self::PurgeHistory,
        Self::ForgetAnswers,
        Self::ForgetAttempts,
        Self::DeleteHistory,
        Self::FinishErasures,
        Self::CountAttempts,
        Self::PurgeDeletedCampaigns,
        Self::CheckAgenda,
        Self::KeepCounts,
        Self::CheckCounts,
    ];

    /// Returns the name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExpireLeases => "expiring leases",
            Self::AdvanceCampaigns => "advancing campaigns",
            Self::PurgeHistory => "purging history",
            Self::ForgetAnswers => "forgetting old answers",
            Self::ForgetAttempts => "forgetting old attempts",
            Self::DeleteHistory => "deleting old history",
            Self::FinishErasures => "finishing erasures",
            Self::CountAttempts => "counting attempts",
            Self::PurgeDeletedCampaigns => "purging deleted campaigns",
            Self::CheckAgenda => "checking the agenda",
            Self::KeepCounts => "keeping counts",
            Self::CheckCounts => "checking counts",
        }
    }
}

/// Counters, gauges and histograms, one for each metric.
#[derive(Debug)]
pub struct Metrics {
    table: MetricTable,
    pub requests: RequestMetrics,
    pub calls: CallMetrics,
    pub database: DatabaseMetrics,
    pub chores: ChoreMetrics,
    pub waiting: BacklogMetrics,
    pub counts: CountMetrics,
    zone_data: Family<Labels<2>, Gauge>,
}

/// Metrics of requests and connections.
#[derive(Debug)]
pub struct RequestMetrics {
    pub ended: Family<Labels<3>, Counter>,
    pub duration: Durations<2>,
    pub in_progress: Family<Labels<2>, Gauge>,
    refused: [Counter; 3],
    turned_away: Family<Labels<1>, Counter>,
}

/// Metrics of leases, calls and facts.
#[derive(Debug)]
pub struct CallMetrics {
    pub leases: Counter,
    pub leased_contacts: Counter,
    pub expired_leases: Counter,
    authorizations: [Counter; 8],
    pub lease_duration: Histogram,
    pub authorize_duration: Histogram,
    call_outcomes: [Counter; CallOutcome::ALL.len()],
    interactions: [Counter; 7],
    reports: [Counter; 4],
}

/// Metrics of the database.
#[derive(Debug)]
pub struct DatabaseMetrics {
    pub up: Gauge,
    pool: [Gauge; 4],
}

/// Metrics of the chores.
#[derive(Debug)]
pub struct ChoreMetrics {
    rounds: [Counter; Chore::ALL.len()],
    failures: [Counter; Chore::ALL.len()],
    success: [SecondsGauge; Chore::ALL.len()],
    pub agenda_mended: Counter,
}

/// Metrics of counting contacts.
#[derive(Debug)]
pub struct CountMetrics {
    pub readings: Counter,
    pub mends: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut table = MetricTable::new("campaign");
        let t = &mut table;
        Self {
            requests: RequestMetrics::new(t),
            calls: CallMetrics::new(t),
            database: DatabaseMetrics::new(t),
            chores: ChoreMetrics::new(t),
            waiting: BacklogMetrics::new(t),
            counts: CountMetrics::new(t),
            zone_data: t.family(
                "time_zone_data_info",
                "1 for the time zone data that holds, by its version and where it is from",
            ),
            table,
        }
    }
}

impl RequestMetrics {
    fn new(t: &mut MetricTable) -> Self {
        Self {
            ended: t.family(
                "grpc_requests",
                "Requests and streams that ended, by service, method and gRPC code",
            ),
            duration: t.durations(
                "grpc_request_duration_seconds",
                "Duration of requests, by service and method; streams are not counted",
            ),
            in_progress: t.family(
                "grpc_requests_in_progress",
                "Requests and open streams in progress, by service and method; for Dispatch, the streams of workers",
            ),
            refused: t.each(
                "refused_requests",
                "Requests and streams rejected because there were too many, by reason",
                ("reason", REFUSALS),
            ),
            turned_away: t.family(
                "connections_turned_away",
                "Connections closed in favour of newer ones or beyond a limit, by listener",
            ),
        }
    }
}

impl CallMetrics {
    fn new(t: &mut MetricTable) -> Self {
        Self {
            leases: t.one("leases", "Leases given to workers"),
            leased_contacts: t.one("leased_contacts", "Contacts in the leases given"),
            expired_leases: t.one(
                "expired_leases",
                "Leases that expired with contacts in them, taken back by this replica",
            ),
            authorizations: t.each(
                "authorizations",
                "Answers to authorisation requests, one for each contact, by result; GRANTED is a call",
                (
                    "result",
                    [
                        "GRANTED",
                        "ALREADY_GRANTED",
                        "LEASE_LOST",
                        "NOT_RUNNING",
                        "EXCLUDED",
                        "NOT_NOW",
                        "SLOT_CLOSED",
                        "THROTTLED",
                    ],
                ),
            ),
            lease_duration: t.duration(
                "lease_duration_seconds",
                "Time that the dispatcher took to lease from one campaign for the workers that wait",
            ),
            authorize_duration: t.duration(
                "authorize_duration_seconds",
                "Time from a worker's authorisation request to the durable answer",
            ),
            call_outcomes: t.each(
                "call_outcomes",
                "Ends of calls recorded, by outcome; a late end or a correction counts beside what it replaces",
                ("outcome", CallOutcome::ALL.map(CallOutcome::name)),
            ),
            interactions: t.each(
                "interactions",
                "Facts recorded, by kind",
                (
                    "kind",
                    [
                        "CALL_ENDED",
                        "TRANSFERRED",
                        "OPTED_OUT",
                        "SUCCESS",
                        "LINK_OPENED",
                        "TEXT_SENT",
                        "CALLED_IN",
                    ],
                ),
            ),
            reports: t.each(
                "reported_facts",
                "Facts reported, by result",
                ("result", ["RECORDED", "DUPLICATE", "BEFORE_RESET", "REJECTED"]),
            ),
        }
    }
}

impl DatabaseMetrics {
    fn new(t: &mut MetricTable) -> Self {
        Self {
            up: t.one(
                "database_up",
                "1 while the database answers, checked every 2 seconds; else 0",
            ),
            pool: t.each(
                "database_connections",
                "Connections to the database: in use, idle, the limit, and requests that wait for a connection",
                ("state", ["in_use", "idle", "max", "waiting"]),
            ),
        }
    }
}

impl ChoreMetrics {
    fn new(t: &mut MetricTable) -> Self {
        Self {
            rounds: t.each(
                "chore_rounds",
                "Rounds of each chore that were finished",
                ("chore", Chore::ALL.map(Chore::name)),
            ),
            failures: t.each(
                "chore_failures",
                "Rounds of each chore that failed; the next round tries again",
                ("chore", Chore::ALL.map(Chore::name)),
            ),
            success: t.each(
                "chore_last_success_timestamp_seconds",
                "When each chore was last finished, in seconds since 1970; 0: not yet",
                ("chore", Chore::ALL.map(Chore::name)),
            ),
            agenda_mended: t.one(
                "agenda_mended",
                "Entries of the agenda that were late and are mended; stays 0, except after an upgrade from a version without agenda",
            ),
        }
    }
}

impl CountMetrics {
    fn new(t: &mut MetricTable) -> Self {
        Self {
            readings: t.one(
                "progress_readings",
                "Readings of a campaign's progress; callers who ask together share one",
            ),
            mends: t.one(
                "count_mends",
                "Kept counts of contacts that a check found wrong and corrected; anything but 0 is a fault, \
                 except just after an upgrade",
            ),
        }
    }
}

impl Metrics {
    /// Returns the counter of rejected connections of one listener.
    #[must_use]
    pub fn turned_away(&self, listener: &'static str) -> Counter {
        self.requests.turned_away.get_or_create_owned(&[("listener", listener)])
    }

    /// Returns all metrics as text, with the current state of the pool.
    #[must_use]
    pub fn render(&self, pool: &PoolStatus) -> String {
        let in_use = pool.connections.saturating_sub(pool.idle);
        set(&self.database.pool, [in_use, pool.idle, pool.max_connections, pool.waiting]);
        let zones = campaign_domain::zones::current();
        self.zone_data.clear();
        let labels = [("version", zones.version()), ("source", zones.source())];
        self.zone_data.get_or_create_owned(&labels).set(1);
        self.table.render()
    }

    /// Counts a rejected caller.
    pub fn refused(&self, reason: &str) {
        if let Some(index) = REFUSALS.iter().position(|known| *known == reason) {
            self.requests.refused[index].inc();
        }
    }

    /// Counts the answers to one authorisation request of a worker.
    pub fn authorized(&self, decisions: impl Iterator<Item = Decision>) {
        add(
            &self.calls.authorizations,
            decisions.map(|decision| match decision {
                Decision::Granted => 0,
                Decision::AlreadyGranted => 1,
                Decision::LeaseLost => 2,
                Decision::NotRunning => 3,
                Decision::Excluded => 4,
                Decision::NotNow => 5,
                Decision::SlotClosed => 6,
                Decision::Throttled => 7,
            }),
        );
    }

    /// Counts the results of reported facts.
    pub fn reported(&self, reports: &[&Report], outcomes: &[&Outcome]) {
        add(
            &self.calls.reports,
            outcomes.iter().map(|outcome| match outcome {
                Outcome::Recorded => 0,
                Outcome::Duplicate => 1,
                Outcome::BeforeReset => 2,
                Outcome::Rejected(_) => 3,
            }),
        );
        let recorded = || {
            let pairs = reports.iter().zip(outcomes);
            pairs
                .filter(|(_, outcome)| ***outcome == Outcome::Recorded)
                .map(|(report, _)| &report.fact)
        };
        add(
            &self.calls.interactions,
            recorded().map(|fact| match fact {
                Fact::CallEnded { .. } => 0,
                Fact::Transferred { .. } => 1,
                Fact::OptedOut { .. } => 2,
                Fact::Success => 3,
                Fact::LinkOpened { .. } => 4,
                Fact::TextSent => 5,
                Fact::CalledIn { .. } => 6,
            }),
        );
        add(
            &self.calls.call_outcomes,
            recorded().filter_map(|fact| match fact {
                Fact::CallEnded { outcome, .. } => Some(usize::from(outcome.number())),
                _ => None,
            }),
        );
    }

    /// Counts an expired lease and its `unknown` calls, whose ends are not known.
    pub fn lease_expired(&self, unknown: usize) {
        self.calls.expired_leases.inc();
        self.calls.call_outcomes[usize::from(CallOutcome::Unknown.number())].inc_by(unknown as u64);
    }

    /// Counts a round of a chore.
    pub fn chore_done(&self, chore: Chore, is_success: bool) {
        let chore = chore as usize;
        if !is_success {
            self.chores.failures[chore].inc();
            return;
        }
        self.chores.rounds[chore].inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.chores.success[chore].set(now.as_secs_f64());
    }
}

/// Adds to counters by their indexes. Each counter is touched once, with its sum.
fn add<const N: usize>(counters: &[Counter; N], indexes: impl Iterator<Item = usize>) {
    let mut sums = [0; N];
    for index in indexes {
        sums[index] += 1;
    }
    for (counter, sum) in counters.iter().zip(sums) {
        if sum > 0 {
            counter.inc_by(sum);
        }
    }
}
