//! Rows that are held until a time comes: results that are suppressed, timers, ids that were seen, rows that wait for a table.
//!
//! A held row has when it is due and whether it is a deletion in front of its fields; the index of what is due has an entry for it, in
//! order of time, then of its key.

use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::limits::WINDOW_CLOSE_ROWS_MAX;
use crate::operator::Error;
use crate::operator::due::{self, Due};
use crate::plan::{HELD_SYSTEM_FIELDS, Held};
use crate::store::{Row, StoreIndex, TaskStores};

/// A row that was held.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldRow {
    /// What it was held under.
    pub what: Vec<u8>,
    /// When it was due.
    pub due: Timestamp,
    pub timestamp: Timestamp,
    /// None is a deletion.
    pub fields: Option<Arc<[Value]>>,
    /// As [`Holding::bytes`].
    pub bytes: u64,
}

/// What a look at the front found.
#[derive(Debug)]
pub struct Released {
    pub rows: Vec<HeldRow>,
    /// When something is due again, at once where the look stopped at its bound; none when nothing is.
    pub next: Option<Timestamp>,
}

/// What holding a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// When it is due; none where something was held under its name, and kept its time.
    pub due: Option<Timestamp>,
    /// How many bytes what is held has now, and had before.
    pub bytes: u64,
    pub bytes_before: u64,
}

/// Bytes that a row takes, as far as bounds count them: its name and the values of its fields.
fn bytes_of(what: &[u8], fields: &[Value]) -> u64 {
    (what.len() + fields.iter().map(value_bytes).sum::<usize>()) as u64
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => 8,
        Value::DateTime(_) | Value::TimeDelta(_) => 12,
        Value::Decimal(_) => 20,
        Value::String(text) => 4 + text.len(),
        Value::Bytes(bytes) => 4 + bytes.len(),
        Value::List(items) | Value::Record(items) => 4 + items.iter().map(value_bytes).sum::<usize>(),
        Value::Map(entries) => {
            4 + entries.iter().map(|(key, value)| value_bytes(key) + value_bytes(value)).sum::<usize>()
        }
        Value::Union(tagged) => 4 + value_bytes(&tagged.1),
    }
}

/// Holds a row under `what` until `due`. One that is held already keeps its time and gets the new fields.
///
/// # Errors
/// The store's.
pub fn hold(
    held: &Held,
    what: &[u8],
    due: Timestamp,
    timestamp: Timestamp,
    fields: Option<&[Value]>,
    stores: &mut TaskStores,
) -> Result<Holding, Error> {
    let store = StoreIndex(held.store.0);
    let before = stores.get(store, what)?;
    let bytes_before = before.as_ref().map_or(0, |row| bytes_of(what, &row.fields));
    let known = before.and_then(|row| row.fields[0].as_int());
    let system = [Value::Int(known.unwrap_or(due.0)), Value::Bool(fields.is_none())];
    let nothing = vec![Value::Null; held.slots];
    let fields: Arc<[Value]> = system.into_iter().chain(fields.unwrap_or(&nothing).iter().cloned()).collect();
    let bytes = bytes_of(what, &fields);
    stores.put(store, what, Some(Row { timestamp, fields }))?;
    if known.is_some() {
        return Ok(Holding { due: None, bytes, bytes_before });
    }
    due::put(stores, held.due, &Due { at: due, what: what.to_vec(), done: false })?;
    Ok(Holding { due: Some(due), bytes, bytes_before })
}

/// Tells whether something is held under `what`, and since when.
///
/// # Errors
/// The store's.
pub fn is_held(held: &Held, what: &[u8], stores: &mut TaskStores) -> Result<Option<Timestamp>, Error> {
    Ok(stores.get(StoreIndex(held.store.0), what)?.map(|row| row.timestamp))
}

/// Lets go of what is held under `what`, and of its time; tells whether there was anything.
///
/// # Errors
/// The store's.
pub fn drop_held(held: &Held, what: &[u8], stores: &mut TaskStores) -> Result<bool, Error> {
    let store = StoreIndex(held.store.0);
    let Some(row) = stores.get(store, what)? else { return Ok(false) };
    let at = Timestamp(row.fields[0].as_int().unwrap_or_default());
    stores.put(store, what, None)?;
    due::remove(stores, held.due, &Due { at, what: what.to_vec(), done: false })?;
    Ok(true)
}

/// Takes out what is due at `time`, in order; with `most`, so many at most, whenever they are due. Nothing is due before `from`. At
/// most [`WINDOW_CLOSE_ROWS_MAX`] a call: call again while `next` is not after `time`.
///
/// # Errors
/// The store's.
pub fn release(
    held: &Held,
    from: Timestamp,
    time: Timestamp,
    most: Option<usize>,
    stores: &mut TaskStores,
) -> Result<Released, Error> {
    let most = most.unwrap_or(WINDOW_CLOSE_ROWS_MAX).min(WINDOW_CLOSE_ROWS_MAX);
    let (entries, next) = due::until(stores, held.due, from, time, most)?;
    let store = StoreIndex(held.store.0);
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        due::remove(stores, held.due, &entry)?;
        let Some(row) = stores.get(store, &entry.what)? else { continue };
        stores.put(store, &entry.what, None)?;
        let bytes = bytes_of(&entry.what, &row.fields);
        let deleted = row.fields[1] == Value::Bool(true);
        let fields = (!deleted).then(|| row.fields[HELD_SYSTEM_FIELDS.len()..].into());
        rows.push(HeldRow { what: entry.what, due: entry.at, timestamp: row.timestamp, fields, bytes });
    }
    Ok(Released { rows, next })
}
