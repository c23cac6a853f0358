//! `schema`: the Avro schemas of a topology's sources, fetched from the registry and compared with it; the JSON Schemas that editors
//! use.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value as Json, json};

use super::args::Global;
use super::output::{Form, Output};
use super::registry::{Connection, differences};
use super::topology_folder::schema_path;
use super::{Exit, Failure, table};
use crate::avro::Schema as Avro;
use crate::topology::WantedSchema;
use crate::{config, testing, topology};

/// Fetch schemas from the registry, compare them with it; print those that editors use
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidemill schema pull topologies/flights\n  tidemill schema diff topologies/flights --registry http://localhost:8081\n  tidemill schema json topology > topology.schema.json"
)]
pub(crate) struct Schema {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Fetch what is registered for the topology's sources into its schema files
    #[command(after_help = "Examples:\n  tidemill schema pull topologies/flights")]
    Pull(Of),
    /// Say by field how the schema files differ from what is registered; exit code 1 when they do
    #[command(after_help = "Examples:\n  tidemill schema diff topologies/flights --json")]
    Diff(Of),
    /// Print the JSON Schema of a kind of file; its first line `#:schema <path or URL>` tells an editor to use it
    #[command(after_help = "Examples:\n  tidemill schema json settings > tidemill.schema.json")]
    Json {
        /// Of which files
        of: Files,
    },
}

#[derive(Args, Debug)]
struct Of {
    /// The topology's folder
    folder: PathBuf,
    /// Further folders with `.avsc` files (default: `schemas`); files that are nowhere are written into the first
    #[arg(long, value_name = "FOLDER")]
    schemas: Vec<PathBuf>,
    /// The registry (default: that of the settings)
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    registry: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Files {
    /// The files of a topology
    Topology,
    /// Its tests, `*.test.toml`
    Test,
    /// `tidemill.toml`
    Settings,
}

pub(crate) fn run(command: &Schema, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    match &command.what {
        What::Pull(of) => pull(of, global, output),
        What::Diff(of) => diff(of, global, output),
        What::Json { of } => {
            let schema = match of {
                Files::Topology => topology::json_schema(),
                Files::Test => testing::json_schema(),
                Files::Settings => config::json_schema(),
            };
            let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
            output.line(text)?;
            Ok(Exit::Ok)
        }
    }
}

/// Fetches what is registered for the topology's sources into files.
fn pull(of: &Of, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let wanted = wanted(of)?;
    let connection = Connection::open(&of.registry, global)?;
    let mut rows = Vec::new();
    let mut exit = Exit::Ok;
    for schema in &wanted {
        let (subject, latest) = connection.latest(schema)?;
        let path = match (&schema.found, of.schemas.first()) {
            (Some(found), _) => PathBuf::from(&found.path),
            (None, Some(folder)) => folder.join(&schema.file),
            (None, None) => PathBuf::from("schemas").join(&schema.file),
        };
        let Some(latest) = latest else {
            exit = Exit::Findings;
            rows.push(json!({ "file": path.display().to_string(), "subject": subject, "result": "not registered" }));
            continue;
        };
        let text = pretty(&latest.schema)? + "\n";
        let same = schema.found.as_ref().is_some_and(|found| found.text == text);
        if !same {
            let failed = |error: std::io::Error| {
                Failure::from_error(Exit::Io, &error).help(format!("`{}` cannot be written", path.display()))
            };
            std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(failed)?;
            std::fs::write(&path, text).map_err(failed)?;
        }
        rows.push(json!({
            "file": path.display().to_string(),
            "subject": subject,
            "version": latest.version,
            "result": if same { "the same" } else { "written" },
        }));
    }
    show(rows, output)?;
    Ok(exit)
}

/// Says how the files differ from what is registered.
fn diff(of: &Of, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let wanted = wanted(of)?;
    let connection = Connection::open(&of.registry, global)?;
    let mut rows = Vec::new();
    let mut exit = Exit::Ok;
    for schema in &wanted {
        let (subject, latest) = connection.latest(schema)?;
        let version = latest.as_ref().map(|latest| latest.version);
        let lines = match (&schema.found, &latest) {
            (None, _) => vec!["- there is no such file".to_owned()],
            (Some(_), None) => vec!["- the subject is not registered".to_owned()],
            (Some(found), Some(latest)) => {
                let parse = |text: &str| {
                    Avro::parse(text).map_err(|error| Failure::from_error(Exit::Findings, &error).code(error.code()))
                };
                differences(&parse(&found.text)?, &parse(&latest.schema)?)
            }
        };
        if !lines.is_empty() {
            exit = Exit::Findings;
        }
        rows.push(json!({ "file": schema.file, "subject": subject, "version": version, "differences": lines }));
    }
    if output.form() == Form::Text {
        for row in &mut rows {
            let lines: Vec<&str> =
                row["differences"].as_array().into_iter().flatten().filter_map(|line| line.as_str()).collect();
            row["differences"] = if lines.is_empty() { json!("none") } else { json!(lines.join("\n")) };
        }
    }
    show(rows, output)?;
    Ok(exit)
}

fn show(rows: Vec<Json>, output: &mut Output) -> Result<(), Failure> {
    match output.form() {
        Form::Json => output.json(&json!({ "schemas": rows })),
        Form::Text if rows.is_empty() => output.line("the topology reads no topic with Avro values"),
        Form::Text => output.line(table::of_rows(&rows, &[]).to_string()),
    }
}

fn wanted(of: &Of) -> Result<Vec<WantedSchema>, Failure> {
    let sources = topology::load(&of.folder, &schema_path(&of.schemas))
        .map_err(|error| Failure::from_error(Exit::Usage, &error).code(error.code()))?;
    Ok(topology::wanted_schemas(&sources))
}

fn pretty(schema: &str) -> Result<String, Failure> {
    let json: Json = serde_json::from_str(schema).map_err(|error| Failure::from_error(Exit::Findings, &error))?;
    serde_json::to_string_pretty(&json).map_err(|error| Failure::from_error(Exit::Bug, &error))
}
