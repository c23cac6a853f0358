//! Bad input and missing surroundings, through the running binary: each is said clearly, stops no more than it must, and loses
//! nothing: without the fault the answers are those of a run that never met it.

use std::net::TcpListener;

use tidemill::base::ids::Topic;
use tidemill::base::record::{Header, Headers, Outgoing, Record};
use tidemill::base::value::Text;
use tidemill::store::rocks::{RocksBackend, RocksShared};
use tidemill::store::{Backend as _, Batch};

use crate::support::process::{Run, exchange};
use crate::support::proxy::Proxy;
use crate::support::shop::{self, Answers, Order};
use crate::support::{App, Launch, Place, in_parallel, topics, until};

const ORDERS: usize = 900;
/// Where bad records stand among the orders.
const AT: usize = 400;
const YEAR_MS: i64 = 365 * 86_400_000;

/// A record that the shop cannot take.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    NotJson,
    OfAnotherShape,
    AYearAhead,
    TooLarge,
}

impl Bad {
    fn record(self, app: &App, like: &Order) -> Outgoing {
        let note = "x".repeat(1_200_000);
        let value = match self {
            Self::NotJson => b"\x00\xffnot JSON".to_vec(),
            Self::OfAnotherShape => br#"{"n": "seven", "item": "i1", "amount": 7}"#.to_vec(),
            Self::AYearAhead => br#"{"n": -1, "item": "i1", "amount": 7}"#.to_vec(),
            Self::TooLarge => format!(r#"{{"n": -1, "item": "i1", "amount": 7, "note": "{note}"}}"#).into_bytes(),
        };
        let at = if self == Self::AYearAhead { now_ms() + YEAR_MS } else { like.at };
        let mut record = topics::record(&app.topic("orders"), like.partition(), at, Some(&like.customer), Some(value));
        record.headers = Headers::new(vec![Header { name: Text::new("origin"), value: Some("till 4".into()) }]);
        record
    }

    /// What the message must say.
    fn reason(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::OfAnotherShape => "`n`",
            Self::AYearAhead => "ahead of the clock (E1002)",
            Self::TooLarge => "larger than the",
        }
    }

    /// The setting that decides about it, and the node that has it.
    fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::NotJson | Self::OfAnotherShape | Self::AYearAhead => ("value_format = \"json\"", "decode"),
            Self::TooLarge => ("history = \"forever\"", "process"),
        }
    }

    fn dead_letters(self) -> String {
        let (behind, error) = self.setting();
        let setting = format!("{behind}\non_error.{error} = {{ action = \"dead_letter\", topic = \"{{id}}-dlq\" }}");
        shop::TOPOLOGY.replacen(behind, &setting, 1)
    }
}

#[expect(clippy::disallowed_methods, reason = "a record a year ahead of the clock needs the clock")]
fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A shop whose orders have a bad record in their middle.
fn shop_with(place: &Place, bad: Bad) -> (App, Vec<Order>, Outgoing) {
    let app = App::new(place.clone(), shop::TOPOLOGY, shop::SCHEMAS);
    let broker = app.broker();
    topics::create(&*broker, &app.topic("orders"), shop::PARTITIONS, &[("max.message.bytes", "4000000")]);
    topics::create(&*broker, &app.topic("dlq"), 2, &[("max.message.bytes", "5000000")]);
    let orders = shop::orders(ORDERS);
    let poison = bad.record(&app, &orders[AT]);
    let mut records: Vec<Outgoing> = orders.iter().map(|order| order.record(&app)).collect();
    records.insert(AT, poison.clone());
    topics::write(&*broker, records);
    drop(broker);
    (app, orders, poison)
}

fn is_dead_letter_of(letter: &Record, poison: &Outgoing, app: &App, bad: Bad) {
    assert_eq!((&letter.key, &letter.value), (&poison.key, &poison.value), "{bad:?}");
    let header = |name: &str| {
        let header = letter.headers.last(name).unwrap_or_else(|| panic!("{bad:?}: no header `{name}`"));
        String::from_utf8(header.value.as_ref().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("origin"), "till 4");
    assert!(header("__streams.errors.message").contains(bad.reason()), "{}", header("__streams.errors.message"));
    assert_eq!(header("__streams.errors.topic"), app.topic("orders"));
    assert_eq!(header("__streams.errors.partition"), poison.partition.0.to_string());
    assert!(header("__streams.errors.offset").parse::<i64>().unwrap() > 0);
}

/// First the record stops its task and no other; then, with a dead-letter topic, everything else is as if it had never been.
fn stop_then_set_aside(place: &Place, bad: Bad) {
    let (app, orders, poison) = shop_with(place, bad);
    let mut run = app.start(&Launch::default());
    let counted = orders.iter().enumerate().filter(|(n, order)| *n < AT || order.partition() != poison.partition.0);
    let counted = counted.count() as i64;
    shop::wait_for_count(&mut run, counted);
    let stopped = until("a task is stopped", || Some(run.stopped_tasks()).filter(|tasks| !tasks.is_empty()));
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    let (task, reason) = &stopped[0];
    assert!(task.ends_with(&format!("_{}", poison.partition.0)), "{task}");
    assert!(reason.contains(bad.reason()) && reason.contains(" offset "), "{reason}");
    let said = run.stop();
    assert!(said.contains("a task stops, the others go on"), "{said}");

    app.rewrite(&bad.dead_letters());
    let mut run = app.start(&Launch::default());
    shop::wait_for(&app, &mut run, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&run.stop());
    let letters = topics::read(&*app.broker(), &app.topic("dlq"), 2);
    assert_eq!(letters.len(), 1, "{bad:?}");
    is_dead_letter_of(&letters[0], &poison, &app, bad);
}

#[test]
fn a_bad_record_stops_its_task_alone_or_goes_to_the_dead_letters_whole() {
    let mut cases = Vec::new();
    for bad in [Bad::NotJson, Bad::OfAnotherShape, Bad::AYearAhead, Bad::TooLarge] {
        cases.push((Place::Embedded, bad));
    }
    cases.push((Place::kafka(), Bad::NotJson));
    cases.push((Place::kafka(), Bad::TooLarge));
    in_parallel(&cases, 3, |(place, bad)| stop_then_set_aside(place, *bad));
}

#[test]
fn a_record_too_large_for_the_dead_letters_stops_its_task() {
    let app = App::new(Place::kafka(), &Bad::TooLarge.dead_letters(), shop::SCHEMAS);
    let broker = app.broker();
    topics::create(&*broker, &app.topic("orders"), shop::PARTITIONS, &[("max.message.bytes", "4000000")]);
    let orders = shop::orders(ORDERS);
    topics::write(&*broker, [Bad::TooLarge.record(&app, &orders[AT])]);
    shop::place_orders(&app, &orders);
    let mut run = app.start(&Launch::default());
    let stopped = until("a task is stopped", || Some(run.stopped_tasks()).filter(|tasks| !tasks.is_empty()));
    assert!(stopped.len() == 1 && stopped[0].1.contains("(E1003)"), "{stopped:?}");
    let others = orders.iter().filter(|order| order.partition() != orders[AT].partition()).count();
    shop::wait_for_count(&mut run, others as i64);
    run.stop();
}

#[test]
fn a_record_without_key_is_counted_where_no_key_is_needed() {
    let app = shop::open(Place::Embedded);
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders);
    let mut keyless = orders[AT].record(&app);
    keyless.key = None;
    topics::write(&*app.broker(), [keyless]);
    let mut run = app.start(&Launch::default());
    // By item it has a key; it belongs to no customer.
    shop::wait_for_count(&mut run, ORDERS as i64 + 1);
    run.says("records without a key are dropped (E1001)");
    let dropped = "tidemill_records_dropped_total{node=\"customer\",reason=\"null_key\"} 1";
    until("the drop is counted", || run.ask("/metrics").1.contains(dropped).then_some(()));
    let found = until("the answers", || Answers::ask(&app, &mut run));
    assert_eq!(found.histories, Answers::of(&orders).histories);
    assert!(run.stopped_tasks().is_empty());
    run.stop();
}

/// Starts a daemon that must refuse, and returns what it said.
fn refused(app: &App, launch: &Launch<'_>, exit: i32, code: &str) -> String {
    let mut run = app.start(launch);
    let status = run.wait();
    let said = run.said();
    assert_eq!(status.code(), Some(exit), "{said}");
    assert!(said.contains(&format!("[{code}]")), "no {code}: {said}");
    said
}

/// Starts without the fault: the answers are there.
fn recovers(app: &App, orders: &[Order]) {
    let mut run = app.start(&Launch::default());
    shop::wait_for(app, &mut run, &Answers::of(orders));
    shop::assert_no_store_was_set_aside(&run.stop());
}

#[test]
fn a_missing_topic_is_named_and_never_made() {
    let app = App::new(Place::kafka(), shop::TOPOLOGY, shop::SCHEMAS);
    let said = refused(&app, &Launch::default(), 78, "E0601");
    assert!(said.contains(&app.topic("orders")), "{said}");
    topics::create(&*app.broker(), &app.topic("orders"), shop::PARTITIONS, &[]);
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders);
    recovers(&app, &orders);
}

const MEETING: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.orders]
topic = "{id}-orders"
schemas = ["Order.avsc"]
value_format = "json"

[table.newest]
topic = "{id}-newest"
schemas = ["Order.avsc"]
value_format = "json"

[join.both]
left = "orders"
right = "newest"
select = { n = 'left.n', other = 'right.n' }

[sink.out]
from = "both"
topic = "{id}-out"
record = "shop.Both"
"#;

#[test]
fn topics_that_meet_and_are_partitioned_otherwise_are_refused() {
    let app = App::new(Place::Embedded, MEETING, &shop::SCHEMAS[..1]);
    topics::create(&*app.broker(), &app.topic("orders"), 4, &[]);
    topics::create(&*app.broker(), &app.topic("newest"), 6, &[]);
    let said = refused(&app, &Launch::default(), 78, "E0605");
    for words in ["(6 partitions)", "(4)", "meet in `both`", "select_key"] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
}

#[test]
fn without_a_broker_or_a_registry_a_start_is_put_off() {
    let nowhere = free_address();
    let app = shop::open(Place::kafka());
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders);
    let no_broker = Place::Kafka { servers: nowhere.clone(), registry: None };
    let Place::Kafka { servers, .. } = app.place.clone() else { panic!("it is on Kafka") };
    let no_registry = Place::Kafka { servers, registry: Some(format!("http://{nowhere}")) };
    in_parallel(&[(no_broker, "E0606"), (no_registry, "E0701")], 2, |(place, code)| {
        let launch = Launch { instance: code, place: Some(place.clone()), ..Launch::default() };
        refused(&app, &launch, 69, code);
    });
    recovers(&app, &orders);
}

/// An address where nobody listens.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_port_that_is_taken_is_said_and_nothing_is_lost() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = shop::open(Place::Embedded);
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders);
    let settings = format!("[http]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    let said = refused(&app, &Launch { settings: &settings, ..Launch::default() }, 78, "E0520");
    assert!(said.contains(&taken.local_addr().unwrap().to_string()), "{said}");
    recovers(&app, &orders);
}

#[test]
fn a_sink_whose_new_schema_is_refused_writes_nothing() {
    let kafka = Place::kafka_and_registry();
    for place in [Place::Embedded, kafka] {
        let app = shop::open(place.clone());
        let orders = shop::orders(ORDERS);
        shop::place_orders(&app, &orders[..AT]);
        let mut run = app.start(&Launch::default());
        shop::wait_for(&app, &mut run, &Answers::of(&orders[..AT]));
        run.stop();
        shop::place_orders(&app, &orders[AT..]);
        if let Place::Kafka { registry: Some(url), .. } = &place {
            hold_to_backward_compatibility(url, &format!("{}-value", app.topic("large")));
        }
        // Text where a number was: no reader of the topic can take both.
        app.rewrite(&shop::TOPOLOGY.replace("{ n = 'value.n', amount", "{ n = '\"none\"', amount"));
        let said = refused(&app, &Launch::default(), 78, "E0702");
        assert!(said.contains("large-value"), "{said}");
        app.rewrite(shop::TOPOLOGY);
        recovers(&app, &orders);
    }
}

/// Sets a subject's rule, which this registry leaves open by itself.
fn hold_to_backward_compatibility(url: &str, subject: &str) {
    let (address, base) = url.trim_start_matches("http://").split_once('/').unwrap();
    let body = r#"{"compatibility": "BACKWARD"}"#;
    let head = format!(
        "PUT /{base}/config/{subject} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (status, answer) = exchange(address, &format!("{head}{body}")).unwrap();
    assert_eq!(status, 200, "{answer}");
}

/// The folders of the tasks that have state.
fn task_folders(app: &App) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(app.state("a").join(&app.id)).unwrap();
    let folders: Vec<_> = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    assert!(!folders.is_empty());
    folders
}

/// A shop that has worked for a while and is closed.
fn closed_shop(place: Place) -> (App, Vec<Order>) {
    let app = shop::open(place);
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders[..AT]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, AT as i64);
    run.stop();
    (app, orders)
}

#[test]
fn state_of_another_application_or_a_newer_format_is_left_alone() {
    for (stamp, code) in [(&b"\x01somebody-elses"[..], "E0802"), (&b"\x63whoever"[..], "E0801")] {
        let (app, orders) = closed_shop(Place::Embedded);
        shop::place_orders(&app, &orders[AT..]);
        let folder = task_folders(&app).remove(0);
        let stamped = |stamp: &[u8]| {
            let mut backend = RocksBackend::open(&folder, &RocksShared::new(1 << 22)).unwrap();
            let before = backend.get_meta(b"format").unwrap().unwrap();
            let mut batch = Batch::default();
            batch.put_meta(b"format", stamp);
            backend.write(&batch).unwrap();
            backend.flush().unwrap();
            before
        };
        let ours = stamped(stamp);
        refused(&app, &Launch::default(), 78, code);
        assert_eq!(stamped(&ours), stamp, "the stamp is as it was");
        recovers(&app, &orders);
    }
}

#[test]
fn a_folder_in_use_is_waited_for() {
    let app = shop::open(Place::kafka_and_registry());
    let orders = shop::orders(ORDERS);
    shop::place_orders(&app, &orders[..AT]);
    let mut first = app.start(&Launch::default());
    shop::wait_for_count(&mut first, AT as i64);
    // Another instance, by mistake in the same state folder.
    let second = Launch { instance: "b", ..Launch::default() };
    std::os::unix::fs::symlink(app.state("a"), app.state("b")).unwrap();
    let mut second = app.start(&second);
    second.says("the task's folder is open elsewhere, waiting for it (E0803)");
    shop::place_orders(&app, &orders[AT..]);
    first.stop();
    shop::wait_for(&app, &mut second, &Answers::of(&orders));
    shop::assert_no_store_was_set_aside(&second.stop());
}

const READINGS: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.readings]
topic = "{id}-readings"
schemas = ["Reading.avsc"]
on_error.decode = { action = "dead_letter", topic = "{id}-dlq" }

[aggregate.sensors]
from = "readings"
select = { readings = 'count()', sum = 'sum(value.n)' }
"#;

const READING: &str =
    r#"{"type": "record", "name": "Reading", "namespace": "t", "fields": [{"name": "n", "type": "long"}]}"#;
const READING_WITH_UNIT: &str = r#"{"type": "record", "name": "Reading", "namespace": "t", "fields": [
    {"name": "n", "type": "long"}, {"name": "unit", "type": "string", "default": "K"}]}"#;
const READING_IN_WORDS: &str = r#"{"type": "record", "name": "Reading", "namespace": "t", "fields": [{"name": "n", "type": {"type": "array", "items": "string"}}]}"#;

/// A registry's frame around a datum.
fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

fn register(url: &str, subject: &str, schema: &str) -> u32 {
    use tidemill::registry::Registry as _;
    use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};
    let timeout = std::time::Duration::from_secs(10);
    let settings = ConfluentSettings { urls: vec![url.to_owned()], auth: Auth::None, timeout };
    let registry = ConfluentRegistry::new(settings).unwrap();
    registry.register(subject, schema, crate::support::DEADLINE).unwrap().0
}

fn readings(run: &mut Run, sensor: &str) -> i64 {
    let row = run.json(&format!("/v1/stores/sensors/keys/{sensor}"));
    row.map_or(0, |row| row["value"]["readings"].as_i64().unwrap())
}

#[test]
fn a_registry_that_goes_away_stops_nothing_whose_schema_is_known() {
    let Place::Kafka { servers, registry: Some(registry) } = Place::kafka_and_registry() else { panic!("both") };
    let app = App::new(Place::kafka_and_registry(), READINGS, &[("Reading.avsc", READING)]);
    let topic = app.topic("readings");
    let broker = app.broker();
    topics::create(&*broker, &topic, 2, &[]);
    let subject = format!("{topic}-value");
    let known = register(&registry, &subject, READING);
    let new = register(&registry, &subject, READING_WITH_UNIT);
    let address = registry.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    let proxy = Proxy::start(&address);
    let url = registry.replace(&address, &proxy.address());
    let place = Place::Kafka { servers, registry: Some(url) };
    let mut run = app.start(&Launch { place: Some(place), ..Launch::default() });
    let sensors = [("s0", 0), ("s1", 1)].map(|(name, wanted)| {
        let lands = |key: &String| tidemill::base::hash::partition_of(key.as_bytes(), 2).0 == wanted;
        (wanted, (0..).map(|n| format!("{name}-{n}")).find(lands).unwrap())
    });
    let write = |(partition, sensor): &(i32, String), id: u32, datum: &[u8]| {
        topics::write(
            &*broker,
            [topics::record(&topic, *partition, 1_700_000_000_000, Some(sensor), Some(framed(id, datum)))],
        );
    };
    for sensor in &sensors {
        write(sensor, known, &[2]);
    }
    for (_, sensor) in &sensors {
        until("the first readings are in", || (readings(&mut run, sensor) == 1).then_some(()));
    }
    proxy.cut();
    write(&sensors[0], known, &[4]);
    write(&sensors[1], new, &[4, 2, b'C']);
    write(&sensors[1], known, &[6]);
    until("the known schema goes on", || (readings(&mut run, &sensors[0].1) == 2).then_some(()));
    run.says("waiting for the registry");
    assert_eq!(readings(&mut run, &sensors[1].1), 1, "what is behind a record that waits, waits");
    write(&sensors[0], known, &[6]);
    until("the known schema still goes on", || (readings(&mut run, &sensors[0].1) == 3).then_some(()));
    assert!(run.stopped_tasks().is_empty());
    proxy.mend();
    until("the new schema is learned", || (readings(&mut run, &sensors[1].1) == 3).then_some(()));
    run.stop();
}

#[test]
fn a_writer_whose_schema_no_reader_takes_and_a_number_that_nobody_knows_are_dead_letters() {
    let Place::Kafka { registry: Some(registry), .. } = Place::kafka_and_registry() else { panic!("both") };
    let app = App::new(Place::kafka_and_registry(), READINGS, &[("Reading.avsc", READING)]);
    let topic = app.topic("readings");
    let broker = app.broker();
    topics::create(&*broker, &topic, 1, &[]);
    let known = register(&registry, &format!("{topic}-value"), READING);
    let incompatible = register(&registry, &format!("{topic}-elsewhere"), READING_IN_WORDS);
    let bad = [framed(incompatible, &[0]), framed(900_000_000, &[2]), framed(known, &[]), b"\x00\x01".to_vec()];
    let mut records = vec![framed(known, &[2])];
    records.extend(bad.iter().cloned());
    records.push(framed(known, &[4]));
    let records = records.into_iter().map(|value| topics::record(&topic, 0, 1_700_000_000_000, Some("s"), Some(value)));
    topics::write(&*broker, records);
    let mut run = app.start(&Launch::default());
    until("both good readings are in", || (readings(&mut run, "s") == 2).then_some(()));
    run.stop();
    let described = broker.admin().unwrap().describe(&[Topic::new(app.topic("dlq"))], crate::support::DEADLINE);
    let partitions = described.unwrap().remove(0).expect("the daemon made it").partitions;
    let letters = topics::read(&*broker, &app.topic("dlq"), partitions as i32);
    let values: Vec<&[u8]> = letters.iter().map(|letter| letter.value.as_deref().unwrap()).collect();
    assert_eq!(values.len(), bad.len(), "{values:?}");
    for (letter, said) in letters.iter().zip(["`n`", "900000000", "", ""]) {
        let message = letter.headers.last("__streams.errors.message").unwrap();
        let message = String::from_utf8(message.value.as_ref().unwrap().to_vec()).unwrap();
        assert!(bad.iter().any(|bad| **bad == **letter.value.as_ref().unwrap()));
        assert!(message.contains(said) && !message.is_empty(), "{message}");
    }
}
