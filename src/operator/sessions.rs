//! Sessions: a row joins the sessions of its key that it is at most `gap` away from, and makes one of them.
//!
//! Rules are Kafka Streams' (`KStreamSessionWindowAggregate`): lateness is judged after merging, so a late row that touches a session
//! which is still open is taken; the state of a merged session is that of its parts in order of time, then the row. Other than
//! there, a session whose result has gone on as final takes no part (D3). A session's row stands under its start; its timestamp is its
//! end.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::operator::aggregate::{Changed, Folded, Folding};
use crate::operator::functions::merge;
use crate::operator::window::WindowSpan;
use crate::operator::{DropReason, Error};
use crate::plan::{Aggregate, Emit, Window};
use crate::store::{Row, StoreIndex, TaskStores, keys};

pub(super) fn fold(
    node: &Aggregate,
    window: &Window,
    gap: SpanMs,
    key: &[u8],
    folding: &mut Folding<'_>,
) -> Result<Folded, Error> {
    let (at, time) = (folding.row.timestamp, folding.operator_time);
    let store = StoreIndex(node.store.0);
    let mut touched = touching(folding.stores, store, key, at.saturating_sub(gap), at.saturating_add(gap))?;
    if node.emit == Emit::OnClose {
        touched.retain(|(span, _)| !span.is_closed(window, time));
    }
    let start = touched.first().map_or(at, |(span, _)| span.start.min(at));
    let end = touched.last().map_or(at, |(span, _)| span.end.max(at));
    let span = WindowSpan { start, end };
    if span.is_closed(window, time) {
        return Ok(Folded::Dropped(DropReason::Late));
    }
    // A session is named by its span: what it was before is taken back, but for a session of one moment that stays one.
    if start < end {
        folding.changed.extend(touched.iter().map(|(old, _)| Changed::gone(*old)));
    }
    if touched.iter().all(|(old, _)| old.start != start) {
        folding.opened.push(span);
    }
    match touched.as_slice() {
        // The usual case, and in place: a session goes on.
        // Folds say themselves what a session and a row make, beginning with what they hold before the first row.
        [(old, _)] if old.start == start && node.merges.is_empty() => folding.update(node, &keys::timed(key, start))?,
        [] => folding.update(node, &keys::timed(key, start))?,
        _ => {
            let state = united(node, &touched, folding)?;
            for (old, _) in touched.iter().filter(|(old, _)| old.start != start) {
                folding.stores.put(store, &keys::timed(key, old.start), None)?;
            }
            let row = Row { timestamp: end, fields: Arc::from(state) };
            folding.stores.put(store, &keys::timed(key, start), Some(row))?;
        }
    }
    folding.changed.push(Changed::updated(Some(span)));
    Ok(Folded::Done { late: 0 })
}

/// The states of sessions as one, and the row on top.
fn united(node: &Aggregate, touched: &[(WindowSpan, Row)], folding: &mut Folding<'_>) -> Result<Vec<Value>, Error> {
    let mut state = node.initial.clone();
    for (_, session) in touched {
        let Folding { row, context, evaluator, .. } = folding;
        merge(node, &mut state, &session.fields, row, context, evaluator)?;
    }
    folding.feed(node, &mut state)?;
    Ok(state)
}

/// Returns a key's sessions with `end >= from` and `start <= to`, by time. They do not overlap, so ends grow with starts.
fn touching(
    stores: &mut TaskStores,
    store: StoreIndex,
    key: &[u8],
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(WindowSpan, Row)>, Error> {
    let (first, after) = (keys::key_prefix(key), keys::timed(key, Timestamp(to.0.saturating_add(1))));
    let mut found = Vec::new();
    stores.range_reverse(store, &first, Some(&after), &mut |store_key, row| {
        let Ok((_, start)) = keys::split_timed(store_key) else { return ControlFlow::Break(()) };
        if row.timestamp < from {
            return ControlFlow::Break(());
        }
        found.push((WindowSpan { start, end: row.timestamp }, row.clone()));
        ControlFlow::Continue(())
    })?;
    found.reverse();
    Ok(found)
}
