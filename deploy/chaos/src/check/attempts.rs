//! P2, P4 and P5 as far as the database shows: each attempt was allowed, ended once and counts once.

use super::book::{Attempt, Book, Fact};
use super::findings::Findings;
use super::rules::{
    ANSWERED, OPTED_OUT, UNKNOWN, VOICEMAIL, as_known, counted_ends, is_final, max_attempts,
    min_delay, objection,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn judge(book: &Book, findings: &mut Findings<'_>) {
    let mut slots = BTreeSet::new();
    for attempt in &book.attempts {
        findings.expect(slots.insert((attempt.lease, attempt.slot)), "P2", || {
            format!("authorised twice: {attempt:?}")
        });
        allowed(book, attempt, findings);
        ended(book, attempt, findings);
    }
    for position in book.added.keys() {
        let attempts: Vec<&Attempt> = book.attempts_on(*position).collect();
        for pair in attempts.windows(2) {
            follows(book, pair[0], pair[1], findings);
        }
    }
    once(book, findings);
}

/// P4: no fact committed before the attempt excludes the contact. The other exclusions are judged alike.
fn allowed(book: &Book, attempt: &Attempt, findings: &mut Findings<'_>) {
    for fact in book.facts.iter().filter(|fact| fact.position == attempt.position) {
        // The attempt was committed after the fact was written behind its gate.
        if fact.seen.sees(attempt.transaction) {
            continue;
        }
        // A fact of an earlier generation belongs to another history.
        let objection = objection(book, fact, attempt.run);
        let promise = if fact.kind == OPTED_OUT { "P4" } else { "P4 (exclusions)" };
        findings.expect(objection.is_none(), promise, || {
            format!("{} by {fact:?}, then {attempt:?}", objection.unwrap_or_default())
        });
    }
}

/// P5: each authorised attempt ended, by its report or as unknown, unless a reset or an erasure came in between.
fn ended(book: &Book, attempt: &Attempt, findings: &mut Findings<'_>) {
    if book.generation_of(attempt.run) != book.generation {
        return;
    }
    let is_its = |lease, slot| (lease, slot) == (attempt.lease, attempt.slot);
    let mut known: Vec<u8> =
        book.ends.iter().filter(|end| is_its(end.lease, end.slot)).map(|end| end.outcome).collect();
    let is_over = !known.is_empty() || book.erased.contains(&attempt.position);
    findings.expect(is_over, "P5", || format!("never ended: {attempt:?}"));
    // The real end may come once, after UNKNOWN.
    if known.first() == Some(&UNKNOWN) {
        known.remove(0);
    }
    // A machine may be recognised after the end.
    let is_once = known.len() <= 1 || known == [ANSWERED, VOICEMAIL];
    findings.expect(is_once && !known.contains(&UNKNOWN), "P5", || {
        format!("ended more than once: {attempt:?}: {known:?}")
    });
}

/// P2: attempts follow one another as the retry policy says.
fn follows(book: &Book, first: &Attempt, second: &Attempt, findings: &mut Findings<'_>) {
    let end = book.ends.iter().find(|end| (end.lease, end.slot) == (first.lease, first.slot));
    let (before, now) = (book.runs.get(&first.run), book.runs.get(&second.run));
    let (Some(before), Some(now)) = (before, now) else { return };
    let Some(end) = end else {
        // The end of a call from before a reset is not kept; the provider's log covers such calls.
        findings.expect(before.generation != now.generation, "P2", || {
            format!("{first:?} had not ended, then {second:?}")
        });
        return;
    };
    let is_over = end.at <= second.at || before.generation != now.generation;
    findings.expect(is_over, "P2", || format!("{first:?} ended at {}, after {second:?}", end.at));
    let is_same_cycle = before.cycle == now.cycle;
    // The wait holds across launches while nobody knows whether the first phone still rings.
    let is_known = book.ends.iter().any(|other| {
        (other.lease, other.slot) == (first.lease, first.slot)
            && other.outcome != UNKNOWN
            && other.at <= second.at
    });
    if is_same_cycle || !is_known {
        let end = as_known(book, end, second.at);
        let wait = second.at - end.at;
        findings.expect(wait >= min_delay(book, end), "P2", || {
            format!("{end:?}, and {wait} microseconds later {second:?}")
        });
    }
    if is_same_cycle {
        let ends = counted_ends(book, first.position, now.cycle, second.at);
        let count = i64::try_from(ends.len()).unwrap_or(i64::MAX);
        let is_over = ends.iter().any(|end| is_final(end.outcome));
        let last = ends.last().map_or(1, |end| max_attempts(book, end.outcome));
        findings.expect(!is_over && count < last, "P2", || {
            format!("one attempt too many, after {count} attempts and {end:?}: {second:?}")
        });
    }
}

/// P5: a fact of an attempt is in history once, however often and by whomever it was reported.
fn once(book: &Book, findings: &mut Findings<'_>) {
    let mut by_attempt: BTreeMap<(i64, i32, i16), Vec<&Fact>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for fact in &book.facts {
        findings.expect(ids.insert((fact.position, &fact.id)), "P5", || {
            format!("recorded twice: {fact:?}")
        });
        if let Some((lease, slot)) = fact.attempt {
            by_attempt.entry((lease, slot, fact.kind)).or_default().push(fact);
        }
        let is_kept = book.facts_kept.contains(&(fact.position, fact.id.clone()));
        let is_erased = book.erased.contains(&fact.position);
        findings.expect(is_kept || is_erased || fact.generation < book.generation, "P5", || {
            format!("was in history and is not: {fact:?}")
        });
    }
    for facts in by_attempt.values() {
        findings.expect(facts.len() == 1, "P5", || format!("more than once: {facts:?}"));
    }
}
