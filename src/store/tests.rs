use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::memory::MemoryBackend;
use super::rocks::{RocksBackend, RocksShared};
use super::versioned::{Put, Versioned};
use super::*;
use crate::base::record::{Headers, Record};
use crate::base::time::SpanMs;

const STORES: [Access; 3] = [Access::Cached, Access::Ordered, Access::Append];
const COUNTER: &str =
    r#"{"type":"record","name":"Counter","fields":[{"name":"count","type":"long"},{"name":"label","type":"string"}]}"#;

fn specs(schema: &str) -> Vec<StoreSpec> {
    let row = avro::Schema::parse(schema).unwrap();
    let spec = |access: &Access| StoreSpec { name: format!("{access:?}").into(), row: row.clone(), access: *access };
    STORES.iter().map(spec).collect()
}

fn row(count: i64) -> Row {
    Row::new(Timestamp(count), [Value::Int(count), Value::text(format!("label {count}"))])
}

fn count(row: &Row) -> i64 {
    assert_eq!(row, &self::row(row.fields[0].as_int().unwrap()));
    row.timestamp.0
}

/// What a run of operations stands on, and how it fails.
trait Disk: fmt::Debug {
    fn open(&self) -> Box<dyn Backend>;
    /// Called after the stores were dropped. Keeps at least the first `kept` writes since the last flush.
    fn crash(&self, kept: usize);
}

#[derive(Debug)]
struct Memory(MemoryBackend);

impl Disk for Memory {
    fn open(&self) -> Box<dyn Backend> {
        Box::new(self.0.clone())
    }

    fn crash(&self, kept: usize) {
        self.0.crash(kept);
    }
}

/// RocksDB flushes when it is closed, so a crash here is a clean reopening.
#[derive(Debug)]
struct Rocks(PathBuf, RocksShared);

impl Disk for Rocks {
    fn open(&self) -> Box<dyn Backend> {
        Box::new(RocksBackend::open(&self.0, &self.1).unwrap())
    }

    fn crash(&self, _: usize) {}
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Vec<u8>, Option<i64>),
    /// One record's writes, kept or taken back.
    Record(Vec<(usize, Vec<u8>, Option<i64>)>, bool),
    Get(usize, Vec<u8>),
    Range(usize, Vec<u8>, Option<Vec<u8>>),
    Seal,
    Confirm,
    Abort,
    WriteBehind(i64, bool),
    /// Writes kept; whether the open commit had reached the broker; restore batch size; whether the restore is interrupted.
    Crash(usize, bool, usize, bool),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0_u8), Just(7), Just(255)], 0..3)
}

fn write() -> impl Strategy<Value = (usize, Vec<u8>, Option<i64>)> {
    (0..STORES.len(), key(), prop_oneof![3 => (0..1000_i64).prop_map(Some), 1 => Just(None)])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => write().prop_map(|(store, key, value)| Op::Put(store, key, value)),
        3 => (vec(write(), 0..4), any::<bool>()).prop_map(|(writes, keep)| Op::Record(writes, keep)),
        4 => (0..STORES.len(), key()).prop_map(|(store, key)| Op::Get(store, key)),
        3 => (0..STORES.len(), key(), proptest::option::of(key())).prop_map(|(store, from, to)| Op::Range(store, from, to)),
        4 => Just(Op::Seal),
        4 => Just(Op::Confirm),
        1 => Just(Op::Abort),
        2 => (0..9000_i64, any::<bool>()).prop_map(|(ms, force)| Op::WriteBehind(ms, force)),
        1 => (0..4_usize, any::<bool>(), 1..5_usize, any::<bool>())
            .prop_map(|(kept, reached, size, again)| Op::Crash(kept, reached, size, again)),
    ]
}

type View = [BTreeMap<Vec<u8>, i64>; 3];
type Log = Vec<(Offset, Vec<u8>, Option<Vec<u8>>)>;

/// The stores and what they should be: plain maps per generation, and the changelogs a broker would have.
struct World<'a> {
    disk: &'a dyn Disk,
    budget: CacheBudget,
    stores: Option<TaskStores>,
    open: View,
    sealed: Option<View>,
    committed: View,
    logs: [Log; 3],
    ends: [Offset; 3],
    in_flight: Vec<(StoreIndex, Vec<u8>, Option<Vec<u8>>)>,
    commits: u64,
    appended: usize,
    now: Timestamp,
}

impl<'a> World<'a> {
    fn new(disk: &'a dyn Disk, bytes: usize) -> Self {
        let mut world = Self {
            disk,
            budget: CacheBudget { bytes },
            stores: None,
            open: View::default(),
            sealed: None,
            committed: View::default(),
            logs: Default::default(),
            ends: [Offset(0); 3],
            in_flight: Vec::new(),
            commits: 0,
            appended: 0,
            now: Timestamp(1_000_000),
        };
        world.reopen();
        world
    }

    fn reopen(&mut self) {
        self.stores = None;
        self.stores = Some(TaskStores::open(self.disk.open(), "app", &specs(COUNTER), self.budget).unwrap());
    }

    fn stores(&mut self) -> &mut TaskStores {
        self.stores.as_mut().unwrap()
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put(store, key, value) => self.put(*store, key, *value),
            Op::Record(writes, keep) => self.record(writes, *keep),
            Op::Get(store, key) => {
                let index = StoreIndex(*store as u16);
                let found = self.stores().get(index, key).unwrap().as_ref().map(count);
                assert_eq!(found, self.open[*store].get(key).copied());
                let found = self.stores().get_committed(index, key).unwrap().as_ref().map(count);
                assert_eq!(found, self.committed[*store].get(key).copied());
            }
            Op::Range(store, from, to) => self.check_range(*store, from, to.as_deref()),
            Op::Seal => self.seal(),
            Op::Confirm => self.confirm(),
            Op::Abort => {
                self.stores().abort();
                (self.open, self.sealed, self.appended) = (self.committed.clone(), None, 0);
                self.in_flight.clear();
            }
            Op::WriteBehind(ms, force) => {
                self.now = Timestamp(self.now.0 + ms);
                let now = self.now;
                let written = self.stores().write_behind(now, *force).unwrap();
                assert!(!force || (written.overlay_bytes == 0 && written.unflushed_bytes == 0));
                self.check_at_rest();
            }
            Op::Crash(kept, reached, size, again) => self.crash(*kept, *reached, *size, *again),
        }
    }

    /// Writes a row as a fold where that gives the same: a fold's time never goes back. A fold that fails changes nothing.
    fn put_or_fold(&mut self, index: StoreIndex, key: &[u8], row: Option<Row>) {
        let stores = self.stores();
        let row = match row {
            Some(row)
                if stores.spec(index).access != Access::Append
                    && stores.get(index, key).unwrap().is_none_or(|before| before.timestamp <= row.timestamp) =>
            {
                row
            }
            other => return stores.put(index, key, other).unwrap(),
        };
        let initial = [Value::Int(-1), Value::text("new")];
        let failed = stores.update(index, key, &initial, row.timestamp, |fields| {
            fields[0] = Value::Int(-7);
            Err(Error::Io { message: "the fold fails".to_owned() })
        });
        assert!(failed.is_err());
        let folded = stores.update(index, key, &initial, row.timestamp, |fields| {
            fields.clone_from_slice(&row.fields);
            Ok::<(), Error>(())
        });
        folded.unwrap();
    }

    fn put(&mut self, store: usize, key: &[u8], value: Option<i64>) {
        self.put_or_fold(StoreIndex(store as u16), key, value.map(row));
        self.appended += usize::from(STORES[store] == Access::Append);
        match value {
            Some(value) => self.open[store].insert(key.to_vec(), value),
            None => self.open[store].remove(key),
        };
    }

    fn record(&mut self, writes: &[(usize, Vec<u8>, Option<i64>)], keep: bool) {
        let before = (self.open.clone(), self.appended);
        self.stores().savepoint();
        for (store, key, value) in writes {
            self.put(*store, key, *value);
        }
        if keep {
            self.stores().release();
        } else {
            self.stores().rollback();
            (self.open, self.appended) = before;
        }
    }

    fn seal(&mut self) {
        if self.sealed.is_some() {
            return;
        }
        let mut sent = Vec::new();
        self.stores()
            .seal(&mut |index, key, value, timestamp| {
                assert!(timestamp.0 >= 0);
                sent.push((index, key.to_vec(), value.map(<[u8]>::to_vec)));
            })
            .unwrap();
        let appended = sent.iter().filter(|(index, key, _)| index.0 == 2 && key[0] == 1).count();
        assert_eq!(appended, std::mem::take(&mut self.appended), "every write of an append store is sent");
        self.in_flight = sent;
        self.sealed = Some(self.open.clone());
    }

    /// The broker has what was sealed.
    fn append(&mut self) -> Vec<(StoreIndex, Offset)> {
        let mut written = Vec::new();
        for (index, key, value) in self.in_flight.drain(..) {
            let end = &mut self.ends[index.index()];
            self.logs[index.index()].push((*end, key, value));
            *end = end.next();
            written.push(index);
        }
        written.sort_unstable();
        written.dedup();
        // The transaction's marker takes an offset too.
        for index in &written {
            self.ends[index.index()] = self.ends[index.index()].next();
        }
        self.commits += 1;
        self.committed = self.sealed.take().unwrap();
        written.into_iter().map(|index| (index, self.ends[index.index()])).collect()
    }

    fn confirm(&mut self) {
        if self.sealed.is_some() {
            let positions = self.append();
            let meta = self.commits.to_be_bytes();
            self.stores().confirm(&positions, &meta);
            assert_eq!(self.stores().committed_meta(), Some(&meta[..]));
        }
    }

    fn crash(&mut self, kept: usize, reached: bool, size: usize, again: bool) {
        if reached && self.sealed.is_some() {
            self.append();
        }
        (self.open, self.sealed, self.appended) = (self.committed.clone(), None, 0);
        self.in_flight.clear();
        self.stores = None;
        self.disk.crash(kept);
        self.reopen();
        self.check_at_rest();
        if again {
            self.restore(size, Some(1));
            self.stores = None;
            self.disk.crash(kept);
            self.reopen();
            self.check_at_rest();
        }
        self.restore(size, None);
        self.check_at_rest();
        self.check_all();
    }

    fn restore(&mut self, size: usize, batches: Option<usize>) {
        let now = self.now;
        for (store, log) in self.logs.iter().enumerate() {
            let (index, stores) = (StoreIndex(store as u16), self.stores.as_mut().unwrap());
            let from = stores.position(index).map_or(Offset(0), |position| position.offset);
            stores.begin_restore(index, now);
            let missing: Vec<Record> = log.iter().filter(|(offset, ..)| *offset >= from).map(record).collect();
            for batch in missing.chunks(size).take(batches.unwrap_or(usize::MAX)) {
                stores.restore_batch(index, batch, batch.last().unwrap().offset.next()).unwrap();
            }
        }
        let meta = self.commits.to_be_bytes();
        self.stores().restore_meta(&meta).unwrap();
    }

    /// What is at rest is the fold of the changelog up to the offset beside it.
    fn check_at_rest(&mut self) {
        for (store, log) in self.logs.iter().enumerate() {
            let stores = self.stores.as_ref().unwrap();
            let name = format::store_key(&stores.stores[store].spec.name);
            let facts = stores.backend.get_meta(&name).unwrap().unwrap();
            let facts = format::StoreFacts::decode(&facts).unwrap();
            let mut fold = BTreeMap::new();
            for (_, key, value) in log.iter().filter(|(offset, ..)| facts.offset.is_some_and(|end| *offset < end)) {
                match value {
                    Some(value) => fold.insert(key.clone(), value.clone()),
                    None => fold.remove(key),
                };
            }
            let (from, to) = (facts.prefix.to_be_bytes(), (facts.prefix + 1).to_be_bytes());
            let mut found = BTreeMap::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                found.insert(key[4..].to_vec(), value.to_vec());
                ControlFlow::Continue(())
            };
            stores.backend.scan(&from, Some(&to), &mut visit).unwrap();
            assert_eq!(found, fold, "store {store} at {:?}", facts.offset);
        }
    }

    fn check_range(&mut self, store: usize, from: &[u8], to: Option<&[u8]>) {
        let index = StoreIndex(store as u16);
        let stores = self.stores.as_mut().unwrap();
        for (view, committed) in [(&self.open, false), (&self.committed, true)] {
            let inside = |key: &[u8]| key >= from && to.is_none_or(|to| key < to);
            let mut expected: Vec<(Vec<u8>, i64)> =
                view[store].iter().filter(|(key, _)| inside(key)).map(|(key, value)| (key.clone(), *value)).collect();
            for reverse in [false, true] {
                let mut found = Vec::new();
                let mut visit = |key: &[u8], row: &Row| {
                    found.push((key.to_vec(), count(row)));
                    ControlFlow::Continue(())
                };
                match (committed, reverse) {
                    (false, false) => stores.range(index, from, to, &mut visit).unwrap(),
                    (false, true) => stores.range_reverse(index, from, to, &mut visit).unwrap(),
                    (true, false) => stores.range_committed(index, from, to, &mut visit).unwrap(),
                    (true, true) => stores.range_committed_reverse(index, from, to, &mut visit).unwrap(),
                }
                assert_eq!(found, expected, "store {store}, committed {committed}, reverse {reverse}");
                expected.reverse();
                let mut first = None;
                let mut visit = |key: &[u8], _: &Row| {
                    assert!(first.is_none(), "a scan that was ended goes on");
                    first = Some(key.to_vec());
                    ControlFlow::Break(())
                };
                stores.range(index, from, to, &mut visit).unwrap();
            }
        }
    }

    fn check_all(&mut self) {
        for store in 0..STORES.len() {
            self.check_range(store, &[], None);
            for key in [&[][..], &[0], &[7], &[255], &[0, 0], &[7, 255], &[255, 255]] {
                self.run(&Op::Get(store, key.to_vec()));
            }
        }
    }
}

fn record(entry: &(Offset, Vec<u8>, Option<Vec<u8>>)) -> Record {
    Record {
        offset: entry.0,
        timestamp: Timestamp(0),
        key: Some(Bytes::from(entry.1.clone())),
        value: entry.2.clone().map(Bytes::from),
        headers: Headers::default(),
    }
}

fn check_run(disk: &dyn Disk, bytes: usize, ops: &[Op]) {
    let mut world = World::new(disk, bytes);
    for op in ops {
        world.run(op);
    }
    world.check_all();
    world.crash(1, true, 3, false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn stores_are_what_plain_maps_say_through_commits_and_crashes(ops in vec(op(), 0..60), tiny in any::<bool>()) {
        check_run(&Memory(MemoryBackend::new()), if tiny { 600 } else { 1 << 20 }, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_same_holds_on_rocksdb(ops in vec(op(), 20..60), tiny in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Rocks(folder.path().join("task"), RocksShared::new(8 << 20));
        check_run(&disk, if tiny { 600 } else { 1 << 20 }, &ops);
    }

    #[test]
    fn versions_are_what_a_list_of_all_writes_says(
        writes in vec((0..3_u8, 0..100_i64, proptest::option::of(0..9_i64), any::<bool>()), 1..120),
        asked in vec((0..3_u8, 0..110_i64), 40),
        size in 1..6_usize,
    ) {
        check_versions(&writes, &asked, size);
    }
}

fn check_versions(writes: &[(u8, i64, Option<i64>, bool)], asked: &[(u8, i64)], size: usize) {
    let mut world_disk = open(MemoryBackend::new(), COUNTER);
    let stores = &mut world_disk;
    let table = Versioned { index: StoreIndex(1), history: SpanMs(20) };
    let (mut model, mut time, mut cursor) = (BTreeMap::new(), Timestamp::UNKNOWN, None);
    for (key, at, value, sweep) in writes {
        time = time.max(Timestamp(*at));
        let fields = value.map(|value| row(value).fields);
        let put = table.put(stores, &[*key], Timestamp(*at), fields, time).unwrap();
        let newer = model.range((*key, *at + 1)..(*key + 1, i64::MIN)).next().map(|((_, at), _)| Timestamp(*at));
        if *at < time.0 - 20 {
            assert_eq!(put, Put::Expired);
        } else {
            assert_eq!(put, newer.map_or(Put::Latest, |valid_to| Put::OutOfOrder { valid_to }));
            model.insert((*key, *at), *value);
        }
        if *sweep {
            cursor = table.sweep(stores, time, cursor, size).unwrap();
        }
    }
    for (key, at) in asked {
        let of_key = |until: i64| model.range((*key, i64::MIN)..=(*key, until)).next_back();
        let reach = if *at < time.0 - 20 { i64::MAX } else { *at };
        let expected =
            of_key(reach).filter(|((_, from), _)| from <= at).and_then(|((_, from), value)| value.map(|v| (*from, v)));
        let found = table.as_of(stores, &[*key], Timestamp(*at), time).unwrap();
        let found = found.map(|row| (row.timestamp.0, row.fields[0].as_int().unwrap()));
        assert_eq!(found, expected, "key {key} at {at}, store time {time:?}");
        let latest = of_key(i64::MAX).and_then(|(_, value)| *value);
        assert_eq!(table.latest(stores, &[*key]).unwrap().map(|row| row.fields[0].as_int().unwrap()), latest);
    }
    // One sweep over everything leaves one version per key at or before the edge.
    let mut cursor = None;
    loop {
        cursor = table.sweep(stores, time, cursor, size).unwrap();
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(table.sweep(stores, time, None, usize::MAX / 2).unwrap(), None);
    let mut at_edge = BTreeMap::new();
    stores
        .range(StoreIndex(1), &[], None, &mut |joined, row| {
            let (key, from) = keys::split_timed(joined).unwrap();
            assert_eq!(from, row.timestamp);
            *at_edge.entry(key).or_insert(0) += usize::from(from.0 <= time.0 - 20);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(at_edge.values().all(|count| *count <= 1), "{at_edge:?}");
}

fn open(backend: MemoryBackend, schema: &str) -> TaskStores {
    TaskStores::open(Box::new(backend), "app", &specs(schema), CacheBudget { bytes: 1 << 20 }).unwrap()
}

type Sent = Vec<(StoreIndex, Vec<u8>, Option<Vec<u8>>)>;

fn commit(stores: &mut TaskStores, end: i64) -> Sent {
    let mut sent = Vec::new();
    stores.seal(&mut |index, key, value, _| sent.push((index, key.to_vec(), value.map(<[u8]>::to_vec)))).unwrap();
    let positions: Vec<_> = (0..3).map(|store| (StoreIndex(store), Offset(end))).collect();
    stores.confirm(&positions, b"meta");
    sent
}

const KV: StoreIndex = StoreIndex(0);

#[test]
fn stores_move_between_threads() {
    fn moves<T: Send>(_: &T) {}
    moves(&open(MemoryBackend::new(), COUNTER));
}

#[test]
fn rows_of_an_older_schema_read_under_the_newer_one() {
    let backend = MemoryBackend::new();
    let mut stores = open(backend.clone(), COUNTER);
    for store in 0..3 {
        stores.put(StoreIndex(store), b"old", Some(row(7))).unwrap();
    }
    let mut log = commit(&mut stores, 10);
    stores.write_behind(Timestamp(1), true).unwrap();
    drop(stores);

    let newer = COUNTER.replace("]}", r#",{"name":"seen","type":"boolean","default":true}]}"#);
    let mut stores = open(backend.clone(), &newer);
    let upgraded = [Value::Int(7), Value::text("label 7"), Value::Bool(true)];
    for store in 0..3 {
        let read = stores.get(StoreIndex(store), b"old").unwrap().unwrap();
        assert_eq!((read.timestamp, &*read.fields), (Timestamp(7), &upgraded[..]));
    }
    stores.put(KV, b"new", Some(Row::new(Timestamp(8), upgraded.clone()))).unwrap();
    let sent = commit(&mut stores, 12);
    let kinds: Vec<&[u8]> = sent.iter().map(|(_, key, _)| &key[..]).collect();
    assert_eq!(kinds, [&[2, 0, 0, 0, 2][..], b"\x01new"], "the second schema goes before its first row");
    stores.put(KV, b"newer", Some(Row::new(Timestamp(8), upgraded.clone()))).unwrap();
    let again = commit(&mut stores, 13);
    assert_eq!(again.len(), 1, "a schema is told once");
    log.extend(sent.into_iter().chain(again));
    stores.write_behind(Timestamp(2), true).unwrap();
    drop(stores);

    // Back to the old shape: the old number is used again, and the newer rows still read.
    let mut stores = open(backend, COUNTER);
    assert_eq!(stores.get(KV, b"new").unwrap().unwrap().fields.len(), 2);
    stores.put(KV, b"back", Some(row(1))).unwrap();
    assert_eq!(commit(&mut stores, 14).len(), 1);

    // The changelog alone is enough.
    let mut restored = open(MemoryBackend::new(), &newer);
    let records: Vec<Record> = log
        .iter()
        .enumerate()
        .filter(|(_, (index, ..))| *index == KV)
        .map(|(at, (_, key, value))| record(&(Offset(at as i64), key.clone(), value.clone())))
        .collect();
    restored.restore_batch(KV, &records, Offset(13)).unwrap();
    for key in [&b"old"[..], b"new", b"newer"] {
        assert_eq!(&*restored.get(KV, key).unwrap().unwrap().fields, &upgraded[..]);
    }
}

#[test]
fn a_shape_that_cannot_take_the_old_rows_is_said_so() {
    let backend = MemoryBackend::new();
    let mut stores = open(backend.clone(), COUNTER);
    stores.put(KV, b"k", Some(row(1))).unwrap();
    commit(&mut stores, 1);
    stores.write_behind(Timestamp(1), true).unwrap();
    drop(stores);
    let other = COUNTER.replace(r#""type":"long""#, r#""type":"boolean""#);
    let mut stores = open(backend.clone(), &other);
    let before = stores.check_rows();
    assert!(
        matches!(&before, Err(error @ Error::RowUnreadable { number: 1, .. }) if error.kind() == Kind::Config),
        "{before:?}"
    );
    assert!(
        before.unwrap_err().to_string().contains("`count`: the writer's `long` cannot become the reader's `boolean`")
    );
    assert!(matches!(stores.get(KV, b"k"), Err(Error::RowUnreadable { number: 1, .. })));
    // Once nothing is left of the old shape, it is in nobody's way.
    stores.put(KV, b"k", None).unwrap();
    commit(&mut stores, 2);
    stores.write_behind(Timestamp(2), true).unwrap();
    stores.check_rows().unwrap();
    drop(stores);
    open(backend, &other).check_rows().unwrap();
}

#[test]
fn a_schema_of_an_aborted_generation_is_told_again() {
    let mut stores = open(MemoryBackend::new(), COUNTER);
    stores.put(KV, b"k", Some(row(1))).unwrap();
    let mut sent = 0;
    stores.seal(&mut |_, _, _, _| sent += 1).unwrap();
    stores.abort();
    assert_eq!((sent, stores.get(KV, b"k").unwrap()), (2, None));
    stores.put(KV, b"k", Some(row(2))).unwrap();
    assert_eq!(commit(&mut stores, 5).len(), 2);
}

#[test]
fn a_folder_of_another_application_or_a_newer_version_is_refused() {
    let backend = MemoryBackend::new();
    drop(open(backend.clone(), COUNTER));
    let open_as = |id: &str| TaskStores::open(Box::new(backend.clone()), id, &specs(COUNTER), CacheBudget { bytes: 1 });
    assert!(matches!(open_as("other"), Err(Error::OtherApplication { .. })));
    let mut batch = Batch::default();
    batch.put_meta(format::META_FORMAT, b"\x09app");
    backend.clone().write(&batch).unwrap();
    assert!(matches!(open_as("app"), Err(Error::NewerFormat { found: 9, .. })));
}

#[test]
fn rows_that_do_not_fit_are_refused_at_the_write() {
    let mut stores = open(MemoryBackend::new(), COUNTER);
    stores.set_row_bytes_max(KV, 300);
    let long = |letters: usize| Row::new(Timestamp(1), [Value::Int(1), Value::text("x".repeat(letters))]);
    stores.put(KV, b"k", Some(long(200))).unwrap();
    let refused = stores.put(KV, b"k", Some(long(300)));
    assert!(matches!(&refused, Err(error @ Error::RowTooLarge { max_bytes: 300, .. }) if error.kind() == Kind::Record));
    assert!(matches!(stores.put(KV, b"k", Some(Row::new(Timestamp(1), [Value::Null]))), Err(Error::RowInvalid { .. })));
    assert_eq!(stores.get(KV, b"k").unwrap(), Some(long(200)));
    let sent = commit(&mut stores, 1);
    assert!(sent.iter().all(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len) <= 300));
}

#[test]
fn a_store_set_aside_is_empty_and_the_old_rows_stay_until_trimmed() {
    let backend = MemoryBackend::new();
    let mut stores = open(backend.clone(), COUNTER);
    for round in 0..3 {
        stores.put(KV, b"k", Some(row(round))).unwrap();
        stores.put(StoreIndex(1), b"k", Some(row(round))).unwrap();
        commit(&mut stores, 10 + round);
        stores.write_behind(Timestamp(1), true).unwrap();
        stores.set_aside(KV, SetAsideReason::TooOld).unwrap();
        assert_eq!((stores.get(KV, b"k").unwrap(), stores.position(KV)), (None, None));
        assert_eq!(stores.get(StoreIndex(1), b"k").unwrap(), Some(row(round)));
    }
    assert_eq!(stores.counters(StoreIndex(0)).set_aside[SetAsideReason::TooOld.index()], 3);
    assert_eq!(stores.list_set_aside().unwrap(), vec![("Cached".to_owned(), "too_old".to_owned()); 3]);
    let before = backend.size_bytes();
    stores.trim_set_aside(1).unwrap();
    assert_eq!(stores.list_set_aside().unwrap().len(), 1);
    assert!(backend.size_bytes() < before);
    drop(stores);
    let mut stores = open(backend, COUNTER);
    assert_eq!(stores.get(KV, b"k").unwrap(), None);
    assert_eq!(stores.get(StoreIndex(1), b"k").unwrap(), Some(row(2)));
    stores.trim_set_aside(0).unwrap();
    assert_eq!(stores.list_set_aside().unwrap(), vec![]);
}

#[test]
#[should_panic(expected = "its changelog has a new end")]
fn a_commit_that_does_not_say_where_a_changelog_ends_is_a_bug() {
    let mut stores = open(MemoryBackend::new(), COUNTER);
    stores.put(KV, b"k", Some(row(1))).unwrap();
    stores.seal(&mut |_, _, _, _| {}).unwrap();
    stores.confirm(&[(StoreIndex(1), Offset(1))], b"");
}

#[test]
fn clean_rows_leave_a_full_cache_and_uncommitted_ones_stay() {
    let backend = MemoryBackend::new();
    let budget = CacheBudget { bytes: 4000 };
    let mut stores = TaskStores::open(Box::new(backend), "app", &specs(COUNTER), budget).unwrap();
    for number in 0..200_i64 {
        stores.put(KV, &number.to_be_bytes(), Some(row(number))).unwrap();
    }
    assert!(stores.stats().uncommitted_bytes() > 4000 && stores.stats().cache_evictions == 0);
    commit(&mut stores, 1);
    assert!(stores.stats().cache_bytes <= 4000 && stores.stats().cache_evictions > 100);
    assert_eq!(stores.stats().uncommitted_bytes(), 0);
    for number in 0..200_i64 {
        assert_eq!(stores.get(KV, &number.to_be_bytes()).unwrap(), Some(row(number)));
    }
    assert!(stores.cache.size_bytes() <= 4000);
    assert!(stores.counters(StoreIndex(0)).cache_misses > 100);
}

#[test]
fn writes_gather_until_time_or_size_and_an_idle_task_marks_that_it_is_complete() {
    let backend = MemoryBackend::new();
    let mut stores = open(backend, COUNTER);
    stores.put(KV, b"k", Some(row(1))).unwrap();
    commit(&mut stores, 1);
    let at = |ms: i64| Timestamp(1_000_000 + ms);
    assert_eq!(stores.write_behind(at(0), false).unwrap().rows, 0);
    assert_eq!(stores.write_behind(at(4_999), false).unwrap().rows, 0);
    let written = stores.write_behind(at(5_000), false).unwrap();
    assert_eq!((written.rows, written.flushed, written.unflushed_ms), (1, false, 5_000));
    assert!(stores.write_behind(at(60_000), false).unwrap().flushed, "the oldest unflushed row is a minute old");
    assert_eq!(stores.last_durable(KV), Some(at(5_000)));
    assert_eq!(stores.write_behind(at(3_600_000), false).unwrap().bytes, 0);
    assert!(stores.write_behind(at(3_605_000), false).unwrap().bytes > 0);
    assert_eq!(
        (stores.last_durable(KV), stores.last_durable(StoreIndex(1))),
        (Some(at(3_605_000)), Some(at(3_605_000)))
    );
    let rows = (0..40_i64).map(|n| Row::new(Timestamp(n), [Value::Int(n), Value::text("x".repeat(500_000))]));
    for row in rows {
        stores.put(KV, &row.timestamp.0.to_be_bytes(), Some(row.clone())).unwrap();
    }
    commit(&mut stores, 60);
    assert_eq!(stores.write_behind(at(3_605_001), false).unwrap().rows, 40, "sixteen mebibytes do not wait");
}

/// Copies a running database's files as they are: what a kill would leave. RocksDB deletes files behind a flush in its own time, and
/// a copy across that is of no moment at all: it is made again.
fn copy_of_one_moment(from: &Path, to: &Path) {
    let files = || {
        let names = std::fs::read_dir(from).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name != "LOCK").collect::<std::collections::BTreeSet<_>>()
    };
    for _ in 0..1000 {
        std::fs::create_dir(to).unwrap();
        let listed = files();
        let copied = listed.iter().try_for_each(|name| std::fs::copy(from.join(name), to.join(name)).map(drop));
        match copied {
            Ok(()) if files() == listed => return,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            Ok(()) | Err(_) => std::fs::remove_dir_all(to).unwrap(),
        }
    }
    panic!("the files never stand still");
}

#[test]
fn rocksdb_after_a_crash_has_a_whole_prefix_with_its_positions() {
    let folder = tempfile::tempdir().unwrap();
    let (task, crashed) = (folder.path().join("task"), folder.path().join("crashed"));
    let shared = RocksShared::new(8 << 20);
    let open = |path: &Path| {
        let backend = RocksBackend::open(path, &shared).unwrap();
        TaskStores::open(Box::new(backend), "app", &specs(COUNTER), CacheBudget { bytes: 1 << 20 }).unwrap()
    };
    let mut stores = open(&task);
    for round in 0..3_i64 {
        for number in 0..100_i64 {
            stores.put(KV, &number.to_be_bytes(), Some(row(round * 1000 + number))).unwrap();
        }
        commit(&mut stores, round + 1);
        let flush = round == 1;
        stores.behind = behind::Behind::default();
        stores.write_behind(Timestamp(0), flush).unwrap();
        stores.write_behind(Timestamp(6_000), flush).unwrap();
    }
    copy_of_one_moment(&task, &crashed);
    assert_eq!(stores.position(KV).unwrap().offset, Offset(3));
    let mut found = open(&crashed);
    assert_eq!(found.position(KV).unwrap().offset, Offset(2), "the third batch was never flushed");
    for number in 0..100_i64 {
        assert_eq!(found.get(KV, &number.to_be_bytes()).unwrap(), Some(row(1000 + number)));
    }
    assert_eq!(found.committed_meta(), Some(&b"meta"[..]));
    drop(stores);
    assert_eq!(open(&task).position(KV).unwrap().offset, Offset(3), "a clean close flushes");
}
