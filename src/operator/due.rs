//! What is due at a time: an index over rows that lie anywhere in their own store, so that time passing costs one look at its
//! front. Entries may be early: whoever takes one out looks at the row and puts it back for later.
//!
//! Entries come out at the front only, so what was deleted there piles up until the store has forgotten it. A look begins where the
//! caller knows that nothing is before.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::Error;
use crate::plan::StoreRef;
use crate::store::{Row, StoreIndex, TaskStores, keys};

/// An entry: what is to be looked at, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) what: Vec<u8>,
    /// What was due first is done; this is for the row to go.
    pub(super) done: bool,
}

/// Puts an entry in.
pub(super) fn put(stores: &mut TaskStores, index: StoreRef, due: &Due) -> Result<(), Error> {
    Ok(stores.put(StoreIndex(index.0), &keys::windowed(due.at, &due.what), Some(row(due)))?)
}

/// Entries are dated at the epoch: what is due lies ahead, and a broker refuses what is dated more than an hour ahead of its clock
/// (`message.timestamp.after.max.ms`). When it is due stands in the key.
fn row(due: &Due) -> Row {
    Row { timestamp: Timestamp(0), fields: Arc::from([Value::Bool(due.done)]) }
}

/// Takes an entry out.
pub(super) fn remove(stores: &mut TaskStores, index: StoreRef, due: &Due) -> Result<(), Error> {
    Ok(stores.put(StoreIndex(index.0), &keys::windowed(due.at, &due.what), None)?)
}

/// Returns up to `most` entries that are due at `time`, in order of time, then of what; and when the one behind them is due. No entry
/// is due before `from`.
pub(super) fn until(
    stores: &mut TaskStores,
    index: StoreRef,
    from: Timestamp,
    time: Timestamp,
    most: usize,
) -> Result<(Vec<Due>, Option<Timestamp>), Error> {
    let (mut found, mut behind) = (Vec::new(), None);
    stores.range(StoreIndex(index.0), &keys::windowed(from, &[]), None, &mut |joined, row| {
        let Ok((at, what)) = keys::split_windowed(joined) else { return ControlFlow::Break(()) };
        if at > time || found.len() == most {
            behind = Some(at);
            return ControlFlow::Break(());
        }
        found.push(Due { at, what: what.to_vec(), done: row.fields.first() == Some(&Value::Bool(true)) });
        ControlFlow::Continue(())
    })?;
    Ok((found, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_not_dated_ahead() {
        let due = Due { at: Timestamp(4_000_000_000_000), what: b"k".to_vec(), done: false };
        assert_eq!(row(&due).timestamp, Timestamp(0));
    }
}
