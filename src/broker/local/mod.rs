//! The local broker: one process, in memory or on disk, with the meaning of Kafka's words.
//!
//! One lock guards everything; records are encoded, read from files and decoded beside it. No clock is read: a member of a
//! group lives as long as its consumer, a transaction as long as its producer, and no record is ever deleted by its age
//! (event times may be years ago). So `session_timeout`, `transaction_timeout` and `retention.ms` change nothing here, and a
//! static member that closes leaves its group at once.
//!
//! Not here: what the files look like (`docs/formats.md`).

mod admin;
mod batch;
mod compaction;
mod consumer;
mod disk;
mod faults;
mod groups;
mod journal;
mod log;
mod producer;
mod recovery;
mod segments;
mod state;
mod transactions;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::broker::local::batch::Checksum;
use crate::broker::local::state::State;
use crate::broker::{Admin, Broker, Consumer, ConsumerSettings, Error, Producer, ProducerSettings};
use crate::limits;

pub use faults::{Faults, Step};

/// A broker within this process. Clones are handles to the same one.
#[derive(Clone)]
pub struct LocalBroker {
    shared: Arc<Shared>,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it comes: the operating system has the bytes. A loss of power may lose the newest.
    #[default]
    Process,
    /// A loss of power: every commit waits for the disk (`fsync`).
    Disk,
}

impl Durability {
    fn reaches_disk(self) -> bool {
        match self {
            Self::Process => false,
            Self::Disk => true,
        }
    }
}

/// How to open a broker on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    pub durability: Durability,
    /// Partitions of compacted topics with fewer bytes are not compacted when the broker is opened.
    pub compact_bytes_min: u64,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), compact_bytes_min: limits::LOCAL_COMPACT_BYTES_MIN }
    }
}

impl LocalBroker {
    /// Makes an empty broker that is gone with its last handle. Nothing about it is random.
    pub fn in_memory() -> Self {
        Self::of(State::default(), Checksum::Skip, 0, None)
    }

    /// Makes an empty broker in memory that fails where `faults` says so.
    pub fn in_memory_with_faults(faults: Arc<dyn Faults>) -> Self {
        Self::of(State::default(), Checksum::Skip, 0, Some(faults))
    }

    /// Opens the broker whose files are in `directory`, or makes one there.
    ///
    /// # Errors
    /// As [`Self::open_with`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_with(directory, DiskOptions::default())
    }

    /// Opens the broker whose files are in `directory`, or makes one there. Transactions that were open are aborted, torn
    /// ends of files cut off, and compacted topics compacted where it is worth it. Reads every byte once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when another process has it open or a file cannot be written; [`Error::Storage`] for a file
    /// that is damaged or of another format.
    pub fn open_with(directory: &Path, options: DiskOptions) -> Result<Self, Error> {
        let (state, broker_id) = recovery::open(directory, options)?;
        Ok(Self::of(state, Checksum::Compute, broker_id, None))
    }

    fn of(state: State, checksum: Checksum, broker_id: u64, faults: Option<Arc<dyn Faults>>) -> Self {
        let state = Mutex::new(state);
        Self { shared: Arc::new(Shared { state, changed: Condvar::new(), checksum, broker_id, faults }) }
    }
}

impl fmt::Debug for LocalBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBroker").field("broker_id", &self.shared.broker_id).finish_non_exhaustive()
    }
}

impl Broker for LocalBroker {
    fn consumer(&self, settings: &ConsumerSettings) -> Result<Box<dyn Consumer>, Error> {
        Ok(Box::new(consumer::LocalConsumer::new(Arc::clone(&self.shared), settings)))
    }

    fn producer(&self, settings: &ProducerSettings) -> Result<Box<dyn Producer>, Error> {
        Ok(Box::new(producer::LocalProducer::new(Arc::clone(&self.shared), settings.transactional_id.clone())))
    }

    fn admin(&self) -> Result<Box<dyn Admin>, Error> {
        Ok(Box::new(admin::LocalAdmin::new(Arc::clone(&self.shared))))
    }
}

/// What all handles, consumers, producers and admin clients share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told after every change that somebody may wait for.
    changed: Condvar,
    checksum: Checksum,
    /// Part of every topic's id, so that two brokers' topics differ.
    broker_id: u64,
    faults: Option<Arc<dyn Faults>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens under the lock, or the state is in doubt")
    }

    /// Waits up to `wait` while `condition` holds.
    fn wait_while<'a>(
        &'a self,
        guard: MutexGuard<'a, State>,
        wait: Duration,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout_while(guard, wait, |state| condition(state));
        waited.expect("no panic happens under the lock, or the state is in doubt").0
    }

    /// Fails where a simulation wants it.
    fn strike(&self, step: Step) -> Result<(), Error> {
        match self.faults.as_ref().and_then(|faults| faults.strike(step)) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}
