//! Table-table join: the newest rows of two tables under one key; a change of either side changes the result.
//!
//! Rules are Kafka Streams' (`KTableKTableInnerJoin`, `…LeftJoin`, `…OuterJoin`) but for D6: nothing goes on that changes no result, no
//! deletion of what was never there.

use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{Input, TableJoin};
use crate::store::versioned::Versioned;
use crate::store::{StoreIndex, TaskStores};

/// What a change of one side does to the result.
#[derive(Debug, PartialEq)]
pub enum TableChange {
    Unchanged,
    Dropped(DropReason),
    /// The result's row; none deletes it. Its time is the later one of both sides.
    Changed {
        row: Option<Vec<Value>>,
        previous: Option<Vec<Value>>,
        timestamp: Timestamp,
    },
}

/// Joins a row that has just been put into the table of its side.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
pub fn join_tables(
    node: &TableJoin,
    side: Input,
    row: &Row<'_>,
    context: &RecordContext,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
) -> Result<TableChange, Error> {
    let Some(key) = row.key else { return Ok(TableChange::Dropped(DropReason::NullKey)) };
    let other = match side {
        Input::Left => &node.right,
        Input::Right => &node.left,
    };
    // What came out of order into a versioned table changes nothing of today.
    if !row.latest {
        return Ok(TableChange::Unchanged);
    }
    let index = StoreIndex(other.store.0);
    let other = if other.versioned {
        Versioned { index, history: SpanMs(i64::MAX) }.latest(stores, key)?
    } else {
        stores.get(index, key)?
    };
    let timestamp = other.as_ref().map_or(row.timestamp, |other| other.timestamp.max(row.timestamp));
    let other = other.map(|other| other.fields);
    let mut joined = |own: Option<&[Value]>| -> Result<Option<Vec<Value>>, Error> {
        let other = other.as_deref();
        let (left, right) = if side == Input::Left { (own, other) } else { (other, own) };
        pair(node, left, right, row, context, evaluator)
    };
    let (now, before) = (joined(row.slots)?, joined(row.previous)?);
    if now == before {
        return Ok(TableChange::Unchanged);
    }
    Ok(TableChange::Changed { row: now, previous: before, timestamp })
}

/// The result of two rows, if there is one.
fn pair(
    node: &TableJoin,
    left: Option<&[Value]>,
    right: Option<&[Value]>,
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Option<Vec<Value>>, Error> {
    let there = match (left, right) {
        (Some(_), Some(_)) => true,
        (Some(_), None) => node.kind.keeps_left(),
        (None, Some(_)) => node.kind.keeps_right(),
        (None, None) => false,
    };
    if !there {
        return Ok(None);
    }
    let nothing = |slots: usize| Arc::<[Value]>::from(vec![Value::Null; slots]);
    let (no_left, no_right) = (nothing(node.left.slots), nothing(node.right.slots));
    let row = Row { slots: Some(left.unwrap_or(&no_left)), ..*row };
    let other = right.unwrap_or(&no_right);
    node.fields.iter().map(|field| evaluator.eval(field, &row, other, context)).collect::<Result<_, _>>().map(Some)
}
