//! The backend that keeps state on disk: one RocksDB per task folder. The one file that names `rocksdb`.
//!
//! The write-ahead log is off: the changelog is the log. Both families flush atomically, so whatever a crash leaves is a whole
//! prefix of the writes. Block cache and memtable memory are shared by all tasks of the process and sized once.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rocksdb::properties;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, ErrorKind, FlushOptions,
    IngestExternalFileOptions, Options, ReadOptions, SstFileWriter, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::limits::{
    ROCKS_IDLE_LOOKS_MAX, ROCKS_MEMTABLE_BYTES_MAX, ROCKS_MEMTABLE_BYTES_MIN, ROCKS_OPEN_FILES_MAX, ROCKS_RUN_BYTES_MAX,
};
use crate::store::backend::Visit;
use crate::store::run::Run;
use crate::store::{Backend, BackendNumbers, Backends, Batch, BatchOp, Error};

const DATA: &str = "data";
const META: &str = "meta";

/// The file of a run until RocksDB has taken it over; what a crash left of one goes when the folder is opened.
const RUN: &str = "run.new";

/// Bits per key of the bloom filter: about one false positive in a hundred.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Share of a memtable that its bloom filter takes.
const MEMTABLE_BLOOM_RATIO: f64 = 0.05;

/// Memory that all tasks of a process share. Cheap to clone.
#[derive(Clone)]
pub struct RocksShared {
    cache: Cache,
    memtables: WriteBufferManager,
    /// Bytes of one memtable.
    memtable_bytes: usize,
    /// Bytes of all of it.
    budget_bytes: usize,
    /// Databases that are being loaded in bulk.
    loads: Arc<AtomicUsize>,
}

impl RocksShared {
    /// Divides `budget_bytes`: memtables take up to half, charged to the block cache, whose blocks get the rest.
    pub fn new(budget_bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(budget_bytes);
        let memtables = WriteBufferManager::new_write_buffer_manager_with_cache(budget_bytes / 2, false, cache.clone());
        let memtable_bytes = (budget_bytes / 16).clamp(ROCKS_MEMTABLE_BYTES_MIN, ROCKS_MEMTABLE_BYTES_MAX);
        Self { cache, memtables, memtable_bytes, budget_bytes, loads: Arc::default() }
    }

    /// Returns the bytes at which a run is handed over.
    fn run_bytes(&self) -> usize {
        let loads = self.loads.load(Ordering::Relaxed).max(1);
        (self.budget_bytes / 2 / loads).clamp(ROCKS_MEMTABLE_BYTES_MIN, ROCKS_RUN_BYTES_MAX)
    }

    /// Returns the bytes of the block cache in use, memtables included.
    pub fn cache_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// Returns the bytes of all memtables.
    pub fn memtable_bytes(&self) -> usize {
        self.memtables.get_usage()
    }
}

impl fmt::Debug for RocksShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksShared").field("cache_bytes", &self.cache_bytes()).finish_non_exhaustive()
    }
}

/// The task folders of an application, `<root>/<task>/`.
#[derive(Debug)]
pub struct RocksBackends {
    root: PathBuf,
    shared: RocksShared,
}

impl RocksBackends {
    /// Takes the folder that holds the tasks' folders, and the memory that they share.
    pub fn new(root: PathBuf, shared: RocksShared) -> Self {
        Self { root, shared }
    }
}

impl Backends for RocksBackends {
    fn open(&self, folder: &str) -> Result<Box<dyn Backend>, Error> {
        Ok(Box::new(RocksBackend::open(&self.root.join(folder), &self.shared)?))
    }

    fn memory_bytes(&self) -> (usize, usize) {
        (self.shared.cache_bytes(), self.shared.memtable_bytes())
    }
}

/// Flushed files that are merged with the level below when there are so many, RocksDB's default. Each such merge rewrites that level, so that
/// in bulk there may be more; at 20 writes would be slowed down.
const LEVEL0_FILES: &str = "4";
const LEVEL0_FILES_IN_BULK: &str = "16";

/// Files at the first level at which RocksDB slows writes down, its default.
const LEVEL0_FILES_MAX: i32 = 20;

/// How long until it is looked again whether merges have made room.
const MERGES_LOOK: Duration = Duration::from_millis(10);

/// A task's folder, open.
pub struct RocksBackend {
    db: DB,
    path: PathBuf,
    shared: RocksShared,
    write: WriteOptions,
    bulk: Option<Bulk>,
}

/// A load in bulk: what is written is gathered, and handed over as a file of sorted rows that RocksDB takes in as it is.
struct Bulk {
    run: Run,
    shared: RocksShared,
}

impl Bulk {
    /// While there are loads, runs have half of what the block cache and memtables have otherwise.
    fn begin(shared: &RocksShared) -> Self {
        let mut shared = shared.clone();
        if shared.loads.fetch_add(1, Ordering::Relaxed) == 0 {
            shared.cache.set_capacity(shared.budget_bytes / 2);
        }
        Self { run: Run::default(), shared }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if self.shared.loads.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shared.cache.set_capacity(self.shared.budget_bytes);
        }
    }
}

impl RocksBackend {
    /// Opens a task's folder, making it if there is none. The folder is locked until the backend is dropped, which flushes it.
    ///
    /// # Errors
    /// [`Error::Locked`] when a process (this one included) has it open, [`Error::Corrupt`], [`Error::Io`].
    pub fn open(path: &Path, shared: &RocksShared) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|error| Error::Io { message: format!("{}: {error}", path.display()) })?;
        let options = options(shared);
        let mut meta = options.clone();
        meta.set_write_buffer_size(ROCKS_MEMTABLE_BYTES_MIN);
        meta.set_memtable_prefix_bloom_ratio(0.0);
        let families = [ColumnFamilyDescriptor::new(DATA, options.clone()), ColumnFamilyDescriptor::new(META, meta)];
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|error| convert(&error, path))?;
        // Not before the folder is locked: it may be somebody's.
        fs::remove_file(path.join(RUN)).unwrap_or_default();
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(Self { db, path: path.to_owned(), shared: shared.clone(), write, bulk: None })
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("both families are opened with the database")
    }

    fn convert(&self, error: &rocksdb::Error) -> Error {
        convert(error, &self.path)
    }

    fn number(&self, property: &properties::PropName) -> u64 {
        self.db.property_int_value_cf(self.family(DATA), property).ok().flatten().unwrap_or(0)
    }

    /// RocksDB counts those of the whole database with the default family.
    fn background_errors(&self) -> u64 {
        self.db.property_int_value(properties::BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
    }

    fn get_from(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.db.get_cf(self.family(family), key).map_err(|error| self.convert(&error))
    }

    fn run(
        &self,
        family: &str,
        from: &[u8],
        to: Option<&[u8]>,
        upwards: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(from);
        if let Some(to) = to {
            read.set_iterate_upper_bound(to);
        }
        read.set_auto_readahead_size(true);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(family), read);
        if upwards {
            entries.seek_to_first()
        } else {
            entries.seek_to_last()
        }
        while let Some((key, value)) = entries.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            if upwards { entries.next() } else { entries.prev() }
        }
        entries.status().map_err(|error| self.convert(&error))
    }

    /// Takes what was gathered in bulk into the database: the rows, then the facts that hold with them.
    fn hand_over(&mut self) -> Result<(), Error> {
        let Some(bulk) = &mut self.bulk else { return Ok(()) };
        bulk.run.sort();
        let file = self.path.join(RUN);
        ingest(&self.db, &bulk.run, &file, &self.shared).map_err(|error| {
            // A part of a file would keep room that the disk may not have.
            fs::remove_file(&file).unwrap_or_default();
            convert(&error, &self.path)
        })?;
        let facts = bulk.run.facts();
        self.write_now(&facts)?;
        self.bulk.iter_mut().for_each(|bulk| bulk.run.clear());
        Ok(())
    }

    fn write_now(&self, batch: &Batch) -> Result<(), Error> {
        self.await_merges(|backend| backend.number(properties::IS_WRITE_STOPPED) > 0)?;
        let (data, meta) = (self.family(DATA), self.family(META));
        let mut writes = WriteBatch::default();
        for op in batch.iter() {
            match op {
                BatchOp::Put { key, value } => writes.put_cf(data, key, value),
                BatchOp::Delete { key } => writes.delete_cf(data, key),
                BatchOp::DeleteRange { from, to } => writes.delete_range_cf(data, from, to),
                BatchOp::PutMeta { key, value } => writes.put_cf(meta, key, value),
                BatchOp::DeleteMeta { key } => writes.delete_cf(meta, key),
            }
        }
        self.db.write_opt(writes, &self.write).map_err(|error| self.convert(&error))
    }

    /// Waits for merges where RocksDB would wait, though not for those that fail or do not come: while the disk has no room it tries them for
    /// ever, and holds up whoever writes or flushes.
    fn await_merges(&self, stalls: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let (mut before, mut idle) = (None, 0);
        while stalls(self) {
            let failed = self.background_errors();
            idle = if self.number(properties::NUM_RUNNING_COMPACTIONS) > 0 { 0 } else { idle + 1 };
            if failed > *before.get_or_insert(failed) || idle > ROCKS_IDLE_LOOKS_MAX {
                let message = format!("{}: files cannot be merged, as `LOG` there says", self.path.display());
                return Err(Error::Io { message });
            }
            std::thread::park_timeout(MERGES_LOOK);
        }
        Ok(())
    }

    /// Tells whether RocksDB would put a flush off: with another file at the first level writes would be slowed down.
    fn flush_stalls(&self) -> bool {
        let name = properties::num_files_at_level(0);
        let files = |family| self.db.property_value_cf(self.family(family), &name).ok().flatten();
        [DATA, META]
            .into_iter()
            .filter_map(files)
            .any(|files| files.parse().is_ok_and(|files: i32| files + 1 >= LEVEL0_FILES_MAX))
    }

    fn flush_both(&self, wait: bool) -> Result<(), Error> {
        self.await_merges(Self::flush_stalls)?;
        let mut flush = FlushOptions::default();
        flush.set_wait(wait);
        let families = [self.family(DATA), self.family(META)];
        self.db.flush_cfs_opt(&[&families[0], &families[1]], &flush).map_err(|error| self.convert(&error))
    }
}

/// The folder beside the tasks' that holds what was set aside whole, by task and number.
const ASIDE: &str = "set_aside";

/// Moves a task's folder, which nobody has open, to the next number of what was set aside, and deletes all but the newest `keep` of
/// them. Returns where it is now.
///
/// # Errors
/// [`Error::Io`].
pub fn set_folder_aside(application: &Path, task: &str, keep: usize) -> Result<String, Error> {
    let failed = |path: &Path, error: std::io::Error| Error::Io { message: format!("{}: {error}", path.display()) };
    let aside = application.join(ASIDE).join(task);
    fs::create_dir_all(&aside).map_err(|error| failed(&aside, error))?;
    let mut numbers: Vec<u64> = fs::read_dir(&aside)
        .map_err(|error| failed(&aside, error))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    let (from, to) = (application.join(task), aside.join(next.to_string()));
    match fs::rename(&from, &to) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&from, error)),
    }
    numbers.push(next);
    for number in &numbers[..numbers.len().saturating_sub(keep)] {
        let old = aside.join(number.to_string());
        match fs::remove_dir_all(&old) {
            // There was nothing to set aside.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|error| failed(&old, error))?,
        }
    }
    Ok(to.display().to_string())
}

impl fmt::Debug for RocksBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksBackend").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Backend for RocksBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get_from(DATA, key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.run(DATA, from, to, true, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: Option<&[u8]>, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.run(DATA, from, to, false, visit)
    }

    fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.get_from(META, key)
    }

    fn scan_meta(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<(), Error> {
        let end = crate::store::keys::prefix_end(prefix);
        self.run(META, prefix, end.as_deref(), true, visit)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if let Some(bulk) = &mut self.bulk
            && bulk.run.add(batch)
        {
            let full = bulk.run.size_bytes() >= self.shared.run_bytes();
            return if full { self.hand_over() } else { Ok(()) };
        }
        self.hand_over()?;
        self.write_now(batch)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        self.flush_both(true)
    }

    fn start_flush(&mut self) -> Result<(), Error> {
        self.hand_over()?;
        self.flush_both(false)
    }

    fn load_in_bulk(&mut self, on: bool) -> Result<(), Error> {
        if on == self.bulk.is_some() {
            return Ok(());
        }
        self.hand_over()?;
        let files = if on { LEVEL0_FILES_IN_BULK } else { LEVEL0_FILES };
        let option = [("level0_file_num_compaction_trigger", files)];
        self.db.set_options_cf(self.family(DATA), &option).map_err(|error| self.convert(&error))?;
        self.bulk = on.then(|| Bulk::begin(&self.shared));
        Ok(())
    }

    fn check(&mut self) -> Result<(), Error> {
        // The count never goes down. A flush says what is wrong still, and is cheap where there is nothing to write.
        if self.background_errors() > 0 { self.flush_both(true) } else { Ok(()) }
    }

    fn size_bytes(&self) -> u64 {
        self.number(properties::LIVE_SST_FILES_SIZE) + self.number(properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    fn numbers(&self) -> BackendNumbers {
        BackendNumbers {
            live_files_bytes: self.number(properties::LIVE_SST_FILES_SIZE),
            memtable_bytes: self.number(properties::CUR_SIZE_ALL_MEM_TABLES),
            block_cache_bytes: self.shared.cache_bytes() as u64,
            keys_estimate: self.number(properties::ESTIMATE_NUM_KEYS),
            pending_compaction_bytes: self.number(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            running_compactions: self.number(properties::NUM_RUNNING_COMPACTIONS),
            write_stopped: self.number(properties::IS_WRITE_STOPPED) > 0,
            background_errors: self.background_errors(),
        }
    }
}

/// Writes the rows of a sorted run to a file, and has RocksDB move it to its own.
fn ingest(db: &DB, run: &Run, path: &Path, shared: &RocksShared) -> Result<(), rocksdb::Error> {
    if run.has_no_rows() {
        return Ok(());
    }
    let mut options = options(shared);
    // It is soon merged with others, and only what is merged stays.
    options.set_compression_type(DBCompressionType::None);
    let mut file = SstFileWriter::create(&options);
    file.open(path)?;
    run.visit(|key, value| match value {
        Some(value) => file.put(key, value),
        None => file.delete(key),
    })?;
    file.finish()?;
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_move_files(true);
    let data = db.cf_handle(DATA).expect("both families are opened with the database");
    db.ingest_external_file_cf_opts(data, &ingest, vec![path])
}

fn options(shared: &RocksShared) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&shared.cache);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // Inside the budget, but the last to leave it: an index read from disk makes every get two reads.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_write_buffer_manager(&shared.memtables);
    options.set_write_buffer_size(shared.memtable_bytes);
    // Most reads are of keys that are not in the memtable: a filter beside it spares them the walk through its skip list.
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    options.set_memtable_whole_key_filtering(true);
    options.set_max_open_files(ROCKS_OPEN_FILES_MAX);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_level_zero_slowdown_writes_trigger(LEVEL0_FILES_MAX);
    options.set_bytes_per_sync(1024 * 1024);
    options.set_block_based_table_factory(&table);
    // RocksDB's own log: enough to look into an accident, never a disk full of it.
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_stats_dump_period_sec(0);
    options
}

fn convert(error: &rocksdb::Error, path: &Path) -> Error {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        // The C interface hands over text alone; these are the two that RocksDB's lock on the folder gives.
        ErrorKind::IOError
            if message.contains("While lock file") || message.contains("lock hold by current process") =>
        {
            Error::Locked { path: path.display().to_string() }
        }
        ErrorKind::Corruption | ErrorKind::NotSupported | ErrorKind::InvalidArgument | ErrorKind::NotFound => {
            Error::Corrupt { message }
        }
        ErrorKind::IOError
        | ErrorKind::MergeInProgress
        | ErrorKind::Incomplete
        | ErrorKind::ShutdownInProgress
        | ErrorKind::TimedOut
        | ErrorKind::Aborted
        | ErrorKind::Busy
        | ErrorKind::Expired
        | ErrorKind::TryAgain
        | ErrorKind::CompactionTooLarge
        | ErrorKind::ColumnFamilyDropped
        | ErrorKind::Unknown => Error::Io { message },
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn keys(backend: &RocksBackend, from: &[u8], to: Option<&[u8]>, upwards: bool) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        if upwards {
            backend.scan(from, to, &mut visit).unwrap();
        } else {
            backend.scan_reverse(from, to, &mut visit).unwrap();
        }
        keys
    }

    #[test]
    fn ranges_exclude_their_end_in_both_directions() {
        let folder = tempfile::tempdir().unwrap();
        let mut backend = RocksBackend::open(folder.path(), &RocksShared::new(8 << 20)).unwrap();
        let mut batch = Batch::default();
        for key in [&b"a"[..], b"b", b"c", b"d"] {
            batch.put(&[key], b"1");
        }
        batch.delete(&[b"b"]);
        batch.put_meta(b"x/1", b"one");
        batch.put_meta(b"y", b"other");
        backend.write(&batch).unwrap();
        backend.flush().unwrap();
        assert_eq!(keys(&backend, b"a", Some(b"d"), true), [b"a", b"c"]);
        assert_eq!(keys(&backend, b"a", Some(b"d"), false), [b"c", b"a"]);
        assert_eq!(keys(&backend, b"b", None, false), [b"d", b"c"]);
        assert_eq!(keys(&backend, b"d", Some(b"d"), true), Vec::<Vec<u8>>::new());
        assert_eq!(keys(&backend, b"d", Some(b"d"), false), Vec::<Vec<u8>>::new());
        let mut facts = Vec::new();
        backend
            .scan_meta(b"x/", &mut |key, _| {
                facts.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(facts, [b"x/1"]);
        assert!(backend.numbers().live_files_bytes > 0 && backend.size_bytes() > 0);
        let mut batch = Batch::default();
        batch.delete_range(b"a", b"d");
        backend.write(&batch).unwrap();
        assert_eq!(keys(&backend, b"", None, true), [b"d"]);
    }

    #[test]
    fn a_folder_is_open_once() {
        let folder = tempfile::tempdir().unwrap();
        let shared = RocksShared::new(8 << 20);
        let first = RocksBackend::open(folder.path(), &shared).unwrap();
        let second = RocksBackend::open(folder.path(), &shared);
        assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
        drop(first);
        RocksBackend::open(folder.path(), &shared).unwrap();
    }

    /// Writes a row and a fact in bulk.
    fn load(backend: &mut RocksBackend, round: u8) {
        let mut batch = Batch::default();
        batch.put(&[b"key"], &[round]);
        batch.put_meta(b"round", &[round]);
        backend.write(&batch).unwrap();
    }

    #[test]
    fn files_stay_as_they_were_handed_over_while_much_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let mut backend = RocksBackend::open(folder.path(), &RocksShared::new(8 << 20)).unwrap();
        load(&mut backend, 0);
        backend.load_in_bulk(true).unwrap();
        for round in 1..10 {
            load(&mut backend, round);
            backend.flush().unwrap();
        }
        let files = properties::num_files_at_level(0);
        assert_eq!(backend.number(&files), 10);
        load(&mut backend, 10);
        let facts = |backend: &RocksBackend| backend.get_meta(b"round").unwrap();
        assert_eq!(facts(&backend).as_deref(), Some(&[9][..]), "a fact comes with its rows");
        backend.load_in_bulk(false).unwrap();
        backend.db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).unwrap();
        assert_eq!(backend.number(&files), 0, "they are merged when it is over");
        assert_eq!(backend.get(b"key").unwrap().as_deref(), Some(&[10][..]));
        assert_eq!(facts(&backend).as_deref(), Some(&[10][..]));
    }

    #[test]
    fn what_is_loaded_in_bulk_is_kept_as_far_as_it_was_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let shared = RocksShared::new(8 << 20);
        let mut backend = RocksBackend::open(folder.path(), &shared).unwrap();
        backend.load_in_bulk(true).unwrap();
        load(&mut backend, 1);
        let mut batch = Batch::default();
        batch.delete_range(b"a", b"b");
        backend.write(&batch).unwrap();
        load(&mut backend, 2);
        drop(backend);
        // A crash in the middle of a file leaves a part of it.
        fs::write(folder.path().join(RUN), b"a part").unwrap();
        let mut backend = RocksBackend::open(folder.path(), &shared).unwrap();
        assert!(!folder.path().join(RUN).exists());
        assert_eq!(backend.get(b"key").unwrap().as_deref(), Some(&[1][..]));
        backend.load_in_bulk(true).unwrap();
        // More than a run holds.
        for number in 0..200_000_u32 {
            let mut batch = Batch::default();
            batch.put(&[&number.to_be_bytes()], b"twelve bytes");
            batch.put_meta(b"round", &number.to_be_bytes());
            backend.write(&batch).unwrap();
        }
        let handed_over = backend.get_meta(b"round").unwrap().unwrap();
        let handed_over = u32::from_be_bytes(handed_over.try_into().unwrap());
        assert!((10_000..200_000).contains(&handed_over), "{handed_over}");
        assert_eq!(keys(&backend, &[0], Some(b"key"), true).len(), handed_over as usize + 1);
        backend.load_in_bulk(false).unwrap();
        assert_eq!(keys(&backend, &[0], Some(b"key"), true).len(), 200_000);
        assert!(!folder.path().join(RUN).exists());
        assert_eq!(shared.loads.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn damaged_files_are_told_from_missing_ones() {
        let folder = tempfile::tempdir().unwrap();
        let shared = RocksShared::new(8 << 20);
        drop(RocksBackend::open(folder.path(), &shared).unwrap());
        fs::write(folder.path().join("CURRENT"), b"nonsense\n").unwrap();
        let opened = RocksBackend::open(folder.path(), &shared);
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
    }
}
