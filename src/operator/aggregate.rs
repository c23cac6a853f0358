//! Aggregation: folds rows into one state row per key, or per key and window.
//!
//! Rules are Kafka Streams' (`KStreamAggregate`, `KStreamWindowAggregate`): a null key is dropped; a null value, too, except in
//! time windows and sessions, where it counts; a result's timestamp is the largest of its rows'; lateness is judged window by window, by
//! an operator time that the row has moved already. Not here: when windows close (`closing`).

use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::functions::{feed, retract};
use crate::operator::window::{Hops, WindowSpan};
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row, sessions, sliding};
use crate::plan::{Aggregate, Window, WindowShape};
use crate::store::{StoreIndex, TaskStores, keys};

/// What a row did to an aggregate; the windows that it changed are in the list that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// No function is fed by rows of this layout.
    Untouched,
    Dropped(DropReason),
    /// So many windows took it, so many were closed already.
    Done {
        late: usize,
    },
}

/// A result that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// None without windows: it is the row's key's.
    pub window: Option<WindowSpan>,
    /// The window is no more: a session became part of a longer one.
    pub gone: bool,
}

impl Changed {
    pub(super) fn updated(window: Option<WindowSpan>) -> Self {
        Self { window, gone: false }
    }

    pub(super) fn gone(window: WindowSpan) -> Self {
        Self { window: Some(window), gone: true }
    }
}

/// What folding needs beside the node.
#[derive(Debug)]
pub struct Folding<'a> {
    pub row: &'a Row<'a>,
    pub context: &'a RecordContext,
    pub operator_time: Timestamp,
    pub stores: &'a mut TaskStores,
    pub evaluator: &'a mut Evaluator,
    /// Windows that have a row now and had none; the caller schedules their closing. For shapes whose windows lie anywhere.
    pub opened: &'a mut Vec<WindowSpan>,
    /// In the order of the changes.
    pub changed: &'a mut Vec<Changed>,
}

impl Folding<'_> {
    /// Feeds all functions of the row's layout in a state row.
    pub(super) fn feed(&mut self, node: &Aggregate, slots: &mut [Value]) -> Result<(), Error> {
        feed(node, slots, self.row, self.context, self.evaluator)
    }

    /// Folds the row into the state row at `store_key`, in place.
    pub(super) fn update(&mut self, node: &Aggregate, store_key: &[u8]) -> Result<(), Error> {
        let Self { row, context, stores, evaluator, .. } = self;
        stores.update(StoreIndex(node.store.0), store_key, &node.initial, row.timestamp, |slots| {
            feed(node, slots, row, context, evaluator)
        })
    }
}

/// Folds a row into its state row, or into those of its windows. `operator_time` has taken the row into account already.
///
/// # Errors
/// An argument that cannot be evaluated, or an overflow: of the record. The store's own.
pub fn aggregate(node: &Aggregate, mut folding: Folding<'_>) -> Result<Folded, Error> {
    let row = folding.row;
    if node.updates.get(row.layout).is_none() {
        return Ok(Folded::Untouched);
    }
    let Some(key) = row.key else { return Ok(Folded::Dropped(DropReason::NullKey)) };
    if row.slots.is_none() && !node.counts_null {
        return Ok(Folded::Dropped(DropReason::NullValue));
    }
    if node.of_table {
        return regroup(node, key, &mut folding);
    }
    let Some(window) = &node.window else {
        folding.update(node, key)?;
        folding.changed.push(Changed::updated(None));
        return Ok(Folded::Done { late: 0 });
    };
    match window.shape {
        WindowShape::Hopping { .. } => hop(node, window, key, &mut folding),
        WindowShape::Session { gap } => sessions::fold(node, window, gap, key, &mut folding),
        WindowShape::Sliding { difference } => sliding::fold(node, window, difference, key, &mut folding),
    }
}

fn hop(node: &Aggregate, window: &Window, key: &[u8], folding: &mut Folding<'_>) -> Result<Folded, Error> {
    let mut late = 0;
    for span in Hops::of(window).into_iter().flat_map(|hops| hops.containing(folding.row.timestamp)) {
        if span.is_closed(window, folding.operator_time) {
            late += 1;
            continue;
        }
        folding.update(node, &keys::windowed(span.start, key))?;
        folding.changed.push(Changed::updated(Some(span)));
    }
    Ok(Folded::Done { late })
}

/// Takes a table's old row out of its group and puts the new one in (`KTableAggregate`). Nothing goes on that changes no result
/// (D6).
fn regroup(node: &Aggregate, key: &[u8], folding: &mut Folding<'_>) -> Result<Folded, Error> {
    let flag = |slot: usize| folding.row.slots.and_then(|slots| slots.get(slot)) == Some(&Value::Bool(true));
    let (old, new) = (flag(0), flag(1));
    let store = StoreIndex(node.store.0);
    let known = folding.stores.get(store, key)?;
    if known.is_none() && !new {
        return Ok(Folded::Done { late: 0 });
    }
    let Folding { row, context, stores, evaluator, changed, .. } = folding;
    let before = known.as_ref().map(|known| Arc::clone(&known.fields));
    drop(known);
    stores.update(store, key, &node.initial, row.timestamp, |slots| -> Result<(), Error> {
        if old && before.is_some() {
            retract(node, slots, row, context, evaluator)?;
        }
        if new { feed(node, slots, row, context, evaluator) } else { Ok(()) }
    })?;
    let after = stores.get(store, key)?;
    if before.as_deref() != after.as_ref().map(|after| &*after.fields) {
        changed.push(Changed::updated(None));
    }
    Ok(Folded::Done { late: 0 })
}
