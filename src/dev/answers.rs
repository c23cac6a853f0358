//! The demo's questions, asked of a running daemon and of the topics it wrote: what the year came to, its worst hours, one
//! flight's life.

use std::time::Duration;

use serde_json::Value as Json;

use crate::base::time::DateTime;
use crate::registry::Registry;
use crate::runtime::Service;
use crate::runtime::service::{At, Read, ReadError, ReadKind, TopicPage};

const WAIT: Duration = Duration::from_secs(10);

/// Records asked for at once.
const PAGE_RECORDS: usize = 5000;

/// Departures that an hour must have had to count among the worst.
const DEPARTURES_MIN: i64 = 5;

/// What the demo asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Rows of `origin_totals`, by key.
    pub totals: Vec<Json>,
    /// The five worst rows of `airport.delays`, the worst first.
    pub worst_hours: Vec<Json>,
    /// Hours that have closed, over all airports, and the departures in them.
    pub closed_hours: ClosedHours,
    /// A flight's versions with the event behind each; empty when the flight is not there.
    pub history: Vec<Json>,
    /// That flight as of a moment between two of its events.
    pub as_of: Option<(String, Json)>,
    /// Subjects of the flights' topic with the number of versions of each.
    pub schema_versions: Vec<(String, usize)>,
    pub late_departures: u64,
}

/// What `airport.delays` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedHours {
    pub hours: u64,
    pub departures: i64,
}

/// Why an answer cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Registry(#[from] crate::registry::Error),
}

/// Asks everything. `flight` is the key whose history is shown.
///
/// # Errors
/// The daemon does not answer; a topic or the registry cannot be read.
pub fn ask(service: &dyn Service, registry: &dyn Registry, flight: &str) -> Result<Answers, Error> {
    let read = |what| service.read(&Read::of(what), WAIT);
    let totals =
        read(ReadKind::Keys { store: "origin_totals".to_owned(), prefix: String::new(), limit: 100, cursor: None })?;
    let history =
        match read(ReadKind::History { entity: "flight".to_owned(), key: flight.to_owned(), limit: 100, cursor: None })
        {
            Ok(history) => rows(&history, "versions"),
            Err(ReadError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
    let as_of = match between(&history) {
        Some(moment) => {
            let at = At::AsOf(moment);
            let entity = ReadKind::Entity { entity: "flight".to_owned(), key: flight.to_owned(), at };
            Some((moment.to_string(), read(entity)?))
        }
        None => None,
    };
    let mut late_departures = 0;
    read_topic(service, "flights.late", &mut |_| late_departures += 1)?;
    let mut schema_versions = Vec::new();
    for subject in registry.subjects(WAIT)? {
        if subject.starts_with("flights.events-") {
            let versions = registry.versions(&subject, WAIT)?.len();
            schema_versions.push((subject, versions));
        }
    }
    let (worst_hours, closed_hours) = worst_hours(service)?;
    Ok(Answers {
        totals: rows(&totals, "keys"),
        worst_hours,
        closed_hours,
        history,
        as_of,
        schema_versions,
        late_departures,
    })
}

fn rows(answer: &Json, name: &str) -> Vec<Json> {
    answer[name].as_array().cloned().unwrap_or_default()
}

/// A moment between the last event and the one before it.
fn between(history: &[Json]) -> Option<DateTime> {
    let recorded = |version: &Json| DateTime::parse(version["event"]["recorded"].as_str()?).ok();
    let [.., earlier, later] = history else { return None };
    let (earlier, later) = (recorded(earlier)?, recorded(later)?);
    let seconds = earlier.seconds + (later.seconds - earlier.seconds) / 2;
    (later > earlier).then_some(DateTime { seconds, nanos: 0 })
}

/// Hands every committed value of a topic to `visit`.
fn read_topic(service: &dyn Service, topic: &str, visit: &mut dyn FnMut(&Json)) -> Result<(), Error> {
    let described = service.topic(topic, WAIT)?;
    for partition in rows(&described, "partitions") {
        let (Some(number), Some(mut offset)) = (partition["partition"].as_i64(), partition["start"].as_i64()) else {
            continue;
        };
        let end = partition["end"].as_i64().unwrap_or(0);
        while offset < end {
            let page = TopicPage { topic: topic.to_owned(), partition: number as i32, offset, limit: PAGE_RECORDS };
            let answer = service.records(&page, WAIT)?;
            for record in rows(&answer, "records") {
                visit(&record["value"]);
            }
            match answer["next"].as_i64() {
                Some(next) if next > offset => offset = next,
                _ => break,
            }
        }
    }
    Ok(())
}

fn worst_hours(service: &dyn Service) -> Result<(Vec<Json>, ClosedHours), Error> {
    let mut closed = ClosedHours::default();
    let mut hours: Vec<Json> = Vec::new();
    read_topic(service, "airport.delays", &mut |value| {
        let departures = value["departures"].as_i64().unwrap_or(0);
        closed.hours += 1;
        closed.departures += departures;
        if departures >= DEPARTURES_MIN {
            hours.push(value.clone());
            if hours.len() > 1000 {
                keep_worst(&mut hours);
            }
        }
    })?;
    keep_worst(&mut hours);
    Ok((hours, closed))
}

/// The five with the largest mean delay; ties go by airport and hour.
fn keep_worst(hours: &mut Vec<Json>) {
    let mean = |hour: &Json| hour["mean_delay_min"].as_f64().unwrap_or(f64::MIN);
    let place = |hour: &Json| (hour["origin"].to_string(), hour["hour"].to_string());
    hours.sort_by(|a, b| mean(b).total_cmp(&mean(a)).then_with(|| place(a).cmp(&place(b))));
    hours.truncate(5);
}
