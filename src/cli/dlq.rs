//! `dlq`: the dead letters of a running daemon: which there are, what is in one, sending them back, dropping them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Admin, Global};
use super::client::Client;
use super::output::{Form, Output};
use super::{Exit, Failure, table};

/// Look at dead letters, send them back to where they came from, or drop them
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill dlq ls\n  tidemill dlq ls orders.dlq --reason decode\n  tidemill dlq show orders.dlq 0@17\n  \
                        tidemill dlq replay orders.dlq 0@17 1@4\n  tidemill dlq replay orders.dlq --all --reason decode\n  \
                        tidemill dlq drop orders.dlq 0@17\n\nA replay is exactly once: the record goes back to the partition it came from, \
                        and the mark that it did is of the same transaction."
)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the open dead letters with their reasons
    Ls(Ls),
    /// Show one: why it failed, and what is in it
    Show(Show),
    /// Send letters back to where they came from
    Replay(Settle),
    /// Drop letters; they stay in the topic, marked
    Drop(Settle),
}

#[derive(Args, Debug)]
struct Ls {
    /// The dead-letter topic; without it, all of the topology's with their counts
    topic: Option<String>,
    /// Only letters with this reason
    #[arg(long, requires = "topic")]
    reason: Option<String>,
    /// Letters of a page
    #[arg(long, value_name = "N", requires = "topic")]
    limit: Option<usize>,
    /// Go on where an earlier page ended
    #[arg(long, requires = "topic")]
    cursor: Option<String>,
}

#[derive(Args, Debug)]
struct Show {
    /// The dead-letter topic
    topic: String,
    /// The letter, `partition@offset` as `ls` says it
    letter: String,
}

#[derive(Args, Debug)]
struct Settle {
    /// The dead-letter topic
    topic: String,
    /// Which letters, `partition@offset` as `ls` says it
    #[arg(required_unless_present = "all")]
    letters: Vec<String>,
    /// All that are open
    #[arg(long, conflicts_with = "letters")]
    all: bool,
    /// With `--all`: only those with this reason
    #[arg(long, requires = "all")]
    reason: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

pub(crate) fn run(command: &Dlq, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match &command.command {
        Command::Ls(command) => list(command, &Client::reads(&global.url)?, output),
        Command::Show(command) => show(command, &Client::reads(&global.url)?, output),
        Command::Replay(command) => settle(command, "replay", output),
        Command::Drop(command) => settle(command, "drop", output),
    }
}

fn list(command: &Ls, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let Some(topic) = &command.topic else {
        let answer = client.get(&["dlq"], &[])?;
        if output.form() == Form::Json {
            output.json(&answer)?;
        } else {
            let topics = answer["topics"].as_array().map_or(&[][..], Vec::as_slice);
            let rows: Vec<Value> = topics
                .iter()
                .map(|topic| json!({ "topic": topic["topic"], "open": topic["open"], "reasons": counts(&topic["reasons"]) }))
                .collect();
            output.line(table::of_rows(&rows, &[]).to_string())?;
        }
        return Ok(Exit::Ok);
    };
    let parameters: Vec<(&str, String)> = [
        ("reason", command.reason.clone()),
        ("limit", command.limit.map(|limit| limit.to_string())),
        ("cursor", command.cursor.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let answer = client.get(&["dlq", topic], &parameters)?;
    if output.form() == Form::Json {
        output.json(&answer)?;
        return Ok(Exit::Ok);
    }
    output.line(format!("{} open: {}", answer["open"], counts(&answer["reasons"])))?;
    let letters = answer["letters"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Value> = letters
        .iter()
        .map(|letter| {
            json!({
                "letter": letter["letter"], "reason": letter["reason"], "node": letter["node"],
                "from": origin(&letter["from"]), "key": letter["key"], "message": letter["message"],
            })
        })
        .collect();
    output.line(table::of_rows(&rows, &[]).to_string())?;
    if let Some(cursor) = answer["cursor"].as_str() {
        output.line(format!("more: --cursor {cursor}"))?;
    }
    Ok(Exit::Ok)
}

fn show(command: &Show, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.get(&["dlq", &command.topic, &command.letter], &[])?;
    match output.form() {
        Form::Json => output.json(&answer)?,
        Form::Text => output.line(table::of_fields(&answer).to_string())?,
    }
    Ok(Exit::Ok)
}

fn settle(command: &Settle, action: &str, output: &mut Output) -> Result<Exit, Failure> {
    let body = match (command.all, &command.reason) {
        (false, _) => json!({ "letters": command.letters }),
        (true, None) => json!({ "all": true }),
        (true, Some(reason)) => json!({ "all": true, "reason": reason }),
    };
    let token = command.admin.token()?;
    let answer = command.admin.client()?.post(&["dlq", &command.topic, action], &[], &body, token.as_ref())?;
    let refused = answer["refused"].as_array().map_or(&[][..], Vec::as_slice);
    if output.form() == Form::Json {
        output.json(&answer)?;
    } else {
        let done = if action == "replay" { "sent back" } else { "dropped" };
        output.line(format!("{} {done}", answer["settled"]))?;
        for letter in refused {
            output.line(format!("{} stays: {}", table::cell(&letter["letter"]), table::cell(&letter["why"])))?;
        }
    }
    Ok(if refused.is_empty() { Exit::Ok } else { Exit::Findings })
}

fn counts(reasons: &Value) -> String {
    let counts = reasons.as_object().into_iter().flatten().map(|(reason, count)| format!("{reason} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Returns `topic-partition@offset`, or nothing.
pub(crate) fn origin(from: &Value) -> String {
    if from.is_null() {
        return String::new();
    }
    format!("{}-{}@{}", table::cell(&from["topic"]), from["partition"], from["offset"])
}
