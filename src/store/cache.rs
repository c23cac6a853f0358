//! Decoded rows by (store, key), bounded by bytes. It holds the uncommitted rows, which stay, and clean ones, which may go.
//!
//! Eviction is second chance: a hand goes around the slots; a clean slot that was read since the hand's last visit is spared once.
//! Invariant: an entry whose generation is not settled is never evicted, so the cache is the one home of uncommitted rows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::{CACHE_EVICTION_STEPS_MAX, KEPT_ENTRIES};
use crate::store::Row;
use crate::store::committed::{Key, hasher};

/// What one entry costs beside key and row, roughly: its slot and its place in the table.
const ENTRY_BYTES: usize = size_of::<Slot>() + 48;

#[derive(Debug)]
pub(super) struct Cache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Per store, which slot a key has.
    maps: Vec<HashMap<Key, u32, ahash::RandomState>>,
    hand: usize,
    /// The slot used last: a write mostly follows the read of its key.
    last: u32,
    size_bytes: usize,
    budget_bytes: usize,
    empty: Key,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    /// None: there is no such row, which is worth remembering too.
    pub(super) row: Option<Row>,
    /// The generation that changed the row last; 0 for one that was only read.
    pub(super) dirty: u64,
    pub(super) size_bytes: u32,
    pub(super) store: u16,
    occupied: bool,
    /// Read since the hand's last visit.
    referenced: bool,
}

impl Cache {
    pub(super) fn new(stores: usize, budget_bytes: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            maps: (0..stores).map(|_| HashMap::with_hasher(hasher())).collect(),
            hand: 0,
            last: 0,
            size_bytes: 0,
            budget_bytes,
            empty: Arc::from([]),
        }
    }

    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget_bytes = bytes;
    }

    pub(super) fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    pub(super) fn find(&self, store: u16, key: &[u8]) -> Option<u32> {
        match self.slots.get(self.last as usize) {
            Some(slot) if slot.occupied && slot.store == store && *slot.key == *key => Some(self.last),
            Some(_) | None => self.maps[usize::from(store)].get(key).copied(),
        }
    }

    pub(super) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    /// Reads a slot's row and spares it at the hand's next visit.
    pub(super) fn touch(&mut self, slot: u32) -> &Slot {
        self.last = slot;
        let slot = &mut self.slots[slot as usize];
        slot.referenced = true;
        slot
    }

    /// Puts a row in a slot and returns what was there: row, generation, size.
    pub(super) fn replace(
        &mut self,
        slot: u32,
        row: Option<Row>,
        dirty: u64,
        size_bytes: u32,
    ) -> (Option<Row>, u64, u32) {
        let slot = &mut self.slots[slot as usize];
        self.size_bytes = self.size_bytes + size_bytes as usize - slot.size_bytes as usize;
        slot.referenced = true;
        (
            std::mem::replace(&mut slot.row, row),
            std::mem::replace(&mut slot.dirty, dirty),
            std::mem::replace(&mut slot.size_bytes, size_bytes),
        )
    }

    /// Returns a slot's row to be changed in place, and spares it at the hand's next visit. [`Cache::resize`] is told afterwards.
    pub(super) fn row_mut(&mut self, slot: u32) -> &mut Option<Row> {
        self.last = slot;
        let slot = &mut self.slots[slot as usize];
        slot.referenced = true;
        &mut slot.row
    }

    /// Notes what a row that was changed in place counts for, and by whom; returns what stood there: generation, size.
    pub(super) fn resize(&mut self, slot: u32, dirty: u64, size_bytes: u32) -> (u64, u32) {
        let slot = &mut self.slots[slot as usize];
        self.size_bytes = self.size_bytes + size_bytes as usize - slot.size_bytes as usize;
        (std::mem::replace(&mut slot.dirty, dirty), std::mem::replace(&mut slot.size_bytes, size_bytes))
    }

    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, store: u16, key: &[u8], row: Option<Row>, dirty: u64, size_bytes: u32) -> u32 {
        let key: Key = Arc::from(key);
        let entry = Slot { key: Arc::clone(&key), row, dirty, size_bytes, store, occupied: true, referenced: true };
        self.size_bytes += size_bytes as usize;
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = entry;
            slot
        } else {
            self.slots.push(entry);
            u32::try_from(self.slots.len() - 1).expect("slots are bounded by bytes, far below 2^32 of them")
        };
        self.maps[usize::from(store)].insert(key, slot);
        self.last = slot;
        slot
    }

    /// Drops an entry; a slot that is free already stays so.
    pub(super) fn remove(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        if !entry.occupied {
            return;
        }
        entry.occupied = false;
        entry.row = None;
        entry.dirty = 0;
        self.size_bytes -= entry.size_bytes as usize;
        let key = std::mem::replace(&mut entry.key, Arc::clone(&self.empty));
        self.maps[usize::from(entry.store)].remove(&*key);
        self.free.push(slot);
    }

    /// Drops all entries of a store; none of them may be uncommitted.
    pub(super) fn remove_store(&mut self, store: u16, settled: u64) {
        if self.maps[usize::from(store)].is_empty() {
            return;
        }
        for slot in 0..self.slots.len() {
            let entry = &self.slots[slot];
            if entry.occupied && entry.store == store {
                assert!(entry.dirty <= settled, "a store with uncommitted rows is not emptied");
                self.remove(slot as u32);
            }
        }
    }

    /// Evicts clean entries until the budget is met, within a few steps; the next call goes on.
    pub(super) fn evict_some(&mut self, settled: u64) -> u64 {
        if self.size_bytes <= self.budget_bytes { 0 } else { self.evict(settled, CACHE_EVICTION_STEPS_MAX) }
    }

    /// Evicts clean entries until the budget is met or none is left.
    pub(super) fn evict_all(&mut self, settled: u64) -> u64 {
        let evicted = self.evict(settled, 2 * self.slots.len());
        for map in &mut self.maps {
            // Room for many uncommitted rows is not kept where they are gone.
            let kept = map.len().max(KEPT_ENTRIES);
            if map.capacity() > 4 * kept {
                map.shrink_to(2 * kept);
            }
        }
        evicted
    }

    fn evict(&mut self, settled: u64, steps: usize) -> u64 {
        let mut evicted = 0;
        for _ in 0..steps {
            if self.size_bytes <= self.budget_bytes {
                break;
            }
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = &mut self.slots[self.hand];
            if !slot.occupied || slot.dirty > settled {
                continue;
            }
            if std::mem::replace(&mut slot.referenced, false) {
                continue;
            }
            self.remove(self.hand as u32);
            evicted += 1;
        }
        evicted
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Returns what an entry counts for.
pub(super) fn entry_bytes(key: &[u8], row: Option<&Row>) -> u32 {
    let bytes = ENTRY_BYTES + key.len() + row.map_or(0, Row::size_bytes);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
