//! Standbys on a real Kafka: a process that is really killed leaves its tasks to one that has followed them, and reads a tail only.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::support::process::Run;
use crate::support::{App, Launch, Place, shop, until, until_or_said};

const BEFORE: usize = 3_000;
const ALL: usize = 3_200;

fn launch(instance: &str) -> Launch<'_> {
    Launch { instance, settings: "num_standby_replicas = 1\n", ..Launch::default() }
}

/// Tasks in one of these states; none before there are any.
fn tasks(run: &mut Run, standby: bool) -> Option<BTreeSet<String>> {
    let answer = run.json("/v1/tasks")?;
    let of_state = answer["tasks"].as_array().unwrap().iter().filter(|task| (task["state"] == "standby") == standby);
    let names: BTreeSet<String> = of_state.map(|task| task["task"].as_str().unwrap().to_owned()).collect();
    (!names.is_empty()).then_some(names)
}

/// Waits until each keeps the other's tasks, and has read all there is.
fn follow_each_other(a: &mut Run, b: &mut Run) -> BTreeSet<String> {
    until_or_said("each follows the other", || {
        let of_a = (tasks(a, false).unwrap_or_default(), tasks(a, true).unwrap_or_default());
        let of_b = (tasks(b, false).unwrap_or_default(), tasks(b, true).unwrap_or_default());
        let all = a.json("/v1/tasks").unwrap_or_default();
        let behind = all["tasks"].as_array().into_iter().flatten().any(|task| task["restore_remaining"] != 0);
        let right = of_a.0 == of_b.1 && of_a.1 == of_b.0 && !of_a.0.is_empty() && !of_b.0.is_empty() && !behind;
        if right { Ok(of_b.0) } else { Err(format!("{of_a:?}\n{of_b:?}\n{all}")) }
    })
}

/// The offsets that the restore of each of these tasks had to read, by a log.
fn restored(said: &str, tasks: &BTreeSet<String>) -> Vec<u64> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let of_them =
        lines.filter(|line| line["message"] == "restoring" && tasks.contains(line["task"].as_str().unwrap_or("")));
    of_them.map(|line| line["offsets"].as_u64().unwrap()).collect()
}

/// The offsets of the changelogs of these tasks.
fn changelogs(app: &App, run: &mut Run, tasks: &BTreeSet<String>) -> u64 {
    let stores = run.json("/v1/stores").unwrap();
    let mut offsets = 0;
    for store in stores["stores"].as_array().unwrap() {
        if tasks.contains(store["task"].as_str().unwrap()) {
            let topic = format!("{}-{}-changelog", app.id, store["store"].as_str().unwrap());
            let about = run.json(&format!("/v1/topics/{topic}")).unwrap();
            let partition = &about["partitions"][store["partition"].as_u64().unwrap() as usize];
            offsets += partition["end"].as_u64().unwrap() - partition["start"].as_u64().unwrap();
        }
    }
    offsets
}

#[test]
fn a_killed_instances_tasks_go_on_where_their_standbys_are() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(ALL);
    let (mut a, mut b) = (app.start(&launch("a")), app.start(&launch("b")));
    shop::place_orders(&app, &orders[..BEFORE]);
    shop::wait_for(&app, &mut a, &shop::Answers::of(&orders[..BEFORE]));
    let of_b = follow_each_other(&mut a, &mut b);
    assert!(a.ask("/metrics").1.contains(&format!("tidemill_tasks{{state=\"standby\"}} {}", of_b.len())));
    let seen = a.json("/v1/instances").unwrap();
    let announced =
        seen["instances"].as_array().unwrap().iter().find(|entry| entry["instance"] == "b").unwrap().clone();
    assert!(!announced["standby"].as_array().unwrap().is_empty(), "{announced}");
    let whole = changelogs(&app, &mut b, &of_b);
    let customer = of_b.iter().find_map(|task| task.strip_prefix("customer_")?.parse::<i32>().ok());
    let customer = customer.expect("one of the entity's tasks is there");
    let key = orders[..BEFORE].iter().rfind(|order| order.partition() == customer).unwrap();
    let (path, before) = (format!("/v1/entities/customer/keys/{}", key.customer), a.said().len());
    b.kill();
    // The dead one is not there to be asked, and the task has not moved yet: who says that it may be stale is answered.
    assert_eq!(a.ask(&path).0, 503);
    let stale = a.json(&format!("{path}?stale=true")).unwrap();
    assert_eq!((&stale["state"]["n"], &stale["stale"], &stale["behind"]), (&key.n.into(), &true.into(), &0.into()));
    assert_eq!(a.ask(&format!("{path}?stale=true&wait_for={}:0:0", app.topic("orders"))).0, 400);
    let page = a.json("/v1/stores/customer/keys?stale=true&limit=1000").unwrap();
    assert_eq!(page["stale"], true);
    assert_eq!(page["keys"].as_array().unwrap().len(), shop::Answers::of(&orders[..BEFORE]).newest.len());
    until("the survivor runs everything", || {
        let runs = tasks(&mut a, false)?;
        (of_b.is_subset(&runs) && a.json(&path).is_some()).then_some(())
    });
    let told = a.said()[before..].to_owned();
    assert_eq!(told.matches("a standby takes its task over").count(), of_b.len(), "{told}");
    let tails = restored(&told, &of_b);
    assert_eq!(tails.len(), of_b.len(), "{told}");
    let tail: u64 = tails.iter().sum();
    assert!(tail * 20 <= whole, "{tail} of {whole} offsets were read again:\n{told}");
    println!("kill -9: {tail} of {whole} offsets of {} tasks were read", of_b.len());
    shop::place_orders(&app, &orders[BEFORE..]);
    shop::wait_for(&app, &mut a, &shop::Answers::of(&orders));
    // It comes back: what the survivor ran for it stays with the survivor as standbys.
    let mut b = app.start(&launch("b"));
    follow_each_other(&mut a, &mut b);
    shop::wait_for(&app, &mut b, &shop::Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&a.stop());
    shop::assert_no_store_was_set_aside(&b.stop());
}
