//! `schema`: the JSON Schemas that editors use.

use clap::{Args, Subcommand, ValueEnum};

use super::output::Output;
use super::{Exit, Failure};
use crate::{config, testing, topology};

/// Print the JSON Schemas by which editors complete and check tidemill's files
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidemill schema json topology > topology.schema.json")]
pub(crate) struct Schema {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the JSON Schema of a kind of file; its first line `#:schema <path or URL>` tells an editor to use it
    #[command(after_help = "Examples:\n  tidemill schema json settings > tidemill.schema.json")]
    Json {
        /// Of which files
        of: Files,
    },
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

pub(crate) fn run(command: &Schema, output: &mut Output) -> Result<Exit, Failure> {
    match &command.what {
        What::Json { of } => {
            let schema = match of {
                Files::Topology => topology::json_schema(),
                Files::Test => testing::json_schema(),
                Files::Settings => config::json_schema(),
            };
            let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::from_error(Exit::Bug, &error))?;
            output.line(text)?;
        }
    }
    Ok(Exit::Ok)
}
