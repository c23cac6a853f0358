//! Partitions may be read in any order, and in pieces of any size: what is kept, and what windows give, is the same. Each has had a
//! record before: one that never had holds nobody back (decision 0005).

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill::base::hash::partition_of;
use tidemill::base::time::SpanMs;
use tidemill::testing::{Input, Output, Setup, World};

use super::{ORDERS_AND_ITEMS, input, last, topology_of, world_with, written};

const PARTITIONS: u32 = 3;

/// Every node with state stands behind a repartition, so that its rows come from all partitions.
const NODES: &str = r#"
[aggregate.of_orders]
from = "orders"
group_by = 'value.customer'
select = { rows = 'count()', total = 'sum(value.amount)', most = 'max(value.amount)' }

[aggregate.of_items]
from = "items"
group_by = 'value.customer'
select = { rows = 'count()', total = 'sum(value.amount)', least = 'min(value.amount)', different = 'count_distinct(value.amount)' }

[aggregate.tens]
from = "orders"
group_by = 'value.customer'
window = { tumbling = "10ms", grace = "0ms" }
emit = "on_close"
select = { rows = 'count()', total = 'sum(value.amount)' }

[aggregate.sessions]
from = "orders"
group_by = 'value.customer'
window = { session = "4ms", grace = "0ms" }
emit = "on_close"
select = { rows = 'count()', total = 'sum(value.amount)' }

[join.both]
left = "of_orders"
right = "of_items"
kind = "outer"
select = { orders = 'left.?total', items = 'right.?total' }
"#;

/// Behind all windows.
const END: i64 = 1_000_000;

#[derive(Clone, Debug)]
struct Event {
    topic: usize,
    key: u8,
    amount: i64,
    customer: usize,
    later_ms: i64,
    deleted: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0..2_usize, 0..9_u8, 0..9_i64, 0..3_usize, 0..5_i64, prop::bool::weighted(0.15));
    let event = event.prop_map(|(topic, key, amount, customer, later_ms, deleted)| Event {
        topic,
        key,
        amount,
        customer,
        later_ms,
        deleted,
    });
    prop::collection::vec(event, 1..50)
}

/// A record in each partition of each topic.
fn everywhere(name: &str, at: i64) -> Vec<Input> {
    let partitions = (0..PARTITIONS).flat_map(|partition| ORDERS_AND_ITEMS.map(|(_, topic)| (topic, partition)));
    let made = partitions.map(|(topic, partition)| {
        let mut keys = (0..).map(|number| format!("{name}{number}"));
        let key = keys.find(|key| partition_of(key.as_bytes(), PARTITIONS).0 as u32 == partition);
        input(topic, key.unwrap(), Some(json!({"amount": 0, "customer": name})), at)
    });
    made.collect()
}

/// In the order of time; last comes, in each partition, what closes every window.
fn inputs(events: &[Event]) -> Vec<Input> {
    let mut now = 0;
    let mut inputs = Vec::new();
    for event in events {
        now += event.later_ms;
        let value = json!({"amount": event.amount, "customer": (["x", "y", "z"][event.customer])});
        inputs.push(input(
            ORDERS_AND_ITEMS[event.topic].1,
            format!("k{}", event.key),
            (!event.deleted).then_some(value),
            now,
        ));
    }
    inputs.extend(everywhere("end", END));
    inputs
}

fn start() -> World {
    let results = ["of_orders", "of_items", "both"];
    let topology = topology_of(&ORDERS_AND_ITEMS, NODES, &results, &["tens", "sessions"]);
    let mut world = world_with(&topology, Setup { partitions: PARTITIONS, ..Setup::default() });
    everywhere("begin", 0).iter().for_each(|input| world.feed(input).unwrap());
    world
}

/// All in the order of time, one by one.
fn in_order(inputs: &[Input]) -> BTreeMap<String, Vec<Output>> {
    let mut world = start();
    inputs.iter().for_each(|input| world.feed(input).unwrap());
    finished(&mut world)
}

/// Any partition next, and any number of records at once.
fn interleaved(inputs: &[Input], choices: &[u8]) -> BTreeMap<String, Vec<Output>> {
    let mut partitions: BTreeMap<(String, i32), VecDeque<Input>> = BTreeMap::new();
    for input in inputs {
        let key = input.key.as_ref().and_then(Json::as_str).unwrap();
        let place = (input.topic.clone(), partition_of(key.as_bytes(), PARTITIONS).0);
        partitions.entry(place).or_default().push_back(input.clone());
    }
    let mut queues: Vec<VecDeque<Input>> = partitions.into_values().collect();
    let mut world = start();
    let mut choices = choices.iter().cycle();
    while !queues.is_empty() {
        let choice = usize::from(*choices.next().unwrap());
        let chosen = choice % queues.len();
        let most = (1 + choice / 64).min(queues[chosen].len());
        let next: Vec<Input> = queues[chosen].drain(..most).collect();
        world.write(&next).unwrap();
        if choice % 3 == 0 {
            world.advance(SpanMs(0)).unwrap();
        }
        queues.retain(|queue| !queue.is_empty());
    }
    world.advance(SpanMs(0)).unwrap();
    finished(&mut world)
}

fn finished(world: &mut World) -> BTreeMap<String, Vec<Output>> {
    assert_eq!(world.stopped(), []);
    written(world)
}

/// What windows gave: all of it, in no order.
fn closed(outputs: &[Output]) -> Vec<String> {
    let mut closed: Vec<String> = outputs
        .iter()
        .map(|output| format!("{:?} {:?} {:?} at {}", output.key, output.window, output.value, output.at))
        .collect();
    closed.sort();
    closed
}

/// Rows and amounts by customer, of all orders and of the newest items.
fn model(inputs: &[Input]) -> [BTreeMap<String, (i64, i64)>; 2] {
    let mut newest: BTreeMap<&str, &Json> = BTreeMap::new();
    let mut orders = Vec::new();
    for input in inputs {
        let key = input.key.as_ref().and_then(Json::as_str).unwrap();
        match (&*input.topic, &input.value) {
            ("orders", value) => orders.extend(value),
            (_, Some(value)) => drop(newest.insert(key, value)),
            (_, None) => drop(newest.remove(key)),
        }
    }
    let sums = |rows: Vec<&Json>| {
        let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for row in rows {
            let sum = sums.entry(row["customer"].as_str().unwrap().to_owned()).or_default();
            *sum = (sum.0 + 1, sum.1 + row["amount"].as_i64().unwrap());
        }
        sums
    };
    [sums(orders), sums(newest.into_values().collect())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn partitions_may_come_in_any_order(events in events(), choices in prop::collection::vec(any::<u8>(), 1..40)) {
        let inputs = inputs(&events);
        let (wanted, found) = (in_order(&inputs), interleaved(&inputs, &choices));
        for topic in ["of_orders", "of_items", "both"] {
            prop_assert_eq!(last(&found[topic]), last(&wanted[topic]), "topic {}", topic);
        }
        for topic in ["tens", "sessions"] {
            prop_assert_eq!(closed(&found[topic]), closed(&wanted[topic]), "topic {}", topic);
        }
        let all = [everywhere("begin", 0), inputs].concat();
        for (topic, sums) in ["of_orders", "of_items"].into_iter().zip(model(&all)) {
            let mut kept: BTreeMap<String, (i64, i64)> = BTreeMap::new();
            for output in &found[topic] {
                let (key, value) = (output.key.as_ref().unwrap().as_str().unwrap(), output.value.as_ref());
                let field = |name: &str| value.map_or(0, |value| value[name].as_i64().unwrap());
                kept.insert(key.to_owned(), (field("rows"), field("total")));
            }
            // A group that lost its last row has none.
            kept.retain(|_, sum| *sum != (0, 0));
            prop_assert_eq!(&kept, &sums, "topic {}", topic);
        }
    }
}
