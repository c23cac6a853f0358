//! Caches, commits and `emit` change what comes between, and nothing that comes last.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill::base::time::SpanMs;
use tidemill::testing::{Input, Output, Setup};

use super::{ORDERS_AND_ITEMS, input, last, topology_of, world_with, written};

const NODES: &str = r#"
[aggregate.of_orders]
from = "orders"
emit = "EMIT"
select = { rows = 'count()', total = 'sum(value.amount)', all = 'collect(value.amount)' }

[aggregate.of_items]
from = "items"
group_by = 'value.customer'
emit = "EMIT"
select = { rows = 'count()', total = 'sum(value.amount)', most = 'max(value.amount)' }

[aggregate.tens]
from = "orders"
window = { hopping = "10ms", advance = "4ms", grace = "5ms" }
emit = "EMIT"
select = { rows = 'count()', last = 'last(value.amount)' }

[aggregate.sessions]
from = "orders"
window = { session = "4ms", grace = "5ms" }
emit = "EMIT"
select = { rows = 'count()', total = 'sum(value.amount)' }

[join.both]
left = "of_orders"
right = "items"
kind = "outer"
select = { total = 'left.?total', item = 'right.?amount' }
"#;

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let event = (any::<bool>(), 0..4_usize, 0..9_i64, 0..2_usize, 0..4_i64, 0..6_i64, prop::bool::weighted(0.15));
    prop::collection::vec(event, 1..50).prop_map(|events| {
        let mut now = 10;
        let mut next =
            |(orders, key, amount, customer, later, late, deleted): (bool, usize, i64, usize, i64, i64, bool)| {
                now += later;
                let topic = if orders { "orders" } else { "items" };
                let value = json!({"amount": amount, "customer": (["x", "y"][customer])});
                input(topic, ["a", "b", "c", "d"][key], (!deleted).then_some(value), now - late)
            };
        events.into_iter().map(&mut next).collect()
    })
}

/// What comes out when so many records are worked on before each commit.
fn outputs(inputs: &[Input], emit: &str, memory_budget_bytes: usize, commit: usize) -> BTreeMap<String, Vec<Output>> {
    let setup = Setup { memory_budget_bytes, ..Setup::default() };
    let results = ["of_orders", "of_items", "both"];
    let topology = topology_of(&ORDERS_AND_ITEMS, &NODES.replace("EMIT", emit), &results, &["tens", "sessions"]);
    let mut world = world_with(&topology, setup);
    for records in inputs.chunks(commit) {
        // What is read at once is worked on by time: for each size of the commit there is one order.
        world.write(records).unwrap();
        world.advance(SpanMs(0)).unwrap();
    }
    assert_eq!(world.stopped(), []);
    written(&mut world)
}

/// The values of each key and window, in order.
fn by_key(outputs: &[Output]) -> BTreeMap<String, Vec<Option<Json>>> {
    let mut values: BTreeMap<String, Vec<Option<Json>>> = BTreeMap::new();
    for output in outputs {
        values.entry(format!("{:?} {:?}", output.key, output.window)).or_default().push(output.value.clone());
    }
    values
}

/// What is there at the end: a session that came and went within a commit was never told of.
fn standing(outputs: &[Output]) -> BTreeMap<String, Json> {
    last(outputs).into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn is_part_of(some: &[Option<Json>], all: &[Option<Json>]) -> bool {
    let mut all = all.iter();
    some.iter().all(|value| all.any(|other| other == value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn caches_change_only_what_comes_between(inputs in inputs(), commit in 2..20_usize) {
        let each = outputs(&inputs, "on_update", 64 << 20, 1);
        let cached = outputs(&inputs, "on_commit", 64 << 20, 1);
        let small = outputs(&inputs, "on_commit", 0, 1);
        for (topic, wanted) in &each {
            for (found, which) in [(&cached, "a large cache"), (&small, "a small one")] {
                prop_assert_eq!(standing(&found[topic]), standing(wanted), "topic {}, {}", topic, which);
            }
        }
        let updates = outputs(&inputs, "on_update", 0, commit);
        for (memory, which) in [(64 << 20, "a large cache"), (0, "a small one")] {
            let commits = outputs(&inputs, "on_commit", memory, commit);
            for (topic, wanted) in &updates {
                prop_assert_eq!(standing(&commits[topic]), standing(wanted), "topic {}, {}", topic, which);
                let all = by_key(wanted);
                for (key, some) in by_key(&commits[topic]) {
                    // A join of results has pairs that never came together in the stream of all updates.
                    let part = topic == "both" || is_part_of(&some, &all[&key]);
                    prop_assert!(part, "topic {topic}, {key}, {which}: {some:?} of {:?}", all[&key]);
                }
            }
        }
    }
}
