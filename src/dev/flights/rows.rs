//! The rows of the five CSV files, typed and small: 32 bytes a flight. `NA` and the empty cell are a missing value; a cell that is
//! missing where the demo needs it, or is not of its type, is an error with its place, never a guess.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::Read;
use std::str::FromStr;

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::{Deserialize, de};

use super::Error;
use crate::base::time::{DateTime, SpanMs, Timestamp};
use crate::base::value::Text;

/// A text kept once: its number in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(u16);

/// Codes of carriers, airports and aircraft, each kept once.
#[derive(Debug, Default)]
pub(super) struct Names {
    texts: Vec<Text>,
    numbers: HashMap<Text, Name>,
}

impl Names {
    pub(super) fn text(&self, name: Name) -> &Text {
        &self.texts[usize::from(name.0)]
    }

    pub(super) fn find(&self, text: &str) -> Option<Name> {
        self.numbers.get(text).copied()
    }

    fn intern(&mut self, text: &str) -> Result<Name, Error> {
        if let Some(name) = self.find(text) {
            return Ok(name);
        }
        let name = Name(u16::try_from(self.texts.len()).map_err(|_| Error::TooManyNames)?);
        self.texts.push(Text::new(text));
        self.numbers.insert(Text::new(text), name);
        Ok(name)
    }
}

/// A row of `flights.csv`.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) scheduled: Timestamp,
    pub(super) carrier: Name,
    pub(super) origin: Name,
    pub(super) dest: Name,
    pub(super) tail: Option<Name>,
    pub(super) number: u16,
    pub(super) distance_miles: u16,
    /// None: cancelled.
    pub(super) departure: Option<Departure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Departure {
    pub(super) delay_min: i16,
    /// None: diverted, or not told.
    pub(super) arrival: Option<Arrival>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival {
    pub(super) air_time_min: u16,
    pub(super) delay_min: i16,
}

/// A row of `weather.csv`.
#[derive(Debug, Deserialize)]
pub(super) struct Weather {
    #[serde(rename = "time_hour", deserialize_with = "time")]
    pub(super) hour: Timestamp,
    #[serde(deserialize_with = "text")]
    pub(super) origin: Text,
    #[serde(deserialize_with = "optional")]
    pub(super) temp: Option<f64>,
    #[serde(deserialize_with = "optional")]
    pub(super) dewp: Option<f64>,
    #[serde(deserialize_with = "optional")]
    pub(super) humid: Option<f64>,
    #[serde(deserialize_with = "optional")]
    pub(super) wind_dir: Option<i32>,
    #[serde(deserialize_with = "optional")]
    pub(super) wind_speed: Option<f64>,
    #[serde(deserialize_with = "optional")]
    pub(super) wind_gust: Option<f64>,
    pub(super) precip: f64,
    #[serde(deserialize_with = "optional")]
    pub(super) pressure: Option<f64>,
    pub(super) visib: f64,
}

/// A row of `airlines.csv`.
#[derive(Debug, Deserialize)]
pub(super) struct Airline {
    #[serde(deserialize_with = "text")]
    pub(super) carrier: Text,
    #[serde(deserialize_with = "text")]
    pub(super) name: Text,
}

/// A row of `airports.csv`.
#[derive(Debug, Deserialize)]
pub(super) struct Airport {
    #[serde(deserialize_with = "text")]
    pub(super) faa: Text,
    #[serde(deserialize_with = "text")]
    pub(super) name: Text,
    pub(super) lat: f64,
    pub(super) lon: f64,
    pub(super) alt: i32,
    pub(super) tz: i32,
    #[serde(deserialize_with = "text")]
    pub(super) dst: Text,
    #[serde(deserialize_with = "optional")]
    pub(super) tzone: Option<Text>,
}

/// A row of `planes.csv`.
#[derive(Debug, Deserialize)]
pub(super) struct Plane {
    #[serde(deserialize_with = "text")]
    pub(super) tailnum: Text,
    #[serde(deserialize_with = "optional")]
    pub(super) year: Option<i32>,
    #[serde(rename = "type", deserialize_with = "text")]
    pub(super) kind: Text,
    #[serde(deserialize_with = "text")]
    pub(super) manufacturer: Text,
    #[serde(deserialize_with = "text")]
    pub(super) model: Text,
    pub(super) engines: i32,
    pub(super) seats: i32,
    #[serde(deserialize_with = "optional")]
    pub(super) speed: Option<i32>,
    #[serde(deserialize_with = "text")]
    pub(super) engine: Text,
}

/// Reads all rows of a small table.
pub(super) fn table<T: DeserializeOwned>(file: &'static str, input: impl Read) -> Result<Vec<T>, Error> {
    csv::Reader::from_reader(input)
        .deserialize()
        .collect::<Result<_, _>>()
        .map_err(|source| Error::Row { file, source })
}

/// Reads the flights, keeping their names in `names`.
pub(super) fn flights(input: impl Read, names: &mut Names) -> Result<Vec<Flight>, Error> {
    const FILE: &str = "flights.csv";
    let wrong = |source| Error::Row { file: FILE, source };
    let mut reader = csv::Reader::from_reader(input);
    let columns = reader.headers().map_err(wrong)?.clone();
    let (mut flights, mut cells) = (Vec::new(), csv::StringRecord::new());
    while reader.read_record(&mut cells).map_err(wrong)? {
        let row: FlightCells<'_> = cells.deserialize(Some(&columns)).map_err(wrong)?;
        let line = cells.position().map_or(0, csv::Position::line);
        flights.push(Flight {
            scheduled: row.time_hour.saturating_add(minutes(row.minute.into())),
            carrier: names.intern(row.carrier)?,
            origin: names.intern(row.origin)?,
            dest: names.intern(row.dest)?,
            tail: row.tailnum.map(|tail| names.intern(tail)).transpose()?,
            number: row.flight,
            distance_miles: row.distance,
            departure: row.departure().ok_or(Error::Incomplete { file: FILE, line })?,
        });
    }
    Ok(flights)
}

#[derive(Deserialize)]
struct FlightCells<'a> {
    #[serde(deserialize_with = "time")]
    time_hour: Timestamp,
    minute: u8,
    carrier: &'a str,
    flight: u16,
    origin: &'a str,
    dest: &'a str,
    #[serde(borrow, deserialize_with = "optional_text")]
    tailnum: Option<&'a str>,
    distance: u16,
    #[serde(deserialize_with = "optional")]
    dep_time: Option<u16>,
    #[serde(deserialize_with = "optional")]
    dep_delay: Option<i16>,
    #[serde(deserialize_with = "optional")]
    air_time: Option<u16>,
    #[serde(deserialize_with = "optional")]
    arr_delay: Option<i16>,
}

impl FlightCells<'_> {
    /// Returns the departure, `Some(None)` when cancelled; none when a delay is missing that belongs to what happened.
    fn departure(&self) -> Option<Option<Departure>> {
        if self.dep_time.is_none() {
            return Some(None);
        }
        let arrival = match self.air_time {
            Some(air_time_min) => Some(Arrival { air_time_min, delay_min: self.arr_delay? }),
            None => None,
        };
        Some(Some(Departure { delay_min: self.dep_delay?, arrival }))
    }
}

pub(super) fn minutes(count: i64) -> SpanMs {
    SpanMs(count * 60_000)
}

fn text<'de, D: Deserializer<'de>>(cell: D) -> Result<Text, D::Error> {
    String::deserialize(cell).map(Text::from)
}

fn optional_text<'de, D: Deserializer<'de>>(cell: D) -> Result<Option<&'de str>, D::Error> {
    let text = <&str>::deserialize(cell)?;
    Ok(if text.is_empty() || text == "NA" { None } else { Some(text) })
}

fn optional<'de, D, T>(cell: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    struct Cell<T>(std::marker::PhantomData<T>);
    impl<T: FromStr<Err: Display>> de::Visitor<'_> for Cell<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a cell")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<T>, E> {
            if text.is_empty() || text == "NA" { Ok(None) } else { text.parse().map(Some).map_err(E::custom) }
        }
    }
    cell.deserialize_str(Cell(std::marker::PhantomData))
}

fn time<'de, D: Deserializer<'de>>(cell: D) -> Result<Timestamp, D::Error> {
    struct Moment;
    impl de::Visitor<'_> for Moment {
        type Value = Timestamp;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a time")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
            DateTime::parse(text).map(DateTime::to_timestamp).map_err(E::custom)
        }
    }
    cell.deserialize_str(Moment).map_err(D::Error::custom)
}
