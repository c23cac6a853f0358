//! `produce`: lines of JSON from a file or stdin to a topic, through a running daemon.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::args::{Admin, Global, unreadable};
use super::output::{Form, Output};
use super::{Exit, Failure};

/// Bytes of lines after which a batch is sent.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Lines after which a batch is sent.
const BATCH_LINES_MAX: usize = 1000;

/// Write events to a topic: one JSON object a line, `{"key","type","value","timestamp","headers"}`
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  echo '{\"key\":\"UA1\",\"type\":\"FlightCancelled\",\"value\":{\"reason\":\"snow\"}}' | tidemill produce \
                        flights.events\n  tidemill produce flights.events --file events.ndjson"
)]
pub(crate) struct Produce {
    /// The topic
    topic: String,
    /// Read this file, not stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    admin: Admin,
}

pub(crate) fn run(command: &Produce, _: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let (client, token) = (command.admin.client()?, command.admin.token()?);
    let mut send = |lines: String| client.post_lines(&["topics", &command.topic], lines, token.as_ref());
    let written = match &command.file {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
            copy(BufReader::new(file), &mut send, output)?
        }
        None => copy(BufReader::new(std::io::stdin()), &mut send, output)?,
    };
    if written == 0 {
        return Err(Failure::new(Exit::Usage, "there was no event to write").help("give one JSON object a line"));
    }
    Ok(Exit::Ok)
}

/// Sends lines in batches; a batch is also sent when nothing more is there yet, so that a slow writer's events are not held
/// back. Returns how many events were written.
fn copy(
    mut from: BufReader<impl Read>,
    send: &mut dyn FnMut(String) -> Result<Value, Failure>,
    output: &mut Output,
) -> Result<u64, Failure> {
    let (mut written, mut line_number) = (0_u64, 0_u64);
    let (mut batch, mut lines) = (String::new(), 0);
    loop {
        let mut line = String::new();
        let read = from.read_line(&mut line).map_err(|error| Failure::from_error(Exit::Io, &error))?;
        line_number += u64::from(read > 0);
        let text = line.trim();
        if !text.is_empty() {
            check_line(text, line_number, written)?;
            batch.push_str(text);
            batch.push('\n');
            lines += 1;
        }
        let full = batch.len() >= BATCH_BYTES_MAX || lines >= BATCH_LINES_MAX;
        if lines > 0 && (read == 0 || full || from.buffer().is_empty()) {
            let answer = send(std::mem::take(&mut batch)).map_err(|failure| so_far(failure, line_number, written))?;
            let records = answer["records"].as_array().map_or(&[][..], Vec::as_slice);
            written += records.len() as u64;
            for record in records {
                match output.form() {
                    Form::Json => output.json(record)?,
                    Form::Text => {
                        output.line(format!("partition {} offset {}", record["partition"], record["offset"]))?
                    }
                }
            }
            output.flush()?;
            lines = 0;
        }
        if read == 0 {
            return Ok(written);
        }
    }
}

/// Finds a line that is no object here, where its number is known.
fn check_line(text: &str, number: u64, written: u64) -> Result<(), Failure> {
    let wrong = match serde_json::from_str::<serde_json::Map<String, Value>>(text) {
        Ok(_) => return Ok(()),
        Err(error) => format!("line {number} is not a JSON object: {error}"),
    };
    Err(so_far(Failure::new(Exit::Usage, wrong).code(crate::error::codes::REQUEST_BODY), number, written))
}

fn so_far(failure: Failure, line: u64, written: u64) -> Failure {
    let help = format!("{written} events were written; of the batch that ends with line {line} none");
    if failure.help.is_some() { failure } else { failure.help(help) }
}
