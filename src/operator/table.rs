//! Tables: the newest row per key, or every version of it. Nothing goes on that changes nothing (D6).

use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::operator::{DropReason, Error, Row};
use crate::plan::StoreRef;
use crate::store::versioned::{Put, Versioned};
use crate::store::{self, StoreIndex, TaskStores};

/// What a row did to a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Upserted {
    /// With what it replaced.
    Changed(Option<Arc<[Value]>>),
    /// A version was put in front of a newer one.
    OutOfOrder,
    Unchanged,
    Dropped(DropReason),
}

/// Puts `row` under its key; a deletion deletes. Applied in offset order, whatever the timestamps (Kafka Streams' `KTableSource`).
///
/// # Errors
/// The store's.
pub fn upsert(store: StoreRef, row: &Row<'_>, stores: &mut TaskStores) -> Result<Upserted, Error> {
    let Some(key) = row.key else { return Ok(Upserted::Dropped(DropReason::NullKey)) };
    let store = StoreIndex(store.0);
    let known = stores.get(store, key)?;
    match (&known, row.slots) {
        (None, None) => return Ok(Upserted::Unchanged),
        (Some(known), Some(slots)) if *known.fields == *slots => return Ok(Upserted::Unchanged),
        _ => {}
    }
    stores.put(store, key, row.slots.map(|slots| store::Row { timestamp: row.timestamp, fields: Arc::from(slots) }))?;
    Ok(Upserted::Changed(known.map(|known| known.fields)))
}

/// Puts `row` as the version of its key at its timestamp; a deletion is a version, too. A version older than the retention
/// behind the newest timestamp seen (`observed`) is late (Kafka Streams' versioned store).
///
/// # Errors
/// The store's.
pub fn upsert_versioned(
    store: StoreRef,
    retention: SpanMs,
    observed: Timestamp,
    row: &Row<'_>,
    stores: &mut TaskStores,
) -> Result<Upserted, Error> {
    let Some(key) = row.key else { return Ok(Upserted::Dropped(DropReason::NullKey)) };
    let versions = Versioned { index: StoreIndex(store.0), history: retention };
    let before = versions.latest(stores, key)?.map(|row| row.fields);
    match versions.put(stores, key, row.timestamp, row.slots.map(Arc::from), observed)? {
        Put::Expired => Ok(Upserted::Dropped(DropReason::Late)),
        Put::Latest => Ok(Upserted::Changed(before)),
        Put::OutOfOrder { .. } => Ok(Upserted::OutOfOrder),
    }
}
