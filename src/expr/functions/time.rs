//! Moments and differences of time: CEL's `timestamp` (years 1 to 9999) and `duration` (292 years).
//!
//! Time zones are `UTC` or a fixed offset `+02:00`; names of the IANA database are not known here.

use crate::base::time::{DateTime, TimeDelta};
use crate::base::value::Value;

use super::{Failure, mismatch};

const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// 0001-01-01T00:00:00Z.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;

fn moment(nanos: i128) -> Result<Value, Failure> {
    let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).unwrap_or(i64::MAX);
    if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Err("the result is outside the years 1 to 9999".into());
    }
    Ok(Value::DateTime(DateTime { seconds, nanos: nanos.rem_euclid(NANOS_PER_SECOND) as u32 }))
}

/// CEL's durations are nanoseconds in an int.
fn length(nanos: i128) -> Result<Value, Failure> {
    if i64::try_from(nanos).is_err() {
        return Err("the result is a duration of more than 292 years".into());
    }
    let seconds = nanos.div_euclid(NANOS_PER_SECOND) as i64;
    Ok(Value::TimeDelta(TimeDelta { seconds, nanos: nanos.rem_euclid(NANOS_PER_SECOND) as u32 }))
}

fn nanos_of(value: &Value) -> Option<i128> {
    let (Value::DateTime(DateTime { seconds, nanos }) | Value::TimeDelta(TimeDelta { seconds, nanos })) = value else {
        return None;
    };
    Some(i128::from(*seconds) * NANOS_PER_SECOND + i128::from(*nanos))
}

fn two(args: &[&Value]) -> Result<(i128, i128), Failure> {
    let [a, b] = args else { return Err(mismatch(args)) };
    nanos_of(a).zip(nanos_of(b)).ok_or_else(|| mismatch(args))
}

pub(super) fn later(args: &[&Value]) -> Result<Value, Failure> {
    two(args).and_then(|(a, b)| moment(a + b))
}

pub(super) fn earlier(args: &[&Value]) -> Result<Value, Failure> {
    two(args).and_then(|(a, b)| moment(a - b))
}

pub(super) fn between(args: &[&Value]) -> Result<Value, Failure> {
    two(args).and_then(|(a, b)| length(a - b))
}

pub(super) fn difference(args: &[&Value]) -> Result<Value, Failure> {
    between(args)
}

pub(super) fn sum(args: &[&Value]) -> Result<Value, Failure> {
    two(args).and_then(|(a, b)| length(a + b))
}

pub(super) fn to_timestamp(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::Int(seconds)] => moment(i128::from(*seconds) * NANOS_PER_SECOND),
        [Value::String(text)] => {
            let parsed = DateTime::parse(text).map_err(Failure::Owned)?;
            moment(i128::from(parsed.seconds) * NANOS_PER_SECOND + i128::from(parsed.nanos))
        }
        _ => Err(mismatch(args)),
    }
}

pub(super) fn to_duration(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::String(text)] = args else { return Err(mismatch(args)) };
    match parse_duration(text) {
        Some(nanos) => length(nanos),
        None => Err(Failure::Owned(format!("`{text}` is not a duration: write it like `90s`, `1h30m` or `1.5s`"))),
    }
}

/// CEL's text form of durations: a sign, then numbers with a fraction and a unit of h, m, s, ms, us, ns; or `0`.
fn parse_duration(text: &str) -> Option<i128> {
    const UNITS: [(&str, i128); 6] = [
        ("ns", 1),
        ("us", 1000),
        ("ms", 1_000_000),
        ("s", NANOS_PER_SECOND),
        ("m", 60 * NANOS_PER_SECOND),
        ("h", 3600 * NANOS_PER_SECOND),
    ];
    let (sign, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i128;
    let mut first = true;
    while first || !rest.is_empty() {
        first = false;
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // Eighteen digits are as many as the nanoseconds of a duration have, and more than a nanosecond of an hour needs.
        if whole.len() > 18 || fraction.contains('.') {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(18)];
        let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let part = number(fraction)? * nanos / 10_i128.pow(fraction.len() as u32);
        total = total.checked_add(number(whole)? * nanos + part)?;
        rest = tail;
    }
    Some(sign * total)
}

/// Returns the offset of `UTC`, `Z` or `±hh:mm`.
pub(in crate::expr) fn zone_offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "UTC" | "Z" | "") {
        return Some(0);
    }
    let (sign, rest) = match zone.as_bytes().first()? {
        b'-' => (-1, &zone[1..]),
        b'+' => (1, &zone[1..]),
        _ => (1, zone),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, max: i64| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| digits && *number <= max)
    };
    Some(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60))
}

/// A moment on the wall: days since the epoch, and the second of that day.
fn wall(args: &[&Value]) -> Result<(i64, i64), Failure> {
    let (moment, offset) = match args {
        [Value::DateTime(moment)] => (moment, 0),
        [Value::DateTime(moment), Value::String(zone)] => {
            let offset = zone_offset_seconds(zone)
                .ok_or_else(|| Failure::Owned(format!("`{zone}` is not a time zone: write `UTC` or `+02:00`")))?;
            (moment, offset)
        }
        _ => return Err(mismatch(args)),
    };
    let seconds = moment.seconds.saturating_add(offset);
    Ok((seconds.div_euclid(86_400), seconds.rem_euclid(86_400)))
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from the epoch; Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn on_wall(args: &[&Value], part: impl Fn(i64, i64) -> i64) -> Result<Value, Failure> {
    wall(args).map(|(days, seconds)| Value::Int(part(days, seconds)))
}

pub(super) fn full_year(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| civil(days).0)
}

/// From 0.
pub(super) fn month(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| civil(days).1 - 1)
}

/// Day of the month from 1.
pub(super) fn date(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| civil(days).2)
}

/// From 0.
pub(super) fn day_of_month(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| civil(days).2 - 1)
}

/// From 0, a Sunday.
pub(super) fn day_of_week(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| (days + 4).rem_euclid(7))
}

/// From 0.
pub(super) fn day_of_year(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |days, _| {
        let (year, month, day) = civil(days);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        BEFORE[(month - 1) as usize] + i64::from(leap && month > 2) + day - 1
    })
}

pub(super) fn hours(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |_, seconds| seconds / 3600)
}

pub(super) fn minutes(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |_, seconds| seconds / 60 % 60)
}

pub(super) fn seconds(args: &[&Value]) -> Result<Value, Failure> {
    on_wall(args, |_, seconds| seconds % 60)
}

pub(super) fn milliseconds(args: &[&Value]) -> Result<Value, Failure> {
    wall(args)?;
    match args {
        [Value::DateTime(moment), ..] => Ok(Value::Int(i64::from(moment.nanos / 1_000_000))),
        _ => Err(mismatch(args)),
    }
}

fn whole(args: &[&Value], seconds_per_unit: i128) -> Result<Value, Failure> {
    let [Value::TimeDelta(_)] = args else { return Err(mismatch(args)) };
    let nanos = nanos_of(args[0]).ok_or_else(|| mismatch(args))?;
    // Towards zero, and within an i64: a second is the smallest unit asked for.
    Ok(Value::Int((nanos / (NANOS_PER_SECOND * seconds_per_unit)) as i64))
}

pub(super) fn whole_hours(args: &[&Value]) -> Result<Value, Failure> {
    whole(args, 3600)
}

pub(super) fn whole_minutes(args: &[&Value]) -> Result<Value, Failure> {
    whole(args, 60)
}

pub(super) fn whole_seconds(args: &[&Value]) -> Result<Value, Failure> {
    whole(args, 1)
}

/// The milliseconds within the second, as CEL has it; not the whole duration in milliseconds.
pub(super) fn milliseconds_part(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::TimeDelta(_)] = args else { return Err(mismatch(args)) };
    let nanos = nanos_of(args[0]).ok_or_else(|| mismatch(args))?;
    Ok(Value::Int((nanos % NANOS_PER_SECOND / 1_000_000) as i64))
}
