//! One worker's stream: what it asks is answered in order, and while it has credit it gets contacts.

use super::batches::{attempt_to_api, batch_to_api};
use super::check::Check;
use super::convert::timestamp;
use super::dispatch::within;
use super::interactions::record_all;
use super::names;
use crate::app::App;
use crate::app::authorizing::{Authorization, Decision};
use crate::app::error::Error;
use crate::app::leasing::{LeaseKey, Leased};
use crate::store::notify::{ControlEvent, RemovalCause, StopCause};
use campaign_domain::lifecycle::State;
use campaign_domain::shares::Shares;
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::warn;
use uuid::Uuid;

/// The protocol that this version speaks.
const PROTOCOL_VERSION: i32 = 1;
/// Longest wait for a worker's hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a worker to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// How often an idle worker's session looks for contacts that became due.
const IDLE_POLL: Duration = Duration::from_millis(500);
/// How long a worker may stay after it was asked to leave.
const DRAIN_GRACE: Duration = Duration::from_secs(20);
/// Most leases named in one message, and campaigns in hello.
const MAX_NAMES: usize = 100;
/// Reports of one worker that are recorded at the same time; past it, nothing is read from the worker.
const REPORTS_AT_ONCE: usize = 4;
/// Longest name of a worker.
const MAX_WORKER_ID_LENGTH: usize = 100;

type Outgoing = mpsc::Sender<Result<v1::DispatchResponse, Status>>;

/// A lease that this stream's worker holds, as far as we know.
struct Held {
    run: i32,
    /// By this process's own clock, when it cannot be alive any more.
    gone_at: tokio::time::Instant,
}

/// The state of one stream.
pub struct Session {
    app: Arc<App>,
    control: broadcast::Receiver<ControlEvent>,
    stop: CancellationToken,
    outgoing: Outgoing,
    worker_id: String,
    /// Serve only these; empty: all.
    only: HashSet<Uuid>,
    credit: usize,
    /// By campaign and number.
    held: HashMap<(Uuid, i64), Held>,
    /// Campaigns that may have contacts, with their weights; those that had none left out.
    round: HashMap<Uuid, i32>,
    round_ends_at: tokio::time::Instant,
    shares: Shares<Uuid>,
    is_idle: bool,
    /// Reports that are being recorded.
    reports: Arc<Semaphore>,
}

impl Session {
    pub fn new(
        app: Arc<App>,
        control: broadcast::Receiver<ControlEvent>,
        stop: CancellationToken,
        outgoing: Outgoing,
    ) -> Self {
        Self {
            app,
            control,
            stop,
            outgoing,
            worker_id: String::new(),
            only: HashSet::new(),
            credit: 0,
            held: HashMap::new(),
            round: HashMap::new(),
            round_ends_at: tokio::time::Instant::now(),
            shares: Shares::default(),
            is_idle: true,
            reports: Arc::new(Semaphore::new(REPORTS_AT_ONCE)),
        }
    }

    /// Serves the worker until it leaves, breaks the protocol, or does not leave a stopping replica.
    pub async fn run(mut self, mut incoming: Streaming<v1::DispatchRequest>) -> Result<(), Status> {
        let late = |_| Status::deadline_exceeded("hello must come within 10 seconds");
        match timeout(HELLO_LIMIT, incoming.message()).await.map_err(late)?? {
            Some(v1::DispatchRequest { message: Some(Request::Hello(hello)) }) => {
                self.greet(hello).await?;
            }
            _ => return Err(Error::invalid("hello", "must be the first message").into()),
        }
        let mut poll_at = tokio::time::Instant::now();
        let mut leave_at = None;
        let stop = self.stop.clone();
        loop {
            let may_lease = self.credit > 0 && leave_at.is_none();
            tokio::select! {
                biased;
                // First, so that a worker who talks a lot hears of a pause all the same.
                event = self.control.recv() => self.hear(event).await?,
                message = incoming.message() => match message? {
                    None => return Ok(()),
                    Some(request) => self.answer(request).await?,
                },
                () = stop.cancelled(), if leave_at.is_none() => {
                    leave_at = Some(tokio::time::Instant::now() + DRAIN_GRACE);
                    let grace = prost_types::Duration { seconds: 20, nanos: 0 };
                    self.send(Response::Drain(v1::Drain { grace: Some(grace) })).await?;
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
        self.worker_id = hello.worker_id;
        let leases = self.renew(&hello.leases).await?;
        let limits = &self.app.limits;
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
        // Something may have stopped while the worker was away.
        self.check_held().await
    }

    async fn answer(&mut self, request: v1::DispatchRequest) -> Result<(), Status> {
        match request.message {
            Some(Request::Credit(credit)) => self.add_credit(&credit),
            Some(Request::Authorize(authorize)) => self.authorize(authorize).await,
            Some(Request::Report(report)) => self.report(report).await,
            Some(Request::Renew(renew)) => {
                within("renew.leases", renew.leases.len(), MAX_NAMES)?;
                let known = self.held.len();
                let leases = self.renew(&renew.leases).await?;
                let has_new = self.held.len() > known;
                self.send(Response::RenewResult(v1::RenewResult { leases })).await?;
                // Of leases that hello had no room for, we may not have heard that they stopped.
                if has_new { self.check_held().await } else { Ok(()) }
            }
            Some(Request::Release(release)) => self.release(release).await,
            Some(Request::Hello(_)) => {
                Err(Error::invalid("hello", "must be the first message only").into())
            }
            None => Err(Error::invalid("message", "must be set, to one this version knows").into()),
        }
    }

    fn add_credit(&mut self, credit: &v1::Credit) -> Result<(), Status> {
        let max = self.app.limits.max_credit_contacts;
        let more = usize::try_from(credit.contacts).unwrap_or(0);
        within("credit.contacts", more, max)?;
        within("credit.contacts with what is left", self.credit + more, max)?;
        self.credit += more;
        self.is_idle = false;
        Ok(())
    }

    async fn authorize(&mut self, authorize: v1::Authorize) -> Result<(), Status> {
        within("authorize.slots", authorize.slots.len(), self.app.limits.max_report_interactions)?;
        // A slot that cannot be has an index that no lease has.
        let slots: Vec<usize> = authorize
            .slots
            .iter()
            .map(|slot| usize::try_from(*slot).unwrap_or(usize::MAX))
            .collect();
        let answer = match names::lease_key(authorize.lease.as_ref()) {
            Some(key) => self.app.authorize(key, &slots).await?,
            None => Authorization::all(Decision::LeaseLost, slots.len()),
        };
        let attempts = authorize
            .slots
            .into_iter()
            .zip(answer.decisions)
            .map(|(slot, decision)| attempt_to_api(slot, decision));
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

    /// Records in the background, so that authorisations need not wait for it.
    async fn report(&mut self, report: v1::Report) -> Result<(), Status> {
        let max = self.app.limits.max_report_interactions;
        within("report.interactions", report.interactions.len(), max)?;
        let Ok(turn) = Arc::clone(&self.reports).acquire_owned().await else { return Ok(()) };
        let (app, outgoing) = (Arc::clone(&self.app), self.outgoing.clone());
        tokio::spawn(async move {
            let recorded = record_all(&app, None, report.interactions).await;
            let response = recorded.map_err(Status::from).map(|results| {
                let ack = v1::ReportAck { report_number: report.report_number, results };
                v1::DispatchResponse { message: Some(Response::ReportAck(ack)) }
            });
            // An error only says that the worker is gone, or too slow; it reports again.
            let _ = timeout(SEND_LIMIT, outgoing.send(response)).await;
            drop(turn);
        });
        Ok(())
    }

    async fn renew(&mut self, keys: &[v1::LeaseKey]) -> Result<Vec<v1::RenewedLease>, Status> {
        let read: Vec<Option<LeaseKey>> =
            keys.iter().map(|key| names::lease_key(Some(key))).collect();
        let known: Vec<LeaseKey> = read.iter().flatten().copied().collect();
        let mut renewed = self.app.renew(&known).await?.into_iter();
        let mut results = Vec::with_capacity(keys.len());
        for (key, read) in keys.iter().zip(read) {
            let kept = read.and_then(|read| Some((read, renewed.next().flatten()?)));
            match (read, kept) {
                (_, Some((read, (run, _)))) => {
                    self.hold(read.campaign, read.number, run);
                }
                (Some(read), None) => {
                    self.held.remove(&(read.campaign, read.number));
                }
                (None, None) => {}
            }
            results.push(v1::RenewedLease {
                lease: key.lease.clone(),
                expire_time: kept.map(|(_, (_, expires_at))| timestamp(expires_at)),
                lost: kept.is_none(),
            });
        }
        Ok(results)
    }

    async fn release(&mut self, release: v1::Release) -> Result<(), Status> {
        let max = self.app.limits.max_batch_contacts;
        if release.slots.len() > max {
            return Err(Error::invalid("release.slots", format!("must be at most {max}")).into());
        }
        let slots: Vec<usize> =
            release.slots.iter().map(|slot| usize::try_from(*slot).unwrap_or(usize::MAX)).collect();
        let released = match names::lease_key(release.lease.as_ref()) {
            Some(key) => self.app.release(key, &slots).await?,
            None => 0,
        };
        let lease = release.lease.unwrap_or_default().lease;
        let released = i32::try_from(released).unwrap_or(i32::MAX);
        self.send(Response::ReleaseAck(v1::ReleaseAck { lease, released })).await
    }

    /// Asks for contacts, of the campaign whose turn it is; when none has any, the worker is told to wait.
    async fn lease_next(&mut self) -> Result<(), Status> {
        if self.round.is_empty() || self.round_ends_at <= tokio::time::Instant::now() {
            self.start_round().await?;
        }
        if self.lease_of_round().await? {
            return Ok(());
        }
        self.is_idle = true;
        let credit_contacts = i32::try_from(self.credit).unwrap_or(i32::MAX);
        self.send(Response::Idle(v1::Idle { credit_contacts })).await
    }

    /// Looks whether something became due; the worker, which knows that it waits, is told only of
    /// contacts.
    async fn poll(&mut self) -> Result<(), Status> {
        self.start_round().await?;
        self.is_idle = !self.lease_of_round().await?;
        Ok(())
    }

    async fn start_round(&mut self) -> Result<(), Status> {
        let mut running = self.app.running_campaigns().await?;
        running.retain(|(campaign, _)| self.serves(*campaign));
        let ids: Vec<Uuid> = running.iter().map(|(campaign, _)| *campaign).collect();
        self.shares.keep(&ids);
        self.round = running.into_iter().collect();
        self.round_ends_at = tokio::time::Instant::now() + IDLE_POLL;
        Ok(())
    }

    fn serves(&self, campaign: Uuid) -> bool {
        self.only.is_empty() || self.only.contains(&campaign)
    }

    /// Leases from one campaign of the round; returns whether there was one that has contacts.
    async fn lease_of_round(&mut self) -> Result<bool, Status> {
        while let Some(campaign) = self.shares.next(self.round.keys().copied()) {
            if self.lease_from(campaign).await? {
                return Ok(true);
            }
            self.round.remove(&campaign);
            self.shares.had_nothing(campaign);
        }
        Ok(false)
    }

    /// Sends a batch of a campaign; returns whether it has contacts to look at.
    async fn lease_from(&mut self, campaign: Uuid) -> Result<bool, Status> {
        let weight = self.round.get(&campaign).copied().unwrap_or(1);
        let batch = match self.app.lease(&self.worker_id, campaign, self.credit).await {
            Ok(Leased::Batch(batch)) => batch,
            Ok(Leased::NothingYet) => {
                // Looking costs about as much; others come first.
                self.shares.handed(campaign, self.app.limits.max_batch_contacts, weight);
                return Ok(true);
            }
            Ok(Leased::Nothing) | Err(Error::NotFound(_)) => return Ok(false),
            // One campaign's trouble must not keep the others from this worker.
            Err(error) => {
                warn!(%campaign, %error, "contacts could not be leased; they are tried again");
                return Ok(false);
            }
        };
        self.shares.handed(campaign, batch.contacts.len(), weight);
        self.credit = self.credit.saturating_sub(batch.contacts.len());
        let now = tokio::time::Instant::now();
        self.held.retain(|_, held| held.gone_at > now);
        self.hold(campaign, batch.lease.number, batch.lease.run);
        self.send(Response::Batch(batch_to_api(batch))).await?;
        Ok(true)
    }

    /// Notes that the worker holds a lease that was given or renewed just now.
    fn hold(&mut self, campaign: Uuid, lease: i64, run: i32) {
        let gone_at = tokio::time::Instant::now() + self.app.limits.lease_ttl;
        self.held.insert((campaign, lease), Held { run, gone_at });
    }

    async fn hear(&mut self, event: Result<ControlEvent, RecvError>) -> Result<(), Status> {
        match event {
            Ok(ControlEvent::Work { campaign }) => {
                if self.serves(campaign) {
                    // Asked at once, without looking for others first.
                    self.round.entry(campaign).or_insert(1);
                    self.round_ends_at = tokio::time::Instant::now() + IDLE_POLL;
                    self.is_idle = false;
                }
                Ok(())
            }
            Ok(ControlEvent::Stopped { campaign, run, cause, hang_up }) => {
                self.revoke(campaign, run, cause, hang_up).await
            }
            Ok(ControlEvent::ContactRemoved { campaign, position, cause }) => {
                self.revoke_contact(campaign, position, cause).await
            }
            Ok(ControlEvent::Missed) | Err(RecvError::Lagged(_)) => {
                self.is_idle = false;
                self.check_held().await
            }
            Err(RecvError::Closed) => Err(Status::unavailable("this replica is stopping")),
        }
    }

    async fn revoke(
        &mut self,
        campaign: Uuid,
        run: i32,
        cause: StopCause,
        hang_up: bool,
    ) -> Result<(), Status> {
        if !self.held.iter().any(|((id, _), held)| *id == campaign && held.run <= run) {
            return Ok(());
        }
        let reason = match cause {
            StopCause::Paused => v1::RevokeReason::Paused,
            StopCause::Cancelled => v1::RevokeReason::Cancelled,
            StopCause::Completed => v1::RevokeReason::Completed,
        };
        let campaign = format!("campaigns/{campaign}");
        let revoke =
            v1::Revoke { campaign, contact: String::new(), reason: reason.into(), hang_up, run };
        self.send(Response::Revoke(revoke)).await
    }

    async fn revoke_contact(
        &mut self,
        campaign: Uuid,
        position: i64,
        cause: RemovalCause,
    ) -> Result<(), Status> {
        if !self.held.keys().any(|(id, _)| *id == campaign) {
            return Ok(());
        }
        let reason = match cause {
            RemovalCause::OptedOut => v1::RevokeReason::OptedOut,
            RemovalCause::Suppressed => v1::RevokeReason::Suppressed,
        };
        let revoke = v1::Revoke {
            campaign: format!("campaigns/{campaign}"),
            contact: names::contact_name(campaign, position),
            reason: reason.into(),
            hang_up: false,
            run: 0,
        };
        self.send(Response::Revoke(revoke)).await
    }

    /// Revokes what stopped without our hearing of it.
    async fn check_held(&mut self) -> Result<(), Status> {
        let campaigns: HashSet<Uuid> = self.held.keys().map(|(campaign, _)| *campaign).collect();
        for campaign in campaigns {
            let (state, run) = match self.app.get_campaign(campaign).await {
                Ok((campaign, _)) => (campaign.state, campaign.run),
                Err(Error::NotFound(_)) => (State::Cancelled, i32::MAX),
                Err(error) => return Err(error.into()),
            };
            match state {
                State::Paused => self.revoke(campaign, run, StopCause::Paused, false).await?,
                State::Completed => self.revoke(campaign, run, StopCause::Completed, false).await?,
                State::Cancelled => self.revoke(campaign, run, StopCause::Cancelled, true).await?,
                // A newer run is on: the one before it was ended.
                State::Running | State::Scheduled | State::Draft => {
                    self.revoke(campaign, run - 1, StopCause::Cancelled, true).await?;
                }
            }
        }
        Ok(())
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
