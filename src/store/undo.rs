//! Savepoints: what one record changed, and how that is taken back when a node fails on it. One may lie in another: a row that is
//! sent on beside the record has its own.
//!
//! A row that is put is kept as it was; of a row that is changed in place its values are, side by side in one reusable list, so
//! that a fold of a hot row allocates nothing.

use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::store::cache::entry_bytes;
use crate::store::committed::{Encoded, Key};
use crate::store::stores::Change;
use crate::store::{Access, Error, Row, StoreIndex, TaskStores};

/// Where a record's writes begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Savepoint {
    /// Steps of the log before it.
    steps: usize,
    changes: usize,
    open_bytes: u64,
    latest: Timestamp,
}

/// How to take back what was written since the savepoint, oldest first.
#[derive(Debug, Default)]
pub(super) struct UndoLog {
    steps: Vec<Undo>,
    /// Values of rows as they were before they were changed in place.
    values: Vec<Value>,
}

#[derive(Debug)]
pub(super) enum Undo {
    /// What a slot held; none: it was made by this write.
    Entry {
        slot: u32,
        before: Option<Before>,
    },
    /// The row's values stand in the log from here on.
    InPlace {
        slot: u32,
        values: usize,
        timestamp: Timestamp,
        dirty: u64,
        size_bytes: u32,
    },
    Append {
        store: u16,
        key: Key,
        before: Option<Encoded>,
    },
}

#[derive(Debug)]
pub(super) struct Before {
    pub(super) row: Option<Row>,
    pub(super) dirty: u64,
    pub(super) size_bytes: u32,
}

impl UndoLog {
    pub(super) fn push(&mut self, step: Undo) {
        self.steps.push(step);
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.values.clear();
    }
}

impl TaskStores {
    /// Folds something into a key's row in place, or into a new row of `initial`; the row's time becomes the larger of its own and
    /// `timestamp`. One look-up, and no allocation for a row that is in the cache. When `fold` fails, nothing has changed.
    ///
    /// For stores that are not [`Access::Append`].
    ///
    /// # Errors
    /// What `fold` returns; as [`TaskStores::get`] and [`TaskStores::put`].
    pub fn update<E: From<Error>>(
        &mut self,
        index: StoreIndex,
        key: &[u8],
        initial: &[Value],
        timestamp: Timestamp,
        fold: impl FnOnce(&mut [Value]) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert!(self.stores[index.index()].spec.access != Access::Append, "history is not changed");
        let slot = self.load(index, key)?;
        let Some(row) = self.cache.row_mut(slot) else {
            let mut row = Row { timestamp, fields: Arc::from(initial) };
            fold(Arc::get_mut(&mut row.fields).expect("the row was made just above"))?;
            return Ok(self.put(index, key, Some(row))?);
        };
        let (values, time_before) = (self.undo.values.len(), row.timestamp);
        self.undo.values.extend_from_slice(&row.fields);
        if Arc::get_mut(&mut row.fields).is_none() {
            row.fields = Arc::from(&*row.fields);
        }
        let folded = fold(Arc::get_mut(&mut row.fields).expect("shared rows were copied just above"));
        row.timestamp = row.timestamp.max(timestamp);
        let checked = folded.and_then(|()| {
            let checked = self.stores[index.index()].check(key, row, &mut self.scratch);
            checked.map_err(E::from)
        });
        if let Err(error) = checked {
            self.restore_values(slot, values, time_before);
            return Err(error);
        }
        let (latest, size_bytes) = (row.timestamp, entry_bytes(key, Some(row)));
        let (dirty, size_before) = self.cache.resize(slot, self.generation, size_bytes);
        self.stats.puts += 1;
        self.latest = self.latest.max(latest);
        self.note_change(index, slot, dirty, size_before, size_bytes);
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::InPlace { slot, values, timestamp: time_before, dirty, size_bytes: size_before });
        } else {
            self.undo.values.truncate(values);
        }
        Ok(())
    }

    /// Returns the slot of a key's row, reading it in where it is not cached.
    fn load(&mut self, index: StoreIndex, key: &[u8]) -> Result<u32, Error> {
        self.stats.gets += 1;
        let store = &mut self.stores[index.index()];
        if let Some(slot) = self.cache.find(index.0, key) {
            store.counters.cache_hits += 1;
            return Ok(slot);
        }
        store.counters.cache_misses += 1;
        let row = store.get_committed(&*self.backend, key)?;
        // Room is made before: the new entry must be there when this returns.
        self.stats.cache_evictions += self.cache.evict_some(self.settled);
        let size_bytes = entry_bytes(key, row.as_ref());
        Ok(self.cache.insert(index.0, key, row, 0, size_bytes))
    }

    /// Counts a change of a slot in the open generation; `dirty` and `size_before` are what it was before.
    pub(super) fn note_change(&mut self, index: StoreIndex, slot: u32, dirty: u64, size_before: u32, size_bytes: u32) {
        self.stats.open_bytes += u64::from(size_bytes);
        if dirty == self.generation {
            self.stats.open_bytes -= u64::from(size_before);
            return;
        }
        self.open.push(Change::Entry(slot));
        let store = &mut self.stores[index.index()];
        if store.spec.access == Access::Ordered {
            store.uncommitted.insert(Arc::clone(&self.cache.slot(slot).key), slot);
        }
    }

    /// Returns the keys of a store that the open generation changed, in order of first change, with their rows as they are now.
    pub fn changed(&self, index: StoreIndex) -> Vec<(Arc<[u8]>, Option<Row>)> {
        let row = |change: &Change| {
            let Change::Entry(slot) = change else { return None };
            let slot = self.cache.slot(*slot);
            (slot.store == index.0).then(|| (Arc::clone(&slot.key), slot.row.clone()))
        };
        self.open.iter().filter_map(row).collect()
    }

    /// Begins one record's writes, or within them those of a row that stands or falls by itself.
    pub fn savepoint(&mut self) {
        let (changes, open_bytes, latest) = (self.open.len(), self.stats.open_bytes, self.latest);
        self.savepoints.push(Savepoint { steps: self.undo.steps.len(), changes, open_bytes, latest });
    }

    /// Keeps the writes since the innermost savepoint; one around it may still take them back.
    pub fn release(&mut self) {
        self.savepoints.pop();
        if self.savepoints.is_empty() {
            self.undo.clear();
        }
    }

    /// Takes the writes since the innermost savepoint back. Without a savepoint, does nothing.
    pub fn rollback(&mut self) {
        let Some(savepoint) = self.savepoints.pop() else { return };
        while self.undo.steps.len() > savepoint.steps
            && let Some(undo) = self.undo.steps.pop()
        {
            match undo {
                Undo::Entry { slot, before } => self.undo_entry(slot, before),
                Undo::InPlace { slot, values, timestamp, dirty, size_bytes } => {
                    self.forget_uncommitted(slot, dirty);
                    self.restore_values(slot, values, timestamp);
                    self.cache.resize(slot, dirty, size_bytes);
                }
                Undo::Append { store, key, before } => {
                    let appended = &mut self.stores[usize::from(store)].appended;
                    match before {
                        Some(value) => appended.insert(key, value),
                        None => appended.remove(&key),
                    };
                }
            }
        }
        self.open.truncate(savepoint.changes);
        self.stats.open_bytes = savepoint.open_bytes;
        self.latest = savepoint.latest;
    }

    fn undo_entry(&mut self, slot: u32, before: Option<Before>) {
        self.forget_uncommitted(slot, before.as_ref().map_or(0, |before| before.dirty));
        match before {
            Some(Before { row, dirty, size_bytes }) => {
                self.cache.replace(slot, row, dirty, size_bytes);
            }
            None => self.cache.remove(slot),
        }
    }

    fn restore_values(&mut self, slot: u32, values: usize, timestamp: Timestamp) {
        if let Some(row) = self.cache.row_mut(slot) {
            row.fields = self.undo.values.drain(values..).collect();
            row.timestamp = timestamp;
        }
    }

    /// Takes a change of a slot back that had made it uncommitted.
    fn forget_uncommitted(&mut self, slot: u32, dirty_before: u64) {
        let slot = self.cache.slot(slot);
        if dirty_before <= self.settled {
            self.stores[usize::from(slot.store)].uncommitted.remove(&slot.key);
        }
    }
}
