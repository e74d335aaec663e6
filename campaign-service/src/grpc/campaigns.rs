//! Implementation of CampaignService.

use super::access::Admitted;
use super::check::config_fields;
use super::convert::{
    campaign_to_api, config, event_to_api, invocation, progress_to_api, removed_to_api, run_to_api,
    settings,
};
use super::names::LogName;
use super::{names, page};
use crate::app::campaigns::Campaigns;
use crate::app::campaigns::lifecycle::{Edit, Launch};
use crate::app::error::Error;
use crate::app::people::suppressing::Suppressions;
use crate::app::watch::Watch;
use crate::store::audit::Event;
use campaign_domain::campaign::Campaign;
use campaign_domain::lifecycle::{Command, State};
use campaign_process::traces::TraceContext;
use campaign_proto::v1;
use campaign_proto::v1::campaign_service_server::CampaignService;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Default and largest size of a page, in items.
const PAGE: (i64, i64) = (50, 200);

/// Implementation of CampaignService.
#[derive(Clone, Debug)]
pub struct CampaignApi {
    pub campaigns: Arc<Campaigns>,
    pub watch: Watch,
    pub suppressions: Suppressions,
    pub stop: CancellationToken,
}

fn answer(campaign: &Campaign) -> Response<v1::Campaign> {
    Response::new(campaign_to_api(campaign, 0))
}

#[tonic::async_trait]
impl CampaignService for CampaignApi {
    async fn create_campaign(
        &self,
        request: Request<v1::CreateCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let common = ["", &request.request_id, &request.actor, &request.reason];
        let invocation = invocation("CreateCampaign", &request, common, &caller)?;
        let Some(campaign) = request.campaign else {
            return Err(Error::invalid("campaign", "must be set").into());
        };
        Ok(answer(&self.campaigns.create(&invocation, config(campaign, None)?).await?))
    }

    async fn get_campaign(
        &self,
        request: Request<v1::GetCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let id = names::campaign("name", &request.get_ref().name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let (campaign, contacts) = self.campaigns.get(id).await?;
        Ok(Response::new(campaign_to_api(&campaign, contacts)))
    }

    async fn list_campaigns(
        &self,
        request: Request<v1::ListCampaignsRequest>,
    ) -> Result<Response<v1::ListCampaignsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let after = page::last_item(&caller.tenant, "campaigns", &request.page_token, |text| {
            let (micros, id) = text.split_once(' ')?;
            Some((page::time(micros)?, id.parse().ok()?))
        })?;
        let found = self.campaigns.list(&caller.tenant, after, size + 1).await?;
        let (campaigns, next_page_token) = page::fill(
            (&caller.tenant, "campaigns"),
            found,
            size,
            |(found, _)| format!("{} {}", found.created_at.timestamp_micros(), found.id),
            |(found, contacts)| campaign_to_api(&found, contacts),
        );
        Ok(Response::new(v1::ListCampaignsResponse { campaigns, next_page_token }))
    }

    async fn update_campaign(
        &self,
        request: Request<v1::UpdateCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let Some(campaign) = request.campaign.clone() else {
            return Err(Error::invalid("campaign", "must be set").into());
        };
        let id = names::campaign("campaign.name", &campaign.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&campaign.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("UpdateCampaign", &request, common.map(String::as_str), &caller)?;
        let fields = config_fields(request.update_mask)?;
        let config = config(campaign, Some(&fields))?;
        Ok(answer(&self.campaigns.update(id, &invocation, &Edit { config, fields }).await?))
    }

    async fn delete_campaign(
        &self,
        request: Request<v1::DeleteCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("DeleteCampaign", &request, common.map(String::as_str), &caller)?;
        Ok(answer(&self.campaigns.delete(id, &invocation).await?))
    }

    async fn preview_launch(
        &self,
        request: Request<v1::PreviewLaunchRequest>,
    ) -> Result<Response<v1::PreviewLaunchResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let preview = self.campaigns.preview(id, &settings(request.settings)?).await?;
        Ok(Response::new(v1::PreviewLaunchResponse {
            total: preview.total,
            eligible: preview.eligible,
            removed: removed_to_api(&preview.removed),
            refusals_wiped: preview.refusals_wiped,
            warnings: preview.warnings,
            preview_token: preview.token,
        }))
    }

    async fn launch_campaign(
        &self,
        request: Request<v1::LaunchCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let trace = request.extensions().get::<TraceContext>();
        let traceparent = trace.map(TraceContext::traceparent).unwrap_or_default();
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("LaunchCampaign", &request, common.map(String::as_str), &caller)?;
        let launch = Launch {
            settings: settings(request.settings)?,
            preview_token: request.preview_token,
            confirm_reset: request.confirm_reset,
            traceparent,
        };
        Ok(answer(&self.campaigns.launch(id, &invocation, &launch).await?))
    }

    async fn pause_campaign(
        &self,
        request: Request<v1::PauseCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("PauseCampaign", &request, common.map(String::as_str), &caller)?;
        let hang_up = request.hang_up_calls;
        Ok(answer(&self.campaigns.command(id, &invocation, Command::Pause, hang_up).await?))
    }

    async fn resume_campaign(
        &self,
        request: Request<v1::ResumeCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("ResumeCampaign", &request, common.map(String::as_str), &caller)?;
        Ok(answer(&self.campaigns.command(id, &invocation, Command::Resume, false).await?))
    }

    async fn cancel_campaign(
        &self,
        request: Request<v1::CancelCampaignRequest>,
    ) -> Result<Response<v1::Campaign>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("name", &request.name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let common = [&request.etag, &request.request_id, &request.actor, &request.reason];
        let invocation =
            invocation("CancelCampaign", &request, common.map(String::as_str), &caller)?;
        Ok(answer(&self.campaigns.command(id, &invocation, Command::Cancel, true).await?))
    }

    async fn get_campaign_progress(
        &self,
        request: Request<v1::GetCampaignProgressRequest>,
    ) -> Result<Response<v1::CampaignProgress>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let id = names::campaign("name", &request.get_ref().name)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let progress = self.watch.progress(id).await?;
        Ok(Response::new(progress_to_api(&progress)))
    }

    type WatchCampaignStream = BoxStream<'static, Result<v1::CampaignProgress, Status>>;

    async fn watch_campaign(
        &self,
        request: Request<v1::WatchCampaignRequest>,
    ) -> Result<Response<Self::WatchCampaignStream>, Status> {
        let admitted = Admitted::of(&request)?;
        let request = request.into_inner();
        let reach = admitted.caller.reach();
        let id = names::campaign("name", &request.name)?.within(&self.campaigns, &reach).await?;
        let interval = match request.interval_seconds {
            0 => Duration::from_secs(1),
            seconds @ 1..=60 => Duration::from_secs(u64::from(seconds.unsigned_abs())),
            _ => return Err(Error::invalid("interval_seconds", "must be 0 to 60").into()),
        };
        self.campaigns.get(id).await?;
        let (mut watcher, stop) = (self.watch.watcher(id), self.stop.clone());
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut last = None;
            loop {
                let end = tokio::select! {
                    biased;
                    () = stop.cancelled() => Some(Error::Stopping),
                    error = admitted.end() => Some(error),
                    _ = ticks.tick() => None,
                };
                if let Some(error) = end {
                    Err(error)?;
                }
                let progress = watcher.progress(interval).await?;
                // A draft is not over: it may still be launched.
                let state = progress.campaign.state;
                let is_over = matches!(state, State::Completed | State::Cancelled);
                let mut message = progress_to_api(&progress);
                let read_time = message.read_time.take();
                if last.as_ref() != Some(&message) {
                    last = Some(message.clone());
                    message.read_time = read_time;
                    yield message;
                }
                if is_over {
                    break;
                }
            }
        })))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let id = names::campaign("parent", &request.parent)?
            .within(&self.campaigns, &caller.reach())
            .await?;
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let before =
            page::last_item(&caller.tenant, "runs", &request.page_token, |text| text.parse().ok())?;
        let (runs, next_page_token) = page::fill(
            (&caller.tenant, "runs"),
            self.campaigns.list_runs(id, before, size + 1).await?,
            size,
            |run| run.number.to_string(),
            |run| run_to_api(id, &run),
        );
        Ok(Response::new(v1::ListRunsResponse { runs, next_page_token }))
    }

    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        let caller = Admitted::of(&request)?.caller;
        let request = request.into_inner();
        let log = names::log("parent", &request.parent)?;
        let size = page::size(request.page_size, PAGE.0, PAGE.1)?;
        let before = page::last_item(&caller.tenant, "events", &request.page_token, |text| {
            text.parse().ok()
        })?;
        let (events, prefix): (Vec<(Event, String)>, String) = match log {
            LogName::Campaign(campaign) => {
                let id = campaign.within(&self.campaigns, &caller.reach()).await?;
                let events = self.campaigns.list_audit_events(id, before, size + 1).await?;
                let events = events.into_iter().map(|event| (event, String::new())).collect();
                (events, names::campaign_name_of(id))
            }
            LogName::Suppressions(phone) => {
                let tenant = &caller.tenant;
                let events = self.suppressions.list_events(tenant, phone, before, size + 1).await?;
                (events, "suppressions".to_owned())
            }
        };
        let (audit_events, next_page_token) = page::fill(
            (&caller.tenant, "events"),
            events,
            size,
            |(event, _)| event.number.to_string(),
            |(event, source)| event_to_api(&prefix, &event, &source),
        );
        Ok(Response::new(v1::ListAuditEventsResponse { audit_events, next_page_token }))
    }
}
