//! L3: the state of one task: rows by key, decoded in a write-back cache, encoded once per commit, at rest in a key-value engine.
//!
//! ```text
//!  get/put ─► entries (decoded; open and sealed generation, clean cache)
//!                 │ seal: encode, hand to the changelog      confirm: the commit stands
//!                 ▼
//!             committed overlay (encoded, sorted only when written)
//!                 │ write_behind: one sorted batch, with changelog positions and meta
//!                 ▼
//!             backend (RocksDB, memory)
//! ```
//!
//! Invariants: what is at rest is the fold of each store's changelog up to the position in the same atomic write; nothing
//! uncommitted ever reaches the backend; a scan sees every level, a deletion hides the levels below it.
//!
//! Not here: who writes the changelog and when to commit (`task`), what rows mean (`operator`), clocks and threads.

mod backend;
mod behind;
mod cache;
mod committed;
pub mod format;
pub mod global;
pub mod inspect;
pub mod keys;
pub mod memory;
pub mod restore;
pub mod rocks;
mod run;
mod scan;
mod stats;
mod stores;
#[cfg(test)]
mod tests;
mod undo;
pub mod versioned;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::avro;
use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::error::{Code, Kind, codes};

pub use backend::{Backend, BackendNumbers, Backends, Batch, BatchOp, Visit};
pub use behind::Written;
pub use scan::{VisitKey, VisitRow};
pub use stats::{Stats, StoreCounters, StoresBudget};
pub use stores::{SealSink, TaskStores};

/// One store of a task: its name, the shape of its rows, how it is used.
#[derive(Clone, Debug)]
pub struct StoreSpec {
    /// The name in the topology; it finds the rows again after a restart, so renaming a store empties it.
    pub name: Arc<str>,
    /// The row's record schema; its fields are the row's slots, in order.
    pub row: avro::Schema,
    pub access: Access,
}

/// What a store is optimised for. All three answer every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads and writes by key. A range scan sorts the uncommitted and not yet written keys first.
    Cached,
    /// Reads and writes by key, and range scans without sorting: windows, timers, versions.
    Ordered,
    /// Keys are written once or twice, encoded at once, and every write reaches the changelog: history, rows that wait for a join. Rows are not
    /// cached.
    Append,
}

/// A row and the time that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub timestamp: Timestamp,
    /// One value per field of the store's row schema; empty for a marker that carries only its time.
    pub fields: Arc<[Value]>,
}

impl Row {
    /// Makes a row from its values.
    pub fn new(timestamp: Timestamp, fields: impl Into<Arc<[Value]>>) -> Self {
        Self { timestamp, fields: fields.into() }
    }

    /// Returns the bytes the row occupies decoded, roughly: what a bounded cache counts.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.fields.iter().map(Value::size_bytes).sum::<usize>()
    }
}

/// A store's place in the list that [`TaskStores::open`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreIndex(pub u16);

impl StoreIndex {
    /// Returns the number as an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// How far a store has folded its changelog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangelogPosition {
    /// The topic's incarnation, where the broker tells it.
    pub topic_id: Option<String>,
    /// The next offset to read.
    pub offset: Offset,
}

/// Why a local store was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetAsideReason {
    /// The changelog topic was deleted and made anew.
    TopicReplaced,
    /// The position is beyond the changelog's end.
    BeyondEnd,
    /// The position is before the changelog's first record.
    BelowLogStart,
    /// The last durable write is so old that tombstones may have been missed, or nobody knows how old it is.
    TooOld,
    /// The bytes are damaged.
    Corrupt,
}

impl SetAsideReason {
    /// All reasons, in the order of [`StoreCounters::set_aside`].
    pub const ALL: [Self; 5] = [Self::TopicReplaced, Self::BeyondEnd, Self::BelowLogStart, Self::TooOld, Self::Corrupt];

    /// Returns the place in [`SetAsideReason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns the name that metrics and logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TopicReplaced => "topic_replaced",
            Self::BeyondEnd => "beyond_end",
            Self::BelowLogStart => "below_log_start",
            Self::TooOld => "too_old",
            Self::Corrupt => "corrupt",
        }
    }
}

impl fmt::Display for SetAsideReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with the state, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the {what} has format {found}, this version of tidemill reads up to {known}")]
    NewerFormat { what: &'static str, found: u8, known: u8 },
    #[error("the state belongs to application `{found}`, this is `{expected}`")]
    OtherApplication { found: String, expected: String },
    #[error("another process has the state folder `{path}` open")]
    Locked { path: String },
    #[error("the state is damaged: {message}")]
    Corrupt { message: String },
    #[error("the state cannot be read or written: {message}")]
    Io { message: String },
    /// A difference is said by field, as Avro's resolution sees it: older rows were written, today's schema reads.
    #[error("store `{store}` has rows (schema number {number}) that the topology of today cannot take over: {}", joined(.problems))]
    RowUnreadable { store: Arc<str>, number: u32, problems: Vec<avro::Incompatibility> },
    #[error("a row does not fit the schema of store `{store}`")]
    RowInvalid {
        store: Arc<str>,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    #[error("a row of {size_bytes} bytes is larger than the {max_bytes} that the changelog of store `{store}` takes")]
    RowTooLarge { store: Arc<str>, size_bytes: usize, max_bytes: usize },
}

fn joined(problems: &[avro::Incompatibility]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NewerFormat { .. } | Self::OtherApplication { .. } | Self::RowUnreadable { .. } => Kind::Config,
            Self::Locked { .. } | Self::Io { .. } => Kind::Retry,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::RowTooLarge { .. } => Kind::Record,
            Self::RowInvalid { .. } => Kind::Bug,
        }
    }

    /// Returns the code of the page that helps.
    pub fn code(&self) -> Code {
        match self {
            Self::NewerFormat { .. } => codes::STATE_NEWER_FORMAT,
            Self::OtherApplication { .. } => codes::STATE_OTHER_APPLICATION,
            Self::Locked { .. } => codes::STATE_LOCKED,
            Self::Corrupt { .. } => codes::STATE_CORRUPT,
            Self::Io { .. } => codes::STATE_IO,
            Self::RowUnreadable { .. } => codes::ROW_UNREADABLE,
            Self::RowInvalid { .. } => codes::ROW_INVALID,
            Self::RowTooLarge { .. } => codes::ROW_TOO_LARGE,
        }
    }
}
