//! Runs of operations, and what plain maps say that comes of them: through commits, aborts, crashes and restores.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

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
    budget: StoresBudget,
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
            budget: StoresBudget { cache_bytes: bytes, write_behind_bytes: 1 << 20 },
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
        // Half of the restores load in bulk; what interrupts one closes the stores.
        self.stores().load_in_bulk(size.is_multiple_of(2)).unwrap();
        for (store, log) in self.logs.iter().enumerate() {
            let (index, stores) = (StoreIndex(store as u16), self.stores.as_mut().unwrap());
            let from = stores.position(index).map_or(Offset(0), |position| position.offset);
            stores.begin_restore(index, now);
            let missing: Vec<Record> = log.iter().filter(|(offset, ..)| *offset >= from).map(record).collect();
            for batch in missing.chunks(size).take(batches.unwrap_or(usize::MAX)) {
                stores.restore_batch(index, batch, batch.last().unwrap().offset.next(), Timestamp(0)).unwrap();
            }
        }
        let meta = self.commits.to_be_bytes();
        self.stores().restore_meta(&meta).unwrap();
        if batches.is_none() {
            self.stores().load_in_bulk(false).unwrap();
        }
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
