//! Aggregation: folds rows into one state row per key, or per key and window, and says when windows close.
//!
//! Rules are Kafka Streams' (`KStreamAggregate`, `KStreamWindowAggregate`): a null key is dropped, a result's timestamp is the
//! largest of its rows', lateness is judged by operator time after the row has moved it. Windows close by D3: `end + grace <=
//! operator time`, once.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::time::Timestamp;
use crate::base::value::{Decimal, Value};
use crate::limits;
use crate::operator::window::{WindowSpan, first_open_start, window_of};
use crate::operator::{DropReason, Error, Evaluator, RecordContext, Row};
use crate::plan::{Aggregate, AggregateFunction, ResultField, TumblingWindow, Update};
use crate::store::{StoreIndex, TaskStores, keys};

/// What a row did to an aggregate.
#[derive(Debug)]
pub enum Folded {
    /// No function is fed by rows of this layout.
    Untouched,
    Dropped(DropReason),
    /// The state row of this window, if there are windows, has changed.
    Updated(Option<WindowSpan>),
}

/// A state row with its place: an update, or a window that closed.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Key in the store: the row's key, after the window's start where there is one.
    pub store_key: Vec<u8>,
    pub window: Option<WindowSpan>,
    pub state: Arc<[Value]>,
    pub timestamp: Timestamp,
}

/// Folds `row` into its state row. `operator_time` has taken the row into account already.
///
/// # Errors
/// An argument that cannot be evaluated, or an overflow: of the record. The store's own.
pub fn aggregate(
    node: &Aggregate,
    row: &Row<'_>,
    context: &RecordContext,
    operator_time: Timestamp,
    stores: &mut TaskStores,
    evaluator: &mut Evaluator,
) -> Result<Folded, Error> {
    let Some(updates) = node.updates.get(row.layout) else { return Ok(Folded::Untouched) };
    let Some(key) = row.key else { return Ok(Folded::Dropped(DropReason::NullKey)) };
    if row.slots.is_none() {
        return Ok(Folded::Dropped(DropReason::NullValue));
    }
    let window = node.window.as_ref().map(|window| window_of(window, row.timestamp));
    if let (Some(rule), Some(span)) = (&node.window, window)
        && span.is_closed(rule, operator_time)
    {
        return Ok(Folded::Dropped(DropReason::Late));
    }
    let store = StoreIndex(node.store.0);
    let fold =
        |slots: &mut [Value]| updates.iter().try_for_each(|update| apply(update, slots, row, context, evaluator));
    match window {
        None => stores.update(store, key, &node.initial, row.timestamp, fold)?,
        Some(span) => stores.update(store, &keys::windowed(span.start, key), &node.initial, row.timestamp, fold)?,
    }
    Ok(Folded::Updated(window))
}

/// Returns the state row that `row` was folded into just now.
///
/// # Errors
/// The store's.
pub fn updated(
    node: &Aggregate,
    key: &[u8],
    window: Option<WindowSpan>,
    stores: &mut TaskStores,
) -> Result<Option<Closed>, Error> {
    let store_key = window.map_or_else(|| key.to_vec(), |span| keys::windowed(span.start, key));
    let row = stores.get(StoreIndex(node.store.0), &store_key)?;
    Ok(row.map(|row| Closed { store_key, window, state: row.fields, timestamp: row.timestamp }))
}

fn apply(
    update: &Update,
    slots: &mut [Value],
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<(), Error> {
    let argument = match &update.argument {
        Some(expression) => {
            let value = evaluator.eval(expression, row, &[], context)?;
            if value.is_null() {
                return Ok(());
            }
            value
        }
        None => Value::Null,
    };
    let slot = update.slot;
    match update.function {
        AggregateFunction::Count => add(&mut slots[slot], &Value::Int(1))?,
        AggregateFunction::Sum => add(&mut slots[slot], &argument)?,
        AggregateFunction::Avg => {
            let whole = argument.as_int().map(|number| number as f64);
            let number = whole.or_else(|| argument.as_double()).ok_or_else(|| unfit("avg", &argument))?;
            add(&mut slots[slot], &Value::Double(number))?;
            add(&mut slots[slot + 1], &Value::Int(1))?;
        }
        AggregateFunction::Min => {
            if slots[slot].is_null() || argument.order(&slots[slot]).is_lt() {
                slots[slot] = argument;
            }
        }
        AggregateFunction::Max => {
            if slots[slot].is_null() || argument.order(&slots[slot]).is_gt() {
                slots[slot] = argument;
            }
        }
        AggregateFunction::First => {
            if slots[slot].is_null() {
                slots[slot] = argument;
            }
        }
        AggregateFunction::Last => slots[slot] = argument,
    }
    Ok(())
}

fn add(slot: &mut Value, argument: &Value) -> Result<(), Error> {
    let overflow = || Error::Record { message: "a sum overflows its type".to_owned() };
    *slot = match (&*slot, argument) {
        (Value::Null, first) => first.clone(),
        (Value::Int(sum), Value::Int(number)) => Value::Int(sum.checked_add(*number).ok_or_else(overflow)?),
        (Value::Double(sum), Value::Double(number)) => Value::Double(sum + number),
        (Value::Decimal(sum), Value::Decimal(number)) if sum.scale == number.scale => {
            let unscaled = sum.unscaled.checked_add(number.unscaled).ok_or_else(overflow)?;
            Value::Decimal(Arc::new(Decimal { unscaled, scale: sum.scale }))
        }
        (_, other) => return Err(unfit("sum", other)),
    };
    Ok(())
}

fn unfit(function: &str, value: &Value) -> Error {
    Error::Record { message: format!("`{function}` cannot take {value:?}") }
}

/// Writes the result row of a state row into `out`.
pub fn result_row(node: &Aggregate, state: &[Value], out: &mut Vec<Value>) {
    out.clear();
    out.extend(node.results.iter().map(|result| match *result {
        ResultField::Slot(slot) => state[slot].clone(),
        ResultField::Mean { sum, count } => match (&state[sum], &state[count]) {
            (Value::Double(sum), Value::Int(count)) if *count > 0 => Value::Double(sum / *count as f64),
            _ => Value::Null,
        },
    }));
}

/// Returns windows that have closed, in order of window and key, starting at `closed_until`, the first start that is not done;
/// and where to go on. At most [`limits::WINDOW_CLOSE_ROWS_MAX`] rows a call: call again until the second is the first open
/// start.
///
/// # Errors
/// The store's.
pub fn close_windows(
    node: &Aggregate,
    window: &TumblingWindow,
    closed_until: &[u8],
    operator_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<(Vec<Closed>, Vec<u8>), Error> {
    let open = keys::windowed(first_open_start(window, operator_time), b"");
    if closed_until >= open.as_slice() {
        return Ok((Vec::new(), closed_until.to_vec()));
    }
    let mut rows = Vec::new();
    let mut next = open.clone();
    stores.range(StoreIndex(node.store.0), closed_until, Some(&open), &mut |store_key, row| {
        if rows.len() == limits::WINDOW_CLOSE_ROWS_MAX {
            next = store_key.to_vec();
            return ControlFlow::Break(());
        }
        if let Ok((start, _)) = keys::split_windowed(store_key) {
            let span = WindowSpan { start, end: start.saturating_add(window.size) };
            rows.push(Closed {
                store_key: store_key.to_vec(),
                window: Some(span),
                state: Arc::clone(&row.fields),
                timestamp: row.timestamp,
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok((rows, next))
}

/// Deletes the rows of windows whose retention is over; returns how many. At most [`limits::WINDOW_CLOSE_ROWS_MAX`] a call.
///
/// # Errors
/// The store's.
pub fn expire_windows(
    node: &Aggregate,
    window: &TumblingWindow,
    operator_time: Timestamp,
    stores: &mut TaskStores,
) -> Result<usize, Error> {
    let kept = TumblingWindow { grace: window.retention.max(window.grace), ..*window };
    let bound = keys::windowed(first_open_start(&kept, operator_time), b"");
    let mut expired = Vec::new();
    stores.range(StoreIndex(node.store.0), &[], Some(&bound), &mut |store_key, _| {
        expired.push(store_key.to_vec());
        if expired.len() == limits::WINDOW_CLOSE_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    for store_key in &expired {
        stores.put(StoreIndex(node.store.0), store_key, None)?;
    }
    Ok(expired.len())
}
