//! Laws that hold for every topology: a restart changes nothing, what comes record by record ends as what comes at once, partitions may
//! come in any order; caches change nothing but what comes between; history is what state is the fold of; joins are what sets say.

mod caches;
mod history;
mod interleavings;
mod joins;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemill::base::rng::Rng;
use tidemill::base::time::{SpanMs, Timestamp};
use tidemill::testing::{Input, Output, Setup, World};
use tidemill::topology::{Colour, Sources};
use tidemill::{plan, topology};

const NODES: &str = r#"
[table.newest]
topic = "items"
value_format = "json"
schemas = ["Order.avsc"]
ttl = "40ms"

[aggregate.per_customer]
from = "newest"
group_by = 'value.customer'
emit = "on_update"
[aggregate.per_customer.select]
rows = 'count()'
total = 'sum(value.amount)'
least = 'min(value.amount)'
most = 'max(value.amount)'
different = 'count_distinct(value.amount)'

[aggregate.hours]
from = "orders"
window = { tumbling = "10ms", grace = "5ms" }
emit = "on_close"
select = { rows = 'count()', total = 'sum(value.amount)', last = 'last(value.amount)' }

[aggregate.sessions]
from = "orders"
group_by = 'value.customer'
window = { session = "7ms", grace = "5ms" }
emit = "on_update"
fold.total = { type = "long", initial = '0', update = 'state.total + value.amount', merge = 'state.total + other.total' }

[punctuate.ticks]
table = "newest"
every = "15ms"
where = 'value.amount % 2 == 0'
select = { amount = 'value.amount', time = 'meta.timestamp' }

[dedupe.once]
from = "orders"
id = 'value.amount'
within = "20ms"

[timer.late]
from = "once"
cancel = "newest"
after = "12ms"
select = { amount = 'value.amount' }

[suppress.calm]
from = "newest"
until = "6ms"
max_records = 3

[join.looked_up]
left = "orders"
right = "newest"
kind = "left"
select = { amount = 'left.amount', item = 'right.?amount' }
"#;

const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "amount", "type": "long"}, {"name": "customer", "type": "string"}]}"#;

/// The state of an entity.
const TOTALS: &str = r#"{"type": "record", "name": "Totals", "fields": [
    {"name": "rows", "type": "long", "default": 0}, {"name": "total", "type": "long", "default": 0},
    {"name": "most", "type": "long", "default": 0}, {"name": "last", "type": ["null", "string"], "default": null}]}"#;

/// An event topic and a table.
const ORDERS_AND_ITEMS: [(&str, &str); 2] = [("stream.orders", "orders"), ("table.items", "items")];

/// A topology that reads `sources`, each a table of the language with its topic, and writes what each of `results` gives to a topic of its
/// name; `windowed` have keys with windows.
fn topology_of(sources: &[(&str, &str)], nodes: &str, results: &[&str], windowed: &[&str]) -> String {
    let mut text = "[topology]\nformat = 1\napplication_id = \"laws\"\n".to_owned();
    for (source, topic) in sources {
        text += &format!("\n[{source}]\ntopic = \"{topic}\"\nvalue_format = \"json\"\nschemas = [\"Order.avsc\"]\n");
    }
    text += nodes;
    for (names, key_format) in [(results, ""), (windowed, "key_format = \"windowed\"\n")] {
        for name in names {
            text += &format!(
                "\n[sink.{name}_out]\nfrom = \"{name}\"\ntopic = \"{name}\"\nvalue_format = \"json\"\n{key_format}"
            );
        }
    }
    text
}

fn world() -> World {
    let results = ["per_customer", "ticks", "late", "calm", "looked_up"];
    world_of(&topology_of(&ORDERS_AND_ITEMS[..1], NODES, &results, &["hours", "sessions"]))
}

fn input(topic: &str, key: impl Into<Json>, value: Option<Json>, at: i64) -> Input {
    Input {
        topic: topic.to_owned(),
        key: Some(key.into()),
        event_type: None,
        value,
        at: Timestamp(at),
        headers: BTreeMap::new(),
    }
}

fn world_of(topology: &str) -> World {
    world_with(topology, Setup::default())
}

fn world_with(topology: &str, setup: Setup) -> World {
    let sources = Sources::default().with_file("laws.toml", topology).with_schema("Order.avsc", ORDER);
    let sources = sources.with_schema("Totals.avsc", TOTALS);
    let (graph, findings) = topology::check(&sources);
    let graph = graph.unwrap_or_else(|| panic!("{}", topology::render(&findings, &sources, Colour::Never)));
    World::with(Arc::new(plan::build(&graph).unwrap()), Timestamp(0), setup).unwrap()
}

/// Records out of order, with deletions, of few keys.
fn inputs(seed: u64, count: usize) -> Vec<Input> {
    let mut rng = Rng::new(seed);
    let mut below = |most: u64| rng.next_u64() % most;
    let mut time = 100;
    let mut next = |_| {
        time += i64::try_from(below(5)).unwrap();
        let topic = if below(3) == 0 { "orders" } else { "items" };
        let value = json!({"amount": below(9), "customer": (["x", "y", "z"][below(3) as usize])});
        let key = ["a", "b", "c", "d", "e"][below(5) as usize];
        let value = (topic == "orders" || below(6) > 0).then_some(value);
        input(topic, key, value, time - i64::try_from(below(8)).unwrap())
    };
    (0..count).map(&mut next).collect()
}

fn written(world: &mut World) -> BTreeMap<String, Vec<Output>> {
    let topics: Vec<String> = world.written_topics().map(str::to_owned).collect();
    topics.into_iter().map(|topic| (topic.clone(), world.outputs(&topic).unwrap())).collect()
}

#[test]
fn a_restart_anywhere_changes_no_output() {
    for seed in 1..=6 {
        let inputs = inputs(seed, 60);
        let mut whole = world();
        inputs.iter().for_each(|input| whole.feed(input).unwrap());
        let wanted = written(&mut whole);
        assert!(wanted.values().all(|outputs| !outputs.is_empty()), "seed {seed}: {:?}", sizes(&wanted));
        for every in [1 + seed as usize, 17] {
            let mut world = world();
            for (place, input) in inputs.iter().enumerate() {
                if place % every == every - 1 {
                    world.restart().unwrap();
                }
                world.feed(input).unwrap();
            }
            assert_eq!(world.stopped(), [], "seed {seed}, every {every}");
            let found = written(&mut world);
            for (topic, outputs) in &wanted {
                assert_eq!(found[topic], *outputs, "seed {seed}, a restart every {every} records, topic {topic}");
            }
        }
    }
}

fn sizes(written: &BTreeMap<String, Vec<Output>>) -> BTreeMap<&String, usize> {
    written.iter().map(|(topic, outputs)| (topic, outputs.len())).collect()
}

/// The last value of each key and window.
fn last(outputs: &[Output]) -> BTreeMap<String, Option<Json>> {
    let name = |output: &Output| format!("{:?} {:?}", output.key, output.window);
    outputs.iter().map(|output| (name(output), output.value.clone())).collect()
}

#[test]
fn what_comes_at_once_ends_as_what_comes_one_by_one() {
    for seed in 11..=16 {
        // In the order of their times: what is read at once is worked on by time.
        let mut inputs = inputs(seed, 80);
        for (place, input) in inputs.iter_mut().enumerate() {
            input.at = Timestamp(100 + 2 * place as i64);
        }
        let mut single = world();
        inputs.iter().for_each(|input| single.feed(input).unwrap());
        let mut batch = world();
        batch.write(&inputs).unwrap();
        batch.advance(SpanMs(0)).unwrap();
        let (wanted, found) = (written(&mut single), written(&mut batch));
        for (topic, outputs) in &wanted {
            assert_eq!(last(&found[topic]), last(outputs), "seed {seed}, topic {topic}");
        }
    }
}

const REFERRING: &str = r#"
[join.known]
left = "orders"
right = "customers"
foreign_key = 'left.amount > 0 ? left.customer : null'
select = { amount = 'left.amount', limit = 'right.amount' }
"#;

#[test]
fn a_row_that_refers_to_none_and_goes_before_the_answer_leaves_no_result() {
    let row = |topic: &str, key: &str, amount: Option<i64>, at: i64| {
        input(topic, key, amount.map(|amount| json!({"amount": amount, "customer": "ann"})), at)
    };
    let sources = [("table.orders", "orders"), ("table.customers", "customers")];
    let mut world = world_of(&topology_of(&sources, REFERRING, &["known"], &[]));
    world.feed(&row("customers", "ann", Some(9), 1)).unwrap();
    world.feed(&row("orders", "o", Some(5), 2)).unwrap();
    assert_eq!(
        last(&world.outputs("known").unwrap()).into_values().collect::<Vec<_>>(),
        [Some(json!({"amount": 5, "limit": 9}))]
    );
    // Both are worked on before the answer to the first is back.
    world.write(&[row("orders", "o", Some(0), 3), row("orders", "o", None, 4)]).unwrap();
    world.advance(SpanMs(0)).unwrap();
    assert_eq!(last(&world.outputs("known").unwrap()).into_values().collect::<Vec<_>>(), [None]);
}

const HELD: &str = r#"
[suppress.calm]
from = "items"
until = "1h"
BOUND
when_full = "WHEN"
"#;

#[test]
fn what_is_held_back_is_bounded_by_rows_and_by_bytes() {
    for (bound, stops_at) in [("max_records = 2", 3), ("max_bytes = 100", 3)] {
        for when_full in ["stop", "emit_early"] {
            let nodes = HELD.replace("BOUND", bound).replace("WHEN", when_full);
            let mut world = world_of(&topology_of(&[("table.items", "items")], &nodes, &["calm"], &[]));
            for number in 1..=4 {
                let value = json!({"amount": number, "customer": "twelve bytes"});
                world.feed(&input("items", format!("k{number}"), Some(value), number)).unwrap();
                let is_full = number >= stops_at;
                let stopped = world.stopped();
                assert_eq!(
                    !stopped.is_empty(),
                    is_full && when_full == "stop",
                    "{bound}, {when_full}, row {number}: {stopped:?}"
                );
                assert!(stopped.iter().all(|(_, why)| why.contains("E1006")), "{stopped:?}");
                let early: Vec<_> = world.outputs("calm").unwrap().into_iter().map(|output| output.key).collect();
                let oldest = json!(format!("k{}", number - stops_at + 1));
                let expected = if is_full && when_full == "emit_early" { vec![Some(oldest)] } else { Vec::new() };
                assert_eq!(early, expected, "{bound}, {when_full}, row {number}");
            }
        }
    }
}
