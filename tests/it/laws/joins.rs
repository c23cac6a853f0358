//! Joins are what sets say: an inner join is in the left one, that in the outer one; of streams, all pairs of the window; of tables, the
//! join of the tables.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill::testing::{Input, Output};

use super::{input, last, world_of, written};

const KINDS: [&str; 3] = ["inner", "left", "outer"];
const KEYS: [&str; 3] = ["a", "b", "c"];

/// A row of either side; its amount is its place, so that no two are alike.
#[derive(Clone, Debug)]
struct Event {
    right: bool,
    key: usize,
    refers_to: usize,
    at: i64,
    deleted: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any::<bool>(), 0..3_usize, 0..3_usize, 0..4_i64, prop::bool::weighted(0.2));
    prop::collection::vec(event, 1..50).prop_map(|events| {
        let mut now = 0;
        let mut made = |(right, key, refers_to, later, deleted)| {
            now += later;
            Event { right, key, refers_to, at: now, deleted }
        };
        events.into_iter().map(&mut made).collect()
    })
}

fn row(place: usize, event: &Event) -> Input {
    let value = json!({"amount": place, "customer": (KEYS[event.refers_to])});
    let topic = if event.right { "rights" } else { "lefts" };
    input(topic, KEYS[event.key], (!event.deleted).then_some(value), event.at)
}

/// Two sources of a kind, and a join of each kind of join with its sink.
fn topology(source: &str, kinds: &[&str], more: &str) -> String {
    let mut text = "[topology]\nformat = 1\napplication_id = \"laws\"\n".to_owned();
    for (kind, name) in source.split(' ').zip(["left", "right"]) {
        text +=
            &format!("\n[{kind}.{name}]\ntopic = \"{name}s\"\nvalue_format = \"json\"\nschemas = [\"Order.avsc\"]\n");
    }
    for kind in kinds {
        text += &format!(
            "\n[join.{kind}_of]\nleft = \"left\"\nright = \"right\"\nkind = \"{kind}\"\n{more}\
             select = {{ l = 'left.?amount', r = 'right.?amount' }}\n\
             [sink.{kind}_out]\nfrom = \"{kind}_of\"\ntopic = \"{kind}\"\nvalue_format = \"json\"\n"
        );
    }
    text
}

fn outputs(topology: &str, inputs: impl IntoIterator<Item = Input>) -> BTreeMap<String, Vec<Output>> {
    let mut world = world_of(topology);
    inputs.into_iter().for_each(|input| world.feed(&input).unwrap());
    assert_eq!(world.stopped(), []);
    written(&mut world)
}

type Pair = (Option<i64>, Option<i64>);

fn pair(value: &Json) -> Pair {
    (value["l"].as_i64(), value["r"].as_i64())
}

/// The pairs of all rows that came out.
fn pairs(outputs: &[Output]) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = outputs.iter().map(|output| pair(output.value.as_ref().unwrap())).collect();
    pairs.sort_unstable();
    pairs
}

fn contains(more: &[Pair], less: &[Pair]) -> bool {
    less.iter().all(|pair| more.contains(pair))
}

/// The pairs that stand at the end.
fn standing(outputs: &[Output]) -> BTreeMap<String, Pair> {
    let last = last(outputs).into_iter();
    last.filter_map(|(key, value)| Some((key, pair(&value?)))).collect()
}

/// The amounts of the rows that stand at the end, by key, with what they refer to.
fn table(events: &[Event], right: bool) -> BTreeMap<usize, (i64, usize)> {
    let mut table = BTreeMap::new();
    for (place, event) in events.iter().enumerate().filter(|(_, event)| event.right == right) {
        if event.deleted {
            table.remove(&event.key);
        } else {
            table.insert(event.key, (place as i64, event.refers_to));
        }
    }
    table
}

fn named(key: usize) -> String {
    format!("{:?} {:?}", Some(json!(KEYS[key])), None::<()>)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_join_of_streams_has_all_pairs_of_the_window(events in events(), before in 0..8_i64, after in 0..8_i64, grace in 1..5_i64) {
        // Without grace, a side's row at the far end of the window may be past its time already, as in Kafka Streams.
        let window = format!("window = {{ before = \"{before}ms\", after = \"{after}ms\", grace = \"{grace}ms\" }}\n");
        // What closes every window comes last, and meets nothing.
        let end = |right: bool, key: &str| Input {
            key: Some(json!(key)),
            ..row(events.len(), &Event { right, key: 0, refers_to: 0, at: 1_000_000, deleted: false })
        };
        let fed = events.iter().enumerate().map(|(place, event)| row(place, event));
        let found = outputs(&topology("stream stream", &KINDS, &window), fed.chain([end(false, "y"), end(true, "z")]));

        let rows = |right: bool| {
            let side = events.iter().enumerate().filter(move |(_, event)| event.right == right && !event.deleted);
            side.map(|(place, event)| (place as i64, event)).collect::<Vec<_>>()
        };
        let (lefts, rights) = (rows(false), rows(true));
        let meets = |left: &Event, right: &Event| {
            left.key == right.key && (left.at - before..=left.at + after).contains(&right.at)
        };
        let mut inner = Vec::new();
        for (left, of_left) in &lefts {
            let met = rights.iter().filter(|(_, of_right)| meets(of_left, of_right));
            inner.extend(met.map(|(right, _)| (Some(*left), Some(*right))));
        }
        inner.sort_unstable();
        let left_alone = lefts.iter().map(|(left, _)| (Some(*left), None));
        let left_alone: Vec<Pair> = left_alone.filter(|(left, _)| !inner.iter().any(|pair| pair.0 == *left)).collect();
        let right_alone = rights.iter().map(|(right, _)| (None, Some(*right)));
        let right_alone: Vec<Pair> = right_alone.filter(|(_, right)| !inner.iter().any(|pair| pair.1 == *right)).collect();
        let mut left = [&inner[..], &left_alone].concat();
        let mut outer = [&left[..], &right_alone].concat();
        left.sort_unstable();
        outer.sort_unstable();
        prop_assert_eq!(pairs(&found["inner"]), inner);
        prop_assert_eq!(pairs(&found["left"]), left);
        prop_assert_eq!(pairs(&found["outer"]), outer);
    }

    #[test]
    fn a_join_of_tables_is_the_join_of_the_tables(events in events()) {
        let fed = events.iter().enumerate().map(|(place, event)| row(place, event));
        let found = outputs(&topology("table table", &KINDS, ""), fed);
        let (lefts, rights) = (table(&events, false), table(&events, true));
        for kind in KINDS {
            let mut wanted = BTreeMap::new();
            for key in 0..KEYS.len() {
                let (left, right) = (lefts.get(&key).map(|row| row.0), rights.get(&key).map(|row| row.0));
                let there = match kind {
                    "inner" => left.is_some() && right.is_some(),
                    "left" => left.is_some(),
                    _ => left.is_some() || right.is_some(),
                };
                if there {
                    wanted.insert(named(key), (left, right));
                }
            }
            prop_assert_eq!(standing(&found[kind]), wanted, "{}", kind);
        }
    }

    #[test]
    fn a_join_by_foreign_key_is_the_join_of_the_tables(events in events()) {
        let fed = events.iter().enumerate().map(|(place, event)| row(place, event));
        let found = outputs(&topology("table table", &KINDS[..2], "foreign_key = 'left.customer'\n"), fed);
        let (lefts, rights) = (table(&events, false), table(&events, true));
        for kind in &KINDS[..2] {
            let joined = lefts.iter().map(|(key, (left, refers_to))| {
                (named(*key), (Some(*left), rights.get(refers_to).map(|row| row.0)))
            });
            let wanted: BTreeMap<String, Pair> = joined.filter(|(_, pair)| *kind == "left" || pair.1.is_some()).collect();
            prop_assert_eq!(standing(&found[*kind]), wanted, "{}", kind);
        }
    }

    #[test]
    fn a_row_of_a_stream_meets_the_table_as_it_stands(events in events()) {
        let fed = events.iter().enumerate().map(|(place, event)| row(place, event));
        let found = outputs(&topology("stream table", &KINDS[..2], ""), fed);
        let rows = events.iter().enumerate().filter(|(_, event)| !event.right && !event.deleted);
        let mut left: Vec<Pair> = rows.map(|(place, event)| {
            let stands = table(&events[..place], true);
            (Some(place as i64), stands.get(&event.key).map(|row| row.0))
        }).collect();
        left.sort_unstable();
        let inner: Vec<Pair> = left.iter().copied().filter(|pair| pair.1.is_some()).collect();
        prop_assert_eq!(pairs(&found["left"]), left);
        prop_assert_eq!(pairs(&found["inner"]), inner);
        prop_assert!(contains(&pairs(&found["left"]), &pairs(&found["inner"])));
    }
}
