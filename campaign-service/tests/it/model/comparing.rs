//! Comparison of the service, as seen from outside, with the model.

use super::run::{Pair, same};
use super::state::Kind;
use crate::counts::difference;
use campaign_proto::v1::ContactStanding;
use std::collections::BTreeMap;

impl Pair<'_> {
    /// Compares everything that can be seen from outside.
    pub(super) async fn compare(&mut self, number: usize) -> Result<(), String> {
        let progress = self.clients.progress(&self.name).await;
        same!(progress.state(), self.model.state, "state");
        let mut buckets: BTreeMap<(ContactStanding, i32), i64> = BTreeMap::new();
        for position in self.model.present() {
            let (standing, reason) = self.model.standing(position);
            *buckets.entry((standing, reason as i32)).or_default() += 1;
        }
        let mut seen: BTreeMap<(ContactStanding, i32), i64> = progress
            .removed
            .iter()
            .map(|removed| ((ContactStanding::Removed, removed.reason), removed.contacts))
            .collect();
        seen.insert((ContactStanding::Waiting, 0), progress.waiting);
        seen.insert((ContactStanding::WaitingRetry, 0), progress.waiting_retry);
        seen.insert((ContactStanding::Leased, 0), progress.leased);
        seen.insert((ContactStanding::InCall, 0), progress.in_call);
        seen.retain(|_, count| *count > 0);
        same!(seen, buckets, "buckets");
        same!(progress.total, buckets.values().sum::<i64>(), "total");
        same!(self.clients.campaign(&self.name).await.contact_count, progress.total, "count");
        self.compare_counts(number).await?;

        let present: Vec<usize> = self.model.present().collect();
        let Some(position) = present.get(number % present.len().max(1)).copied() else {
            return Ok(());
        };
        let explained = self.clients.explain(&self.contact(position)).await;
        let wanted = self.model.standing(position);
        same!((explained.standing(), explained.reason()), wanted, "explanation of {position}");
        self.compare_history(position).await
    }

    /// Compares the kept counts with those of every contact, some of them added up.
    async fn compare_counts(&self, number: usize) -> Result<(), String> {
        let (counting, id) = (&self.clock.counting, self.name.trim_start_matches("campaigns/"));
        let id = id.parse().unwrap();
        match number % 5 {
            2 => counting.correct(id).await.unwrap(),
            4 => counting.fold(id).await.unwrap(),
            _ => {}
        }
        let difference = difference(counting, &self.name).await;
        difference.map_or(Ok(()), |difference| Err(format!("kept counts: {difference}")))
    }

    async fn compare_history(&mut self, position: usize) -> Result<(), String> {
        let history = self.clients.history(&self.contact(position)).await;
        let generation = self.model.generation;
        let contact = &self.model.contacts[position];
        let events: Vec<Kind> = contact
            .events
            .iter()
            .filter(|event| event.generation == generation)
            .map(|event| event.kind)
            .collect();
        let has = |wanted: Kind| events.contains(&wanted);
        let transfers = events.iter().filter_map(|kind| match kind {
            Kind::Transfer(seconds) => Some(*seconds),
            _ => None,
        });
        let ends = events.iter().filter(|kind| matches!(kind, Kind::Ended { .. })).count();
        same!(
            (history.refused, history.success, history.link_opened, history.texted),
            (has(Kind::OptOut), has(Kind::Success), has(Kind::Link), has(Kind::Text)),
            "history of {position}"
        );
        same!(history.longest_transfer_seconds, transfers.max().unwrap_or(0), "longest transfer");
        let counted = ends - contact.given_back(generation);
        same!(history.attempts, i32::try_from(counted).unwrap(), "attempts");
        same!(history.interactions.len(), events.len(), "interactions");
        Ok(())
    }
}
