//! P4 and P7 for erased people. Once an erasure is acknowledged, nobody rings the person and no list brings the person
//! back. The number is in no table, and the audit logs record the erasure and the re-admission.

use super::book::{Answered, Book, Books};
use super::findings::Findings;
use crate::Result;
use crate::journal::{Entry, Said};
use crate::numbers::name;
use crate::world::ERASURE_KEY;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Client;

/// Tables that keep for a day when numbers were dialled.
const KEPT_FOR_CAPS: &[&str] = &["number_attempts", "number_attempts_by_tenant"];

/// Requests for erasures and the answers to them.
#[derive(Debug, Default)]
pub(super) struct Erasures<'a> {
    asked: BTreeSet<&'a str>,
    /// Numbers that were erased, with the first mark of an answer.
    done: BTreeMap<&'a str, i64>,
    lift_asked: BTreeSet<&'a str>,
    /// Whether the previous version took part, which may have re-admitted people without an entry in the log.
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

    /// Whether an erasure of the number was requested.
    pub fn is_asked(&self, number: &str) -> bool {
        self.asked.contains(number)
    }

    /// Whether a re-admission of the number was requested.
    pub fn is_lifted(&self, number: &str) -> bool {
        self.lift_asked.contains(number)
    }

    /// Returns the erased numbers that nobody asked to re-admit, with the mark of the answer.
    pub fn for_good(&self) -> impl Iterator<Item = (&'a str, i64)> {
        let done = self.done.iter().map(|(number, mark)| (*number, *mark));
        done.filter(|(number, _)| !self.lift_asked.contains(number))
    }
}

/// Data about erased people that the database holds when all is over.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Tables of the service in which somebody can be read who was erased for good, by number.
    tables: BTreeMap<String, BTreeSet<String>>,
    /// People whom no list may bring back, as the logs name them.
    kept_out: BTreeSet<String>,
}

pub(super) async fn left_of(database: &Client, erasures: &Erasures<'_>) -> Result<Left> {
    let kept_out = database.query("SELECT encode(hash, 'hex') FROM erasures", &[]).await?;
    let kept_out = kept_out.iter().map(|row| row.get(0)).collect();
    Ok(Left { tables: tables_left(database, erasures).await?, kept_out })
}

async fn tables_left(
    database: &Client,
    erasures: &Erasures<'_>,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let forms: Vec<(&str, [String; 6])> =
        erasures.for_good().map(|(number, _)| (number, forms(number))).collect();
    let mut left: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let tables =
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm')
            AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'chaos')";
    for table in database.query(tables, &[]).await? {
        let (schema, name): (&str, &str) = (table.get(0), table.get(1));
        if KEPT_FOR_CAPS.contains(&name) {
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

/// Returns the forms that may stand in somebody's row. The number: digits, digits as bytes, and an integer of 6 bytes.
/// The name: text and bytes.
fn forms(number: &str) -> [String; 6] {
    let digits = number.trim_start_matches('+');
    let integer: i64 = digits.parse().unwrap_or_default();
    let [little, big] = [&integer.to_le_bytes()[..6], &integer.to_be_bytes()[2..]].map(hex);
    let name = name(number);
    [digits.to_owned(), hex(digits.as_bytes()), little, big, hex(name.as_bytes()), name]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the hash by which the logs name a person.
fn person(number: &str) -> String {
    let Ok(key) = Hmac::<Sha256>::new_from_slice(ERASURE_KEY) else { return String::new() };
    hex(key.chain_update("number ").chain_update(number).finalize().into_bytes().as_slice())
}

/// Judges one history.
pub(super) fn judge(
    (books, book): (&Books, &Book),
    entries: &[&Entry],
    (erasures, left): (&Erasures<'_>, &Left),
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
        let tables = left.tables.get(number);
        findings.expect(tables.is_none(), "P7 (erased)", || {
            format!("{number} was erased and can be read in {tables:?}")
        });
    }
    for entry in entries {
        if let Said::Listed { number, source } = &entry.said
            && !erasures.is_lifted(number)
        {
            findings.expect(source == "erased", "P7 (erased)", || {
                format!("{number} was erased, and its source in the list is {source:?}")
            });
        }
    }
    if !erasures.is_mixed {
        last_words(book, &left.kept_out, findings);
    }
}

/// Expects a person whose last entry in the log is an erasure to be kept out. Otherwise the person was re-admitted
/// without an entry, or erased afterwards.
fn last_words(book: &Book, kept_out: &BTreeSet<String>, findings: &mut Findings<'_>) {
    let mut last = BTreeMap::new();
    for audit in &book.audits {
        if let Some(person) = &audit.person {
            last.insert(person, &audit.command);
        }
    }
    for (person, command) in last {
        findings.expect(command != "ERASE" || kept_out.contains(person), "P7 (erased)", || {
            format!("{person} was erased by the log and is not kept out")
        });
    }
}

/// Expects that nobody rings an erased person, nobody adds the number again, and the log has the erasure once.
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
            format!("{number} was erased and came back as contact {position}: {added:?}")
        });
    }
    let (contacts, noted) = (contacts.count(), noted(book, number));
    findings.expect(contacts == noted, "P7 (erased)", || {
        format!("{number} was a contact {contacts} times, and the log says {noted} times that it was erased")
    });
}

/// Counts how often the log says that a person was erased.
fn noted(book: &Book, number: &str) -> usize {
    let person = person(number);
    let is_it = |audit: &&super::book::Audit| {
        audit.command == "ERASE" && audit.person.as_deref() == Some(person.as_str())
    };
    book.audits.iter().filter(is_it).count()
}
