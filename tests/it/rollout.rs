//! Two versions of a topology in one application, as real processes on a real Kafka: one waits for the other or is refused, and at no
//! time do both process.

use serde_json::Value as Json;

use crate::support::notes::{self, AT, key_of};
use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until};

const SINK: &str = r#"
[sink.out]
from = "newest"
topic = "{id}-out"
record = "notes.Out"
"#;

/// What the later version counts besides.
const KINDS: &str = r#"
[aggregate.kinds]
from = "notes"
group_by = 'value.kind'
select = { notes = 'count()' }
"#;

const WAITS: &str = "waits until the instances of another topology have left";

fn earlier() -> String {
    format!("{}{SINK}", notes::TOPOLOGY)
}

fn later() -> String {
    format!("{}{KINDS}", earlier())
}

/// Readers of the sink's topic would miss a field.
fn breaking() -> String {
    let text = earlier().replace("sum = 'sum(value.n)', ", "");
    assert_ne!(text, earlier());
    text
}

/// An application that runs the earlier version as `a`.
fn deployed() -> (App, Run) {
    let app = notes::open(&Place::kafka(), &earlier());
    let mut a = app.start(&Launch::default());
    write(&app, 1);
    counted(&mut a, 1);
    (app, a)
}

fn start(app: &App, topology: &str, instance: &str) -> Run {
    app.rewrite(topology);
    app.start(&Launch { instance, ..Launch::default() })
}

/// A note under a key of each partition, so many times.
fn write(app: &App, times: usize) {
    let keys = [key_of(0), key_of(1)];
    let records = (0..times).flat_map(|_| keys.iter()).map(|key| notes::note(app, key, AT, r#"{"n": 1}"#));
    topics::write(&*app.broker(), records);
}

fn counted(run: &mut Run, times: i64) {
    for key in [key_of(0), key_of(1)] {
        notes::wait_for(run, &key, (times, times));
    }
}

fn tasks(run: &mut Run) -> Vec<Json> {
    run.json("/v1/tasks").unwrap()["tasks"].as_array().unwrap().clone()
}

/// It is said that it waits, for whom and why; it has nothing and is not ready, and lives.
fn waits(run: &mut Run, for_whom: &str) {
    run.says(WAITS);
    let (status, text) = run.ask("/readyz?verbose");
    assert!(status == 503 && text.contains("E0614") && text.contains(for_whom), "{status}: {text}");
    assert_eq!(run.ask("/livez").0, 200);
    until("it has given up what it had", || tasks(run).is_empty().then_some(()));
}

/// What an instance knows of who processes.
fn processing(run: &mut Run) -> Vec<(String, bool)> {
    let answer = run.json("/v1/instances").unwrap_or_default();
    let entries = answer["instances"].as_array().cloned().unwrap_or_default();
    let one = |entry: &Json| (entry["instance"].as_str().unwrap().to_owned(), entry["processes"].as_bool().unwrap());
    entries.iter().map(one).collect()
}

#[test]
fn a_later_version_waits_until_the_earlier_one_has_left_and_goes_on_with_its_state() {
    let (app, mut a) = deployed();
    let mut b = start(&app, &later(), "b");
    waits(&mut b, ": a (");
    until("each knows who processes", || {
        let known = vec![("a".to_owned(), true), ("b".to_owned(), false)];
        (processing(&mut a) == known && processing(&mut b) == known).then_some(())
    });
    write(&app, 1);
    counted(&mut a, 2);
    assert_eq!(tasks(&mut b), Vec::<Json>::new());
    a.stop();
    counted(&mut b, 2);
    write(&app, 1);
    counted(&mut b, 3);
    until("what is new counts from here on", || {
        (b.json("/v1/stores/kinds/keys/a")?["value"]["notes"] == 2).then_some(())
    });
    assert!(!b.said().contains("a task stops"), "{}", b.said());
    // The way back is a way from one version to another, too; who died has left when its silence says so.
    let mut c = start(&app, &earlier(), "c");
    waits(&mut c, ": b (");
    b.kill();
    write(&app, 1);
    counted(&mut c, 4);
    c.stop();
}

#[test]
fn versions_that_mean_the_same_go_together() {
    let (app, mut a) = deployed();
    let mut b = start(&app, &format!("# Another comment.\n{}", earlier()), "b");
    until("both have their share", || (tasks(&mut a).len() == 1 && tasks(&mut b).len() == 1).then_some(()));
    assert!(!b.said().contains(WAITS));
    a.stop();
    write(&app, 1);
    counted(&mut b, 2);
    b.stop();
}

#[test]
fn a_version_that_breaks_readers_is_refused_unless_it_is_told_that_it_may() {
    let (app, mut a) = deployed();
    let mut refused = start(&app, &breaking(), "b");
    let status = refused.wait();
    let said = refused.said();
    assert_eq!(status.code(), Some(78), "{said}");
    for part in ["E0613", "-out`", "allow_breaking_readers"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    write(&app, 1);
    counted(&mut a, 2);
    let told = Launch { instance: "b", settings: "allow_breaking_readers = true", ..Launch::default() };
    let mut b = app.start(&told);
    waits(&mut b, ": a (");
    a.stop();
    write(&app, 1);
    until("it goes on", || {
        let row = b.json(&format!("/v1/stores/newest/keys/{}", key_of(0)))?;
        (row["value"]["notes"] == 3).then_some(())
    });
    b.stop();
}

#[test]
fn a_process_frozen_for_so_long_that_a_later_version_took_over_waits_when_it_wakes() {
    let (app, a) = deployed();
    let mut a = a;
    let mut b = start(&app, &later(), "b");
    waits(&mut b, ": a (");
    a.signal("STOP");
    write(&app, 1);
    counted(&mut b, 2);
    a.signal("CONT");
    waits(&mut a, ": b (");
    write(&app, 1);
    counted(&mut b, 3);
    b.stop();
    write(&app, 1);
    counted(&mut a, 4);
    a.stop();
}
