//! Keys that are records, written by others under several versions of their schema, and structured events, on a real Kafka with a real
//! registry: what the daemon counts, answers and writes, a kill in the middle included.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value as Json, json};
use tidemill::avro::{Datums, DecodePlan, Schema, frame, from_json, to_json};
use tidemill::base::hash::partition_of;
use tidemill::base::ids::Topic;
use tidemill::base::record::{Headers, Outgoing, Record};
use tidemill::base::time::Timestamp;
use tidemill::registry::Registry;
use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};

use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until, until_or_said};

const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.orders]
topic = "{id}-orders"
key_format = "avro"
key_schema = "OrderKey.avsc"
value_format = "json"
schemas = ["Order.avsc"]

[table.newest]
from = "orders"

[stream.of_others]
from = "orders"
where = 'key.region != "US"'

[aggregate.of_region]
from = "of_others"
group_by = 'key'
emit = "on_update"
select = { orders = 'count()', total = 'sum(value.total)' }

[sink.of_region_out]
from = "of_region"
topic = "{id}-out"
key_format = "avro"
envelope = "cloudevents_structured"
value_format = "json"
"#;

const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [{"name": "total", "type": "long"}]}"#;
const KEY: &str = r#"{"type": "record", "name": "OrderKey", "namespace": "shop", "fields": [
    {"name": "region", "type": "string"}, {"name": "number", "type": "int"}]}"#;
/// As another producer has it: in another order, and with more.
const WIDER_KEY: &str = r#"{"type": "record", "name": "OrderKey", "namespace": "shop", "fields": [
    {"name": "number", "type": "int"}, {"name": "note", "type": "string"}, {"name": "region", "type": "string"}]}"#;
const PARTITIONS: u32 = 3;

fn registry() -> ConfluentRegistry {
    let urls = vec![crate::provided("TIDEMILL_TEST_REGISTRY")];
    ConfluentRegistry::new(ConfluentSettings { urls, auth: Auth::None, timeout: Duration::from_secs(5) }).unwrap()
}

/// Writes orders under keys of a schema, each into the partition of its framed key.
fn order(app: &App, schema: &str, key: &Json, total: i64) -> Outgoing {
    let subject = format!("{}-key-{}", app.topic("orders"), schema.len());
    let id = registry().register(&subject, schema, Duration::from_secs(10)).unwrap();
    let mut bytes = Vec::new();
    frame::write(id, &mut bytes);
    let datums = Datums::new(Schema::parse(schema).unwrap()).unwrap();
    datums.encode(&from_json(key, datums.schema()).unwrap(), &mut bytes).unwrap();
    Outgoing {
        topic: Topic::new(app.topic("orders")),
        partition: partition_of(&bytes, PARTITIONS),
        timestamp: Timestamp(total),
        key: Some(bytes.into()),
        value: Some(json!({"total": total}).to_string().into()),
        headers: Headers::default(),
    }
}

fn asked(run: &mut Run, store: &str, key: &Json) -> Option<Json> {
    let key = key.to_string();
    run.json(&format!("/v1/stores/{store}/keys/{}", utf8_percent_encode(&key, NON_ALPHANUMERIC)))
}

/// Key and event of a record of the sink.
fn shown(record: &Record) -> (Json, Json) {
    let (id, datum) = frame::split(record.key.as_deref().unwrap()).unwrap();
    let schema = Schema::parse(&registry().schema(id, Duration::from_secs(10)).unwrap()).unwrap();
    assert_eq!(schema.full_name(), Some("shop.OrderKey"));
    let key = DecodePlan::whole(&schema, &schema).unwrap().decode_value(datum).unwrap();
    let kind = record.headers.text("content-type");
    assert_eq!(kind, Some("application/cloudevents+json; charset=UTF-8"), "{:?}", record.headers);
    assert_eq!(record.headers.iter().count(), 1);
    (to_json(&key, &schema.value_type()), serde_json::from_slice(record.value.as_deref().unwrap()).unwrap())
}

#[test]
fn rows_of_one_record_key_meet_whatever_its_schema_was() {
    let schemas = [("Order.avsc", ORDER), ("OrderKey.avsc", KEY)];
    let app = App::new(Place::kafka_and_registry(), TOPOLOGY, &schemas);
    let broker = app.broker();
    topics::create(&*broker, &app.topic("orders"), PARTITIONS, &[]);
    topics::create(&*broker, &app.topic("out"), PARTITIONS, &[]);
    let key = |number: i64| json!({"region": "EU", "number": number});
    let wider = |number: i64, note: &str| json!({"region": "EU", "number": number, "note": note});
    let numbers = 0..5_i64;
    let first = numbers
        .clone()
        .flat_map(|number| [order(&app, KEY, &key(number), 1), order(&app, WIDER_KEY, &wider(number, "a"), 10)]);
    topics::write(&*broker, first.collect::<Vec<_>>());
    let mut run = app.start(&Launch::default());
    let counted = |run: &mut Run, orders: i64, total: i64| {
        let numbers = numbers.clone();
        until_or_said("the orders are counted", || {
            let rows: Vec<Option<Json>> = numbers.clone().map(|number| asked(run, "of_region", &key(number))).collect();
            let wanted = json!({"orders": orders, "total": total});
            let all = rows.iter().flatten().filter(|row| row["value"] == wanted).count() == rows.len();
            if all { Ok(()) } else { Err(format!("{rows:?}")) }
        });
    };
    counted(&mut run, 2, 11);
    run.kill();

    let more = numbers.clone().map(|number| order(&app, WIDER_KEY, &wider(number, "b"), 100));
    let abroad = order(&app, KEY, &json!({"region": "US", "number": 1}), 7);
    topics::write(&*broker, more.chain([abroad]).collect::<Vec<_>>());
    let mut run = app.start(&Launch::default());
    counted(&mut run, 3, 111);
    let newest = until("the newest order", || asked(&mut run, "newest", &json!({"number": 1, "region": "US"})));
    assert_eq!(newest["key"], json!({"region": "US", "number": 1}));
    let rows = run.rows("of_region").unwrap();
    assert_eq!(rows.len(), 5);
    // Page by page it is the same rows.
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = run.json(&format!("/v1/stores/of_region/keys?limit=2{cursor}")).unwrap();
        pages.extend(page["keys"].as_array().unwrap().iter().cloned());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
    }
    assert_eq!(pages, rows);
    let (status, said) = run.ask("/v1/stores/of_region/keys/EU");
    assert_eq!(status, 400, "{said}");
    assert!(said.contains("as JSON"), "{said}");

    // Written once each: an event for each order that was counted.
    let written: Vec<(Json, Json)> =
        topics::read(&*broker, &app.topic("out"), PARTITIONS as i32).iter().map(shown).collect();
    assert_eq!(written.len(), 15);
    for number in numbers {
        let own: Vec<&Json> = written.iter().filter(|(of, _)| *of == key(number)).map(|(_, event)| event).collect();
        let counts: Vec<i64> = own.iter().map(|event| event["data"]["orders"].as_i64().unwrap()).collect();
        assert_eq!(counts, [1, 2, 3], "{own:?}");
        for event in own {
            assert_eq!(event["specversion"], "1.0");
            assert_eq!(event["source"], json!(format!("/{}/of_region_out", app.id)));
            assert_eq!(event["datacontenttype"], "application/json");
        }
    }
    let mut ids: Vec<&str> = written.iter().map(|(_, event)| event["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 15, "each event has an id of its own");
    run.stop();
}
