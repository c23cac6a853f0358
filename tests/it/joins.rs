//! Joins over several partitions, threads and processes, through crashes.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemill::base::hash::partition_of;
use tidemill::base::record::Outgoing;
use tidemill::base::rng::Rng;
use tidemill::crash::Step;

use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until, until_or_said};

const GLOBAL: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.orders]
topic = "{id}-orders"
schemas = ["Order.avsc"]
value_format = "json"

[global_table.items]
topic = "{id}-items"
schemas = ["Item.avsc"]
value_format = "json"

[join.named]
left = "orders"
right = "items"
kind = "left"
key = 'left.item'
select = { name = 'right.name.orValue("nothing")' }

[aggregate.names]
from = "named"
group_by = 'value.name'
select = { orders = 'count()' }
"#;

const SCHEMAS: [(&str, &str); 2] = [
    (
        "Order.avsc",
        r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "item", "type": "string"}]}"#,
    ),
    (
        "Item.avsc",
        r#"{"type": "record", "name": "Item", "namespace": "shop", "fields": [{"name": "name", "type": "string"}]}"#,
    ),
];

const ORDER_PARTITIONS: u32 = 3;
const ITEM_PARTITIONS: i32 = 2;
const ITEMS: usize = 20_000;
const ORDERS: usize = 2_000;

/// Items that no partitioner of Kafka would put where they are: a global table has them all the same.
fn items(app: &App, from: usize, to: usize, name: impl Fn(usize) -> Option<String>) -> Vec<Outgoing> {
    let item = |number: usize| {
        let value = name(number).map(|name| json!({ "name": name }).to_string().into_bytes());
        let partition = (number % ITEM_PARTITIONS as usize) as i32;
        topics::record(&app.topic("items"), partition, number as i64, Some(&format!("i{number}")), value)
    };
    (from..to).map(item).collect()
}

fn orders(app: &App, item: impl Fn(usize) -> usize) -> Vec<Outgoing> {
    let order = |number: usize| {
        let key = format!("o{number}");
        let value = json!({ "item": format!("i{}", item(number)) }).to_string().into_bytes();
        let partition = partition_of(key.as_bytes(), ORDER_PARTITIONS).0;
        topics::record(&app.topic("orders"), partition, number as i64, Some(&key), Some(value))
    };
    (0..ORDERS).map(order).collect()
}

fn counted(run: &mut Run, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<String, usize> = wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    until("every order has its item's name", || {
        let row = |row: &Json| {
            let orders = row["value"]["orders"].as_u64().unwrap();
            (row["key"].as_str().unwrap().to_owned(), usize::try_from(orders).unwrap())
        };
        let found: BTreeMap<String, usize> = run.rows("names")?.iter().map(row).collect();
        (found == wanted).then_some(())
    });
}

#[test]
fn a_global_table_is_whole_on_every_thread_before_the_first_row_and_follows_through_a_kill() {
    let app = App::new(Place::Embedded, GLOBAL, &SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), ORDER_PARTITIONS, &[]);
    topics::create(&*app.broker(), &app.topic("items"), ITEM_PARTITIONS as u32, &[]);
    topics::write(&*app.broker(), items(&app, 0, ITEMS, |number| Some(format!("kind {}", number % 2))));
    topics::write(&*app.broker(), orders(&app, |number| ITEMS - 1 - number));
    let mut run = app.start(&Launch { threads: 2, ..Launch::default() });
    counted(&mut run, &[("kind 0", ORDERS / 2), ("kind 1", ORDERS / 2)]);
    let one = run.json("/v1/stores/items/keys/i19999").unwrap();
    assert_eq!(one["value"], json!({ "name": "kind 1" }));
    let page = run.json("/v1/stores/items/keys?prefix=i1999&limit=100").unwrap();
    assert_eq!(page["keys"].as_array().unwrap().len(), 11);
    let stores = run.json("/v1/stores").unwrap();
    let stores = stores.get("stores").unwrap_or(&stores).as_array().unwrap().clone();
    let kept = stores.iter().find(|store| store["store"] == "items").unwrap();
    assert_eq!((kept["kind"].as_str(), kept["changelog_offset"].as_i64()), (Some("global"), Some(ITEMS as i64)));
    run.kill();

    // While it is away some items go, and others change. What it has at rest is read on from, not trusted.
    topics::write(&*app.broker(), items(&app, 0, 10, |_| None));
    topics::write(&*app.broker(), items(&app, 10, 20, |_| Some("kind 2".to_owned())));
    topics::write(&*app.broker(), orders(&app, |number| number % 20));
    let mut run = app.start(&Launch { threads: 3, ..Launch::default() });
    let half = ORDERS / 2;
    counted(&mut run, &[("kind 0", half), ("kind 1", half), ("kind 2", half), ("nothing", half)]);
    assert_eq!(run.ask("/v1/stores/items/keys/i3").0, 404);
    run.stop();
}

#[test]
fn a_record_of_a_global_table_that_cannot_be_read_stops_the_daemon_with_its_place() {
    let app = App::new(Place::Embedded, GLOBAL, &SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), ORDER_PARTITIONS, &[]);
    topics::create(&*app.broker(), &app.topic("items"), ITEM_PARTITIONS as u32, &[]);
    topics::write(&*app.broker(), items(&app, 0, 10, |_| Some("kind 0".to_owned())));
    let broken = topics::record(&app.topic("items"), 1, 5, Some("i7"), Some(b"no JSON".to_vec()));
    topics::write(&*app.broker(), [broken]);
    let mut run = app.start(&Launch { threads: 2, ..Launch::default() });
    assert!(!run.wait().success());
    let said = run.said();
    assert!(said.contains("-items-1 offset 5: the value is not JSON"), "{said}");
    // What is skipped is counted, and the table goes on.
    app.rewrite(
        &GLOBAL.replace("[global_table.items]\n", "[global_table.items]\non_error.decode = { action = \"skip\" }\n"),
    );
    topics::write(&*app.broker(), orders(&app, |number| number % 10));
    let mut run = app.start(&Launch { threads: 2, ..Launch::default() });
    counted(&mut run, &[("kind 0", ORDERS)]);
    let metrics = run.ask("/metrics").1;
    let dropped = "tidemill_records_dropped_total{node=\"items\",reason=\"decode\"} 1";
    assert!(metrics.contains(dropped), "{metrics}");
    run.stop();
}

const FOREIGN: &str = r#"
[topology]
format = 1
application_id = "{id}"

[table.orders]
topic = "{id}-orders"
schemas = ["Placed.avsc"]
value_format = "json"

[table.customers]
topic = "{id}-customers"
schemas = ["Item.avsc"]
value_format = "json"

[join.known]
left = "orders"
right = "customers"
foreign_key = 'left.customer'
select = { total = 'left.total', name = 'right.name' }

[join.all]
left = "orders"
right = "customers"
kind = "left"
foreign_key = 'left.customer'
select = { total = 'left.total', name = 'right.name' }

[sink.known_out]
from = "known"
topic = "{id}-known"
record = "shop.Known"

[sink.all_out]
from = "all"
topic = "{id}-all"
record = "shop.All"
"#;

const PLACED: (&str, &str) = (
    "Placed.avsc",
    r#"{"type": "record", "name": "Placed", "namespace": "shop", "fields": [
        {"name": "customer", "type": ["null", "string"]}, {"name": "total", "type": "long"}]}"#,
);

const PLACED_PARTITIONS: u32 = 3;
const CUSTOMER_PARTITIONS: u32 = 2;

/// The newest rows of both tables, as plain maps.
#[derive(Default)]
struct Tables {
    orders: BTreeMap<String, (Option<String>, u64)>,
    customers: BTreeMap<String, String>,
    changes: u64,
}

impl Tables {
    /// Some changes of either table: orders move between customers, to nobody, and go; customers come and go.
    fn change(&mut self, app: &App, rng: &mut Rng, count: usize) -> Vec<Outgoing> {
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            self.changes += 1;
            let at = 1_700_000_000_000 + (self.changes * 10 + rng.below(500)) as i64;
            let customer = format!("c{}", rng.below(12));
            let (topic, partitions, key, value) = if rng.below(3) == 0 {
                let name = (rng.below(3) > 0).then(|| format!("name {}", self.changes));
                match &name {
                    Some(name) => drop(self.customers.insert(customer.clone(), name.clone())),
                    None => drop(self.customers.remove(&customer)),
                }
                ("customers", CUSTOMER_PARTITIONS, customer, name.map(|name| json!({ "name": name })))
            } else {
                let (order, total) = (format!("o{}", rng.below(80)), self.changes % 5);
                let customer = (rng.below(5) > 0).then_some(customer);
                let there = rng.below(6) > 0;
                if there {
                    self.orders.insert(order.clone(), (customer.clone(), total));
                } else {
                    self.orders.remove(&order);
                }
                let value = there.then(|| json!({ "customer": customer, "total": total }));
                ("orders", PLACED_PARTITIONS, order, value)
            };
            let partition = partition_of(key.as_bytes(), partitions).0;
            let value = value.map(|value| value.to_string().into_bytes());
            records.push(topics::record(&app.topic(topic), partition, at, Some(&key), value));
        }
        records
    }

    fn joined(&self, keeps_left: bool) -> BTreeMap<String, Json> {
        let name = |customer: &Option<String>| self.customers.get(customer.as_ref()?);
        let orders = self.orders.iter().filter(|(_, (customer, _))| keeps_left || name(customer).is_some());
        orders
            .map(|(key, (customer, total))| (key.clone(), json!({ "name": name(customer), "total": total })))
            .collect()
    }
}

/// What a topic's records come to.
fn newest(run: &mut Run, topic: &str) -> Option<BTreeMap<String, Json>> {
    let mut rows = BTreeMap::new();
    for record in run.records(topic)? {
        let key = record["key"].as_str().unwrap().to_owned();
        if record["value"].is_null() {
            assert!(rows.remove(&key).is_some(), "{topic}: a deletion of what is not there, {record}");
        } else {
            let before = rows.insert(key, record["value"].clone());
            assert_ne!(before.as_ref(), Some(&record["value"]), "{topic}: nothing has changed, {record}");
        }
    }
    Some(rows)
}

/// What of the rows is not as it should be.
fn difference(found: Option<&BTreeMap<String, Json>>, wanted: &BTreeMap<String, Json>) -> String {
    let Some(found) = found else { return "nothing was read".to_owned() };
    let keys = found.keys().chain(wanted.keys().filter(|key| !found.contains_key(*key)));
    let differ = keys.filter(|key| found.get(*key) != wanted.get(*key));
    differ.map(|key| format!("{key} is {:?}, not {:?}\n", found.get(key), wanted.get(key))).collect()
}

fn through_crashes(place: Place, instances: &[&str]) {
    let app = App::new(place, FOREIGN, &[PLACED, SCHEMAS[1]]);
    topics::create(&*app.broker(), &app.topic("orders"), PLACED_PARTITIONS, &[]);
    topics::create(&*app.broker(), &app.topic("customers"), CUSTOMER_PARTITIONS, &[]);
    let (mut tables, mut rng) = (Tables::default(), Rng::new(5));
    for step in [Step::HandedOver, Step::Ended, Step::Confirmed] {
        let changes = tables.change(&app, &mut rng, 700);
        topics::write(&*app.broker(), changes);
        let crash = Some(format!("{}:2", step.name()));
        app.start(&Launch { threads: 2, crash, ..Launch::default() }).crashes_at(step.name());
    }
    let changes = tables.change(&app, &mut rng, 700);
    topics::write(&*app.broker(), changes);
    let launch = |instance| Launch { threads: 2, instance, ..Launch::default() };
    let mut runs: Vec<Run> = instances.iter().map(|instance| app.start(&launch(*instance))).collect();
    let (known, all) = (tables.joined(false), tables.joined(true));
    assert!(known.len() > 10 && known.len() < all.len(), "{} of {}", known.len(), all.len());
    for (topic, wanted) in [("known", known), ("all", all)] {
        until_or_said("the joined rows are those of the newest rows of both tables", || {
            let found = newest(&mut runs[0], &app.topic(topic));
            if found.as_ref() == Some(&wanted) { Ok(()) } else { Err(difference(found.as_ref(), &wanted)) }
        });
    }
    for run in runs {
        run.stop();
    }
}

#[test]
fn joins_by_foreign_key_come_to_the_newest_rows_through_crashes_on_the_embedded_broker() {
    through_crashes(Place::Embedded, &["a"]);
}

#[test]
fn joins_by_foreign_key_come_to_the_newest_rows_through_crashes_and_processes_on_kafka() {
    through_crashes(Place::kafka(), &["a", "b"]);
}
