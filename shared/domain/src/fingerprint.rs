//! Comparison of an import's rows with those committed earlier under its id.
//!
//! Each row's hash covers the hash of the rows before it. The last hash is kept, and those after 1,
//! 2, 4, 8… rows. They suffice to detect a different list that is sent again from its start,
//! wherever it was cut.

use sha2::{Digest, Sha256};

/// Hash of rows.
pub type Hash = [u8; 16];

/// Hash of no rows.
pub const NO_ROWS: Hash = [0; 16];

/// Returns the hash of some text fields, kept apart.
#[must_use]
pub fn of_fields<'a>(fields: impl IntoIterator<Item = &'a str>) -> Hash {
    let mut hash = Sha256::new();
    for field in fields {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    shortened(hash)
}

/// Returns the hash of rows followed by one more row.
#[must_use]
pub fn then(rows: &Hash, next: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(rows);
    hash.update(next);
    shortened(hash)
}

fn shortened(hash: Sha256) -> Hash {
    let mut short = NO_ROWS;
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

/// Fingerprint of an import's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of rows covered. A version without fingerprints may have committed more rows.
    pub rows: i64,
    /// Hash of all rows covered.
    pub all: Hash,
    /// Hashes of the first 1, 2, 4, 8… rows.
    pub firsts: Vec<Hash>,
}

impl Fingerprint {
    /// Adds the next row.
    pub fn add(&mut self, row: &Hash) {
        self.all = then(&self.all, row);
        self.rows += 1;
        if self.rows.count_ones() == 1 {
            self.firsts.push(self.all);
        }
    }

    /// Whether the first `rows` rows may have this hash, as far as the fingerprint can tell.
    #[must_use]
    pub fn agrees(&self, rows: i64, all: &Hash) -> bool {
        let is_last = rows == self.rows;
        let first = (rows.count_ones() == 1).then(|| rows.trailing_zeros() as usize);
        let first = first.and_then(|index| self.firsts.get(index));
        !(is_last && *all != self.all) && first.is_none_or(|known| known == all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(rows: &[&str]) -> Vec<Hash> {
        rows.iter().map(|row| of_fields([*row])).collect()
    }

    fn of(rows: &[&str]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        hashes(rows).iter().for_each(|row| fingerprint.add(row));
        fingerprint
    }

    /// Returns the row at which a different list is detected when it is sent again.
    fn noticed(known: &Fingerprint, again: &[&str]) -> Option<i64> {
        let mut all = NO_ROWS;
        (1..).zip(hashes(again)).find_map(|(row, hash)| {
            all = then(&all, &hash);
            (!known.agrees(row, &all)).then_some(row)
        })
    }

    #[test]
    fn another_list_is_noticed_and_the_same_is_not() {
        let known = of(&["a", "b", "c", "d", "e"]);
        assert_eq!(noticed(&known, &["a", "b", "c", "d", "e"]), None);
        assert_eq!(noticed(&known, &["a", "b", "c", "d", "e", "f"]), None, "it goes on");
        assert_eq!(noticed(&known, &["x", "y"]), Some(1));
        assert_eq!(noticed(&known, &["a", "b", "x", "d"]), Some(4));
        assert_eq!(noticed(&known, &["a", "b", "c", "d", "x"]), Some(5));
        assert_eq!(noticed(&Fingerprint::default(), &["a", "b"]), None, "nothing is known");
    }

    #[test]
    fn fields_are_kept_apart() {
        assert_ne!(of_fields(["ab", "c"]), of_fields(["a", "bc"]));
        assert_ne!(of_fields(["a", ""]), of_fields(["a"]));
    }
}
