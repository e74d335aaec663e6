//! Places for requests and streams, shared out among tenants. One tenant may use what others leave,
//! but not the places that others need.

use campaign_domain::access::Tenant;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Part of the places that is left to tenants that have less than their share.
const RESERVED_PART: usize = 4;
/// Most tenants that are remembered. Beyond this number, those without places are forgotten.
const MAX_TENANTS: usize = 10_000;

/// Places of one kind.
#[derive(Clone, Debug)]
pub struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    taken: Mutex<Taken>,
    /// Raised when a place is free again.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Places of each tenant that was ever seen.
    tenants: HashMap<Tenant, usize>,
}

/// Place of one request or stream, freed on drop.
#[derive(Debug)]
pub struct Place {
    places: Places,
    tenant: Tenant,
}

impl Places {
    #[must_use]
    pub fn new(total: usize) -> Self {
        let (taken, freed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { total, taken, freed }))
    }

    /// Takes a place for a tenant, and waits for one up to `limit`. Returns `None` if there was
    /// none.
    pub async fn take(&self, tenant: &Tenant, limit: Duration) -> Option<Place> {
        let taking = async {
            loop {
                // Registered before the look, so that no place is missed that is freed in between.
                let freed = self.0.freed.notified();
                if let Some(place) = self.try_take(tenant) {
                    return place;
                }
                freed.await;
            }
        };
        match self.try_take(tenant) {
            Some(place) => Some(place),
            None => timeout(limit, taking).await.ok(),
        }
    }

    fn try_take(&self, tenant: &Tenant) -> Option<Place> {
        let mut taken = self.taken();
        if taken.tenants.len() >= MAX_TENANTS {
            taken.tenants.retain(|_, places| *places > 0);
        }
        let own = taken.tenants.get(tenant).copied().unwrap_or(0);
        let is_known = taken.tenants.contains_key(tenant);
        let tenants = taken.tenants.len() + usize::from(!is_known);
        if !may_take(self.0.total, taken.all, own, tenants) {
            taken.tenants.entry(tenant.clone()).or_default();
            return None;
        }
        taken.all += 1;
        *taken.tenants.entry(tenant.clone()).or_default() += 1;
        Some(Place { places: self.clone(), tenant: tenant.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(places) = taken.tenants.get_mut(&self.tenant) {
            *places = places.saturating_sub(1);
        }
        drop(taken);
        self.places.0.freed.notify_waiters();
    }
}

/// Returns whether a tenant with `own` places may take one more, of `total` places of which `taken`
/// are taken. A tenant below its share may take any. A tenant alone may take all.
fn may_take(total: usize, taken: usize, own: usize, tenants: usize) -> bool {
    let free = total.saturating_sub(taken);
    if free == 0 {
        return false;
    }
    let is_below_share = own < total / tenants.max(1);
    is_below_share || tenants <= 1 || free > total / RESERVED_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).expect("a name")
    }

    async fn take_all(places: &Places, name: &str) -> Vec<Place> {
        let mut held = Vec::new();
        while let Some(place) = places.take(&tenant(name), SOON).await {
            held.push(place);
        }
        held
    }

    #[tokio::test]
    async fn a_tenant_alone_may_take_all_places() {
        let places = Places::new(8);
        assert_eq!(take_all(&places, "a").await.len(), 8);
    }

    #[tokio::test]
    async fn a_tenant_leaves_places_to_others_once_there_are_others() {
        let places = Places::new(8);
        drop(take_all(&places, "b").await);
        let first = take_all(&places, "a").await;
        assert_eq!(first.len(), 6, "a quarter is left to others");
        let second = take_all(&places, "b").await;
        assert_eq!(second.len(), 2);
        drop(first);
        assert_eq!(take_all(&places, "a").await.len(), 4, "its share");
        drop(second);
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_freed() {
        let places = Places::new(1);
        let held = places.take(&tenant("a"), SOON).await.expect("a place");
        let (waiting, b) = (places.clone(), tenant("b"));
        let waiting = tokio::spawn(async move { waiting.take(&b, Duration::from_secs(5)).await });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.expect("no panic").is_some());
    }
}
