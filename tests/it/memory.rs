//! The whole process stays within its memory budget, whatever it is fed.

use std::fmt::Write as _;

use crate::support::notes::{AT, SCHEMAS};
use crate::support::{App, Launch, Place, topics, until};
use tidemill::base::hash::partition_of;

const TASKS: u32 = 16;
const STORES: usize = 10;
/// What is written at once: the test's own producer has a bound, too.
const CHUNK: usize = 20_000;

fn topology() -> String {
    let mut text = r#"
[topology]
format = 1
application_id = "{id}"

[stream.notes]
topic = "{id}-notes"
schemas = ["Note.avsc"]
value_format = "json"
"#
    .to_owned();
    for store in 0..STORES {
        let select = "select = { notes = 'count()', sum = 'sum(value.n)', text = 'last(value.text)' }";
        write!(text, "\n[aggregate.totals_{store}]\nfrom = \"notes\"\n{select}\n").unwrap();
    }
    text
}

/// Gives every one of `keys` keys two records: all are made, then all are found again. Prints the curve.
#[expect(clippy::print_stdout, reason = "the curve is for a person")]
fn resident_size_stays_below(keys: usize, budget_mib: u64) {
    let app = App::new(Place::kafka(), &topology(), SCHEMAS);
    topics::create(&*app.broker(), &app.topic("notes"), TASKS, &[]);
    let records = 2 * keys;
    for begin in (0..records).step_by(CHUNK) {
        let note = |number: usize| {
            let key = format!("customer-{:08}", number % keys);
            let value = format!(r#"{{"n": {number}, "text": "what was said last, {number}"}}"#).into_bytes();
            topics::record(&app.topic("notes"), partition_of(key.as_bytes(), TASKS).0, AT, Some(&key), Some(value))
        };
        topics::write(&*app.broker(), (begin..records.min(begin + CHUNK)).map(note));
    }
    let settings = format!("commit_interval = \"100ms\"\n[memory]\nbudget = \"{budget_mib}MiB\"\n");
    let mut run = app.start(&Launch { settings: &settings, ..Launch::default() });
    println!("{:>10} {:>12}   of a budget of {budget_mib} MiB", "records", "resident MiB");
    let (mut shown, mut last) = (0, 0);
    while last < records as u64 {
        // The wait is for progress, not for the end.
        last = until("records are worked on", || Some(run.consumed()).filter(|now| *now > last));
        if last - shown >= records as u64 / 20 || last == records as u64 {
            println!("{last:>10} {:>12}", run.resident_kib().0 / 1024);
            shown = last;
        }
    }
    let peak_mib = run.resident_kib().1 / 1024;
    println!("{:>10} {peak_mib:>12}", "peak");
    for store in 0..STORES {
        let path = format!("/v1/stores/totals_{store}/keys/customer-{:08}", keys - 1);
        until("the last note is committed", || run.json(&path).filter(|row| row["value"]["notes"] == 2));
    }
    run.stop();
    assert!(peak_mib <= budget_mib + budget_mib / 5, "{peak_mib} MiB of a budget of {budget_mib} MiB");
}

#[test]
fn the_process_stays_within_its_budget() {
    resident_size_stays_below(60_000, 128);
}

#[test]
#[ignore = "minutes: `make memory`"]
fn the_process_stays_within_the_budget_that_was_asked_for() {
    let number = |name: &str| -> u64 { crate::provided(name).parse().expect("a number") };
    resident_size_stays_below(number("TIDEMILL_MEMORY_KEYS") as usize, number("TIDEMILL_MEMORY_MIB"));
}
