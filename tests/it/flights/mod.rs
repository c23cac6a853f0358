//! The demo's data: its events against the answers computed from the CSV, and its schemas against each other.

pub(crate) mod reference;
mod streams;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use tidemill::base::time::Timestamp;
use tidemill::base::value::{Text, Value};
use tidemill::dev::flights::{DemoEvent, EventSchema, FLIGHTS_TOPIC, SECOND_VERSION_AT, Year};

use self::reference::{Hour, Reference};

/// Returns the folder of the five CSV files.
pub(crate) fn data() -> PathBuf {
    PathBuf::from(crate::provided("TIDEMILL_DATA"))
}

/// Builds the reference's answers from events.
fn answers(events: impl Iterator<Item = DemoEvent>) -> Reference {
    let mut answers = Reference::default();
    for event in events.filter(|event| event.topic == FLIGHTS_TOPIC) {
        let origin = event.fields[3].as_str().expect("an origin").to_owned();
        let totals = answers.totals.entry(origin.clone()).or_default();
        match event.schema {
            EventSchema::FlightScheduled => totals.scheduled += 1,
            EventSchema::FlightCancelled => totals.cancelled += 1,
            EventSchema::FlightArrivedV1 | EventSchema::FlightArrived => totals.arrived += 1,
            EventSchema::FlightDepartedV1 | EventSchema::FlightDeparted => {
                let delay = &event.fields[7];
                let delay =
                    delay.as_int().or_else(|| delay.as_double().map(|minutes| minutes as i64)).expect("a delay");
                totals.departed += 1;
                totals.delay_min_sum += delay;
                if delay > 15 {
                    *answers.late.entry(origin.clone()).or_default() += 1;
                }
                let start = event.timestamp.0.div_euclid(3_600_000) * 3_600_000;
                let hour = answers.hours.entry((origin, start));
                let hour = hour.or_insert(Hour { departures: 0, delay_min_sum: 0, worst_min: i64::MIN });
                hour.departures += 1;
                hour.delay_min_sum += delay;
                hour.worst_min = hour.worst_min.max(delay);
            }
            EventSchema::Weather | EventSchema::Airline | EventSchema::Airport | EventSchema::Plane => {
                panic!("{} among the flights", event.schema.file())
            }
        }
    }
    answers
}

#[test]
fn the_years_events_give_the_answers_of_the_csv() {
    let year = Year::open(&data()).expect("the data reads");
    assert_eq!((year.flights(), year.events_total()), (336_776, 1_000_898 + 26_115));
    assert_eq!(year.repeated_keys(), 0);
    let reference = Reference::compute(&data().join("flights.csv"), i64::MIN..i64::MAX);
    assert_eq!(answers(year.events(0..year.events_total())), reference);

    let events: u64 = reference.totals.values().map(reference::Totals::events).sum();
    assert_eq!(events, 1_000_898);
    let newark = &reference.totals["EWR"];
    assert_eq!(
        (newark.scheduled, newark.departed, newark.cancelled, newark.arrived),
        (120_835, 117_596, 3_239, 117_127)
    );
    assert!((newark.mean_delay().expect("departures") - 15.107_954).abs() < 1e-6);
    assert_eq!(reference.worst_hours(5, 5).len(), 5);
}

#[test]
fn a_slice_of_events_gives_the_answers_of_that_time() {
    let year = Year::open(&data()).expect("the data reads");
    let (from, to) = (Timestamp(SECOND_VERSION_AT.0 - 86_400_000), Timestamp(SECOND_VERSION_AT.0 + 86_400_000));
    let slice = year.position(from)..year.position(to);
    let reference = Reference::compute(&data().join("flights.csv"), from.0..to.0);
    assert_eq!(answers(year.events(slice)), reference);
}

#[test]
fn a_flights_events_are_in_order_and_change_version_once() {
    let year = Year::open(&data()).expect("the data reads");
    let (mut last, mut seen) = (Timestamp::UNKNOWN, HashSet::<Text>::new());
    let mut counts = BTreeMap::<&str, usize>::new();
    for event in year.events(0..year.events_total()).filter(|event| event.topic == FLIGHTS_TOPIC) {
        assert!(event.timestamp >= last, "{event:?}");
        last = event.timestamp;
        let first = matches!(event.schema, EventSchema::FlightDepartedV1 | EventSchema::FlightArrivedV1);
        let second = matches!(event.schema, EventSchema::FlightDeparted | EventSchema::FlightArrived);
        assert!(if event.timestamp < SECOND_VERSION_AT { !second } else { !first }, "{event:?}");
        assert_eq!(event.schema == EventSchema::FlightScheduled, seen.insert(event.key.clone()), "{event:?}");
        *counts.entry(event.schema.file()).or_default() += 1;
        if let Some(Value::Record(aircraft)) = event.fields.last() {
            *counts.entry("aircraft").or_default() += 1;
            assert_eq!(aircraft.len(), 3);
        }
    }
    assert_eq!(counts["FlightDeparted.v1.avsc"] + counts["FlightDeparted.avsc"], 328_521);
    assert!(counts["aircraft"] > 200_000, "{counts:?}");
}

#[test]
fn both_versions_of_an_event_read_each_other() {
    let schema = |schema: EventSchema| Schema::parse_str(schema.text()).expect("a schema");
    for (first, second) in [
        (EventSchema::FlightDepartedV1, EventSchema::FlightDeparted),
        (EventSchema::FlightArrivedV1, EventSchema::FlightArrived),
    ] {
        let (old, new) = (schema(first), schema(second));
        assert!(matches!(SchemaCompatibility::can_read(&old, &new), Ok(Compatibility::Full)), "{}", second.file());
        // Partial: the enum's default stands for the symbol that the first version does not know.
        assert!(SchemaCompatibility::can_read(&new, &old).is_ok(), "{}", first.file());
    }
}

#[test]
fn schemas_are_named_as_their_records() {
    for event in EventSchema::ALL {
        let Schema::Record(record) = Schema::parse_str(event.text()).expect("a schema") else {
            panic!("{}", event.file())
        };
        assert_eq!(record.name.fullname(None), event.record());
        assert!(event.file().starts_with(record.name.name()), "{}", event.file());
    }
}
