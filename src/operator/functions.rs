//! The aggregate functions: how a row feeds one, how two states of a session become one, how a state becomes a result.

use std::sync::Arc;

use crate::base::value::{Decimal, Value};
use crate::limits::COLLECT_VALUES_MAX;
use crate::operator::{Error, Evaluator, RecordContext, Row};
use crate::plan::{Aggregate, AggregateFunction, ResultField, StateField, Update};

/// Feeds all functions of a row's layout. Null arguments are passed by, and so is a row without value where there is an argument.
pub(super) fn feed(
    node: &Aggregate,
    slots: &mut [Value],
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<(), Error> {
    // Every fold sees the state before the row, whatever their order.
    let before = if node.folds { slots.to_vec() } else { Vec::new() };
    let updates = node.updates.get(row.layout).map_or(&[][..], Vec::as_slice);
    updates.iter().try_for_each(|update| apply(node, update, slots, &before, row, context, evaluator))
}

/// Takes a row of a table that is replaced out of the functions that it was fed to (Kafka Streams' subtractor).
pub(super) fn retract(
    node: &Aggregate,
    slots: &mut [Value],
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<(), Error> {
    // Every fold sees the state with the row, whatever their order.
    let before = if node.folds { slots.to_vec() } else { Vec::new() };
    for update in node.updates.get(row.layout).into_iter().flatten() {
        let argument = match &update.retracted {
            Some(expression) => evaluator.eval(expression, row, &before, context)?,
            None => Value::Int(1),
        };
        match (update.function, &argument) {
            (AggregateFunction::Fold, _) => slots[update.slot] = argument,
            (_, Value::Null) => {}
            (AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::CountDistinct, _) => {
                take_out(&mut slots[update.slot], &argument);
            }
            (AggregateFunction::Avg, number) => {
                let whole = number.as_int().map(|number| number as f64);
                let number = whole.or_else(|| number.as_double()).ok_or_else(|| unfit("avg", number))?;
                add(&mut slots[update.slot], &Value::Double(-number))?;
                add(&mut slots[update.slot + 1], &Value::Int(-1))?;
            }
            (_, Value::Int(number)) => {
                let negated = number.checked_neg().ok_or_else(|| unfit("sum", &argument))?;
                add(&mut slots[update.slot], &Value::Int(negated))?;
            }
            (_, Value::Double(number)) => add(&mut slots[update.slot], &Value::Double(-number))?,
            (function, other) => return Err(unfit(function.name(), other)),
        }
    }
    Ok(())
}

fn apply(
    node: &Aggregate,
    update: &Update,
    slots: &mut [Value],
    before: &[Value],
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<(), Error> {
    let argument = match &update.argument {
        Some(_) if row.slots.is_none() => return Ok(()),
        Some(expression) => {
            let value = evaluator.eval(expression, row, before, context)?;
            if value.is_null() {
                return Ok(());
            }
            value
        }
        None => Value::Null,
    };
    let slot = update.slot;
    if node.of_table
        && matches!(update.function, AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::CountDistinct)
    {
        return put_in(&mut slots[slot], argument, update.function.name());
    }
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
        AggregateFunction::Last | AggregateFunction::Fold => slots[slot] = argument,
        AggregateFunction::Collect => append(&mut slots[slot], std::slice::from_ref(&argument))?,
        AggregateFunction::CountDistinct => unite(&mut slots[slot], std::slice::from_ref(&argument))?,
    }
    Ok(())
}

/// Adds the state of a later session to that of an earlier one (Kafka Streams' `Merger`).
pub(super) fn merge(
    node: &Aggregate,
    earlier: &mut [Value],
    later: &[Value],
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<(), Error> {
    // Every fold sees both states as they were.
    let before = if node.merges.is_empty() { Vec::new() } else { earlier.to_vec() };
    for (slot, expression) in &node.merges {
        let later = Row { slots: Some(later), ..*row };
        earlier[*slot] = evaluator.eval(expression, &later, &before, context)?;
    }
    for StateField { function, slot } in &node.state {
        let slot = *slot;
        let (known, added) = (&mut earlier[slot], &later[slot]);
        match function {
            AggregateFunction::Count | AggregateFunction::Sum => add(known, added)?,
            AggregateFunction::Avg => {
                add(known, added)?;
                add(&mut earlier[slot + 1], &later[slot + 1])?;
            }
            AggregateFunction::Min if added.is_null() || (!known.is_null() && known.order(added).is_le()) => {}
            AggregateFunction::Max if added.is_null() || (!known.is_null() && known.order(added).is_ge()) => {}
            AggregateFunction::First if !known.is_null() => {}
            AggregateFunction::Last if added.is_null() => {}
            AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::First | AggregateFunction::Last => {
                *known = added.clone();
            }
            AggregateFunction::Collect => append(known, items(added))?,
            AggregateFunction::CountDistinct => unite(known, items(added))?,
            // By its own expression, above.
            AggregateFunction::Fold => {}
        }
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

fn items(list: &Value) -> &[Value] {
    if let Value::List(items) = list { items } else { &[] }
}

/// Puts values behind those of a list.
fn append(list: &mut Value, more: &[Value]) -> Result<(), Error> {
    let known = items(list);
    bounded("collect", known.len() + more.len())?;
    *list = Value::List(known.iter().chain(more).cloned().collect());
    Ok(())
}

/// Puts values into a list in [`Value::order`] that has each once.
fn unite(list: &mut Value, more: &[Value]) -> Result<(), Error> {
    for value in more {
        let known = items(list);
        let Err(place) = known.binary_search_by(|known| known.order(value)) else { continue };
        bounded("count_distinct", known.len() + 1)?;
        *list = Value::List(known[..place].iter().chain([value]).chain(&known[place..]).cloned().collect());
    }
    Ok(())
}

/// Puts a value into a list in [`Value::order`] that has each as often as it came.
fn put_in(list: &mut Value, value: Value, function: &str) -> Result<(), Error> {
    let known = items(list);
    bounded(function, known.len() + 1)?;
    let place = known.partition_point(|known| known.order(&value).is_lt());
    let (front, back) = known.split_at(place);
    *list = Value::List(front.iter().cloned().chain([value]).chain(back.iter().cloned()).collect());
    Ok(())
}

/// Takes a value out of such a list, once.
fn take_out(list: &mut Value, value: &Value) {
    let known = items(list);
    if let Ok(place) = known.binary_search_by(|known| known.order(value)) {
        *list = Value::List(known[..place].iter().chain(&known[place + 1..]).cloned().collect());
    }
}

fn bounded(function: &str, values: usize) -> Result<(), Error> {
    if values <= COLLECT_VALUES_MAX {
        return Ok(());
    }
    let message =
        format!("`{function}` keeps {COLLECT_VALUES_MAX} values a key at most, this would be one more (E1004)");
    Err(Error::Record { message })
}

fn unfit(function: &str, value: &Value) -> Error {
    Error::Record { message: format!("`{function}` cannot take {value:?}") }
}

/// Writes the result row of a state row into `out`.
pub fn result_row(node: &Aggregate, state: &[Value], out: &mut Vec<Value>) {
    shown_results(&node.results, state, out);
}

pub(super) fn shown_results(results: &[ResultField], state: &[Value], out: &mut Vec<Value>) {
    out.clear();
    out.extend(results.iter().map(|result| match *result {
        ResultField::Slot(slot) => state[slot].clone(),
        ResultField::Mean { sum, count } => match (&state[sum], &state[count]) {
            (Value::Double(sum), Value::Int(count)) if *count > 0 => Value::Double(sum / *count as f64),
            _ => Value::Null,
        },
        ResultField::Size(slot) => Value::Int(items(&state[slot]).len() as i64),
        ResultField::Least(slot) => items(&state[slot]).first().cloned().unwrap_or_default(),
        ResultField::Greatest(slot) => items(&state[slot]).last().cloned().unwrap_or_default(),
        ResultField::Different(slot) => {
            Value::Int(items(&state[slot]).chunk_by(|a, b| a.order(b).is_eq()).count() as i64)
        }
    }));
}
