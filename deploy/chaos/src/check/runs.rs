//! P1 and P3: the course of a run, from launch to end.

use super::book::{Audit, Book};
use super::findings::Findings;
use super::rules::{is_finished, objection};

pub(super) fn judge(book: &Book, findings: &mut Findings<'_>) {
    for (index, audit) in book.audits.iter().enumerate() {
        match audit.command.as_str() {
            "PAUSE" | "CANCEL" => stopped(book, index, findings),
            "COMPLETE" => {
                stopped(book, index, findings);
                completed(book, audit, findings);
                let states = ["LAUNCH", "START", "PAUSE", "RESUME"];
                let mut before = book.audits[..index].iter().rev();
                let last = before.find(|audit| states.contains(&audit.command.as_str()));
                findings.expect(last.is_none_or(|last| last.command != "PAUSE"), "P3", || {
                    format!("run {} completed while it was paused", audit.run)
                });
            }
            _ => {}
        }
    }
}

/// P3: no attempt is authorised between the commit of a stop and the commit that starts the run
/// again.
fn stopped(book: &Book, index: usize, findings: &mut Findings<'_>) {
    let stop = &book.audits[index];
    let starts = ["RESUME", "LAUNCH", "START"];
    let next = book.audits[index + 1..].iter().find(|next| starts.contains(&next.command.as_str()));
    for attempt in &book.attempts {
        let is_after = !stop.seen.sees(attempt.transaction);
        let is_before_next = next.is_none_or(|next| next.seen.sees(attempt.transaction));
        findings.expect(!(is_after && is_before_next), "P3", || {
            format!("{} {} was committed, then {attempt:?}", stop.command, stop.request_id)
        });
    }
}

/// P1: when the list was done, nobody was left who should have been engaged.
fn completed(book: &Book, end: &Audit, findings: &mut Findings<'_>) {
    let Some(run) = book.runs.get(&end.run) else { return };
    for (position, number) in &book.contacts {
        let is_in_run = run.position_limit.is_none_or(|limit| *position < limit);
        let is_suppressed = book.suppressed.get(number).is_some_and(|at| *at <= end.at);
        if !is_in_run || is_suppressed {
            continue;
        }
        let mut facts = book.facts.iter().filter(|fact| fact.position == *position);
        let is_removed =
            facts.any(|fact| fact.at <= end.at && objection(book, fact, end.run).is_some());
        let is_done = is_removed || is_finished(book, *position, run.cycle, end.at);
        findings.expect(is_done, "P1", || {
            format!("run {} was completed with contact {position} still to be engaged", end.run)
        });
    }
}
