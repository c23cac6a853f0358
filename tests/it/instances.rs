//! Several processes of one application on a real Kafka: what they know of each other.

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
