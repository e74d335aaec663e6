//! Leases that a worker holds, and the orders to stop that it was sent.

use crate::app::campaigns::stops::Stop;
use crate::store::notify::StopCause;
use campaign_proto::v1;
use std::collections::{BTreeSet, HashMap};
use tokio::time::Instant;
use uuid::Uuid;

/// Most orders that are repeated after one answer. A worker that missed more asks to authorise
/// before it dials, and is refused.
const MAX_REPEATS: usize = 1_000;

/// Lease that the worker holds, or has calls in progress of, as far as the service knows.
#[derive(Debug)]
struct Held {
    run: i32,
    /// Last stop that the worker was notified of: its cause, and whether calls are hung up.
    told: Option<(StopCause, bool)>,
    /// Time, by the clock of this process, when the lease has surely expired.
    gone_at: Instant,
}

/// Leases of one worker.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Leases by campaign and number.
    leases: HashMap<(Uuid, i64), Held>,
    /// Orders sent while an answer is under way; `None` while there is no answer under way.
    repeats: Option<Vec<v1::Revoke>>,
}

impl Holdings {
    /// Records that the worker holds a lease that was just granted or renewed.
    pub fn hold(&mut self, campaign: Uuid, lease: i64, run: i32, gone_at: Instant) {
        let now = Instant::now();
        self.leases.retain(|_, held| held.gone_at > now);
        let held =
            self.leases.entry((campaign, lease)).or_insert(Held { run, told: None, gone_at });
        (held.run, held.gone_at) = (run, gone_at);
    }

    /// Returns whether the worker holds a lease of a campaign.
    pub fn has_any_of(&self, campaign: Uuid) -> bool {
        self.leases.keys().any(|(id, _)| *id == campaign)
    }

    /// Returns the campaigns of the leases.
    pub fn campaigns(&self) -> Vec<Uuid> {
        let campaigns: BTreeSet<Uuid> = self.leases.keys().map(|(campaign, _)| *campaign).collect();
        campaigns.into_iter().collect()
    }

    /// Returns whether a stop is news to the worker.
    pub fn is_news(&self, stop: &Stop) -> bool {
        let told = Some((stop.cause, stop.hang_up));
        self.leases.iter().any(|((id, _), held)| {
            *id == stop.campaign && held.run <= stop.run && held.told != told
        })
    }

    /// Records that the worker is told of a stop.
    pub fn note_told(&mut self, stop: &Stop) {
        for ((id, _), held) in &mut self.leases {
            if *id == stop.campaign {
                held.told = (held.run <= stop.run).then_some((stop.cause, stop.hang_up));
            }
        }
    }

    /// Begins an answer. Orders that are sent meanwhile overtake it.
    pub fn begin_answer(&mut self) {
        self.repeats = Some(Vec::new());
    }

    /// Records an order that is sent now.
    pub fn note_order(&mut self, order: &v1::Revoke) {
        if let Some(repeats) = self.repeats.as_mut().filter(|sent| sent.len() < MAX_REPEATS) {
            repeats.push(order.clone());
        }
    }

    /// Ends an answer. Returns the orders that overtook it.
    pub fn end_answer(&mut self) -> Vec<v1::Revoke> {
        self.repeats.take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_are_gone_are_forgotten_however_they_came() {
        let mut held = Holdings::default();
        for lease in 0..1_000 {
            held.hold(Uuid::nil(), lease, 1, Instant::now());
        }
        assert_eq!(held.leases.len(), 1);
    }

    #[test]
    fn an_order_that_overtakes_an_answer_is_repeated_once() {
        let mut held = Holdings::default();
        let order = v1::Revoke { campaign: "campaigns/1".to_owned(), ..Default::default() };
        held.note_order(&order);
        held.begin_answer();
        held.note_order(&order);
        assert_eq!(held.end_answer(), std::slice::from_ref(&order));
        held.note_order(&order);
        assert_eq!(held.end_answer(), []);
    }
}
