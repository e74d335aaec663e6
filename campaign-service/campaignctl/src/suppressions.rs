//! Commands on the suppression list: phone numbers that no campaign may engage.

use crate::args::PageArgs;
use crate::campaigns;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::pages;
use crate::printing::{Printer, in_part};
use crate::text::{Format, clean, counted};
use campaign_proto::v1;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum SuppressionsCommand {
    /// Add numbers: once the service answers, no campaign calls them
    Add {
        /// Phone numbers as people write them, 1 to 1,000
        #[arg(required = true)]
        phone_numbers: Vec<String>,
        /// Source of the numbers, as in "phone call"
        #[arg(long)]
        source: String,
        /// The people opted out themselves: only an admin can take their numbers off again
        #[arg(long)]
        opted_out: bool,
        /// Reason, for the audit log, which keeps it: name nobody
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// Country of phone numbers without a country code, as in US
        #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
        default_region: String,
    },
    /// Show one number of the list
    Get {
        /// Phone number with + and country code
        phone_number: String,
    },
    /// Show the list, in order of number
    List(PageArgs),
    /// List changes of the list, newest first
    Audit {
        /// Phone number with + and country code, to list only its changes
        phone_number: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Take a number off the list: campaigns may call it again
    Remove {
        /// Phone number with + and country code
        phone_number: String,
        /// Reason. If the person was erased, the audit log keeps it: name nobody
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}

fn named(phone_number: &str) -> String {
    let number = phone_number.strip_prefix("suppressions/").unwrap_or(phone_number);
    format!("suppressions/{number}")
}

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    command: SuppressionsCommand,
) -> Result<(), Failure> {
    match command {
        SuppressionsCommand::Add { phone_numbers, source, opted_out, reason, default_region } => {
            let actor = connection.actor.clone();
            let request = v1::AddSuppressionsRequest {
                phone_numbers,
                default_region,
                source,
                actor,
                reason,
                opted_out,
            };
            let answer = connection.contacts().add_suppressions(request).await?.into_inner();
            printer.answer(&answer)?;
            match answer.problems.len() {
                0 => Ok(()),
                count => {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    let numbers = counted(count, "number was", "numbers were");
                    Err(in_part(format!("{numbers} not understood and can still be called"))
                        .next("write them with + and the country code, and add them again"))
                }
            }
        }
        SuppressionsCommand::Get { phone_number } => {
            let request = v1::GetSuppressionRequest { name: named(&phone_number) };
            printer.answer(&connection.contacts().get_suppression(request).await?.into_inner())
        }
        SuppressionsCommand::List(page) => list(connection, printer, page).await,
        SuppressionsCommand::Audit { phone_number, page } => {
            let parent = phone_number.map_or("suppressions".to_owned(), |number| named(&number));
            campaigns::audit_log(connection, printer, parent, page).await
        }
        SuppressionsCommand::Remove { phone_number, reason } => {
            let (name, actor) = (named(&phone_number), connection.actor.clone());
            let request = v1::RemoveSuppressionRequest { name, actor, reason };
            let removed = connection.contacts().remove_suppression(request).await?.into_inner();
            if printer.format == Format::Json {
                return printer.answer(&removed);
            }
            printer.text(&format!("{} may be called again", clean(&removed.phone_number)))
        }
    }
}

async fn list(connection: &Connection, printer: &Printer, page: PageArgs) -> Result<(), Failure> {
    let fetch = async |page_size, page_token| {
        let request = v1::ListSuppressionsRequest { page_size, page_token };
        Ok(connection.contacts().list_suppressions(request).await?.into_inner())
    };
    pages::print(printer, page, fetch, |answer| &mut answer.next_page_token).await
}
