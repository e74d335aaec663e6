//! Rules for who may be engaged, written again from the README: the service's own rules are under test.

use super::book::{Book, Ended, Fact, Run};
use serde_json::Value;

pub(super) const ANSWERED: u8 = 0;
pub(super) const VOICEMAIL: u8 = 3;
pub(super) const UNKNOWN: u8 = 5;
const CONGESTED: u8 = 8;
/// Outcomes after which nobody is dialled again: answered, rejected, no such number.
const FINAL: [u8; 3] = [ANSWERED, 6, 7];
/// Name of the retry rule for each outcome, as stored: 9 abandoned, 10 cancelled.
const OUTCOMES: [&str; 11] = [
    "",
    "no_answer",
    "busy",
    "voicemail",
    "failed",
    "unknown",
    "",
    "",
    "failed",
    "abandoned",
    "no_answer",
];
/// Attempts of a contact that are given back in a cycle.
const MOST_GIVEN_BACK: usize = 6;
/// Least wait after an attempt that is given back: see `CAMPAIGN_CONGESTED_RETRY_SECONDS`.
const GIVEN_BACK_WAIT: i64 = 1_000_000;
pub(super) const TRANSFERRED: i16 = 1;
pub(super) const OPTED_OUT: i16 = 2;

/// Whether the launch brings back contacts that opted out before it.
fn brings_refused_back(run: &Run) -> bool {
    run.settings["exclude"]["refused"] == false && !reruns(run)
}

fn reruns(run: &Run) -> bool {
    run.settings["rerun_all_contacts"] == true
}

/// Returns the reason for which a fact keeps its contact from being engaged in a run, if it does.
pub(super) fn objection(book: &Book, fact: &Fact, number: i32) -> Option<&'static str> {
    let run = book.runs.get(&number)?;
    if fact.generation != run.generation {
        return None;
    }
    if fact.kind == OPTED_OUT {
        let is_since_launch = book.run_at(fact.at) >= number;
        return (is_since_launch || !brings_refused_back(run)).then_some("opted out");
    }
    // A rerun overrides earlier facts. A fact here happened when it was recorded: no history takes as long as clocks
    // may be wrong.
    if reruns(run) && book.cycle(book.run_at(fact.at)) != run.cycle {
        return None;
    }
    let exclude = &run.settings["exclude"];
    let is_excluded = match fact.kind {
        TRANSFERRED => match exclude["transferred"].as_str().unwrap_or_default() {
            "ANY_TIME" => true,
            "MORE_THAN60S" | "MORE_THAN_60S" => fact.seconds > 60,
            "MORE_THAN90S" | "MORE_THAN_90S" => fact.seconds > 90,
            "MORE_THAN120S" | "MORE_THAN_120S" => fact.seconds > 120,
            _ => false,
        },
        3 => exclude["success"] == true,
        4 => exclude["link_opened"] == true,
        5 => exclude["texted"] == true,
        _ => false,
    };
    is_excluded.then_some("excluded by the launch")
}

fn rule(book: &Book, outcome: u8) -> &Value {
    let name = OUTCOMES.get(usize::from(outcome)).copied().unwrap_or_default();
    &book.config["retry_policy"][name]
}

/// Returns the number of attempts after which there is no other when one ends like this.
pub(super) fn max_attempts(book: &Book, outcome: u8) -> i64 {
    if is_final(outcome) { 0 } else { rule(book, outcome)["max_attempts"].as_i64().unwrap_or(0) }
}

pub(super) fn is_final(outcome: u8) -> bool {
    FINAL.contains(&outcome)
}

/// Returns the least wait after such an end, in microseconds.
pub(super) fn min_delay(book: &Book, end: &Ended) -> i64 {
    if is_given_back(book, end) {
        return GIVEN_BACK_WAIT;
    }
    rule(book, end.outcome)["min_delay_seconds"].as_i64().unwrap_or(0) * 1_000_000
}

/// Whether the end is of an attempt in which nothing rang, and that counts for nothing.
fn is_given_back(book: &Book, end: &Ended) -> bool {
    if end.outcome != CONGESTED {
        return false;
    }
    let first = first_ends(book, end.position, book.cycle(end.run), end.at);
    let (mine, before): (Vec<&Ended>, Vec<&Ended>) =
        first.into_iter().partition(|one| (one.lease, one.slot) == (end.lease, end.slot));
    let given_back = before.iter().filter(|one| one.outcome == CONGESTED).count();
    // The real end after UNKNOWN is not the first record: such an attempt stays counted.
    mine.iter().all(|one| one.outcome == CONGESTED) && given_back < MOST_GIVEN_BACK
}

/// Returns the first record of each attempt of a contact that counts in a cycle, in order, up to a time.
pub(super) fn counted_ends(book: &Book, position: i64, cycle: i32, until: i64) -> Vec<&Ended> {
    let ends = first_ends(book, position, cycle, until).into_iter();
    ends.filter(|end| !is_given_back(book, end)).collect()
}

/// Returns what an end was corrected to by a time: a machine had answered. The answer may have replaced UNKNOWN before.
fn corrected<'a>(book: &'a Book, end: &Ended, until: i64) -> Option<&'a Ended> {
    let is_its = |other: &&Ended| (other.lease, other.slot) == (end.lease, end.slot);
    let mut later = book.ends.iter().filter(is_its).skip_while(|other| other.outcome != ANSWERED);
    later.find(|other| other.outcome == VOICEMAIL && other.at <= until)
}

/// Returns an end as it stood at a time.
pub(super) fn as_known<'a>(book: &'a Book, end: &'a Ended, until: i64) -> &'a Ended {
    corrected(book, end, until).unwrap_or(end)
}

/// Returns the first record of each attempt of a contact in a cycle, in order, as it stood at a time.
fn first_ends(book: &Book, position: i64, cycle: i32, until: i64) -> Vec<&Ended> {
    let mut first: Vec<&Ended> = Vec::new();
    for end in &book.ends {
        let is_known = first.iter().any(|other| (other.lease, other.slot) == (end.lease, end.slot));
        let is_its = end.position == position && book.cycle(end.run) == cycle && end.at <= until;
        if is_its && !is_known {
            first.push(end);
        }
    }
    first.into_iter().map(|end| as_known(book, end, until)).collect()
}

/// Whether a contact was reached, is never to be reached, or had no attempts left, in a cycle at a time.
pub(super) fn is_finished(book: &Book, position: i64, cycle: i32, until: i64) -> bool {
    let is_reached = |end: &Ended| {
        end.position == position
            && is_final(end.outcome)
            && book.cycle(end.run) == cycle
            && end.at <= until
            && corrected(book, end, until).is_none()
    };
    if book.ends.iter().any(is_reached) {
        return true;
    }
    let ends = counted_ends(book, position, cycle, until);
    (1..).zip(ends).any(|(attempts, end)| attempts >= max_attempts(book, end.outcome))
}
