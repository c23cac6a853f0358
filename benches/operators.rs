//! Records per second that each operator works on, by CPU time of the process: `cargo bench --bench operators [-- PART OF A NAME]`.
//!
//! A topology on the in-memory broker and registry, state in memory, exactly once, one thread: consume, decode Avro, operator, encode,
//! commit. Events are written before the clock is started.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock and prints"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidemill::base::time::{SpanMs, Timestamp};
use tidemill::testing::{Input, World};
use tidemill::topology::{Colour, Sources};
use tidemill::{plan, topology};

/// As the daemon has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EVENTS: usize = 200_000;
const PARTS: usize = 10;
const RUNS: usize = 3;

const SCHEMA: &str = r#"{"type": "record", "name": "bench.Event", "fields": [
    {"name": "amount", "type": "long"}, {"name": "customer", "type": "string"}, {"name": "express", "type": "boolean"}]}"#;

/// Name, keys, milliseconds between events, the target of a second's records, and the topology behind the streams `left` and `right`.
type Bench = (&'static str, usize, i64, &'static str, &'static str);

const BENCHES: [Bench; 7] = [
    (
        "filter and select",
        1000,
        1,
        "2,000,000",
        "[stream.out]\nfrom = \"left\"\nwhere = 'value.amount > 99000'\nselect = { amount = 'value.amount', customer = 'value.customer' }\n[sink.s]\nfrom = \"out\"\ntopic = \"out\"\nrecord = \"bench.Out\"",
    ),
    ("count, hot keys", 1000, 1, "", "[aggregate.out]\nfrom = \"left\"\nselect = { rows = 'count()' }"),
    (
        "tumbling count, hot keys",
        1000,
        1,
        "1,000,000",
        "[aggregate.out]\nfrom = \"left\"\nwindow = { tumbling = \"1m\", grace = \"10s\" }\nselect = { rows = 'count()' }",
    ),
    (
        "hopping count, 6 windows a row",
        1000,
        1,
        "",
        "[aggregate.out]\nfrom = \"left\"\nwindow = { hopping = \"1m\", advance = \"10s\", grace = \"10s\" }\nselect = { rows = 'count()' }",
    ),
    (
        "session count",
        1000,
        1,
        "300,000",
        "[aggregate.out]\nfrom = \"left\"\nwindow = { session = \"5s\", grace = \"10s\" }\nselect = { rows = 'count()' }",
    ),
    (
        "stream-table join, cached keys",
        1000,
        1,
        "700,000",
        "[table.newest]\nfrom = \"right\"\n[join.out]\nleft = \"left\"\nright = \"newest\"\nselect = { amount = 'left.amount', other = 'right.amount' }\n[stream.some]\nfrom = \"out\"\nwhere = 'value.amount > 99000'\n[sink.s]\nfrom = \"some\"\ntopic = \"out\"\nrecord = \"bench.Out\"",
    ),
    (
        "stream-stream join",
        1000,
        1,
        "300,000",
        "[join.out]\nleft = \"left\"\nright = \"right\"\nwindow = { before = \"500ms\", after = \"500ms\", grace = \"1s\" }\nselect = { amount = 'left.amount', other = 'right.amount' }\n[stream.some]\nfrom = \"out\"\nwhere = 'value.amount > 99000'\n[sink.s]\nfrom = \"some\"\ntopic = \"out\"\nrecord = \"bench.Out\"",
    ),
];

fn main() {
    // Asked by `cargo test --benches`, which looks for tests.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!("{:<34} {:>16} {:>14}", "operator", "records / CPU s", "target");
    for (name, keys, apart_ms, target, topology) in BENCHES.into_iter().filter(|bench| bench.0.contains(&wanted)) {
        let mut rates: Vec<f64> = (0..RUNS).map(|_| rate(keys, apart_ms, topology)).collect();
        rates.sort_by(f64::total_cmp);
        println!("{name:<34} {:>16} {target:>14}", grouped(rates[RUNS / 2] as u64));
    }
}

fn rate(keys: usize, apart_ms: i64, text: &str) -> f64 {
    let two_sides = text.contains("\"right\"");
    let source = |name: &str| format!("[stream.{name}]\ntopic = \"{name}\"\nschemas = [\"Event.avsc\"]\n");
    let mut whole = format!("[topology]\nformat = 1\napplication_id = \"bench\"\n{}", source("left"));
    if two_sides {
        whole.push_str(&source("right"));
    }
    whole.push_str(text);
    let sources = Sources::default().with_file("bench.toml", &whole).with_schema("Event.avsc", SCHEMA);
    let (graph, findings) = topology::check(&sources);
    let graph = graph.unwrap_or_else(|| panic!("{}", topology::render(&findings, &sources, Colour::Never)));
    let plan = plan::build(&graph).unwrap();
    let mut world = World::new(Arc::new(plan), Timestamp(0)).unwrap();
    let sides = if two_sides { &["right", "left"][..] } else { &["left"][..] };
    let all: Vec<Vec<Input>> = sides.iter().map(|side| events(side, keys, apart_ms)).collect();
    let mut worked = Duration::ZERO;
    // In parts, and a second passes behind each, as it would: state is written behind the commits.
    for part in 0..PARTS {
        let of = part * EVENTS / PARTS..(part + 1) * EVENTS / PARTS;
        all.iter().for_each(|events| world.write(&events[of.clone()]).unwrap());
        let before = cpu();
        world.advance(SpanMs(1000)).unwrap();
        worked += cpu() - before;
    }
    let seconds = worked.as_secs_f64();
    assert!(world.stopped().is_empty(), "{:?}", world.stopped());
    (if two_sides { 2 * EVENTS } else { EVENTS }) as f64 / seconds
}

fn events(topic: &str, keys: usize, apart_ms: i64) -> Vec<Input> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let event = |index: usize| Input {
        topic: topic.to_owned(),
        key: Some(json!(format!("k{:06}", next() as usize % keys))),
        event_type: None,
        value: Some(json!({"amount": index % 100_000, "customer": "somebody", "express": index.is_multiple_of(3)})),
        at: Timestamp(1_000_000 + index as i64 * apart_ms),
        headers: BTreeMap::new(),
    };
    (0..EVENTS).map(event).collect()
}

/// CPU time of the process so far: user and system.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = text.rsplit(')').next().unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux counts these in hundredths of a second, whatever the kernel's own tick.
    Duration::from_millis(ticks * 10)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let grouped: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect();
    grouped.join(",")
}
