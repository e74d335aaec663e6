//! Commands on campaigns.

use crate::args::{CampaignPageArgs, ChangeArgs, PageArgs};
use crate::config_args::ConfigArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::launching::{self, LaunchArgs, PreviewArgs};
use crate::names;
use crate::pages;
use crate::printing::Printer;
use crate::text::{Format, clean, counted};
use crate::watch::{self, WatchArgs};
use campaign_proto::v1;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum CampaignsCommand {
    /// Create a campaign, in state DRAFT
    Create(Box<CreateArgs>),
    /// Show one campaign
    Get(CampaignArgs),
    /// List all campaigns, newest first
    List(PageArgs),
    /// Change a campaign's configuration; while it runs, only part can change
    Update(Box<UpdateArgs>),
    /// Delete a campaign that is DRAFT, COMPLETED or CANCELLED
    Delete(CommandArgs),
    /// Show what a launch would do, without launching
    Preview(PreviewArgs),
    /// Start a new run: shows its settings and counts, then asks
    Launch(Box<LaunchArgs>),
    /// Pause a run: no call begins until it is resumed
    Pause(PauseArgs),
    /// Resume a paused run
    Resume(CommandArgs),
    /// Cancel a run for good: calls in progress are hung up
    Cancel(CommandArgs),
    /// Show the run's progress: how many contacts wait, are in a call, or are done
    Progress(CampaignArgs),
    /// Watch campaigns live
    Watch(WatchArgs),
    /// List a campaign's runs, newest first
    Runs(CampaignPageArgs),
    /// List the audit log: who did what and why, newest first
    Audit(CampaignPageArgs),
}

#[derive(Args, Debug)]
pub struct CampaignArgs {
    /// Campaign: campaigns/ID, ID, or display name
    pub campaign: String,
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Name shown to people; may come from --file
    display_name: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Idempotency key: repeating the command with the same ID returns the first answer
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    request_id: String,
    /// Reason, for the audit log
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// New name shown to people
    #[arg(long)]
    display_name: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

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

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    command: CampaignsCommand,
) -> Result<(), Failure> {
    match command {
        CampaignsCommand::Create(args) => create(connection, printer, *args).await,
        CampaignsCommand::Get(args) => {
            printer.answer(&names::get(connection, &args.campaign).await?)
        }
        CampaignsCommand::List(page) => list(connection, printer, page).await,
        CampaignsCommand::Update(args) => update(connection, printer, *args).await,
        CampaignsCommand::Delete(args) => delete(connection, printer, args).await,
        CampaignsCommand::Preview(args) => launching::preview(connection, printer, &args).await,
        CampaignsCommand::Launch(args) => launching::launch(connection, printer, *args).await,
        CampaignsCommand::Pause(args) => pause(connection, printer, args).await,
        CampaignsCommand::Resume(args) => resume(connection, printer, args).await,
        CampaignsCommand::Cancel(args) => cancel(connection, printer, args).await,
        CampaignsCommand::Progress(args) => {
            let name = names::campaign(connection, &args.campaign).await?;
            printer.answer(&names::progress(connection, &name).await?)
        }
        CampaignsCommand::Watch(args) => watch::run(connection, printer, args).await,
        CampaignsCommand::Runs(args) => runs(connection, printer, args).await,
        CampaignsCommand::Audit(args) => audit(connection, printer, args).await,
    }
}

async fn create(
    connection: &Connection,
    printer: &Printer,
    args: CreateArgs,
) -> Result<(), Failure> {
    let mut campaign = v1::Campaign::default();
    args.config.apply(printer, &mut campaign)?;
    if let Some(display_name) = args.display_name {
        campaign.display_name = display_name;
    }
    let request = v1::CreateCampaignRequest {
        campaign: Some(campaign),
        request_id: args.request_id,
        actor: connection.actor.clone(),
        reason: args.reason,
    };
    printer.answer(&connection.campaigns().create_campaign(request).await?.into_inner())
}

async fn update(
    connection: &Connection,
    printer: &Printer,
    args: UpdateArgs,
) -> Result<(), Failure> {
    // A partial change, such as one hour of the schedule, starts from the campaign as it is. Its etag guards the
    // update.
    let mut campaign = names::get(connection, &args.campaign).await?;
    let name = campaign.name.clone();
    let etag = campaign.etag.clone();
    let mut paths = args.config.apply(printer, &mut campaign)?;
    if let Some(display_name) = args.display_name {
        campaign.display_name = display_name;
        paths.push("display_name".to_owned());
    }
    if paths.is_empty() {
        let message = "nothing to change: give at least one option of campaigns update --help";
        return Err(Failure::usage(message));
    }
    campaign.name = name;
    campaign.etag = if args.change.etag.is_empty() { etag } else { args.change.etag };
    let request = v1::UpdateCampaignRequest {
        campaign: Some(campaign),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    printer.answer(&connection.campaigns().update_campaign(request).await?.into_inner())
}

async fn delete(
    connection: &Connection,
    printer: &Printer,
    args: CommandArgs,
) -> Result<(), Failure> {
    let request = v1::DeleteCampaignRequest {
        name: names::campaign(connection, &args.campaign).await?,
        etag: args.change.etag,
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    let deleted = connection.campaigns().delete_campaign(request).await?.into_inner();
    done(printer, &deleted, "deleted")
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
    args: CommandArgs,
) -> Result<(), Failure> {
    let name = names::campaign(connection, &args.campaign).await?;
    let request = v1::CancelCampaignRequest {
        name,
        etag: args.change.etag,
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    let cancelled = connection.campaigns().cancel_campaign(request).await?.into_inner();
    stopped(connection, printer, &cancelled, "hung up").await
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

async fn list(connection: &Connection, printer: &Printer, page: PageArgs) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = v1::ListCampaignsRequest { page_size, page_token };
        Ok(connection.campaigns().list_campaigns(request).await?.into_inner())
    };
    pages::print(printer, page, fetch, |answer| &mut answer.next_page_token).await
}

async fn runs(
    connection: &Connection,
    printer: &Printer,
    args: CampaignPageArgs,
) -> Result<(), Failure> {
    let parent = names::campaign(connection, &args.campaign).await?;
    let fetch = async |page_size, page_token| {
        let request = v1::ListRunsRequest { parent: parent.clone(), page_size, page_token };
        Ok(connection.campaigns().list_runs(request).await?.into_inner())
    };
    pages::print(printer, args.page, fetch, |answer| &mut answer.next_page_token).await
}

async fn audit(
    connection: &Connection,
    printer: &Printer,
    args: CampaignPageArgs,
) -> Result<(), Failure> {
    let parent = names::campaign(connection, &args.campaign).await?;
    audit_log(connection, printer, parent, args.page).await
}

/// Prints the audit log of a campaign or of the suppression list.
pub async fn audit_log(
    connection: &Connection,
    printer: &Printer,
    parent: String,
    page: PageArgs,
) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = v1::ListAuditEventsRequest { parent: parent.clone(), page_size, page_token };
        Ok(connection.campaigns().list_audit_events(request).await?.into_inner())
    };
    pages::print(printer, page, fetch, |answer| &mut answer.next_page_token).await
}
