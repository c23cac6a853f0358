//! Stream-global-table join: each row of the stream looks up the row that it refers to (Kafka Streams' `KStreamGlobalKTableJoin`;
//! only the stream side triggers, and the time of neither side plays a part).

use crate::base::value::Value;
use crate::operator::{DropReason, Error, Evaluator, Joined, RecordContext, Row, key_bytes};
use crate::plan::GlobalJoin;
use crate::store::StoreIndex;
use crate::store::global::GlobalStores;

/// Joins `row` with the global table's row that it refers to and writes the result's fields into `out`.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
pub fn join_global(
    node: &GlobalJoin,
    row: &Row<'_>,
    context: &RecordContext,
    stores: &GlobalStores,
    evaluator: &mut Evaluator,
    out: &mut Vec<Value>,
) -> Result<Joined, Error> {
    let (Some(fields), Some(refers_to)) = (node.fields.get(row.layout), node.refers_to.get(row.layout)) else {
        return Ok(Joined::NoMatch);
    };
    if row.slots.is_none() {
        return Ok(Joined::Dropped(DropReason::NullValue));
    }
    let key = evaluator.eval(refers_to, row, &[], context)?;
    let right = if key.is_null() {
        None
    } else {
        let mut bytes = Vec::new();
        key_bytes(&key, &node.format, &mut bytes)?;
        stores.get(StoreIndex(node.table.0), &bytes)?
    };
    let absent;
    let other: &[Value] = match &right {
        Some(found) => &found.fields,
        None if node.kind.keeps_left() => {
            absent = vec![Value::Null; node.slots];
            &absent
        }
        None if key.is_null() => return Ok(Joined::Dropped(DropReason::NullKey)),
        None => return Ok(Joined::NoMatch),
    };
    out.clear();
    for field in fields {
        out.push(evaluator.eval(field, row, other, context)?);
    }
    Ok(Joined::Row)
}
