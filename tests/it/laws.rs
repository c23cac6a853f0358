//! Laws that hold for every topology: a restart changes nothing, and what comes record by record ends as what comes at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use tidemill::base::rng::Rng;
use tidemill::base::time::{SpanMs, Timestamp};
use tidemill::testing::{Input, Output, World};
use tidemill::topology::{Colour, Sources};
use tidemill::{plan, topology};

const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "laws"

[stream.orders]
topic = "orders"
value_format = "json"
schemas = ["Order.avsc"]

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

[sink.customers]
from = "per_customer"
topic = "customers"
value_format = "json"

[sink.hours_out]
from = "hours"
topic = "hours"
key_format = "windowed"
value_format = "json"

[sink.sessions_out]
from = "sessions"
topic = "sessions"
key_format = "windowed"
value_format = "json"

[sink.ticks_out]
from = "ticks"
topic = "ticks"
value_format = "json"

[sink.late_out]
from = "late"
topic = "late"
value_format = "json"

[sink.calm_out]
from = "calm"
topic = "calm"
value_format = "json"

[sink.looked_up_out]
from = "looked_up"
topic = "looked_up"
value_format = "json"
"#;

const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
    {"name": "amount", "type": "long"}, {"name": "customer", "type": "string"}]}"#;

fn world() -> World {
    let sources = Sources::default().with_file("laws.toml", TOPOLOGY).with_schema("Order.avsc", ORDER);
    let (graph, findings) = topology::check(&sources);
    let graph = graph.unwrap_or_else(|| panic!("{}", topology::render(&findings, &sources, Colour::Never)));
    World::new(Arc::new(plan::build(&graph).unwrap()), Timestamp(0)).unwrap()
}

/// Records out of order, with deletions, of few keys.
fn inputs(seed: u64, count: usize) -> Vec<Input> {
    let mut rng = Rng::new(seed);
    let mut below = |most: u64| rng.next_u64() % most;
    let mut time = 100;
    let mut input = |_| {
        time += i64::try_from(below(5)).unwrap();
        let topic = if below(3) == 0 { "orders" } else { "items" };
        let value = json!({"amount": below(9), "customer": (["x", "y", "z"][below(3) as usize])});
        Input {
            topic: topic.to_owned(),
            key: Some(json!(["a", "b", "c", "d", "e"][below(5) as usize])),
            event_type: None,
            value: (topic == "orders" || below(6) > 0).then_some(value),
            at: Timestamp(time - i64::try_from(below(8)).unwrap()),
            headers: BTreeMap::new(),
        }
    };
    (0..count).map(&mut input).collect()
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
