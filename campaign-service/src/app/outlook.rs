//! Outlook of a run: when it may have contacts to hand out.

use super::error::Result;
use crate::store::{Tx, due, groups};
use campaign_domain::Instant;
use campaign_domain::agenda::{Outlook, work_at};
use campaign_domain::campaign::Campaign;
use std::collections::HashMap;

/// Returns the time from which a run may have contacts to hand out.
pub(super) async fn next_work(tx: &Tx<'_>, campaign: &Campaign) -> Result<Option<Instant>> {
    let (id, run) = (campaign.id, campaign.run);
    let Some(schedule) = &campaign.config.schedule else { return Ok(None) };
    let groups = groups::all(tx, id, run, campaign.position_limit).await?;
    let ids: Vec<i32> = groups.iter().map(|group| group.id).collect();
    let due = due::first_times(tx, id, run, &ids).await?;
    let due: HashMap<i32, Instant> = due.into_iter().collect();
    let outlooks = groups.iter().map(|group| Outlook {
        hours: schedule.hours(&group.time_zone, tx.now),
        is_anybody_ahead: group.first_ahead.is_some(),
        first_due: due.get(&group.id).copied(),
    });
    Ok(work_at(outlooks, tx.now))
}
