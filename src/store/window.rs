//! Windowed rows over an `Ordered` store, time first: closing and expiry are range scans from the oldest window on. And sessions,
//! key first: the sessions of a key that touch a span are one range.
//!
//! Not here: which windows a record falls into, when a window closes, lateness.

use std::ops::ControlFlow;

use crate::base::time::{SpanMs, Timestamp};
use crate::store::{Error, Row, StoreIndex, TaskStores, keys};

/// What is called with the start, the key and the row of each windowed row; it may end the scan.
pub type VisitWindow<'a> = dyn FnMut(Timestamp, &[u8], &Row) -> ControlFlow<()> + 'a;

/// Returns the row of a key in the window that starts at `start`.
///
/// # Errors
/// As [`TaskStores::get`].
pub fn get(stores: &mut TaskStores, index: StoreIndex, start: Timestamp, key: &[u8]) -> Result<Option<Row>, Error> {
    stores.get(index, &keys::windowed(start, key))
}

/// Writes the row of a key in the window that starts at `start`; none deletes it.
///
/// # Errors
/// As [`TaskStores::put`].
pub fn put(
    stores: &mut TaskStores,
    index: StoreIndex,
    start: Timestamp,
    key: &[u8],
    row: Option<Row>,
) -> Result<(), Error> {
    stores.put(index, &keys::windowed(start, key), row)
}

/// Visits the rows of all windows with `from <= start < before`, by start, then by key.
///
/// # Errors
/// As [`TaskStores::range`].
pub fn scan(
    stores: &mut TaskStores,
    index: StoreIndex,
    from: Timestamp,
    before: Timestamp,
    visit: &mut VisitWindow<'_>,
) -> Result<(), Error> {
    let (from, to) = (keys::windowed(from, &[]), keys::windowed(before, &[]));
    let mut damaged = None;
    stores.range(index, &from, Some(&to), &mut |joined, row| match keys::split_windowed(joined) {
        Ok((start, key)) => visit(start, key, row),
        Err(error) => {
            damaged = Some(error);
            ControlFlow::Break(())
        }
    })?;
    damaged.map_or(Ok(()), Err)
}

/// Deletes up to `rows_max` rows of windows with `start < before`, oldest first, and returns how many.
///
/// # Errors
/// As [`TaskStores::range`].
pub fn expire(stores: &mut TaskStores, index: StoreIndex, before: Timestamp, rows_max: usize) -> Result<usize, Error> {
    let mut expired = Vec::new();
    let to = keys::windowed(before, &[]);
    stores.range(index, &[], Some(&to), &mut |joined, _| {
        if expired.len() == rows_max {
            return ControlFlow::Break(());
        }
        expired.push(joined.to_vec());
        ControlFlow::Continue(())
    })?;
    for joined in &expired {
        stores.put(index, joined, None)?;
    }
    Ok(expired.len())
}

/// Visits a key's rows in the windows that start at multiples of `step` within `from..=to`, oldest first: one read per possible
/// start, so the caller bounds `(to - from) / step`.
///
/// # Errors
/// As [`TaskStores::get`].
pub fn of_key(
    stores: &mut TaskStores,
    index: StoreIndex,
    key: &[u8],
    starts: (Timestamp, Timestamp),
    step: SpanMs,
    visit: &mut dyn FnMut(Timestamp, &Row) -> ControlFlow<()>,
) -> Result<(), Error> {
    let step_ms = step.0.max(1);
    let behind_ms = starts.0.0.rem_euclid(step_ms);
    let mut start = if behind_ms == 0 { Some(starts.0.0) } else { starts.0.0.checked_add(step_ms - behind_ms) };
    while let Some(at) = start.filter(|at| *at <= starts.1.0) {
        if let Some(row) = get(stores, index, Timestamp(at), key)?
            && visit(Timestamp(at), &row).is_break()
        {
            break;
        }
        start = at.checked_add(step_ms);
    }
    Ok(())
}

/// A session of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub start: Timestamp,
    pub end: Timestamp,
    pub row: Row,
}

/// Returns a key's sessions with `end >= from` and `start <= to`, by end.
///
/// # Errors
/// As [`TaskStores::range`].
pub fn sessions_touching(
    stores: &mut TaskStores,
    index: StoreIndex,
    key: &[u8],
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Session>, Error> {
    let first = keys::session(key, Timestamp::UNKNOWN, from);
    let last = keys::prefix_end(&keys::key_prefix(key));
    let (mut sessions, mut damaged) = (Vec::new(), None);
    stores.range(index, &first, last.as_deref(), &mut |joined, row| match keys::split_session(joined) {
        // Sessions of a key do not overlap, so the starts grow with the ends.
        Ok((_, start, _)) if start > to => ControlFlow::Break(()),
        Ok((_, start, end)) => {
            sessions.push(Session { start, end, row: row.clone() });
            ControlFlow::Continue(())
        }
        Err(error) => {
            damaged = Some(error);
            ControlFlow::Break(())
        }
    })?;
    damaged.map_or(Ok(sessions), Err)
}

/// Writes a session; none deletes it.
///
/// # Errors
/// As [`TaskStores::put`].
pub fn put_session(
    stores: &mut TaskStores,
    index: StoreIndex,
    key: &[u8],
    span: (Timestamp, Timestamp),
    row: Option<Row>,
) -> Result<(), Error> {
    stores.put(index, &keys::session(key, span.0, span.1), row)
}
