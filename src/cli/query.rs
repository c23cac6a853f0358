//! `query`: what a store of a running daemon holds.

use clap::Args;
use serde_json::Value;

use super::args::Global;
use super::client::Client;
use super::output::{Form, Output};
use super::{Exit, Failure, table};

/// Read a store of a running daemon: one key, or a page of keys
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill query origin_totals JFK\n  tidemill query origin_totals --prefix J --limit 20\n  \
                        tidemill query hourly_delays JFK --from 2013-07-01T00:00:00Z --to 2013-07-02T00:00:00Z"
)]
pub(crate) struct Query {
    /// The store's name; `curl …/v1/stores` lists them
    store: String,
    /// The key; without it, a page of keys
    #[arg(conflicts_with_all = ["prefix", "limit", "cursor"])]
    key: Option<String>,
    /// Only keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
    /// Windows that start from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "key")]
    from: Option<String>,
    /// Windows that start up to this time (RFC 3339)
    #[arg(long, value_name = "TIME", requires = "key")]
    to: Option<String>,
    /// Keys of a page
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Go on where an earlier page ended
    #[arg(long)]
    cursor: Option<String>,
    /// Wait until this input is in (`topic:partition:offset`; may be given several times)
    #[arg(long, value_name = "INPUT")]
    wait_for: Vec<String>,
}

pub(crate) fn run(command: &Query, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::reads(&global.url)?;
    let mut parameters: Vec<(&str, String)> = [
        ("prefix", command.prefix.clone()),
        ("from", command.from.clone()),
        ("to", command.to.clone()),
        ("limit", command.limit.map(|limit| limit.to_string())),
        ("cursor", command.cursor.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    parameters.extend(command.wait_for.iter().map(|input| ("wait_for", input.clone())));
    let answer = match &command.key {
        Some(key) => client.get(&["stores", &command.store, "keys", key], &parameters)?,
        None => client.get(&["stores", &command.store, "keys"], &parameters)?,
    };
    match output.form() {
        Form::Json => output.json(&answer)?,
        Form::Text => print(&answer, output)?,
    }
    Ok(Exit::Ok)
}

fn print(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    if let Some(rows) = answer["windows"].as_array().or_else(|| answer["keys"].as_array()) {
        output.line(table::of_rows(rows, &["window", "value"]).to_string())?;
        if let Some(cursor) = answer["cursor"].as_str() {
            output.line(format!("more: --cursor {cursor}"))?;
        }
        return Ok(());
    }
    let value = &answer["value"];
    output.line(table::of_fields(value).to_string())?;
    if let Some(timestamp) = answer["timestamp"].as_str() {
        output.line(format!("as of {timestamp}"))?;
    }
    Ok(())
}
