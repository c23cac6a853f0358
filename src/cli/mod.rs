//! L6: the command line. Decides nothing about streams: each command reads its arguments, calls the library or a running daemon,
//! and prints.
//!
//! Data goes to stdout, everything else to stderr; colour and progress only on a terminal. What a command returns becomes the
//! exit code that `exit` lists.

mod args;
mod check;
pub(crate) mod client;
mod completions;
mod consume;
pub(crate) mod daemon;
mod demo;
mod dev;
mod dlq;
mod exit;
mod explain;
mod graph;
mod history;
mod junit;
pub(crate) mod logging;
mod new;
pub(crate) mod output;
mod plan;
mod produce;
pub(crate) mod progress;
mod query;
pub(crate) mod registry;
pub(crate) mod report;
mod schema;
pub(crate) mod signals;
pub(crate) mod table;
mod task;
mod test;
pub(crate) mod topology_folder;

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command};
pub(crate) use exit::{Exit, Failure};
use output::Output;

/// Runs a command line, `argv[0]` included, and returns the process's exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::command().try_get_matches_from(argv).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(shown) => {
            // Help and version are asked for and go to stdout; everything else clap says goes to stderr. A closed pipe is no
            // reason to complain.
            drop(shown.print());
            return if shown.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() };
        }
    };
    let mut output = Output::to_process(cli.global.json);
    let ended = match &cli.command {
        Command::Check(command) => check::run(command, &cli.global, &mut output),
        Command::New(command) => new::run(command, &mut output),
        Command::Completions(command) => completions::run(command, &mut output),
        Command::Graph(command) => graph::run(command, &mut output),
        Command::Schema(command) => schema::run(command, &cli.global, &mut output),
        Command::Test(command) => test::run(command, &mut output),
        Command::Query(command) => query::run(command, &cli.global, &mut output),
        Command::History(command) => history::run(command, &cli.global, &mut output),
        Command::Plan(command) => plan::run(command, &cli.global, &mut output),
        Command::Produce(command) => produce::run(command, &cli.global, &mut output),
        Command::Consume(command) => consume::run(command, &cli.global, &mut output),
        Command::Dlq(command) => dlq::run(command, &cli.global, &mut output),
        Command::Task(command) => task::run(command, &cli.global, &mut output),
        Command::Explain(command) => explain::run(command, &mut output),
        Command::Run(command) => dev::run(command, &cli.global),
        Command::Dev(command) => dev::dev(command, &cli.global),
        Command::Demo(command) => demo::run(command, &cli.global, &mut output),
    };
    match ended.and_then(|exit| output.flush().map(|()| exit)) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            report::failure(&failure, output::stderr_color());
            failure.exit.code()
        }
    }
}
