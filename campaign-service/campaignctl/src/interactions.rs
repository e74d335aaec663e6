//! Commands on interactions: facts from backends that hold no lease, and inbound calls.

use crate::connection::Connection;
use crate::failure::Failure;
use crate::json;
use crate::names;
use crate::printing::{Printer, in_part};
use crate::text::counted;
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub enum InteractionsCommand {
    /// Report facts: one by flags, or up to 1,000 from a file
    Record(RecordArgs),
    /// Ask whether to answer an inbound call; while a run is live forever, unknown callers become contacts
    RouteInbound(RouteArgs),
}

#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).args(["fact", "file"])))]
pub struct RecordArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// Fact to report
    #[arg(long, value_enum, requires = "interaction_id", requires = "of")]
    fact: Option<FactName>,
    /// Phone number of the contact, with + and country code
    #[arg(long, group = "of", value_name = "NUMBER")]
    phone_number: Option<String>,
    /// Number of the contact in the campaign
    #[arg(long, group = "of", value_name = "N")]
    contact: Option<u64>,
    /// ID of the fact: facts with the same ID count once
    #[arg(long, value_name = "ID")]
    interaction_id: Option<String>,
    /// Channel of the opt-out, as in text
    #[arg(long, default_value = "", hide_default_value = true)]
    channel: String,
    /// Opt out of every campaign
    #[arg(long)]
    everywhere: bool,
    /// Seconds on the call before the transfer
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    seconds_before_transfer: i32,
    /// Link that the contact clicked
    #[arg(long, default_value = "", hide_default_value = true)]
    link: String,
    /// JSON list of facts with the API's field names, as in [{"phoneNumber": "+14155550100", "interaction":
    /// {"interactionId": "sms-77", "optedOut": {"channel": "text"}}}]; - for standard input
    #[arg(long)]
    file: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FactName {
    OptedOut,
    Transferred,
    Success,
    LinkOpened,
    TextSent,
    CalledIn,
}

#[derive(Args, Debug)]
pub struct RouteArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// Phone number of the caller
    phone_number: String,
    /// Country of a phone number without a country code, as in US
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    default_region: String,
}

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    command: InteractionsCommand,
) -> Result<(), Failure> {
    match command {
        InteractionsCommand::Record(args) => record(connection, printer, args).await,
        InteractionsCommand::RouteInbound(args) => {
            let parent = names::campaign(connection, &args.campaign).await?;
            let RouteArgs { phone_number, default_region, .. } = args;
            let request = v1::RouteInboundRequest { parent, phone_number, default_region };
            printer.answer(&connection.interactions().route_inbound(request).await?.into_inner())
        }
    }
}

async fn record(
    connection: &Connection,
    printer: &Printer,
    args: RecordArgs,
) -> Result<(), Failure> {
    let parent = names::campaign(connection, &args.campaign).await?;
    let interactions = match &args.file {
        Some(file) => {
            let facts = serde_json::json!({ "interactions": json::file(file)? });
            let request: v1::RecordInteractionsRequest =
                json::read(&printer.pool, "RecordInteractionsRequest", &facts)?;
            request.interactions
        }
        None => vec![reported(&parent, args)],
    };
    let request = v1::RecordInteractionsRequest { parent, interactions };
    let answer = connection.interactions().record_interactions(request).await?.into_inner();
    printer.answer(&answer)?;
    let rejected = answer.results.iter().filter(|result| {
        matches!(
            result.status(),
            v1::InteractionStatus::Rejected | v1::InteractionStatus::Unspecified
        )
    });
    match i64::try_from(rejected.count()).unwrap_or(i64::MAX) {
        0 => Ok(()),
        count => Err(in_part(format!("{} rejected", counted(count, "fact was", "facts were")))),
    }
}

fn reported(parent: &str, args: RecordArgs) -> v1::ReportedInteraction {
    let fact = args.fact.map(|name| match name {
        FactName::OptedOut => {
            Fact::OptedOut(v1::OptedOut { channel: args.channel, everywhere: args.everywhere })
        }
        FactName::Transferred => Fact::Transferred(v1::Transferred {
            seconds_before_transfer: args.seconds_before_transfer,
        }),
        FactName::Success => Fact::Success(v1::Success {}),
        FactName::LinkOpened => Fact::LinkOpened(v1::LinkOpened { link: args.link }),
        FactName::TextSent => Fact::TextSent(v1::TextSent {}),
        FactName::CalledIn => Fact::CalledIn(v1::CalledIn { duration: None }),
    });
    let contact = args.contact.map(|number| format!("{parent}/contacts/{number}"));
    v1::ReportedInteraction {
        interaction: Some(v1::Interaction {
            interaction_id: args.interaction_id.unwrap_or_default(),
            contact: contact.unwrap_or_default(),
            fact,
            ..v1::Interaction::default()
        }),
        phone_number: args.phone_number.unwrap_or_default(),
    }
}
