//! Shares of campaigns in what is handed out, in proportion to their weights.

use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Contacts handed out per campaign, divided by its weight (stride scheduling). The campaign with
/// the least is next.
#[derive(Clone, Debug)]
pub struct Shares<K: Ord> {
    passes: BTreeMap<K, u64>,
}

/// Factor that keeps precision when a count is divided by a weight.
const SCALE: u64 = 10_000;

impl<K: Ord> Default for Shares<K> {
    fn default() -> Self {
        Self { passes: BTreeMap::new() }
    }
}

impl<K: Ord> Shares<K> {
    /// Returns the share that one of them had. Who had the least is next.
    #[must_use]
    pub fn pass<Q: Ord + ?Sized>(&self, key: &Q) -> u64
    where
        K: Borrow<Q>,
    {
        self.passes.get(key).copied().unwrap_or(0)
    }

    /// Records contacts handed out for a campaign.
    pub fn handed(&mut self, key: K, contacts: usize, weight: i32) {
        let contacts = u64::try_from(contacts).unwrap_or(u64::MAX);
        let weight = u64::try_from(weight.max(1)).unwrap_or(1);
        let pass = self.passes.entry(key).or_default();
        *pass = pass.saturating_add(contacts.saturating_mul(SCALE) / weight);
    }

    /// Adds a campaign, which starts level with the others. It does not catch up on contacts that
    /// it never had.
    pub fn join(&mut self, key: K) {
        let least = self.passes.values().min().copied().unwrap_or(0);
        self.passes.entry(key).or_insert(least);
    }

    /// Forgets a campaign.
    pub fn leave<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.passes.remove(key);
    }
}

/// Splits `found` evenly among the requests in `wants`. No share exceeds its request.
#[must_use]
pub fn split(found: usize, wants: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; wants.len()];
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|index| wants[*index]);
    let mut left = found;
    for (served, index) in order.into_iter().enumerate() {
        // The remainder goes to the largest requests.
        shares[index] = wants[index].min(left / (wants.len() - served));
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_shared_out_evenly_and_whole() {
        assert_eq!(split(1_000, &[500, 500]), [500, 500]);
        assert_eq!(split(5_000, &[500, 20]), [500, 20]);
        assert_eq!(split(500, &[500, 500, 20]), [240, 240, 20]);
        assert_eq!(split(2, &[5, 5, 5]), [0, 1, 1]);
        assert_eq!(split(0, &[5]), [0]);
        assert_eq!(split(5, &[]), [0; 0]);
    }

    fn next(shares: &Shares<char>, keys: &[char]) -> char {
        *keys.iter().min_by_key(|key| (shares.pass(*key), **key)).expect("someone waits")
    }

    fn handed_out(weights: &[(char, i32)], batches: usize, batch: usize) -> BTreeMap<char, usize> {
        let mut shares = Shares::default();
        let mut counts = BTreeMap::new();
        let keys: Vec<char> = weights.iter().map(|(key, _)| *key).collect();
        for _ in 0..batches {
            let next = next(&shares, &keys);
            let weight = weights.iter().find(|(key, _)| *key == next).expect("known").1;
            shares.handed(next, batch, weight);
            *counts.entry(next).or_default() += batch;
        }
        counts
    }

    #[test]
    fn shares_follow_weights() {
        let counts = handed_out(&[('a', 1), ('b', 3), ('c', 6)], 1_000, 50);
        assert_eq!((counts[&'a'], counts[&'b'], counts[&'c']), (5_000, 15_000, 30_000));
    }

    #[test]
    fn who_comes_late_begins_beside_the_others() {
        let mut shares = Shares::default();
        shares.join('a');
        shares.handed('a', 1_000, 1);
        shares.join('b');
        shares.handed('b', 1, 1);
        assert_eq!(next(&shares, &['a', 'b']), 'a', "b does not catch up");
        shares.handed('a', 1_000, 1);
        shares.leave(&'b');
        shares.join('b');
        assert_eq!(shares.pass(&'b'), shares.pass(&'a'), "who comes again begins level");
    }
}
