//! Answers to one worker's requests, in order.

use super::greeting::AMONG_LEASES;
use super::{Incoming, MAX_NAMES, SEND_LIMIT, Session, response, unknown};
use crate::app::dispatch::authorizing::Authorization;
use crate::app::dispatch::batch::LeaseKey;
use crate::app::error::Error;
use crate::grpc::batches::attempt_to_api;
use crate::grpc::check::within;
use crate::grpc::convert::timestamp;
use crate::grpc::interactions::record_all;
use crate::grpc::names;
use campaign_domain::dispatch::Decision;
use campaign_process::traces::{self, SpanKind};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tracing::Instrument;

/// Longest name of a lease, in characters.
const MAX_LEASE_NAME_LENGTH: usize = 100;
/// Longest reason for a provider's trouble, in characters. A longer reason is cut.
const MAX_REASON_LENGTH: usize = 200;
/// Run assumed for an ended lease, whose run only the worker knows. With run 1, the worker is
/// notified of every stop.
const ANY_RUN: i32 = 1;

impl Session {
    /// Answers requests until the worker closes the stream.
    pub(super) async fn answer_all(&self, mut incoming: Incoming) -> Result<(), Status> {
        while let Some(request) = incoming.message().await? {
            self.answer_or_reject(request).await?;
        }
        Ok(())
    }

    pub(super) async fn answer(&self, request: v1::DispatchRequest) -> Result<(), Status> {
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

    fn add_credit(&self, credit: &v1::Credit) -> Result<(), Status> {
        let max = self.dispatch.limits.max_credit_contacts;
        let more = usize::try_from(credit.contacts).unwrap_or(usize::MAX);
        within("credit.contacts", more, max)?;
        let left = self.registration().as_ref().map_or(0, |registration| registration.credit());
        within("credit.contacts with what is left", left + more, max)?;
        if more > 0 {
            self.ask(more);
        }
        Ok(())
    }

    /// Authorises attempts. An order to stop may overtake the answer, so it is repeated after the
    /// answer.
    async fn authorize(&self, authorize: v1::Authorize) -> Result<(), Status> {
        self.held().begin_answer();
        let answered = self.answer_authorize(authorize).await;
        let overtaking = self.held().end_answer();
        answered?;
        for order in overtaking {
            self.send(Response::Revoke(order)).await?;
        }
        Ok(())
    }

    async fn answer_authorize(&self, authorize: v1::Authorize) -> Result<(), Status> {
        let max = self.dispatch.limits.max_report_interactions;
        within("authorize.slots", authorize.slots.len(), max)?;
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
        let asked_at = Instant::now();
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
    async fn report(&self, report: v1::Report) -> Result<(), Status> {
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
            let answer = recorded.map_err(Status::from).map(|results| {
                let ack = v1::ReportAck { report_number: report.report_number, results };
                response(Response::ReportAck(ack))
            });
            // An error only means that the worker is gone or too slow. The worker reports again.
            let _ = timeout(SEND_LIMIT, outgoing.send(answer)).await;
            drop(turn);
        };
        tokio::spawn(recording.in_current_span());
        Ok(())
    }

    /// Renews leases. Except: leases in `lost` are not renewed.
    pub(super) async fn renew(
        &self,
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
        let gone_at = Instant::now() + self.dispatch.limits.lease_ttl;
        let mut results = Vec::with_capacity(keys.len());
        for (key, (known, live)) in keys.iter().zip(read) {
            let kept = live.and_then(|_| renewed.next().flatten());
            if let Some(known) = known {
                // A lost lease may have calls in progress.
                let run = kept.map_or(ANY_RUN, |(run, _)| run);
                self.held().hold(known.campaign, known.number, run, gone_at);
            }
            results.push(v1::RenewedLease {
                lease: named_by(&key.lease),
                expire_time: kept.map(|(_, expires_at)| timestamp(expires_at)),
                lost: kept.is_none(),
            });
        }
        Ok(results)
    }

    async fn note_provider(&self, report: &v1::ProviderReport) -> Result<(), Status> {
        self.is_in_trouble.store(report.failing, Relaxed);
        let reason: String = report.reason.chars().filter(|c| !c.is_control()).collect();
        let reason: String = reason.chars().take(MAX_REASON_LENGTH).collect();
        let trouble = report.failing.then_some(reason.as_str());
        self.note_trouble(trouble).await
    }

    pub(super) async fn note_trouble(&self, trouble: Option<&str>) -> Result<(), Status> {
        let tenant = &self.admitted.caller.tenant;
        let (worker, abilities) = (&self.worker_id, &self.abilities);
        Ok(self.dispatch.note_provider(worker, tenant, self.id, abilities, trouble).await?)
    }

    /// Returns the key of a lease, if its campaign is within the worker's reach.
    async fn key(&self, lease: Option<&v1::LeaseKey>) -> Result<Option<LeaseKey>, Status> {
        match names::lease(lease) {
            Some(name) => Ok(name.within(&self.campaigns, &self.reach).await?),
            None => Ok(None),
        }
    }

    async fn release(&self, release: v1::Release) -> Result<(), Status> {
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
}

/// Returns a lease's name as the worker gave it. A name that is too long belongs to no lease, and
/// is cut.
fn named_by(worker: &str) -> String {
    worker.chars().take(MAX_LEASE_NAME_LENGTH).collect()
}
