//! P7, and P4 for suppressions: acknowledged writes are there and hold.

use super::book::{Answered, Book, Books};
use super::erased::Erasures;
use super::findings::Findings;
use super::rules::counted_ends;
use crate::journal::{Entry, Said};
use std::collections::BTreeSet;

pub(super) fn judge(
    (books, book): (&Books, &Book),
    entries: &[&Entry],
    erasures: &Erasures<'_>,
    findings: &mut Findings<'_>,
) {
    for entry in entries {
        match &entry.said {
            Said::Created { .. } => {
                let is_there = book.audits.iter().any(|audit| audit.command == "CREATE");
                findings.expect(is_there, "P7", || "the campaign is gone".to_owned());
            }
            Said::Contacts { numbers } => {
                for number in numbers {
                    let is_there = book.position(number).is_some() || erasures.is_asked(number);
                    findings.expect(is_there, "P7", || format!("contact {number} is gone"));
                }
            }
            Said::Command { request_id, command } => {
                let is_it = |audit: &super::book::Audit| {
                    audit.request_id == *request_id && audit.command == *command
                };
                let times = book.audits.iter().filter(|audit| is_it(audit)).count();
                findings.expect(times == 1, "P7", || {
                    format!("{command} {request_id} is in the audit log {times} times")
                });
            }
            Said::Fact { number, interaction_id, kind, status } => {
                let fact = (number.as_str(), interaction_id.as_str(), *kind);
                recorded(book, fact, status, erasures, findings);
            }
            Said::Totals { history } => {
                let counted = totals(book);
                findings.expect(counted == *history, "P5", || {
                    format!("history sums up to {history:?}, recorded facts to {counted:?}")
                });
            }
            // A re-admitted person is off the list too.
            Said::Suppressed { number, .. } if erasures.is_lifted(number) => {}
            Said::Suppressed { number, mark } => {
                suppressed(book, number, &books.answered(*mark), findings);
            }
            // Other judges handle these.
            Said::Scheduled { .. }
            | Said::Unanswered { .. }
            | Said::EraseAsked { .. }
            | Said::Erased { .. }
            | Said::LiftAsked { .. }
            | Said::Lifted { .. }
            | Said::Listed { .. } => {}
        }
    }
}

/// Counts what history must sum up to: attempts, and contacts with a fact of each kind.
fn totals(book: &Book) -> [i64; 6] {
    let count = |found: usize| i64::try_from(found).unwrap_or(i64::MAX);
    let is_there = |position: i64| book.contacts.contains_key(&position);
    let is_of_now = |run: i32| book.generation_of(run) == book.generation;
    let ends = book.ends.iter().filter(|end| is_of_now(end.run) && is_there(end.position));
    let cycles: BTreeSet<_> = ends.map(|end| (end.position, book.cycle(end.run))).collect();
    let counted = cycles
        .into_iter()
        .map(|(position, cycle)| counted_ends(book, position, cycle, i64::MAX).len());
    let attempts: usize = counted.sum();
    let with = |kind: i16| {
        let facts = book.facts.iter().filter(|fact| fact.kind == kind);
        let of_now =
            facts.filter(|fact| fact.generation == book.generation && is_there(fact.position));
        let contacts: BTreeSet<_> = of_now.map(|fact| fact.position).collect();
        count(contacts.len())
    };
    [count(attempts), with(2), with(1), with(3), with(4), with(5)]
}

fn recorded(
    book: &Book,
    (number, id, kind): (&str, &str, i16),
    status: &str,
    erasures: &Erasures<'_>,
    findings: &mut Findings<'_>,
) {
    if status == "INTERACTION_STATUS_BEFORE_RESET" {
        // Only facts of attempts, and facts of people being erased, belong to a time.
        findings.expect(erasures.is_asked(number), "P5", || {
            format!("{id} of {number} was answered as from before a reset")
        });
        return;
    }
    let is_it = |fact: &super::book::Fact| {
        book.number(fact.position) == Some(number) && fact.id == id && fact.kind == kind
    };
    let times = book.facts.iter().filter(|fact| is_it(fact)).count();
    // A re-admitted person is another contact, and the same may be said of that contact.
    let is_right = times == 1 || (times > 1 && erasures.is_lifted(number));
    findings.expect(is_right, "P7", || {
        format!("{id} of {number} was answered {status} and is there {times} times")
    });
}

/// P4: once a suppression is acknowledged, no attempt on its number is authorised.
fn suppressed(book: &Book, number: &str, answered: &Answered, findings: &mut Findings<'_>) {
    let is_listed = book.suppressed.contains_key(number) || book.position(number).is_none();
    findings.expect(is_listed, "P7", || format!("{number} is not on the suppression list"));
    for attempt in &book.attempts {
        let is_its = book.number(attempt.position) == Some(number);
        let is_after = is_its && answered.is_before(attempt.transaction, attempt.at);
        findings.expect(!is_after, "P4", || format!("{number} was suppressed, then {attempt:?}"));
    }
}
