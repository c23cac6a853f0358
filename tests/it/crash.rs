//! A crash at every named step of a daemon's life: what is there afterwards is what an uninterrupted run leaves, on the embedded
//! broker and on a real Kafka.

use tidemill::crash::Step;

use crate::support::process::Run;
use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, in_parallel, topics, until};

/// Orders that are there before the crash, and those that come after it.
const BEFORE: usize = 1500;
const AFTER: usize = 300;

fn launch<'a>(at_least_once: bool, crash: Option<String>) -> Launch<'a> {
    Launch { at_least_once, crash, ..Launch::default() }
}

/// Starts a daemon, brings it to where the step is reached, and waits for its death; `ready` waits until it has worked.
pub(crate) fn crash_at(app: &App, step: Step, at_least_once: bool, ready: &dyn Fn(&mut Run)) {
    let armed = |step: Step, count: u32| launch(at_least_once, Some(format!("{}:{count}", step.name())));
    match step {
        Step::RestoreBegun | Step::RestoreBatch | Step::Restored => {
            // Something to restore: what a crash before the first flush leaves in the changelogs alone.
            let said = app.start(&armed(Step::Confirmed, 2)).crashes_at(Step::Confirmed.name());
            shop::assert_no_store_was_set_aside(&said);
            app.start(&armed(step, 2)).crashes_at(step.name());
        }
        Step::Closing | Step::Flushed => {
            let mut run = app.start(&armed(step, 1));
            ready(&mut run);
            run.signal("TERM");
            run.crashes_at(step.name());
        }
        Step::Revoking => {
            let mut run = app.start(&armed(step, 1));
            ready(&mut run);
            let other = app.start(&Launch { instance: "b", ..launch(at_least_once, None) });
            run.crashes_at(step.name());
            other.kill();
        }
        Step::Assigned | Step::WrittenBehind => {
            app.start(&armed(step, 1)).crashes_at(step.name());
        }
        Step::LettersSent | Step::LettersSettled => panic!("tests/it/on_error.rs has these"),
        Step::Sealed
        | Step::HandedOver
        | Step::Delivered
        | Step::OffsetsSent
        | Step::Ended
        | Step::Answered
        | Step::OffsetsCommitted
        | Step::Confirmed => {
            app.start(&armed(step, 2)).crashes_at(step.name());
        }
    }
}

/// Crashes once at a step, goes on with more orders, and stops; the answers are given to `check`.
fn crash_and_go_on(place: &Place, step: Step, at_least_once: bool, check: &dyn Fn(&App, &mut Run, usize)) {
    let app = shop::open(place.clone());
    let orders = shop::orders(BEFORE + AFTER);
    shop::place_orders(&app, &orders[..BEFORE]);
    crash_at(&app, step, at_least_once, &|run| shop::wait_for_count(run, BEFORE as i64));
    shop::place_orders(&app, &orders[BEFORE..]);
    let mut run = app.start(&launch(at_least_once, None));
    check(&app, &mut run, BEFORE + AFTER);
    shop::assert_no_store_was_set_aside(&run.stop());
}

fn equals_an_uninterrupted_run(app: &App, run: &mut Run, orders: usize) {
    shop::wait_for(app, run, &Answers::of(&shop::orders(orders)));
}

/// Steps that a place and a guarantee have.
pub(crate) fn steps(place: &Place, at_least_once: bool) -> Vec<Step> {
    let there = |step: &&Step| match step {
        Step::LettersSent | Step::LettersSettled => false,
        Step::OffsetsSent | Step::Ended => !at_least_once,
        Step::OffsetsCommitted => at_least_once,
        // One process has the embedded broker, and its threads divide the partitions before they have any work.
        Step::Revoking => *place != Place::Embedded,
        _ => true,
    };
    Step::ALL.iter().filter(there).copied().collect()
}

#[test]
fn an_uninterrupted_run_gives_what_plain_loops_give() {
    let app = shop::open(Place::Embedded);
    let orders = shop::orders(BEFORE);
    shop::place_orders(&app, &orders);
    let mut run = app.start(&Launch { threads: 2, ..Launch::default() });
    let wanted = Answers::of(&orders);
    assert!(wanted.large.len() > 50 && wanted.closed.len() > 100, "{wanted:?}");
    shop::wait_for(&app, &mut run, &wanted);
    run.stop();
}

#[test]
fn after_a_crash_at_any_step_on_the_embedded_broker_everything_is_there_once() {
    in_parallel(&steps(&Place::Embedded, false), 3, |step| {
        crash_and_go_on(&Place::Embedded, *step, false, &equals_an_uninterrupted_run);
    });
}

#[test]
fn after_a_crash_at_any_step_on_a_real_kafka_everything_is_there_once() {
    let place = Place::kafka();
    in_parallel(&steps(&place, false), 4, |step| {
        crash_and_go_on(&place, *step, false, &equals_an_uninterrupted_run);
    });
}

/// What `at_least_once` promises: nothing is missing. Outputs may repeat, sums may hold a record twice, a history may have an
/// event twice; what is folded from the newest event is right as soon as everything is processed again.
fn nothing_is_missing(app: &App, run: &mut Run, orders: usize) {
    let wanted = Answers::of(&shop::orders(orders));
    shop::wait_for_count(run, orders as i64);
    until("nothing is missing", || {
        let found = Answers::ask(app, run)?;
        let items = wanted.items.iter().all(|(item, wanted)| {
            found.items.get(item).is_some_and(|found| found.0 >= wanted.0 && found.1 >= wanted.1)
        });
        let mut histories = found.histories.clone();
        for history in histories.values_mut() {
            history.sort_unstable();
            history.dedup();
        }
        let (mut large, mut closed) = (found.large.clone(), found.closed.clone());
        large.dedup();
        closed.dedup_by_key(|(item, start, ..)| (item.clone(), *start));
        let closed_all = closed.iter().map(|(item, start, ..)| (item, start));
        let closed_all = closed_all.eq(wanted.closed.iter().map(|(item, start, ..)| (item, start)));
        let counted = found.closed.iter().all(|(item, start, orders, _)| {
            let of_it = wanted.closed.iter().find(|(other, at, ..)| other == item && at == start);
            of_it.is_some_and(|(.., least, _)| orders >= least)
        });
        let all = items
            && histories == wanted.histories
            && found.newest == wanted.newest
            && large == wanted.large
            && closed_all
            && counted;
        all.then_some(())
    });
    assert!(run.stopped_tasks().is_empty());
}

#[test]
fn after_a_crash_at_any_step_at_least_once_misses_nothing() {
    let kafka = Place::kafka();
    let mut cases: Vec<(Place, Step)> = Vec::new();
    for place in [Place::Embedded, kafka] {
        cases.extend(steps(&place, true).into_iter().map(|step| (place.clone(), step)));
    }
    in_parallel(&cases, 4, |(place, step)| crash_and_go_on(place, *step, true, &nothing_is_missing));
}

/// The group's offsets are deleted while nobody is in the group; then the daemon goes on, with its state or without it.
fn lose_the_groups_offsets(place: Place, lose_state: bool) {
    let app = shop::open(place);
    let orders = shop::orders(BEFORE + AFTER);
    shop::place_orders(&app, &orders[..BEFORE]);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders[..BEFORE]));
    run.stop();
    let broker = app.broker();
    until("the group is gone", || broker.admin().unwrap().delete_group(&app.id, crate::support::DEADLINE).ok());
    drop(broker);
    if lose_state {
        std::fs::remove_dir_all(app.state("a").join(&app.id)).unwrap();
    }
    shop::place_orders(&app, &orders[BEFORE..]);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    let said = run.stop();
    shop::assert_no_store_was_set_aside(&said);
    // Once more, with the offsets that were committed since.
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    run.stop();
}

#[test]
fn lost_group_offsets_are_read_from_the_meta_topic() {
    let cases = [(Place::Embedded, false), (Place::Embedded, true), (Place::kafka(), false), (Place::kafka(), true)];
    in_parallel(&cases, 4, |(place, lose_state)| lose_the_groups_offsets(place.clone(), *lose_state));
}

#[test]
fn a_changelog_that_was_made_anew_sets_its_store_aside() {
    // The other side of `assert_no_store_was_set_aside`: the line that it looks for is what a daemon says.
    let app = shop::open(Place::Embedded);
    shop::place_orders(&app, &shop::orders(BEFORE));
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, BEFORE as i64);
    run.stop();
    let broker = app.broker();
    let mut admin = broker.admin().unwrap();
    let topics = admin.list(crate::support::DEADLINE).unwrap();
    let changelog = topics.iter().find(|topic| topic.as_str().contains("items-changelog")).unwrap();
    let found = admin.describe(std::slice::from_ref(changelog), crate::support::DEADLINE).unwrap().remove(0).unwrap();
    admin.delete(changelog, crate::support::DEADLINE).unwrap();
    topics::create(&*broker, changelog.as_str(), found.partitions, &[("cleanup.policy", "compact")]);
    drop((admin, broker));
    let mut run = app.start(&Launch::default());
    run.says("set a store aside");
    run.kill();
}
