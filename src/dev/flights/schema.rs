//! The demo's Avro schemas: the files of `schemas/flights/`, built in. What they mean stands in their own `doc` texts.

use super::{AIRLINES_TOPIC, AIRPORTS_TOPIC, FLIGHTS_TOPIC, PLANES_TOPIC, WEATHER_TOPIC};

/// A writer schema of the demo. The fields of a [`DemoEvent`](super::DemoEvent) are in its schema's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventSchema {
    FlightScheduled,
    FlightCancelled,
    /// `flights.FlightDeparted` as written before [`SECOND_VERSION_AT`](super::SECOND_VERSION_AT).
    FlightDepartedV1,
    FlightDeparted,
    /// `flights.FlightArrived` as written before [`SECOND_VERSION_AT`](super::SECOND_VERSION_AT).
    FlightArrivedV1,
    FlightArrived,
    Weather,
    Airline,
    Airport,
    Plane,
}

impl EventSchema {
    /// Every schema; a first version stands before the second, the order in which they are to be registered.
    pub const ALL: [Self; 10] = [
        Self::FlightScheduled,
        Self::FlightCancelled,
        Self::FlightDepartedV1,
        Self::FlightDeparted,
        Self::FlightArrivedV1,
        Self::FlightArrived,
        Self::Weather,
        Self::Airline,
        Self::Airport,
        Self::Plane,
    ];

    /// Returns the topic that the record type is written to.
    pub fn topic(self) -> &'static str {
        match self {
            Self::FlightScheduled
            | Self::FlightCancelled
            | Self::FlightDepartedV1
            | Self::FlightDeparted
            | Self::FlightArrivedV1
            | Self::FlightArrived => FLIGHTS_TOPIC,
            Self::Weather => WEATHER_TOPIC,
            Self::Airline => AIRLINES_TOPIC,
            Self::Airport => AIRPORTS_TOPIC,
            Self::Plane => PLANES_TOPIC,
        }
    }

    /// Returns the record's full name; both versions of an event have the same.
    pub fn record(self) -> &'static str {
        match self {
            Self::FlightScheduled => "flights.FlightScheduled",
            Self::FlightCancelled => "flights.FlightCancelled",
            Self::FlightDepartedV1 | Self::FlightDeparted => "flights.FlightDeparted",
            Self::FlightArrivedV1 | Self::FlightArrived => "flights.FlightArrived",
            Self::Weather => "flights.Weather",
            Self::Airline => "flights.Airline",
            Self::Airport => "flights.Airport",
            Self::Plane => "flights.Plane",
        }
    }

    /// Returns the file's name in `schemas/flights/`.
    pub fn file(self) -> &'static str {
        match self {
            Self::FlightScheduled => "FlightScheduled.avsc",
            Self::FlightCancelled => "FlightCancelled.avsc",
            Self::FlightDepartedV1 => "FlightDeparted.v1.avsc",
            Self::FlightDeparted => "FlightDeparted.avsc",
            Self::FlightArrivedV1 => "FlightArrived.v1.avsc",
            Self::FlightArrived => "FlightArrived.avsc",
            Self::Weather => "Weather.avsc",
            Self::Airline => "Airline.avsc",
            Self::Airport => "Airport.avsc",
            Self::Plane => "Plane.avsc",
        }
    }

    /// Returns the schema's text.
    pub fn text(self) -> &'static str {
        macro_rules! built_in {
            ($file:literal) => {
                include_str!(concat!("../../../schemas/flights/", $file))
            };
        }
        match self {
            Self::FlightScheduled => built_in!("FlightScheduled.avsc"),
            Self::FlightCancelled => built_in!("FlightCancelled.avsc"),
            Self::FlightDepartedV1 => built_in!("FlightDeparted.v1.avsc"),
            Self::FlightDeparted => built_in!("FlightDeparted.avsc"),
            Self::FlightArrivedV1 => built_in!("FlightArrived.v1.avsc"),
            Self::FlightArrived => built_in!("FlightArrived.avsc"),
            Self::Weather => built_in!("Weather.avsc"),
            Self::Airline => built_in!("Airline.avsc"),
            Self::Airport => built_in!("Airport.avsc"),
            Self::Plane => built_in!("Plane.avsc"),
        }
    }
}
