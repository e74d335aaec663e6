//! Commands on campaigns: guarded, atomic, audited, and answered the same when repeated.

use super::Campaigns;
use super::preview::is_current;
use crate::app::error::{Error, Result};
use crate::app::existing;
use crate::store::audit::{self, Entry};
use crate::store::campaigns;
use crate::store::notify::{ControlEvent, StopCause};
use crate::store::{Gate, Tx, agenda, purge, requests};
use campaign_domain::access::{Caller, Role};
use campaign_domain::agenda::entry;
use campaign_domain::campaign::{Campaign, Config, ConfigField, NoSchedule};
use campaign_domain::lifecycle::{Command, State, transition};
use campaign_domain::schedule::Schedule;
use campaign_domain::settings::LaunchSettings;
use serde_json::{Value, json};
use uuid::Uuid;

/// Fields that every command carries.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// Revision the caller has seen; `None` does not guard.
    pub revision: Option<i64>,
    /// Request id; if empty, repetitions are not recognised.
    pub request_id: String,
    /// Fingerprint of the method and the whole request.
    pub fingerprint: Uuid,
    pub caller: Caller,
    pub reason: String,
}

/// Parameters of a launch.
#[derive(Clone, Debug)]
pub struct Launch {
    pub settings: LaunchSettings,
    /// Token from the preview; empty if there is none.
    pub preview_token: String,
    pub confirm_reset: String,
    /// `traceparent` of the request, to which traces of calls point; empty if the request is not
    /// traced.
    pub traceparent: String,
}

/// Change of some fields of the configuration.
#[derive(Clone, Debug)]
pub struct Edit {
    pub config: Config,
    pub fields: Vec<ConfigField>,
}

/// Namespace of the ids of campaigns created with a request id, so that a repetition finds the
/// first one.
const CREATE_NAMESPACE: Uuid = Uuid::from_u128(0x1f0c_6a1e_9b1d_6f30_8d5c_0c8d_4f1e_2a77);

impl Campaigns {
    /// Creates a campaign.
    pub async fn create(&self, invocation: &Invocation, config: Config) -> Result<Campaign> {
        let id = if invocation.request_id.is_empty() {
            Uuid::now_v7()
        } else {
            Uuid::new_v5(&CREATE_NAMESPACE, create_key(invocation).as_bytes())
        };
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        if let Some(first) = first_answer(&tx, id, invocation).await? {
            return Ok(first);
        }
        let campaign = Campaign::draft(id, invocation.caller.tenant.clone(), config, tx.now);
        if !campaigns::insert(&tx, &campaign).await? {
            return Err(Error::AlreadyExists(format!("campaigns/{id}")));
        }
        let change = Change { name: "CREATE", after: campaign, details: Value::Null };
        finish(tx, invocation, None, change).await
    }

    /// Starts a new run.
    pub async fn launch(
        &self,
        id: Uuid,
        invocation: &Invocation,
        launch: &Launch,
    ) -> Result<Campaign> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let before = match open(&tx, id, invocation).await? {
            Opened::Campaign(campaign) => campaign,
            Opened::FirstAnswer(answer) => return Ok(answer),
        };
        let settings = launch.settings;
        invocation.caller.may_launch(&settings).map_err(|setting| Error::Forbidden {
            what: setting.to_owned(),
            roles: vec![Role::Admin],
        })?;
        let plan = before.plan(settings.live_forever);
        let state =
            transition(before.state, Command::Launch, &plan, tx.now).map_err(Error::Refused)?;
        check_launch(&before, launch)?;
        let counters = campaigns::counters(&tx, id).await?;
        let token = &launch.preview_token;
        if !token.is_empty() && !is_current(&tx, &before, &counters, &settings, token).await? {
            return Err(Error::Precondition {
                reason: "PREVIEW_OUTDATED",
                subject: "preview_token".to_owned(),
                description:
                    "the campaign, its contacts, the suppression list or the settings changed since \
                              the preview; preview again"
                        .to_owned(),
            });
        }
        let mut after = changed(&before, &tx).launched(state, settings, counters.next_position);
        after.launch_traceparent.clone_from(&launch.traceparent);
        campaigns::update(&tx, &after).await?;
        campaigns::insert_run(&tx, &after).await?;
        campaigns::mark_run(&tx, &after).await?;
        agenda::set(&tx, &after, entry(&after, tx.now)).await?;
        if settings.reset_contact_history {
            purge::start(&tx, id, after.epoch.generation).await?;
        }
        tx.notify_on_commit(ControlEvent::Work { campaign: id });
        let details = json!({ "settings": settings });
        let change = Change { name: Command::Launch.name(), after, details };
        finish(tx, invocation, Some(before.state), change).await
    }

    /// Pauses, resumes or cancels the run.
    pub async fn command(
        &self,
        id: Uuid,
        invocation: &Invocation,
        command: Command,
        hang_up: bool,
    ) -> Result<Campaign> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let before = match open(&tx, id, invocation).await? {
            Opened::Campaign(campaign) => campaign,
            Opened::FirstAnswer(answer) => return Ok(answer),
        };
        apply(tx, invocation, &before, command, hang_up).await
    }

    /// Changes some fields of the configuration.
    pub async fn update(&self, id: Uuid, invocation: &Invocation, edit: &Edit) -> Result<Campaign> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let before = match open(&tx, id, invocation).await? {
            Opened::Campaign(campaign) => campaign,
            Opened::FirstAnswer(answer) => return Ok(answer),
        };
        for field in &edit.fields {
            if !field.may_edit(before.state, before.is_live_forever()) {
                let field = field.name();
                return Err(Error::Precondition {
                    reason: "CONFIGURATION_FROZEN",
                    subject: field.to_owned(),
                    description: format!(
                        "{field} cannot change while the campaign is {}; pause it first",
                        before.state.name()
                    ),
                });
            }
        }
        let mut after = changed(&before, &tx);
        merge(&mut after.config, edit)?;
        if let (true, Some(field)) =
            (after.state.is_active(), after.config.missing_for_launch().first())
        {
            let description = "cannot be cleared while a run is under way";
            return Err(Error::invalid(format!("campaign.{field}"), description));
        }
        campaigns::update(&tx, &after).await?;
        agenda::set(&tx, &after, entry(&after, tx.now)).await?;
        // Contacts leased under the old configuration are judged by the new one.
        campaigns::bump_facts_revision(&tx, id).await?;
        if after.config.needs != before.config.needs {
            // Other workers than before may serve the campaign.
            tx.notify_on_commit(ControlEvent::Work { campaign: id });
        }
        let fields: Vec<&str> = edit.fields.iter().map(|field| field.name()).collect();
        let change = Change { name: "UPDATE", after, details: json!({ "fields": fields }) };
        finish(tx, invocation, Some(before.state), change).await
    }

    /// Deletes a campaign that has no run under way.
    pub async fn delete(&self, id: Uuid, invocation: &Invocation) -> Result<Campaign> {
        let mut connection = self.db.connect().await?;
        let tx = connection.begin(Gate::Exclusive(id)).await?;
        let before = match open(&tx, id, invocation).await? {
            Opened::Campaign(campaign) => campaign,
            Opened::FirstAnswer(answer) => return Ok(answer),
        };
        if before.state.is_active() {
            return Err(Error::Precondition {
                reason: "CAMPAIGN_ACTIVE",
                subject: format!("campaigns/{id}"),
                description: format!(
                    "the campaign is {}; cancel it before deleting it",
                    before.state.name()
                ),
            });
        }
        let mut after = changed(&before, &tx);
        after.is_deleted = true;
        campaigns::update(&tx, &after).await?;
        let change = Change { name: "DELETE", after, details: Value::Null };
        finish(tx, invocation, Some(before.state), change).await
    }
}

/// Applies a command to a campaign, in the transaction that read it.
pub(super) async fn apply(
    tx: Tx<'_>,
    invocation: &Invocation,
    before: &Campaign,
    command: Command,
    hang_up: bool,
) -> Result<Campaign> {
    let plan = before.plan(before.is_live_forever());
    let state = transition(before.state, command, &plan, tx.now).map_err(Error::Refused)?;
    let mut after = changed(before, &tx);
    after.state = state;
    campaigns::update(&tx, &after).await?;
    campaigns::mark_run(&tx, &after).await?;
    agenda::set(&tx, &after, entry(&after, tx.now)).await?;
    let stopped = |cause, hang_up| ControlEvent::Stopped {
        campaign: after.id,
        run: after.run,
        cause,
        hang_up,
    };
    let event = match command {
        Command::Pause => stopped(StopCause::Paused, hang_up),
        Command::Cancel => stopped(StopCause::Cancelled, true),
        Command::Complete => stopped(StopCause::Completed, false),
        Command::Launch | Command::Start | Command::Resume => {
            ControlEvent::Work { campaign: after.id }
        }
    };
    tx.notify_on_commit(event);
    let change =
        Change { name: command.name(), after, details: json!({ "hang_up_calls": hang_up }) };
    finish(tx, invocation, Some(before.state), change).await
}

/// Returns the key of a request id, which belongs to its tenant. A request id has no NUL, so that
/// no key is another tenant's.
fn create_key(invocation: &Invocation) -> String {
    let tenant = &invocation.caller.tenant;
    if tenant.is_empty() {
        invocation.request_id.clone()
    } else {
        format!("{tenant}\0{}", invocation.request_id)
    }
}

enum Opened {
    Campaign(Campaign),
    FirstAnswer(Campaign),
}

/// Starts a command: answers a repeat, and checks that the campaign is there and unchanged.
async fn open(tx: &Tx<'_>, id: Uuid, invocation: &Invocation) -> Result<Opened> {
    if let Some(first) = first_answer(tx, id, invocation).await? {
        return Ok(Opened::FirstAnswer(first));
    }
    let campaign = existing(tx, id).await?;
    if invocation.revision.is_some_and(|revision| revision != campaign.revision) {
        return Err(Error::Outdated);
    }
    Ok(Opened::Campaign(campaign))
}

async fn first_answer(tx: &Tx<'_>, id: Uuid, invocation: &Invocation) -> Result<Option<Campaign>> {
    if invocation.request_id.is_empty() {
        return Ok(None);
    }
    let Some(first) = requests::find(tx, id, &invocation.request_id).await? else {
        return Ok(None);
    };
    if first.fingerprint != invocation.fingerprint {
        let how = "was used before for a different request; choose a new one";
        return Err(Error::invalid("request_id", how));
    }
    Ok(Some(first.response))
}

/// Change that a command made.
struct Change {
    name: &'static str,
    after: Campaign,
    details: Value,
}

/// Ends a command: writes the audit log, keeps the answer for repetitions, and commits.
async fn finish(
    tx: Tx<'_>,
    invocation: &Invocation,
    before: Option<State>,
    change: Change,
) -> Result<Campaign> {
    let Change { name, after, details } = change;
    let entry = Entry {
        campaign: after.id,
        actor: &invocation.caller.actor,
        reason: &invocation.reason,
        command: name,
        before,
        after: Some(after.state),
        run: after.run,
        request_id: &invocation.request_id,
        details,
    };
    audit::insert(&tx, &entry).await?;
    if !invocation.request_id.is_empty() {
        requests::insert(&tx, &invocation.request_id, invocation.fingerprint, &after).await?;
    }
    tx.commit().await?;
    Ok(after)
}

fn changed(before: &Campaign, tx: &Tx<'_>) -> Campaign {
    Campaign { revision: before.revision + 1, updated_at: tx.now, ..before.clone() }
}

fn check_launch(campaign: &Campaign, launch: &Launch) -> Result<()> {
    if let Some(field) = campaign.config.missing_for_launch().first() {
        return Err(Error::Precondition {
            reason: "FIELD_NOT_SET",
            subject: format!("campaign.{field}"),
            description: format!("{field} must be set before a launch; set it with UpdateCampaign"),
        });
    }
    let name = &campaign.config.display_name;
    if launch.settings.reset_contact_history && launch.confirm_reset != *name {
        return Err(Error::invalid(
            "confirm_reset",
            "must be the campaign's display_name, to confirm that all its history and opt-outs \
             are cleared for good",
        ));
    }
    if !launch.settings.reset_contact_history && !launch.confirm_reset.is_empty() {
        return Err(Error::invalid(
            "confirm_reset",
            "must be empty unless settings.reset_contact_history is true",
        ));
    }
    Ok(())
}

/// Copies the edited fields into the configuration, and checks it as a whole.
fn merge(config: &mut Config, edit: &Edit) -> Result<()> {
    for field in &edit.fields {
        field.copy(&edit.config, config).map_err(|NoSchedule| {
            Error::invalid("campaign.schedule", "must be set as a whole first")
        })?;
    }
    if config.schedule.as_ref().is_some_and(Schedule::ends_before_it_starts) {
        return Err(Error::invalid("campaign.schedule.end_time", "must be after start_time"));
    }
    Ok(())
}
