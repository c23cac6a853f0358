//! How a command ends.

use crate::error::{Code, Kind, codes};

/// Exit codes, sysexits' where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// Findings, a red test, not found.
    Findings,
    /// `plan`: all goes on in place.
    PlanUpgrades,
    /// `plan`: something must be built again.
    PlanRebuilds,
    /// `plan`: readers of a topic break.
    PlanBreaksReaders,
    Usage,
    /// A broker, a registry or a daemon does not answer.
    Unavailable,
    /// tidemill is wrong.
    Bug,
    /// State or disk.
    Io,
    Config,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Findings => 1,
            Self::Usage => 2,
            Self::PlanUpgrades => 10,
            Self::PlanRebuilds => 11,
            Self::PlanBreaksReaders => 12,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::Io => 74,
            Self::Config => 78,
        }
    }

    /// Returns how a one-shot command ends after a failure of this kind.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Config => Self::Config,
            Kind::Retry | Kind::Fenced => Self::Unavailable,
            Kind::Corrupt => Self::Io,
            Kind::Record => Self::Findings,
            Kind::Bug => Self::Bug,
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) code: Option<Code>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, code: None, message: message.into(), help: None }
    }

    #[must_use]
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.code = Some(code);
        self
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message).code(codes::DAEMON_UNREACHABLE)
    }

    /// Any error with its causes, one after the other.
    pub(crate) fn from_error(exit: Exit, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::new(exit, message)
    }
}
