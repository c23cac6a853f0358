//! Tables: the newest row per key, or every version of it. Nothing goes on that changes nothing (D6).

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::limits::{SCAN_ROWS_MAX, WINDOW_CLOSE_ROWS_MAX};
use crate::operator::due::{self, Due};
use crate::operator::{DropReason, Error, Row};
use crate::plan::{Expiry, StoreRef};
use crate::store::versioned::{Put, Versioned};
use crate::store::{self, StoreIndex, TaskStores};

/// What a row did to a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Upserted {
    /// With what it replaced.
    Changed(Option<Arc<[Value]>>),
    /// A version was put in front of a newer one.
    OutOfOrder,
    /// It is older than rows of the table are kept; with what it replaced and so let go.
    Expired(Option<Arc<[Value]>>),
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

/// Puts `row` into a table whose rows go some time after their last change; `time` is the task's. A row that is older is put and gone
/// at once. Also says when a key is due to be looked at, where it was not before then.
///
/// # Errors
/// The store's.
pub fn upsert_expiring(
    store: StoreRef,
    expiry: &Expiry,
    time: Timestamp,
    row: &Row<'_>,
    stores: &mut TaskStores,
) -> Result<(Upserted, Option<Timestamp>), Error> {
    let Some(key) = row.key else { return Ok((Upserted::Dropped(DropReason::NullKey), None)) };
    let index = StoreIndex(store.0);
    let known = stores.get(index, key)?;
    let Some(slots) = row.slots else { return Ok((upsert(store, row, stores)?, None)) };
    let due = row.timestamp.saturating_add(expiry.ttl);
    if due <= time {
        stores.put(index, key, None)?;
        return Ok((Upserted::Expired(known.map(|known| known.fields)), None));
    }
    let same = known.as_ref().is_some_and(|known| *known.fields == *slots);
    let before = known.as_ref().map(|known| known.timestamp);
    if !same || before != Some(row.timestamp) {
        stores.put(index, key, Some(store::Row { timestamp: row.timestamp, fields: Arc::from(slots) }))?;
    }
    // One entry a key, at its row's time or before: who finds it early puts it back.
    let earlier = before.is_none_or(|before| row.timestamp < before);
    if earlier {
        due::put(stores, expiry.due, &Due { at: due, what: key.to_vec(), done: false })?;
    }
    let upserted = if same { Upserted::Unchanged } else { Upserted::Changed(known.map(|known| known.fields)) };
    Ok((upserted, earlier.then_some(due)))
}

/// A row that has been kept for as long as it may.
#[derive(Debug)]
pub struct ExpiredRow {
    pub key: Vec<u8>,
    pub fields: Arc<[Value]>,
    /// When it went.
    pub at: Timestamp,
}

/// Deletes rows that are due at `time`, in the order of their times; also says when one is due again, at once where the look stopped at
/// its bound.
///
/// # Errors
/// The store's.
pub fn expire(
    store: StoreRef,
    expiry: &Expiry,
    from: Timestamp,
    time: Timestamp,
    stores: &mut TaskStores,
) -> Result<(Vec<ExpiredRow>, Option<Timestamp>), Error> {
    let (entries, mut next) = due::until(stores, expiry.due, from, time, WINDOW_CLOSE_ROWS_MAX)?;
    let (index, mut rows) = (StoreIndex(store.0), Vec::new());
    for entry in entries {
        due::remove(stores, expiry.due, &entry)?;
        let Some(row) = stores.get(index, &entry.what)? else { continue };
        let at = row.timestamp.saturating_add(expiry.ttl);
        if at > time {
            due::put(stores, expiry.due, &Due { at, ..entry })?;
            next = Some(next.map_or(at, |next| next.min(at)));
            continue;
        }
        stores.put(index, &entry.what, None)?;
        rows.push(ExpiredRow { key: entry.what, fields: row.fields, at });
    }
    Ok((rows, next))
}

/// Makes entries for rows that were there before the table let rows go, or let them go after another time: some from `from` on. Says
/// where to go on; none at the end.
///
/// # Errors
/// The store's.
pub fn index_expiry(
    store: StoreRef,
    expiry: &Expiry,
    from: &[u8],
    stores: &mut TaskStores,
) -> Result<Option<Vec<u8>>, Error> {
    let Page { rows, next } = page(store, from, stores)?;
    for (key, row) in rows {
        let at = row.timestamp.saturating_add(expiry.ttl);
        due::put(stores, expiry.due, &Due { at, what: key, done: false })?;
    }
    Ok(next)
}

/// Some rows of a store by key, `from` one on, and where to go on; none at the end.
pub(super) fn page(store: StoreRef, from: &[u8], stores: &mut TaskStores) -> Result<Page, Error> {
    let (mut rows, mut next) = (Vec::new(), None);
    stores.range(StoreIndex(store.0), from, None, &mut |key, row| {
        if rows.len() == SCAN_ROWS_MAX {
            next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        rows.push((key.to_vec(), row.clone()));
        ControlFlow::Continue(())
    })?;
    Ok(Page { rows, next })
}

/// A part of a store.
pub(super) struct Page {
    pub(super) rows: Vec<(Vec<u8>, store::Row)>,
    /// Where to go on.
    pub(super) next: Option<Vec<u8>>,
}
