//! Facts about stores, each by itself; and what holds for all runs of operations (`model`).

mod model;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::memory::MemoryBackend;
use super::rocks::{RocksBackend, RocksShared};
use super::versioned::{Put, Versioned};
use super::*;
use crate::base::record::{Headers, Record};
use crate::base::time::SpanMs;

const BUDGET: StoresBudget = StoresBudget { cache_bytes: 1 << 20, write_behind_bytes: 1 << 20 };
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

fn record(entry: &(Offset, Vec<u8>, Option<Vec<u8>>)) -> Record {
    Record {
        offset: entry.0,
        timestamp: Timestamp(0),
        key: Some(Bytes::from(entry.1.clone())),
        value: entry.2.clone().map(Bytes::from),
        headers: Headers::default(),
    }
}

fn open(backend: MemoryBackend, schema: &str) -> TaskStores {
    TaskStores::open(Box::new(backend), "app", &specs(schema), BUDGET).unwrap()
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
    restored.restore_batch(KV, &records, Offset(13), Timestamp(0)).unwrap();
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
    let open_as = |id: &str| {
        TaskStores::open(Box::new(backend.clone()), id, &specs(COUNTER), StoresBudget { cache_bytes: 1, ..BUDGET })
    };
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
    let budget = StoresBudget { cache_bytes: 4000, ..BUDGET };
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
        TaskStores::open(Box::new(backend), "app", &specs(COUNTER), BUDGET).unwrap()
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
