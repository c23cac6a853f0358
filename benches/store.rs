//! What state costs: read and write of a cached row, a read from RocksDB, and a row's way from its write to RocksDB.
//!
//! Prints nanoseconds of the calling thread's CPU per operation (of the clock, where the system does not tell): the median of
//! several runs. RocksDB's background work is not in it.

#![expect(clippy::print_stdout, reason = "a benchmark reports to its terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use tidemill::avro::Schema;
use tidemill::base::ids::Offset;
use tidemill::base::time::Timestamp;
use tidemill::base::value::Value;
use tidemill::store::rocks::{RocksBackend, RocksShared};
use tidemill::store::{Access, Row, StoreIndex, StoreSpec, StoresBudget, TaskStores};

const ROW: &str = r#"{"type":"record","name":"Totals","fields":[
    {"name":"count","type":"long"},{"name":"sum","type":"double"},{"name":"last","type":"string"}]}"#;
const STORE: StoreIndex = StoreIndex(0);
const HOT_KEYS: u64 = 10_000;
const KEYS: u64 = 200_000;
const RUNS: usize = 5;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shared = RocksShared::new(256 << 20);
    let backend = RocksBackend::open(folder.path(), &shared).expect("a new folder opens");
    let row = Schema::parse(ROW).expect("the row schema parses");
    let spec = StoreSpec { name: "totals".into(), row, access: Access::Cached };
    let budget = StoresBudget { cache_bytes: 16 << 20, write_behind_bytes: 16 << 20 };
    let mut stores = TaskStores::open(Box::new(backend), "bench", &[spec], budget).expect("a new folder opens");

    report("get + put of a cached row, new values each time", HOT_KEYS * 10, || {
        for turn in 0..HOT_KEYS * 10 {
            fold(&mut stores, turn * 7919 % HOT_KEYS);
        }
    });
    report("get of a cached row", HOT_KEYS * 10, || {
        for turn in 0..HOT_KEYS * 10 {
            black_box(stores.get(STORE, &key(turn * 7919 % HOT_KEYS)).expect("reads"));
        }
    });
    report("seal + confirm of a hot row", HOT_KEYS, || {
        for number in 0..HOT_KEYS {
            fold(&mut stores, number);
        }
        commit(&mut stores);
    });
    at_rest(&mut stores);
}

/// More keys than the cache holds: most reads and all writes go to RocksDB.
fn at_rest(stores: &mut TaskStores) {
    for number in 0..KEYS {
        fold(stores, number);
        if number % 20_000 == 0 {
            commit(stores);
            stores.write_behind(Timestamp(1), true).expect("writes");
        }
    }
    commit(stores);
    let (mut now, clock) = (1, Clock(Instant::now()));
    report("write-behind of a row, all keys, sorted batch", KEYS, || {
        for number in 0..KEYS {
            fold(stores, number);
        }
        commit(stores);
        let started = clock.nanos();
        now += 10_000;
        stores.write_behind(Timestamp(now), false).expect("writes");
        println!("    of which in write_behind {:>8.0} ns", (clock.nanos() - started) / KEYS as f64);
    });
    stores.write_behind(Timestamp(now), true).expect("writes");
    let mut turn = 0;
    report("cold get, around all keys in a scattered order", KEYS / 4, || {
        for _ in 0..KEYS / 4 {
            turn += 1;
            black_box(stores.get(STORE, &key(turn * 104_729 % KEYS)).expect("reads"));
        }
    });
    report("scan of a row", KEYS, || {
        let mut rows = 0;
        stores
            .range(STORE, &[], None, &mut |_, row| {
                rows += row.fields.len();
                ControlFlow::Continue(())
            })
            .expect("scans");
        black_box(rows);
    });
    println!("{:#?}", stores.stats());
    println!("{:#?}", stores.backend().numbers());
}

/// One more event for a key.
fn fold(stores: &mut TaskStores, number: u64) {
    let key = key(number);
    let before = stores
        .get(STORE, &key)
        .expect("reads")
        .map_or((0, 0.0), |row| (row.fields[0].as_int().unwrap_or(0), row.fields[1].as_double().unwrap_or(0.0)));
    let fields = [Value::Int(before.0 + 1), Value::Double(before.1 + 1.5), Value::text("LHR")];
    stores.savepoint();
    stores.put(STORE, &key, Some(Row::new(Timestamp(7), fields))).expect("writes");
    stores.release();
}

fn commit(stores: &mut TaskStores) {
    let mut bytes = 0;
    stores.seal(&mut |_, key, value, _| bytes += key.len() + value.map_or(0, <[u8]>::len)).expect("seals");
    let end = stores.position(STORE).map_or(Offset(0), |position| position.offset.next());
    stores.confirm(&[(STORE, end)], b"meta");
    black_box(bytes);
}

fn key(mut number: u64) -> [u8; 12] {
    let mut key = *b"key.00000000";
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    key
}

fn report(name: &str, operations: u64, mut run: impl FnMut()) {
    run();
    let clock = Clock(Instant::now());
    let mut nanos: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = clock.nanos();
            run();
            (clock.nanos() - started) / operations as f64
        })
        .collect();
    nanos.sort_unstable_by(f64::total_cmp);
    println!("{name:<52} {:>8.0} ns", nanos[RUNS / 2]);
}

struct Clock(Instant);

impl Clock {
    /// The thread's time on a CPU, so that other work on the machine does not count.
    fn nanos(&self) -> f64 {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let on_cpu = told.and_then(|line| line.split_whitespace().next()?.parse().ok());
        on_cpu.unwrap_or_else(|| self.0.elapsed().as_nanos() as f64)
    }
}
