//! A task's stores: the uncommitted view, savepoints, and the life of a generation from its first write to its commit.
//!
//! ```text
//! put ─► open generation ─ seal ─► sealed generation ─ confirm ─► committed overlay ─ write_behind ─► backend
//!              │ rollback: back to the savepoint │
//!              └──────────────── abort: both are dropped, what was committed stays ─┘
//! ```
//!
//! Generations are numbered; an entry carries the number of the one that changed it last, and all numbers up to `settled` are
//! committed or dropped. So confirming touches no cache entry that was changed again in the meantime.
//!
//! Not here: scans (`scan`), the backend's side (`behind`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::limits::{KEPT_ENTRIES, ROW_BYTES_MAX};
use crate::planted::{self, Mistake};
use crate::store::behind::Behind;
use crate::store::cache::{Cache, entry_bytes};
use crate::store::committed::{Committed, Encoded, Key};
use crate::store::format::{self, Announced, RowCodec, StoreFacts};
use crate::store::keys::KeyKind;
use crate::store::undo::{Before, Savepoint, Undo, UndoLog};
use crate::store::{
    Access, Backend, Batch, ChangelogPosition, Error, Row, Stats, StoreCounters, StoreIndex, StoreSpec, StoresBudget,
    Visit,
};

/// The state of one task. Owned by one thread at a time.
#[derive(Debug)]
pub struct TaskStores {
    pub(super) backend: Box<dyn Backend>,
    pub(super) stores: Vec<Store>,
    pub(super) cache: Cache,
    /// Changed keys of the open generation, in order of first change; every write of an `Append` store.
    pub(super) open: Vec<Change>,
    pub(super) sealed: Option<Vec<Write>>,
    /// Number of the open generation.
    pub(super) generation: u64,
    /// Generations up to this one are committed or dropped.
    pub(super) settled: u64,
    /// Innermost last.
    pub(super) savepoints: Vec<Savepoint>,
    pub(super) undo: UndoLog,
    pub(super) meta: Option<Vec<u8>>,
    /// The largest row timestamp put so far: what a deletion is dated with.
    pub(super) latest: Timestamp,
    pub(super) scratch: Vec<u8>,
    pub(super) next_prefix: u32,
    pub(super) behind: Behind,
    pub(super) write_behind_bytes: usize,
    pub(super) stats: Stats,
}

/// One store's side of it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) spec: StoreSpec,
    pub(super) codec: RowCodec,
    pub(super) facts: StoreFacts,
    /// Where the changelog ended before a restore.
    pub(super) changelog_end: Offset,
    pub(super) committed: Committed,
    /// `Ordered`: the uncommitted keys and their slots.
    pub(super) uncommitted: BTreeMap<Key, u32>,
    /// `Append`: rows of the open and of the sealed generation.
    pub(super) appended: BTreeMap<Key, Encoded>,
    pub(super) appended_sealed: BTreeMap<Key, Encoded>,
    row_bytes_max: usize,
    pub(super) counters: StoreCounters,
}

/// What the open generation changed.
#[derive(Debug)]
pub(super) enum Change {
    /// The row of a cache slot.
    Entry(u32),
    /// A write of an `Append` store.
    Append { store: u16, key: Key, value: Encoded, timestamp: Timestamp },
}

/// A write of the sealed generation.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) store: u16,
    pub(super) slot: Option<u32>,
    key: Key,
    value: Encoded,
    timestamp: Timestamp,
}

impl TaskStores {
    /// Opens the stores of a task, giving a new one the next prefix. Stores that are no longer named stay as they are.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::OtherApplication`], [`Error::Corrupt`]; the backend's.
    pub fn open(
        mut backend: Box<dyn Backend>,
        application_id: &str,
        specs: &[StoreSpec],
        budget: StoresBudget,
    ) -> Result<Self, Error> {
        let mut batch = Batch::default();
        match backend.get_meta(format::META_FORMAT)? {
            Some(stamp) => format::check_stamp(&stamp, application_id)?,
            None => batch.put_meta(format::META_FORMAT, &format::stamp(application_id)),
        }
        let mut next_prefix = match backend.get_meta(format::META_NEXT_PREFIX)? {
            Some(bytes) => format::read_u32(&bytes)
                .ok_or_else(|| Error::Corrupt { message: "the next store prefix cannot be read".to_owned() })?,
            None => 1,
        };
        let mut stores = Vec::with_capacity(specs.len());
        for spec in specs {
            let name = format::store_key(&spec.name);
            let facts = if let Some(bytes) = backend.get_meta(&name)? {
                StoreFacts::decode(&bytes)?
            } else {
                let facts = StoreFacts { prefix: next_prefix, offset: None, durable_at: None, topic_id: None };
                next_prefix += 1;
                batch.put_meta(&name, &facts.encode());
                facts
            };
            stores.push(Store::open(spec, facts, &*backend)?);
        }
        if !batch.is_empty() {
            batch.put_meta(format::META_NEXT_PREFIX, &next_prefix.to_be_bytes());
            backend.write(&batch)?;
            backend.flush()?;
        }
        let meta = backend.get_meta(format::META_TASK)?;
        Ok(Self {
            cache: Cache::new(stores.len(), budget.cache_bytes),
            backend,
            stores,
            open: Vec::new(),
            sealed: None,
            generation: 1,
            settled: 0,
            savepoints: Vec::new(),
            undo: UndoLog::default(),
            meta,
            latest: Timestamp::UNKNOWN,
            scratch: Vec::new(),
            next_prefix,
            behind: Behind::default(),
            write_behind_bytes: budget.write_behind_bytes,
            stats: Stats::default(),
        })
    }

    /// Gives the stores more or less memory; what is above it goes with the next rows that come.
    pub fn set_budget(&mut self, budget: StoresBudget) {
        self.cache.set_budget(budget.cache_bytes);
        self.write_behind_bytes = budget.write_behind_bytes;
    }

    /// Returns how many bytes of rows are kept decoded at most, where none is uncommitted.
    pub fn cache_budget_bytes(&self) -> usize {
        self.cache.budget_bytes()
    }

    /// Returns the row of a key, own uncommitted writes included.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::RowUnreadable`], [`Error::Io`].
    pub fn get(&mut self, index: StoreIndex, key: &[u8]) -> Result<Option<Row>, Error> {
        self.stats.gets += 1;
        let store = &mut self.stores[index.index()];
        if let Some(slot) = self.cache.find(index.0, key) {
            store.counters.cache_hits += 1;
            return Ok(self.cache.touch(slot).row.clone());
        }
        if let Some(encoded) = store.appended.get(key).or_else(|| store.appended_sealed.get(key)) {
            store.counters.cache_hits += 1;
            return encoded.as_deref().map(|bytes| store.codec.decode(bytes)).transpose();
        }
        store.counters.cache_misses += 1;
        let row = store.get_committed(&*self.backend, key)?;
        if store.spec.access != Access::Append {
            self.cache.insert(index.0, key, row.clone(), 0, entry_bytes(key, row.as_ref()));
            self.stats.cache_evictions += self.cache.evict_some(self.settled);
        }
        Ok(row)
    }

    /// Writes a row; none deletes it.
    ///
    /// # Errors
    /// [`Error::RowTooLarge`], [`Error::RowInvalid`]; nothing is changed then.
    pub fn put(&mut self, index: StoreIndex, key: &[u8], row: Option<Row>) -> Result<(), Error> {
        let store = &mut self.stores[index.index()];
        if let Some(row) = &row {
            store.check(key, row, &mut self.scratch)?;
        }
        if store.spec.access == Access::Append {
            return self.append(index, key, row.as_ref());
        }
        self.stats.puts += 1;
        self.latest = row.as_ref().map_or(self.latest, |row| self.latest.max(row.timestamp));
        let (generation, size_bytes) = (self.generation, entry_bytes(key, row.as_ref()));
        let (slot, before) = if let Some(slot) = self.cache.find(index.0, key) {
            let (row, dirty, size_bytes) = self.cache.replace(slot, row, generation, size_bytes);
            (slot, Some(Before { row, dirty, size_bytes }))
        } else {
            let slot = self.cache.insert(index.0, key, row, generation, size_bytes);
            self.stats.cache_evictions += self.cache.evict_some(self.settled);
            (slot, None)
        };
        let (dirty, size_before) = before.as_ref().map_or((0, 0), |before| (before.dirty, before.size_bytes));
        self.note_change(index, slot, dirty, size_before, size_bytes);
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Entry { slot, before });
        }
        Ok(())
    }

    fn append(&mut self, index: StoreIndex, key: &[u8], row: Option<&Row>) -> Result<(), Error> {
        let store = &mut self.stores[index.index()];
        let value = match row {
            Some(row) => Some(encoded(&mut store.codec, row, &mut self.scratch)?),
            None => None,
        };
        self.stats.puts += 1;
        self.latest = row.map_or(self.latest, |row| self.latest.max(row.timestamp));
        let timestamp = row.map_or_else(|| deletion_time(self.latest), |row| row.timestamp);
        self.stats.open_bytes += (key.len() + value.as_ref().map_or(0, |value| value.len())) as u64;
        let key: Key = Arc::from(key);
        let before = store.appended.insert(Arc::clone(&key), value.clone());
        self.open.push(Change::Append { store: index.0, key: Arc::clone(&key), value, timestamp });
        if !self.savepoints.is_empty() {
            self.undo.push(Undo::Append { store: index.0, key, before });
        }
        Ok(())
    }

    /// Closes the open generation and hands its writes to `sink`: changelog key, changelog value (none deletes), time. Each
    /// changed key once with its last value, in order of first change; every write of an `Append` store; a row schema before
    /// the first row that needs it. The next generation is open at once, and this one stays readable.
    ///
    /// Panics when a sealed generation is not confirmed or aborted yet, or a savepoint is open: the commit would mix records.
    ///
    /// # Errors
    /// [`Error::RowInvalid`]; nothing was handed out and the generation is still open.
    pub fn seal(&mut self, sink: &mut SealSink<'_>) -> Result<(), Error> {
        assert!(self.sealed.is_none(), "at most one generation waits for its commit");
        assert!(self.savepoints.is_empty(), "a generation ends between records");
        let mut writes = Vec::with_capacity(self.open.len());
        for change in &self.open {
            writes.push(match change {
                Change::Entry(slot) => {
                    self.cache.slot(*slot).write(*slot, &mut self.stores, self.latest, &mut self.scratch)?
                }
                Change::Append { store, key, value, timestamp } => Write {
                    store: *store,
                    slot: None,
                    key: Arc::clone(key),
                    value: value.clone(),
                    timestamp: *timestamp,
                },
            });
        }
        let mut changelog_key = Vec::new();
        for (place, write) in writes.iter().enumerate() {
            let codec = &mut self.stores[usize::from(write.store)].codec;
            let mut hand_out = |kind: KeyKind, key: &[u8], value: Option<&[u8]>| {
                changelog_key.clear();
                changelog_key.push(kind.byte());
                changelog_key.extend_from_slice(key);
                self.stats.changelog_rows += 1;
                self.stats.changelog_bytes += (changelog_key.len() + value.map_or(0, <[u8]>::len)) as u64;
                sink(StoreIndex(write.store), &changelog_key, value, write.timestamp);
            };
            if write.value.is_some()
                && let Some((number, schema)) = codec.unannounced()
            {
                hand_out(KeyKind::Schema, &number, Some(&schema));
                codec.announce(Announced::No, Announced::Sealed);
            }
            if planted::is(Mistake::ChangelogRowLost) && place > 0 && place + 1 == writes.len() {
                continue;
            }
            hand_out(KeyKind::Row, &write.key, write.value.as_deref());
        }
        for store in &mut self.stores {
            store.appended_sealed = std::mem::take(&mut store.appended);
        }
        self.open.clear();
        self.open.shrink_to(KEPT_ENTRIES);
        self.sealed = Some(writes);
        self.generation += 1;
        self.stats.sealed_bytes = std::mem::take(&mut self.stats.open_bytes);
        self.note_levels();
        Ok(())
    }

    /// The sealed generation is committed: its rows are from here on what a query sees, and wait for the backend together
    /// with the next changelog offset of each store that was written and the task's meta.
    ///
    /// Panics without a sealed generation, or when a store was written whose offset is not given: a store would claim a
    /// position that its rows do not have.
    pub fn confirm(&mut self, positions: &[(StoreIndex, Offset)], meta: &[u8]) {
        let writes = self.sealed.take().expect("a generation is confirmed after it was sealed");
        for (index, offset) in positions {
            self.stores[index.index()].facts.offset = Some(*offset);
        }
        self.settled =
            if planted::is(Mistake::NextGenerationConfirmed) { self.generation } else { self.generation - 1 };
        for write in writes {
            let store = &mut self.stores[usize::from(write.store)];
            let told = positions.iter().any(|(index, _)| index.0 == write.store);
            assert!(told, "store `{}` was written, so its changelog has a new end", store.spec.name);
            if let Some(slot) = write.slot
                && store.spec.access == Access::Ordered
                && self.cache.slot(slot).dirty <= self.settled
            {
                store.uncommitted.remove(&write.key);
            }
            store.committed.insert(write.key, write.value);
        }
        for store in &mut self.stores {
            store.appended_sealed.clear();
            store.codec.announce(Announced::Sealed, Announced::Committed);
        }
        self.meta = Some(meta.to_vec());
        self.behind.meta_changed = true;
        self.stats.sealed_bytes = 0;
        self.stats.cache_evictions += self.cache.evict_all(self.settled);
        self.note_levels();
    }

    /// Drops the sealed and the open generation with their cache entries. What was committed stays.
    pub fn abort(&mut self) {
        self.savepoints.clear();
        self.undo.clear();
        let sealed = self.sealed.take().unwrap_or_default();
        let open = self.open.drain(..).filter_map(|change| match change {
            Change::Entry(slot) => Some(slot),
            Change::Append { .. } => None,
        });
        for slot in sealed.into_iter().filter_map(|write| write.slot).chain(open) {
            if !planted::is(Mistake::RowsNotRewound) {
                self.cache.remove(slot);
            }
        }
        for store in &mut self.stores {
            store.uncommitted.clear();
            store.appended.clear();
            store.appended_sealed.clear();
            store.codec.announce(Announced::Sealed, Announced::No);
        }
        self.settled = self.generation;
        self.generation += 1;
        (self.stats.open_bytes, self.stats.sealed_bytes) = (0, 0);
        self.note_levels();
    }

    /// Tells whether a sealed generation waits for its commit.
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Tells whether the open generation changed anything.
    pub fn is_dirty(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns the row of a key as it was committed last.
    ///
    /// # Errors
    /// As [`TaskStores::get`].
    pub fn get_committed(&self, index: StoreIndex, key: &[u8]) -> Result<Option<Row>, Error> {
        if let Some(slot) = self.cache.find(index.0, key)
            && self.cache.slot(slot).dirty <= self.settled
        {
            return Ok(self.cache.slot(slot).row.clone());
        }
        self.stores[index.index()].get_committed(&*self.backend, key)
    }

    /// Returns the task's meta as it was committed last.
    pub fn committed_meta(&self) -> Option<&[u8]> {
        self.meta.as_deref()
    }

    /// Returns how far a store has folded its changelog, committed overlay included; none for a store that never did.
    pub fn position(&self, index: StoreIndex) -> Option<ChangelogPosition> {
        let facts = &self.stores[index.index()].facts;
        facts.offset.map(|offset| ChangelogPosition { topic_id: facts.topic_id.clone(), offset })
    }

    /// Says where the changelog ends before anything is restored.
    pub fn set_changelog_end(&mut self, index: StoreIndex, end: Offset) {
        self.stores[index.index()].changelog_end = end;
    }

    /// Returns where the store's next row is to stand in its changelog, once it is restored.
    pub fn next_offset(&self, index: StoreIndex) -> Offset {
        let store = &self.stores[index.index()];
        store.facts.offset.unwrap_or(store.changelog_end)
    }

    /// Returns the wall clock of the last moment at which the store was known to be complete up to its position; what
    /// [`RestoreFacts::last_durable`](crate::store::restore::RestoreFacts) asks for after a start.
    pub fn last_durable(&self, index: StoreIndex) -> Option<Timestamp> {
        self.stores[index.index()].facts.durable_at
    }

    /// Says which incarnation of the changelog topic the position counts in; kept with the next write to the backend.
    pub fn set_topic_id(&mut self, index: StoreIndex, topic_id: Option<String>) {
        let facts = &mut self.stores[index.index()].facts;
        if facts.topic_id != topic_id {
            facts.topic_id = topic_id;
            self.behind.meta_changed = true;
        }
    }

    /// Says what the changelog takes: `max.message.bytes` less the batch's overhead. A larger row is refused at the write.
    pub fn set_row_bytes_max(&mut self, index: StoreIndex, bytes: usize) {
        self.stores[index.index()].row_bytes_max = bytes;
    }

    /// Returns the number of stores.
    pub fn len(&self) -> usize {
        self.stores.len()
    }

    /// Tells whether the task has no stores.
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Returns what a store was opened with.
    pub fn spec(&self, index: StoreIndex) -> &StoreSpec {
        &self.stores[index.index()].spec
    }

    /// Returns the counters; gauges of cache and overlay are those of the last seal, confirm, abort or write.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns one store's counters.
    pub fn counters(&self, index: StoreIndex) -> &StoreCounters {
        &self.stores[index.index()].counters
    }

    /// Visits what a store has at rest, as changelog keys and values, upwards.
    ///
    /// # Errors
    /// The backend's.
    pub fn scan_at_rest(&self, index: StoreIndex, visit: &mut Visit<'_>) -> Result<(), Error> {
        let prefix = self.stores[index.index()].facts.prefix;
        let (from, to) = (prefix.to_be_bytes(), (prefix + 1).to_be_bytes());
        self.backend.scan(&from, Some(&to), &mut |key, value| visit(&key[from.len()..], value))
    }

    /// Returns the engine below.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub(super) fn committed_bytes(&self) -> u64 {
        self.stores.iter().map(|store| store.committed.size_bytes() as u64).sum()
    }
}

/// Takes what a sealed generation hands out: store, changelog key, changelog value (none deletes), time.
pub type SealSink<'a> = dyn FnMut(StoreIndex, &[u8], Option<&[u8]>, Timestamp) + 'a;

impl Store {
    fn open(spec: &StoreSpec, facts: StoreFacts, backend: &dyn Backend) -> Result<Self, Error> {
        let mut codec = RowCodec::new(&spec.name, &spec.row);
        learn_schemas(&mut codec, facts.prefix, backend)?;
        Ok(Self {
            spec: spec.clone(),
            codec,
            facts,
            changelog_end: Offset(0),
            committed: Committed::new(spec.access),
            uncommitted: BTreeMap::new(),
            appended: BTreeMap::new(),
            appended_sealed: BTreeMap::new(),
            row_bytes_max: ROW_BYTES_MAX,
            counters: StoreCounters::default(),
        })
    }

    /// Refuses a row that would fail the commit of everybody: too large, or not of this store's shape.
    pub(super) fn check(&mut self, key: &[u8], row: &Row, scratch: &mut Vec<u8>) -> Result<(), Error> {
        let width = self.codec.width();
        if row.fields.len() != width && !row.fields.is_empty() {
            let message = format!("{} values for {width} fields", row.fields.len());
            return Err(Error::RowInvalid { store: Arc::clone(&self.spec.name), source: message.into() });
        }
        // Encoded, a value takes at most a twelfth more than decoded (text that is just short enough to be inline), so small
        // rows are not measured.
        let decoded_bytes = key.len() + row.size_bytes();
        if decoded_bytes + decoded_bytes / 8 <= self.row_bytes_max {
            return Ok(());
        }
        let size_bytes = 1 + key.len() + encoded(&mut self.codec, row, scratch)?.len();
        if size_bytes <= self.row_bytes_max {
            return Ok(());
        }
        Err(Error::RowTooLarge { store: Arc::clone(&self.spec.name), size_bytes, max_bytes: self.row_bytes_max })
    }

    pub(super) fn get_committed(&self, backend: &dyn Backend, key: &[u8]) -> Result<Option<Row>, Error> {
        if let Some(encoded) = self.committed.get(key) {
            return encoded.as_deref().map(|bytes| self.codec.decode(bytes)).transpose();
        }
        let encoded = backend.get(&self.at_rest(key))?;
        encoded.map(|bytes| self.codec.decode(&bytes)).transpose()
    }

    /// Returns the key under which a row is at rest.
    pub(super) fn at_rest(&self, key: &[u8]) -> Vec<u8> {
        [&self.row_prefix()[..], key].concat()
    }

    /// Returns what the keys of all rows at rest begin with.
    pub(super) fn row_prefix(&self) -> [u8; 5] {
        prefixed(self.facts.prefix, KeyKind::Row)
    }
}

impl crate::store::cache::Slot {
    fn write(&self, slot: u32, stores: &mut [Store], latest: Timestamp, scratch: &mut Vec<u8>) -> Result<Write, Error> {
        let value = match &self.row {
            Some(row) => Some(encoded(&mut stores[usize::from(self.store)].codec, row, scratch)?),
            None => None,
        };
        let timestamp = self.row.as_ref().map_or_else(|| deletion_time(latest), |row| row.timestamp);
        Ok(Write { store: self.store, slot: Some(slot), key: Arc::clone(&self.key), value, timestamp })
    }
}

/// Reads the row schemas that a store has at rest.
pub(super) fn learn_schemas(codec: &mut RowCodec, prefix: u32, backend: &dyn Backend) -> Result<(), Error> {
    let from = prefixed(prefix, KeyKind::Schema);
    let to = (prefix + 1).to_be_bytes();
    let mut rows = Vec::new();
    backend.scan(&from, Some(&to), &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    })?;
    rows.iter().try_for_each(|(key, value)| codec.learn(&key[from.len()..], value))
}

/// Returns a store's prefix and a kind: what its keys at rest begin with.
pub(super) fn prefixed(prefix: u32, kind: KeyKind) -> [u8; 5] {
    let [a, b, c, d] = prefix.to_be_bytes();
    [a, b, c, d, kind.byte()]
}

fn encoded(codec: &mut RowCodec, row: &Row, scratch: &mut Vec<u8>) -> Result<Arc<[u8]>, Error> {
    scratch.clear();
    codec.encode(row, scratch)?;
    Ok(Arc::from(scratch.as_slice()))
}

/// A deletion has no time of its own; brokers want one that is not negative.
fn deletion_time(latest: Timestamp) -> Timestamp {
    latest.max(Timestamp(0))
}
