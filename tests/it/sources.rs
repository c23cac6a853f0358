//! Source topics that change under a daemon, and between two of its runs: given more partitions, deleted, made anew, cut short. The
//! tasks that read them stop with a code and wrong nobody; the others go on.

use tidemill::base::ids::{Offset, Topic, TopicPartition};

use crate::support::notes::{self, AT, key_of};
use crate::support::process::Run;
use crate::support::{App, DEADLINE, Launch, Place, topics, until};

fn open(place: &Place) -> App {
    let app = notes::open(place, &notes::beside());
    topics::create(&*app.broker(), &app.topic("others"), 1, &[]);
    app
}

/// `count` notes of one each under a key of each partition.
fn write_notes(app: &App, count: usize) {
    let keys = [key_of(0), key_of(1)];
    let records = (0..count).flat_map(|_| keys.iter()).map(|key| notes::note(app, key, AT, r#"{"n": 1}"#));
    topics::write(&*app.broker(), records);
}

fn wait_for_notes(run: &mut Run, count: i64) {
    for key in [key_of(0), key_of(1)] {
        notes::wait_for(run, &key, (count, count));
    }
}

/// The tasks that read the other topic are none the worse.
fn others_go_on(app: &App, run: &mut Run, count: i64) {
    let record = topics::record(&app.topic("others"), 0, AT, Some("k"), Some(br#"{"n": 1}"#.to_vec()));
    topics::write(&*app.broker(), [record]);
    until("the others go on", || (notes::of(run, "beside", "k")? == (count, count)).then_some(()));
}

/// Waits until both tasks of the notes stand still for this reason.
fn wait_for_stop(run: &mut Run, code: &str) {
    until(&format!("{code} stops both tasks"), || {
        let tasks = run.json("/v1/tasks")?;
        let all = tasks["tasks"].as_array().unwrap();
        let stopped: Vec<_> = all.iter().filter(|task| task["quarantine"]["code"] == code).collect();
        let named = stopped.iter().all(|task| task["task"].as_str().unwrap().starts_with("newest"));
        assert!(named, "{stopped:?}");
        (stopped.len() == 2).then_some(())
    });
}

/// Releases both tasks, again and again until they run: one that has just been released may be about to stop once more.
fn release(run: &mut Run, inputs: &str) {
    for task in ["newest_0", "newest_1"] {
        until(&format!("{task} runs again"), || {
            run.command(&["task", "release", task, "--inputs", inputs]);
            let tasks = run.json("/v1/tasks")?["tasks"].as_array()?.clone();
            tasks.iter().any(|known| known["task"] == task && known["state"] == "running").then_some(())
        });
    }
}

fn made_anew(app: &App) {
    let (broker, topic) = (app.broker(), app.topic("notes"));
    broker.admin().unwrap().delete(&topic.as_str().into(), DEADLINE).unwrap();
    topics::create(&*broker, &topic, notes::PARTITIONS, &[]);
}

/// Deletes the records before an offset in both partitions.
fn cut(app: &App, before: i64) {
    let place = |partition| (TopicPartition::new(app.topic("notes").as_str(), partition), Offset(before));
    app.broker().admin().unwrap().delete_records(&[place(0), place(1)], DEADLINE).unwrap();
}

fn grow(app: &App) {
    let topic = Topic::new(app.topic("notes"));
    app.broker().admin().unwrap().add_partitions(&topic, notes::PARTITIONS + 1, DEADLINE).unwrap();
}

fn start_is_refused(app: &App, code: &str) {
    let mut run = app.start(&Launch::default());
    let status = run.wait();
    let said = run.said();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains(code) && said.contains(&app.topic("notes")), "{said}");
}

#[test]
fn partitions_that_are_added_while_a_daemon_runs_stop_the_tasks_that_read_the_topic() {
    let app = open(&Place::kafka());
    write_notes(&app, 2);
    let mut run = app.start(&Launch::default());
    wait_for_notes(&mut run, 2);
    grow(&app);
    wait_for_stop(&mut run, "E0608");
    // Whoever divides the keys by the new number brings them to other tasks: nothing is counted there.
    write_notes(&app, 1);
    topics::write(
        &*app.broker(),
        [topics::record(&app.topic("notes"), 2, AT, Some("moved"), Some(br#"{"n": 1}"#.to_vec()))],
    );
    others_go_on(&app, &mut run, 1);
    wait_for_notes(&mut run, 2);
    assert_eq!(notes::of(&mut run, "newest", "moved"), None);
    assert_eq!(run.ask("/livez").0, 200);
    let metrics = run.ask("/metrics").1;
    let sample = format!("tidemill_source_changed{{topic=\"{}\",change=\"repartitioned\"}} 1", app.topic("notes"));
    assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    // Releasing changes nothing about it.
    let released = |run: &mut Run| run.command(&["task", "release", "newest_0", "--inputs", "earliest"]).0;
    until("it is released", || (released(&mut run) == Some(0)).then_some(()));
    wait_for_stop(&mut run, "E0608");
    wait_for_notes(&mut run, 2);
    run.stop();
    start_is_refused(&app, "E0608");
}

#[test]
fn a_start_on_a_topic_with_more_partitions_than_before_is_refused() {
    for place in [Place::Embedded, Place::kafka()] {
        let app = open(&place);
        write_notes(&app, 1);
        let mut run = app.start(&Launch::default());
        wait_for_notes(&mut run, 1);
        run.stop();
        grow(&app);
        start_is_refused(&app, "E0608");
    }
}

#[test]
fn a_topic_that_is_deleted_and_made_anew_under_a_daemon_is_not_taken_for_the_old_one() {
    let app = open(&Place::kafka());
    write_notes(&app, 3);
    let mut run = app.start(&Launch::default());
    wait_for_notes(&mut run, 3);
    let topic = Topic::new(app.topic("notes"));
    app.broker().admin().unwrap().delete(&topic, DEADLINE).unwrap();
    let gone = format!("topic `{topic}` was deleted while it was read (E0607)");
    run.says(&gone);
    others_go_on(&app, &mut run, 1);
    let sample = format!("tidemill_source_changed{{topic=\"{topic}\",change=\"gone\"}} 1");
    assert!(run.ask("/metrics").1.contains(&sample), "{sample}");
    assert_eq!((run.ask("/livez").0, run.ask("/readyz").0), (200, 200));
    // There are more records now than were read of the old one: an offset alone would not tell.
    made_anew(&app);
    write_notes(&app, 5);
    run.says(&format!("topic `{topic}` was deleted and made anew while it was read (E0607)"));
    others_go_on(&app, &mut run, 2);
    wait_for_notes(&mut run, 3);
    run.stop();
    let mut run = app.start(&Launch::default());
    wait_for_stop(&mut run, "E0607");
    wait_for_notes(&mut run, 3);
    release(&mut run, "earliest");
    wait_for_notes(&mut run, 8);
    run.stop();
    // It is the known one from here on.
    write_notes(&app, 1);
    let mut run = app.start(&Launch::default());
    wait_for_notes(&mut run, 9);
    others_go_on(&app, &mut run, 3);
    run.stop();
}

#[test]
fn a_topic_that_was_made_anew_while_no_daemon_ran_is_not_read_on_before_somebody_says_how() {
    for (place, inputs, wanted) in [
        (Place::Embedded, "earliest", 2 + 5 + 1),
        (Place::Embedded, "committed", 2 + 3 + 1),
        (Place::kafka(), "earliest", 2 + 5 + 1),
        (Place::kafka(), "latest", 2 + 1),
    ] {
        let app = open(&place);
        write_notes(&app, 2);
        let mut run = app.start(&Launch::default());
        wait_for_notes(&mut run, 2);
        run.stop();
        made_anew(&app);
        write_notes(&app, 5);
        let mut run = app.start(&Launch::default());
        wait_for_stop(&mut run, "E0607");
        release(&mut run, inputs);
        until("they run again", || run.stopped_tasks().is_empty().then_some(()));
        let mut run = if place == Place::Embedded {
            run.stop();
            write_notes(&app, 1);
            app.start(&Launch::default())
        } else {
            write_notes(&app, 1);
            run
        };
        wait_for_notes(&mut run, wanted);
        run.stop();
    }
}

#[test]
fn records_that_were_deleted_before_they_were_read_are_missed_by_nobody_in_silence() {
    for place in [Place::Embedded, Place::kafka()] {
        let app = open(&place);
        write_notes(&app, 2);
        let mut run = app.start(&Launch::default());
        wait_for_notes(&mut run, 2);
        run.stop();
        write_notes(&app, 5);
        cut(&app, 4);
        let mut run = app.start(&Launch::default());
        wait_for_stop(&mut run, "E0602");
        until("it is released", || (run.command(&["task", "release", "newest_0"]).0 == Some(0)).then_some(()));
        wait_for_stop(&mut run, "E0602");
        wait_for_notes(&mut run, 2);
        release(&mut run, "earliest");
        wait_for_notes(&mut run, 2 + 3);
        run.stop();
    }
}

#[test]
fn records_that_are_deleted_in_front_of_a_running_daemon_stop_the_tasks_that_wanted_them() {
    let app = open(&Place::kafka());
    write_notes(&app, 2);
    let mut run = app.start(&Launch::default());
    wait_for_notes(&mut run, 2);
    run.signal("STOP");
    write_notes(&app, 5);
    cut(&app, 4);
    run.signal("CONT");
    // A fetch that was under way when it was frozen may have brought them before they were deleted.
    until("each task stops or has them", || {
        let stopped: Vec<_> = run.stopped_tasks().into_iter().filter(|(_, error)| error.contains("E0602")).collect();
        let settled = |partition| {
            let task = format!("newest_{partition}");
            let counted = notes::of(&mut run, "newest", &key_of(partition));
            stopped.iter().any(|(stopped, _)| *stopped == task) || counted == Some((7, 7))
        };
        [0, 1].into_iter().map(settled).reduce(|a, b| a && b)?.then_some(())
    });
    others_go_on(&app, &mut run, 1);
    run.stop();
}

const NAMES: &str = r#"
[global_table.names]
topic = "{id}-names"
schemas = ["Note.avsc"]
value_format = "json"

[join.named]
left = "notes"
right = "names"
kind = "left"
key = 'left.text'
select = { text = 'left.text', n = 'right.?n' }

[sink.named_out]
from = "named"
topic = "{id}-named"
record = "notes.Named"
"#;

#[test]
fn a_global_table_whose_topic_grows_is_read_whole_by_the_next_start() {
    let app = notes::open(&Place::kafka(), &format!("{}{NAMES}", notes::TOPOLOGY));
    let (broker, names) = (app.broker(), app.topic("names"));
    let name = |partition, key| topics::record(&names, partition, AT, Some(key), Some(br#"{"n": 7}"#.to_vec()));
    let there = |run: &mut Run, key: &str| {
        let path = format!("/v1/stores/names/keys/{key}");
        until(&format!("`{key}` is there"), || (run.json(&path)?["value"]["n"] == 7).then_some(()));
    };
    topics::create(&*broker, &names, 1, &[]);
    topics::write(&*broker, [name(0, "a")]);
    let mut run = app.start(&Launch::default());
    there(&mut run, "a");
    broker.admin().unwrap().add_partitions(&names.as_str().into(), 2, DEADLINE).unwrap();
    topics::write(&*broker, [name(1, "b")]);
    let status = run.wait();
    assert!(status.code() == Some(78) && run.said().contains("E0608"), "{status}\n{}", run.said());
    let mut run = app.start(&Launch::default());
    there(&mut run, "a");
    there(&mut run, "b");
    run.stop();
}
