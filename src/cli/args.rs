//! What the command line looks like.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use super::client::Client;
use super::{
    Exit, Failure, check, completions, consume, demo, dev, dlq, explain, graph, history, new, plan, produce, query,
    schema, task, test,
};
use crate::config::{Environment, Secret, Strings as _, variable_name};

/// Event-sourced state over event topics, from TOML: exactly once, with its history.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, arg_required_else_help = true, subcommand_required = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Settings; without it `tidemill.toml` in the working folder, if it is there
    #[arg(short = 'c', long, global = true, value_name = "FILE", help_heading = "Global")]
    pub(crate) config: Option<PathBuf>,
    /// Overrides the topology's application id
    #[arg(long, global = true, value_name = "ID", help_heading = "Global")]
    pub(crate) application_id: Option<String>,
    /// A running daemon's listener for reads
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7400", help_heading = "Global")]
    pub(crate) url: String,
    /// Print JSON: one object, or one a line for streams
    #[arg(long, global = true, help_heading = "Global")]
    pub(crate) json: bool,
}

/// Flags of what changes something: how the admin listener of a running daemon is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Admin {
    /// A running daemon's listener for writes
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7401")]
    admin_url: String,
    /// File with the admin token; without it `TIDEMILL__ADMIN__TOKEN`, if it is set
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Admin {
    /// Returns the listener.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::writes(&self.admin_url)
    }

    /// Returns the token, if there is one.
    pub(crate) fn token(&self) -> Result<Option<Secret>, Failure> {
        match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                Ok(Some(Secret::new(text.trim_end())))
            }
            None => Ok(Environment::read().get(&variable_name("admin.token")).map(Secret::new)),
        }
    }
}

/// A file that a command was given and cannot read.
pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("`{}` cannot be read: {error}", path.display()))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(dev::Run),
    Dev(dev::Dev),
    Demo(demo::Demo),
    New(new::New),
    Check(check::Check),
    Test(test::Test),
    Plan(plan::Plan),
    Schema(schema::Schema),
    Graph(graph::Graph),
    Query(query::Query),
    History(history::History),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Dlq(dlq::Dlq),
    Task(task::Task),
    Explain(explain::Explain),
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("tidemill "), "`{}` has no example", command.get_name());
            assert!(command.get_about().is_some(), "`{}` does not say what it does", command.get_name());
        }
    }
}
