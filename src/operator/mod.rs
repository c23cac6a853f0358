//! L3: what nodes do with rows, as functions over the plan's nodes and the task's stores. No clock, no broker, no order of nodes:
//! the task walks the graph.

mod aggregate;
mod closing;
mod digest;
mod due;
mod eval;
mod foreign_join;
mod functions;
mod global_join;
mod held;
mod join;
mod scalar;
mod sessions;
mod sliding;
mod stream_join;
mod table;
mod table_join;
mod window;
mod writer;

pub use aggregate::{Changed, Folded, Folding, aggregate};
pub use closing::{
    Emitted, Swept, close_hops, expire_hops, schedule, span_of, split_window_key, sweep, updated, window_key,
};
pub use eval::Evaluator;
pub(crate) use eval::{key_bytes, key_value};
pub use foreign_join::{
    Referred, Response, Said, answer_subscriptions, join_response, join_unreferred, subscribe, take_subscription,
};
pub use functions::result_row;
pub use global_join::join_global;
pub use held::{HeldRow, Holding, Released, drop_held, hold, is_held, release};
pub use join::{Joined, Scanned, join, scan};
pub use scalar::{scalar_bytes, scalar_value};
pub use stream_join::{JoinedRow, Met, SideTimes, SweptJoin, Tidying, join_alone, join_streams, sweep_join, tidy_up};
pub use table::{ExpiredRow, Upserted, expire, index_expiry, upsert, upsert_expiring, upsert_versioned};
pub use table_join::{TableChange, join_tables};
pub use window::{Hops, WindowSpan};
pub use writer::{KeyWriter, RowWriter, SINGLE_OBJECT_MARKER};

use crate::base::ids::{Offset, Partition, Topic};
use crate::base::record::Headers;
use crate::base::time::Timestamp;
use crate::base::value::{Text, Value};
use crate::error::Kind;
use crate::plan::{KeyFormat, LayoutId};
use crate::store;

/// A row on its way through the graph.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Bare key bytes; the base key of a windowed row.
    pub key: Option<&'a [u8]>,
    pub key_format: &'a KeyFormat,
    pub layout: LayoutId,
    /// None is a deletion.
    pub slots: Option<&'a [Value]>,
    pub timestamp: Timestamp,
    pub window: Option<WindowSpan>,
    /// What it replaces; set by a table for what reads the table itself, and of no meaning elsewhere.
    pub previous: Option<&'a [Value]>,
    /// The newest of its key: false for a row that a versioned table took out of order.
    pub latest: bool,
}

/// The source record that set a traversal off.
#[derive(Clone, Debug)]
pub struct RecordContext {
    pub topic: Topic,
    pub partition: Partition,
    pub offset: Offset,
    /// The record's own timestamp, or the one that the topology took from its value.
    pub timestamp: Timestamp,
    /// Full name of the record type.
    pub type_name: Text,
    pub schema_id: Option<u32>,
    pub headers: Headers,
}

impl RecordContext {
    /// Returns the context of what comes because time has moved: no record is behind it, so it has no record's headers.
    #[must_use]
    pub fn of_time(&self) -> Self {
        Self { headers: Headers::default(), ..self.clone() }
    }
}

/// Why a row went no further. Each is counted by node and reason; the set is closed, so that metrics stay bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    NullKey,
    NullValue,
    /// For a window that is closed, or a version older than the table keeps.
    Late,
    /// The topic carries a record type that the topology does not read.
    UndeclaredType,
    /// The bytes could not be decoded, and the topology says to skip or to set aside.
    Decode,
    /// A node failed on the record, and the topology says to skip or to set aside.
    Process,
    /// Dated further ahead of the clock than `max_future`.
    Future,
    /// The row, or the record with its reason, is larger than its topic takes.
    TooLarge,
    /// The row cannot be written: null where its schema has no null, or its topic is gone or not ours to write to.
    Produce,
    /// Its id has come before, within the span that ids are remembered for.
    Duplicate,
}

impl DropReason {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::NullKey,
        Self::NullValue,
        Self::Late,
        Self::UndeclaredType,
        Self::Decode,
        Self::Process,
        Self::Future,
        Self::TooLarge,
        Self::Produce,
        Self::Duplicate,
    ];

    /// Returns the metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NullKey => "null_key",
            Self::NullValue => "null_value",
            Self::Late => "late",
            Self::UndeclaredType => "undeclared_type",
            Self::Decode => "decode",
            Self::Process => "process",
            Self::Future => "future",
            Self::TooLarge => "too_large",
            Self::Produce => "produce",
            Self::Duplicate => "duplicate",
        }
    }
}

/// What stopped a row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This record cannot be worked on; the node's `on_error.process` decides.
    #[error("{message}")]
    Record { message: String },
    /// A row of it cannot be written; the node's `on_error.produce` decides.
    #[error("{message}")]
    Produce { reason: DropReason, message: String },
    /// A row that stands by itself failed, and its task is to stop, whatever the record at hand says.
    #[error("{message}")]
    Stop { message: String },
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    /// A row that its changelog does not take is the record's fault, not the store's.
    fn from(error: store::Error) -> Self {
        match error.kind() {
            Kind::Record => Self::Record { message: error.to_string() },
            Kind::Config | Kind::Retry | Kind::Fenced | Kind::Corrupt | Kind::Bug => Self::Store(error),
        }
    }
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Record { .. } | Self::Produce { .. } | Self::Stop { .. } => Kind::Record,
            Self::Store(error) => error.kind(),
        }
    }
}
