//! Lists, maps, and equality over everything.

use std::cmp::Ordering;

use crate::base::value::Value;

use super::{Failure, compare, mismatch};

/// CEL's equality: numbers by what they are whatever their types, NaN unlike itself, collections by their items.
pub(in crate::expr) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::List(a), Value::List(b)) | (Value::Record(a), Value::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        // Both are in the order of their keys.
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(&a.0, &b.0) && equal(&a.1, &b.1))
        }
        (Value::Union(a), Value::Union(b)) => a.0 == b.0 && equal(&a.1, &b.1),
        _ => compare(a, b) == Some(Ordering::Equal),
    }
}

pub(super) fn concatenate(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::List(a), Value::List(b)] = args else { return Err(mismatch(args)) };
    Ok(Value::List(a.iter().chain(b.iter()).cloned().collect()))
}

pub(super) fn size(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::List(items)] => Ok(Value::Int(items.len() as i64)),
        [Value::Map(entries)] => Ok(Value::Int(entries.len() as i64)),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn is_in(args: &[&Value]) -> Result<Value, Failure> {
    let [item, Value::List(items)] = args else { return Err(mismatch(args)) };
    if let Value::String(text) = item {
        let is_text = |other: &Value| matches!(other, Value::String(other) if other.as_bytes() == text.as_bytes());
        return Ok(Value::Bool(items.iter().any(is_text)));
    }
    Ok(Value::Bool(items.iter().any(|other| equal(item, other))))
}

pub(super) fn contains(args: &[&Value]) -> Result<Value, Failure> {
    let [list, item] = args else { return Err(mismatch(args)) };
    is_in(&[item, list])
}

fn find<'a>(entries: &'a [(Value, Value)], key: &Value) -> Option<&'a Value> {
    let at = entries.binary_search_by(|(other, _)| other.order(key)).ok()?;
    Some(&entries[at].1)
}

pub(super) fn has_key(args: &[&Value]) -> Result<Value, Failure> {
    let [key, Value::Map(entries)] = args else { return Err(mismatch(args)) };
    Ok(Value::Bool(find(entries, key).is_some()))
}

fn number(index: &Value) -> Option<i128> {
    if let Value::Uint(index) = index { Some(i128::from(*index)) } else { index.as_int().map(i128::from) }
}

fn at<'a>(items: &'a [Value], index: &Value) -> Option<&'a Value> {
    items.get(usize::try_from(number(index)?).ok()?)
}

pub(super) fn item(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::List(items), index] = args else { return Err(mismatch(args)) };
    match (at(items, index), number(index)) {
        (Some(item), _) => Ok(item.clone()),
        (None, Some(index)) => Err(Failure::Owned(format!("index {index} is outside a list of size {}", items.len()))),
        (None, None) => Err(mismatch(args)),
    }
}

/// Of null, too: of what is absent every item is.
pub(super) fn item_or_null(args: &[&Value]) -> Result<Value, Failure> {
    if let [Value::Null, _] = args {
        return Ok(Value::Null);
    }
    let [Value::List(items), index] = args else { return Err(mismatch(args)) };
    Ok(at(items, index).cloned().unwrap_or(Value::Null))
}

pub(super) fn entry(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::Map(entries), key] = args else { return Err(mismatch(args)) };
    match find(entries, key) {
        Some(value) => Ok(value.clone()),
        None => Err(Failure::Owned(format!("no such key: `{}`", key.as_str().unwrap_or_default()))),
    }
}

pub(super) fn entry_or_null(args: &[&Value]) -> Result<Value, Failure> {
    if let [Value::Null, _] = args {
        return Ok(Value::Null);
    }
    let [Value::Map(entries), key] = args else { return Err(mismatch(args)) };
    Ok(find(entries, key).cloned().unwrap_or(Value::Null))
}

pub(super) fn first(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::List(items)] = args else { return Err(mismatch(args)) };
    Ok(items.first().cloned().unwrap_or_default())
}

pub(super) fn last(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::List(items)] = args else { return Err(mismatch(args)) };
    Ok(items.last().cloned().unwrap_or_default())
}

/// Null for what CEL calls zero: false, 0, what is empty, the epoch, no time at all.
pub(super) fn not_zero(args: &[&Value]) -> Result<Value, Failure> {
    let [value] = args else { return Err(mismatch(args)) };
    let zero = match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::DateTime(moment) => moment.seconds == 0 && moment.nanos == 0,
        Value::TimeDelta(length) => length.seconds == 0 && length.nanos == 0,
        Value::Decimal(decimal) => decimal.unscaled == 0,
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Record(_) | Value::Union(_) => false,
    };
    Ok(if zero { Value::Null } else { (*value).clone() })
}
