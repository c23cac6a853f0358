//! Stream-table join: each row of the stream looks up its key in the table, now or as of its own timestamp
//! (Kafka Streams' `KStreamKTableJoinProcessor`; only the stream side triggers).

use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::functions::shown_results;
use crate::operator::table::{Page, page};
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{Lookup, RowView, StreamTableJoin};
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

/// Joins `row` with its table's row (`table_time` is the table's own, where it keeps versions) and writes the result's fields into `out`.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
pub fn join(
    node: &StreamTableJoin,
    row: &Row<'_>,
    table_time: Timestamp,
    context: &RecordContext,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
    out: &mut Vec<Value>,
) -> Result<Joined, Error> {
    let Some(fields) = node.fields.get(row.layout) else { return Ok(Joined::NoMatch) };
    if row.slots.is_none() {
        return Ok(Joined::Dropped(DropReason::NullValue));
    }
    let right = match row.key {
        None => None,
        Some(key) => look_up(&node.table, key, row.timestamp, table_time, stores)?,
    };
    let absent;
    let other: &[Value] = match &right {
        Some(found) => found,
        None if node.kind.keeps_left() => {
            absent = vec![Value::Null; node.table.slots];
            &absent
        }
        None if row.key.is_none() => return Ok(Joined::Dropped(DropReason::NullKey)),
        None => return Ok(Joined::NoMatch),
    };
    out.clear();
    for field in fields {
        out.push(evaluator.eval(field, row, other, context)?);
    }
    Ok(Joined::Row)
}

/// Returns the row that others see of a store under a key.
fn look_up(
    table: &Lookup,
    key: &[u8],
    at: Timestamp,
    table_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<Option<Arc<[Value]>>, Error> {
    let index = StoreIndex(table.store.0);
    let found = match table.versioned {
        Some(of) => Versioned { index, history: of.retention }.as_of(stores, key, at, table_time)?,
        None => stores.get(index, key)?,
    };
    Ok(found.map(|row| seen(&table.view, row.fields)))
}

/// What others see of a store's row.
fn seen(view: &RowView, fields: Arc<[Value]>) -> Arc<[Value]> {
    match view {
        RowView::Whole => fields,
        RowView::From(first) => fields[*first..].into(),
        RowView::Results(results) => {
            let mut shown = Vec::new();
            shown_results(results, &fields, &mut shown);
            shown.into()
        }
    }
}

/// Some rows of a table by key, `from` one on, as others see them; and where to go on, none at the end.
///
/// # Errors
/// The store's.
pub fn scan(table: &Lookup, from: &[u8], stores: &mut TaskStores) -> Result<Scanned, Error> {
    let Page { rows, next } = page(table.store, from, stores)?;
    let rows = rows.into_iter().map(|(key, row)| (key, seen(&table.view, row.fields))).collect();
    Ok(Scanned { rows, next })
}

/// A part of a table.
#[derive(Debug)]
pub struct Scanned {
    pub rows: Vec<(Vec<u8>, Arc<[Value]>)>,
    pub next: Option<Vec<u8>>,
}
