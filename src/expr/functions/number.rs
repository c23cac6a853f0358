//! Numbers: exact arithmetic that fails where it overflows, comparison on one number line, conversions.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::value::{Decimal, Value};

use super::{Failure, mismatch};

const OVERFLOW_INT: Failure = Failure::Borrowed("the result does not fit an int");
const OVERFLOW_UINT: Failure = Failure::Borrowed("the result does not fit a uint");
const OVERFLOW_DECIMAL: Failure = Failure::Borrowed("the result does not fit a decimal of 38 digits");
const BY_ZERO: Failure = Failure::Borrowed("division by zero");

pub(super) fn add(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(a), Value::Int(b)] => a.checked_add(*b).map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(a), Value::Uint(b)] => a.checked_add(*b).map(Value::Uint).ok_or(OVERFLOW_UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        _ => exact(args, |a, b| sum(a, b, i128::checked_add)),
    }
}

pub(super) fn subtract(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(a), Value::Int(b)] => a.checked_sub(*b).map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(a), Value::Uint(b)] => a.checked_sub(*b).map(Value::Uint).ok_or(OVERFLOW_UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        _ => exact(args, |a, b| sum(a, b, i128::checked_sub)),
    }
}

pub(super) fn multiply(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(a), Value::Int(b)] => a.checked_mul(*b).map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(a), Value::Uint(b)] => a.checked_mul(*b).map(Value::Uint).ok_or(OVERFLOW_UINT),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => exact(args, |a, b| {
            Some(Decimal { unscaled: a.unscaled.checked_mul(b.unscaled)?, scale: a.scale.checked_add(b.scale)? })
        }),
    }
}

pub(super) fn divide(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(BY_ZERO),
        [Value::Int(a), Value::Int(b)] => a.checked_div(*b).map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn remainder(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(BY_ZERO),
        [Value::Int(a), Value::Int(b)] => a.checked_rem(*b).map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn negate(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(a)] => a.checked_neg().map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        [Value::Decimal(a)] => {
            let unscaled = a.unscaled.checked_neg().ok_or(OVERFLOW_DECIMAL)?;
            Ok(Value::Decimal(Arc::new(Decimal { unscaled, scale: a.scale })))
        }
        _ => Err(mismatch(args)),
    }
}

fn exact(args: &[&Value], op: impl Fn(Decimal, Decimal) -> Option<Decimal>) -> Result<Value, Failure> {
    let [a, b] = args else { return Err(mismatch(args)) };
    let (Some(a), Some(b)) = (as_decimal(a), as_decimal(b)) else { return Err(mismatch(args)) };
    op(a, b).map(|decimal| Value::Decimal(Arc::new(decimal))).ok_or(OVERFLOW_DECIMAL)
}

fn sum(a: Decimal, b: Decimal, op: fn(i128, i128) -> Option<i128>) -> Option<Decimal> {
    let scale = a.scale.max(b.scale);
    let widen = |d: Decimal| 10_i128.checked_pow(scale - d.scale)?.checked_mul(d.unscaled);
    Some(Decimal { unscaled: op(widen(a)?, widen(b)?)?, scale })
}

fn as_decimal(value: &Value) -> Option<Decimal> {
    if let Value::Decimal(decimal) = value {
        Some(**decimal)
    } else if let Value::Int(number) = value {
        Some(Decimal { unscaled: i128::from(*number), scale: 0 })
    } else if let Value::Uint(number) = value {
        Some(Decimal { unscaled: i128::from(*number), scale: 0 })
    } else {
        None
    }
}

/// CEL's order, all numbers on one line; none when there is no order: NaN, or values of different kinds.
pub(in crate::expr) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::DateTime(a), Value::DateTime(b)) => Some(a.cmp(b)),
        (Value::TimeDelta(a), Value::TimeDelta(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Double(b)) => compare_int_double(i128::from(*a), *b),
        (Value::Uint(a), Value::Double(b)) => compare_int_double(i128::from(*a), *b),
        (Value::Double(a), Value::Int(b)) => compare_int_double(i128::from(*b), *a).map(Ordering::reverse),
        (Value::Double(a), Value::Uint(b)) => compare_int_double(i128::from(*b), *a).map(Ordering::reverse),
        (a, b) => Some(as_decimal(a)?.order(&as_decimal(b)?)),
    }
}

/// Orders a 64-bit integer and a double by the numbers they are, without rounding either.
fn compare_int_double(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    // Beyond both 64-bit types a double's sign decides; within, its whole part converts exactly.
    if b.abs() >= 2.0_f64.powi(65) {
        return Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let whole = b.trunc();
    let fraction = b - whole;
    Some(a.cmp(&(whole as i128)).then_with(|| 0.0_f64.partial_cmp(&fraction).unwrap_or(Ordering::Equal)))
}

pub(super) fn to_int(args: &[&Value]) -> Result<Value, Failure> {
    let outside = |what: String| Failure::Owned(format!("{what} does not fit an int"));
    let number = match args {
        [Value::Uint(number)] => i64::try_from(*number).map_err(|_| outside(number.to_string()))?,
        [Value::Double(number)] => {
            // CEL's range leaves out both ends, which a double cannot tell from their neighbours outside.
            if number.is_nan() || number.abs() >= 9_223_372_036_854_775_808.0 {
                return Err(outside(number.to_string()));
            }
            *number as i64
        }
        [Value::Decimal(decimal)] => {
            let whole = 10_i128.checked_pow(decimal.scale).map_or(0, |power| decimal.unscaled / power);
            i64::try_from(whole).map_err(|_| outside(decimal.to_string()))?
        }
        [Value::String(text)] => text.parse().map_err(|_| Failure::Owned(format!("`{text}` is not an int")))?,
        [Value::DateTime(moment)] => moment.seconds,
        _ => return Err(mismatch(args)),
    };
    Ok(Value::Int(number))
}

pub(super) fn to_uint(args: &[&Value]) -> Result<Value, Failure> {
    let outside = |what: String| Failure::Owned(format!("{what} does not fit a uint"));
    let number = match args {
        [Value::Int(number)] => u64::try_from(*number).map_err(|_| outside(number.to_string()))?,
        [Value::Double(number)] => {
            if !(*number > -1.0 && *number < 18_446_744_073_709_551_616.0) {
                return Err(outside(number.to_string()));
            }
            *number as u64
        }
        [Value::String(text)] => text.parse().map_err(|_| Failure::Owned(format!("`{text}` is not a uint")))?,
        _ => return Err(mismatch(args)),
    };
    Ok(Value::Uint(number))
}

pub(super) fn to_double(args: &[&Value]) -> Result<Value, Failure> {
    let number = match args {
        [Value::Int(number)] => *number as f64,
        [Value::Uint(number)] => *number as f64,
        // By its text, so that the nearest double is met whatever the scale.
        [Value::Decimal(decimal)] => decimal.to_string().parse().map_err(|_| mismatch(args))?,
        [Value::String(text)] => text.parse().map_err(|_| Failure::Owned(format!("`{text}` is not a double")))?,
        _ => return Err(mismatch(args)),
    };
    Ok(Value::Double(number))
}

pub(super) fn greatest(args: &[&Value]) -> Result<Value, Failure> {
    extreme(args, Ordering::Greater)
}

pub(super) fn least(args: &[&Value]) -> Result<Value, Failure> {
    extreme(args, Ordering::Less)
}

fn extreme(args: &[&Value], wanted: Ordering) -> Result<Value, Failure> {
    let pick = |best: &Value, next: &Value| compare(next, best) == Some(wanted);
    let mut items: Box<dyn Iterator<Item = &Value>> = match args {
        [Value::List(items)] => Box::new(items.iter()),
        _ => Box::new(args.iter().copied()),
    };
    let Some(first) = items.next() else { return Err("the list is empty".into()) };
    Ok(items.fold(first, |best, next| if pick(best, next) { next } else { best }).clone())
}

pub(super) fn absolute(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(number)] => number.checked_abs().map(Value::Int).ok_or(OVERFLOW_INT),
        [Value::Uint(number)] => Ok(Value::Uint(*number)),
        [Value::Double(number)] => Ok(Value::Double(number.abs())),
        _ => Err(mismatch(args)),
    }
}

fn double(args: &[&Value]) -> Result<f64, Failure> {
    if let [Value::Double(number)] = args { Ok(*number) } else { Err(mismatch(args)) }
}

pub(super) fn ceil(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Double(number.ceil()))
}

pub(super) fn floor(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Double(number.floor()))
}

/// Halves go away from zero.
pub(super) fn round(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Double(number.round()))
}

pub(super) fn trunc(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Double(number.trunc()))
}

pub(super) fn is_nan(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Bool(number.is_nan()))
}
