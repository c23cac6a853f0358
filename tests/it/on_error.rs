//! What a topology says about failures, on a running daemon: trying again, and rows that their topic does not take.

use tidemill::base::ids::Topic;

use crate::support::notes::{self, AT, TOPOLOGY, key_of};
use crate::support::{DEADLINE, Launch, Place, topics, until};

#[expect(clippy::disallowed_methods, reason = "a record that is a little ahead of the clock needs the clock")]
fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn a_record_that_is_tried_again_holds_up_its_task_alone_until_it_passes() {
    let retry = "value_format = \"json\"\non_error.decode = { action = \"retry\", attempts = 20, backoff = \"100ms\" }";
    let app = notes::open(&Place::Embedded, &TOPOLOGY.replace("value_format = \"json\"", retry));
    let (slow, other) = (key_of(0), key_of(1));
    let soon = now_ms() + 3_600_000 + 4_000;
    let records = [
        notes::note(&app, &slow, AT, r#"{"n": 1}"#),
        notes::note(&app, &slow, soon, r#"{"n": 2}"#),
        notes::note(&app, &slow, AT, r#"{"n": 4}"#),
        notes::note(&app, &other, AT, r#"{"n": 8}"#),
    ];
    topics::write(&*app.broker(), records);
    let mut run = app.start(&Launch::default());
    notes::wait_for(&mut run, &other, (1, 8));
    until("it is counted", || {
        run.ask("/metrics").1.contains("tidemill_record_retries_total{node=\"notes\",reason=\"future\"}").then_some(())
    });
    assert_eq!(notes::of(&mut run, "newest", &slow), Some((1, 1)), "what is behind a record that waits, waits");
    notes::wait_for(&mut run, &slow, (3, 7));
    assert!(run.stopped_tasks().is_empty());
    run.stop();
}

const WITH_SINK: &str = r#"
[stream.out]
from = "notes"
where = 'value.n >= 0'
select = { n = 'value.n', text = 'value.text' }

[sink.out_sink]
from = "out"
topic = "{id}-out"
record = "notes.Out"
on_error.produce = { action = "dead_letter", topic = "{id}-dlq" }
"#;

#[test]
fn a_topic_that_is_gone_sets_the_records_aside_that_write_to_it_and_no_others() {
    let app = notes::open(&Place::kafka(), &format!("{TOPOLOGY}{WITH_SINK}"));
    let broker = app.broker();
    topics::create(&*broker, &app.topic("out"), 1, &[]);
    topics::create(&*broker, &app.topic("dlq"), 1, &[]);
    let key = key_of(0);
    topics::write(&*broker, [notes::note(&app, &key, AT, r#"{"n": 1}"#)]);
    let mut run = app.start(&Launch::default());
    notes::wait_for(&mut run, &key, (1, 1));
    broker.admin().unwrap().delete(&Topic::new(app.topic("out")), DEADLINE).unwrap();
    let records = [notes::note(&app, &key, AT, r#"{"n": 2}"#), notes::note(&app, &key, AT, r#"{"n": -4}"#)];
    topics::write(&*broker, records);
    // The one that writes nothing there is counted, the other is not.
    notes::wait_for(&mut run, &key, (2, -3));
    assert!(run.stopped_tasks().is_empty());
    let letters = topics::read(&*broker, &app.topic("dlq"), 1);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some(&br#"{"n": 2}"#[..]));
    let reason = letters[0].headers.last("__tidemill.errors.reason").unwrap();
    assert_eq!(reason.value.as_deref(), Some(&b"produce"[..]));
    run.stop();
}

#[test]
fn a_row_too_large_for_its_topic_goes_by_what_its_sink_says() {
    for (place, limit) in [(Place::Embedded, "2000"), (Place::kafka(), "2000")] {
        let app = notes::open(&place, &format!("{TOPOLOGY}{WITH_SINK}"));
        let broker = app.broker();
        topics::create(&*broker, &app.topic("out"), 1, &[("max.message.bytes", limit)]);
        topics::create(&*broker, &app.topic("dlq"), 1, &[]);
        let (key, long) = (key_of(0), "x".repeat(4000));
        let records = [
            notes::note(&app, &key, AT, r#"{"n": 1}"#),
            notes::note(&app, &key, AT, &format!(r#"{{"n": 2, "text": "{long}"}}"#)),
            notes::note(&app, &key, AT, r#"{"n": 4}"#),
        ];
        topics::write(&*broker, records);
        drop(broker);
        let mut run = app.start(&Launch::default());
        notes::wait_for(&mut run, &key, (2, 5));
        let counted = "tidemill_dead_letters_total{node=\"out_sink\",reason=\"too_large\"} 1";
        until("it is counted", || run.ask("/metrics").1.contains(counted).then_some(()));
        run.stop();
        assert_eq!(topics::read(&*app.broker(), &app.topic("dlq"), 1).len(), 1);
    }
}
