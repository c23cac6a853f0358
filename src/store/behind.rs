//! The backend's side: committed rows are written behind the commit in sorted batches, changelogs are folded in at a restore,
//! stores that are not to be believed are set aside.
//!
//! Invariant: each write to the backend carries, beside the rows, the changelog positions that these rows amount to.

use std::ops::ControlFlow;

use crate::base::ids::Offset;
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::limits::{
    BACKGROUND_CHECK_MS, BULK_RECORDS_MAX, DURABLE_MARK_MS_MAX, FLUSH_DISTANCE_BYTES_MAX, FLUSH_DISTANCE_MS_MAX,
    RESTORE_FLUSH_MS, WRITE_BEHIND_MS_MAX,
};
use crate::planted::{self, Mistake};
use crate::store::format::{self, Announced, StoreFacts};
use crate::store::keys::KeyKind;
use crate::store::stores::{Store, prefixed};
use crate::store::{Batch, Error, SetAsideReason, StoreIndex, TaskStores};

/// What one call of [`TaskStores::write_behind`] did, and how far the backend is behind after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    pub bytes: u64,
    /// A flush was started (or, when forced, finished).
    pub flushed: bool,
    /// Committed bytes that are not in the backend.
    pub overlay_bytes: u64,
    /// Bytes in the backend since the last flush.
    pub unflushed_bytes: u64,
    /// Milliseconds since the oldest change that is not flushed.
    pub unflushed_ms: i64,
}

/// When the backend was written and flushed.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Positions, topic ids or the task's meta have changed since the last write.
    pub(super) meta_changed: bool,
    /// Since when something waits to be written, as seen by `write_behind`.
    waiting_since: Option<Timestamp>,
    /// Since when something is written and not flushed.
    unflushed_since: Option<Timestamp>,
    last_mark: Option<Timestamp>,
    /// When what runs in the background was looked at last.
    last_check: Option<Timestamp>,
    /// The backend is being loaded in bulk, and sorts what it is given.
    in_bulk: bool,
}

impl Behind {
    /// A clock that was put back is counted from: what waits must not wait until it has caught up.
    fn clock_is(&mut self, now: Timestamp) {
        for since in [&mut self.waiting_since, &mut self.unflushed_since, &mut self.last_mark].into_iter().flatten() {
            *since = (*since).min(now);
        }
    }
}

impl TaskStores {
    /// Writes the committed rows to the backend in one sorted batch, with positions and meta, when enough of them or enough
    /// time has gathered; starts a flush when the distance to the last one is too large. `force` does both now and waits for
    /// the flush: at a close. `now` is the wall clock.
    ///
    /// While nothing is to be written it marks, now and then, that the stores are still complete. So it may be called only by
    /// the owner of the task, after every restore has ended.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; the rows stay where they were.
    pub fn write_behind(&mut self, now: Timestamp, force: bool) -> Result<Written, Error> {
        let last_check = *self.behind.last_check.get_or_insert(now);
        if now.0 - last_check.0 >= BACKGROUND_CHECK_MS {
            self.behind.last_check = Some(now);
            self.backend.check()?;
        }
        let mut written = Written::default();
        let overlay_bytes = self.committed_bytes();
        self.behind.clock_is(now);
        let mark = *self.behind.last_mark.get_or_insert(now);
        if overlay_bytes > 0 || self.behind.meta_changed {
            let since = *self.behind.waiting_since.get_or_insert(now);
            if force || overlay_bytes >= self.write_behind_bytes as u64 || now.0 - since.0 >= WRITE_BEHIND_MS_MAX {
                (written.rows, written.bytes) = self.write_committed(Some(now))?;
            }
        } else if force || now.0 - mark.0 >= DURABLE_MARK_MS_MAX {
            (written.rows, written.bytes) = self.write_committed(Some(now))?;
        }
        let distance = self.stats.unflushed_bytes;
        if distance > 0 {
            self.behind.unflushed_since.get_or_insert(now);
        }
        let since_ms = self.behind.unflushed_since.map_or(0, |since| now.0 - since.0);
        if force {
            self.backend.flush()?;
        } else if distance >= FLUSH_DISTANCE_BYTES_MAX || since_ms >= FLUSH_DISTANCE_MS_MAX {
            self.backend.start_flush()?;
        } else {
            return Ok(self.distances(written, now));
        }
        written.flushed = true;
        self.flushed(now);
        Ok(self.distances(written, now))
    }

    /// Returns what a crash would have to read again from the changelogs: bytes, and the age of the oldest of them in
    /// milliseconds.
    pub fn unflushed(&self, now: Timestamp) -> (u64, i64) {
        let distances = self.distances(Written::default(), now);
        (distances.overlay_bytes + distances.unflushed_bytes, distances.unflushed_ms)
    }

    fn distances(&self, mut written: Written, now: Timestamp) -> Written {
        let oldest = [self.behind.unflushed_since, self.behind.waiting_since].into_iter().flatten().min();
        written.overlay_bytes = self.committed_bytes();
        written.unflushed_bytes = self.stats.unflushed_bytes;
        written.unflushed_ms = oldest.map_or(0, |since| now.0 - since.0);
        written
    }

    fn flushed(&mut self, now: Timestamp) {
        self.stats.flushes += 1;
        self.stats.unflushed_bytes = 0;
        self.stats.last_flush = Some(now);
        self.behind.unflushed_since = None;
    }

    /// Writes what is committed; with `complete_at`, marks that the stores are complete at that time.
    fn write_committed(&mut self, complete_at: Option<Timestamp>) -> Result<(u64, u64), Error> {
        let mark = |facts: &StoreFacts| facts.offset.and(complete_at).or(facts.durable_at);
        let mut batch = Batch::default();
        let mut order: Vec<&Store> = self.stores.iter().collect();
        order.sort_unstable_by_key(|store| store.facts.prefix);
        let mut rows = 0;
        for store in order {
            let head = store.row_prefix();
            for (key, encoded) in store.committed.range(&[], None) {
                if rows == 0 && planted::is(Mistake::RowAtRestLost) {
                    rows += 1;
                    continue;
                }
                match encoded {
                    Some(value) => batch.put(&[&head, key], value),
                    None => batch.delete(&[&head, key]),
                }
                rows += 1;
            }
            if let Some((number, schema)) = store.codec.unwritten() {
                batch.put(&[&prefixed(store.facts.prefix, KeyKind::Schema), &number], &schema);
            }
            let mut facts = store.facts.clone();
            facts.durable_at = mark(&facts);
            batch.put_meta(&format::store_key(&store.spec.name), &facts.encode());
        }
        if let Some(meta) = &self.meta {
            batch.put_meta(format::META_TASK, meta);
        }
        self.backend.write(&batch)?;
        for store in &mut self.stores {
            store.committed.clear();
            store.codec.announce(Announced::Committed, Announced::AtRest);
            store.facts.durable_at = mark(&store.facts);
        }
        self.behind.meta_changed = false;
        // The oldest row of this batch waited since then, and is no more durable than before.
        let since = self.behind.waiting_since.take().or(complete_at);
        self.behind.unflushed_since = self.behind.unflushed_since.or(since);
        self.behind.last_mark = complete_at.or(self.behind.last_mark);
        self.note_written(&batch, rows);
        self.note_levels();
        Ok((rows, batch.size_bytes() as u64))
    }

    fn note_written(&mut self, batch: &Batch, rows: u64) {
        self.stats.written_rows += rows;
        self.stats.written_bytes += batch.size_bytes() as u64;
        self.stats.unflushed_bytes += batch.size_bytes() as u64;
    }

    /// Says that a restore begins. A store that is restored from the start counts its age from here: tombstones that are
    /// compacted away from now on are missed if the restore is interrupted and goes on too late.
    pub fn begin_restore(&mut self, index: StoreIndex, now: Timestamp) {
        let facts = &mut self.stores[index.index()].facts;
        if facts.offset.is_none() {
            facts.durable_at = Some(now);
        }
    }

    /// Says that a long restore begins, or that it is over.
    ///
    /// # Errors
    /// The backend's.
    pub fn load_in_bulk(&mut self, on: bool) -> Result<(), Error> {
        self.backend.load_in_bulk(on)?;
        self.behind.in_bulk = on;
        Ok(())
    }

    /// Folds changelog records into the backend, with the offset behind them in the same write, so that an interrupted
    /// restore goes on from where it stood. Nothing of the store may be uncommitted. `now` is the wall clock.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] and [`Error::Corrupt`] for a record that is no changelog record; it is not applied, nor what comes behind it.
    pub fn restore_batch(
        &mut self,
        index: StoreIndex,
        records: &[Record],
        next: Offset,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.committed_bytes() > 0 {
            // Older rows must not lie over newer ones. The marks of completeness stay as they were.
            self.write_committed(None)?;
        }
        if !planted::is(Mistake::CacheOutlivesRestore) {
            self.cache.remove_store(index.0, self.settled);
        }
        self.stores[index.index()].codec.withdraw();
        let most = if self.behind.in_bulk { BULK_RECORDS_MAX } else { records.len() };
        let mut rest = records;
        while rest.len() > most {
            let (some, others) = rest.split_at(most);
            self.fold(index, some, others[0].offset)?;
            rest = others;
        }
        self.fold(index, rest, next)?;
        self.flush_restored(now)
    }

    /// Writes what records come to, and that all up to `next` are in it.
    fn fold(&mut self, index: StoreIndex, records: &[Record], next: Offset) -> Result<(), Error> {
        let store = &mut self.stores[index.index()];
        let mut sorted: Vec<(&[u8], &Record)> = Vec::with_capacity(records.len());
        for record in records {
            let key = record.key.as_deref().unwrap_or_default();
            let (kind, rest) = KeyKind::split(key)?;
            match (kind, &record.value) {
                (KeyKind::Schema, Some(value)) => store.codec.learn(rest, value)?,
                (KeyKind::Row, Some(value)) => {
                    format::split_row(value)?;
                }
                (KeyKind::Schema | KeyKind::Row, None) => {}
            }
            sorted.push((key, record));
        }
        if !self.behind.in_bulk {
            sorted.sort_by_key(|(key, _)| *key);
        }
        let prefix = store.facts.prefix.to_be_bytes();
        let mut batch = Batch::default();
        for (place, (key, record)) in sorted.iter().enumerate() {
            // The sort is stable: of equal keys beside each other the last one is the newest.
            if sorted.get(place + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            match &record.value {
                Some(value) => batch.put(&[&prefix, key], value),
                None if planted::is(Mistake::RestoredDeletionLost) => {}
                None => batch.delete(&[&prefix, key]),
            }
        }
        let mut facts = store.facts.clone();
        facts.offset = Some(next);
        batch.put_meta(&format::store_key(&store.spec.name), &facts.encode());
        self.backend.write(&batch)?;
        store.facts = facts;
        self.stores[index.index()].counters.restored_records += records.len() as u64;
        self.note_written(&batch, sorted.len() as u64);
        Ok(())
    }

    /// Flushes now and then while changelogs are folded in: from there an interrupted restore goes on.
    ///
    /// # Errors
    /// The backend's.
    pub fn flush_restored(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.stats.unflushed_bytes == 0 {
            return Ok(());
        }
        self.behind.clock_is(now);
        let since = *self.behind.unflushed_since.get_or_insert(now);
        if self.stats.unflushed_bytes >= FLUSH_DISTANCE_BYTES_MAX || now.0 - since.0 >= RESTORE_FLUSH_MS {
            self.backend.start_flush()?;
            self.flushed(now);
        }
        Ok(())
    }

    /// Writes out what a restore that is not at its end has come to, without a mark that the stores are complete.
    ///
    /// # Errors
    /// The backend's.
    pub fn flush_incomplete(&mut self, now: Timestamp) -> Result<(), Error> {
        self.backend.flush()?;
        self.flushed(now);
        Ok(())
    }

    /// Looks for rows that the row schemas of today cannot take over: after a restore, before the first record. Rows are looked at
    /// only where a schema is known that does not fit: all that it was used for may have been replaced. What is not at rest was
    /// written by this process, and fits.
    ///
    /// # Errors
    /// [`Error::RowUnreadable`] for the first such row; the backend's.
    pub fn check_rows(&self) -> Result<(), Error> {
        for store in &self.stores {
            let mut unreadable = store.codec.unreadable();
            if unreadable.is_empty() {
                continue;
            }
            let (from, to) = (store.row_prefix(), prefixed(store.facts.prefix, KeyKind::Schema));
            let mut found = None;
            self.backend.scan(&from, Some(&to), &mut |_, value| {
                let number = format::split_row(value).ok().map(|(_, number, _)| number);
                match unreadable.iter().position(|(known, _)| Some(*known) == number) {
                    Some(place) => {
                        found = Some(unreadable.swap_remove(place).1);
                        ControlFlow::Break(())
                    }
                    None => ControlFlow::Continue(()),
                }
            })?;
            if let Some(error) = found {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the task's meta from its topic.
    ///
    /// # Errors
    /// The backend's.
    pub fn restore_meta(&mut self, meta: &[u8]) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.put_meta(format::META_TASK, meta);
        self.backend.write(&batch)?;
        self.meta = Some(meta.to_vec());
        Ok(())
    }

    /// Empties a store by giving it a new prefix. The old rows stay under the old one until [`TaskStores::trim_set_aside`].
    /// Panics when the store has uncommitted rows.
    ///
    /// # Errors
    /// The backend's.
    pub fn set_aside(&mut self, index: StoreIndex, reason: SetAsideReason) -> Result<(), Error> {
        self.cache.remove_store(index.0, self.settled);
        let store = &mut self.stores[index.index()];
        assert!(
            store.appended.is_empty() && store.appended_sealed.is_empty(),
            "a store with uncommitted rows is not set aside"
        );
        let mut facts = store.facts.clone();
        (facts.prefix, facts.offset, facts.durable_at, facts.topic_id) = (self.next_prefix, None, None, None);
        let mut batch = Batch::default();
        batch.put_meta(&format::aside_key(store.facts.prefix), &format::aside_value(reason, &store.spec.name));
        batch.put_meta(&format::store_key(&store.spec.name), &facts.encode());
        batch.put_meta(format::META_NEXT_PREFIX, &(self.next_prefix + 1).to_be_bytes());
        self.backend.write(&batch)?;
        self.next_prefix += 1;
        store.facts = facts;
        store.committed.clear();
        store.codec.forget();
        self.stores[index.index()].counters.set_aside[reason.index()] += 1;
        self.note_levels();
        Ok(())
    }

    /// Counts that the whole of the task's state was set aside before it was opened.
    pub fn note_set_aside(&mut self, reason: SetAsideReason) {
        for store in &mut self.stores {
            store.counters.set_aside[reason.index()] += 1;
        }
    }

    /// Returns what was set aside and is still there, oldest first: store name and reason.
    ///
    /// # Errors
    /// The backend's.
    pub fn list_set_aside(&self) -> Result<Vec<(String, String)>, Error> {
        let kept = self.kept_aside()?;
        Ok(kept.into_iter().map(|(_, name, reason)| (name, reason)).collect())
    }

    /// Deletes rows that were set aside, except the newest `keep` of each store.
    ///
    /// # Errors
    /// The backend's.
    pub fn trim_set_aside(&mut self, keep: usize) -> Result<(), Error> {
        let kept = self.kept_aside()?;
        let mut batch = Batch::default();
        for (place, (prefix, name, _)) in kept.iter().enumerate() {
            let newer = kept[place + 1..].iter().filter(|(_, other, _)| other == name).count();
            if newer >= keep {
                batch.delete_range(&prefix.to_be_bytes(), &(prefix + 1).to_be_bytes());
                batch.delete_meta(&format::aside_key(*prefix));
            }
        }
        if batch.is_empty() { Ok(()) } else { self.backend.write(&batch) }
    }

    /// Prefix, store name and reason of what was set aside; prefixes grow, so this is from old to new.
    fn kept_aside(&self) -> Result<Vec<(u32, String, String)>, Error> {
        let mut kept = Vec::new();
        let mut damaged = false;
        self.backend.scan_meta(format::META_ASIDE, &mut |key, value| {
            let prefix = format::read_u32(&key[format::META_ASIDE.len()..]);
            match (prefix, format::split_aside(value)) {
                (Some(prefix), Some((reason, name))) => kept.push((prefix, name.to_owned(), reason.to_owned())),
                (None, _) | (_, None) => damaged = true,
            }
            ControlFlow::Continue(())
        })?;
        if damaged {
            return Err(Error::Corrupt { message: "what is kept about rows set aside cannot be read".to_owned() });
        }
        Ok(kept)
    }
}
