//! Reasons why a run calls nobody.

use super::Buckets;
use crate::app::DispatchLimits;
use crate::app::error::Result;
use crate::store::groups::{self, Group};
use crate::store::{Tx, contacts, due, numbers, paces};
use campaign_domain::access::Reach;
use campaign_domain::campaign::Campaign;
use campaign_domain::caps::capped_until;
use campaign_domain::eligibility::{RunRules, Verdict};
use campaign_domain::schedule::{Hours, Schedule};
use campaign_domain::standing::{self, IdleReason, Scene};
use campaign_domain::{Instant, phone};
use std::collections::HashMap;

/// Most contacts looked at in one read.
const PAGE_CONTACTS: usize = 500;

type Idle = Option<(IdleReason, Option<Instant>)>;

/// Returns why a campaign calls nobody, or `None` if it does call. `next_retry` is when the
/// next contact that waits for a retry is due.
pub(super) async fn idle_reason(
    tx: &Tx<'_>,
    campaign: &Campaign,
    limits: &DispatchLimits,
    buckets: &Buckets,
    next_retry: Option<Instant>,
) -> Result<Idle> {
    let is_busy = buckets.leased > 0 || buckets.in_call > 0;
    let mut scene = Scene {
        state: campaign.state,
        is_anybody_waiting: buckets.waiting > 0 || buckets.waiting_retry > 0,
        is_busy,
        is_anybody_callable: false,
        throttled: None,
        shut: None,
        capped_until: None,
        next_retry,
    };
    let throttled = throttled(tx, campaign, buckets).await?;
    let is_plain = buckets.waiting == 0 || is_busy && throttled.is_none();
    // The groups are looked into only if they decide the answer.
    if let Some(schedule) = campaign.config.schedule.as_ref().filter(|_| !is_plain) {
        let rules = campaign.rules();
        let all = groups::all(tx, campaign.id, campaign.run, campaign.position_limit).await?;
        let mut look = Look {
            tx,
            campaign,
            rules,
            schedule,
            scan_left: limits.max_scan_contacts,
            max_attempts: limits.max_attempts_per_number,
            cap_reach: limits.attempt_cap_scope.reach(&campaign.tenant),
        };
        scene.throttled = throttled;
        look.see_groups(&all, &mut scene).await?;
    }
    Ok(standing::idle_reason(&scene))
}

/// Search for contacts of a run that can be called.
struct Look<'a, 'c> {
    tx: &'a Tx<'c>,
    campaign: &'a Campaign,
    rules: RunRules,
    schedule: &'a Schedule,
    scan_left: usize,
    /// Most attempts on a number in 24 hours; 0 means no cap.
    max_attempts: u16,
    /// Campaigns whose attempts count.
    cap_reach: Reach,
}

impl Look<'_, '_> {
    async fn see_groups(&mut self, all: &[Group], scene: &mut Scene) -> Result<()> {
        let tx = self.tx;
        let (mut open, mut shut) = (Vec::new(), Vec::new());
        for group in all {
            match self.schedule.hours(&group.time_zone, tx.now) {
                Hours::Open => open.push(group),
                Hours::ShutUntil(opening) => shut.push((group, Some(opening))),
                Hours::Shut => shut.push((group, None)),
            }
        }
        let free = self.first_free(&open).await?;
        scene.is_anybody_callable = free.is_some_and(|free_at| free_at <= tx.now);
        scene.capped_until = free.filter(|free_at| *free_at > tx.now);
        if scene.is_anybody_callable {
            return Ok(());
        }
        for (group, opening) in shut {
            if let Some(free_at) = self.first_free(&[group]).await? {
                let opening = opening.map(|opening| opening.max(free_at));
                scene.shut = Some(scene.shut.flatten().into_iter().chain(opening).min());
            }
        }
        Ok(())
    }

    /// Returns when the first eligible contact of some groups may be called, apart from the hours;
    /// `None` if there is none. A contact that may not be called now has had all its attempts of a
    /// day. Looks at no more contacts than a lease does.
    async fn first_free(&mut self, groups: &[&Group]) -> Result<Option<Instant>> {
        let (tx, id, run) = (self.tx, self.campaign.id, self.campaign.run);
        let page = i64::try_from(PAGE_CONTACTS).unwrap_or(i64::MAX);
        let ids: Vec<i32> = groups.iter().map(|group| group.id).collect();
        let due = due::soonest(tx, id, run, &ids, page).await?;
        let due: HashMap<i64, Instant> = due.iter().map(|due| (due.position, due.due_at)).collect();
        let positions: Vec<i64> = due.keys().copied().collect();
        let eligible = self.eligible(&positions).await?.into_iter();
        let mut first = eligible.map(|(position, free_at)| free_at.max(due[&position])).min();
        let end = self.campaign.position_limit.unwrap_or(i64::MAX);
        for group in groups {
            let mut next = group.first_ahead;
            while let Some(from) = next.filter(|_| self.scan_left > 0) {
                if first.is_some_and(|free_at| free_at <= tx.now) {
                    return Ok(first);
                }
                let limit = PAGE_CONTACTS.min(self.scan_left);
                let rows = i64::try_from(limit).unwrap_or(i64::MAX);
                let ahead = contacts::positions_ahead(tx, id, group.id, from..end, rows).await?;
                self.scan_left -= ahead.len();
                let free = self.eligible(&ahead).await?.into_iter().map(|(_, free_at)| free_at);
                first = free.chain(first).min();
                next = ahead.last().filter(|_| ahead.len() == limit).map(|last| last + 1);
            }
        }
        Ok(first)
    }

    /// Returns the eligible contacts at some positions, and when the cap on attempts allows each of
    /// them.
    async fn eligible(&self, positions: &[i64]) -> Result<Vec<(i64, Instant)>> {
        let (tx, id, now) = (self.tx, self.campaign.id, self.tx.now);
        let subjects = contacts::subjects(tx, id, positions).await?;
        let eligible: Vec<i64> = subjects
            .iter()
            .filter(|subject| !subject.is_deleted)
            .filter(|subject| self.rules.judge(&subject.candidate, now) == Verdict::Eligible)
            .map(|subject| subject.candidate.position)
            .collect();
        if self.max_attempts == 0 {
            return Ok(eligible.into_iter().map(|position| (position, now)).collect());
        }
        let found = contacts::leasable(tx, id, &eligible).await?;
        let numbered = found.iter().map(|found| (found.position, phone::as_integer(&found.phone)));
        let numbered: Vec<(i64, i64)> = numbered.collect();
        let numbers: Vec<i64> = numbered.iter().map(|(_, number)| *number).collect();
        let dialled = numbers::find(tx, &self.cap_reach, &numbers).await?;
        let free_at = |number: i64| {
            let attempts = dialled.get(&number).map_or(&[][..], Vec::as_slice);
            capped_until(attempts, self.max_attempts, now).unwrap_or(now)
        };
        Ok(numbered.into_iter().map(|(position, number)| (position, free_at(number))).collect())
    }
}

/// Returns whether pacing allows no call, and until when, if that is known.
async fn throttled(
    tx: &Tx<'_>,
    campaign: &Campaign,
    buckets: &Buckets,
) -> Result<Option<Option<Instant>>> {
    let pacing = campaign.config.pacing;
    if !pacing.is_limited() {
        return Ok(None);
    }
    let in_progress = usize::try_from(buckets.in_call).unwrap_or(0);
    let next_call_at = paces::find(tx, campaign.id).await?.unwrap_or(tx.now);
    let allowed = pacing.allow(1, in_progress, next_call_at, tx.now);
    let until = (next_call_at > tx.now).then_some(next_call_at);
    Ok((allowed.calls == 0).then_some(until))
}
