//! Commands on campaigns.

use crate::args::{CampaignPageArgs, ChangeArgs, PageArgs};
use crate::config_args::ConfigArgs;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::launching::{self, LaunchArgs, PreviewArgs};
use crate::names;
use crate::pages;
use crate::printing::Printer;
use crate::running::{self, CommandArgs, ConfirmedArgs, PauseArgs};
use crate::show::state;
use crate::text::Format;
use crate::watch::{self, WatchArgs};
use campaign_proto::v1;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum CampaignsCommand {
    /// Create a campaign, in state DRAFT
    Create(Box<CreateArgs>),
    /// Show one campaign
    Get(CampaignArgs),
    /// List all campaigns, newest first
    List(ListArgs),
    /// Change a campaign's configuration; while it runs, only part can change
    Update(Box<UpdateArgs>),
    /// Delete a campaign that is DRAFT, COMPLETED or CANCELLED, after a question
    Delete(ConfirmedArgs),
    /// Show what a launch would do, without launching
    Preview(PreviewArgs),
    /// Start a new run: shows its settings and counts, then asks
    Launch(Box<LaunchArgs>),
    /// Pause a run: no call begins until it is resumed
    Pause(PauseArgs),
    /// Resume a paused run
    Resume(CommandArgs),
    /// Cancel a run for good, after a question: calls in progress are hung up
    Cancel(ConfirmedArgs),
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
pub struct ListArgs {
    /// State of the campaigns to list; repeat for more. All pages are fetched and filtered here
    #[arg(long = "state", value_name = "STATE", value_parser = state_parser(), ignore_case = true)]
    states: Vec<v1::CampaignState>,
    #[command(flatten)]
    page: PageArgs,
}

/// Returns the parser of a state as lists show it, as in RUNNING.
fn state_parser() -> impl TypedValueParser<Value = v1::CampaignState> {
    let states = || (1..).map_while(|number| v1::CampaignState::try_from(number).ok());
    PossibleValuesParser::new(states().map(state)).try_map(move |name| {
        let known = states().find(|one| state(*one).eq_ignore_ascii_case(&name));
        known.ok_or("no such state")
    })
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
        CampaignsCommand::List(args) => list(connection, printer, args).await,
        CampaignsCommand::Update(args) => update(connection, printer, *args).await,
        CampaignsCommand::Delete(args) => running::delete(connection, printer, args).await,
        CampaignsCommand::Preview(args) => launching::preview(connection, printer, &args).await,
        CampaignsCommand::Launch(args) => launching::launch(connection, printer, *args).await,
        CampaignsCommand::Pause(args) => running::pause(connection, printer, args).await,
        CampaignsCommand::Resume(args) => running::resume(connection, printer, args).await,
        CampaignsCommand::Cancel(args) => running::cancel(connection, printer, args).await,
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

async fn list(connection: &Connection, printer: &Printer, args: ListArgs) -> Result<(), Failure> {
    if args.states.is_empty() {
        let fetch =
            async |page_size, page_token| names::page(connection, page_size, page_token).await;
        return pages::print(printer, args.page, fetch, |answer| &mut answer.next_page_token).await;
    }
    let fits = |one: &v1::Campaign| args.states.contains(&one.state());
    let campaigns = names::all(connection, fits, args.page.page_token).await?;
    if campaigns.is_empty() && printer.format == Format::Human {
        let states: Vec<&str> = args.states.iter().copied().map(state).collect();
        return printer.text(&format!("no campaign is {}", states.join(" or ")));
    }
    printer.answer(&v1::ListCampaignsResponse { campaigns, ..Default::default() })
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
