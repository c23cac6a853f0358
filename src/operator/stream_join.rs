//! Stream-stream join: rows of two streams with one key that are near in time.
//!
//! Rules are Kafka Streams' (`KStreamKStreamJoin`): each side's rows are kept and seen until that side's own time has passed them by
//! `before + after + grace`; a result has the later time of its rows; every row at one key and time is kept. Where a side's rows go
//! on unmatched (left, outer), they do when their window closes, in order of time, a right one first (D4).
//!
//! A row in a side's store: whether it has met another, then its fields; under key, time, and a number that tells rows of one time
//! apart. What is past its time is not seen; it is deleted by and by ([`tidy_up`]), with no index to find it: a row costs one write and
//! one deletion. Only a row that waits to go on unmatched has an entry in the index of what is due.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::limits::{TIDY_ROWS_MAX, WINDOW_CLOSE_ROWS_MAX};
use crate::operator::due::{self, Due};
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{Input, JoinSide, JoinWindow, KeyFormat, StreamJoin};
use crate::store::keys::{self, KeyReader};
use crate::store::{self, StoreIndex, TaskStores};

/// How far the sides are.
#[derive(Clone, Copy, Debug)]
pub struct SideTimes {
    pub left: Timestamp,
    pub right: Timestamp,
    /// The node's: what windows close by.
    pub operator: Timestamp,
}

/// A result.
#[derive(Debug, PartialEq)]
pub struct JoinedRow {
    /// None for the row of an outer join that had none.
    pub key: Option<Vec<u8>>,
    pub slots: Vec<Value>,
    pub timestamp: Timestamp,
}

/// What became of a row.
#[derive(Debug, PartialEq)]
pub enum Met {
    Dropped(DropReason),
    /// The results, and when to sweep where the row is kept.
    Rows {
        results: Vec<JoinedRow>,
        due: Option<Timestamp>,
    },
}

/// What a row is joined with.
struct Joining<'a> {
    node: &'a StreamJoin,
    times: SideTimes,
    making: Making<'a>,
    stores: &'a mut TaskStores,
}

/// How a result is made.
struct Making<'a> {
    node: &'a StreamJoin,
    key_format: &'a KeyFormat,
    context: &'a RecordContext,
    evaluator: &'a mut Evaluator,
}

impl StreamJoin {
    fn side(&self, side: Input) -> &JoinSide {
        match side {
            Input::Left => &self.left,
            Input::Right => &self.right,
        }
    }

    fn keeps(&self, side: Input) -> bool {
        match side {
            Input::Left => self.kind.keeps_left(),
            Input::Right => self.kind.keeps_right(),
        }
    }
}

impl JoinWindow {
    /// How long a row is kept by its own side's time.
    fn kept(&self) -> SpanMs {
        SpanMs(self.before.0.saturating_add(self.after.0).saturating_add(self.grace.0))
    }

    /// The times of the other side's rows that a row meets; times before 1970 are met by such only.
    fn span(&self, side: Input, at: Timestamp) -> (Timestamp, Timestamp) {
        let (back, ahead) = match side {
            Input::Left => (self.before, self.after),
            Input::Right => (self.after, self.before),
        };
        (at.saturating_sub(back), at.saturating_add(ahead))
    }

    /// From when on a row without a match stays without one.
    fn closes_at(&self, side: Input, at: Timestamp) -> Timestamp {
        Timestamp(self.span(side, at).1.saturating_add(self.grace).0.saturating_add(1))
    }
}

impl SideTimes {
    fn of(&self, side: Input) -> Timestamp {
        match side {
            Input::Left => self.left,
            Input::Right => self.right,
        }
    }
}

fn opposite(side: Input) -> Input {
    match side {
        Input::Left => Input::Right,
        Input::Right => Input::Left,
    }
}

/// Joins a row with those of the other side, and keeps it for those to come. `sequence` tells rows of one time apart.
///
/// # Errors
/// An expression that fails: of the record. The store's own.
#[expect(clippy::too_many_arguments, reason = "a step of the walk: what it works on, and with")]
pub fn join_streams(
    node: &StreamJoin,
    side: Input,
    row: &Row<'_>,
    sequence: u64,
    times: SideTimes,
    context: &RecordContext,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
) -> Result<Met, Error> {
    let Some(slots) = row.slots else { return Ok(Met::Dropped(DropReason::NullValue)) };
    let making = Making { node, key_format: row.key_format, context, evaluator };
    let mut joining = Joining { node, times, making, stores };
    let Some(key) = row.key else {
        if !node.keeps(side) {
            return Ok(Met::Dropped(DropReason::NullKey));
        }
        let alone = joining.making.alone(side, None, slots, row.timestamp)?;
        return Ok(Met::Rows { results: vec![alone], due: None });
    };
    let mut results = joining.meet(side, key, slots, row.timestamp)?;
    let matched = !results.is_empty();
    let late = node.window.closes_at(side, row.timestamp) <= times.operator;
    if late && !matched && node.keeps(side) {
        results.push(joining.making.alone(side, Some(key), slots, row.timestamp)?);
    }
    let due = joining.keep(side, key, slots, row.timestamp, sequence, matched || late)?;
    Ok(Met::Rows { results, due })
}

impl Joining<'_> {
    /// The results with all rows of the other side that are near enough and not past its time.
    fn meet(&mut self, side: Input, key: &[u8], slots: &[Value], at: Timestamp) -> Result<Vec<JoinedRow>, Error> {
        let other = opposite(side);
        let (first, last) = self.node.window.span(side, at);
        let passed = self.times.of(other).saturating_sub(self.node.window.kept());
        let from = keys::timed(key, first.max(Timestamp(passed.0.saturating_add(1))));
        let to = keys::timed(key, Timestamp(last.0.saturating_add(1)));
        let store = StoreIndex(self.node.side(other).store.0);
        let mut near = Vec::new();
        self.stores.range(store, &from, Some(&to), &mut |store_key, row| {
            near.push((store_key.to_vec(), row.clone()));
            ControlFlow::Continue(())
        })?;
        let mut results = Vec::with_capacity(near.len());
        for (store_key, found) in near {
            let theirs = &found.fields[1..];
            let (left, right) = if side == Input::Left { (slots, theirs) } else { (theirs, slots) };
            let timestamp = found.timestamp.max(at);
            results.push(self.making.joined(Some(key), left, right, timestamp)?);
            if self.node.keeps(other) && found.fields[0] == Value::Bool(false) {
                let fields = std::iter::once(Value::Bool(true)).chain(theirs.iter().cloned()).collect();
                self.stores.put(store, &store_key, Some(store::Row { timestamp: found.timestamp, fields }))?;
            }
        }
        Ok(results)
    }

    /// Puts a row where the other side's find it, and notes when to look at it again.
    fn keep(
        &mut self,
        side: Input,
        key: &[u8],
        slots: &[Value],
        at: Timestamp,
        sequence: u64,
        settled: bool,
    ) -> Result<Option<Timestamp>, Error> {
        let window = &self.node.window;
        let waits = self.node.keeps(side) && !settled;
        // One that nobody sees any more may still have to go on unmatched, the moment after.
        if !waits && at.saturating_add(window.kept()) <= self.times.of(side) {
            return Ok(None);
        }
        let mut store_key = keys::timed(key, at);
        keys::push_u64(&mut store_key, sequence);
        let fields = std::iter::once(Value::Bool(settled)).chain(slots.iter().cloned()).collect();
        let store = StoreIndex(self.node.side(side).store.0);
        self.stores.put(store, &store_key, Some(store::Row { timestamp: at, fields }))?;
        if !waits {
            return Ok(None);
        }
        let due = window.closes_at(side, at);
        due::put(self.stores, self.node.due, &Due { at: due, what: what(side, at, key, sequence), done: false })?;
        Ok(Some(due))
    }
}

impl Making<'_> {
    /// A row without one of the other side.
    fn alone(
        &mut self,
        side: Input,
        key: Option<&[u8]>,
        slots: &[Value],
        timestamp: Timestamp,
    ) -> Result<JoinedRow, Error> {
        let nothing = vec![Value::Null; self.node.side(opposite(side)).slots];
        let (left, right) = if side == Input::Left { (slots, &*nothing) } else { (&*nothing, slots) };
        self.joined(key, left, right, timestamp)
    }

    fn joined(
        &mut self,
        key: Option<&[u8]>,
        left: &[Value],
        right: &[Value],
        timestamp: Timestamp,
    ) -> Result<JoinedRow, Error> {
        let row = Row {
            key,
            key_format: self.key_format,
            layout: self.node.layout,
            slots: Some(left),
            timestamp,
            window: None,
            previous: None,
            latest: true,
        };
        let fields = self.node.fields.iter();
        let slots =
            fields.map(|field| self.evaluator.eval(field, &row, right, self.context)).collect::<Result<_, _>>()?;
        Ok(JoinedRow { key: key.map(<[u8]>::to_vec), slots, timestamp })
    }
}

/// Sorts by time, right before left, key, number.
fn what(side: Input, at: Timestamp, key: &[u8], sequence: u64) -> Vec<u8> {
    let mut what = Vec::with_capacity(key.len() + 19);
    keys::push_i64(&mut what, at.0);
    what.push(u8::from(side == Input::Left));
    keys::push_bytes(&mut what, key);
    keys::push_u64(&mut what, sequence);
    what
}

/// The time in the key of a side's row: before the number at its end.
fn time_of(store_key: &[u8]) -> Option<Timestamp> {
    let tail = store_key.len().checked_sub(16)?;
    KeyReader::new(&store_key[tail..]).i64().ok().map(Timestamp)
}

/// A row that something is due for.
struct Kept {
    side: Input,
    at: Timestamp,
    key: Vec<u8>,
    store_key: Vec<u8>,
}

fn kept(what: &[u8]) -> Result<Kept, store::Error> {
    let mut reader = KeyReader::new(what);
    let at = Timestamp(reader.i64()?);
    let side = if reader.byte()? == 1 { Input::Left } else { Input::Right };
    let key = reader.bytes()?;
    let mut store_key = keys::timed(&key, at);
    keys::push_u64(&mut store_key, reader.u64()?);
    Ok(Kept { side, at, key, store_key })
}

/// A row of one side that has met nobody of the other.
#[derive(Debug)]
pub struct Unmatched {
    side: Input,
    pub key: Vec<u8>,
    slots: Vec<Value>,
    pub timestamp: Timestamp,
}

/// The result of a row without one of the other side.
///
/// # Errors
/// An expression that fails: of the record.
pub fn join_alone(
    node: &StreamJoin,
    row: &Unmatched,
    key_format: &KeyFormat,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<JoinedRow, Error> {
    Making { node, key_format, context, evaluator }.alone(row.side, Some(&row.key), &row.slots, row.timestamp)
}

/// What a sweep found.
#[derive(Debug)]
pub struct SweptJoin {
    /// Rows that have met nobody and will not any more, in order of time.
    pub unmatched: Vec<Unmatched>,
    /// When something is due again, at once where the sweep stopped at its bound; none when nothing is.
    pub next: Option<Timestamp>,
}

/// Looks at the rows that are due: gives those on that have met nobody; nothing is due before `from`. At most [`WINDOW_CLOSE_ROWS_MAX`] a call: call again while `next` is not after the operator's time.
///
/// # Errors
/// The store's.
pub fn sweep_join(
    node: &StreamJoin,
    from: Timestamp,
    times: SideTimes,
    stores: &mut TaskStores,
) -> Result<SweptJoin, Error> {
    let (mut entries, behind) = due::until(stores, node.due, from, times.operator, WINDOW_CLOSE_ROWS_MAX)?;
    entries.sort_by(|a, b| a.what.cmp(&b.what));
    let mut swept = SweptJoin { unmatched: Vec::new(), next: behind };
    for entry in entries {
        swept.unmatched.extend(look_at(node, &entry, stores)?);
        due::remove(stores, node.due, &entry)?;
    }
    Ok(swept)
}

/// How far the deletion of what is past its time has come, on one side.
#[derive(Clone, Debug, Default)]
pub struct Tidying {
    /// Where to go on; none between two passes.
    cursor: Option<Vec<u8>>,
    /// The side's time when the pass began.
    began: Option<Timestamp>,
}

/// Looks at a few rows of a side and deletes those that no look-up sees any more. A pass goes through the whole store, and the
/// next begins when the time has passed for which rows are kept: so a store has as much again as is seen.
///
/// # Errors
/// The store's.
pub fn tidy_up(
    node: &StreamJoin,
    side: Input,
    time: Timestamp,
    tidying: &mut Tidying,
    stores: &mut TaskStores,
) -> Result<(), Error> {
    let kept = node.window.kept();
    let from = match (&tidying.cursor, tidying.began) {
        (Some(cursor), _) => cursor.clone(),
        (None, Some(began)) if time < began.saturating_add(SpanMs(kept.0.saturating_add(1))) => return Ok(()),
        (None, _) => {
            tidying.began = Some(time);
            Vec::new()
        }
    };
    let store = StoreIndex(node.side(side).store.0);
    let (mut seen, mut next, mut past) = (0, None, Vec::new());
    stores.range_keys(store, &from, None, &mut |store_key| {
        if seen == TIDY_ROWS_MAX {
            next = Some(store_key.to_vec());
            return ControlFlow::Break(());
        }
        seen += 1;
        // One moment later than it must: what goes on unmatched has done so by then.
        if time_of(store_key).is_some_and(|at| at.saturating_add(kept) < time) {
            past.push(store_key.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    tidying.cursor = next;
    past.iter().try_for_each(|store_key| stores.put(store, store_key, None))?;
    Ok(())
}

/// Returns a row that has met nobody and will not any more.
fn look_at(node: &StreamJoin, entry: &Due, stores: &mut TaskStores) -> Result<Option<Unmatched>, Error> {
    let Kept { side, at, key, store_key } = kept(&entry.what)?;
    let store = StoreIndex(node.side(side).store.0);
    let Some(row) = stores.get(store, &store_key)?.filter(|row| row.fields[0] == Value::Bool(false)) else {
        return Ok(None);
    };
    let slots = row.fields[1..].to_vec();
    let fields: Arc<[Value]> = std::iter::once(Value::Bool(true)).chain(slots.iter().cloned()).collect();
    stores.put(store, &store_key, Some(store::Row { timestamp: at, fields }))?;
    Ok(Some(Unmatched { side, key, slots, timestamp: at }))
}
