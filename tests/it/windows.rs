//! Windows behind a repartition whose results go through another one.

use std::collections::BTreeMap;

use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, topics, until};

const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.orders]
topic = "{id}-orders"
schemas = ["Order.avsc"]
value_format = "json"

[aggregate.spans]
from = "orders"
group_by = 'value.item'
window = { tumbling = "10s", grace = "5s", retention = "1d" }
emit = "on_close"
select = { orders = 'count()' }

[stream.closed]
from = "spans"
select = { item = 'key', orders = 'value.orders' }

[aggregate.closed_spans]
from = "closed"
group_by = '"all " + value.item'
select = { spans = 'count()', orders = 'sum(value.orders)' }
"#;

#[test]
fn a_window_that_a_marker_closes_sends_its_result_on_as_a_row() {
    let app = App::new(Place::Embedded, TOPOLOGY, &shop::SCHEMAS[..1]);
    topics::create(&*app.broker(), &app.topic("orders"), shop::PARTITIONS, &[]);
    let orders = shop::orders(900);
    shop::place_orders(&app, &orders);
    let mut wanted: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (item, _, count, _) in Answers::of(&orders).closed {
        let (spans, orders) = wanted.entry(format!("all {item}")).or_default();
        *spans += 1;
        *orders += count;
    }
    assert!(wanted.len() > 5);
    let mut run = app.start(&Launch { threads: 2, ..Launch::default() });
    until("the closed windows are counted, each once", || {
        let rows = run.rows("closed_spans")?;
        let number = |value: &serde_json::Value| value.as_i64().unwrap();
        let found: BTreeMap<String, (i64, i64)> = rows
            .iter()
            .map(|row| {
                let value = &row["value"];
                (row["key"].as_str().unwrap().to_owned(), (number(&value["spans"]), number(&value["orders"])))
            })
            .collect();
        (found == wanted).then_some(())
    });
    run.stop();
}
