//! Commands on contacts.

use crate::args::{CampaignPageArgs, PageArgs};
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::import::{self, ImportArgs};
use crate::names;
use crate::pages;
use crate::printing::Printer;
use crate::text::Format;
use crate::zones::Zone;
use campaign_proto::v1;
use clap::{Args, Subcommand};
use std::collections::HashMap;

#[derive(Debug, Subcommand)]
pub enum ContactsCommand {
    /// Import contacts from a CSV or NDJSON file, or standard input
    Import(Box<ImportArgs>),
    /// Show an import's progress, with the rows that were not imported
    GetImport(GetImportArgs),
    /// Add one contact
    Add(AddArgs),
    /// Show one contact
    Get(ContactArgs),
    /// List contacts of a campaign, in order of creation
    List(CampaignPageArgs),
    /// Change a contact; its phone number cannot change
    Update(UpdateArgs),
    /// Delete a contact: it is not engaged any more
    Delete(ContactArgs),
    /// Erase a person in all campaigns, for good; needs the role admin
    Erase(EraseArgs),
    /// Show a contact's history, with the facts behind it
    History(HistoryArgs),
    /// Explain why a contact is or is not engaged now
    Explain(ContactArgs),
}

#[derive(Args, Debug)]
pub struct ContactArgs {
    /// Contact: campaigns/ID/contacts/N, or CAMPAIGN/N with the campaign's ID or display name
    contact: String,
}

#[derive(Args, Debug)]
pub struct GetImportArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// ID of the import, as `import` prints it
    import_id: String,
    /// Row after which problems are listed, counted without the header
    #[arg(long, value_name = "ROW", default_value_t = 0)]
    problems_after_row: i64,
}

#[derive(Args, Debug)]
pub struct AddArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    /// Phone number as people write it
    phone_number: String,
    /// Country of a phone number without a country code, as in US
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    default_region: String,
    #[command(flatten)]
    fields: FieldArgs,
}

#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// Contact: campaigns/ID/contacts/N, or CAMPAIGN/N with the campaign's ID or display name
    contact: String,
    #[command(flatten)]
    fields: FieldArgs,
}

#[derive(Args, Debug)]
pub struct EraseArgs {
    /// Phone number as people write it
    phone_number: String,
    /// Country of a phone number without a country code, as in US
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    default_region: String,
    /// Reason, for the audit log, which keeps it: name nobody
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Confirm the erasure: nothing brings the person's history back
    #[arg(long)]
    yes: bool,
}

#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Contact: campaigns/ID/contacts/N, or CAMPAIGN/N with the campaign's ID or display name
    contact: String,
    #[command(flatten)]
    page: PageArgs,
}

/// Fields of a contact besides its phone number.
#[derive(Args, Debug)]
pub struct FieldArgs {
    /// Name of the contact
    #[arg(long)]
    display_name: Option<String>,
    /// Time zone, as in America/Denver, Denver or Mountain; empty: the campaign's
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Zone>,
    /// Priority; higher is dialled first, 0 to 9
    #[arg(long, value_name = "N")]
    priority: Option<i32>,
    /// Attribute passed to the worker; repeat for more. An update replaces all attributes
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
    attributes: Vec<(String, String)>,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "write it as in company=Acme".to_owned())
}

impl FieldArgs {
    /// Applies the fields to a contact. Returns the paths of those that were given.
    fn apply(self, printer: &Printer, contact: &mut v1::Contact) -> Result<Vec<String>, Failure> {
        let mut paths = Vec::new();
        if let Some(told) = self.time_zone.as_ref().and_then(Zone::understood) {
            printer.remark(&told)?;
        }
        if let Some(display_name) = self.display_name {
            contact.display_name = display_name;
            paths.push("display_name".to_owned());
        }
        if let Some(time_zone) = self.time_zone {
            contact.time_zone = time_zone.name;
            paths.push("time_zone".to_owned());
        }
        if let Some(priority) = self.priority {
            contact.priority = priority;
            paths.push("priority".to_owned());
        }
        if !self.attributes.is_empty() {
            contact.attributes = self.attributes.into_iter().collect::<HashMap<_, _>>();
            paths.push("attributes".to_owned());
        }
        Ok(paths)
    }
}

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    command: ContactsCommand,
) -> Result<(), Failure> {
    match command {
        ContactsCommand::Import(args) => import::run(connection, printer, *args).await,
        ContactsCommand::GetImport(args) => get_import(connection, printer, args).await,
        ContactsCommand::Add(args) => {
            let parent = names::campaign(connection, &args.campaign).await?;
            let mut contact =
                v1::Contact { phone_number: args.phone_number, ..v1::Contact::default() };
            args.fields.apply(printer, &mut contact)?;
            let default_region = args.default_region;
            let request =
                v1::CreateContactRequest { parent, contact: Some(contact), default_region };
            printer.answer(&connection.contacts().create_contact(request).await?.into_inner())
        }
        ContactsCommand::Get(args) => {
            let name = names::contact(connection, &args.contact).await?;
            let request = v1::GetContactRequest { name };
            printer.answer(&connection.contacts().get_contact(request).await?.into_inner())
        }
        ContactsCommand::List(args) => list(connection, printer, args).await,
        ContactsCommand::Update(args) => {
            let name = names::contact(connection, &args.contact).await?;
            let mut contact = v1::Contact { name, ..v1::Contact::default() };
            let paths = args.fields.apply(printer, &mut contact)?;
            if paths.is_empty() {
                let message =
                    "nothing to change: give at least one option of contacts update --help";
                return Err(Failure::usage(message));
            }
            let update_mask = Some(prost_types::FieldMask { paths });
            let request = v1::UpdateContactRequest { contact: Some(contact), update_mask };
            printer.answer(&connection.contacts().update_contact(request).await?.into_inner())
        }
        ContactsCommand::Delete(args) => {
            let name = names::contact(connection, &args.contact).await?;
            let request = v1::DeleteContactRequest { name };
            let deleted = connection.contacts().delete_contact(request).await?.into_inner();
            if printer.format == Format::Json {
                return printer.answer(&deleted);
            }
            printer.text("deleted; an opt-out is kept in case the number is imported again")
        }
        ContactsCommand::Erase(args) => erase(connection, printer, args).await,
        ContactsCommand::History(args) => history(connection, printer, args).await,
        ContactsCommand::Explain(args) => {
            let name = names::contact(connection, &args.contact).await?;
            let request = v1::ExplainContactRequest { name };
            printer.answer(&connection.contacts().explain_contact(request).await?.into_inner())
        }
    }
}

async fn get_import(
    connection: &Connection,
    printer: &Printer,
    args: GetImportArgs,
) -> Result<(), Failure> {
    let campaign = names::campaign(connection, &args.campaign).await?;
    let name = format!("{campaign}/imports/{}", args.import_id);
    let request = v1::GetImportRequest { name, problems_after_row: args.problems_after_row };
    let answer = connection.contacts().get_import(request).await?.into_inner();
    printer.answer(&answer)?;
    let problems = answer.problems.iter();
    printer.remark(&import::problem_table(problems))
}

async fn list(
    connection: &Connection,
    printer: &Printer,
    args: CampaignPageArgs,
) -> Result<(), Failure> {
    let parent = names::campaign(connection, &args.campaign).await?;
    let fetch = async |page_size, page_token| {
        let request = v1::ListContactsRequest { parent: parent.clone(), page_size, page_token };
        Ok(connection.contacts().list_contacts(request).await?.into_inner())
    };
    pages::print(printer, args.page, fetch, |answer| &mut answer.next_page_token).await
}

async fn erase(connection: &Connection, printer: &Printer, args: EraseArgs) -> Result<(), Failure> {
    if !args.yes {
        let message = "an erasure is for good, in all campaigns; not confirmed, nothing was done";
        return Err(Failure::new(Exit::Refused, message).next("add --yes to confirm"));
    }
    let request = v1::ErasePersonRequest {
        phone_number: args.phone_number,
        default_region: args.default_region,
        actor: connection.actor.clone(),
        reason: args.reason,
    };
    printer.answer(&connection.contacts().erase_person(request).await?.into_inner())
}

async fn history(
    connection: &Connection,
    printer: &Printer,
    args: HistoryArgs,
) -> Result<(), Failure> {
    let name = names::contact(connection, &args.contact).await?;
    let fetch = async |page_size, page_token| {
        let request = v1::GetContactHistoryRequest { name: name.clone(), page_size, page_token };
        Ok(connection.contacts().get_contact_history(request).await?.into_inner())
    };
    pages::print(printer, args.page, fetch, |answer| &mut answer.next_page_token).await
}
