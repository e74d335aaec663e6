//! Run of the service and the model through the same steps, with a comparison after each.

use super::facts::fact;
use super::state::{Hold, Kind, Model, Settings, Verdict};
use super::{Act, Clock, Step};
use crate::support::{Clients, Held, Service, TestDb, Worker, id_of, phone, retry};
use campaign_proto::v1;
use campaign_proto::v1::{
    AuthorizeDecision as Decision, CallOutcome, CampaignState, InteractionStatus,
};
use std::collections::BTreeMap;
use tonic::Code;
use uuid::Uuid;

/// Fails the sequence when two things differ.
macro_rules! same {
    ($service:expr, $model:expr, $($what:tt)+) => {{
        let (service, model) = (&$service, &$model);
        if service != model {
            let what = format!($($what)+);
            return Err(format!("{what}: the service says {service:?}, the model {model:?}"));
        }
    }};
}
pub(super) use same;

/// Attempt whose worker vanished.
pub(super) struct Vanished {
    pub(super) held: Held,
    pub(super) attempt_id: String,
    pub(super) position: usize,
    hold: Hold,
    /// Outcome that was told late, if any.
    told: Option<CallOutcome>,
}

pub(super) struct Pair<'a> {
    pub(super) db: &'a TestDb,
    pub(super) service: &'a Service,
    pub(super) clock: &'a Clock,
    pub(super) clients: Clients,
    pub(super) name: String,
    pub(super) model: Model,
    pub(super) vanished: Vec<Vanished>,
    /// Number for the ID of the next fact.
    pub(super) next_id: usize,
    /// Whether a worker has looked at all contacts in this run.
    is_looked_through: bool,
}

/// Runs one sequence, on a campaign of its own.
pub async fn sequence(
    db: &TestDb,
    service: &Service,
    clock: &Clock,
    steps: &[Step],
) -> Result<(), String> {
    let mut clients = service.clients.clone();
    let policy = v1::RetryPolicy {
        no_answer: Some(retry(3, 0)),
        busy: Some(retry(2, 0)),
        voicemail: Some(retry(2, 86_400)),
        failed: Some(retry(1, 0)),
        unknown: Some(retry(2, 86_400)),
        abandoned: Some(retry(2, 0)),
    };
    let name = clients.create_campaign_retrying(policy).await;
    let mut pair = Pair {
        db,
        service,
        clock,
        clients,
        name,
        model: Model::new(),
        vanished: Vec::new(),
        next_id: 0,
        is_looked_through: false,
    };
    let result = pair.take(steps).await;
    pair.clean_up().await;
    result
}

impl Pair<'_> {
    async fn take(&mut self, steps: &[Step]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            self.step(step).await.map_err(|error| format!("step {number} {step:?}: {error}"))?;
            self.compare(number)
                .await
                .map_err(|error| format!("after {number} {step:?}: {error}"))?;
        }
        Ok(())
    }

    /// Deletes the suppressions, which are above campaigns. The next sequence starts without any.
    async fn clean_up(&mut self) {
        self.db.client().await.batch_execute("DELETE FROM suppressions").await.unwrap();
        if self.model.is_active() {
            self.clients.cancel(&self.name).await;
        }
    }

    pub(super) fn contact(&self, position: usize) -> String {
        format!("{}/contacts/{position}", self.name)
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        let pick = |who: usize| who % self.model.contacts.len();
        match step {
            Step::AddContacts(count) => {
                let from = self.model.contacts.len();
                self.clients.add_contacts(&self.name, from..from + count).await;
                self.model.contacts.resize_with(from + count, Default::default);
                self.is_looked_through = false;
                Ok(())
            }
            Step::Launch(settings) => self.launch(*settings).await,
            Step::Pause => {
                let request =
                    v1::PauseCampaignRequest { name: self.name.clone(), ..Default::default() };
                let result = self.clients.campaigns.pause_campaign(request).await.map(drop);
                self.command(result, &[CampaignState::Running], CampaignState::Paused)
            }
            Step::Resume => {
                let request =
                    v1::ResumeCampaignRequest { name: self.name.clone(), ..Default::default() };
                let result = self.clients.campaigns.resume_campaign(request).await.map(drop);
                self.command(result, &[CampaignState::Paused], CampaignState::Running)
            }
            Step::Cancel => {
                let request =
                    v1::CancelCampaignRequest { name: self.name.clone(), ..Default::default() };
                let result = self.clients.campaigns.cancel_campaign(request).await.map(drop);
                let from = [CampaignState::Running, CampaignState::Paused];
                self.command(result, &from, CampaignState::Cancelled)
            }
            Step::Record(who, kind) => {
                let position = pick(*who);
                let status = self.record(position, *kind).await;
                same!(status, InteractionStatus::Recorded, "record");
                Ok(())
            }
            Step::RecordLate(who, kind) => self.record_late(pick(*who), *kind).await,
            Step::TellLate(who, kind) => self.tell_late(*who, *kind).await,
            Step::Age => self.age().await,
            Step::CallIn(who) => self.call_in(pick(*who)).await,
            Step::HangUp(who) => self.hang_up(pick(*who)).await,
            Step::Hours(is_open) => self.set_hours(*is_open).await,
            Step::LaunchUnseen(settings, who) => self.launch_unseen(*settings, pick(*who)).await,
            Step::Suppress(who) => self.suppress(pick(*who)).await,
            Step::Unsuppress(who) => {
                let position = pick(*who);
                if self.model.contacts[position].is_suppressed {
                    self.unsuppress(position).await;
                }
                Ok(())
            }
            Step::Delete(who) => self.delete(pick(*who)).await,
            Step::CreateAgain(who) => self.create_again(pick(*who)).await,
            Step::Dispatch(acts) => self.dispatch(acts).await,
            Step::ExpireLeases => self.expire().await,
            Step::ReportLate(who, outcome) => self.report_late(*who, *outcome).await,
            Step::Clock => self.clock().await,
            Step::Preview(settings) => self.preview(*settings).await.map(drop),
        }
    }

    fn command(
        &mut self,
        result: Result<(), tonic::Status>,
        from: &[CampaignState],
        to: CampaignState,
    ) -> Result<(), String> {
        let code = result.err().map(|status| status.code());
        let wanted = (!from.contains(&self.model.state)).then_some(Code::FailedPrecondition);
        same!(code, wanted, "command");
        if code.is_none() {
            self.model.state = to;
        }
        Ok(())
    }

    async fn launch(&mut self, settings: Settings) -> Result<(), String> {
        let preview_token = self.preview(settings).await?;
        let request = self.launch_request(settings, preview_token);
        let result = self.clients.campaigns.launch_campaign(request).await;
        let code = result.as_ref().err().map(tonic::Status::code);
        same!(code, self.model.is_active().then_some(Code::FailedPrecondition), "launch");
        if let Ok(campaign) = result {
            self.model.launch(settings);
            self.is_looked_through = false;
            same!(campaign.into_inner().run, self.model.run, "run");
        }
        Ok(())
    }

    pub(super) fn launch_request(
        &self,
        settings: Settings,
        preview_token: String,
    ) -> v1::LaunchCampaignRequest {
        v1::LaunchCampaignRequest {
            name: self.name.clone(),
            settings: Some(settings.to_api()),
            preview_token,
            confirm_reset: if settings.reset { "Spring".to_owned() } else { String::new() },
            ..Default::default()
        }
    }

    pub(super) async fn preview(&mut self, settings: Settings) -> Result<String, String> {
        let request =
            v1::PreviewLaunchRequest { name: self.name.clone(), settings: Some(settings.to_api()) };
        let preview = self.clients.campaigns.preview_launch(request).await.unwrap().into_inner();
        let removed: BTreeMap<i32, i64> =
            preview.removed.iter().map(|removed| (removed.reason, removed.contacts)).collect();
        same!((preview.eligible, removed), self.model.preview(settings), "preview");
        Ok(preview.preview_token)
    }

    pub(super) async fn record(&mut self, position: usize, kind: Kind) -> InteractionStatus {
        self.next_id += 1;
        let id = format!("fact-{}", self.next_id);
        let contact = self.contact(position);
        let status = self.clients.record(&contact, &id, fact(kind)).await;
        self.model.record(position, kind);
        status
    }

    pub(super) async fn suppress(&mut self, position: usize) -> Result<(), String> {
        let request = v1::AddSuppressionsRequest {
            phone_numbers: vec![phone(position)],
            source: "model".to_owned(),
            ..Default::default()
        };
        let added =
            self.clients.contacts.add_suppressions(request).await.unwrap().into_inner().added;
        same!(added, i64::from(!self.model.contacts[position].is_suppressed), "suppressed");
        self.model.contacts[position].is_suppressed = true;
        Ok(())
    }

    async fn unsuppress(&mut self, position: usize) {
        let name = format!("suppressions/{}", phone(position));
        let request = v1::RemoveSuppressionRequest { name, ..Default::default() };
        self.clients.contacts.remove_suppression(request).await.unwrap();
        self.model.contacts[position].is_suppressed = false;
    }

    async fn delete(&mut self, position: usize) -> Result<(), String> {
        let request = v1::DeleteContactRequest { name: self.contact(position) };
        let result = self.clients.contacts.delete_contact(request).await;
        let is_gone = self.model.contacts[position].is_deleted;
        same!(
            result.err().map(|status| status.code()),
            is_gone.then_some(Code::NotFound),
            "delete"
        );
        self.model.contacts[position].is_deleted = true;
        Ok(())
    }

    async fn create_again(&mut self, position: usize) -> Result<(), String> {
        let contact = v1::Contact { phone_number: phone(position), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: self.name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let result = self.clients.contacts.create_contact(request).await;
        let contact = &self.model.contacts[position];
        let run = self.model.run;
        let is_held = contact.holds.iter().any(|hold| hold.is_in_call || hold.run == run);
        let wanted = match (contact.is_deleted, is_held) {
            (false, _) => Some(Code::AlreadyExists),
            (true, true) => Some(Code::FailedPrecondition),
            (true, false) => None,
        };
        same!(result.err().map(|status| status.code()), wanted, "create again");
        if wanted.is_none() {
            self.model.contacts[position].is_deleted = false;
        }
        Ok(())
    }

    async fn dispatch(&mut self, acts: &[Act]) -> Result<(), String> {
        let mut worker = Worker::connect(&self.service.clients, "w", &self.name).await;
        let mut held = worker.lease(1_000).await;
        held.extend(worker.close().await);
        let mut leased: Vec<(usize, Held)> =
            held.into_iter().map(|held| (position_of(&held), held)).collect();
        leased.sort_by_key(|(position, _)| *position);
        let positions: Vec<usize> = leased.iter().map(|(position, _)| *position).collect();
        same!(positions, self.model.leasable(), "leased");
        self.is_looked_through = self.model.state == CampaignState::Running && self.model.is_open;
        let hold = Hold {
            run: self.model.run,
            generation: self.model.generation,
            cycle: self.model.cycle,
            is_in_call: false,
        };
        for position in positions {
            self.model.contacts[position].holds.push(hold.clone());
        }
        let mut worker = Worker::connect(&self.service.clients, "w", &self.name).await;
        for ((position, held), act) in leased.iter().zip(acts.iter().cycle()) {
            self.act(&mut worker, *position, held, *act)
                .await
                .map_err(|error| format!("contact {position} {act:?}: {error}"))?;
        }
        worker.close().await;
        Ok(())
    }

    async fn act(
        &mut self,
        worker: &mut Worker,
        position: usize,
        held: &Held,
        act: Act,
    ) -> Result<(), String> {
        match act {
            Act::Abandon => return Ok(()),
            Act::Release => {
                let released = worker.release(&held.lease, vec![held.slot]).await;
                same!(released, 1, "released");
                self.model.contacts[position].holds.pop();
                return Ok(());
            }
            Act::Interrupt(kind) => {
                self.record(position, kind).await;
            }
            Act::Call(..) | Act::Vanish => {}
        }
        let (decision, attempt_id) = worker.authorize(std::slice::from_ref(held)).await.remove(0);
        let wanted = match self.model.verdict(&self.model.view(), position) {
            Verdict::Eligible => Decision::Granted,
            Verdict::Waits => Decision::NotNow,
            Verdict::Removed(_) => Decision::Excluded,
        };
        same!(decision, wanted, "authorised");
        let mut hold = self.model.contacts[position].holds.pop().unwrap();
        if decision != Decision::Granted {
            return Ok(());
        }
        hold.is_in_call = true;
        if let Act::Vanish = act {
            self.model.contacts[position].holds.push(hold.clone());
            let held = held.clone();
            self.vanished.push(Vanished { held, attempt_id, position, hold, told: None });
            return Ok(());
        }
        let mut outcome = CallOutcome::Answered;
        if let Act::Call(of_call, end) = act {
            outcome = end;
            if let Some(kind) = of_call {
                worker.tell(held, &attempt_id, &format!("{attempt_id}/fact"), fact(kind)).await;
                self.model.record(position, kind);
            }
        }
        let status = worker.end(held, &attempt_id, outcome).await;
        same!(status, InteractionStatus::Recorded, "ended");
        self.model.end(position, &hold, Kind::Ended { outcome, was_unknown: false });
        Ok(())
    }

    async fn expire(&mut self) -> Result<(), String> {
        let client = self.db.client().await;
        let id = self.id();
        let sql = "UPDATE leases SET expires_at = now() - interval '1 second'
            WHERE campaign_id = $1 RETURNING lease";
        for row in client.query(sql, &[&id]).await.unwrap() {
            self.clock.facts.expire_lease(id, row.get(0)).await.unwrap();
        }
        self.model.expire();
        Ok(())
    }

    /// Reports the end of an attempt by another worker, perhaps in another run, perhaps twice.
    async fn report_late(&mut self, who: usize, outcome: CallOutcome) -> Result<(), String> {
        if self.vanished.is_empty() {
            return Ok(());
        }
        let index = who % self.vanished.len();
        let mut worker = Worker::connect(&self.service.clients, "late", &self.name).await;
        let Vanished { held, attempt_id, position, hold, told } = &mut self.vanished[index];
        let status = worker.end(held, attempt_id, outcome).await;
        let contact = &mut self.model.contacts[*position];
        let was_in_call = contact
            .holds
            .iter()
            .position(|held| held.is_in_call && (held.run, held.cycle) == (hold.run, hold.cycle));
        if let Some(at) = was_in_call.filter(|_| told.is_none()) {
            contact.holds.remove(at);
            let kind = Kind::Ended { outcome, was_unknown: false };
            let counts = self.model.end(*position, hold, kind);
            let wanted =
                if counts { InteractionStatus::Recorded } else { InteractionStatus::BeforeReset };
            same!(status, wanted, "late end");
            *told = Some(outcome);
            return Ok(());
        }
        if hold.generation < self.model.generation {
            // History that a reset cleared may be deleted by now or not; either way it does not count.
            return Ok(());
        }
        let before = told.unwrap_or(CallOutcome::Unknown);
        let is_machine = (before, outcome) == (CallOutcome::Answered, CallOutcome::Voicemail);
        if told.is_some() && !is_machine {
            same!(status, InteractionStatus::Duplicate, "told again");
            return Ok(());
        }
        same!(status, InteractionStatus::Recorded, "unknown until now, or taken for a person");
        contact.correct(hold.cycle, before, outcome);
        contact.may_ring &= told.is_some();
        *told = Some(outcome);
        Ok(())
    }

    async fn clock(&mut self) -> Result<(), String> {
        self.clock.campaigns.advance_by_clock(self.id()).await.unwrap();
        // A paused run never completes.
        let may_be_over = self.model.state == CampaignState::Running && self.model.is_done();
        let is_over = may_be_over && !self.model.settings.live && self.is_looked_through;
        if is_over {
            self.model.state = CampaignState::Completed;
        }
        let state = self.clients.campaign(&self.name).await.state();
        // The list may be done although no worker has looked yet.
        if state == CampaignState::Completed && may_be_over {
            self.model.state = CampaignState::Completed;
        }
        same!(state, self.model.state, "state by the clock");
        Ok(())
    }

    pub(super) fn id(&self) -> Uuid {
        id_of(&self.name)
    }
}

fn position_of(held: &Held) -> usize {
    held.contact.rsplit('/').next().unwrap().parse().unwrap()
}
