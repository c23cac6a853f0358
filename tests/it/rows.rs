//! Nodes that look at one row at a time, where what they do is not seen in topics: lines of the log, bounds of lists.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value as Json, json};
use tidemill::base::time::Timestamp;
use tidemill::testing::{Input, World};
use tidemill::topology::{Colour, Sources};
use tidemill::{plan, topology};

/// A world that runs a topology of records with a list of texts.
fn world(topology: &str) -> World {
    let schema = r#"{"type": "record", "name": "Batch", "fields": [
        {"name": "id", "type": "string"}, {"name": "texts", "type": {"type": "array", "items": "string"}, "default": []}]}"#;
    let head = "[topology]\nformat = 1\napplication_id = \"rows\"\n[stream.batches]\ntopic = \"batches\"\nschemas = [\"Batch.avsc\"]\n";
    let text = format!("{head}{topology}");
    let sources = Sources::default().with_file("rows.toml", &text).with_schema("Batch.avsc", schema);
    let (graph, findings) = topology::check(&sources);
    let graph = graph.unwrap_or_else(|| panic!("{}", topology::render(&findings, &sources, Colour::Never)));
    World::new(Arc::new(plan::build(&graph).unwrap()), Timestamp(0)).unwrap()
}

fn feed(world: &mut World, at: i64, value: Json) {
    let input = Input {
        topic: "batches".to_owned(),
        key: Some(json!("k")),
        event_type: None,
        value: Some(value),
        at: Timestamp(at),
        headers: BTreeMap::new(),
    };
    world.feed(&input).unwrap();
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_written_at_their_level_and_no_more_than_said() {
    let written = Written::default();
    let into = written.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || into.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut world = world(
            "[log.seen]\nfrom = \"batches\"\nlevel = \"warn\"\nmessage = '\"saw \" + value.id'\nlines_per_second = 2\n",
        );
        for (at, id) in [(1000, "a"), (1001, "b"), (1002, "c"), (1003, "d"), (2000, "e")] {
            feed(&mut world, at, json!({"id": id}));
        }
    });
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let seen: Vec<&str> = text.lines().filter(|line| line.contains("saw ")).collect();
    assert_eq!(seen.len(), 3, "{text}");
    for (line, (id, left_out)) in seen.iter().zip([("a", 0), ("b", 0), ("e", 2)]) {
        assert!(line.contains("WARN") && line.contains(&format!("saw {id} ")), "{line}");
        assert!(line.contains("node=seen") && line.contains(&format!("left_out={left_out}")), "{line}");
    }
}

#[test]
fn a_list_that_is_too_long_fails_its_record_whole() {
    let mut world = world(
        "[stream.texts]\nfrom = \"batches\"\nflatten = 'value.texts'\non_error.process = { action = \"skip\" }\n\
         [sink.out]\nfrom = \"texts\"\ntopic = \"out\"\nrecord = \"Text\"\n",
    );
    feed(&mut world, 1, json!({"id": "long", "texts": vec!["x"; 65_537]}));
    assert_eq!(world.outputs("out").unwrap(), []);
    feed(&mut world, 2, json!({"id": "short", "texts": ["x", "y"]}));
    let texts: Vec<Json> = world.outputs("out").unwrap().into_iter().filter_map(|output| output.value).collect();
    assert_eq!(texts, [json!({"value": "x"}), json!({"value": "y"})]);
    assert!(world.stopped().is_empty());
}
