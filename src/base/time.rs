//! Time as data: record timestamps in milliseconds, exact moments and differences for values. No clock is read here.

use std::fmt;

/// The Unix epoch on a wall in UTC.
const EPOCH: jiff::civil::DateTime = jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A record's timestamp: milliseconds since the Unix epoch, Kafka's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every record: the stream time of a task that has seen none.
    pub const UNKNOWN: Self = Self(i64::MIN);

    /// Returns the moment this many milliseconds name.
    pub fn to_date_time(self) -> DateTime {
        DateTime { seconds: self.0.div_euclid(1000), nanos: self.0.rem_euclid(1000) as u32 * 1_000_000 }
    }

    /// Returns the timestamp `span` later, clamped to what an `i64` holds.
    #[must_use]
    pub fn saturating_add(self, span: SpanMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns the timestamp `span` earlier, clamped to what an `i64` holds.
    #[must_use]
    pub fn saturating_sub(self, span: SpanMs) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNKNOWN { f.write_str("none") } else { self.to_date_time().fmt(f) }
    }
}

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanMs(pub i64);

impl SpanMs {
    /// A regular expression of what [`SpanMs::parse`] takes, but for numbers that are too large.
    pub const PATTERN: &str = "^(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

    /// Parses `250ms`, `30s`, `10m`, `1h`, `400d`, or a sum of them from large to small: `1h30m`.
    ///
    /// # Errors
    /// Says what was expected when the text is none of these, or is longer than an `i64` of milliseconds holds.
    pub fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let wrong = || format!("`{text}` is not a duration: write it like `250ms`, `30s`, `10m`, `1h30m` or `400d`");
        let (mut rest, mut total, mut last) = (text, 0_i64, usize::MAX);
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            let rank = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
            if last != usize::MAX && rank <= last {
                return Err(wrong());
            }
            let count: i64 = number.parse().map_err(|_| wrong())?;
            total = count.checked_mul(UNITS[rank].1).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
            (rest, last) = (tail, rank);
        }
        if last == usize::MAX { Err(wrong()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for SpanMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        for (unit, ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if rest >= ms {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

/// An exact moment in UTC: CEL's `timestamp`, every Avro `timestamp-*` and `date`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DateTime {
    /// Seconds since the Unix epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

impl DateTime {
    /// Returns the moment `count` units of `1/per_second` s after the epoch; `per_second` is 1000, 1,000,000 or 1,000,000,000.
    pub fn from_units(count: i64, per_second: i64) -> Self {
        let nanos = count.rem_euclid(per_second) * (1_000_000_000 / per_second);
        Self { seconds: count.div_euclid(per_second), nanos: nanos as u32 }
    }

    /// Returns the count of units of `1/per_second` s since the epoch, rounded down, or none when an `i64` cannot hold it.
    pub fn to_units(self, per_second: i64) -> Option<i64> {
        let part = i64::from(self.nanos) / (1_000_000_000 / per_second);
        self.seconds.checked_mul(per_second)?.checked_add(part)
    }

    /// Returns the record timestamp, rounded down to milliseconds and clamped.
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp(self.to_units(1000).unwrap_or(if self.seconds < 0 { i64::MIN } else { i64::MAX }))
    }

    /// Parses RFC 3339, `2013-07-01T12:00:00Z`, with or without an offset other than `Z`.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let moment: Result<jiff::Timestamp, _> = text.parse();
        // The last two days of the year 9999 are outside jiff's timestamps, but not outside its dates.
        let nanos = match moment {
            Ok(moment) => Some(moment.as_nanosecond()),
            Err(_) => text
                .strip_suffix('Z')
                .filter(|wall| wall.starts_with("9999-12-3"))
                .and_then(|wall| wall.parse::<jiff::civil::DateTime>().ok())
                .map(|wall| wall.duration_since(EPOCH).as_nanos()),
        };
        let nanos =
            nanos.ok_or_else(|| format!("`{text}` is not a time: write it like `2013-07-01T12:00:00Z` (RFC 3339)"))?;
        Ok(Self { seconds: nanos.div_euclid(1_000_000_000) as i64, nanos: nanos.rem_euclid(1_000_000_000) as u32 })
    }
}

impl fmt::Display for DateTime {
    /// RFC 3339 in UTC with as many digits as needed; outside the years -9999 to 9999, the raw seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(moment) = jiff::Timestamp::new(self.seconds, self.nanos as i32) {
            return moment.fmt(f);
        }
        match EPOCH.checked_add(jiff::SignedDuration::new(self.seconds, self.nanos as i32)) {
            Ok(wall) => write!(f, "{wall}Z"),
            Err(_) => write!(f, "@{}s", self.seconds),
        }
    }
}

/// An exact difference of two moments: CEL's `duration`, Avro's `time-*` (since midnight).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeDelta {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

impl TimeDelta {
    /// Returns the difference of `count` units of `1/per_second` s.
    pub fn from_units(count: i64, per_second: i64) -> Self {
        let DateTime { seconds, nanos } = DateTime::from_units(count, per_second);
        Self { seconds, nanos }
    }

    /// Returns the count of units of `1/per_second` s, rounded down, or none when an `i64` cannot hold it.
    pub fn to_units(self, per_second: i64) -> Option<i64> {
        DateTime { seconds: self.seconds, nanos: self.nanos }.to_units(per_second)
    }
}

impl fmt::Display for TimeDelta {
    /// CEL's text form: seconds with a fraction, `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        let (sign, absolute) = if total < 0 { ("-", -total) } else { ("", total) };
        write!(f, "{sign}{}", absolute / 1_000_000_000)?;
        if absolute % 1_000_000_000 != 0 {
            let fraction = format!("{:09}", absolute % 1_000_000_000);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print_alike() {
        for text in ["250ms", "30s", "10m", "1h", "400d", "1h30m", "1d2h3m4s5ms"] {
            assert_eq!(SpanMs::parse(text).map(|span| span.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "10", "h", "1m1h", "1h1h", "-1s", "1 h", "99999999999999999999d"] {
            assert!(SpanMs::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_before_the_epoch_keep_positive_fractions() {
        let moment = DateTime::from_units(-1, 1000);
        assert_eq!(moment, DateTime { seconds: -1, nanos: 999_000_000 });
        assert_eq!(moment.to_units(1000), Some(-1));
        assert_eq!(
            DateTime::parse("2013-07-01T12:00:00.25Z").map(|m| m.to_string()),
            Ok("2013-07-01T12:00:00.25Z".into())
        );
    }
}
