//! `history`: how an entity of a running daemon came to be what it is.

use clap::Args;
use serde_json::Value;

use super::args::Global;
use super::client::Client;
use super::output::{Form, Output};
use super::{Exit, Failure, table};

/// Show an entity's versions with the event behind each, or what it was at a time
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill history flight UA1545-EWR-2013-01-01T10\n  \
                        tidemill history flight UA1545-EWR-2013-01-01T10 --as-of 2013-01-01T10:20:00Z\n  \
                        tidemill history flight UA1545-EWR-2013-01-01T10 --blame")]
pub(crate) struct History {
    /// The entity's name
    entity: String,
    /// The entity's key
    key: String,
    /// What it was after everything recorded up to this time (RFC 3339)
    #[arg(long, value_name = "TIME", conflicts_with_all = ["version", "blame", "limit", "cursor"])]
    as_of: Option<String>,
    /// What it was after this many events
    #[arg(long, value_name = "N", conflicts_with_all = ["blame", "limit", "cursor"])]
    version: Option<u64>,
    /// Which event set each field
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    blame: bool,
    /// Versions of a page
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on where an earlier page ended
    #[arg(long)]
    cursor: Option<String>,
}

type Print = fn(&Value, &mut Output) -> Result<(), Failure>;

pub(crate) fn run(command: &History, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::reads(&global.url)?;
    let path = ["entities", command.entity.as_str(), "keys", command.key.as_str()];
    let (answer, print): (Value, Print) = match (&command.as_of, command.version, command.blame) {
        (Some(moment), _, _) => (client.get(&path, &[("as_of", moment.clone())])?, print_version),
        (None, Some(version), _) => (client.get(&path, &[("version", version.to_string())])?, print_version),
        (None, None, true) => (client.get(&[&path[..], &["blame"]].concat(), &[])?, print_blame),
        (None, None, false) => {
            let limit = command.limit.map(|limit| ("limit", limit.to_string()));
            let cursor = command.cursor.clone().map(|cursor| ("cursor", cursor));
            let parameters: Vec<_> = limit.into_iter().chain(cursor).collect();
            (client.get(&[&path[..], &["history"]].concat(), &parameters)?, print_history)
        }
    };
    match output.form() {
        Form::Json => output.json(&answer)?,
        Form::Text => print(&answer, output)?,
    }
    Ok(Exit::Ok)
}

/// A version, and the event behind it.
fn print_version(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    output.line(table::of_fields(&answer["state"]).to_string())?;
    let event = &answer["event"];
    output.line(format!(
        "version {} by {} of {}, recorded {}, at {}",
        answer["version"],
        table::cell(&event["type"]),
        table::cell(&event["timestamp"]),
        table::cell(&event["recorded"]),
        coordinates(event)
    ))
}

/// A row for each version; of its state, what the event changed.
fn print_history(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    output.line(history_table(answer["versions"].as_array().map_or(&[], Vec::as_slice)).to_string())?;
    match answer["cursor"].as_str() {
        Some(cursor) => output.line(format!("more: --cursor {cursor}")),
        None => Ok(()),
    }
}

/// Makes the table of versions, oldest first, that `history` and the demo show.
pub(crate) fn history_table(versions: &[Value]) -> comfy_table::Table {
    let mut table = table::new(["version", "event", "occurred", "recorded", "at", "changed"]);
    let mut before = &Value::Null;
    for version in versions {
        let event = &version["event"];
        table.add_row(vec![
            table::cell(&version["version"]),
            table::cell(&event["type"]),
            table::cell(&event["timestamp"]),
            table::cell(&event["recorded"]),
            coordinates(event),
            changes(before, &version["state"]),
        ]);
        before = &version["state"];
    }
    table
}

/// Lists the fields of `after` that are not as they were, one a line.
fn changes(before: &Value, after: &Value) -> String {
    let Value::Object(fields) = after else {
        return if after.is_null() { "deleted".into() } else { after.to_string() };
    };
    let changed = fields.iter().filter(|(name, value)| {
        let was = before.get(name.as_str()).unwrap_or(&Value::Null);
        was != *value
    });
    changed.map(|(name, value)| format!("{name}: {}", table::cell(value))).collect::<Vec<_>>().join("\n")
}

fn print_blame(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    let mut table = table::new(["field", "value", "version", "event", "occurred", "at"]);
    for (name, field) in answer["fields"].as_object().into_iter().flatten() {
        let event = &field["event"];
        table.add_row(vec![
            name.clone(),
            table::cell(&field["value"]),
            table::cell(&field["version"]),
            table::cell(&event["type"]),
            table::cell(&event["timestamp"]),
            coordinates(event),
        ]);
    }
    output.line(table.to_string())
}

/// `flights.events-3@17`
fn coordinates(event: &Value) -> String {
    format!("{}-{}@{}", table::cell(&event["topic"]), table::cell(&event["partition"]), table::cell(&event["offset"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_shows_what_its_event_changed() {
        let first = json!({"status": "SCHEDULED", "delay": null});
        let second = json!({"status": "SCHEDULED", "delay": 3});
        assert_eq!(changes(&Value::Null, &first), "status: SCHEDULED");
        assert_eq!(changes(&first, &second), "delay: 3");
        assert_eq!(changes(&second, &Value::Null), "deleted");
    }
}
