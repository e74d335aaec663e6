//! Steps about time: late reports, inbound calls, hours that change, lists that change.

use super::facts::fact;
use super::run::{Pair, same};
use super::state::{Kind, Settings};
use crate::support::{Worker, always, phone};
use campaign_proto::v1;
use campaign_proto::v1::{CampaignState, InboundDecision, InteractionStatus};
use std::time::{Duration, SystemTime};
use tonic::Code;

impl Pair<'_> {
    pub(super) async fn record_late(&mut self, position: usize, kind: Kind) -> Result<(), String> {
        self.next_id += 1;
        let interaction = v1::Interaction {
            interaction_id: format!("late-{}", self.next_id),
            contact: self.contact(position),
            occur_time: Some((SystemTime::now() - Duration::from_secs(3_600)).into()),
            fact: Some(fact(kind)),
            ..Default::default()
        };
        let reported =
            v1::ReportedInteraction { phone_number: String::new(), interaction: Some(interaction) };
        let request = v1::RecordInteractionsRequest {
            parent: self.name.clone(),
            interactions: vec![reported],
        };
        let answer = self.clients.interactions.record_interactions(request).await;
        let status = answer.unwrap().into_inner().results[0].status();
        let counts = self.model.record_late(position, kind);
        let wanted =
            if counts { InteractionStatus::Recorded } else { InteractionStatus::BeforeReset };
        same!(status, wanted, "late fact");
        Ok(())
    }

    /// Reports a fact of an old call. The fact happens at its report, whichever run dialled.
    pub(super) async fn tell_late(&mut self, who: usize, kind: Kind) -> Result<(), String> {
        if self.vanished.is_empty() {
            return Ok(());
        }
        let index = who % self.vanished.len();
        let mut worker = Worker::connect(&self.service.clients, "late", &self.name).await;
        let vanished = &self.vanished[index];
        self.next_id += 1;
        let id = format!("told-{}", self.next_id);
        let status = worker.tell(&vanished.held, &vanished.attempt_id, &id, fact(kind)).await;
        same!(status, InteractionStatus::Recorded, "told late");
        self.model.record(vanished.position, kind);
        Ok(())
    }

    pub(super) async fn age(&mut self) -> Result<(), String> {
        let sql = "UPDATE runs SET launched_at = launched_at - interval '1 day'
            WHERE campaign_id = $1";
        self.db.client().await.execute(sql, &[&self.id()]).await.unwrap();
        self.model.age();
        Ok(())
    }

    pub(super) async fn call_in(&mut self, position: usize) -> Result<(), String> {
        if self.model.contacts[position].is_deleted {
            return Ok(());
        }
        let request = v1::RouteInboundRequest {
            parent: self.name.clone(),
            phone_number: phone(position),
            ..Default::default()
        };
        let routed = self.clients.interactions.route_inbound(request).await.unwrap().into_inner();
        let is_answered = self.model.answers(position);
        same!(routed.decision() == InboundDecision::Accept, is_answered, "answered");
        self.model.contacts[position].is_calling_in |= is_answered;
        Ok(())
    }

    pub(super) async fn hang_up(&mut self, position: usize) -> Result<(), String> {
        if !self.model.contacts[position].is_calling_in {
            return Ok(());
        }
        let status = self.record(position, Kind::CalledIn).await;
        same!(status, InteractionStatus::Recorded, "hung up");
        self.model.contacts[position].is_calling_in = false;
        Ok(())
    }

    pub(super) async fn set_hours(&mut self, is_open: bool) -> Result<(), String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        // Day of the week two days ago; the epoch was a Thursday.
        let weekday = i32::try_from((now / 86_400 + 3 + 5) % 7 + 1).unwrap();
        let window = v1::WeeklyWindow { weekday, start_minute: 600, end_minute: 601 };
        let schedule = match is_open {
            true => always(),
            false => v1::Schedule { windows: vec![window], ..always() },
        };
        let campaign = v1::Campaign {
            name: self.name.clone(),
            schedule: Some(schedule),
            ..Default::default()
        };
        let request = v1::UpdateCampaignRequest {
            campaign: Some(campaign),
            update_mask: Some(prost_types::FieldMask { paths: vec!["schedule".to_owned()] }),
            ..Default::default()
        };
        let result = self.clients.campaigns.update_campaign(request).await;
        let is_frozen = self.model.state == CampaignState::Running;
        let code = result.err().map(|status| status.code());
        same!(code, is_frozen.then_some(Code::FailedPrecondition), "hours");
        if !is_frozen {
            self.model.is_open = is_open;
        }
        Ok(())
    }

    pub(super) async fn launch_unseen(
        &mut self,
        settings: Settings,
        position: usize,
    ) -> Result<(), String> {
        if self.model.contacts[position].is_suppressed {
            return Ok(());
        }
        let preview_token = self.preview(settings).await?;
        self.suppress(position).await?;
        let request = self.launch_request(settings, preview_token);
        let result = self.clients.campaigns.launch_campaign(request).await;
        let code = result.err().map(|status| status.code());
        same!(code, Some(Code::FailedPrecondition), "launch on another list");
        Ok(())
    }
}
