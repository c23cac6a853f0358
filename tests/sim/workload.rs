//! What a simulated daemon works on: the shipped topologies, some of our own that have what is hard to keep right, and random ones; with
//! inputs by seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value as Json, json};
use tidemill::base::hash::partition_of;
use tidemill::base::record::Outgoing;
use tidemill::base::rng::Rng;
use tidemill::base::time::Timestamp;
use tidemill::broker::Broker;
use tidemill::limits::SCAN_ROWS_MAX;
use tidemill::plan::{Clock, NodeKind, Plan};
use tidemill::registry::Registry;
use tidemill::testing::{Input, Inputs};
use tidemill::topology::{self, Colour, Sources};

use super::fates::START_MS;

/// A plan with what it is given.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) plan: Arc<Plan>,
    events: Vec<Event>,
    /// Topics whose last value of each key is the same, whatever the tasks' speeds.
    pub(crate) finals: &'static [&'static str],
    begun: Begun,
}

enum Event {
    Good(Input),
    /// Bytes that nobody can read, for the first topic.
    Bad {
        key: String,
        at: Timestamp,
    },
}

/// Some topologies of our own.
const SHOP: &str = r#"
[topology]
format = 1
application_id = "sim"

[defaults.on_error]
decode = { action = "dead_letter", topic = "letters" }

[stream.orders]
topic = "orders"
schemas = ["Order.avsc"]
"#;

const SCHEMAS: [(&str, &str); 3] = [
    (
        "Order.avsc",
        r#"{"type": "record", "name": "sim.Order", "fields": [
            {"name": "n", "type": "long"}, {"name": "item", "type": "string"}, {"name": "amount", "type": "long"}]}"#,
    ),
    (
        "Customer.avsc",
        r#"{"type": "record", "name": "sim.Customer", "fields": [{"name": "name", "type": "string"}, {"name": "level", "type": "long"}]}"#,
    ),
    (
        "Card.avsc",
        r#"{"type": "record", "name": "sim.Card", "fields": [
            {"name": "n", "type": ["null", "long"], "default": null}, {"name": "item", "type": ["null", "string"], "default": null}]}"#,
    ),
];

/// What is there before anything begins.
#[derive(Clone, Copy)]
enum Begun {
    Nothing,
    /// An order in each partition. A task that never had one holds nobody's windows open, and whether it has one by the time it is asked
    /// is up to its speed.
    OrderInEach,
    /// More customers in one partition than are gone through at once.
    Customers,
}

struct Family {
    name: &'static str,
    text: &'static str,
    topics: &'static [&'static str],
    finals: &'static [&'static str],
    /// Milliseconds that a record may be behind those before it.
    late_ms: u64,
    bad: bool,
    begun: Begun,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "totals",
        text: r#"
[aggregate.totals]
from = "orders"
group_by = 'value.item'
select = { orders = 'count()', amount = 'sum(value.amount)' }
[sink.totals_out]
from = "totals"
topic = "totals"
record = "sim.Total"
[entity.card]
from = "orders"
schema = "Card.avsc"
history = "forever"
apply.Order.set = { n = 'event.n', item = 'event.item' }
[stream.large]
from = "orders"
where = 'value.amount > 500'
[sink.large_out]
from = "large"
topic = "large"
record = "sim.Large"
"#,
        topics: &["orders"],
        finals: &["totals", "large"],
        late_ms: 3000,
        bad: true,
        begun: Begun::Nothing,
    },
    Family {
        name: "closing",
        text: r#"
[aggregate.spans]
from = "orders"
group_by = 'value.item'
window = { tumbling = "10s", grace = "5s", retention = "1d" }
emit = "on_close"
select = { orders = 'count()', amount = 'sum(value.amount)' }
[stream.closed]
from = "spans"
select = { item = 'key', start = 'window.start', orders = 'value.orders', amount = 'value.amount' }
[sink.closed_out]
from = "closed"
topic = "closed"
record = "sim.Closed"
[aggregate.all_spans]
from = "closed"
group_by = '"all " + value.item'
emit = "on_update"
select = { spans = 'count()', orders = 'sum(value.orders)' }
[sink.all_out]
from = "all_spans"
topic = "all"
record = "sim.All"
"#,
        topics: &["orders"],
        finals: &["all"],
        late_ms: 4000,
        bad: false,
        begun: Begun::OrderInEach,
    },
    Family {
        name: "windows",
        text: r#"
[aggregate.hops]
from = "orders"
window = { hopping = "8s", advance = "3s", grace = "2s" }
emit = "on_update"
select = { orders = 'count()', first = 'first(value.n)', last = 'last(value.n)' }
[sink.hops_out]
from = "hops"
topic = "hops"
record = "sim.Hop"
key_format = "windowed"
[aggregate.visits]
from = "orders"
window = { session = "3s", grace = "2s" }
emit = "on_close"
select = { orders = 'count()', all = 'collect(value.n)' }
[sink.visits_out]
from = "visits"
topic = "visits"
record = "sim.Visit"
key_format = "windowed"
[aggregate.slides]
from = "orders"
window = { sliding = "4s", grace = "1s" }
select = { orders = 'count()', most = 'max(value.amount)' }
[sink.slides_out]
from = "slides"
topic = "slides"
record = "sim.Slide"
key_format = "windowed"
"#,
        topics: &["orders"],
        finals: &[],
        late_ms: 9000,
        bad: true,
        begun: Begun::Nothing,
    },
    Family {
        name: "tables",
        text: r#"
[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]
[join.known]
left = "orders"
right = "customers"
kind = "left"
select = { n = 'left.n', name = 'right.?name' }
[sink.known_out]
from = "known"
topic = "known"
record = "sim.Known"
[aggregate.levels]
from = "customers"
group_by = 'string(value.level)'
emit = "on_update"
select = { customers = 'count()', sum = 'sum(value.level)' }
[sink.levels_out]
from = "levels"
topic = "levels"
record = "sim.Level"
"#,
        topics: &["orders", "customers"],
        finals: &["levels"],
        late_ms: 2000,
        bad: false,
        begun: Begun::Nothing,
    },
    Family {
        name: "pairs",
        text: r#"
[stream.payments]
topic = "payments"
schemas = ["Order.avsc"]
[join.paid]
left = "orders"
right = "payments"
kind = "left"
window = { before = "2s", after = "3s", grace = "2s" }
select = { n = 'left.n', paid = 'right.?n' }
[sink.paid_out]
from = "paid"
topic = "paid"
record = "sim.Paid"
"#,
        topics: &["orders", "payments"],
        finals: &[],
        late_ms: 3000,
        bad: false,
        begun: Begun::Nothing,
    },
    Family {
        name: "rounds",
        text: r#"
[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]
ttl = "25s"
[punctuate.by_rows]
table = "customers"
every = "5s"
clock = "stream_time"
where = 'value.level > 1'
select = { name = 'value.name', at = 'meta.timestamp' }
[sink.by_rows_out]
from = "by_rows"
topic = "rows"
record = "sim.ByRows"
[punctuate.by_clock]
table = "customers"
every = "7s"
clock = "wall_clock_time"
where = 'value.level > 1'
select = { name = 'value.name', at = 'meta.timestamp' }
[sink.by_clock_out]
from = "by_clock"
topic = "clock"
record = "sim.ByClock"
[join.known]
left = "orders"
right = "customers"
kind = "left"
select = { n = 'left.n', name = 'right.?name' }
[sink.known_out]
from = "known"
topic = "known"
record = "sim.Known"
"#,
        topics: &["orders", "customers"],
        finals: &[],
        late_ms: 3000,
        bad: true,
        begun: Begun::Customers,
    },
    Family {
        name: "held",
        text: r#"
[dedupe.once]
from = "orders"
id = 'string(value.amount)'
within = "10s"
[timer.silent]
from = "once"
after = "4s"
clock = "stream_time"
select = { n = 'value.n' }
[sink.silent_out]
from = "silent"
topic = "silent"
record = "sim.Silent"
[timer.bell]
from = "once"
after = "3s"
clock = "wall_clock_time"
select = { n = 'value.n' }
[sink.bell_out]
from = "bell"
topic = "bell"
record = "sim.Bell"
"#,
        topics: &["orders"],
        finals: &[],
        late_ms: 2000,
        bad: true,
        begun: Begun::Nothing,
    },
];

/// Plans by what they are made of: a plan is built once.
static PLANS: Mutex<BTreeMap<String, Arc<Plan>>> = Mutex::new(BTreeMap::new());

impl Workload {
    /// The workload of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        match rng.below(20) {
            0 | 1 => shipped("sensors", &mut rng, reading),
            2 => shipped("flights", &mut rng, flight),
            3..=6 => random(seed),
            _ => of_family(&FAMILIES[rng.below(FAMILIES.len() as u64) as usize], &mut rng),
        }
    }

    /// How many records it gives.
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// How many of them nobody can read.
    pub(crate) fn bad(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Bad { .. })).count()
    }

    /// How many records are there before anything begins.
    pub(crate) fn begun(&self, partitions: u32) -> usize {
        match self.begun {
            Begun::Nothing => 0,
            Begun::OrderInEach => partitions as usize,
            Begun::Customers => SCAN_ROWS_MAX + 20,
        }
    }

    /// Makes the input topics and returns all records, in order.
    pub(crate) fn records(&self, broker: &dyn Broker, registry: &dyn Registry, partitions: u32) -> Vec<Outgoing> {
        let inputs = Inputs::prepare(&self.plan, broker, registry, partitions).unwrap();
        let record = |event: &Event| match event {
            Event::Good(input) => inputs.record(input).unwrap_or_else(|error| panic!("{}: {error}", self.name)),
            Event::Bad { key, at } => Outgoing {
                topic: "orders".into(),
                partition: partition_of(key.as_bytes(), partitions),
                timestamp: *at,
                key: Some(key.clone().into()),
                value: Some(vec![9, 9, 9].into()),
                headers: tidemill::base::record::Headers::default(),
            },
        };
        let begun: Vec<Event> = match self.begun {
            Begun::Nothing => Vec::new(),
            Begun::OrderInEach => (0..partitions).map(|partition| first_order(partition, partitions)).collect(),
            Begun::Customers => first_customers(partitions, self.begun(partitions)),
        };
        begun.iter().chain(&self.events).map(record).collect()
    }
}

fn built(name: &str, sources: &Sources) -> Arc<Plan> {
    let (graph, findings) = topology::check(sources);
    let told = |findings: &[_]| topology::render(findings, sources, Colour::Never);
    let graph = graph.unwrap_or_else(|| panic!("{name}: {}", told(&findings)));
    Arc::new(tidemill::plan::build(&graph).unwrap_or_else(|findings| panic!("{name}: {}", told(&findings))))
}

fn plan(name: &str, sources: impl FnOnce() -> Sources) -> Arc<Plan> {
    let known = PLANS.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
    known.unwrap_or_else(|| {
        let plan = built(name, &sources());
        PLANS.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::clone(&plan));
        plan
    })
}

/// Times go on, some records come late, keys are few.
struct Times {
    now_ms: i64,
    late_ms: u64,
}

impl Times {
    fn next(&mut self, rng: &mut Rng) -> Timestamp {
        let span_ms = if rng.chance(1, 15) { 9000 } else { 900 };
        self.now_ms += rng.below(span_ms) as i64;
        let late_ms = if rng.chance(1, 4) { rng.below(self.late_ms + 1) } else { 0 };
        Timestamp(self.now_ms - late_ms as i64)
    }
}

fn of_family(family: &'static Family, rng: &mut Rng) -> Workload {
    let sources = || {
        let text = format!("{SHOP}{}", family.text);
        let sources = Sources::default().with_file(&format!("{}.toml", family.name), &text);
        SCHEMAS.iter().fold(sources, |sources, (name, text)| sources.with_schema(name, text))
    };
    let mut times = Times { now_ms: START_MS, late_ms: family.late_ms };
    let count = 10 + rng.below(80);
    let event = |n: u64| {
        let at = times.next(rng);
        let key = format!("k{}", rng.below(5));
        if family.bad && rng.chance(1, 20) {
            return Event::Bad { key, at };
        }
        let topic = family.topics[rng.below(family.topics.len() as u64) as usize];
        let value = match topic {
            "customers" if rng.chance(1, 6) => None,
            "customers" => Some(json!({"name": format!("name {n}"), "level": rng.below(3)})),
            _ => Some(json!({"n": n, "item": format!("i{}", rng.below(4)), "amount": rng.below(1000)})),
        };
        Event::Good(input(topic, key, value, at))
    };
    let events = (0..count).map(event).collect();
    Workload {
        name: family.name.to_owned(),
        plan: plan(family.name, sources),
        events,
        finals: family.finals,
        begun: family.begun,
    }
}

/// Keys of a partition, without an end.
fn keys_of(partition: u32, partitions: u32) -> impl Iterator<Item = String> {
    let is_there = move |key: &String| partition_of(key.as_bytes(), partitions).0 == partition as i32;
    (0..).map(|n| format!("first {n}")).filter(is_there)
}

fn first_order(partition: u32, partitions: u32) -> Event {
    let key = keys_of(partition, partitions).next().expect("some key is of the partition");
    let value = json!({"n": 0, "item": "first", "amount": 0});
    Event::Good(input("orders", key, Some(value), Timestamp(START_MS)))
}

fn first_customers(partitions: u32, count: usize) -> Vec<Event> {
    let customer = |(n, key)| {
        let value = json!({"name": "first", "level": n / 90});
        Event::Good(input("customers", key, Some(value), Timestamp(START_MS + n as i64)))
    };
    keys_of(0, partitions).take(count).enumerate().map(customer).collect()
}

fn input(topic: &str, key: String, value: Option<Json>, at: Timestamp) -> Input {
    Input { topic: topic.to_owned(), key: Some(json!(key)), event_type: None, value, at, headers: BTreeMap::new() }
}

fn shipped(name: &str, rng: &mut Rng, make: fn(&mut Rng, Timestamp) -> Input) -> Workload {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("topologies").join(name);
    let schemas: Vec<PathBuf> = vec![root.join("schemas").join(name), folder.clone()];
    let sources = || topology::load(&folder, &schemas).unwrap_or_else(|error| panic!("{name}: {error}"));
    let plan = plan(name, sources);
    let mut times = Times { now_ms: START_MS, late_ms: 60_000 };
    let count = 10 + rng.below(60);
    let event = |_| {
        times.now_ms += rng.below(400_000) as i64;
        let at = times.next(rng);
        Event::Good(make(rng, at))
    };
    let events = (0..count).map(event).collect();
    Workload { name: name.to_owned(), plan, events, finals: &[], begun: Begun::Nothing }
}

fn time(at: Timestamp) -> Json {
    json!(at.to_string())
}

fn reading(rng: &mut Rng, at: Timestamp) -> Input {
    let value = json!({
        "reading_id": format!("r{}", rng.below(40)), "measured_at": time(at), "room": format!("room{}", rng.below(3)),
        "celsius": 20.0 + rng.below(12) as f64, "motion": rng.chance(1, 3),
    });
    input("sensors.readings", format!("s{}", rng.below(4)), Some(value), at)
}

fn flight(rng: &mut Rng, at: Timestamp) -> Input {
    let origin = ["EWR", "JFK", "LGA"][rng.below(3) as usize];
    if rng.chance(1, 5) {
        let value = json!({"origin": origin, "occurred_at": time(at), "wind_speed": rng.below(40) as f64, "precip": 0.0, "visib": 10.0});
        return input("weather.hourly", origin.to_owned(), Some(value), at);
    }
    let number = rng.below(6);
    let kind = ["FlightScheduled", "FlightCancelled", "FlightDeparted", "FlightArrived"][rng.below(4) as usize];
    let mut value = json!({
        "occurred_at": time(at), "carrier": "UA", "flight_number": number, "origin": origin, "dest": "IAH", "scheduled_at": time(at),
    });
    match kind {
        "FlightScheduled" => value["distance_miles"] = json!(1400),
        "FlightDeparted" => (value["delay_min"], value["haul"]) = (json!(rng.below(60) as f64), json!("MEDIUM")),
        "FlightArrived" => {
            (value["delay_min"], value["haul"]) = (json!(rng.below(60) as f64), json!("MEDIUM"));
            value["air_time_min"] = json!(200);
        }
        _ => {}
    }
    let mut input = input("flights.events", format!("UA{number}"), Some(value), at);
    input.event_type = Some(kind.to_owned());
    input
}

/// A random topology of a seed, or of the next one that has no global table, which another thread follows, and comes to rest.
fn random(seed: u64) -> Workload {
    let of = |seed| {
        let (topology, inputs) = crate::conformance_random::topology_and_inputs(seed);
        let sources = Sources::default().with_file("random.toml", &topology);
        let schemas = crate::conformance::schemas();
        let sources = schemas.iter().fold(sources, |sources, (name, text)| sources.with_schema(name, text));
        (built("random", &sources), inputs)
    };
    let mut found = (seed..).map(of).filter(|(plan, _)| plan.global_tables.is_empty() && !is_restless(plan));
    let (plan, inputs) = found.next().expect("there are seeds without end");
    let events = inputs.into_iter().map(Event::Good).collect();
    Workload { name: format!("random {seed}"), plan, events, finals: &[], begun: Begun::Nothing }
}

/// Tells whether the clock alone has it work again before anybody could say that it is at rest.
fn is_restless(plan: &Plan) -> bool {
    let mut nodes = plan.sub_topologies.iter().flat_map(|sub| &sub.nodes);
    nodes.any(|node| {
        matches!(&node.kind, NodeKind::Punctuate(punctuate)
            if punctuate.clock == Clock::Wall && punctuate.every.0 < 1000)
    })
}
