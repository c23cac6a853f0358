//! Where a simulation may strike. Nothing is decided here: a [`Faults`] says what fails, and when.

use std::fmt;

use crate::broker::Error;

/// A step of the local broker that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Before anything is polled.
    Poll,
    /// Before records are taken.
    Send,
    /// Before a staged commit is decided: it is not, and the transaction stays open.
    Commit,
    /// After it was decided: the caller does not learn of it.
    Acknowledge,
}

/// Says which steps fail.
pub trait Faults: Send + Sync + fmt::Debug {
    /// Returns the error that this step is to fail with; none to let it be.
    fn strike(&self, step: Step) -> Option<Error>;
}
