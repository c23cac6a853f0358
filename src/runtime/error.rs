//! What stops a stream thread or the daemon, by what can be done about it.

use crate::error::{Code, Kind};
use crate::{broker, registry, store, task};

/// A failure of the running daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] broker::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Task(#[from] task::Error),
    /// The topology and the cluster do not fit; `code` has the page that says what to do.
    #[error("{message}")]
    Refused { code: Code, message: String },
    #[error("{message}")]
    Bug { message: String },
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Broker(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Task(error) => error.kind(),
            Self::Refused { .. } => Kind::Config,
            Self::Bug { .. } => Kind::Bug,
        }
    }

    /// Returns the code of the page that helps, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Store(error) => Some(error.code()),
            Self::Broker(error) => error.code(),
            Self::Registry(error) => error.code(),
            Self::Task(_) | Self::Bug { .. } => None,
        }
    }
}
