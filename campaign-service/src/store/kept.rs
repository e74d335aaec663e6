//! Counts of contacts by the traits that the rules look at, from the kept counts. Contacts in
//! leases, noted contacts, and contacts beyond the run's limit of which anything is known are looked
//! at one by one.

use super::classes::{self, Count};
use super::counts::{self, Counting, Survey, Traits, View};
use super::packed::{ClassKey, Marks, NO_STATE, Packed, unpack};
use super::{StoreResult, Tx, campaigns, recounts, states};
use std::collections::BTreeMap;
use tokio::try_join;
use uuid::Uuid;

/// Returns the kept counts, or counts every contact if they are not known to be right. The
/// transaction must read one snapshot throughout.
pub async fn read(tx: &Tx<'_>, campaign: Uuid, view: View) -> StoreResult<Survey> {
    if let Some(survey) = find(tx, campaign, view).await? {
        return Ok(survey);
    }
    tx.to_count().note_unkept(campaign);
    counts::survey(tx, campaign, view).await
}

/// Returns the kept counts if they are known to be right.
pub async fn find(tx: &Tx<'_>, campaign: Uuid, view: View) -> StoreResult<Option<Survey>> {
    let ((_, is_kept), counters, mut more, held, noted) = try_join!(
        classes::checks(tx, campaign),
        campaigns::counters(tx, campaign),
        classes::deltas(tx, campaign),
        counts::held(tx, campaign, view.run),
        recounts::noted(tx, campaign),
    )?;
    if !is_kept {
        return Ok(None);
    }
    let end = counters.next_position;
    let limit = view.position_limit.unwrap_or(end).min(end);
    let beyond = async {
        if limit == end {
            return Ok(states::States::default());
        }
        states::in_range(tx, campaign, limit..end).await
    };
    let single = held.keys().chain(noted.keys()).copied();
    let (states, beyond) = try_join!(states::find(tx, campaign, single.clone()), beyond)?;
    let mut special: BTreeMap<i64, Packed> =
        single.map(|position| (position, states.packed(position))).collect();
    for (position, _) in beyond.all_packed().filter(|(position, _)| *position >= limit) {
        special.insert(position, beyond.packed(position));
    }
    // These are taken out of their classes.
    for packed in special.values() {
        more.add(packed, -1);
    }
    let special_beyond = i64::try_from(special.range(limit..).count()).unwrap_or(0);
    let plain_beyond = end - limit - special_beyond;
    let contacts = end - plain_beyond;
    more.add_count(ClassKey::of(&NO_STATE), 0, Count { contacts, attempts: 0 });
    let mut counting = Counting::new(view, tx.now);
    for (class, kept) in classes::kept(tx, campaign, &more).await? {
        if kept.later < 0 || kept.count.contacts < kept.later || kept.count.attempts < 0 {
            return Ok(None);
        }
        let marks = class.marks();
        if !marks.is_deleted {
            counting.add_class(&class.state(None), marks.is_suppressed, &kept);
        }
    }
    for (position, packed) in special {
        let marks = noted.get(&position).copied().unwrap_or_else(|| Marks::of(&packed));
        if !marks.is_deleted {
            let slot = held.get(&position).copied();
            counting.add_contact(position, unpack(&packed), marks.is_suppressed, slot);
        }
    }
    counting.add(Traits { is_beyond: true, ..Traits::default() }, plain_beyond, None);
    let survey = counting.survey();
    let total: i64 = survey.classes.iter().map(|class| class.contacts).sum();
    Ok((total == counters.contacts).then_some(survey))
}
