//! A run: what is loaded in bulk, gathered as it comes and sorted once, so that a backend takes the rows in as a file of its own instead of
//! finding the place of each.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem::size_of;

use crate::store::{Batch, BatchOp};

/// Rows in the order in which they came, or sorted, and the facts that hold when they are at rest.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// Keys and values, one behind the other.
    arena: Vec<u8>,
    rows: Vec<Row>,
    facts: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// Rows whose bytes are fetched together.
const READ_AHEAD: usize = 64;

/// A row of a [`Run`].
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The first bytes of the key behind what all keys begin with, zeros behind a shorter one: most comparisons end here, without a look into
    /// the arena.
    head: u64,
    start: u32,
    key: u32,
    /// None: the row is deleted.
    value: Option<u32>,
}

impl Run {
    /// Adds the changes of a batch; those of ranges cannot be added, and false is returned.
    pub(super) fn add(&mut self, batch: &Batch) -> bool {
        if batch.iter().any(|op| matches!(op, BatchOp::DeleteRange { .. })) {
            return false;
        }
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value } => self.add_row(key, Some(value)),
                BatchOp::Delete { key } => self.add_row(key, None),
                BatchOp::PutMeta { key, value } => _ = self.facts.insert(key.to_vec(), Some(value.to_vec())),
                BatchOp::DeleteMeta { key } => _ = self.facts.insert(key.to_vec(), None),
                BatchOp::DeleteRange { .. } => return false,
            }
        }
        true
    }

    fn add_row(&mut self, key: &[u8], value: Option<&[u8]>) {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value.unwrap_or_default());
        let value = value.map(|value| value.len() as u32);
        self.rows.push(Row { head: 0, start, key: key.len() as u32, value });
    }

    /// Returns the bytes that its rows take.
    pub(super) fn size_bytes(&self) -> usize {
        self.arena.len() + self.rows.len() * size_of::<Row>()
    }

    /// Forgets rows and facts: they are at rest.
    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.rows.clear();
        self.facts.clear();
    }

    /// Returns the facts as changes.
    pub(super) fn facts(&self) -> Batch {
        let mut facts = Batch::default();
        for (key, value) in &self.facts {
            match value {
                Some(value) => facts.put_meta(key, value),
                None => facts.delete_meta(key),
            }
        }
        facts
    }

    /// Sorts the rows by key; of several of a key the last one stays.
    pub(super) fn sort(&mut self) {
        let arena = &self.arena;
        let Some(first) = self.rows.first().map(|row| row.key(arena)) else { return };
        let common = |shared: usize, row: &Row| {
            let pairs = row.key(arena).iter().zip(&first[..shared]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let shared = self.rows.iter().fold(first.len(), common);
        for row in &mut self.rows {
            row.head = head(&row.key(arena)[shared..]);
        }
        let whole = shared + size_of::<u64>();
        let order = |a: &Row, b: &Row| {
            a.head.cmp(&b.head).then_with(|| {
                // All of both may be in the heads, but for how many zeros they end in.
                if a.key.max(b.key) as usize <= whole { a.key.cmp(&b.key) } else { a.key(arena).cmp(b.key(arena)) }
            })
        };
        self.rows.sort_by(order);
        // Equal keys are in the order in which they came.
        self.rows.dedup_by(|later, kept| {
            let same = order(later, kept).is_eq();
            if same {
                *kept = *later;
            }
            same
        });
    }

    /// Tells whether there are no rows.
    pub(super) fn has_no_rows(&self) -> bool {
        self.rows.is_empty()
    }

    /// Visits keys and values, none where a row was deleted.
    pub(super) fn visit<E>(&self, mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>) -> Result<(), E> {
        for rows in self.rows.chunks(READ_AHEAD) {
            // Sorted rows lie all over the arena: the processor fetches those of many at once, where it would wait for one after the other.
            let fetched = rows.iter().map(|row| self.arena.get(row.start as usize).copied().unwrap_or_default());
            black_box(fetched.fold(0, u8::wrapping_add));
            for row in rows {
                visit(row.key(&self.arena), row.value(&self.arena))?;
            }
        }
        Ok(())
    }
}

impl Row {
    fn key<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        &arena[self.start as usize..][..self.key as usize]
    }

    fn value<'a>(&self, arena: &'a [u8]) -> Option<&'a [u8]> {
        self.value.map(|length| &arena[(self.start + self.key) as usize..][..length as usize])
    }
}

fn head(key: &[u8]) -> u64 {
    let mut head = [0; size_of::<u64>()];
    let length = key.len().min(head.len());
    head[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sorted_run_is_the_map_that_its_rows_make(
            prefix in vec(any::<u8>(), 0..6),
            rows in vec((vec(0..3_u8, 0..12), prop::option::of(vec(any::<u8>(), 0..4))), 0..200),
        ) {
            let (mut run, mut model) = (Run::default(), BTreeMap::new());
            for (key, value) in &rows {
                let mut batch = Batch::default();
                match value {
                    Some(value) => batch.put(&[&prefix, key], value),
                    None => batch.delete(&[&prefix, key]),
                }
                batch.put_meta(b"last", key);
                prop_assert!(run.add(&batch));
                model.insert([&prefix[..], key].concat(), value.clone());
            }
            run.sort();
            let mut sorted = Vec::new();
            let visited: Result<(), ()> = run.visit(|key, value| {
                sorted.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                Ok(())
            });
            prop_assert_eq!(visited, Ok(()));
            prop_assert_eq!(sorted, model.into_iter().collect::<Vec<_>>());
            let last = rows.last().map(|(key, _)| BatchOp::PutMeta { key: b"last", value: key });
            let facts = run.facts();
            prop_assert_eq!(facts.iter().next(), last);
        }
    }

    #[test]
    fn ranges_are_not_gathered() {
        let (mut run, mut batch) = (Run::default(), Batch::default());
        batch.put(&[b"a"], b"1");
        batch.delete_range(b"a", b"b");
        assert!(!run.add(&batch));
        assert_eq!(run.size_bytes(), 0);
    }
}
