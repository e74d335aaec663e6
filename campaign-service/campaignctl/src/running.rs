//! Commands that stop a campaign's run or let it go on, and the deletion of a campaign.

use crate::args::ChangeArgs;
use crate::asking;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::names;
use crate::printing::Printer;
use crate::text::{Format, clean, counted, grouped};
use campaign_proto::v1;
use clap::Args;

#[derive(Args, Debug)]
pub struct PauseArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// Hang up calls in progress; without this flag, they finish
    #[arg(long)]
    hang_up_calls: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Args, Debug)]
pub struct CommandArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Arguments of a command that asks before it acts.
#[derive(Args, Debug)]
pub struct ConfirmedArgs {
    #[command(flatten)]
    command: CommandArgs,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

impl ConfirmedArgs {
    /// Returns the name of the campaign. Without `--yes`, asks first; `question` is none if there is nothing to ask.
    async fn confirmed(
        &self,
        connection: &Connection,
        command: &str,
        question: impl AsyncFn(&v1::Campaign) -> Option<String>,
        undone: &str,
    ) -> Result<String, Failure> {
        if self.yes {
            return names::campaign(connection, &self.command.campaign).await;
        }
        asking::need_terminal(command, "--yes")?;
        let campaign = names::get(connection, &self.command.campaign).await?;
        if let Some(question) = question(&campaign).await {
            asking::confirm(&question, undone)?;
        }
        Ok(campaign.name)
    }
}

pub async fn delete(
    connection: &Connection,
    printer: &Printer,
    args: ConfirmedArgs,
) -> Result<(), Failure> {
    let question = async |campaign: &v1::Campaign| Some(delete_question(campaign));
    let name = args.confirmed(connection, "delete", question, "nothing was deleted").await?;
    let change = args.command.change;
    let request = v1::DeleteCampaignRequest {
        name,
        etag: change.etag,
        request_id: change.request_id,
        actor: connection.actor.clone(),
        reason: change.reason,
    };
    let deleted = connection.campaigns().delete_campaign(request).await?.into_inner();
    done(printer, &deleted, "deleted")
}

fn delete_question(campaign: &v1::Campaign) -> String {
    let (name, state) = (clean(&campaign.display_name), crate::show::state(campaign.state()));
    let contacts = counted(campaign.contact_count, "contact", "contacts");
    format!("Delete {name} ({state}, {contacts})? It cannot be brought back.")
}

pub async fn pause(
    connection: &Connection,
    printer: &Printer,
    args: PauseArgs,
) -> Result<(), Failure> {
    let name = names::campaign(connection, &args.campaign).await?;
    let request = v1::PauseCampaignRequest {
        name,
        hang_up_calls: args.hang_up_calls,
        etag: args.change.etag,
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    let paused = connection.campaigns().pause_campaign(request).await?.into_inner();
    let fate = if args.hang_up_calls { "hung up" } else { "left to finish" };
    stopped(connection, printer, &paused, fate).await
}

pub async fn resume(
    connection: &Connection,
    printer: &Printer,
    args: CommandArgs,
) -> Result<(), Failure> {
    let name = names::campaign(connection, &args.campaign).await?;
    let request = v1::ResumeCampaignRequest {
        name,
        etag: args.change.etag,
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    let resumed = connection.campaigns().resume_campaign(request).await?.into_inner();
    stopped(connection, printer, &resumed, "still going on").await
}

pub async fn cancel(
    connection: &Connection,
    printer: &Printer,
    args: ConfirmedArgs,
) -> Result<(), Failure> {
    let question = async |campaign: &v1::Campaign| {
        // The service rejects the command in any other state, and names the commands that it allows.
        if !is_under_way(campaign.state()) {
            return None;
        }
        // Calls that cannot be counted do not hinder the command.
        let progress = names::progress(connection, &campaign.name).await;
        let in_call = progress.ok().map(|progress| progress.in_call);
        Some(cancel_question(&run_of(&campaign.display_name, campaign.run), in_call))
    };
    let name = args.confirmed(connection, "cancel", question, "nothing was cancelled").await?;
    let change = args.command.change;
    let request = v1::CancelCampaignRequest {
        name,
        etag: change.etag,
        request_id: change.request_id,
        actor: connection.actor.clone(),
        reason: change.reason,
    };
    let cancelled = connection.campaigns().cancel_campaign(request).await?.into_inner();
    stopped(connection, printer, &cancelled, "hung up").await
}

/// Returns whether a campaign in this state has a run that can be cancelled.
pub fn is_under_way(state: v1::CampaignState) -> bool {
    matches!(
        state,
        v1::CampaignState::Scheduled | v1::CampaignState::Running | v1::CampaignState::Paused
    )
}

/// Returns a campaign's name with its run.
pub fn run_of(display_name: &str, run: i32) -> String {
    format!("{}, run {run}", clean(display_name))
}

/// Returns the question before a cancel of this run. `in_call` is the number of calls in progress, if it is known.
pub fn cancel_question(run: &str, in_call: Option<i64>) -> String {
    let calls = match in_call {
        Some(0) => "No call is in progress.".to_owned(),
        Some(1) => "1 call in progress is hung up.".to_owned(),
        Some(calls) => format!("{} calls in progress are hung up.", grouped(calls)),
        None => "Calls in progress are hung up.".to_owned(),
    };
    format!("Cancel {run}? {calls} It cannot be resumed.")
}

fn done(printer: &Printer, campaign: &v1::Campaign, what: &str) -> Result<(), Failure> {
    match printer.format {
        Format::Json => printer.answer(campaign),
        Format::Human => printer.text(&format!("{}: {what}", clean(&campaign.display_name))),
    }
}

/// Prints the state that a command led to, and the fate of the calls in progress at that moment. If the calls
/// cannot be counted, the command succeeds all the same.
async fn stopped(
    connection: &Connection,
    printer: &Printer,
    campaign: &v1::Campaign,
    fate: &str,
) -> Result<(), Failure> {
    if printer.format == Format::Json {
        return printer.answer(campaign);
    }
    let calls = match names::progress(connection, &campaign.name).await {
        Ok(progress) if progress.in_call == 0 => "no calls in progress".to_owned(),
        Ok(progress) => {
            let calls = counted(progress.in_call, "call in progress", "calls in progress");
            format!("{calls}, {fate}")
        }
        Err(failure) => format!("calls in progress could not be counted: {}", failure.message()),
    };
    let state = crate::show::state(campaign.state());
    done(printer, campaign, &format!("{state}, run {}; {calls}", campaign.run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_what_is_lost() {
        let asked = |calls| cancel_question(&run_of("Spring offer", 3), calls);
        assert_eq!(
            asked(Some(1_200)),
            "Cancel Spring offer, run 3? 1,200 calls in progress are hung up. It cannot be resumed."
        );
        assert!(asked(Some(1)).contains("1 call in progress is hung up"));
        assert!(asked(Some(0)).contains("No call is in progress"));
        assert!(asked(None).contains("Calls in progress are hung up"));
        let campaign = v1::Campaign {
            display_name: "Spring\u{1b}[2J".to_owned(),
            state: v1::CampaignState::Draft.into(),
            contact_count: 12_000,
            ..Default::default()
        };
        let question = delete_question(&campaign);
        assert!(question.contains("(DRAFT, 12,000 contacts)"), "{question}");
        assert!(!question.contains('\u{1b}'), "{question}");
    }
}
