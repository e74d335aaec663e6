//! P4 and P7 for people who were erased: once acknowledged nobody rings them, no list brings them back, their
//! number is in no table, and the logs say that they were erased, and that they were let in again.

use super::Findings;
use super::book::{Answered, Book, Books};
use crate::Result;
use crate::journal::{Entry, Said};
use crate::world::ERASURE_KEY;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// Keeps when numbers were dialled, for a day.
const KEPT_FOR_CAPS: &str = "number_attempts";

/// What clients asked and were told of erasures.
#[derive(Debug, Default)]
pub(super) struct Erasures<'a> {
    asked: BTreeSet<&'a str>,
    /// And since when, by its first mark.
    done: BTreeMap<&'a str, i64>,
    lift_asked: BTreeSet<&'a str>,
    /// Whether a version before took part, which may have let people in again without a word in the log.
    is_mixed: bool,
}

impl<'a> Erasures<'a> {
    pub fn read(entries: &'a [Entry], is_mixed: bool) -> Self {
        let mut erasures = Self { is_mixed, ..Self::default() };
        for entry in entries {
            match &entry.said {
                Said::EraseAsked { number } => drop(erasures.asked.insert(number)),
                Said::Erased { number, mark } => {
                    erasures.done.entry(number).or_insert(*mark);
                }
                Said::LiftAsked { number } => drop(erasures.lift_asked.insert(number)),
                _ => {}
            }
        }
        erasures
    }

    /// Whether somebody may have been erased.
    pub fn is_asked(&self, number: &str) -> bool {
        self.asked.contains(number)
    }

    /// Whether somebody may have been let in again.
    pub fn is_lifted(&self, number: &str) -> bool {
        self.lift_asked.contains(number)
    }

    /// Those erased whom nobody asked to let in again, and the mark of the answer.
    pub fn for_good(&self) -> impl Iterator<Item = (&'a str, i64)> {
        let done = self.done.iter().map(|(number, mark)| (*number, *mark));
        done.filter(|(number, _)| !self.lift_asked.contains(number))
    }
}

/// The tables, of all that the service has, in which numbers of people can be read who were erased for good.
pub(super) async fn left_of(
    database: &Client,
    erasures: &Erasures<'_>,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let forms: Vec<(&str, [String; 4])> =
        erasures.for_good().map(|(number, _)| (number, forms(number))).collect();
    let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let tables =
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm')
            AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'chaos')";
    for table in database.query(tables, &[]).await? {
        let (schema, name): (&str, &str) = (table.get(0), table.get(1));
        if name == KEPT_FOR_CAPS {
            continue;
        }
        let sql = format!("SELECT to_jsonb(t)::text FROM {schema}.{name} t");
        for row in database.query(&sql, &[]).await? {
            let text: &str = row.get(0);
            for (number, forms) in &forms {
                if forms.iter().any(|form| text.contains(form.as_str())) {
                    left.entry((*number).to_owned()).or_default().insert(name.to_owned());
                }
            }
        }
    }
    Ok(left)
}

/// A number as it may stand in a row: its digits, those as bytes, and as an integer of six bytes.
fn forms(number: &str) -> [String; 4] {
    let digits = number.trim_start_matches('+');
    let integer: i64 = digits.parse().unwrap_or_default();
    let [little, big] = [&integer.to_le_bytes()[..6], &integer.to_be_bytes()[2..]].map(hex);
    [digits.to_owned(), hex(digits.as_bytes()), little, big]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As logs know somebody.
fn person(number: &str) -> String {
    let Ok(key) = Hmac::<Sha256>::new_from_slice(ERASURE_KEY) else { return String::new() };
    hex(key.chain_update("number ").chain_update(number).finalize().into_bytes().as_slice())
}

/// Judges one history.
pub(super) fn judge(
    (books, book): (&Books, &Book),
    entries: &[&Entry],
    (erasures, left): (&Erasures<'_>, &BTreeMap<String, BTreeSet<String>>),
    findings: &mut Findings<'_>,
) {
    let asked: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.said {
            Said::EraseAsked { number } => Some(number.as_str()),
            _ => None,
        })
        .collect();
    for (number, mark) in erasures.for_good().filter(|(number, _)| asked.contains(number)) {
        gone(book, number, &books.answered(mark), findings);
        let tables = left.get(number);
        findings.expect(tables.is_none(), "P7 (erased)", || {
            format!("{number} was erased, and can be read in {tables:?}")
        });
    }
    let mut acknowledged = BTreeSet::new();
    for entry in entries {
        match &entry.said {
            Said::Erased { number, .. } => drop(acknowledged.insert(number)),
            Said::Lifted { number } if acknowledged.contains(number) && !erasures.is_mixed => {
                let [erased, lifted] =
                    ["ERASE", "LIFT_ERASURE"].map(|command| noted(book, command, number));
                findings.expect(erased == 0 || lifted > 0, "P7 (erased)", || {
                    format!("{number} was let in again, and no log says so")
                });
            }
            Said::Listed { number, source } if !erasures.is_lifted(number) => {
                findings.expect(source == "erased", "P7 (erased)", || {
                    format!("{number} was erased, and the list says {source:?} of it")
                });
            }
            _ => {}
        }
    }
}

/// Nobody rings a person who was erased, nobody adds the number again, and the log has it once.
fn gone(book: &Book, number: &str, answered: &Answered, findings: &mut Findings<'_>) {
    for attempt in &book.attempts {
        let is_its = book.number(attempt.position) == Some(number);
        let is_after = is_its && answered.is_before(attempt.transaction, attempt.at);
        findings
            .expect(!is_after, "P4 (erased)", || format!("{number} was erased, then {attempt:?}"));
    }
    let contacts = book.added.iter().filter(|(_, added)| added.number == number);
    for (position, added) in contacts.clone() {
        let is_after = answered.is_before(added.transaction, added.at);
        findings.expect(!is_after, "P4 (erased)", || {
            format!("{number} was erased, and came back as contact {position}: {added:?}")
        });
    }
    let (contacts, noted) = (contacts.count(), noted(book, "ERASE", number));
    findings.expect(contacts == noted, "P7 (erased)", || {
        format!("{number} was a contact {contacts} times, and the log says {noted} times that it was erased")
    });
}

/// How often the log says so of somebody.
fn noted(book: &Book, command: &str, number: &str) -> usize {
    let person = person(number);
    let is_it = |audit: &&super::book::Audit| {
        audit.command == command && audit.person.as_deref() == Some(person.as_str())
    };
    book.audits.iter().filter(is_it).count()
}
