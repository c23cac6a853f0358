//! Joins, and what a table's change looks like.

use super::{
    Expression, GlobalRef, Held, JoinKind, JoinWindow, KeyFormat, LayoutId, NodeIndex, PerLayout, ResultField, StoreRef,
};
use crate::base::time::SpanMs;

/// Looks up a table's row for each row of a stream.
#[derive(Debug)]
pub struct StreamTableJoin {
    pub kind: JoinKind,
    /// Rows wait this long by stream time, for versions of the table that come late.
    pub grace: Option<(SpanMs, Held)>,
    pub table: Lookup,
    /// By the left row's layout; `ROW` is the left row, `OTHER` the right one (all null when there is none).
    pub fields: PerLayout<Vec<Expression>>,
    pub layout: LayoutId,
}

/// Looks up a global table's row for each row of a stream.
#[derive(Debug)]
pub struct GlobalJoin {
    pub kind: JoinKind,
    pub table: GlobalRef,
    /// How many slots the row has that is found.
    pub slots: usize,
    /// Which row is looked up, by the left row's layout; null looks up none.
    pub refers_to: PerLayout<Expression>,
    pub format: KeyFormat,
    /// As of [`StreamTableJoin`].
    pub fields: PerLayout<Vec<Expression>>,
    pub layout: LayoutId,
}

/// A store that rows are looked up in by their key.
#[derive(Debug)]
pub struct Lookup {
    pub store: StoreRef,
    /// As of the row's timestamp.
    pub versioned: Option<VersionedLookup>,
    pub view: RowView,
    /// How many slots the row has that is found.
    pub slots: usize,
}

/// How far back a versioned table can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionedLookup {
    pub retention: SpanMs,
    /// The table, whose time it counts from.
    pub table: NodeIndex,
}

/// How a store's row becomes the row that others see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowView {
    Whole,
    /// An aggregate's state becomes its result.
    Results(Vec<ResultField>),
    /// From this slot on: the system's own fields stand in front.
    From(usize),
}

/// Brings rows of two streams together that are near in time.
#[derive(Debug)]
pub struct StreamJoin {
    pub kind: JoinKind,
    pub window: JoinWindow,
    pub left: JoinSide,
    pub right: JoinSide,
    /// When to look at which row of either side: has it met nobody, is it kept no longer.
    pub due: StoreRef,
    /// `ROW` is the left row, `OTHER` the right one; all null when there is none.
    pub fields: Vec<Expression>,
    pub layout: LayoutId,
}

/// One side of a join of streams. A row in its store has [`JOIN_SYSTEM_FIELDS`] first.
#[derive(Clone, Copy, Debug)]
pub struct JoinSide {
    pub store: StoreRef,
    /// Without the system's own.
    pub slots: usize,
    /// The store of a table that keeps every version.
    pub versioned: bool,
}

/// Fields in front of a table's change: whether there is an old row, and a new one.
pub const CHANGE_SYSTEM_FIELDS: [&str; 2] = ["_old", "_new"];

/// Fields in front of a row that a join of streams keeps: whether it has met another.
pub const JOIN_SYSTEM_FIELDS: [&str; 1] = ["_matched"];

/// Brings the newest rows of two tables together.
#[derive(Debug)]
pub struct TableJoin {
    pub kind: JoinKind,
    pub left: JoinSide,
    pub right: JoinSide,
    /// `ROW` is the left row, `OTHER` the right one; all null when there is none.
    pub fields: Vec<Expression>,
    pub layout: LayoutId,
}
