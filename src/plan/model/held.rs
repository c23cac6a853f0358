//! Nodes that hold rows until a time comes.

use super::{Clock, Expression, LayoutId, Lookup, PerLayout, StoreRef, SuppressBounds, SuppressUntil};
use crate::base::time::SpanMs;

/// Rows that are held until a time comes. A row in the store has [`HELD_SYSTEM_FIELDS`] first.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub store: StoreRef,
    pub due: StoreRef,
    /// Without the system's own.
    pub slots: usize,
}

/// Fields in front of a row that is held: when it is due, and whether it is a deletion.
pub const HELD_SYSTEM_FIELDS: [&str; 2] = ["_due", "_deleted"];

/// Fields behind those of a row that a timer holds: what it keeps of the record that set it.
pub const TIMER_SYSTEM_FIELDS: [&str; 2] = ["_id", "_correlationid"];

/// Holds a table's changes back, and lets the last one of a while through.
#[derive(Debug)]
pub struct Suppress {
    pub held: Held,
    pub until: SuppressUntil,
    pub bounds: SuppressBounds,
    pub layout: LayoutId,
}

/// Passes the first row of each id, and no other within a span of time.
#[derive(Debug)]
pub struct Dedupe {
    pub held: Held,
    pub id: PerLayout<Expression>,
    pub within: SpanMs,
}

/// Gives a row some time after it came, unless another of its key comes to cancel it.
#[derive(Debug)]
pub struct Timer {
    pub held: Held,
    pub after: SpanMs,
    pub clock: Clock,
    pub fields: PerLayout<Vec<Expression>>,
    pub layout: LayoutId,
}

/// Rows of a table that go some time after their last change.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// When to look at which key.
    pub due: StoreRef,
    pub ttl: SpanMs,
}

/// Goes through a table again and again, and gives rows.
#[derive(Debug)]
pub struct Punctuate {
    pub table: Lookup,
    pub every: SpanMs,
    pub clock: Clock,
    pub filter: Option<Expression>,
    pub fields: Vec<Expression>,
    /// Of the table's rows.
    pub row: LayoutId,
    pub layout: LayoutId,
}
