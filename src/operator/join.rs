//! Stream-table join: each row of the stream looks up its key in the table, now or as of its own timestamp
//! (Kafka Streams' `KStreamKTableJoinProcessor`; only the stream side triggers).

use crate::base::time::SpanMs;
use crate::base::value::Value;
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{JoinKind, StreamTableJoin};
use crate::store::versioned::Versioned;
use crate::store::{StoreIndex, TaskStores};

/// What became of a stream's row.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// The joined row was written to `out`.
    Row,
    /// An inner join found nothing.
    NoMatch,
    Dropped(DropReason),
}

/// Joins `row` with its table's row and writes the result's fields into `out`.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
pub fn join(
    node: &StreamTableJoin,
    row: &Row<'_>,
    context: &RecordContext,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
    out: &mut Vec<Value>,
) -> Result<Joined, Error> {
    let Some(fields) = node.fields.get(row.layout) else { return Ok(Joined::NoMatch) };
    if row.slots.is_none() {
        return Ok(Joined::Dropped(DropReason::NullValue));
    }
    let store = StoreIndex(node.table.0);
    let right = match row.key {
        None => None,
        // The table trims what is too old; whatever it still has is the answer.
        Some(key) if node.versioned => {
            Versioned { index: store, history: SpanMs(i64::MAX) }.as_of(stores, key, row.timestamp, row.timestamp)?
        }
        Some(key) => stores.get(store, key)?,
    };
    let absent;
    let other: &[Value] = match (&right, node.kind) {
        (Some(found), _) => &found.fields,
        (None, JoinKind::Left) => {
            absent = vec![Value::Null; node.right_slots];
            &absent
        }
        (None, JoinKind::Inner) if row.key.is_none() => return Ok(Joined::Dropped(DropReason::NullKey)),
        (None, JoinKind::Inner) => return Ok(Joined::NoMatch),
    };
    out.clear();
    for field in fields {
        out.push(evaluator.eval(field, row, other, context)?);
    }
    Ok(Joined::Row)
}
