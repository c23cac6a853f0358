//! Logical types: between what stands in bytes and what it means.

use crate::avro::schema::{Logical, Node, Shape};
use crate::base::time::{DateTime, TimeDelta};
use crate::base::value::{Decimal, Text, Value};

/// The unit that a moment or a time of day is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Day,
    Milli,
    Micro,
    Nano,
}

/// Returns the unit of a logical type that is a moment: `date`, `timestamp-*`, `local-timestamp-*`.
pub(crate) fn moment_unit(logical: Option<Logical>) -> Option<Unit> {
    match logical? {
        Logical::Date => Some(Unit::Day),
        Logical::TimestampMillis | Logical::LocalTimestampMillis => Some(Unit::Milli),
        Logical::TimestampMicros | Logical::LocalTimestampMicros => Some(Unit::Micro),
        Logical::TimestampNanos | Logical::LocalTimestampNanos => Some(Unit::Nano),
        Logical::Decimal { .. } | Logical::Uuid | Logical::TimeMillis | Logical::TimeMicros | Logical::Duration => None,
    }
}

/// Returns the unit of a logical type that is a time of day: `time-*`.
pub(crate) fn time_unit(logical: Option<Logical>) -> Option<Unit> {
    match logical? {
        Logical::TimeMillis => Some(Unit::Milli),
        Logical::TimeMicros => Some(Unit::Micro),
        Logical::Date
        | Logical::TimestampMillis
        | Logical::LocalTimestampMillis
        | Logical::TimestampMicros
        | Logical::LocalTimestampMicros
        | Logical::TimestampNanos
        | Logical::LocalTimestampNanos
        | Logical::Decimal { .. }
        | Logical::Uuid
        | Logical::Duration => None,
    }
}

/// Returns the moment that is `count` units after the epoch.
#[inline]
pub(crate) fn moment(count: i64, unit: Unit) -> DateTime {
    match unit {
        Unit::Day => DateTime { seconds: count.saturating_mul(SECONDS_PER_DAY), nanos: 0 },
        Unit::Milli => in_seconds::<1000>(count),
        Unit::Micro => in_seconds::<1_000_000>(count),
        Unit::Nano => in_seconds::<1_000_000_000>(count),
    }
}

/// `DateTime::from_units` with the unit known to the compiler: two multiplications where it has two divisions.
#[inline]
fn in_seconds<const PER_SECOND: i64>(count: i64) -> DateTime {
    let nanos = count.rem_euclid(PER_SECOND) * (1_000_000_000 / PER_SECOND);
    DateTime { seconds: count.div_euclid(PER_SECOND), nanos: nanos as u32 }
}

/// Returns the count of units from the epoch to a moment, rounded down; none when an `i64` cannot hold it.
pub(crate) fn moment_count(moment: DateTime, unit: Unit) -> Option<i64> {
    match unit {
        Unit::Day => Some(moment.seconds.div_euclid(SECONDS_PER_DAY)),
        Unit::Milli => moment.to_units(1000),
        Unit::Micro => moment.to_units(1_000_000),
        Unit::Nano => moment.to_units(1_000_000_000),
    }
}

/// Returns the time of day `count` units after midnight.
pub(crate) fn time_of_day(count: i64, unit: Unit) -> TimeDelta {
    let DateTime { seconds, nanos } = moment(count, unit);
    TimeDelta { seconds, nanos }
}

/// Returns the count of units of a time of day, rounded down; none when an `i64` cannot hold it.
pub(crate) fn time_count(time: TimeDelta, unit: Unit) -> Option<i64> {
    moment_count(DateTime { seconds: time.seconds, nanos: time.nanos }, unit)
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Reads a two's-complement big-endian integer; none when it is empty or does not fit.
pub(crate) fn unscaled_from_bytes(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let fill = if first >= 0x80 { 0xFF } else { 0 };
    let surplus = bytes.len().saturating_sub(16);
    let (lead, rest) = bytes.split_at(surplus);
    let mut wide = [fill; 16];
    wide[16 - rest.len()..].copy_from_slice(rest);
    let number = i128::from_be_bytes(wide);
    let same_sign = (number < 0) == (fill == 0xFF);
    (same_sign && lead.iter().all(|byte| *byte == fill)).then_some(number)
}

/// Writes the shortest two's-complement big-endian form.
pub(crate) fn unscaled_to_bytes(number: i128) -> ([u8; 16], usize) {
    let bytes = number.to_be_bytes();
    let fill = if number < 0 { 0xFF } else { 0 };
    let redundant = |index: usize| bytes[index] == fill && (bytes[index + 1] ^ fill) < 0x80;
    let start = (0..15).take_while(|index| redundant(*index)).count();
    (bytes, start)
}

/// Returns the unscaled number of `decimal` at `scale`, if it has no digits below it and has at most `precision` digits.
pub(crate) fn unscaled_at(decimal: &Decimal, precision: u32, scale: u32) -> Option<i128> {
    let unscaled = if decimal.scale <= scale {
        decimal.unscaled.checked_mul(10_i128.checked_pow(scale - decimal.scale)?)?
    } else {
        let power = 10_i128.checked_pow(decimal.scale - scale)?;
        (decimal.unscaled % power == 0).then_some(decimal.unscaled / power)?
    };
    let fits = 10_u128.checked_pow(precision).is_none_or(|limit| unscaled.unsigned_abs() < limit);
    fits.then_some(unscaled)
}

/// Returns the text form of a UUID: lowercase, with hyphens.
pub(crate) fn uuid_text(bytes: [u8; 16]) -> Text {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = Text::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// Reads a UUID's text form, with hyphens.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let hyphens_at = [8, 13, 18, 23];
    if text.len() != 36 || !hyphens_at.iter().all(|at| text.as_bytes()[*at] == b'-') {
        return None;
    }
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|byte| char::from(byte).to_digit(16));
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = (digits.next()?? * 16 + digits.next()??) as u8;
    }
    digits.next().is_none().then_some(bytes)
}

/// Gives an `int` or `long` its meaning.
pub(crate) fn from_integer(number: i64, logical: Option<Logical>) -> Value {
    if let Some(unit) = moment_unit(logical) {
        return Value::DateTime(moment(number, unit));
    }
    match time_unit(logical) {
        Some(unit) => Value::TimeDelta(time_of_day(number, unit)),
        None => Value::Int(number),
    }
}

/// Gives `bytes` or a `fixed` their meaning; none when a decimal does not fit.
pub(crate) fn from_bytes(bytes: &[u8], node: &Node) -> Option<Value> {
    match (node.logical, &node.shape) {
        (Some(Logical::Decimal { scale, .. }), _) => {
            let unscaled = unscaled_from_bytes(bytes)?;
            Some(Value::Decimal(Decimal { unscaled, scale }.into()))
        }
        (Some(Logical::Uuid), Shape::Fixed(_)) => Some(Value::String(uuid_text(bytes.try_into().ok()?))),
        _ => Some(Value::Bytes(bytes.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unscaled_numbers_take_their_shortest_bytes_and_come_back() {
        for number in [0, 1, -1, 127, 128, -128, -129, 255, 256, i128::MAX, i128::MIN, 1 << 64] {
            let (bytes, start) = unscaled_to_bytes(number);
            assert_eq!(unscaled_from_bytes(&bytes[start..]), Some(number));
            let shorter = start < 15 && unscaled_from_bytes(&bytes[start + 1..]) == Some(number);
            assert!(!shorter, "{number}");
        }
        assert_eq!(unscaled_to_bytes(-128).1, 15);
        assert_eq!(unscaled_to_bytes(128).1, 14);
    }

    #[test]
    fn longer_forms_of_a_number_that_fits_are_read_and_larger_numbers_are_not() {
        let mut long = [0; 20];
        long[19] = 5;
        assert_eq!(unscaled_from_bytes(&long), Some(5));
        assert_eq!(unscaled_from_bytes(&[0xFF; 40]), Some(-1));
        long[4] = 0x80;
        assert_eq!(unscaled_from_bytes(&long), None);
        long[3] = 1;
        assert_eq!(unscaled_from_bytes(&long), None);
        assert_eq!(unscaled_from_bytes(&[]), None);
    }

    #[test]
    fn a_decimal_is_rescaled_only_when_nothing_is_lost() {
        let decimal = |unscaled, scale| Decimal { unscaled, scale };
        assert_eq!(unscaled_at(&decimal(15, 1), 5, 2), Some(150));
        assert_eq!(unscaled_at(&decimal(1500, 3), 5, 2), Some(150));
        assert_eq!(unscaled_at(&decimal(1501, 3), 5, 2), None);
        assert_eq!(unscaled_at(&decimal(999, 0), 3, 0), Some(999));
        assert_eq!(unscaled_at(&decimal(-1000, 0), 3, 0), None);
        assert_eq!(unscaled_at(&decimal(i128::MAX, 0), 38, 1), None);
    }

    #[test]
    fn uuids_go_to_text_and_back() {
        let text = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        assert_eq!(uuid_bytes(text).map(uuid_text).as_deref(), Some(text));
        for wrong in ["", "f81d4fae7dec11d0a76500a0c91e6bf6", "f81d4fae-7dec-11d0-a765-00a0c91e6bfg"] {
            assert_eq!(uuid_bytes(wrong), None);
        }
    }
}
