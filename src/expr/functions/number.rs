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

pub(super) fn is_infinite(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Bool(number.is_infinite()))
}

pub(super) fn is_finite(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Bool(number.is_finite()))
}

/// -1, 0 or 1, in the number's own type; NaN stays.
pub(super) fn sign(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(number)] => Ok(Value::Int(number.signum())),
        [Value::Uint(number)] => Ok(Value::Uint((*number).min(1))),
        [Value::Double(number)] if *number == 0.0 || number.is_nan() => Ok(Value::Double(*number)),
        [Value::Double(number)] => Ok(Value::Double(number.signum())),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn square_root(args: &[&Value]) -> Result<Value, Failure> {
    let number = if let [Value::Double(number)] = args { Some(*number) } else { to_double(args)?.as_double() };
    number.map(|number| Value::Double(number.sqrt())).ok_or_else(|| mismatch(args))
}

pub(super) fn bit_and(args: &[&Value]) -> Result<Value, Failure> {
    bits(args, |a, b| a & b)
}

pub(super) fn bit_or(args: &[&Value]) -> Result<Value, Failure> {
    bits(args, |a, b| a | b)
}

pub(super) fn bit_xor(args: &[&Value]) -> Result<Value, Failure> {
    bits(args, |a, b| a ^ b)
}

fn bits(args: &[&Value], op: fn(u64, u64) -> u64) -> Result<Value, Failure> {
    match args {
        [Value::Int(a), Value::Int(b)] => Ok(Value::Int(op(a.cast_unsigned(), b.cast_unsigned()).cast_signed())),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(op(*a, *b))),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn bit_not(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(number)] => Ok(Value::Int(!number)),
        [Value::Uint(number)] => Ok(Value::Uint(!number)),
        _ => Err(mismatch(args)),
    }
}

pub(super) fn shift_left(args: &[&Value]) -> Result<Value, Failure> {
    shift(args, |bits, by| bits.checked_shl(by).unwrap_or(0))
}

/// Zeros come in from the left, also for an int that is negative.
pub(super) fn shift_right(args: &[&Value]) -> Result<Value, Failure> {
    shift(args, |bits, by| bits.checked_shr(by).unwrap_or(0))
}

fn shift(args: &[&Value], op: fn(u64, u32) -> u64) -> Result<Value, Failure> {
    let [number, Value::Int(by)] = args else { return Err(mismatch(args)) };
    let Ok(by) = u64::try_from(*by) else { return Err(Failure::Owned(format!("a shift by {by}, which is negative"))) };
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    if let Value::Uint(number) = number {
        return Ok(Value::Uint(op(*number, by)));
    }
    let number = number.as_int().ok_or_else(|| mismatch(args))?;
    Ok(Value::Int(op(number.cast_unsigned(), by).cast_signed()))
}

/// What becomes of the digits that a smaller scale has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearest, halves away from zero: as `math.round`.
    HalfAway,
    /// To the nearest, halves to the even digit: as doubles are written.
    HalfEven,
}

/// Gives a decimal another scale; none when the result has no room.
pub(super) fn rescaled(decimal: Decimal, scale: u32, rounding: Rounding) -> Option<Decimal> {
    let Decimal { unscaled, scale: old } = decimal;
    if scale >= old {
        return Some(Decimal { unscaled: 10_i128.checked_pow(scale - old)?.checked_mul(unscaled)?, scale });
    }
    let Some(power) = 10_i128.checked_pow(old - scale) else { return Some(Decimal { unscaled: 0, scale }) };
    let (whole, rest) = (unscaled / power, (unscaled % power).unsigned_abs());
    let up = match rest.cmp(&(power.unsigned_abs() - rest)) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => rounding == Rounding::HalfAway || whole % 2 != 0,
    };
    Some(Decimal { unscaled: whole + if up { unscaled.signum() } else { 0 }, scale })
}

/// `decimal(x, precision, scale)`: rounds to the scale, and fails where the digits are too many.
pub(super) fn to_decimal(args: &[&Value]) -> Result<Value, Failure> {
    let [value, Value::Int(precision), Value::Int(scale)] = args else { return Err(mismatch(args)) };
    let (Ok(precision), Ok(scale)) = (u32::try_from(*precision), u32::try_from(*scale)) else {
        return Err(mismatch(args));
    };
    let outside = |what: String| Failure::Owned(format!("{what} does not fit a decimal({precision}, {scale})"));
    let (exact, written) = if let Value::String(text) = value {
        let exact = parse_decimal(text).ok_or_else(|| Failure::Owned(format!("`{text}` is not a decimal")))?;
        (Some(exact), text.to_string())
    } else if let Value::Double(number) = value {
        // By the shortest text that gives the double.
        (parse_decimal(&number.to_string()), number.to_string())
    } else {
        let exact = as_decimal(value).ok_or_else(|| mismatch(args))?;
        (Some(exact), exact.to_string())
    };
    let rounded = exact.and_then(|exact| rescaled(exact, scale, Rounding::HalfAway));
    let fits =
        |decimal: &Decimal| 10_u128.checked_pow(precision).is_none_or(|bound| decimal.unscaled.unsigned_abs() < bound);
    let decimal = rounded.filter(fits).ok_or_else(|| outside(written))?;
    Ok(Value::Decimal(Arc::new(decimal)))
}

/// Reads `-12.50`; digits beyond what a decimal holds behind the point are cut off, before it they are too many.
fn parse_decimal(text: &str) -> Option<Decimal> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let room = 38_usize.saturating_sub(whole.trim_start_matches('0').len());
    let fraction = &fraction[..fraction.len().min(room)];
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some(Decimal { unscaled: sign * unscaled, scale: fraction.len() as u32 })
}

pub(super) fn is_nan(args: &[&Value]) -> Result<Value, Failure> {
    double(args).map(|number| Value::Bool(number.is_nan()))
}
