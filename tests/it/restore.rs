//! Restores of lost state: told of while they go on, slowed down where that is asked for, beside tasks that work, and gone on with
//! where they stood when the process was killed.

use serde_json::Value as Json;
use tidemill::limits::BULK_RESTORE_OFFSETS;

use crate::support::notes::{self, AT};
use crate::support::process::Run;
use crate::support::{App, Launch, Place, shop, topics, until};

/// Rows of the store that is lost: so many that its partitions are loaded in bulk.
const KEYS: usize = 240_000;

fn key(number: usize) -> String {
    format!("k{number}")
}

/// The last key of each partition: with it, all are there.
fn last_keys() -> Vec<String> {
    let last = |partition| (0..KEYS).rev().map(key).find(|key| notes::partition(key) == partition).unwrap();
    (0..notes::PARTITIONS as i32).map(last).collect()
}

fn write_beside(app: &App) {
    let record = topics::record(&app.topic("others"), 0, AT, Some("k"), Some(br#"{"n": 1}"#.to_vec()));
    topics::write(&*app.broker(), [record]);
}

/// Lines of the log with this message about the tasks of the large store.
fn lines(said: &str, message: &str) -> Vec<Json> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let of_it = |line: &Json| {
        let task = line["task"].as_str().unwrap_or_default();
        line["message"] == message && task.starts_with("newest")
    };
    lines.filter(of_it).collect()
}

fn sum(lines: &[Json], field: &str) -> i64 {
    lines.iter().map(|line| line[field].as_i64().unwrap()).sum()
}

/// What a metric comes to, over all partitions of a store.
fn metric(run: &mut Run, name: &str, store: &str) -> f64 {
    run.metric(&format!("tidemill_{name}{{store=\"{store}\""))
}

/// An application whose notes are all counted, and whose state is lost.
fn lost() -> App {
    let app = notes::open(&Place::kafka(), &notes::beside());
    topics::create(&*app.broker(), &app.topic("others"), 1, &[]);
    topics::write(&*app.broker(), (0..KEYS).map(|number| notes::note(&app, &key(number), AT, r#"{"n": 1}"#)));
    write_beside(&app);
    let mut run = app.start(&Launch::default());
    all_are_there(&mut run);
    beside(&mut run, 1);
    run.stop();
    std::fs::remove_dir_all(app.state("a").join(&app.id)).unwrap();
    app
}

fn all_are_there(run: &mut Run) {
    last_keys().iter().for_each(|key| notes::wait_for(run, key, (1, 1)));
}

fn beside(run: &mut Run, count: i64) {
    until("the other task works", || (notes::of(run, "beside", "k")? == (count, count)).then_some(()));
}

/// Looks at some of all.
fn assert_counted_once(run: &mut Run) {
    for number in (0..KEYS).step_by(1009) {
        assert_eq!(notes::of(run, "newest", &key(number)), Some((1, 1)), "{number}");
    }
}

#[test]
fn a_slow_restore_is_told_of_holds_nobody_up_and_goes_on_where_it_was_killed() {
    let app = lost();
    // Slower than a thread may go without polling its group.
    let slow = Launch {
        environment: &[("TIDEMILL__STATE__RESTORE_BYTES_PER_SECOND", "512KiB")],
        kafka: "\"max.poll.interval.ms\" = 10000",
        ..Launch::default()
    };
    let mut run = app.start(&slow);
    write_beside(&app);
    beside(&mut run, 2);
    let told = until("the tasks tell how far they are", || {
        let tasks = run.json("/v1/tasks")?["tasks"].as_array()?.clone();
        let restoring: Vec<Json> = tasks.into_iter().filter(|task| task["state"] == "restoring").collect();
        let estimated = restoring.iter().any(|task| task["restore_seconds_left"].as_i64().is_some());
        (estimated && restoring.len() == 2).then_some(restoring)
    });
    assert!(
        told.iter().all(|task| (1..=2 * KEYS as i64).contains(&task["restore_remaining"].as_i64().unwrap())),
        "{told:?}"
    );
    let remaining = metric(&mut run, "restore_remaining_records", "newest");
    assert!(remaining > 0.0 && remaining <= 2.0 * KEYS as f64, "{remaining}");
    assert_eq!((run.ask("/livez").0, run.ask("/readyz").0), (200, 503));
    until("it has said twice how far it is", || (lines(&run.said(), "still restoring").len() >= 4).then_some(()));
    write_beside(&app);
    beside(&mut run, 3);
    let said = run.kill();
    for sign in ["partitions are lost", "joining anew", "a task stops"] {
        assert!(!said.contains(sign), "{sign}: {said}");
    }
    let whole = sum(&lines(&said, "restoring"), "offsets");
    assert!(whole >= KEYS as i64, "{whole}");
    assert!(whole / notes::PARTITIONS as i64 > BULK_RESTORE_OFFSETS as i64, "{whole}");

    let mut run = app.start(&Launch::default());
    all_are_there(&mut run);
    let rest = sum(&lines(&run.said(), "restoring"), "offsets");
    assert!(0 < rest && rest < whole, "{rest} of {whole}");
    let restored = until("what was restored is shown", || {
        let restored = metric(&mut run, "restored_records_total", "newest");
        (restored > 0.0).then_some(restored)
    });
    assert!(restored <= rest as f64 && restored < KEYS as f64, "{restored} of {KEYS}, {rest}");
    assert_counted_once(&mut run);
    beside(&mut run, 3);
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_disk_that_fills_up_under_a_restore_stops_it_until_there_is_room() {
    let app = lost();
    let disk = app.disk("a", "size=8m");
    let mut run = app.start(&Launch { disk: Some(&disk), ..Launch::default() });
    let task = notes::quarantined_for(&mut run, "state_io");
    assert_eq!(task["quarantine"]["code"], "E0805", "{task}");
    assert!(run.said().contains("No space left on device"), "{}", run.said());
    let parts = disk.command("find").arg(app.state("a")).args(["-name", "run.new"]).output().unwrap();
    assert_eq!((parts.status.success(), parts.stdout.len()), (true, 0), "{parts:?}");
    disk.remount("size=512m");
    all_are_there(&mut run);
    assert_counted_once(&mut run);
    beside(&mut run, 1);
    shop::assert_no_store_was_set_aside(&run.stop());
}
