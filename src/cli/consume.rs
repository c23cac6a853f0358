//! `consume`: a topic's records, decoded, through a running daemon.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::args::Global;
use super::client::Client;
use super::output::{Form, Output};
use super::signals::Signals;
use super::{Exit, Failure, table};

/// Time between two looks when there was nothing new.
const IDLE: Duration = Duration::from_millis(250);

/// Print a topic's committed records as they come
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill consume airport.delays --from-beginning --max 10\n  tidemill consume flights.late --json\n  \
                        tidemill consume airport.delays --from-beginning --until-end --json > delays.ndjson"
)]
pub(crate) struct Consume {
    /// The topic
    topic: String,
    /// Begin with the oldest record, not with the next one written
    #[arg(long)]
    from_beginning: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Only this partition
    #[arg(long, value_name = "P")]
    partition: Option<i64>,
    /// Stop at what was the end when the command began
    #[arg(long)]
    until_end: bool,
}

/// Where reading a partition stands.
struct Position {
    partition: i64,
    next: i64,
    end: i64,
}

pub(crate) fn run(command: &Consume, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::reads(&global.url)?;
    let mut signals =
        client.block_on(async { Signals::watch() }).map_err(|error| Failure::from_error(Exit::Io, &error))?;
    let mut positions = positions(command, &client)?;
    let mut left = command.max.unwrap_or(u64::MAX);
    while left > 0 {
        if command.until_end {
            positions.retain(|position| position.next < position.end);
            if positions.is_empty() {
                break;
            }
        }
        let mut round = Vec::new();
        for position in &mut positions {
            round.extend(read(command, &client, position)?);
        }
        let idle = round.is_empty();
        // Of one round, in the order of time: partitions are read one after the other.
        round.sort_by_cached_key(|record| table::cell(&record["timestamp"]));
        for record in round.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            print(record, output)?;
        }
        left = left.saturating_sub(round.len() as u64);
        output.flush()?;
        let wait = if idle { IDLE } else { Duration::ZERO };
        if client.block_on(signals.stop_within(wait)) {
            break;
        }
    }
    Ok(Exit::Ok)
}

fn positions(command: &Consume, client: &Client) -> Result<Vec<Position>, Failure> {
    let topic = client.get(&["topics", &command.topic], &[])?;
    let number = |value: &Value| value.as_i64().unwrap_or_default();
    let mut positions: Vec<Position> = topic["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|partition| Position {
            partition: number(&partition["partition"]),
            next: number(&partition[if command.from_beginning { "start" } else { "end" }]),
            end: number(&partition["end"]),
        })
        .collect();
    if let Some(wanted) = command.partition {
        let count = positions.len();
        positions.retain(|position| position.partition == wanted);
        if positions.is_empty() {
            let message = format!("`{}` has {count} partitions and no partition {wanted}", command.topic);
            return Err(Failure::new(Exit::Findings, message));
        }
    }
    Ok(positions)
}

fn read(command: &Consume, client: &Client, position: &mut Position) -> Result<Vec<Value>, Failure> {
    let parameters = [("partition", position.partition.to_string()), ("offset", position.next.to_string())];
    let mut page = client.get(&["topics", &command.topic, "records"], &parameters)?;
    position.next = page["next"].as_i64().unwrap_or(position.next).max(position.next);
    let Value::Array(mut records) = page["records"].take() else { return Ok(Vec::new()) };
    if command.until_end {
        records.retain(|record| record["offset"].as_i64().is_some_and(|offset| offset < position.end));
    }
    for record in &mut records {
        if let Value::Object(fields) = record {
            fields.insert("partition".to_owned(), json!(position.partition));
        }
    }
    Ok(records)
}

fn print(record: &Value, output: &mut Output) -> Result<(), Failure> {
    if output.form() == Form::Json {
        return output.json(record);
    }
    let what = match record["error"].as_str() {
        Some(error) => format!("(not decoded: {error})"),
        None if record["value"].is_null() => "(tombstone)".to_owned(),
        None => format!("{} {}", table::cell(&record["type"]), record["value"]),
    };
    let place = format!("{}@{}", record["partition"], record["offset"]);
    output.line(format!("{place:>10} {} {} {what}", table::cell(&record["timestamp"]), table::cell(&record["key"])))
}
