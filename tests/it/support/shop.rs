//! A small shop: orders by customer, totals by item, an entity with its history, windows that close, a derived stream. Every
//! answer is computed here by plain loops too, sharing no code with the engine.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemill::base::hash::partition_of;
use tidemill::base::record::Outgoing;
use tidemill::base::rng::Rng;

use super::process::Run;
use super::{App, Place, topics, until_or_said};

pub(crate) const PARTITIONS: u32 = 3;
const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 5_000;
const START_MS: i64 = 1_700_000_000_000;

pub(crate) const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.orders]
topic = "{id}-orders"
schemas = ["Order.avsc"]
value_format = "json"

[entity.customer]
from = "orders"
schema = "Customer.avsc"
history = "forever"
apply.Order.set = { n = 'event.n', item = 'event.item', note = 'event.note' }

[aggregate.items]
from = "orders"
group_by = 'value.item'
select = { orders = 'count()', amount = 'sum(value.amount)' }

[sink.totals]
from = "items"
topic = "{id}-totals"
record = "shop.Total"

[stream.large]
from = "orders"
where = 'value.amount > 900'
select_key = 'value.item'
select = { n = 'value.n', amount = 'value.amount' }

[sink.large_orders]
from = "large"
topic = "{id}-large"
record = "shop.Large"

[aggregate.spans]
from = "orders"
group_by = 'value.item'
window = { tumbling = "10s", grace = "5s", retention = "1d" }
emit = "on_close"
select = { orders = 'count()', amount = 'sum(value.amount)' }

[stream.closed]
from = "spans"
select = { item = 'key', start = 'window.start', orders = 'value.orders', amount = 'value.amount' }

[sink.closed_spans]
from = "closed"
topic = "{id}-closed"
record = "shop.Closed"
"#;

pub(crate) const SCHEMAS: &[(&str, &str)] = &[
    (
        "Order.avsc",
        r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "n", "type": "long"}, {"name": "item", "type": "string"}, {"name": "amount", "type": "long"},
            {"name": "note", "type": "string", "default": ""}]}"#,
    ),
    (
        "Customer.avsc",
        r#"{"type": "record", "name": "Customer", "namespace": "shop", "fields": [
            {"name": "n", "type": ["null", "long"], "default": null},
            {"name": "item", "type": ["null", "string"], "default": null},
            {"name": "note", "type": ["null", "string"], "default": null}]}"#,
    ),
];

/// An order, in the order in which they are made.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) n: i64,
    pub(crate) customer: String,
    item: String,
    amount: i64,
    pub(crate) at: i64,
}

impl Order {
    /// The order as it stands in the topic.
    pub(crate) fn record(&self, app: &App) -> Outgoing {
        let value = json!({"n": self.n, "item": self.item, "amount": self.amount}).to_string();
        topics::record(&app.topic("orders"), self.partition(), self.at, Some(&self.customer), Some(value.into_bytes()))
    }

    pub(crate) fn item_and_amount(&self) -> (&str, i64) {
        (&self.item, self.amount)
    }

    pub(crate) fn partition(&self) -> i32 {
        partition_of(self.customer.as_bytes(), PARTITIONS).0
    }
}

/// The first `count` orders; the same ones every time.
pub(crate) fn orders(count: usize) -> Vec<Order> {
    let mut rng = Rng::new(11);
    (0..count)
        .map(|n| Order {
            n: n as i64,
            customer: format!("c{}", rng.below(40)),
            item: format!("i{}", rng.below(7)),
            amount: rng.below(1000) as i64,
            at: START_MS + n as i64 * 200,
        })
        .collect()
}

/// What the engine should come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answers {
    /// Orders and amount by item.
    pub(crate) items: BTreeMap<String, (i64, i64)>,
    /// What was written of them last.
    pub(crate) totals: BTreeMap<String, (i64, i64)>,
    /// Numbers of a customer's orders, as the versions of its history have them.
    pub(crate) histories: BTreeMap<String, Vec<i64>>,
    /// The newest order of each customer.
    pub(crate) newest: BTreeMap<String, i64>,
    /// Numbers of large orders, sorted.
    pub(crate) large: Vec<i64>,
    /// Item, start, orders and amount of windows that have closed, sorted.
    pub(crate) closed: Vec<(String, i64, i64, i64)>,
}

impl Answers {
    pub(crate) fn of(orders: &[Order]) -> Self {
        let mut answers = Self::default();
        let mut windows: BTreeMap<(String, i64), (i64, i64)> = BTreeMap::new();
        let mut reached: BTreeMap<i32, i64> = BTreeMap::new();
        for order in orders {
            let total = answers.items.entry(order.item.clone()).or_default();
            *total = (total.0 + 1, total.1 + order.amount);
            answers.histories.entry(order.customer.clone()).or_default().push(order.n);
            answers.newest.insert(order.customer.clone(), order.n);
            if order.amount > 900 {
                answers.large.push(order.n);
            }
            let window = windows.entry((order.item.clone(), order.at.div_euclid(WINDOW_MS) * WINDOW_MS)).or_default();
            *window = (window.0 + 1, window.1 + order.amount);
            reached.insert(order.partition(), order.at);
        }
        assert_eq!(reached.len(), PARTITIONS as usize, "every partition has orders");
        let time = reached.into_values().min().unwrap();
        answers.totals = answers.items.clone();
        answers.closed = windows
            .into_iter()
            .filter(|((_, start), _)| start + WINDOW_MS + GRACE_MS <= time)
            .map(|((item, start), (orders, amount))| (item, start, orders, amount))
            .collect();
        answers
    }

    /// Asks a daemon for all of it; none while something cannot be read.
    pub(crate) fn ask(app: &App, run: &mut Run) -> Option<Self> {
        let mut answers = Self::default();
        for row in run.rows("items")? {
            answers.items.insert(text(&row["key"]), (long(&row["value"]["orders"]), long(&row["value"]["amount"])));
        }
        for row in run.rows("customer")? {
            let key = text(&row["key"]);
            answers.newest.insert(key.clone(), long(&row["value"]["n"]));
            let history = run.json(&format!("/v1/entities/customer/keys/{key}/history?limit=1000"))?;
            let versions = history["versions"].as_array().unwrap();
            answers.histories.insert(key, versions.iter().map(|version| long(&version["state"]["n"])).collect());
        }
        for record in run.records(&app.topic("totals"))? {
            let value = &record["value"];
            answers.totals.insert(text(&record["key"]), (long(&value["orders"]), long(&value["amount"])));
        }
        answers.large = run.records(&app.topic("large"))?.iter().map(|record| long(&record["value"]["n"])).collect();
        answers.large.sort_unstable();
        for record in run.records(&app.topic("closed"))? {
            let value = &record["value"];
            let start: tidemill::base::time::DateTime =
                tidemill::base::time::DateTime::parse(value["start"].as_str().unwrap()).unwrap();
            let closed = (text(&value["item"]), start.to_timestamp().0, long(&value["orders"]), long(&value["amount"]));
            answers.closed.push(closed);
        }
        answers.closed.sort();
        Some(answers)
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_else(|| panic!("{json} is no text")).to_owned()
}

fn long(json: &Json) -> i64 {
    json.as_i64().unwrap_or_else(|| panic!("{json} is no number"))
}

/// A shop that has not opened yet.
pub(crate) fn open(place: Place) -> App {
    let app = App::new(place, TOPOLOGY, SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), PARTITIONS, &[]);
    app
}

/// Writes orders, as their producers do.
pub(crate) fn place_orders(app: &App, orders: &[Order]) {
    let records = orders.iter().map(|order| order.record(app));
    topics::write(&*app.broker(), records);
}

/// Waits until a daemon has counted this many orders, by item.
pub(crate) fn wait_for_count(run: &mut Run, orders: i64) {
    until_or_said(&format!("{orders} orders are counted"), || {
        let rows = run.rows("items").unwrap_or_default();
        let counted: i64 = rows.iter().map(|row| long(&row["value"]["orders"])).sum();
        if counted >= orders { Ok(()) } else { Err(format!("{counted} are\n{}", run.said())) }
    });
}

/// Waits until a daemon's answers are these. A count beyond them never comes back, and fails here.
pub(crate) fn wait_for(app: &App, run: &mut Run, wanted: &Answers) {
    let orders = wanted.items.values().map(|(orders, _)| orders).sum();
    wait_for_count(run, orders);
    let mut last = None;
    let end = std::time::Instant::now() + super::DEADLINE / 3;
    while last.as_ref() != Some(wanted) {
        let told = run.said();
        assert!(std::time::Instant::now() < end, "the answers are {last:#?}\nnot {wanted:#?}\n{told}");
        last = Answers::ask(app, run);
    }
    assert!(run.stopped_tasks().is_empty(), "{:?}", run.stopped_tasks());
}

/// How often a log tells of state that was not believed.
pub(crate) fn set_aside(said: &str) -> usize {
    ["set a store aside", "set a task's state aside"].iter().map(|told| said.matches(told).count()).sum()
}

/// Fails when a log tells of state that was not believed.
pub(crate) fn assert_no_store_was_set_aside(said: &str) {
    assert_eq!(set_aside(said), 0, "{said}");
}
