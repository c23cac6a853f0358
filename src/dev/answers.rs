//! The demo's questions, asked of a running daemon and of the topics it wrote: what the year came to, its worst hours, one
//! flight's life.

use std::time::Duration;

use serde_json::Value as Json;

use crate::base::ids::Topic;
use crate::base::time::DateTime;
use crate::broker::Broker;
use crate::registry::Registry;
use crate::runtime::service::{At, Read, ReadError, ReadKind};
use crate::runtime::{Service, topics};

const WAIT: Duration = Duration::from_secs(10);

/// Departures that an hour must have had to count among the worst.
const DEPARTURES_MIN: i64 = 5;

/// What the demo asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Rows of `origin_totals`, by key.
    pub totals: Vec<Json>,
    /// The five worst rows of `airport.delays`, the worst first.
    pub worst_hours: Vec<Json>,
    /// A flight's versions with the event behind each; empty when the flight is not there.
    pub history: Vec<Json>,
    /// That flight as of a moment between two of its events.
    pub as_of: Option<(String, Json)>,
    /// Subjects of the flights' topic with the number of versions of each.
    pub schema_versions: Vec<(String, usize)>,
    pub late_departures: u64,
}

/// Why an answer cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Topic(#[from] topics::Error),
    #[error(transparent)]
    Registry(#[from] crate::registry::Error),
}

/// Asks everything. `flight` is the key whose history is shown.
///
/// # Errors
/// The daemon does not answer; a topic or the registry cannot be read.
pub fn ask(
    service: &dyn Service,
    broker: &dyn Broker,
    registry: &dyn Registry,
    flight: &str,
) -> Result<Answers, Error> {
    let read = |what| service.read(&Read { what, wait_for: Vec::new() }, WAIT);
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
    topics::read(broker, registry, &Topic::new("flights.late"), &mut |_| late_departures += 1)?;
    let mut schema_versions = Vec::new();
    for subject in registry.subjects(WAIT)? {
        if subject.starts_with("flights.events-") {
            let versions = registry.versions(&subject, WAIT)?.len();
            schema_versions.push((subject, versions));
        }
    }
    Ok(Answers {
        totals: rows(&totals, "keys"),
        worst_hours: worst_hours(broker, registry)?,
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

fn worst_hours(broker: &dyn Broker, registry: &dyn Registry) -> Result<Vec<Json>, Error> {
    let mut hours: Vec<Json> = Vec::new();
    topics::read(broker, registry, &Topic::new("airport.delays"), &mut |record| {
        if record.value["departures"].as_i64().is_some_and(|departures| departures >= DEPARTURES_MIN) {
            hours.push(record.value);
            if hours.len() > 1000 {
                keep_worst(&mut hours);
            }
        }
    })?;
    keep_worst(&mut hours);
    Ok(hours)
}

/// The five with the largest mean delay; ties go by airport and hour.
fn keep_worst(hours: &mut Vec<Json>) {
    let mean = |hour: &Json| hour["mean"].as_f64().unwrap_or(f64::MIN);
    let place = |hour: &Json| (hour["origin"].to_string(), hour["hour"].to_string());
    hours.sort_by(|a, b| mean(b).total_cmp(&mean(a)).then_with(|| place(a).cmp(&place(b))));
    hours.truncate(5);
}
