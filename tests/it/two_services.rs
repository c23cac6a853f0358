//! The shipped orders and payments as two processes on a real Kafka: orders are placed over HTTP, paid, declined or given up in time,
//! while both processes are killed; nothing is lost and nothing comes twice.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until};

const PARTITIONS: u32 = 3;
const ORDERS: usize = 60;
const TOPICS: [&str; 6] =
    ["orders.commands", "orders.events", "orders.replies", "payments.commands", "payments.events", "payments.replies"];

/// A shipped topology as an application of its own; orders are given up after seconds in place of minutes.
fn service(name: &str) -> App {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies").join(name);
    let text = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
    let text = text.replace(&format!("application_id = \"{name}\""), "application_id = \"{id}\"");
    assert!(text.contains("{id}") && (name == "payments" || text.contains("after = \"15m\"")));
    let schemas = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let schemas: Vec<(String, String)> = schemas
        .filter(|path| path.extension().is_some_and(|ending| ending == "avsc"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    let schemas: Vec<(&str, &str)> = schemas.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    App::new(Place::kafka_and_registry(), &text.replace("after = \"15m\"", "after = \"10s\""), &schemas)
}

/// The settings that give the topics names of their own.
fn bound(prefix: &str) -> String {
    let lines = TOPICS.map(|topic| format!("\"{topic}\" = \"{prefix}-{topic}\"\n"));
    format!("[bind.topics]\n{}", lines.concat())
}

fn total(number: usize) -> i64 {
    match number % 6 {
        0 | 1 => 90_000,
        2 => 900_000,
        _ => 4_200,
    }
}

fn place(orders: &mut Run, number: usize) {
    let body = json!({"customer": "ann", "total": total(number)}).to_string();
    let (status, answer) = until("an order is placed", || {
        let answer = orders.ask_entity("order", &format!("o{number}/commands/PlaceOrder"), &id(number), &body).unwrap();
        (answer.0 != 503).then_some(answer)
    });
    assert_eq!((status, &answer["version"], &answer["outcome"]), (200, &json!(1), &json!("accepted")), "{answer}");
}

fn id(number: usize) -> String {
    format!("command-id: place-o{number}\r\n")
}

/// The types of each key's events, in order, with the chain that each belongs to.
fn events(run: &mut Run, topic: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in run.records(topic)? {
        let key = record["key"].as_str()?.to_owned();
        assert_eq!(record["headers"]["ce_correlationid"], json!(format!("place-{key}")), "{record}");
        let kind = record["type"].as_str()?.rsplit('.').next()?.to_owned();
        events.entry(key).or_default().push(kind);
    }
    Some(events)
}

/// How an order and its payment ended; none while they have not, a panic where they may not have.
fn ended(order: &[String], payment: &[String]) -> Option<&'static str> {
    let of = |kinds: &[String]| kinds.join(" ");
    match (of(order).as_str(), of(payment).as_str()) {
        ("OrderPlaced OrderPaid", "PaymentTaken" | "PaymentHeld PaymentTaken") => Some("paid"),
        ("OrderPlaced OrderCancelled", "PaymentDeclined") => Some("declined"),
        (
            "OrderPlaced OrderCancelled",
            "PaymentHeld PaymentGivenUp" | "PaymentTaken PaymentGivenUp" | "PaymentHeld PaymentTaken PaymentGivenUp",
        ) => Some("given up"),
        // Payments are read after orders, and may have gone on.
        ("OrderPlaced", _) => None,
        ("OrderPlaced OrderCancelled", "" | "PaymentTaken" | "PaymentHeld" | "PaymentHeld PaymentTaken") => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn orders_and_payments_end_well_whoever_is_killed() {
    let (orders_app, payments_app) = (service("orders"), service("payments"));
    let prefix = orders_app.id.clone();
    for topic in TOPICS.iter().filter(|topic| !topic.ends_with("replies")) {
        topics::create(&*orders_app.broker(), &format!("{prefix}-{topic}"), PARTITIONS, &[]);
    }
    let settings = bound(&prefix);
    let launch = Launch { settings: &settings, threads: 2, ..Launch::default() };
    let (mut orders, mut payments) = (orders_app.start(&launch), payments_app.start(&launch));
    (0..ORDERS / 3).for_each(|number| place(&mut orders, number));
    orders.kill();
    let mut orders = orders_app.start(&launch);
    // Those that were answered are placed again under their ids: the first answers hold.
    (ORDERS / 3 - 5..2 * ORDERS / 3).for_each(|number| place(&mut orders, number));
    payments.kill();
    (2 * ORDERS / 3..ORDERS).for_each(|number| place(&mut orders, number));
    payments = payments_app.start(&launch);
    // A clerk releases some of what is held.
    for number in (0..ORDERS).filter(|number| number % 6 == 0) {
        let place = format!("o{number}/commands/ReleasePayment");
        until("a payment is released or not held any more", || {
            let header = format!("ce-correlationid: place-o{number}\r\n");
            let (status, answer) = payments.ask_entity("payment", &place, &header, "{}").unwrap();
            (status == 200 || answer["code"] == "not_held").then_some(())
        });
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    until("all orders have ended", || {
        let placed = events(&mut orders, &format!("{prefix}-orders.events"))?;
        let paid = events(&mut payments, &format!("{prefix}-payments.events"))?;
        let nothing = Vec::new();
        ends.clear();
        for number in 0..ORDERS {
            let key = format!("o{number}");
            let end = ended(placed.get(&key)?, paid.get(&key).unwrap_or(&nothing))?;
            *ends.entry(end).or_default() += 1;
        }
        (placed.len() == ORDERS && paid.len() == ORDERS).then_some(())
    });
    assert_eq!(ends.get("declined"), Some(&(ORDERS / 6)), "{ends:?}");
    assert!(ends.get("paid").is_some_and(|paid| *paid >= ORDERS / 6), "{ends:?}");
    assert!(ends.get("given up").is_some_and(|given_up| *given_up >= ORDERS / 6), "{ends:?}");
    states_agree(&mut orders, &mut payments, &ends);
    assert!(orders.stopped_tasks().is_empty() && payments.stopped_tasks().is_empty());
    orders.stop();
    payments.stop();
}

/// The state is what the events say.
fn states_agree(orders: &mut Run, payments: &mut Run, ends: &BTreeMap<&str, usize>) {
    let count = |rows: Vec<Json>, status: &str| rows.iter().filter(|row| row["value"]["status"] == status).count();
    until("the states are those of the events", || {
        let (of_orders, of_payments) = (orders.rows("order")?, payments.rows("payment")?);
        let paid = count(of_orders.clone(), "PAID");
        let found = (paid, count(of_orders, "CANCELLED"), count(of_payments.clone(), "TAKEN"));
        let given_up = count(of_payments, "GIVEN_UP");
        let end = |name: &str| ends.get(name).copied().unwrap_or(0);
        let wanted = (end("paid"), end("declined") + end("given up"), end("paid"));
        (found == wanted && given_up == end("given up")).then_some(())
    });
}
