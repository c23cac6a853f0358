//! Every kind of event from a handful of rows, and each held to its schema.

use serde_json::Value as Json;

use super::*;

const FLIGHTS: &str = "\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,6,30,2002,2000,2,2300,2250,-11,UA,1545,N14228,EWR,HNL,227,4963,20,0,2013-06-30T22:15:00Z
2013,6,30,NA,1825,NA,NA,1930,NA,9E,7,NA,JFK,BOS,NA,187,18,25,2013-06-30T22:00:00Z
2013,7,1,2255,2259,-4,,130,,AA,1141,N619AA,LGA,MIA,,1089,22,59,2013-07-01T02:00:00Z
";
const WEATHER: &str = "\
origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour
EWR,2013,7,1,22,39.02,NA,59.37,270,10.357019999999999,NA,0,1012,10,2013-07-01T02:55:00Z
";
const PLANES: &str = "\
tailnum,year,type,manufacturer,model,engines,seats,speed,engine
N14228,1999,Fixed wing multi engine,BOEING,737-824,2,149,NA,Turbo-fan
";
const AIRLINES: &str = "carrier,name\nUA,United Air Lines Inc.\n9E,Endeavor Air Inc.\n";
const AIRPORTS: &str = "\
faa,name,lat,lon,alt,tz,dst,tzone
EWR,Newark Liberty Intl,40.6925,-74.168667,18,-5,A,America/New_York
ZZZ,\"Nowhere, really\",0,0,-42,8,N,NA
";

fn read(flights: &str) -> Result<Year, Error> {
    Year::read(Files {
        flights: flights.as_bytes(),
        weather: WEATHER.as_bytes(),
        planes: PLANES.as_bytes(),
        airlines: AIRLINES.as_bytes(),
        airports: AIRPORTS.as_bytes(),
    })
}

fn year() -> Year {
    read(FLIGHTS).unwrap()
}

fn all(year: &Year) -> Vec<DemoEvent> {
    year.tables().chain(year.events(0..year.events_total())).collect()
}

/// Gives an event's fields as JSON by its schema, and fails where a value is not of its field's type.
fn json(event: &DemoEvent) -> Json {
    let schema: Json = serde_json::from_str(event.schema.text()).unwrap();
    assert_eq!(format!("flights.{}", schema["name"].as_str().unwrap()), event.schema.record());
    record(&schema, &event.fields)
}

fn record(schema: &Json, values: &[Value]) -> Json {
    let fields = schema["fields"].as_array().unwrap();
    assert_eq!(fields.len(), values.len(), "{}", schema["name"]);
    let named =
        |(field, value): (&Json, &Value)| (field["name"].as_str().unwrap().to_owned(), datum(&field["type"], value));
    Json::Object(fields.iter().zip(values).map(named).collect())
}

fn datum(schema: &Json, value: &Value) -> Json {
    let branches = schema.as_array();
    match (schema["type"].as_str().or(schema.as_str()), value) {
        (None, Value::Null) if branches.is_some() => Json::Null,
        (None, value) if branches.is_some_and(|branches| branches[0] == "null") => datum(&schema[1], value),
        (Some("string"), Value::String(text)) => Json::from(text.as_str()),
        (Some("int"), Value::Int(number)) => Json::from(i32::try_from(*number).unwrap()),
        (Some("double"), Value::Double(number)) => Json::from(*number),
        (Some("long"), Value::DateTime(at)) if schema["logicalType"] == "timestamp-millis" => {
            Json::from(at.to_string())
        }
        (Some("enum"), Value::String(symbol)) => {
            assert!(schema["symbols"].as_array().unwrap().iter().any(|known| known == symbol.as_str()), "{symbol}");
            Json::from(symbol.as_str())
        }
        (Some("record"), Value::Record(values)) => record(schema, values),
        _ => panic!("{value:?} is not of type {schema}"),
    }
}

#[test]
fn events_come_in_order_of_occurrence_with_their_keys() {
    let year = year();
    let told: Vec<String> = year
        .events(0..year.events_total())
        .map(|event| format!("{} {} {} {}", event.timestamp, event.topic, event.schema.file(), event.key))
        .collect();
    assert_eq!(
        told,
        [
            "2013-06-29T22:15:00Z flights.events FlightScheduled.avsc UA1545-EWR-2013-06-30T22",
            "2013-06-29T22:25:00Z flights.events FlightScheduled.avsc 9E7-JFK-2013-06-30T22",
            "2013-06-30T02:59:00Z flights.events FlightScheduled.avsc AA1141-LGA-2013-07-01T02",
            "2013-06-30T22:17:00Z flights.events FlightDeparted.v1.avsc UA1545-EWR-2013-06-30T22",
            "2013-06-30T22:25:00Z flights.events FlightCancelled.avsc 9E7-JFK-2013-06-30T22",
            "2013-07-01T02:04:00Z flights.events FlightArrived.avsc UA1545-EWR-2013-06-30T22",
            "2013-07-01T02:55:00Z weather.hourly Weather.avsc EWR",
            "2013-07-01T02:55:00Z flights.events FlightDeparted.avsc AA1141-LGA-2013-07-01T02",
        ]
    );
    assert_eq!(year.position(SECOND_VERSION_AT), 5);
    assert_eq!(year.position(Timestamp(i64::MAX)), year.events_total());
    assert_eq!((year.flights(), year.repeated_keys()), (3, 0));
}

#[test]
fn every_event_is_a_datum_of_its_schema() {
    let year = year();
    let told: Vec<Json> = all(&year).iter().map(json).collect();
    assert_eq!(told.len(), 2 + 2 + 1 + 8);
    let find = |position: usize| told[5 + position].to_string();
    assert_eq!(
        find(3),
        r#"{"occurred_at":"2013-06-30T22:17:00Z","carrier":"UA","flight_number":1545,"origin":"EWR","dest":"HNL","scheduled_at":"2013-06-30T22:15:00Z","tail_number":"N14228","dep_delay":2,"haul":"LONG"}"#
    );
    assert_eq!(
        find(5),
        r#"{"occurred_at":"2013-07-01T02:04:00Z","carrier":"UA","flight_number":1545,"origin":"EWR","dest":"HNL","scheduled_at":"2013-06-30T22:15:00Z","tail_number":"N14228","air_time_min":227,"delay_min":-11.0,"haul":"ULTRA_LONG","airline":"United Air Lines Inc.","aircraft":{"manufacturer":"BOEING","model":"737-824","seats":149}}"#
    );
    assert_eq!(
        find(7),
        r#"{"occurred_at":"2013-07-01T02:55:00Z","carrier":"AA","flight_number":1141,"origin":"LGA","dest":"MIA","scheduled_at":"2013-07-01T02:59:00Z","tail_number":"N619AA","delay_min":-4.0,"haul":"MEDIUM","airline":"unknown","aircraft":null}"#
    );
    assert_eq!(
        find(6),
        r#"{"occurred_at":"2013-07-01T02:55:00Z","origin":"EWR","temp":39.02,"dewp":null,"humid":59.37,"wind_dir":270,"wind_speed":10.357019999999999,"wind_gust":null,"precip":0.0,"pressure":1012.0,"visib":10.0}"#
    );
    assert_eq!(
        told[3].to_string(),
        r#"{"faa":"ZZZ","name":"Nowhere, really","lat":0.0,"lon":0.0,"alt":-42,"tz":8,"dst":"N","tzone":null}"#
    );
}

#[test]
fn a_second_row_with_a_flights_key_is_counted() {
    let again = FLIGHTS.lines().nth(2).unwrap().replace(",25,", ",55,");
    assert_eq!(read(&format!("{FLIGHTS}{again}\n")).unwrap().repeated_keys(), 1);
}

#[test]
fn the_first_version_ends_with_june() {
    let at = |ms| Version::at(Timestamp(SECOND_VERSION_AT.0 + ms));
    assert_eq!((at(-1), at(0)), (Version::First, Version::Second));
    assert_eq!(SECOND_VERSION_AT.to_string(), "2013-07-01T00:00:00Z");
    assert_eq!(TABLES_AT.to_string(), "2012-12-31T00:00:00Z");
}

#[test]
fn a_bad_cell_is_an_error_that_names_file_and_line() {
    let wrong = |from: &str, to: &str| {
        let error = read(&FLIGHTS.replace(from, to)).unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    };
    assert!(wrong("2002,2000,2,", "2002,2000,two,").contains("line: 2"), "{}", wrong("2002,2000,2,", "2002,2000,two,"));
    assert!(wrong("2013-07-01T02:00:00Z", "2013-07-01 02:00").contains("is not a time"));
    assert!(wrong("dep_delay", "late").contains("dep_delay"));
    assert_eq!(
        wrong("2002,2000,2,", "2002,2000,NA,"),
        "line 2 of `flights.csv` has a departure or an arrival without its delay: "
    );
    assert_eq!(wrong(",-11,", ",NA,"), "line 2 of `flights.csv` has a departure or an arrival without its delay: ");
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Year::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("flights.csv"), "{error}");
}
