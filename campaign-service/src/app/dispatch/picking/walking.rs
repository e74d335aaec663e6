//! Walk through a group of which many contacts are excluded. The states of contacts are read in
//! long stretches. Everything else is read only for contacts that their states let through.

use super::{Leasable, MIN_READ_CONTACTS, Picking};
use crate::app::error::Result;
use crate::store::contacts;
use crate::store::due::Due;
use crate::store::groups::{self, Step};

/// Most contacts looked at in one read.
const MAX_READ_CONTACTS: usize = 65_536;
/// Most positions per contact of a group that counts as dense.
const MAX_SPREAD: usize = 2;

/// Density of a group's contacts among all contacts of the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// Hardly any other contacts lie between, so membership in the group may be checked last.
    Dense,
    Sparse,
}

impl Spread {
    fn of(positions: &[i64]) -> Self {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Self::Sparse;
        };
        let is_dense = usize::try_from(last - first)
            .is_ok_and(|span| span <= positions.len().saturating_mul(MAX_SPREAD));
        if is_dense { Self::Dense } else { Self::Sparse }
    }
}

/// Walk through a group of which not all contacts are let through.
struct Walk {
    group: i32,
    next: i64,
    /// Position from which on there are no contacts.
    end: i64,
    /// Contacts looked at so far.
    looked_at: usize,
    picked: usize,
    spread: Spread,
}

impl Walk {
    /// Estimates how many contacts must be looked at to find `missing` more, by the share picked so
    /// far. Adds one eighth.
    fn guess(&self, missing: usize) -> usize {
        let guess = missing.saturating_mul(self.looked_at) / self.picked.max(1);
        (guess + guess / 8).clamp(MIN_READ_CONTACTS, MAX_READ_CONTACTS)
    }
}

impl Picking<'_, '_> {
    pub(super) async fn take_of_group(&mut self, group: i32, scan_left: &mut usize) -> Result<()> {
        let (id, run) = (self.campaign.id, self.campaign.run);
        let from = groups::lock_frontier(self.tx, id, run, group).await?;
        let end = self.campaign.position_limit.unwrap_or(i64::MAX);
        // If nobody is excluded, the first read is the only one, so it reads everything at once.
        let limit = self.missing().max(MIN_READ_CONTACTS).min(*scan_left);
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = contacts::leasable_in_range(self.tx, id, group, from..end, Some(rows)).await?;
        let positions: Vec<i64> = found.iter().map(|contact| contact.position).collect();
        let picked_before = self.picked.len();
        let first = self.take_from(group, &positions, self.missing(), Some(found)).await?;
        *scan_left -= first.contacts;
        let mut walk = Walk {
            group,
            next: first.after.unwrap_or(from),
            end,
            looked_at: first.contacts,
            picked: self.picked.len() - picked_before,
            spread: Spread::of(&positions),
        };
        if positions.len() == limit || first.contacts < positions.len() {
            self.walk(&mut walk, scan_left).await?;
        }
        self.steps.push(Step { group, positions: from..walk.next });
        Ok(())
    }

    /// Picks the missing contacts from a group of which many are excluded.
    async fn walk(&mut self, walk: &mut Walk, scan_left: &mut usize) -> Result<()> {
        let (id, group) = (self.campaign.id, walk.group);
        if walk.spread == Spread::Dense {
            let last = contacts::last_position(self.tx, id, group, walk.next..walk.end).await?;
            walk.end = last.map_or(walk.next, |last| last + 1);
        }
        while self.missing() > 0 && *scan_left > 0 {
            let limit = walk.guess(self.missing()).min(*scan_left);
            let rows = i64::try_from(limit).unwrap_or(i64::MAX);
            let range = walk.next..walk.end;
            let (ahead, enough) = match walk.spread {
                // Looking at the positions of other groups costs less than asking which positions
                // are the group's.
                Spread::Dense => {
                    let ahead = range.start..range.end.min(range.start.saturating_add(rows));
                    (ahead.collect(), self.missing() * MAX_SPREAD)
                }
                Spread::Sparse => {
                    let ahead = contacts::positions_ahead(self.tx, id, group, range, rows).await?;
                    (ahead, self.missing())
                }
            };
            let picked_before = self.picked.len();
            let looked = self.take_from(group, &ahead, enough, None).await?;
            *scan_left -= looked.contacts;
            walk.next = looked.after.unwrap_or(walk.next);
            walk.looked_at += looked.contacts;
            walk.picked += self.picked.len() - picked_before;
            if ahead.len() < limit && looked.contacts == ahead.len() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the contacts of a group at some of the positions looked at, in order of position.
    pub(super) async fn of_group(
        &self,
        group: i32,
        eligible: &[i64],
        waiting: &[Due],
        looked_at: usize,
    ) -> Result<Vec<Leasable>> {
        let id = self.campaign.id;
        // Waiting contacts are looked up too, because they may be of another group.
        let mut wanted = eligible.to_vec();
        wanted.extend(waiting.iter().map(|due| due.position));
        wanted.sort_unstable();
        // Contacts that are close together are cheaper to read in one go.
        if let (Some(first), Some(last)) = (wanted.first(), wanted.last())
            && wanted.len() * 2 >= looked_at
        {
            let range = *first..last + 1;
            return Ok(contacts::leasable_in_range(self.tx, id, group, range, None).await?);
        }
        let mut found = contacts::leasable(self.tx, id, &wanted).await?;
        found.retain(|contact| contact.group == group);
        Ok(found)
    }
}
