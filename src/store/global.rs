//! Global tables' rows: stores that every thread of the process looks up in, and one of them writes.
//!
//! A lock stands around them, held for a look-up or for a batch of changes. It is the one lock on the path of records, and only of those
//! that are joined with a global table. Not here: who reads the topics, and what their records mean.

use std::sync::{Arc, Mutex, PoisonError};

use crate::store::{Error, Row, StoreIndex, TaskStores};

/// The stores of all global tables, in the order of the plan; none before they are opened. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct GlobalStores(Arc<Mutex<Option<TaskStores>>>);

impl GlobalStores {
    /// Makes stores the ones to look up in.
    pub fn open(&self, stores: TaskStores) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stores);
    }

    /// Gives the stores back, to be closed.
    pub fn close(&self) -> Option<TaskStores> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the row of a key.
    ///
    /// # Errors
    /// As [`TaskStores::get`]; [`Error::Io`] before they are opened.
    pub fn get(&self, index: StoreIndex, key: &[u8]) -> Result<Option<Row>, Error> {
        self.with(|stores| stores.get(index, key))?
    }

    /// Works on the stores while nobody else does.
    ///
    /// # Errors
    /// [`Error::Io`] before they are opened.
    pub fn with<T>(&self, work: impl FnOnce(&mut TaskStores) -> T) -> Result<T, Error> {
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || Error::Io { message: "the global tables are not open".to_owned() };
        stores.as_mut().map(work).ok_or_else(closed)
    }
}
