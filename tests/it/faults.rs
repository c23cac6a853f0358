//! Faults while a daemon runs: the broker is unreachable or killed, the answer to a commit is lost, a process is frozen for
//! longer than its session, another takes its name, the disk is full. Afterwards the answers are those of a calm run.

use std::time::Duration;

use crate::support::kafka_server::KafkaServer;
use crate::support::process::Run;
use crate::support::proxy::{END_TXN, When};
use crate::support::shop::{self, Answers};
use crate::support::{App, Launch, Place, notes, rest, topics, until, until_or_said};

const FIRST: usize = 900;
const SECOND: usize = 1800;
const ALL: usize = 2400;

#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let mut kafka = KafkaServer::start();
    let app = shop::open(kafka.place());
    let orders = shop::orders(ALL);
    shop::place_orders(&app, &orders[..FIRST]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, FIRST as i64 / 2);
    // Unreachable in the middle of the work.
    kafka.proxy.cut();
    run.says("Disconnected");
    assert_eq!(run.ask("/livez").0, 200);
    kafka.proxy.mend();
    shop::place_orders(&app, &orders[FIRST..SECOND]);
    shop::wait_for_count(&mut run, FIRST as i64 + 1);
    kafka.kill_at_rest();
    assert_eq!(run.ask("/livez").0, 200);
    // Committed state is there to be read meanwhile.
    assert!(!run.rows("items").unwrap_or_default().is_empty() || run.ask("/readyz").0 == 503);
    kafka.resume();
    shop::place_orders(&app, &orders[SECOND..]);
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_second_signal_ends_a_daemon_that_waits_for_its_broker() {
    let kafka = KafkaServer::start();
    let app = shop::open(kafka.place());
    // What is processed is committed at the stop only.
    let mut run = app.start(&Launch { settings: "commit_interval = \"60s\"\n", ..Launch::default() });
    shop::place_orders(&app, &shop::orders(FIRST));
    until("orders are worked on", || (run.consumed() > 0).then_some(()));
    kafka.proxy.cut();
    run.signal("TERM");
    run.says("stopping");
    run.signal("INT");
    assert_eq!(run.wait().code(), Some(130), "{}", run.said());
}

/// The link to the broker is cut when a transaction is being ended, for so long that nobody can tell what became of it.
fn lose_an_outcome(when: When) {
    let kafka = KafkaServer::start();
    let app = shop::open(kafka.place());
    let orders = shop::orders(ALL);
    shop::place_orders(&app, &orders[..FIRST]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, FIRST as i64);
    shop::place_orders(&app, &orders[FIRST..SECOND]);
    kafka.proxy.set_trap(END_TXN, when);
    kafka.proxy.wait_for_trap();
    // Either the commit is given up on, or the group's session ends before that: both leave the outcome to a new producer.
    run.says_one_of(&["the outcome of the commit is unknown", "could not abort: a new producer settles it"]);
    kafka.proxy.mend();
    shop::place_orders(&app, &orders[SECOND..]);
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_commit_whose_answer_is_lost_counts_once() {
    lose_an_outcome(When::InsteadOfTheAnswer);
}

#[test]
fn a_commit_that_never_arrived_is_done_again() {
    lose_an_outcome(When::BeforeTheRequest);
}

/// A shop with a daemon that is frozen in the middle of its work, and what is to come.
fn frozen(app: &App, orders: &[shop::Order]) -> Run {
    shop::place_orders(app, &orders[..FIRST]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, FIRST as i64);
    shop::place_orders(app, &orders[FIRST..SECOND]);
    shop::wait_for_count(&mut run, FIRST as i64 + 1);
    run.signal("STOP");
    run
}

#[test]
fn a_process_frozen_for_longer_than_its_session_commits_nothing_and_joins_anew() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(ALL);
    let mut first = frozen(&app, &orders);
    let mut second = app.start(&Launch { instance: "b", ..Launch::default() });
    // The second one takes over when the session and the open transaction of the first have timed out.
    shop::wait_for(&app, &mut second, &Answers::of(&orders[..SECOND]));
    first.signal("CONT");
    until_or_said("the first one notices", || {
        let said = first.said();
        let noticed = ["partitions are lost", "joining anew"].iter().any(|sign| said.contains(sign));
        if noticed { Ok(()) } else { Err(said) }
    });
    shop::place_orders(&app, &orders[SECOND..]);
    // Both divide the work now; what the second had goes to the first when it stops.
    until("the first one works again", || first.json("/v1/tasks")?["tasks"].get(0).map(drop));
    second.stop();
    shop::wait_for(&app, &mut first, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&first.stop());
}

#[test]
fn a_process_whose_name_another_took_commits_nothing() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(ALL);
    let mut first = frozen(&app, &orders);
    let namesake = Launch { state: Some("elsewhere"), ..Launch::default() };
    let mut second = app.start(&namesake);
    shop::wait_for(&app, &mut second, &Answers::of(&orders[..SECOND]));
    first.signal("CONT");
    first.says("another instance took over");
    first.kill();
    shop::place_orders(&app, &orders[SECOND..]);
    shop::wait_for(&app, &mut second, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&second.stop());
}

#[test]
fn a_full_disk_is_said_and_the_state_goes_on_when_there_is_room() {
    let app = shop::open(Place::kafka_and_registry());
    let orders = shop::orders(ALL + FIRST);
    shop::place_orders(&app, &orders[..ALL]);
    // Room for RocksDB's own files, not for the rows: everything is committed, and flushing it at the stop fails.
    let mut run = app.start(&Launch { file_kib_max: Some(24), ..Launch::default() });
    shop::wait_for_count(&mut run, ALL as i64);
    run.signal("TERM");
    let status = run.wait();
    until("the reason is said", || run.said().contains("E0805").then_some(()));
    assert_eq!(status.code(), Some(74), "{}", run.said());
    // No room even to open a store: it is said, and tried again and again.
    let mut run = app.start(&Launch { file_kib_max: Some(0), ..Launch::default() });
    run.says("the state cannot be read or written");
    run.says("trying the task's state again");
    assert!(run.exited().is_none());
    run.kill();
    shop::place_orders(&app, &orders[ALL..]);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_transaction_that_timed_out_while_its_process_was_frozen_is_done_again() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(ALL);
    let mut run = frozen(&app, &orders);
    // Longer than the transaction may be open and the session silent; nobody else is there.
    rest(Duration::from_secs(16));
    run.signal("CONT");
    shop::place_orders(&app, &orders[SECOND..]);
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_producer_that_the_broker_has_forgotten_is_made_anew() {
    let kafka = KafkaServer::start_with(
        "\ntransactional.id.expiration.ms=3000\ntransaction.remove.expired.transaction.cleanup.interval.ms=500\n\
         producer.id.expiration.ms=3000\nproducer.id.expiration.check.interval.ms=500\n",
    );
    let app = shop::open(kafka.place());
    let orders = shop::orders(ALL);
    shop::place_orders(&app, &orders[..FIRST]);
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders[..FIRST]));
    // Nothing is written for longer than the broker remembers who wrote.
    rest(Duration::from_secs(10));
    shop::place_orders(&app, &orders[FIRST..]);
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_broker_without_transactions_is_refused_by_name_and_served_at_least_once() {
    let kafka = KafkaServer::start();
    kafka.proxy.refuse_transactions();
    let app = shop::open(kafka.place());
    let orders = shop::orders(FIRST);
    shop::place_orders(&app, &orders);
    // This one answers as to a newer client; librdkafka asks again until its time is over.
    let mut run = app.start(&Launch::default());
    run.says("(E0610)");
    let said = run.said();
    assert!(said.contains("joining anew") && said.contains("at_least_once"), "{said}");
    assert_eq!((run.ask("/livez").0, run.ask("/readyz").0), (200, 503));
    assert!(run.ask("/readyz?verbose").1.contains("E0610"));
    run.kill();
    let mut run = app.start(&Launch { at_least_once: true, ..Launch::default() });
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    run.stop();
}

#[test]
fn slow_nodes_do_not_keep_a_thread_from_its_group() {
    let items: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let all = format!("[{}]", items.join(", "));
    let slow = format!("{all}.all(a, {all}.all(b, {all}.all(c, a + b + c + value.n >= 0)))");
    let topology = notes::TOPOLOGY.replace(
        "[aggregate.newest]\nfrom = \"notes\"",
        &format!("[stream.slow]\nfrom = \"notes\"\nwhere = '{slow}'\n\n[aggregate.newest]\nfrom = \"slow\""),
    );
    let app = notes::open(&Place::kafka(), &topology);
    let key = notes::key_of(0);
    const NOTES: i64 = 100;
    let records = (0..NOTES).map(|_| notes::note(&app, &key, notes::AT, r#"{"n": 1}"#));
    topics::write(&*app.broker(), records);
    // As short as the session allows; the notes take longer.
    let launch = Launch { kafka: "\"max.poll.interval.ms\" = \"10000\"", ..Launch::default() };
    let mut run = app.start(&launch);
    notes::wait_for(&mut run, &key, (NOTES, NOTES));
    assert!(run.ask("/metrics").1.contains("tidemill_rebalances_total{thread=\"0\"} 1"));
    let said = run.stop();
    assert!(!said.contains("partitions are lost") && !said.contains("joining anew"), "{said}");
}
