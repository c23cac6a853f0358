//! Dead letters are listed, shown, sent back exactly once and dropped, with a fix in between.

use serde_json::Value as Json;

use crate::support::notes::{self, AT, SCHEMAS};
use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until};

/// Two nodes fail: the source for a note without `n`, and behind a repartition the sum for a note whose `n` is 0.
const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[defaults.on_error]
decode = { action = "dead_letter", topic = "{id}-dlq" }
process = { action = "dead_letter", topic = "{id}-dlq" }

[stream.notes]
topic = "{id}-notes"
schemas = ["Note.avsc"]
value_format = "json"

[aggregate.kinds]
from = "notes"
group_by = 'value.kind'
select = { notes = 'count()', sum = 'sum(100 / value.n)' }
"#;

fn letters(run: &mut Run, app: &App) -> (u64, Json) {
    let (code, listed) = run.command(&["dlq", "ls", &app.topic("dlq")]);
    assert_eq!(code, Some(0), "{listed}");
    (listed["open"].as_u64().unwrap(), listed)
}

fn counted(run: &mut Run, wanted: (i64, i64)) {
    let mut last = None;
    until(&format!("the notes are {wanted:?}"), || {
        last = notes::of(run, "kinds", "a");
        assert!(last.is_none_or(|(notes, _)| notes <= wanted.0), "{last:?} is beyond {wanted:?}");
        (last == Some(wanted)).then_some(())
    });
}

/// Writes thirty good notes and three bad ones; returns the app with its letters set aside.
fn with_letters(place: &Place) -> App {
    let app = notes::open(place, TOPOLOGY);
    topics::create(&*app.broker(), &app.topic("dlq"), 2, &[]);
    let mut records: Vec<_> =
        (0..30).map(|n| notes::note(&app, &format!("k{n}"), AT, r#"{"n": 10, "kind": "a"}"#)).collect();
    records.insert(5, notes::note(&app, "bad1", AT, r#"{"kind": "a", "text": "no n"}"#));
    records.insert(9, notes::note(&app, "bad2", AT, r#"{"n": 0, "kind": "a"}"#));
    records.insert(20, notes::note(&app, "bad3", AT, r#"{"n": 0, "kind": "a"}"#));
    topics::write(&*app.broker(), records);
    let mut run = app.start(&Launch::default());
    counted(&mut run, (30, 300));
    until("three letters", || (letters(&mut run, &app).0 == 3).then_some(()));
    run.stop();
    app
}

fn fix(app: &App) {
    app.rewrite(&TOPOLOGY.replace("100 / value.n", "value.n == 0 ? 1 : 100 / value.n"));
    let schema =
        SCHEMAS[0].1.replace(r#"{"name": "n", "type": "long"}"#, r#"{"name": "n", "type": "long", "default": 50}"#);
    std::fs::write(app.folder.path().join("topology/Note.avsc"), schema).unwrap();
}

fn shows_what_is_in_them(run: &mut Run, app: &App) {
    let (_, topics) = run.command(&["dlq", "ls"]);
    assert_eq!(topics["topics"][0]["topic"], app.topic("dlq"));
    assert_eq!(topics["topics"][0]["reasons"], serde_json::json!({ "decode": 1, "process": 2 }));
    let (open, listed) = letters(run, app);
    assert_eq!((open, listed["letters"].as_array().unwrap().len()), (3, 3));
    for letter in listed["letters"].as_array().unwrap() {
        let name = letter["letter"].as_str().unwrap();
        let (code, shown) = run.command(&["dlq", "show", &app.topic("dlq"), name]);
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown}");
        match letter["reason"].as_str().unwrap() {
            "decode" => {
                assert_eq!(shown["value"]["text"], "no n");
                assert_eq!((&shown["node"], &shown["from"]["topic"]), (&"notes".into(), &app.topic("notes").into()));
            }
            // What the repartition topic has of it.
            "process" => {
                assert_eq!(shown["value"]["n"], 0, "{shown}");
                assert!(shown["from"]["topic"].as_str().unwrap().ends_with("-repartition"), "{shown}");
            }
            other => panic!("{other}"),
        }
    }
    let (_, one) = run.command(&["dlq", "ls", &app.topic("dlq"), "--reason", "decode", "--limit", "1"]);
    assert_eq!((one["letters"].as_array().unwrap().len(), one["open"].as_u64()), (1, Some(3)));
}

fn sent_back_once(place: &Place) {
    let app = with_letters(place);
    let dlq = app.topic("dlq");
    fix(&app);
    let armed = |step: &str| Launch { crash: Some(format!("{step}:1")), ..Launch::default() };
    // Dies before the commit: nothing has happened.
    let mut run = app.start(&armed("letters_sent"));
    until("it can be asked", || notes::of(&mut run, "kinds", "a"));
    shows_what_is_in_them(&mut run, &app);
    assert_ne!(run.command(&["dlq", "replay", &dlq, "--all"]).0, Some(0));
    run.crashes_at("letters_sent");
    // Dies behind the commit, before anybody is told: it has happened.
    let mut run = app.start(&armed("letters_settled"));
    counted(&mut run, (30, 300));
    assert_eq!(letters(&mut run, &app).0, 3);
    assert_ne!(run.command(&["dlq", "replay", &dlq, "--all"]).0, Some(0));
    run.crashes_at("letters_settled");
    let mut run = app.start(&Launch::default());
    counted(&mut run, (33, 304));
    assert_eq!(letters(&mut run, &app).0, 0);
    // Once more is not once too often.
    let (code, again) = run.command(&["dlq", "replay", &dlq, "--all"]);
    assert_eq!((code, again["settled"].as_u64()), (Some(0), Some(0)), "{again}");
    counted(&mut run, (33, 304));
    assert!(run.stopped_tasks().is_empty());
    run.stop();
}

#[test]
fn after_a_fix_dead_letters_are_sent_back_exactly_once_whenever_the_daemon_dies() {
    crate::support::in_parallel(&[Place::Embedded, Place::kafka()], 2, sent_back_once);
}

#[test]
fn one_letter_is_dropped_and_another_sent_back_to_fail_again() {
    let app = with_letters(&Place::Embedded);
    let dlq = app.topic("dlq");
    let mut run = app.start(&Launch::default());
    let (_, listed) = letters(&mut run, &app);
    let named = |reason: &str| -> String {
        let all = listed["letters"].as_array().unwrap();
        all.iter().find(|letter| letter["reason"] == reason).unwrap()["letter"].as_str().unwrap().to_owned()
    };
    let (bad, zero) = (named("decode"), named("process"));
    assert_eq!(run.command(&["dlq", "drop", &dlq, &bad]).1["settled"], 1);
    let (_, left) = letters(&mut run, &app);
    assert_eq!(left["reasons"], serde_json::json!({ "process": 2 }));
    // It is settled: neither a replay nor a look finds it.
    let (code, refused) = run.command(&["dlq", "replay", &dlq, &bad]);
    assert_eq!(
        (code, refused["settled"].as_u64(), refused["refused"].as_array().unwrap().len()),
        (Some(1), Some(0), 1)
    );
    assert_eq!(run.command(&["dlq", "show", &dlq, &bad]).0, Some(1));
    // Without a fix it comes back as another letter.
    assert_eq!(run.command(&["dlq", "replay", &dlq, &zero]).1["settled"], 1);
    until("it has failed again", || {
        let (_, listed) = letters(&mut run, &app);
        let all = listed["letters"].as_array().unwrap().clone();
        (all.len() == 2 && all.iter().all(|letter| letter["letter"] != zero.as_str())).then_some(())
    });
    counted(&mut run, (30, 300));
    let (code, said) = run.command(&["dlq", "ls", "nowhere"]);
    assert_eq!(code, Some(1), "{said}");
    run.stop();
}
