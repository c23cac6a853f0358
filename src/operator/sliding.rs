//! Sliding windows: one that ends with each row, and one that begins right after it where there is anything in it.
//!
//! The windows are those of Kafka Streams (`KStreamSlidingWindowAggregate`). A window's row stands under its key and start; its
//! timestamp is the last of its rows'.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::operator::aggregate::{Changed, Folded, Folding};
use crate::operator::window::WindowSpan;
use crate::operator::{DropReason, Error};
use crate::plan::{Aggregate, Window};
use crate::store::{Row, StoreIndex, keys};

pub(super) fn fold(
    node: &Aggregate,
    window: &Window,
    difference: SpanMs,
    key: &[u8],
    folding: &mut Folding<'_>,
) -> Result<Folded, Error> {
    let at = folding.row.timestamp;
    let last = WindowSpan { start: at, end: at.saturating_add(difference) };
    if last.is_closed(window, folding.operator_time) {
        return Ok(Folded::Dropped(DropReason::Late));
    }
    let early = at.0 >= 0 && at.0 < difference.0;
    let mut sliding = Sliding { node, window, difference, key, folding, late: 0 };
    if early {
        sliding.early(at)?
    } else {
        sliding.usual(at)?
    }
    Ok(Folded::Done { late: sliding.late })
}

struct Sliding<'n, 'f, 'a> {
    node: &'n Aggregate,
    window: &'n Window,
    difference: SpanMs,
    key: &'n [u8],
    folding: &'f mut Folding<'a>,
    late: usize,
}

/// A window of the key that stands near the row, as it was before it.
struct Near {
    start: Timestamp,
    row: Row,
}

impl Sliding<'_, '_, '_> {
    fn usual(&mut self, at: Timestamp) -> Result<(), Error> {
        let near = self.near(Timestamp(at.0.saturating_sub(self.difference.0.saturating_mul(2))), at)?;
        let right_start = Timestamp(at.0.saturating_add(1));
        let left_start = at.saturating_sub(self.difference);
        let mut right = None;
        // The newest window that ends before the row, and the last row in front of this one.
        let (mut left, mut previous, mut left_exists) = (None, None, false);
        for window in near.iter().rev().filter(|window| window.start <= at) {
            if self.end(window.start) < at {
                (left, previous) = (Some(&window.row), Some(window.row.timestamp));
                break;
            }
            self.update(window.start)?;
            if self.end(window.start) > at {
                right = right.or(Some(&window.row));
                continue;
            }
            if window.row.timestamp >= at {
                // A row of this very time was here: every window is there.
                return Ok(());
            }
            (previous, left_exists) = (Some(window.row.timestamp), true);
        }
        let exists = |start: Timestamp| near.iter().any(|window| window.start == start);
        if let Some(start) = previous.map(|previous| Timestamp(previous.0.saturating_add(1)))
            && !exists(start)
            && self.end(start) >= at
        {
            self.open(start, None)?;
        }
        if !left_exists {
            self.open(left_start, left.filter(|_| previous.is_some_and(|previous| previous >= left_start)))?;
        }
        match right {
            Some(row) if row.timestamp > at && !exists(right_start) => self.keep(right_start, row.clone()),
            _ => Ok(()),
        }
    }

    /// A row so early that the window which ends with it would begin before 0: all such rows share the window from 0 on.
    fn early(&mut self, at: Timestamp) -> Result<(), Error> {
        let near = self.near(Timestamp(0), at)?;
        let right_start = Timestamp(at.0.saturating_add(1));
        let shared = near.iter().find(|window| window.start == Timestamp(0)).map(|window| &window.row);
        let mut right = None;
        for window in near.iter().filter(|window| window.start > Timestamp(0) && window.start <= at) {
            right = Some(&window.row);
            self.update(window.start)?;
        }
        let exists = |start: Timestamp| near.iter().any(|window| window.start == start);
        // Where nothing began between the first row and this one, all that the shared window has came later.
        let right = right.or(shared).filter(|row| row.timestamp > at);
        if let Some(row) = right.filter(|_| !exists(right_start)) {
            self.keep(right_start, row.clone())?;
        }
        let previous = shared.map(|row| row.timestamp).filter(|previous| *previous < at);
        if let Some(start) = previous.map(|previous| Timestamp(previous.0.saturating_add(1)))
            && !exists(start)
        {
            self.open(start, None)?;
        }
        if shared.is_some() { self.update(Timestamp(0)) } else { self.open(Timestamp(0), None) }
    }

    fn end(&self, start: Timestamp) -> Timestamp {
        start.saturating_add(self.difference)
    }

    /// The key's windows that start from `first` to right after `at`, by start.
    fn near(&mut self, first: Timestamp, at: Timestamp) -> Result<Vec<Near>, Error> {
        let (from, to) = (keys::timed(self.key, first), keys::timed(self.key, Timestamp(at.0.saturating_add(2))));
        let mut near = Vec::new();
        self.folding.stores.range(StoreIndex(self.node.store.0), &from, Some(&to), &mut |store_key, row| {
            if let Ok((_, start)) = keys::split_timed(store_key) {
                near.push(Near { start, row: row.clone() });
            }
            ControlFlow::Continue(())
        })?;
        Ok(near)
    }

    /// A window that is there takes the row.
    fn update(&mut self, start: Timestamp) -> Result<(), Error> {
        let span = WindowSpan { start, end: self.end(start) };
        if span.is_closed(self.window, self.folding.operator_time) {
            self.late += 1;
            return Ok(());
        }
        self.folding.update(self.node, &keys::timed(self.key, start))?;
        self.folding.changed.push(Changed::updated(Some(span)));
        Ok(())
    }

    /// A new window: the rows of `base`, and this one.
    fn open(&mut self, start: Timestamp, base: Option<&Row>) -> Result<(), Error> {
        let mut state: Vec<Value> = base.map_or_else(|| self.node.initial.clone(), |row| row.fields.to_vec());
        self.folding.feed(self.node, &mut state)?;
        self.keep(start, Row { timestamp: self.folding.row.timestamp, fields: Arc::from(state) })
    }

    fn keep(&mut self, start: Timestamp, row: Row) -> Result<(), Error> {
        let span = WindowSpan { start, end: self.end(start) };
        if span.is_closed(self.window, self.folding.operator_time) {
            self.late += 1;
            return Ok(());
        }
        self.folding.stores.put(StoreIndex(self.node.store.0), &keys::timed(self.key, start), Some(row))?;
        self.folding.opened.push(span);
        self.folding.changed.push(Changed::updated(Some(span)));
        Ok(())
    }
}
