//! P4 and P7 for people who were erased: once acknowledged nobody rings them, no list brings them back, their
//! number is in no table, and the logs say that they were erased, and that they were let in again.

use super::Findings;
use super::book::{Answered, Book, Books};
use crate::Result;
use crate::journal::{Entry, Said};
use crate::numbers::name;
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

/// What the database has of erased people when all is over.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The tables, of all that the service has, in which somebody can be read who was erased for good, by number.
    tables: BTreeMap<String, BTreeSet<String>>,
    /// Whom no list may bring back, as logs know them.
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

/// What may stand in a row of somebody: the number as digits, those as bytes, and as an integer of six bytes; and
/// the name, and that as bytes.
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

/// As logs know somebody.
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
            format!("{number} was erased, and can be read in {tables:?}")
        });
    }
    for entry in entries {
        if let Said::Listed { number, source } = &entry.said
            && !erasures.is_lifted(number)
        {
            findings.expect(source == "erased", "P7 (erased)", || {
                format!("{number} was erased, and the list says {source:?} of it")
            });
        }
    }
    if !erasures.is_mixed {
        last_words(book, &left.kept_out, findings);
    }
}

/// Whose last word in the log is an erasure is kept out: else the person was let in unnoted, or erased afterwards.
fn last_words(book: &Book, kept_out: &BTreeSet<String>, findings: &mut Findings<'_>) {
    let mut last = BTreeMap::new();
    for audit in &book.audits {
        if let Some(person) = &audit.person {
            last.insert(person, &audit.command);
        }
    }
    for (person, command) in last {
        findings.expect(command != "ERASE" || kept_out.contains(person), "P7 (erased)", || {
            format!("{person} was erased by the log, and is let in")
        });
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
    let (contacts, noted) = (contacts.count(), noted(book, number));
    findings.expect(contacts == noted, "P7 (erased)", || {
        format!("{number} was a contact {contacts} times, and the log says {noted} times that it was erased")
    });
}

/// How often the log says of somebody that it was erased.
fn noted(book: &Book, number: &str) -> usize {
    let person = person(number);
    let is_it = |audit: &&super::book::Audit| {
        audit.command == "ERASE" && audit.person.as_deref() == Some(person.as_str())
    };
    book.audits.iter().filter(is_it).count()
}
