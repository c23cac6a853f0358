//! A topology that changed takes over the state that the one before left: from its state folder, and from changelogs that the
//! older shape wrote. What cannot be taken over ends the daemon before it works on a record.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::support::process::Run;
use crate::support::shop::{self, Order, SCHEMAS};
use crate::support::{App, Launch, Place, topics, until};

const FIRST: usize = 600;
const ALL: usize = 1200;

const TABLE: &str = r#"
[stream.placed]
from = "orders"
select = { item = 'value.item' }

[table.latest]
from = "placed"
"#;

/// A customer as the next version has it: with a field that says what was before it, and one that is another name's.
const CUSTOMER: &str = r#"{"type": "record", "name": "Customer", "namespace": "shop", "fields": [
    {"name": "tier", "type": "string", "default": "plain"},
    {"name": "n", "type": ["null", "long"], "default": null},
    {"name": "what", "type": ["null", "string"], "default": null, "aliases": ["item"]},
    {"name": "orders", "type": "int", "default": 0}]}"#;

fn today() -> String {
    shop::TOPOLOGY
        .replace(
            "item = 'event.item', note = 'event.note'",
            "what = 'event.item', orders = 'state.orders + 1', tier = '\"new\"'",
        )
        .replacen(
            "select = { orders = 'count()', amount = 'sum(value.amount)' }",
            "select = { orders = 'count()', amount = 'sum(double(value.amount))', mean = 'avg(value.amount)', \
             least = 'min(value.amount)', most = 'max(value.amount)', early = 'collect(value.n)', places = 'count()' }",
            1,
        )
        .replacen(
            "select = { orders = 'count()', amount = 'sum(value.amount)' }",
            "select = { orders = 'count()', amount = 'sum(value.amount)', largest = 'max(value.amount)' }",
            1,
        )
        .replace(TOTALS, NARROW)
        + TABLE
}

const TOTALS: &str = "[sink.totals]\nfrom = \"items\"\n";

/// Readers of the sink go on with the fields that they know.
const NARROW: &str = r#"
[stream.narrow]
from = "items"
select = { orders = 'value.orders', amount = 'value.amount' }

[sink.totals]
from = "narrow"
"#;

/// A shop whose first topology has worked on the first orders.
fn before() -> (App, Vec<Order>) {
    let topology = shop::TOPOLOGY.to_owned() + TABLE;
    let app = App::new(Place::Embedded, &topology, SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), shop::PARTITIONS, &[]);
    let orders = shop::orders(ALL);
    shop::place_orders(&app, &orders[..FIRST]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, FIRST as i64);
    run.stop();
    (app, orders)
}

/// What an item's row must be: counted over all orders where the field was there before, over the later ones else.
fn wanted(orders: &[Order]) -> BTreeMap<String, Json> {
    let mut rows: BTreeMap<String, Json> = BTreeMap::new();
    for (place, order) in orders.iter().enumerate() {
        let (item, amount) = order.item_and_amount();
        let row = rows.entry(item.to_owned()).or_insert_with(
            || json!({"orders": 0, "amount": 0.0, "mean": null, "least": null, "most": null, "early": [], "places": 0}),
        );
        row["orders"] = json!(row["orders"].as_i64().unwrap() + 1);
        row["amount"] = json!(row["amount"].as_f64().unwrap() + amount as f64);
        if place >= FIRST {
            let places = row["places"].as_i64().unwrap();
            row["mean"] =
                json!((row["mean"].as_f64().unwrap_or(0.0) * places as f64 + amount as f64) / (places + 1) as f64);
            row["least"] = json!(row["least"].as_i64().map_or(amount, |least| least.min(amount)));
            row["most"] = json!(row["most"].as_i64().map_or(amount, |most| most.max(amount)));
            row["early"].as_array_mut().unwrap().push(json!(order.n));
            row["places"] = json!(places + 1);
        }
    }
    rows
}

fn check_today(app: &App, run: &mut Run, orders: &[Order]) {
    let wanted = wanted(orders);
    until("the items are as they must be", || {
        let rows = run.rows("items")?;
        let mut found: BTreeMap<String, Json> =
            rows.iter().map(|row| (row["key"].as_str().unwrap().to_owned(), row["value"].clone())).collect();
        for (item, row) in &mut found {
            // Added up in another order, a mean may differ in its last digit.
            let mean = row["mean"].as_f64()?;
            let near = wanted.get(item)?["mean"].as_f64()?;
            assert!((mean - near).abs() < 1e-6 || row["places"] != wanted[item]["places"], "{mean} {near}");
            row["mean"] = json!(near);
            row["early"].as_array_mut()?.sort_by_key(|n| n.as_i64());
        }
        (found == wanted).then_some(())
    });
    let customer = &orders[0].customer;
    let own: Vec<&Order> = orders.iter().filter(|order| order.customer == *customer).collect();
    let history = run.json(&format!("/v1/entities/customer/keys/{customer}/history?limit=1000")).unwrap();
    let versions = history["versions"].as_array().unwrap();
    assert_eq!(versions.len(), own.len());
    let earlier = own.iter().filter(|order| order.n < FIRST as i64).count() as i64;
    for (version, order) in versions.iter().zip(&own) {
        let state = &version["state"];
        assert_eq!((&state["n"], &state["what"]), (&json!(order.n), &json!(order.item_and_amount().0)), "{version}");
        let later = version["version"].as_i64().unwrap() - earlier;
        let (tier, counted) = if later > 0 { ("new", later) } else { ("plain", 0) };
        assert_eq!((&state["tier"], &state["orders"]), (&json!(tier), &json!(counted)), "{version}");
    }
    let path = format!("/v1/entities/customer/keys/{customer}?version=1");
    assert_eq!(run.json(&path).unwrap()["state"]["tier"], "plain");
    assert!(!run.rows("latest").unwrap().is_empty(), "{}", app.id);
}

fn rewrite(app: &App, topology: &str) {
    app.rewrite(topology);
    app.rewrite_schema("Customer.avsc", CUSTOMER);
}

#[test]
fn state_that_an_older_topology_left_is_taken_over() {
    let (app, orders) = before();
    rewrite(&app, &today());
    shop::place_orders(&app, &orders[FIRST..]);
    let mut run = app.start(&Launch::default());
    check_today(&app, &mut run, &orders);
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn changelogs_that_an_older_topology_wrote_are_restored_into_the_shape_of_today() {
    let (app, orders) = before();
    rewrite(&app, &today());
    std::fs::remove_dir_all(app.state("a")).unwrap();
    shop::place_orders(&app, &orders[FIRST..]);
    let mut run = app.start(&Launch::default());
    check_today(&app, &mut run, &orders);
    run.stop();
    // And once more, from changelogs that hold both shapes.
    std::fs::remove_dir_all(app.state("a")).unwrap();
    let mut run = app.start(&Launch::default());
    check_today(&app, &mut run, &orders);
    run.stop();
}

#[test]
fn state_that_cannot_be_taken_over_is_refused_before_the_first_record() {
    let (app, orders) = before();
    shop::place_orders(&app, &orders[FIRST..]);
    let good = shop::TOPOLOGY.to_owned() + TABLE;
    let cases = [
        (good.replacen("amount = 'sum(value.amount)'", "amount = 'last(value.item)'", 1), "store `items`", "`amount`"),
        (
            good.replacen("orders = 'count()'", "orders = 'sum(value.n)'", 1),
            "store `items`",
            "it was `count`, and is `sum` now",
        ),
        (good.replacen("tumbling = \"10s\"", "tumbling = \"20s\"", 1), "store `spans`", "tumbling windows of 10s"),
        (
            good.replacen("select = { item = 'value.item' }", "select = { item = 'value.item', n = 'value.n' }", 1),
            "store `latest`",
            "`n`",
        ),
    ];
    for (topology, store, why) in cases {
        assert_ne!(topology, good);
        // The registry would refuse some of them for what they write.
        app.rewrite(&topology.replace(&format!("{TOTALS}topic = \"{{id}}-totals\"\nrecord = \"shop.Total\"\n"), ""));
        for lost in [false, true] {
            if lost {
                std::fs::remove_dir_all(app.state("a")).unwrap();
            }
            let mut run = app.start(&Launch::default());
            let status = run.wait();
            let said = run.said();
            assert_eq!(status.code(), Some(78), "{said}");
            assert!(said.contains("E0806") && said.contains(store) && said.contains(why), "{said}");
        }
    }
    // Nothing was lost by trying.
    app.rewrite(&good);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, ALL as i64);
    run.stop();
}

#[test]
fn a_node_that_is_renamed_keeps_its_state() {
    let (app, orders) = before();
    let renamed = (shop::TOPOLOGY.to_owned() + TABLE)
        .replace("[aggregate.items]", "[aggregate.goods]\nwas = \"items\"")
        .replace("from = \"items\"", "from = \"goods\"")
        .replace("[entity.customer]", "[entity.buyer]\nwas = \"customer\"")
        .replace("[aggregate.spans]", "[aggregate.windows]\nwas = \"spans\"")
        .replace("from = \"spans\"", "from = \"windows\"");
    app.rewrite(&renamed);
    shop::place_orders(&app, &orders[FIRST..]);
    let answers = shop::Answers::of(&orders);
    for lost in [false, true] {
        if lost {
            std::fs::remove_dir_all(app.state("a")).unwrap();
        }
        let mut run = app.start(&Launch::default());
        until("the renamed aggregate goes on", || {
            let rows = run.rows("goods")?;
            let found: BTreeMap<String, (i64, i64)> = rows
                .iter()
                .map(|row| {
                    let value = &row["value"];
                    let counted = (value["orders"].as_i64().unwrap(), value["amount"].as_i64().unwrap());
                    (row["key"].as_str().unwrap().to_owned(), counted)
                })
                .collect();
            (found == answers.items).then_some(())
        });
        let customer = &orders[0].customer;
        let history = run.json(&format!("/v1/entities/buyer/keys/{customer}/history?limit=1000")).unwrap();
        assert_eq!(history["versions"].as_array().unwrap().len(), answers.histories[customer].len());
        // Windows that were open when it was renamed close with all their rows, each once.
        until("windows close with what they had", || {
            let records = run.records(&app.topic("closed"))?;
            let closed: i64 = records.iter().map(|record| record["value"]["orders"].as_i64().unwrap()).sum();
            let wanted: i64 = answers.closed.iter().map(|(_, _, orders, _)| orders).sum();
            (records.len() == answers.closed.len() && closed == wanted).then_some(())
        });
        assert_eq!(run.ask("/v1/stores/items/keys").0, 404);
        shop::assert_no_store_was_set_aside(&run.stop());
    }
    let topics: Vec<String> = ["items", "goods"].iter().map(|name| app.topic(&format!("{name}-changelog"))).collect();
    let known = app.broker().admin().unwrap().list(crate::support::DEADLINE).unwrap();
    let has = |topic: &String| known.iter().any(|known| known.as_str() == topic);
    assert!(has(&topics[0]) && !has(&topics[1]), "{known:?}");
}
