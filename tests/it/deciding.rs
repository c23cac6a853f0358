//! Entities that decide, as processes: after a crash at any step every command is decided once, its events stand once in the topic and
//! once in the state, and its answer is what it was; over HTTP an answer holds against `kill -9`.

#![allow(clippy::disallowed_methods, reason = "tests wait for conditions, with generous bounds")]

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidemill::base::hash::partition_of;
use tidemill::base::record::{Header, Headers, Outgoing};
use tidemill::base::rng::Rng;
use tidemill::crash::Step;

use crate::crash;
use crate::support::process::Run;
use crate::support::shop;
use crate::support::{App, DEADLINE, Launch, Place, in_parallel, topics, until};

const PARTITIONS: u32 = 3;
const START_MS: i64 = 1_700_000_000_000;

const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.account_events]
topic = "{id}-events"
schemas = ["Deposited.avsc", "Withdrawn.avsc"]
subjects = "topic_record_name"

[entity.account]
from = "account_events"
schema = "Account.avsc"
history = "forever"
commands = { topic = "{id}-commands", schemas = ["Move.avsc"], value_format = "json" }
replies = "{id}-replies"
apply.Deposited.set = { balance = 'state.balance + event.amount', moves = 'state.moves + 1' }
apply.Withdrawn.set = { balance = 'state.balance - event.amount', moves = 'state.moves + 1' }

[entity.account.decide.Move]
reject = [{ when = 'command.amount < 0 && (state == null || state.balance < -command.amount)', code = "too_little" }]
emit = [
  { Deposited = { n = 'command.n', amount = 'command.amount' }, when = 'command.amount > 0' },
  { Withdrawn = { n = 'command.n', amount = '-command.amount' }, when = 'command.amount < 0' },
]

# Behind the topic, as a reader of the events sees them.
[aggregate.seen]
from = "account_events"
on.Deposited.set = { events = 'count()' }
on.Withdrawn.set = { events = 'count()' }
"#;

const SCHEMAS: &[(&str, &str)] = &[
    (
        "Move.avsc",
        r#"{"type": "record", "name": "Move", "namespace": "bank", "fields": [
            {"name": "n", "type": "long"}, {"name": "amount", "type": "long"}]}"#,
    ),
    (
        "Deposited.avsc",
        r#"{"type": "record", "name": "Deposited", "namespace": "bank", "fields": [
            {"name": "n", "type": "long"}, {"name": "amount", "type": "long"}]}"#,
    ),
    (
        "Withdrawn.avsc",
        r#"{"type": "record", "name": "Withdrawn", "namespace": "bank", "fields": [
            {"name": "n", "type": "long"}, {"name": "amount", "type": "long"}]}"#,
    ),
    (
        "Account.avsc",
        r#"{"type": "record", "name": "Account", "namespace": "bank", "fields": [
            {"name": "balance", "type": "long", "default": 0}, {"name": "moves", "type": "long", "default": 0}]}"#,
    ),
];

const BEFORE: usize = 900;
const AFTER: usize = 200;

/// A command; its id may have come before.
#[derive(Clone, Debug)]
struct Move {
    n: i64,
    account: String,
    amount: i64,
    id: String,
}

/// The first `count` commands, the same ones every time: some take more than there is, some come twice.
fn moves(count: usize) -> Vec<Move> {
    let mut rng = Rng::new(5);
    let mut moves: Vec<Move> = Vec::new();
    for n in 0..count as i64 {
        match moves.last() {
            Some(last) if rng.below(9) == 0 => moves.push(last.clone()),
            _ => {
                let amount = rng.below(200) as i64 - 90;
                moves.push(Move { n, account: format!("a{}", rng.below(25)), amount, id: format!("m{n}") });
            }
        }
    }
    moves
}

/// What the entity should come to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    balances: BTreeMap<String, (i64, i64)>,
    /// By account: the commands that gave an event, in order.
    events: BTreeMap<String, Vec<i64>>,
    /// By account: each answer's command, outcome and version.
    replies: BTreeMap<String, Vec<(String, String, i64)>>,
    seen: BTreeMap<String, i64>,
    /// Versions in the history, each with an event that is known to stand in the topic.
    versions: BTreeMap<String, i64>,
}

fn wanted(moves: &[Move]) -> Wanted {
    let mut wanted = Wanted::default();
    let mut answered: BTreeMap<&str, (String, i64)> = BTreeMap::new();
    for command in moves {
        let account = &command.account;
        let (balance, count) = wanted.balances.get(account).copied().unwrap_or_default();
        let answer = answered.entry(&command.id).or_insert_with(|| {
            if balance + command.amount < 0 && command.amount < 0 {
                return ("refused".to_owned(), count);
            }
            if command.amount == 0 {
                return ("accepted".to_owned(), count);
            }
            wanted.balances.insert(account.clone(), (balance + command.amount, count + 1));
            wanted.events.entry(account.clone()).or_default().push(command.n);
            *wanted.seen.entry(account.clone()).or_default() += 1;
            wanted.versions.insert(account.clone(), count + 1);
            ("accepted".to_owned(), count + 1)
        });
        let reply = (command.id.clone(), answer.0.clone(), answer.1);
        wanted.replies.entry(account.clone()).or_default().push(reply);
    }
    wanted
}

/// Asks a daemon for all of it; none while something cannot be read.
fn found(app: &App, run: &mut Run) -> Option<Wanted> {
    let mut found = Wanted::default();
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    let long = |json: &Json| json.as_i64().unwrap();
    for row in run.rows("account")? {
        let key = text(&row["key"]);
        let state = (long(&row["value"]["balance"]), long(&row["value"]["moves"]));
        found.balances.insert(key.clone(), state);
        let history = run.json(&format!("/v1/entities/account/keys/{key}/history?limit=1000"))?;
        let placed = history["versions"].as_array()?.iter().filter(|version| version["event"]["offset"].is_i64());
        found.versions.insert(key, placed.count() as i64);
    }
    for row in run.rows("seen")? {
        found.seen.insert(text(&row["key"]), long(&row["value"]["events"]));
    }
    for record in run.records(&app.topic("events"))? {
        found.events.entry(text(&record["key"])).or_default().push(long(&record["value"]["n"]));
    }
    let replies = topics_of_replies(app, run)?;
    for (key, answer) in replies {
        let reply = (text(&answer["command_id"]), text(&answer["outcome"]), long(&answer["version"]));
        found.replies.entry(key).or_default().push(reply);
    }
    Some(found)
}

/// The answers that were written, by key.
fn topics_of_replies(app: &App, run: &mut Run) -> Option<Vec<(String, Json)>> {
    let records = run.records(&app.topic("replies"))?;
    let shown = |record: &Json| Some((record["key"].as_str()?.to_owned(), record["value"].clone()));
    records.iter().map(shown).collect()
}

fn place(app: &App, moves: &[Move], first: usize) {
    let header = |name: &str, value: &str| Header { name: name.into(), value: Some(value.to_owned().into()) };
    let records = moves.iter().enumerate().map(|(index, command)| {
        let partition = partition_of(command.account.as_bytes(), PARTITIONS).0;
        let value = json!({"n": command.n, "amount": command.amount}).to_string().into_bytes();
        let at = START_MS + (first + index) as i64 * 50;
        let topic = app.topic("commands");
        let record = topics::record(&topic, partition, at, Some(&command.account), Some(value));
        Outgoing { headers: Headers::new(vec![header("command-id", &command.id)]), ..record }
    });
    topics::write(&*app.broker(), records);
}

fn open(place: Place) -> App {
    let app = App::new(place, TOPOLOGY, SCHEMAS);
    for topic in ["commands", "events"] {
        topics::create(&*app.broker(), &app.topic(topic), PARTITIONS, &[]);
    }
    app
}

fn wait_for(app: &App, run: &mut Run, wanted: &Wanted) {
    let mut last = None;
    let end = std::time::Instant::now() + DEADLINE / 2;
    while last.as_ref() != Some(wanted) {
        assert!(std::time::Instant::now() < end, "the answers are {last:#?}\nnot {wanted:#?}\n{}", run.said());
        last = found(app, run);
    }
    assert!(run.stopped_tasks().is_empty(), "{:?}", run.stopped_tasks());
}

fn crash_and_go_on(at: &Place, step: Step) {
    let app = open(at.clone());
    let all = moves(BEFORE + AFTER);
    place(&app, &all[..BEFORE], 0);
    let first = wanted(&all[..BEFORE]);
    crash::crash_at(&app, step, false, &|run| wait_for(&app, run, &first));
    place(&app, &all[BEFORE..], BEFORE);
    let mut run = app.start(&Launch::default());
    wait_for(&app, &mut run, &wanted(&all));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn after_a_crash_at_any_step_on_the_embedded_broker_every_command_is_decided_once() {
    in_parallel(&crash::steps(&Place::Embedded, false), 3, |step| crash_and_go_on(&Place::Embedded, *step));
}

#[test]
fn after_a_crash_at_any_step_on_a_real_kafka_every_command_is_decided_once() {
    let kafka = Place::kafka();
    in_parallel(&crash::steps(&kafka, false), 4, |step| crash_and_go_on(&kafka, *step));
}

#[test]
fn decisions_go_on_where_another_instance_takes_over() {
    let app = open(Place::kafka());
    let all = moves(BEFORE + AFTER);
    place(&app, &all[..BEFORE], 0);
    let mut first = app.start(&Launch::default());
    wait_for(&app, &mut first, &wanted(&all[..BEFORE]));
    let second = app.start(&Launch { instance: "b", ..Launch::default() });
    place(&app, &all[BEFORE..BEFORE + AFTER / 2], BEFORE);
    first.kill();
    place(&app, &all[BEFORE + AFTER / 2..], BEFORE + AFTER / 2);
    let mut second = second;
    wait_for(&app, &mut second, &wanted(&all));
}

#[test]
fn a_state_that_is_gone_is_built_anew_from_the_topic() {
    let app = open(Place::Embedded);
    let all = moves(BEFORE);
    place(&app, &all, 0);
    let mut run = app.start(&Launch::default());
    let wanted = wanted(&all);
    wait_for(&app, &mut run, &wanted);
    run.stop();
    // Another application that only reads: the events are those of the first, and are applied as any.
    let observing = TOPOLOGY.replace("application_id = \"{id}\"", "application_id = \"{id}-b\"");
    let observing = observing.replace("{id}-commands", "{id}-none").replace("{id}-replies", "{id}-none-replies");
    topics::create(&*app.broker(), &app.topic("none"), PARTITIONS, &[]);
    app.rewrite(&observing);
    let mut run = app.start(&Launch { state: Some("b"), ..Launch::default() });
    until("all events are applied", || {
        let balances: Option<BTreeMap<_, _>> = run.rows("account")?.iter().map(balance).collect();
        (balances? == wanted.balances).then_some(())
    });
    run.stop();
}

fn balance(row: &Json) -> Option<(String, (i64, i64))> {
    let value = &row["value"];
    Some((row["key"].as_str()?.to_owned(), (value["balance"].as_i64()?, value["moves"].as_i64()?)))
}

#[test]
fn an_answer_over_http_holds_against_a_kill() {
    let app = open(Place::Embedded);
    let mut run = app.start(&Launch::default());
    let post = |run: &mut Run, headers: &str, n: i64, amount: i64| {
        until("an answer that is none of 503", || {
            let body = json!({"n": n, "amount": amount}).to_string();
            let (status, answer) = run.ask_entity("account", "a1/commands/Move", headers, &body).unwrap();
            (status != 503).then_some((status, answer))
        })
    };
    let (status, first) = post(&mut run, "command-id: c1\r\nif-none-match: *\r\n", 1, 100);
    assert_eq!((status, &first["version"], &first["outcome"]), (200, &json!(1), &json!("accepted")), "{first}");
    assert_eq!(first["events"][0]["value"], json!({"n": 1, "amount": 100}));
    // What was answered is committed: a read sees it at once.
    assert_eq!(run.json("/v1/entities/account/keys/a1").unwrap()["state"]["balance"], 100);
    let (status, refused) = post(&mut run, "command-id: c2\r\n", 2, -101);
    assert_eq!((status, &refused["code"], &refused["version"]), (409, &json!("too_little"), &json!(1)), "{refused}");
    let (status, wrong) = post(&mut run, "command-id: c3\r\nif-match: 0\r\n", 3, 1);
    assert_eq!((status, &wrong["code"]), (412, &json!("E0921")), "{wrong}");
    let (status, unknown) = run.ask_entity("account", "a1/commands/Mov", "", "{}").unwrap();
    assert_eq!((status, &unknown["code"]), (404, &json!("E0920")), "{unknown}");
    assert_eq!(unknown["detail"], "entity `account` takes no command `Mov`; did you mean `Move`?");
    let (status, wrong) = run.ask_entity("account", "a1/commands/Move", "", r#"{"n": "x", "amount": 1}"#).unwrap();
    assert_eq!((status, &wrong["code"]), (400, &json!("E0904")), "{wrong}");
    run.kill();
    let mut run = app.start(&Launch::default());
    assert_eq!(post(&mut run, "command-id: c1\r\n", 1, 100), (200, first.clone()));
    assert_eq!(post(&mut run, "command-id: c2\r\n", 2, -101), (409, refused));
    assert_eq!(run.json("/v1/entities/account/keys/a1/commands/c1").unwrap(), first);
    let (status, second) = post(&mut run, "if-match: \"1\"\r\n", 4, -100);
    assert_eq!((status, &second["version"]), (200, &json!(2)), "{second}");
    until("the events stand in the topic", || {
        let records = run.records(&app.topic("events"))?;
        let shown: Vec<i64> = records.iter().filter_map(|record| record["value"]["n"].as_i64()).collect();
        (shown == [1, 4]).then_some(())
    });
    run.stop();
}
