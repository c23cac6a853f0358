//! The process's log, to stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use super::{Exit, Failure};
use crate::config::{Log, LogFormat};

/// Sets the log up, once for the process.
///
/// # Errors
/// A level that no filter understands, or a log that is set up already.
pub(crate) fn start(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        Failure::new(Exit::Config, format!("`log.level`: {error}")).code(crate::error::codes::SETTING_VALUE)
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_timer(SystemTime);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(super::output::stderr_color()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::Bug, format!("the log could not be set up: {error}")))
}
