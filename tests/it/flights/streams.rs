//! The flights through a daemon: partitions that drift apart over months in two processes, and a reader that stayed on the first
//! version of the events. Every answer is compared with figures computed from the CSV.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;
use tidemill::base::record::{Outgoing, Record};
use tidemill::base::time::Timestamp;
use tidemill::broker::local::LocalBroker;
use tidemill::dev::flights::{FLIGHTS_TOPIC, SECOND_VERSION_AT, WEATHER_TOPIC, Year};
use tidemill::dev::load;
use tidemill::registry::Registry;
use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};

use super::data;
use super::reference::{Millis, Reference};
use crate::support::process::Run;
use crate::support::{App, Launch, Place, topics, until};

const PARTITIONS: i32 = 6;
const HOUR: Millis = 3_600_000;
const GRACE: Millis = 600_000;
const DAY: Millis = 24 * HOUR;

/// The year begins at this moment in New York: 2013-01-01T05:00:00Z.
const START: Millis = 1_357_016_400_000;

/// The events of a range as their producers write them, by partition, and the weather.
fn events(year: &Year, until: Millis, registry: &dyn Registry) -> (Vec<Vec<Record>>, Vec<Record>) {
    let broker = LocalBroker::in_memory();
    load::register(registry).unwrap();
    load::load(year, year.position(Timestamp(until)), &broker, registry, &mut |_| {}).unwrap();
    let mut partitions = vec![Vec::new(); PARTITIONS as usize];
    for record in topics::read(&broker, FLIGHTS_TOPIC, PARTITIONS) {
        let partition = tidemill::base::hash::partition_of(record.key.as_ref().unwrap(), PARTITIONS as u32);
        partitions[partition.index()].push(record);
    }
    (partitions, topics::read(&broker, WEATHER_TOPIC, 1))
}

fn outgoing<'a>(topic: &'a str, partition: usize, records: &'a [Record]) -> impl Iterator<Item = Outgoing> + 'a {
    records.iter().map(move |record| {
        let value = record.value.as_ref().map(|value| value.to_vec());
        let mut outgoing = topics::record(topic, partition as i32, record.timestamp.0, None, value);
        outgoing.key = record.key.clone();
        outgoing
    })
}

fn real_registry(place: &Place) -> ConfluentRegistry {
    let Place::Kafka { registry: Some(url), .. } = place else { panic!("a place with a registry") };
    let timeout = std::time::Duration::from_secs(10);
    ConfluentRegistry::new(ConfluentSettings { urls: vec![url.clone()], auth: Auth::None, timeout }).unwrap()
}

/// The files of `schemas/flights`; a file whose name ends in `.v1.avsc` takes the newer one's place when `first` is set.
fn schemas(first: bool) -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/flights");
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap());
    }
    let versions: Vec<String> = all.keys().filter(|name| name.ends_with(".v1.avsc")).cloned().collect();
    assert_eq!(versions.len(), 2);
    for name in versions {
        let text = all.remove(&name).unwrap();
        if first {
            all.insert(name.replace(".v1", ""), text);
        }
    }
    all.into_iter().collect()
}

fn app(place: Place, topology: &str, first: bool) -> App {
    let schemas = schemas(first);
    let schemas: Vec<(&str, &str)> = schemas.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    App::new(place, topology, &schemas)
}

/// The demo's topology under names of its own.
fn topology() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/flights/flights.toml");
    let text = std::fs::read_to_string(path).unwrap();
    text.replace("topic = \"", "topic = \"{id}-").replace("application_id = \"flights\"", "application_id = \"{id}\"")
}

/// What an aggregate of an origin holds, all origins together.
fn sum(run: &mut Run, store: &str, fields: &[&str]) -> u64 {
    let rows = run.rows(store).unwrap_or_default();
    let of_row = |row: &Json| fields.iter().map(|field| row["value"][*field].as_u64().unwrap_or(0)).sum::<u64>();
    rows.iter().map(of_row).sum()
}

#[test]
fn partitions_that_drift_apart_by_months_in_two_processes_lose_no_departure() {
    let place = Place::kafka_and_registry();
    let end = START + 59 * DAY;
    let year = Year::open(&data()).unwrap();
    let (partitions, weather) = events(&year, end, &real_registry(&place));
    let reference = Reference::compute(&data().join("flights.csv"), i64::MIN..end);
    let total: u64 = reference.totals.values().map(super::reference::Totals::events).sum();
    assert_eq!(partitions.iter().map(Vec::len).sum::<usize>() as u64, total);

    let app = app(place, &topology(), false);
    let broker = app.broker();
    let (flights, hours) = (app.topic(FLIGHTS_TOPIC), app.topic("airport.delays"));
    topics::create(&*broker, &flights, PARTITIONS as u32, &[]);
    topics::create(&*broker, &app.topic(WEATHER_TOPIC), 1, &[]);
    topics::write(&*broker, outgoing(&app.topic(WEATHER_TOPIC), 0, &weather));
    // The first day everywhere, so that every upstream task has a time; then half of the partitions for two months.
    let first_day: Vec<usize> =
        partitions.iter().map(|of_it| of_it.partition_point(|record| record.timestamp.0 < START + DAY)).collect();
    for (partition, records) in partitions.iter().enumerate() {
        let ahead = if partition < 3 { records.len() } else { first_day[partition] };
        topics::write(&*broker, outgoing(&flights, partition, &records[..ahead]));
    }
    let ahead: usize = partitions[..3].iter().map(Vec::len).sum::<usize>() + first_day[3..].iter().sum::<usize>();
    let counted = ["scheduled", "departed", "cancelled", "arrived"];
    let mut first = app.start(&Launch { settings: "commit_interval = \"100ms\"\n", ..Launch::default() });
    until("half of the partitions are two months ahead", || {
        (sum(&mut first, "origin_totals", &counted) == ahead as u64).then_some(())
    });
    // A second process takes its share while the other half comes in.
    let second = Launch { instance: "b", settings: "commit_interval = \"100ms\"\n", ..Launch::default() };
    let mut second = app.start(&second);
    until("both processes have work", || {
        let has_work = |run: &mut Run| Some(!run.json("/v1/tasks")?["tasks"].as_array()?.is_empty());
        (has_work(&mut first)? && has_work(&mut second)?).then_some(())
    });
    for partition in 3..PARTITIONS as usize {
        let rest = &partitions[partition][first_day[partition]..];
        topics::write(&*broker, outgoing(&flights, partition, rest));
    }
    // Hours close at the time of the slowest partition.
    let slowest = partitions.iter().map(|records| records.last().unwrap().timestamp.0).min().unwrap();
    let closed: BTreeMap<_, _> =
        reference.hours.iter().filter(|((_, start), _)| start + HOUR + GRACE <= slowest).collect();
    assert!(closed.len() > 3000, "{} hours", closed.len());
    let mut found = Vec::new();
    until("every hour is closed", || {
        found = first.records(&hours)?;
        assert!(first.stopped_tasks().is_empty() && second.stopped_tasks().is_empty());
        (found.len() >= closed.len()).then_some(())
    });
    let mut seen = BTreeMap::new();
    for record in &found {
        let value = &record["value"];
        let start = tidemill::base::time::DateTime::parse(value["hour"].as_str().unwrap()).unwrap().to_timestamp().0;
        let key = (value["origin"].as_str().unwrap().to_owned(), start);
        let wanted = closed.get(&key).unwrap_or_else(|| panic!("{value} should not have closed"));
        assert_eq!(value["departures"].as_u64(), Some(wanted.departures), "{value}");
        assert_eq!(value["worst_delay_min"].as_f64(), Some(wanted.worst_min as f64), "{value}");
        assert!((value["mean_delay_min"].as_f64().unwrap() - wanted.mean()).abs() < 1e-6, "{value}");
        assert!(seen.insert(key, ()).is_none(), "{value} has closed twice");
    }
    assert_eq!(seen.len(), closed.len());
    for run in [&mut first, &mut second] {
        let metrics = run.ask("/metrics").1;
        assert!(!metrics.contains("reason=\"late\""), "something was late:\n{metrics}");
        assert!(metrics.contains("tidemill_records_consumed_total"), "{metrics}");
    }
    let tasks = |run: &mut Run| run.json("/v1/tasks").unwrap()["tasks"].as_array().unwrap().len();
    assert!(tasks(&mut first) > 0 && tasks(&mut second) > 0, "both processes have work");
    second.stop();
    first.stop();
}

const FIRST_VERSION: &str = r#"
[topology]
format = 1
application_id = "{id}"

[stream.flight_events]
topic = "{id}-flights.events"
subjects = "topic_record_name"
schemas = ["FlightScheduled.avsc", "FlightCancelled.avsc", "FlightDeparted.avsc", "FlightArrived.avsc"]
timestamp = 'value.occurred_at'

[stream.departures]
from = "flight_events"
on = ["FlightDeparted"]

[stream.told]
from = "departures"
where = 'value.dep_delay != -9999'

[aggregate.delays]
from = "told"
group_by = 'value.origin'
select = { departed = 'count()', sum = 'sum(value.dep_delay)' }

[aggregate.hauls]
from = "departures"
group_by = 'string(value.haul)'
select = { departed = 'count()' }

[aggregate.totals]
from = "flight_events"
group_by = 'value.origin'
on.FlightScheduled.set = { scheduled = 'count()' }
on.FlightCancelled.set = { cancelled = 'count()' }
on.FlightDeparted.set = { departed = 'count()' }
on.FlightArrived.set = { arrived = 'count()' }
"#;

#[test]
fn a_reader_that_stays_on_version_1_reads_what_version_2_writes() {
    let place = Place::kafka_and_registry();
    let (from, end) = (SECOND_VERSION_AT.0 - 2 * DAY, SECOND_VERSION_AT.0 + 2 * DAY);
    let year = Year::open(&data()).unwrap();
    let (partitions, _) = events(&year, end, &real_registry(&place));
    let app = app(place, FIRST_VERSION, true);
    let broker = app.broker();
    let topic = app.topic(FLIGHTS_TOPIC);
    topics::create(&*broker, &topic, PARTITIONS as u32, &[]);
    for (partition, records) in partitions.iter().enumerate() {
        let first = records.partition_point(|record| record.timestamp.0 < from);
        topics::write(&*broker, outgoing(&topic, partition, &records[first..]));
    }
    let csv = data().join("flights.csv");
    let (all, before) = (Reference::compute(&csv, from..end), Reference::compute(&csv, from..SECOND_VERSION_AT.0));
    let mut run = app.start(&Launch::default());
    let total: u64 = all.totals.values().map(super::reference::Totals::events).sum();
    let fields = ["scheduled", "departed", "cancelled", "arrived"];
    until("all events are counted", || (sum(&mut run, "totals", &fields) == total).then_some(()));
    for row in run.rows("totals").unwrap() {
        let wanted = &all.totals[row["key"].as_str().unwrap()];
        assert_eq!(row["value"]["departed"].as_u64(), Some(wanted.departed), "{row}");
        assert_eq!(row["value"]["arrived"].as_u64(), Some(wanted.arrived), "{row}");
    }
    // The delay has another name in version 2: a reader of version 1 takes its default there, and the figure before.
    let told: u64 = before.totals.values().map(|totals| totals.departed).sum();
    until("all delays are counted", || (sum(&mut run, "delays", &["departed"]) == told).then_some(()));
    for row in run.rows("delays").unwrap() {
        let wanted = &before.totals[row["key"].as_str().unwrap()];
        assert_eq!(row["value"]["sum"].as_i64(), Some(wanted.delay_min_sum), "{row}");
    }
    // The symbol that version 1 does not know is its enum's default.
    let departed: u64 = all.totals.values().map(|totals| totals.departed).sum();
    until("all hauls are counted", || (sum(&mut run, "hauls", &["departed"]) == departed).then_some(()));
    let hauls = run.rows("hauls").unwrap();
    let of = |haul: &str| {
        let row = hauls.iter().find(|row| row["key"] == *haul);
        row.map_or(0, |row| row["value"]["departed"].as_u64().unwrap())
    };
    let ultra_long = ultra_long_departures(SECOND_VERSION_AT.0..end);
    assert!(ultra_long > 0);
    assert_eq!((of("UNKNOWN"), of("ULTRA_LONG")), (ultra_long, 0), "{hauls:?}");
    assert!(run.stopped_tasks().is_empty());
    assert!(!run.ask("/metrics").1.contains("reason=\"decode\""));
    run.stop();
}

/// Departures of 4,000 miles and more, counted from the CSV.
fn ultra_long_departures(when: std::ops::Range<Millis>) -> u64 {
    let csv = std::fs::read_to_string(data().join("flights.csv")).unwrap();
    let (header, rows) = csv.split_once('\n').unwrap();
    let column = header.split(',').position(|name| name.trim_matches('"') == "distance").unwrap();
    let far = rows.lines().filter(|row| row.split(',').nth(column).unwrap().parse::<f64>().unwrap() >= 4000.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("far.csv");
    std::fs::write(&path, format!("{header}\n{}\n", far.collect::<Vec<_>>().join("\n"))).unwrap();
    Reference::compute(&path, when).totals.values().map(|totals| totals.departed).sum()
}
