//! Members of a group that come, go and die under load: threads of one process and several processes, under both group protocols.
//! Whatever the group does to them, everything is there once.

use std::time::Duration;

use crate::support::process::Run;
use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, in_parallel, rest, until};

/// Orders that are placed while the group is as it is.
const STEP: usize = 600;
const STEPS: usize = 5;

/// Waits until a daemon has tasks that run.
fn works(run: &mut Run, name: &str) {
    until(&format!("`{name}` has its share"), || {
        let tasks = run.json("/v1/tasks")?["tasks"].as_array()?.clone();
        tasks.iter().any(|task| task["state"] == "running").then_some(())
    });
}

/// Orders of one step come a few at a time, so that rebalances meet work under way.
fn load(app: &App, step: usize) {
    let orders = shop::orders(STEP * (step + 1));
    for part in orders[STEP * step..].chunks(STEP / 6) {
        shop::place_orders(app, part);
        rest(Duration::from_millis(100));
    }
}

fn come_go_and_die(protocol: &str) {
    let app = shop::open(Place::kafka());
    let kafka = format!("\"group.protocol\" = \"{protocol}\"");
    let member = |instance, threads| Launch { instance, threads, kafka: &kafka, ..Launch::default() };
    let mut first = app.start(&member("a", 1));
    load(&app, 0);
    works(&mut first, "a");
    // One comes, with several threads.
    let mut second = app.start(&member("b", 2));
    load(&app, 1);
    works(&mut second, "b");
    load(&app, 2);
    // One dies; its share is taken over when its session is over.
    second.kill();
    load(&app, 3);
    shop::wait_for(&app, &mut first, &Answers::of(&shop::orders(STEP * 4)));
    // It comes back with fewer threads, and the other one goes as it should.
    let mut second = app.start(&member("b", 1));
    works(&mut second, "b");
    load(&app, 4);
    shop::assert_no_store_was_set_aside(&first.stop());
    shop::wait_for(&app, &mut second, &Answers::of(&shop::orders(STEP * STEPS)));
    shop::assert_no_store_was_set_aside(&second.stop());
}

#[test]
fn members_that_come_go_and_die_under_load_lose_nothing_and_double_nothing() {
    in_parallel(&["classic", "consumer"], 2, |protocol| come_go_and_die(protocol));
}
