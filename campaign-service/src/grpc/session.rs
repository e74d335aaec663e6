//! Stream of one worker. Its requests are answered in order, and it receives contacts while it has credit.

mod handing_out;
mod parts;
mod rejecting;
mod revoking;

use super::access::Admitted;
use super::batches::attempt_to_api;
use super::check::{Check, within};
use super::convert::timestamp;
use super::interactions::record_all;
use super::limits::{WorkerStream, WorkerStreams};
use super::names::{self, CampaignName};
use super::reading::Unread;
use crate::app::campaigns::Campaigns;
use crate::app::dispatch::Dispatch;
use crate::app::dispatch::authorizing::Authorization;
use crate::app::dispatch::batch::LeaseKey;
use crate::app::error::Error;
use crate::app::facts::Facts;
use crate::metrics::Metrics;
use crate::store::notify::{ControlEvent, StopCause};
use campaign_domain::access::Reach;
use campaign_domain::dispatch::Decision;
use campaign_domain::shares::Shares;
use campaign_process::traces::{self, SpanKind};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
pub use parts::SessionParts;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::Instrument;
use uuid::Uuid;

/// Longest name of a lease, in characters.
const MAX_LEASE_NAME_LENGTH: usize = 100;
/// Version of the protocol.
const PROTOCOL_VERSION: i32 = 1;
/// Longest wait for a worker's hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a worker to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// Time between checks of an idle worker's session for contacts that became due.
const IDLE_POLL: Duration = Duration::from_millis(500);
/// Most leases named in one message, and campaigns in hello.
const MAX_NAMES: usize = 100;
/// Most reports of one worker that are recorded concurrently. At the limit nothing is read from the worker.
const REPORTS_AT_ONCE: usize = 4;
/// Longest reason for a provider's trouble, in characters. A longer reason is cut.
const MAX_REASON_LENGTH: usize = 200;
/// Longest name of a worker, in characters.
const MAX_WORKER_ID_LENGTH: usize = 100;
/// Error about lost leases that are not among the leases.
const AMONG_LEASES: &str = "must be names of those in leases";
/// Run assumed for an ended lease, whose run only the worker knows. With run 1, the worker is notified of every stop.
const ANY_RUN: i32 = 1;

type Outgoing = mpsc::Sender<Result<v1::DispatchResponse, Status>>;

/// Lease that this stream's worker holds, or has calls in progress of, as far as the service knows.
struct Held {
    run: i32,
    /// Last stop that the worker was notified of: its cause, and whether calls are hung up.
    told: Option<(StopCause, bool)>,
    /// Time, by the clock of this process, when the lease has surely expired.
    gone_at: tokio::time::Instant,
}

/// State of one stream.
pub struct Session {
    campaigns: Arc<Campaigns>,
    dispatch: Arc<Dispatch>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    admitted: Admitted,
    /// Campaigns that the worker may see.
    reach: Reach,
    control: broadcast::Receiver<ControlEvent>,
    stop: CancellationToken,
    outgoing: Outgoing,
    streams: WorkerStreams,
    /// Place among the worker's streams, once hello has named the worker.
    _place: Option<WorkerStream>,
    /// Identifier that tells this stream from others of the same worker.
    id: Uuid,
    /// Name of the worker. A tenant's name and a slash come first, since tenants may use the same names.
    worker_id: String,
    /// Campaigns that the worker serves; empty: all.
    only: HashSet<CampaignName>,
    credit: usize,
    /// Leases of the worker, by campaign and number.
    held: HashMap<(Uuid, i64), Held>,
    /// Weights of the campaigns that may have contacts. Campaigns that had none are removed.
    round: HashMap<Uuid, i32>,
    round_ends_at: tokio::time::Instant,
    shares: Shares<Uuid>,
    /// Campaign with new work for an idle worker, leased from first.
    urgent: Option<Uuid>,
    is_idle: bool,
    /// Whether the worker reports that its provider fails.
    is_in_trouble: bool,
    /// Places for reports that are being recorded.
    reports: Arc<Semaphore>,
    /// Errors of messages that were replaced by empty ones.
    unread: Unread,
}

impl Session {
    pub fn new(
        parts: SessionParts,
        admitted: Admitted,
        control: broadcast::Receiver<ControlEvent>,
        outgoing: Outgoing,
        unread: Unread,
    ) -> Self {
        let SessionParts { campaigns, dispatch, facts, metrics, stop, streams } = parts;
        Self {
            campaigns,
            dispatch,
            facts,
            metrics,
            reach: admitted.caller.reach_at_work(),
            admitted,
            control,
            stop,
            outgoing,
            streams,
            _place: None,
            id: Uuid::new_v4(),
            worker_id: String::new(),
            only: HashSet::new(),
            credit: 0,
            held: HashMap::new(),
            round: HashMap::new(),
            round_ends_at: tokio::time::Instant::now(),
            shares: Shares::default(),
            urgent: None,
            is_idle: true,
            is_in_trouble: false,
            reports: Arc::new(Semaphore::new(REPORTS_AT_ONCE)),
            unread,
        }
    }

    /// Serves the worker until it leaves, breaks the protocol, or its token expires. If the worker does
    /// not leave a stopping replica, the stream ends too.
    pub async fn run(mut self, incoming: Streaming<v1::DispatchRequest>) -> Result<(), Status> {
        let served = self.serve(incoming).await;
        if self.is_in_trouble {
            // The worker reports the trouble again to the next replica.
            self.note_trouble(None).await?;
        }
        served
    }

    async fn serve(&mut self, mut incoming: Streaming<v1::DispatchRequest>) -> Result<(), Status> {
        let late = |_| Status::deadline_exceeded("hello must come within 10 seconds");
        match timeout(HELLO_LIMIT, incoming.message()).await.map_err(late)?? {
            Some(v1::DispatchRequest { message: Some(Request::Hello(hello)) }) => {
                self.greet(hello).await?;
            }
            Some(v1::DispatchRequest { message: None }) => {
                return Err(self.unread.next().unwrap_or_else(unknown).into());
            }
            _ => return Err(Error::invalid("hello", "must be the first message").into()),
        }
        let mut poll_at = tokio::time::Instant::now();
        let mut leave_at = None;
        let stop = self.stop.clone();
        let admitted = self.admitted.clone();
        let mut token_end = pin!(admitted.end());
        loop {
            let may_lease = self.credit > 0 && leave_at.is_none();
            tokio::select! {
                biased;
                error = &mut token_end => return Err(error.into()),
                // Events come first, so that a worker that sends much is still notified of a pause.
                event = self.control.recv() => self.hear(event).await?,
                message = incoming.message() => match message? {
                    None => return Ok(()),
                    Some(request) => self.answer_or_reject(request).await?,
                },
                () = stop.cancelled(), if leave_at.is_none() => {
                    let grace = self.dispatch.limits.drain_grace;
                    leave_at = Some(tokio::time::Instant::now() + grace);
                    let grace = grace.try_into().ok();
                    self.send(Response::Drain(v1::Drain { grace })).await?;
                }
                () = sleep_until(leave_at.unwrap_or(poll_at)), if leave_at.is_some() => {
                    return Err(Status::unavailable("this replica stopped; connect to another one"));
                }
                () = std::future::ready(()), if may_lease && !self.is_idle => {
                    self.lease_next().await?;
                    poll_at = tokio::time::Instant::now() + IDLE_POLL;
                }
                () = sleep_until(poll_at), if may_lease && self.is_idle => {
                    self.poll().await?;
                    poll_at = tokio::time::Instant::now() + IDLE_POLL;
                }
            }
        }
    }

    async fn greet(&mut self, hello: v1::Hello) -> Result<(), Status> {
        let mut check = Check::default();
        check.text("hello.worker_id", &hello.worker_id, 1..=MAX_WORKER_ID_LENGTH);
        check.require(hello.leases.len() <= MAX_NAMES, "hello.leases", "must be at most 100");
        let are_held = hello.lost_leases.len() <= hello.leases.len();
        check.require(are_held, "hello.lost_leases", AMONG_LEASES);
        check.require(hello.campaigns.len() <= MAX_NAMES, "hello.campaigns", "must be at most 100");
        check.require(
            hello.protocol_version == PROTOCOL_VERSION,
            "hello.protocol_version",
            "must be 1; use a worker of this service's version",
        );
        check.finish()?;
        for name in &hello.campaigns {
            self.only.insert(names::campaign("hello.campaigns", name)?);
        }
        let tenant = &self.admitted.caller.tenant;
        self.worker_id = if tenant.is_empty() {
            hello.worker_id
        } else {
            format!("{tenant}/{}", hello.worker_id)
        };
        let place = self.streams.open(&self.worker_id);
        self._place = Some(place.inspect_err(|_| self.metrics.refused("TOO_MANY_STREAMS"))?);
        let leases = self.renew(&hello.leases, &hello.lost_leases).await?;
        let limits = &self.dispatch.limits;
        let seconds = i64::try_from(limits.lease_ttl.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(limits.lease_ttl.subsec_nanos()).unwrap_or(0);
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let welcome = v1::Welcome {
            lease_ttl: Some(prost_types::Duration { seconds, nanos }),
            max_batch_contacts: count(limits.max_batch_contacts),
            max_credit_contacts: count(limits.max_credit_contacts),
            max_report_interactions: count(limits.max_report_interactions),
            leases,
        };
        self.send(Response::Welcome(welcome)).await?;
        // A run may have stopped while the worker was away.
        self.check_held().await
    }

    async fn answer(&mut self, request: v1::DispatchRequest) -> Result<(), Status> {
        match request.message {
            Some(Request::Credit(credit)) => self.add_credit(&credit),
            Some(Request::Authorize(authorize)) => self.authorize(authorize).await,
            Some(Request::Report(report)) => self.report(report).await,
            Some(Request::Renew(renew)) => {
                within("renew.leases", renew.leases.len(), MAX_NAMES)?;
                if renew.lost_leases.len() > renew.leases.len() {
                    return Err(Error::invalid("renew.lost_leases", AMONG_LEASES).into());
                }
                let leases = self.renew(&renew.leases, &renew.lost_leases).await?;
                self.send(Response::RenewResult(v1::RenewResult { leases })).await?;
                // A notification may be lost, and hello may have had no room for some leases.
                self.check_held().await
            }
            Some(Request::Release(release)) => self.release(release).await,
            Some(Request::ProviderReport(report)) => self.note_provider(&report).await,
            Some(Request::Hello(_)) => {
                Err(Error::invalid("hello", "must be the first message only").into())
            }
            None => Err(self.unread.next().unwrap_or_else(unknown).into()),
        }
    }

    fn add_credit(&mut self, credit: &v1::Credit) -> Result<(), Status> {
        let max = self.dispatch.limits.max_credit_contacts;
        let more = usize::try_from(credit.contacts).unwrap_or(usize::MAX);
        within("credit.contacts", more, max)?;
        within("credit.contacts with what is left", self.credit + more, max)?;
        if more > 0 {
            self.credit += more;
            self.is_idle = false;
        }
        Ok(())
    }

    async fn authorize(&mut self, authorize: v1::Authorize) -> Result<(), Status> {
        within(
            "authorize.slots",
            authorize.slots.len(),
            self.dispatch.limits.max_report_interactions,
        )?;
        // An invalid slot gets an index that no lease has.
        let slots: Vec<usize> = authorize
            .slots
            .iter()
            .map(|slot| usize::try_from(*slot).unwrap_or(usize::MAX))
            .collect();
        let traced = &authorize.traceparents;
        let mut trace =
            traces::begin_for("Dispatch authorize", SpanKind::Server, traced, slots.len());
        trace.set_count("attempts", slots.len());
        let asked_at = tokio::time::Instant::now();
        let answer = match self.key(authorize.lease.as_ref()).await? {
            Some(key) => self.dispatch.authorize(key, &slots).await?,
            None => Authorization::all(Decision::LeaseLost, slots.len()),
        };
        self.metrics.calls.authorize_duration.observe(asked_at.elapsed().as_secs_f64());
        self.metrics.authorized(answer.answers.iter().map(|answer| answer.decision));
        let attempts = authorize
            .slots
            .into_iter()
            .zip(answer.answers)
            .map(|(slot, answer)| attempt_to_api(slot, answer));
        let result = v1::AuthorizeResult {
            request_number: authorize.request_number,
            attempts: attempts.collect(),
            retry_delay: answer.retry_after.map(|after| prost_types::Duration {
                seconds: after.num_seconds(),
                nanos: after.subsec_nanos(),
            }),
        };
        self.send(Response::AuthorizeResult(result)).await
    }

    /// Records a report in the background, so that authorisations do not wait for it.
    async fn report(&mut self, report: v1::Report) -> Result<(), Status> {
        let max = self.dispatch.limits.max_report_interactions;
        within("report.interactions", report.interactions.len(), max)?;
        let Ok(turn) = Arc::clone(&self.reports).acquire_owned().await else { return Ok(()) };
        let (campaigns, facts) = (Arc::clone(&self.campaigns), Arc::clone(&self.facts));
        let (reach, outgoing) = (self.reach.clone(), self.outgoing.clone());
        let (traced, count) = (&report.traceparents, report.interactions.len());
        let mut trace = traces::begin_for("Dispatch report", SpanKind::Server, traced, count);
        trace.set_count("interactions", count);
        let recording = async move {
            let recorded = record_all(&campaigns, &facts, &reach, None, report.interactions).await;
            drop(trace);
            let response = recorded.map_err(Status::from).map(|results| {
                let ack = v1::ReportAck { report_number: report.report_number, results };
                v1::DispatchResponse { message: Some(Response::ReportAck(ack)) }
            });
            // An error only means that the worker is gone or too slow. The worker reports again.
            let _ = timeout(SEND_LIMIT, outgoing.send(response)).await;
            drop(turn);
        };
        tokio::spawn(recording.in_current_span());
        Ok(())
    }

    /// Renews leases. Except: leases in `lost` are not renewed.
    async fn renew(
        &mut self,
        keys: &[v1::LeaseKey],
        lost: &[String],
    ) -> Result<Vec<v1::RenewedLease>, Status> {
        let mut read = Vec::with_capacity(keys.len());
        for key in keys {
            let known = self.key(Some(key)).await?;
            read.push((known, known.filter(|_| !lost.contains(&key.lease))));
        }
        let live: Vec<LeaseKey> = read.iter().filter_map(|(_, live)| *live).collect();
        let mut renewed = self.dispatch.renew(&live).await?.into_iter();
        let mut results = Vec::with_capacity(keys.len());
        for (key, (known, live)) in keys.iter().zip(read) {
            let kept = live.and_then(|_| renewed.next().flatten());
            if let Some(known) = known {
                // A lost lease may have calls in progress.
                self.hold(known.campaign, known.number, kept.map_or(ANY_RUN, |(run, _)| run));
            }
            results.push(v1::RenewedLease {
                lease: named_by(&key.lease),
                expire_time: kept.map(|(_, expires_at)| timestamp(expires_at)),
                lost: kept.is_none(),
            });
        }
        Ok(results)
    }

    async fn note_provider(&mut self, report: &v1::ProviderReport) -> Result<(), Status> {
        self.is_in_trouble = report.failing;
        let reason: String = report.reason.chars().filter(|c| !c.is_control()).collect();
        let reason: String = reason.chars().take(MAX_REASON_LENGTH).collect();
        let trouble = report.failing.then_some(reason.as_str());
        self.note_trouble(trouble).await
    }

    async fn note_trouble(&self, trouble: Option<&str>) -> Result<(), Status> {
        let tenant = &self.admitted.caller.tenant;
        Ok(self.dispatch.note_provider(&self.worker_id, tenant, self.id, trouble).await?)
    }

    /// Returns the key of a lease, if its campaign is within the worker's reach.
    async fn key(&self, lease: Option<&v1::LeaseKey>) -> Result<Option<LeaseKey>, Status> {
        match names::lease(lease) {
            Some(name) => Ok(name.within(&self.campaigns, &self.reach).await?),
            None => Ok(None),
        }
    }

    async fn release(&mut self, release: v1::Release) -> Result<(), Status> {
        let max = self.dispatch.limits.max_batch_contacts;
        within("release.slots", release.slots.len(), max)?;
        let slots: Vec<usize> =
            release.slots.iter().map(|slot| usize::try_from(*slot).unwrap_or(usize::MAX)).collect();
        let released = match self.key(release.lease.as_ref()).await? {
            Some(key) => self.dispatch.release(key, &slots).await?,
            None => 0,
        };
        let lease = named_by(&release.lease.unwrap_or_default().lease);
        let released = i32::try_from(released).unwrap_or(i32::MAX);
        self.send(Response::ReleaseAck(v1::ReleaseAck { lease, released })).await
    }

    /// Records that the worker holds a lease that was just granted or renewed.
    fn hold(&mut self, campaign: Uuid, lease: i64, run: i32) {
        let gone_at = tokio::time::Instant::now() + self.dispatch.limits.lease_ttl;
        let held = self.held.entry((campaign, lease)).or_insert(Held { run, told: None, gone_at });
        (held.run, held.gone_at) = (run, gone_at);
    }

    async fn send(&self, message: Response) -> Result<(), Status> {
        let response = v1::DispatchResponse { message: Some(message) };
        match timeout(SEND_LIMIT, self.outgoing.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the worker left")),
            Err(_) => Err(Status::deadline_exceeded("the worker takes no messages")),
        }
    }
}

/// Returns the error for a message that this version does not know.
fn unknown() -> Error {
    Error::invalid("message", "must be set, to one this version knows")
}

/// Returns a lease's name as the worker gave it. A name that is too long belongs to no lease, and
/// is cut.
fn named_by(worker: &str) -> String {
    worker.chars().take(MAX_LEASE_NAME_LENGTH).collect()
}
