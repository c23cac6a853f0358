//! When windows close and go. Windows that begin at fixed times stand in order of time, so those that are over are one range; for
//! sessions and sliding windows, an index says which to look at.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::limits::WINDOW_CLOSE_ROWS_MAX;
use crate::operator::due::{self, Due};
use crate::operator::window::{Hops, WindowSpan};
use crate::operator::{Changed, Error};
use crate::plan::{Aggregate, StoreRef, Window, WindowShape};
use crate::store::{Row, StoreIndex, TaskStores, keys};

/// A result with its place: an update, or a window that closed.
#[derive(Clone, Debug)]
pub struct Emitted {
    pub key: Vec<u8>,
    pub window: Option<WindowSpan>,
    /// None: there is no such result any more.
    pub state: Option<Arc<[Value]>>,
    pub timestamp: Timestamp,
}

/// Returns the key under which a window's row stands in its store.
pub fn window_key(window: &Window, start: Timestamp, key: &[u8]) -> Vec<u8> {
    match window.shape {
        WindowShape::Hopping { .. } => keys::windowed(start, key),
        WindowShape::Sliding { .. } | WindowShape::Session { .. } => keys::timed(key, start),
    }
}

/// Splits what [`window_key`] joined; none when it is not that.
pub fn split_window_key(window: &Window, store_key: &[u8]) -> Option<(Vec<u8>, Timestamp)> {
    match window.shape {
        WindowShape::Hopping { .. } => keys::split_windowed(store_key).ok().map(|(start, key)| (key.to_vec(), start)),
        WindowShape::Sliding { .. } | WindowShape::Session { .. } => keys::split_timed(store_key).ok(),
    }
}

/// Returns the window of a row that starts at `start`: a session ends with its row's timestamp.
pub fn span_of(window: &Window, start: Timestamp, row_timestamp: Timestamp) -> WindowSpan {
    let end = match window.shape {
        WindowShape::Hopping { size, .. } => start.saturating_add(size),
        WindowShape::Sliding { difference } => start.saturating_add(difference),
        WindowShape::Session { .. } => row_timestamp,
    };
    WindowSpan { start, end }
}

/// Returns the result of a change that was made just now.
///
/// # Errors
/// The store's.
pub fn updated(
    node: &Aggregate,
    key: &[u8],
    changed: &Changed,
    stores: &mut TaskStores,
) -> Result<Option<Emitted>, Error> {
    let window = changed.window;
    if let (true, Some(span)) = (changed.gone, window) {
        return Ok(Some(Emitted { key: key.to_vec(), window, state: None, timestamp: span.end }));
    }
    let store_key = match (&node.window, window) {
        (Some(window), Some(span)) => window_key(window, span.start, key),
        _ => key.to_vec(),
    };
    let row = stores.get(StoreIndex(node.store.0), &store_key)?;
    Ok(row.map(|row| Emitted { key: key.to_vec(), window, state: Some(row.fields), timestamp: row.timestamp }))
}

/// Returns windows that have closed, in order of window and key, starting at `closed_until`, the first start that is not done;
/// and where to go on. At most [`WINDOW_CLOSE_ROWS_MAX`] rows a call: call again until the second is the first open start.
///
/// # Errors
/// The store's.
pub fn close_hops(
    node: &Aggregate,
    window: &Window,
    hops: Hops,
    closed_until: &[u8],
    operator_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<(Vec<Emitted>, Vec<u8>), Error> {
    let open = keys::windowed(hops.first_open_start(window, operator_time), b"");
    if closed_until >= open.as_slice() {
        return Ok((Vec::new(), closed_until.to_vec()));
    }
    let mut rows = Vec::new();
    let mut next = open.clone();
    stores.range(StoreIndex(node.store.0), closed_until, Some(&open), &mut |store_key, row| {
        if rows.len() == WINDOW_CLOSE_ROWS_MAX {
            next = store_key.to_vec();
            return ControlFlow::Break(());
        }
        if let Ok((start, key)) = keys::split_windowed(store_key) {
            rows.push(result(key.to_vec(), hops.starting_at(start), row));
        }
        ControlFlow::Continue(())
    })?;
    Ok((rows, next))
}

fn result(key: Vec<u8>, span: WindowSpan, row: &Row) -> Emitted {
    Emitted { key, window: Some(span), state: Some(Arc::clone(&row.fields)), timestamp: row.timestamp }
}

/// Deletes the rows of windows whose retention is over; returns how many. At most [`WINDOW_CLOSE_ROWS_MAX`] a call. What starts
/// before the windows that were kept when `closed_until` was the first open start is gone: it is not looked for again.
///
/// # Errors
/// The store's.
pub fn expire_hops(
    node: &Aggregate,
    window: &Window,
    hops: Hops,
    closed_until: Timestamp,
    operator_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<usize, Error> {
    let kept = Window { grace: window.retention.max(window.grace), ..*window };
    let bound = keys::windowed(hops.first_open_start(&kept, operator_time), b"");
    let from = keys::windowed(hops.kept_from(window, closed_until), b"");
    let mut expired = Vec::new();
    stores.range(StoreIndex(node.store.0), &from, Some(&bound), &mut |store_key, _| {
        expired.push(store_key.to_vec());
        if expired.len() == WINDOW_CLOSE_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    for store_key in &expired {
        stores.put(StoreIndex(node.store.0), store_key, None)?;
    }
    Ok(expired.len())
}

/// Notes that a window has been opened, to be looked at when it would close; returns that time.
///
/// # Errors
/// The store's.
pub fn schedule(
    window: &Window,
    index: StoreRef,
    span: WindowSpan,
    key: &[u8],
    stores: &mut TaskStores,
) -> Result<Timestamp, Error> {
    let at = span.closes_at(window);
    due::put(stores, index, &Due { at, what: keys::windowed(span.start, key), done: false })?;
    Ok(at)
}

/// What a sweep over the index found.
#[derive(Debug)]
pub struct Swept {
    /// Windows that have closed, in order of end, start and key.
    pub closed: Vec<Emitted>,
    /// When something is due again, at once where the sweep stopped at its bound; none when nothing is.
    pub next: Option<Timestamp>,
}

/// Closes the windows that are over, and deletes those that are kept no longer; nothing is due before `from`. At most
/// [`WINDOW_CLOSE_ROWS_MAX`] a call: call again while `next` is not after `operator_time`.
///
/// # Errors
/// The store's.
pub fn sweep(
    node: &Aggregate,
    window: &Window,
    index: StoreRef,
    from: Timestamp,
    operator_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<Swept, Error> {
    let (entries, behind) = due::until(stores, index, from, operator_time, WINDOW_CLOSE_ROWS_MAX)?;
    let mut looked_at = Vec::with_capacity(entries.len());
    let mut early = Vec::new();
    for entry in entries {
        let Ok((start, key)) = keys::split_windowed(&entry.what) else { continue };
        let store_key = keys::timed(key, start);
        let row = stores.get(StoreIndex(node.store.0), &store_key)?;
        let span = row.as_ref().map(|row| span_of(window, start, row.timestamp));
        // A session may have grown since.
        let due = |span: WindowSpan| if entry.done { span.kept_until(window) } else { span.closes_at(window) };
        match span.map(due).filter(|at| *at > entry.at) {
            Some(at) => early.push((entry, at)),
            None => looked_at.push((entry, store_key, row, span)),
        }
    }
    if !early.is_empty() {
        // Put back first: what closes now is handed out in order, and some of these may be among it.
        for (entry, at) in early {
            due::remove(stores, index, &entry)?;
            due::put(stores, index, &Due { at, ..entry })?;
        }
        return Ok(Swept { closed: Vec::new(), next: Some(from) });
    }
    let mut closed = Vec::new();
    let mut next = behind;
    for (entry, store_key, row, span) in looked_at {
        due::remove(stores, index, &entry)?;
        let (Some(row), Some(span)) = (row, span) else { continue };
        if let (false, Ok((_, key))) = (entry.done, keys::split_windowed(&entry.what)) {
            closed.push(result(key.to_vec(), span, &row));
        }
        let kept_until = span.kept_until(window);
        if kept_until <= operator_time || entry.done {
            stores.put(StoreIndex(node.store.0), &store_key, None)?;
        } else {
            due::put(stores, index, &Due { at: kept_until, what: entry.what, done: true })?;
            next = Some(next.map_or(kept_until, |next| next.min(kept_until)));
        }
    }
    Ok(Swept { closed, next })
}
