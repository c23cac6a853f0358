//! `task`: the tasks of a running daemon, and letting those go on that are quarantined.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{Admin, Global};
use super::client::Client;
use super::dlq::origin;
use super::output::{Form, Output};
use super::{Exit, Failure, table};

/// Look at a daemon's tasks, and let one go on that has stopped
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill task ls\n  tidemill task release origin_totals_3\n  \
                        tidemill task release origin_totals_3 --inputs earliest\n\nA task stops at a record that its \
                        topology says to stop at, at a topic that refuses what it must write, and at state that cannot be used. \
                        Released, it starts again from what is committed; `ls` says at which record it stopped.")]
pub(crate) struct Task {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the tasks: state, lag, and why one does not run
    Ls,
    /// Let a quarantined task start again from what is committed
    Release(Release),
}

#[derive(Args, Debug)]
struct Release {
    /// The task, as `ls` names it
    task: String,
    /// Where to read inputs on that cannot be read on where they stood (E0602, E0603, E0607); the others go on where they are
    #[arg(long, value_name = "WHERE", value_parser = ["earliest", "latest", "committed"])]
    inputs: Option<String>,
    #[command(flatten)]
    admin: Admin,
}

pub(crate) fn run(command: &Task, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match &command.command {
        Command::Ls => list(&Client::reads(&global.url)?, output),
        Command::Release(release) => {
            let query: Vec<(&str, String)> = release.inputs.iter().map(|inputs| ("inputs", inputs.clone())).collect();
            let answer = release.admin.client()?.post(
                &["tasks", &release.task, "release"],
                &query,
                &json!({}),
                release.admin.token()?.as_ref(),
            )?;
            match output.form() {
                Form::Json => output.json(&answer)?,
                Form::Text if answer["released"] == Value::Bool(true) => {
                    output.line(format!("{} starts again", release.task))?;
                }
                Form::Text => output.line(format!("{} is not quarantined: there was nothing to do", release.task))?,
            }
            Ok(Exit::Ok)
        }
    }
}

fn list(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.get(&["tasks"], &[])?;
    let tasks = answer["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    match output.form() {
        Form::Json => tasks.iter().try_for_each(|task| output.json(task))?,
        Form::Text => {
            let rows: Vec<Value> = tasks.iter().map(row).collect();
            output.line(table::of_rows(&rows, &[]).to_string())?;
            for task in tasks.iter().filter(|task| !task["error"].is_null()) {
                output.line(format!("{}: {}", table::cell(&task["task"]), table::cell(&task["error"])))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn row(task: &Value) -> Value {
    let quarantine = &task["quarantine"];
    json!({
        "task": task["task"],
        "state": task["state"],
        "lag": task["lag"],
        "stream time": task["stream_time"],
        "to restore": task["restore_remaining"],
        "seconds left": task["restore_seconds_left"],
        "stopped by": quarantine["reason"],
        "at": origin(&quarantine["record"]),
        "since": quarantine["since"],
    })
}
