//! Where data goes: stdout, as text for people or as JSON for programs.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::{Exit, Failure};

/// How data is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

/// The data a command prints.
pub(crate) struct Output {
    form: Form,
    terminal: bool,
    to: Box<dyn Write>,
}

impl Output {
    pub(crate) fn to_process(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let form = if json { Form::Json } else { Form::Text };
        Self { form, terminal, to: Box::new(io::BufWriter::new(stdout)) }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Tells whether the data may be coloured: a terminal whose user has not set `NO_COLOR`.
    pub(crate) fn color(&self) -> bool {
        self.terminal && colors_wanted()
    }

    /// Writes text and a line end.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        let text = text.as_ref();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.to.write_all(text.as_bytes()).and_then(|()| self.to.write_all(end.as_bytes())).or_else(closed)
    }

    /// Writes one object on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        match serde_json::to_string(value) {
            Ok(text) => self.line(text),
            Err(error) => Err(Failure::from_error(Exit::Bug, &error)),
        }
    }

    /// Brings out what was written: for streams, after each batch.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().or_else(closed)
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("form", &self.form).finish_non_exhaustive()
    }
}

/// A reader that has seen enough (`| head`) ends the command quietly.
fn closed(error: io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(i32::from(Exit::Ok.code()));
    }
    Err(Failure::from_error(Exit::Io, &error))
}

/// Tells whether stderr takes colour: a terminal whose user has not set `NO_COLOR`.
pub(crate) fn stderr_color() -> bool {
    io::stderr().is_terminal() && colors_wanted()
}

fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
