//! Applies an event to its entity: the state after it, the version it makes, the row that keeps it.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::ids::Offset;
use crate::base::record::Headers;
use crate::base::time::Timestamp;
use crate::base::value::{Text, Value};
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{ENTITY_SYSTEM_FIELDS, Entity, HISTORY_SYSTEM_FIELDS, History, Keep};
use crate::store::{self, StoreIndex, TaskStores, keys};

/// The offset of an event that is not written yet.
pub const OFFSET_UNKNOWN: Offset = Offset(-1);

/// Where `_offset` stands in a history row.
const OFFSET_FIELD: usize = 2;

/// When an event is applied, beside its own timestamp.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Running maximum of record timestamps over the task's processed input, this event's included.
    pub recorded: Timestamp,
    /// The wall clock.
    pub processed: Timestamp,
}

/// What an event did.
#[derive(Debug)]
pub enum Applied {
    /// The entity has no rule for this event type.
    Untouched,
    Dropped(DropReason),
    /// The entity's row: its version, then the state's fields.
    Version(Arc<[Value]>),
}

/// Applies the event in `row` to its entity.
///
/// # Errors
/// A rule that cannot be evaluated: of the record. The store's own.
pub fn apply(
    node: &Entity,
    row: &Row<'_>,
    context: &RecordContext,
    moment: Moment,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
) -> Result<Applied, Error> {
    let Some(rules) = node.apply.get(row.layout) else { return Ok(Applied::Untouched) };
    let Some(key) = row.key else { return Ok(Applied::Dropped(DropReason::NullKey)) };
    if row.slots.is_none() {
        return Ok(Applied::Dropped(DropReason::NullValue));
    }
    let store = StoreIndex(node.store.0);
    let known = stores.get(store, key)?;
    let system = ENTITY_SYSTEM_FIELDS.len();
    let mut fields: Arc<[Value]> = match &known {
        Some(known) => Arc::from(&*known.fields),
        None => std::iter::once(Value::Int(0)).chain(node.initial.iter().cloned()).collect(),
    };
    let slots = Arc::get_mut(&mut fields).expect("the row was copied just above");
    for (field, expression) in rules {
        // Every rule sees the state before the event, whatever their order.
        let before = known.as_ref().map_or(node.initial.as_slice(), |known| &known.fields[system..]);
        slots[system + field] = evaluator.eval(expression, row, before, context)?;
    }
    let version = slots[0].as_int().unwrap_or(0) + 1;
    slots[0] = Value::Int(version);
    let timestamp = known.as_ref().map_or(row.timestamp, |known| known.timestamp.max(row.timestamp));
    stores.put(store, key, Some(store::Row { timestamp, fields: Arc::clone(&fields) }))?;
    if let Some(history) = &node.history {
        let version = version.unsigned_abs();
        let kept = history_row(history, &fields[system..], row, context, moment);
        stores.put(
            StoreIndex(history.store.0),
            &keys::history(key, version),
            Some(store::Row { timestamp: row.timestamp, fields: kept }),
        )?;
        trim(history, key, version, moment.recorded, stores)?;
    }
    Ok(Applied::Version(fields))
}

fn history_row(
    history: &History,
    state: &[Value],
    row: &Row<'_>,
    context: &RecordContext,
    moment: Moment,
) -> Arc<[Value]> {
    let time = |timestamp: Timestamp| Value::DateTime(timestamp.to_date_time());
    let system: [Value; HISTORY_SYSTEM_FIELDS.len()] = [
        Value::text(context.topic.as_str()),
        Value::Int(i64::from(context.partition.0)),
        Value::Int(context.offset.0),
        Value::String(context.type_name.clone()),
        context.schema_id.map_or(Value::Null, |id| Value::Int(i64::from(id))),
        time(row.timestamp),
        time(moment.recorded),
        time(moment.processed),
        listed(&history.headers, &context.headers),
    ];
    system.into_iter().chain(state.iter().cloned()).collect()
}

/// Where an event that was applied before it was written is found to stand: its version says it from here on.
///
/// # Errors
/// The store's.
pub fn set_offset(
    history: &History,
    key: &[u8],
    version: u64,
    offset: Offset,
    stores: &mut TaskStores,
) -> Result<(), Error> {
    let (store, key) = (StoreIndex(history.store.0), keys::history(key, version));
    let Some(mut row) = stores.get(store, &key)? else { return Ok(()) };
    if row.fields[OFFSET_FIELD] == Value::Int(OFFSET_UNKNOWN.0) {
        let mut fields = row.fields.to_vec();
        fields[OFFSET_FIELD] = Value::Int(offset.0);
        row.fields = fields.into();
        stores.put(store, &key, Some(row))?;
    }
    Ok(())
}

fn listed(names: &[Text], headers: &Headers) -> Value {
    let mut entries: Vec<(Value, Value)> = names
        .iter()
        .filter_map(|name| {
            let bytes = headers.last(name)?.value.as_ref()?;
            Some((Value::String(name.clone()), Value::Bytes(Arc::from(&**bytes))))
        })
        .collect();
    entries.sort_by(|(a, _), (b, _)| a.order(b));
    Value::Map(entries.into())
}

/// Deletes at most two versions that are recorded longer ago than is kept: more go with the events that follow.
fn trim(history: &History, key: &[u8], newest: u64, recorded: Timestamp, stores: &mut TaskStores) -> Result<(), Error> {
    let Keep::For(span) = history.keep else { return Ok(()) };
    let store = StoreIndex(history.store.0);
    let mut old = Vec::new();
    stores.range(store, &keys::history(key, 0), Some(&keys::history(key, newest)), &mut |store_key, row| {
        let is_old = matches!(&row.fields[6], Value::DateTime(at) if at.to_timestamp() < recorded.saturating_sub(span));
        if is_old {
            old.push(store_key.to_vec());
        }
        if is_old && old.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for store_key in old {
        stores.put(store, &store_key, None)?;
    }
    Ok(())
}
