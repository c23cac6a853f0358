//! A topology that counts notes by key, on JSON, whose every part a test may replace.

use tidemill::base::hash::partition_of;
use tidemill::base::record::Outgoing;

use super::process::Run;
use super::{App, Place, topics, until, until_or_said};

pub(crate) const PARTITIONS: u32 = 2;
pub(crate) const AT: i64 = 1_700_000_000_000;

pub(crate) const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.notes]
topic = "{id}-notes"
schemas = ["Note.avsc"]
value_format = "json"

[aggregate.newest]
from = "notes"
select = { notes = 'count()', sum = 'sum(value.n)', text = 'last(value.text)' }
"#;

const OTHERS: &str = r#"
[stream.others]
topic = "{id}-others"
schemas = ["Note.avsc"]
value_format = "json"

[aggregate.beside]
from = "others"
select = { notes = 'count()', sum = 'sum(value.n)' }
"#;

/// Counts another topic besides, so that one task can be seen to work while those of the notes do not.
pub(crate) fn beside() -> String {
    format!("{TOPOLOGY}{OTHERS}")
}

pub(crate) const SCHEMAS: &[(&str, &str)] = &[(
    "Note.avsc",
    r#"{"type": "record", "name": "Note", "namespace": "notes", "fields": [
        {"name": "n", "type": "long"}, {"name": "kind", "type": "string", "default": "a"},
        {"name": "text", "type": "string", "default": ""}]}"#,
)];

pub(crate) fn open(place: &Place, topology: &str) -> App {
    let app = App::new(place.clone(), topology, SCHEMAS);
    // Kafka takes nothing from more than an hour ahead, unless it is told to.
    let configs: &[(&str, &str)] = match place {
        Place::Embedded => &[],
        Place::Kafka { .. } => &[("message.timestamp.after.max.ms", "9223372036854775807")],
    };
    topics::create(&*app.broker(), &app.topic("notes"), PARTITIONS, configs);
    app
}

pub(crate) fn partition(key: &str) -> i32 {
    partition_of(key.as_bytes(), PARTITIONS).0
}

/// A key of a partition.
pub(crate) fn key_of(wanted: i32) -> String {
    (0..).map(|n| format!("k{n}")).find(|key| partition(key) == wanted).unwrap()
}

pub(crate) fn note(app: &App, key: &str, at: i64, value: &str) -> Outgoing {
    topics::record(&app.topic("notes"), partition(key), at, Some(key), Some(value.as_bytes().to_vec()))
}

/// Notes and their sum under a key.
pub(crate) fn of(run: &mut Run, store: &str, key: &str) -> Option<(i64, i64)> {
    let row = run.json(&format!("/v1/stores/{store}/keys/{key}"))?;
    Some((row["value"]["notes"].as_i64().unwrap(), row["value"]["sum"].as_i64().unwrap()))
}

pub(crate) fn wait_for(run: &mut Run, key: &str, wanted: (i64, i64)) {
    until_or_said(&format!("`{key}` is {wanted:?}"), || {
        let last = of(run, "newest", key);
        assert!(last.is_none_or(|(notes, _)| notes <= wanted.0), "{last:?} is beyond {wanted:?}");
        if last == Some(wanted) { Ok(()) } else { Err(format!("{last:?}\n{}", run.said())) }
    });
}

/// Waits until a task stands still for a reason.
pub(crate) fn quarantined_for(run: &mut Run, reason: &str) -> serde_json::Value {
    until(&format!("a task stands still: {reason}"), || {
        let tasks = run.json("/v1/tasks")?;
        let tasks = tasks["tasks"].as_array().unwrap();
        tasks.iter().find(|task| task["quarantine"]["reason"] == reason).cloned()
    })
}
