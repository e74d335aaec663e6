//! Conversion of contacts and rows of imports between API and app.

use super::check::{Check, MAX_NAME_LENGTH};
use super::convert::timestamp;
use super::names;
use crate::app::error::Error;
use crate::app::people::importing::ImportReport;
use crate::store::contacts::{Contact, NewContact};
use crate::store::imports::Problem;
use campaign_domain::phone::Reading;
use campaign_proto::v1;
use uuid::Uuid;

pub fn contact_to_api(campaign: Uuid, contact: Contact) -> v1::Contact {
    v1::Contact {
        name: names::contact_name(campaign, contact.position),
        phone_number: contact.phone,
        display_name: contact.display_name,
        time_zone: contact.time_zone,
        priority: contact.priority.into(),
        attributes: contact.attributes.into_iter().collect(),
        create_time: Some(timestamp(contact.created_at)),
    }
}

pub fn problem_to_api(problem: Problem) -> v1::RowProblem {
    v1::RowProblem { row: problem.row, field: problem.field, reason: problem.reason }
}

pub fn import_to_api(campaign: Uuid, import_id: &str, report: ImportReport) -> v1::Import {
    v1::Import {
        name: format!("campaigns/{campaign}/imports/{import_id}"),
        next_row: report.import.next_row,
        created: report.import.created,
        duplicates: report.import.duplicates,
        rejected: report.import.rejected,
        problems: report.problems.into_iter().map(problem_to_api).collect(),
        repeated_rows: 0,
        outside_run: false,
    }
}

/// Reads a contact as a caller sends it. In errors, `prefix` stands before the names of its fields.
pub fn new_contact(
    prefix: &str,
    row: v1::ImportRow,
    reading: Reading,
) -> Result<NewContact, Error> {
    let at = |field: &str| format!("{prefix}{field}");
    let mut check = Check::default();
    let phone = reading.number(&row.phone_number).unwrap_or_else(|problem| {
        check.fail(&at("phone_number"), problem.to_string());
        String::new()
    });
    let display_name = row.display_name.trim().to_owned();
    let time_zone = row.time_zone.trim().to_owned();
    check.text(&at("display_name"), &display_name, 0..=MAX_NAME_LENGTH);
    check.time_zone(&at("time_zone"), &time_zone, true);
    let priority = check.priority(&at("priority"), row.priority);
    let attributes = check.attributes(&at("attributes"), row.attributes);
    check.finish()?;
    Ok(NewContact { phone, display_name, time_zone, priority, attributes })
}

pub fn as_row(contact: v1::Contact) -> v1::ImportRow {
    v1::ImportRow {
        phone_number: contact.phone_number,
        display_name: contact.display_name,
        time_zone: contact.time_zone,
        priority: contact.priority,
        attributes: contact.attributes,
    }
}
