//! `completions`: what a shell needs to complete commands and flags.

use clap::{Args, CommandFactory as _, ValueEnum};

use super::args::Cli;
use super::output::Output;
use super::{Exit, Failure};

/// Print a shell's completion script
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  source <(tidemill completions bash)\n  tidemill completions zsh > \"${fpath[1]}/_tidemill\"\n  \
                        tidemill completions fish > ~/.config/fish/completions/tidemill.fish"
)]
pub(crate) struct Completions {
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn run(command: &Completions, output: &mut Output) -> Result<Exit, Failure> {
    let shell = match command.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
    output.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
