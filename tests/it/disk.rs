//! Disks that are full, read-only or damaged: each is said with its code, stops no more than it must, and nothing is lost or deleted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidemill::base::rng::Rng;
use tidemill::store::rocks::{RocksBackend, RocksShared};
use tidemill::store::{Backend as _, Batch, Error};

use crate::support::disk::Disk;
use crate::support::notes::{self, AT, PARTITIONS, TOPOLOGY, key_of};
use crate::support::process::Run;
use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, preload, rest, topics, until};

const ORDERS: usize = 900;

/// The folders of the tasks that have state.
fn task_folders(app: &App) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(app.state("a").join(&app.id)).unwrap();
    let mut folders: Vec<_> = folders
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("set_aside"))
        .collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

/// A shop that has worked and is closed; `damage` does something to the folder of a task; then it opens again.
fn damaged(damage: impl Fn(&Path)) -> String {
    let app = shop::open(Place::Embedded);
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders[..ORDERS / 2]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, ORDERS as i64 / 2);
    run.stop();
    shop::place_orders(&app, &orders[ORDERS / 2..]);
    let folder = task_folders(&app).into_iter().find(|folder| !files(folder, "sst").is_empty()).unwrap();
    damage(&folder);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    let metrics = run.ask("/metrics").1;
    assert!(metrics.contains("reason=\"corrupt\"} 1"), "{metrics}");
    let said = run.stop();
    let task = folder.file_name().unwrap();
    let aside = app.state("a").join(&app.id).join("set_aside").join(task).join("1");
    assert!(aside.is_dir(), "what was set aside is kept: {}", aside.display());
    assert!(said.contains("set a task's state aside, restoring it from its changelogs (E0804)"), "{said}");
    said
}

#[test]
fn damaged_tables_are_set_aside_and_restored_from_the_changelogs() {
    damaged(|folder| {
        for file in files(folder, "sst") {
            let mut bytes = std::fs::read(&file).unwrap();
            let middle = bytes.len().min(200);
            bytes[..middle].fill(0xA5);
            std::fs::write(&file, bytes).unwrap();
        }
    });
}

#[test]
fn a_database_without_its_current_file_is_set_aside_and_restored() {
    damaged(|folder| std::fs::write(folder.join("CURRENT"), b"nonsense\n").unwrap());
}

#[test]
fn a_damaged_row_of_the_tasks_meta_is_set_aside_and_restored() {
    damaged(|folder| {
        let mut backend = RocksBackend::open(folder, &RocksShared::new(1 << 22)).unwrap();
        assert!(backend.get_meta(b"task").unwrap().is_some(), "the meta row is where this test looks for it");
        let mut batch = Batch::default();
        batch.put_meta(b"task", b"not what was written");
        backend.write(&batch).unwrap();
        backend.flush().unwrap();
    });
}

/// Notes with so much text that RocksDB flushes them in the background.
fn many_notes(app: &App) -> (String, (i64, i64)) {
    // Nothing that compresses: it is the bytes in files that count.
    let (mut rng, mut records) = (Rng::new(5), Vec::new());
    for n in 0..2000 {
        let text: String = (0..1250).map(|_| format!("{:016x}", rng.next_u64())).collect();
        let value = format!(r#"{{"n": 1, "text": "{text}"}}"#);
        records.push(notes::note(app, &format!("key{n}"), AT, &value));
    }
    let last = key_of(0);
    records.push(notes::note(app, &last, AT, r#"{"n": 5}"#));
    topics::write(&*app.broker(), records);
    (last, (1, 5))
}

/// Looks at a page of them.
fn every_note_is_there_once(run: &mut Run) {
    until("every note is there once", || {
        let rows = run.json("/v1/stores/newest/keys?limit=1000")?;
        let rows = rows["keys"].as_array().unwrap();
        (rows.len() == 1000 && rows.iter().all(|row| row["value"]["notes"] == 1)).then_some(())
    });
}

#[test]
fn a_disk_that_fills_up_stops_its_tasks_until_there_is_room() {
    let app = notes::open(&Place::kafka_and_registry(), TOPOLOGY);
    let (last, wanted) = many_notes(&app);
    let settings = "[memory]\nbudget = \"480MiB\"\n";
    let disk = app.disk("a", "size=8m");
    let mut run = app.start(&Launch { disk: Some(&disk), settings, ..Launch::default() });
    // All is committed while there is memory for it; a memtable that is full goes to the disk with the next write, in the background.
    notes::wait_for(&mut run, &last, wanted);
    until("the rows are with RocksDB", || (run.metric("tidemill_rocksdb_estimated_keys{") >= 2000.0).then_some(()));
    let more = [0, 1].map(|partition| notes::note(&app, &format!("more-{}", key_of(partition)), AT, r#"{"n": 1}"#));
    topics::write(&*app.broker(), more);
    let task = notes::quarantined_for(&mut run, "state_io");
    assert_eq!(task["quarantine"]["code"], "E0805", "{task}");
    assert!(task["quarantine"]["retry_at"].is_string(), "{task}");
    assert!(run.said().contains("No space left on device"), "{}", run.said());
    assert_eq!(run.ask("/livez").0, 200);
    disk.remount("size=512m");
    // The flush of the other task may have failed too, which is seen within a second.
    rest(Duration::from_secs(2));
    notes::wait_for(&mut run, &last, wanted);
    until("all tasks run", || {
        let tasks = run.json("/v1/tasks")?;
        let tasks = tasks["tasks"].as_array().unwrap().clone();
        let running = tasks.iter().all(|task| task["state"] == "running");
        (running && tasks.len() == PARTITIONS as usize).then_some(())
    });
    every_note_is_there_once(&mut run);
    let said = run.stop();
    shop::assert_no_store_was_set_aside(&said);
}

#[test]
fn a_state_folder_that_is_read_only_is_said_and_waited_for() {
    let app = notes::open(&Place::kafka_and_registry(), TOPOLOGY);
    let key = key_of(0);
    topics::write(&*app.broker(), [notes::note(&app, &key, AT, r#"{"n": 3}"#)]);
    let disk = app.disk("a", "ro");
    let mut run = app.start(&Launch { disk: Some(&disk), ..Launch::default() });
    let task = notes::quarantined_for(&mut run, "state_io");
    assert_eq!(task["quarantine"]["code"], "E0805", "{task}");
    assert!(run.said().contains("Read-only file system"), "{}", run.said());
    assert_eq!(run.ask("/livez").0, 200);
    disk.remount("rw");
    notes::wait_for(&mut run, &key, (1, 3));
    run.stop();
}

#[test]
fn a_slow_disk_slows_its_tasks_down_and_stops_none() {
    let app = notes::open(&Place::kafka_and_registry(), TOPOLOGY);
    let (last, wanted) = many_notes(&app);
    let (slow, slowed) = preload::slow_disk(&app.state("a"));
    let environment: Vec<(&str, &str)> = slow.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut run = app.start(&Launch {
        environment: &environment,
        settings: "[memory]\nbudget = \"64MiB\"\n",
        kafka: "\"max.poll.interval.ms\" = 10000",
        ..Launch::default()
    });
    notes::wait_for(&mut run, &last, wanted);
    assert!(slowed.exists(), "nothing was written to {}", app.state("a").display());
    assert_eq!(run.ask("/livez").0, 200);
    every_note_is_there_once(&mut run);
    let said = run.stop();
    for sign in ["partitions are lost", "joining anew", "a task stops"] {
        assert!(!said.contains(sign), "{sign}: {said}");
    }
    shop::assert_no_store_was_set_aside(&said);
}

/// Writes rows to a database on a disk that has no room for them, until that has failed some times.
#[test]
#[ignore = "run by `a_database_whose_files_cannot_be_merged_fails_and_holds_nobody_up`"]
fn child_that_writes_to_a_full_disk() {
    let folder = PathBuf::from(crate::provided("TIDEMILL_TEST_FOLDER"));
    let (shared, mut rng) = (RocksShared::new(16 << 20), Rng::new(7));
    for _ in 0..10 {
        let mut backend = RocksBackend::open(&folder, &shared).unwrap();
        let mut write = || {
            let mut batch = Batch::default();
            for _ in 0..20 {
                let value: Vec<u8> = (0..400).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
                batch.put(&[&rng.below(3000).to_be_bytes()], &value);
            }
            backend.write(&batch)?;
            if rng.chance(1, 3) { backend.flush() } else { backend.check() }
        };
        let failure = (0..400).find_map(|_| write().err());
        assert!(matches!(failure, Some(Error::Io { .. })), "{failure:?}");
    }
}

#[test]
fn a_database_whose_files_cannot_be_merged_fails_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::at(folder.path(), "size=12m");
    let mut command = disk.command(std::env::current_exe().unwrap().to_str().unwrap());
    command.args(["--exact", "disk::child_that_writes_to_a_full_disk", "--ignored"]);
    let mut child = command.env("TIDEMILL_TEST_FOLDER", folder.path().join("task")).spawn().unwrap();
    let status = until("the child has failed and ended", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
