//! Several processes of one application on a real Kafka: what they know of each other, and how they answer for each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::support::process::Run;
use crate::support::{Launch, Place, shop, until, until_or_said};

fn launch(instance: &str) -> Launch<'_> {
    Launch { instance, ..Launch::default() }
}

/// What an instance knows of all, by id; none before it knows.
fn instances(run: &mut Run) -> Option<BTreeMap<String, Json>> {
    let answer = run.json("/v1/instances")?;
    let entries = answer["instances"].as_array().unwrap();
    let by_id = entries.iter().map(|entry| (entry["instance"].as_str().unwrap().to_owned(), entry.clone()));
    Some(by_id.collect())
}

fn texts(list: &Json) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn tasks(run: &mut Run) -> Option<BTreeSet<String>> {
    let answer = run.json("/v1/tasks")?;
    let tasks = answer["tasks"].as_array().unwrap();
    Some(tasks.iter().map(|task| task["task"].as_str().unwrap().to_owned()).collect())
}

/// Waits until one knows of another what that one says of itself, and that it has tasks.
fn knows(of: &str, known: &mut Run, knower: &mut Run) {
    let address = known.address("http");
    until_or_said(&format!("{of} is known"), || {
        let has = tasks(known).unwrap_or_default();
        let seen = instances(knower).unwrap_or_default();
        let entry = seen.get(of).cloned().unwrap_or_default();
        let right = entry["alive"] == true && entry["http"] == address.as_str() && texts(&entry["active"]) == has;
        if right && !has.is_empty() { Ok(()) } else { Err(format!("{entry}\n{has:?}")) }
    });
}

#[test]
fn instances_know_each_other_and_who_left_and_who_died() {
    let app = shop::open(Place::kafka());
    shop::place_orders(&app, &shop::orders(60));
    let (mut a, mut b) = (app.start(&launch("a")), app.start(&launch("b")));
    knows("a", &mut a, &mut b);
    knows("b", &mut b, &mut a);
    let seen = instances(&mut a).unwrap();
    assert_eq!(texts(&seen["a"]["active"]).intersection(&texts(&seen["b"]["active"])).count(), 0, "{seen:?}");
    assert_eq!((&seen["a"]["here"], &seen["b"]["here"]), (&true.into(), &false.into()));
    let topology = a.json("/v1/topology").unwrap();
    for entry in seen.values() {
        assert_eq!(entry["fingerprint"], topology["fingerprint"]);
        assert_eq!((entry["version"].as_str(), &entry["threads"]), (Some(env!("CARGO_PKG_VERSION")), &1.into()));
    }
    // Who stops says so; who is killed cannot, and is seen by the silence.
    let c = app.start(&launch("c"));
    until("a third one is known", || instances(&mut a)?.contains_key("c").then_some(()));
    c.stop();
    until("it has left", || (!instances(&mut a)?.contains_key("c")).then_some(()));
    b.kill();
    until("the dead are known as dead", || (instances(&mut a)?["b"]["alive"] == false).then_some(()));
    let mut b = app.start(&launch("b"));
    knows("b", &mut b, &mut a);
    knows("a", &mut a, &mut b);
    a.stop();
    b.stop();
}

/// The code of a problem.
fn code(answer: (u16, String)) -> (u16, String) {
    let body: Json = serde_json::from_str(&answer.1).unwrap();
    (answer.0, body["code"].as_str().unwrap_or_default().to_owned())
}

/// A key of the entity whose task one instance has and another has not.
fn key_of(run: &mut Run, keys: &BTreeSet<String>) -> String {
    let tasks = tasks(run).unwrap();
    let partition = |key: &str| tidemill::base::hash::partition_of(key.as_bytes(), shop::PARTITIONS);
    let mine = |key: &&String| tasks.contains(&format!("customer_{}", partition(key)));
    keys.iter().find(mine).unwrap_or_else(|| panic!("{tasks:?} have none of {keys:?}")).clone()
}

#[test]
fn any_instance_answers_for_all_through_the_one_that_has_it() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(90);
    shop::place_orders(&app, &orders[..60]);
    let (mut a, mut b) = (app.start(&launch("a")), app.start(&launch("b")));
    knows("a", &mut a, &mut b);
    knows("b", &mut b, &mut a);
    // Everything can be asked of either: keys, histories, whole stores.
    shop::wait_for(&app, &mut a, &shop::Answers::of(&orders[..60]));
    shop::wait_for(&app, &mut b, &shop::Answers::of(&orders[..60]));
    let customers: BTreeSet<String> = orders.iter().map(|order| order.customer.clone()).collect();
    let (of_a, of_b) = (key_of(&mut a, &customers), key_of(&mut b, &customers));
    for path in ["", "/blame", "?version=1", "/history?limit=1"] {
        let path = format!("/v1/entities/customer/keys/{of_b}{path}");
        assert_eq!(a.json(&path).unwrap(), b.json(&path).unwrap());
    }
    let (first, second) =
        (a.json("/v1/stores/customer/keys?limit=2").unwrap(), b.json("/v1/stores/customer/keys?limit=2").unwrap());
    assert_eq!(first, second);
    assert_eq!(first["keys"].as_array().unwrap().len(), 2, "and there are more: {first}");
    assert!(first["cursor"].is_string(), "{first}");
    assert_eq!(a.ask("/v1/entities/customer/keys/nobody").0, 404);
    // One's own writes are read through the other, too.
    shop::place_orders(&app, &orders[60..]);
    let last = orders.iter().rposition(|order| order.customer == of_b).unwrap();
    let place = orders[last].partition();
    let before = orders[..last].iter().filter(|order| order.partition() == place).count();
    let path = format!("/v1/entities/customer/keys/{of_b}?wait=20s&wait_for={}:{place}:{before}", app.topic("orders"));
    assert_eq!(a.json(&path).unwrap()["state"]["n"], orders[last].n);
    // Who is asked on behalf of another answers from what it has, and only under its own name.
    let path = format!("/v1/entities/customer/keys/{of_b}");
    assert_eq!(b.ask_with(&path, "tidemill-instance: b\r\n").0, 200);
    assert_eq!(code(b.ask_with(&path, "tidemill-instance: a\r\n")), (503, "E0906".to_owned()));
    assert_eq!(code(a.ask_with(&path, "tidemill-instance: a\r\n")), (503, "E0906".to_owned()));
    // A dead one is not waited for, and its tasks come over.
    b.kill();
    assert_eq!(code(a.ask(&path)), (503, "E0907".to_owned()));
    let answer = until("the survivor has it", || a.json(&path));
    assert_eq!(answer["state"]["n"], orders[last].n);
    assert_eq!(a.ask(&format!("/v1/entities/customer/keys/{of_a}")).0, 200);
    a.stop();
}
