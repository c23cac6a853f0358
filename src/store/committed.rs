//! The committed overlay of one store: encoded rows that are in the changelog but not yet in the backend.
//!
//! Hashed where order is needed only once per write-behind, a tree where every scan needs it.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::ops::Bound;
use std::sync::Arc;

use crate::limits::KEPT_ENTRIES;
use crate::store::Access;

/// A key or an encoded row; none is a deletion.
pub(super) type Key = Arc<[u8]>;
pub(super) type Encoded = Option<Arc<[u8]>>;

/// What one entry costs beside its bytes, roughly: two reference counts, two fat pointers, its place in the table.
const ENTRY_BYTES: usize = 80;

#[derive(Debug)]
pub(super) struct Committed {
    rows: Rows,
    size_bytes: usize,
}

#[derive(Debug)]
enum Rows {
    Hashed(HashMap<Key, Encoded, ahash::RandomState>),
    Sorted(BTreeMap<Key, Encoded>),
}

impl Committed {
    pub(super) fn new(access: Access) -> Self {
        let rows = match access {
            Access::Cached => Rows::Hashed(HashMap::with_hasher(hasher())),
            Access::Ordered | Access::Append => Rows::Sorted(BTreeMap::new()),
        };
        Self { rows, size_bytes: 0 }
    }

    pub(super) fn insert(&mut self, key: Key, value: Encoded) {
        let key_bytes = key.len();
        self.size_bytes += entry_bytes(key_bytes, &value);
        let before = match &mut self.rows {
            Rows::Hashed(rows) => rows.insert(key, value),
            Rows::Sorted(rows) => rows.insert(key, value),
        };
        if let Some(before) = before {
            self.size_bytes -= entry_bytes(key_bytes, &before);
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Encoded> {
        match &self.rows {
            Rows::Hashed(rows) => rows.get(key),
            Rows::Sorted(rows) => rows.get(key),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.rows {
            Rows::Hashed(rows) => rows.len(),
            Rows::Sorted(rows) => rows.len(),
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn clear(&mut self) {
        self.size_bytes = 0;
        match &mut self.rows {
            Rows::Hashed(rows) => {
                rows.clear();
                rows.shrink_to(KEPT_ENTRIES);
            }
            Rows::Sorted(rows) => rows.clear(),
        }
    }

    /// Returns the entries of `from..to` in key order; `Hashed` collects and sorts them.
    pub(super) fn range(&self, from: &[u8], to: Option<&[u8]>) -> Range<'_> {
        match &self.rows {
            Rows::Hashed(rows) => {
                let mut found: Vec<(&[u8], &Encoded)> =
                    rows.iter().map(|(key, value)| (&**key, value)).filter(|(key, _)| within(key, from, to)).collect();
                found.sort_unstable_by_key(|(key, _)| *key);
                Range::Collected(found.into_iter())
            }
            Rows::Sorted(rows) => Range::Sorted(rows.range::<[u8], _>(bounds(from, to))),
        }
    }
}

/// Entries in key order, from either end.
#[derive(Debug)]
pub(super) enum Range<'a> {
    Collected(std::vec::IntoIter<(&'a [u8], &'a Encoded)>),
    Sorted(btree_map::Range<'a, Key, Encoded>),
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], &'a Encoded);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Collected(rows) => rows.next(),
            Self::Sorted(rows) => rows.next().map(|(key, value)| (&**key, value)),
        }
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Collected(rows) => rows.next_back(),
            Self::Sorted(rows) => rows.next_back().map(|(key, value)| (&**key, value)),
        }
    }
}

/// Seeds are fixed: runs repeat. Keys come from topics, whose writers are not adversaries of their own stream.
pub(super) fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a)
}

/// Returns `from..to` as bounds; an interval that ends before it begins is empty.
pub(super) fn bounds<'a>(from: &'a [u8], to: Option<&'a [u8]>) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (Bound::Included(from), to.map_or(Bound::Unbounded, |to| Bound::Excluded(to.max(from))))
}

/// Tells whether a key is in `from..to`.
pub(super) fn within(key: &[u8], from: &[u8], to: Option<&[u8]>) -> bool {
    key >= from && to.is_none_or(|to| key < to)
}

fn entry_bytes(key_bytes: usize, value: &Encoded) -> usize {
    ENTRY_BYTES + key_bytes + value.as_ref().map_or(0, |value| value.len())
}
