//! The demo's answers computed from the CSV alone: plain loops over plain rows, sharing no code with tidemill.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Milliseconds since the epoch.
pub(crate) type Millis = i64;

const HOUR: Millis = 3_600_000;
const MINUTE: Millis = 60_000;

/// What happened in a range of time.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reference {
    pub(crate) totals: BTreeMap<String, Totals>,
    /// By origin and start of the hour; hours without a departure are absent.
    pub(crate) hours: BTreeMap<(String, Millis), Hour>,
    /// Departures more than 15 minutes late, by origin.
    pub(crate) late: BTreeMap<String, u64>,
}

/// What happened at an origin.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) scheduled: u64,
    pub(crate) departed: u64,
    pub(crate) cancelled: u64,
    pub(crate) arrived: u64,
    pub(crate) delay_min_sum: i64,
}

impl Totals {
    /// The mean departure delay; none without a departure.
    pub(crate) fn mean_delay(&self) -> Option<f64> {
        (self.departed > 0).then(|| self.delay_min_sum as f64 / self.departed as f64)
    }

    /// The count of events.
    pub(crate) fn events(&self) -> u64 {
        self.scheduled + self.departed + self.cancelled + self.arrived
    }
}

/// The departures of an origin in an hour of UTC.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hour {
    pub(crate) departures: u64,
    pub(crate) delay_min_sum: i64,
    pub(crate) worst_min: i64,
}

impl Hour {
    /// The mean departure delay.
    pub(crate) fn mean(&self) -> f64 {
        self.delay_min_sum as f64 / self.departures as f64
    }
}

impl Reference {
    /// Reads `flights.csv` and counts what occurred in the range.
    pub(crate) fn compute(flights: &Path, when: Range<Millis>) -> Self {
        let mut reference = Self::default();
        let mut reader = csv::Reader::from_path(flights).expect("flights.csv opens");
        let columns = reader.headers().expect("a header").clone();
        let column = |name: &str| columns.iter().position(|column| column == name).expect("a column of flights.csv");
        let [hour, minute, origin] = ["time_hour", "minute", "origin"].map(column);
        let [dep_time, dep_delay, air_time] = ["dep_time", "dep_delay", "air_time"].map(column);
        for row in reader.records() {
            let row = row.expect("a row");
            let number = |column: usize| row[column].parse::<i64>().ok();
            let scheduled = utc(&row[hour]) + number(minute).expect("a minute") * MINUTE;
            let departed = number(dep_time).map(|_| number(dep_delay).expect("a delay"));
            reference.count(&row[origin], scheduled, departed, number(air_time), &when);
        }
        reference
    }

    fn count(
        &mut self,
        origin: &str,
        scheduled: Millis,
        delay: Option<i64>,
        air_time: Option<i64>,
        when: &Range<Millis>,
    ) {
        let totals = self.totals.entry(origin.to_owned()).or_default();
        if when.contains(&(scheduled - 24 * HOUR)) {
            totals.scheduled += 1;
        }
        let Some(delay) = delay else {
            totals.cancelled += u64::from(when.contains(&scheduled));
            return;
        };
        let left = scheduled + delay * MINUTE;
        if let Some(minutes) = air_time {
            totals.arrived += u64::from(when.contains(&(left + minutes * MINUTE)));
        }
        if !when.contains(&left) {
            return;
        }
        totals.departed += 1;
        totals.delay_min_sum += delay;
        if delay > 15 {
            *self.late.entry(origin.to_owned()).or_default() += 1;
        }
        let hour = self.hours.entry((origin.to_owned(), left - left.rem_euclid(HOUR)));
        let hour = hour.or_insert(Hour { departures: 0, delay_min_sum: 0, worst_min: i64::MIN });
        hour.departures += 1;
        hour.delay_min_sum += delay;
        hour.worst_min = hour.worst_min.max(delay);
    }

    /// The hours with at least so many departures, largest mean first, at most `count` of them.
    pub(crate) fn worst_hours(&self, departures_min: u64, count: usize) -> Vec<(&(String, Millis), &Hour)> {
        let mut hours: Vec<_> = self.hours.iter().filter(|(_, hour)| hour.departures >= departures_min).collect();
        hours.sort_by(|(_, a), (_, b)| b.mean().total_cmp(&a.mean()));
        hours.truncate(count);
        hours
    }
}

/// Reads `2013-01-01T10:00:00Z` by counting days.
fn utc(text: &str) -> Millis {
    let part = |range: Range<usize>| text[range].parse::<i64>().expect("a time");
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    assert_eq!(&text[19..], "Z", "times are in UTC");
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = i64::from(month > 2 && year % 4 == 0);
    // Every fourth year since 1970 has been a leap year.
    let days = (year - 1970) * 365 + (year - 1969) / 4 + BEFORE[month as usize - 1] + leap + day - 1;
    days * 24 * HOUR + part(11..13) * HOUR + part(14..16) * MINUTE + part(17..19) * 1000
}

#[test]
fn times_are_read_by_the_calendar() {
    assert_eq!(utc("1970-01-01T00:00:00Z"), 0);
    assert_eq!(utc("2013-07-01T00:00:00Z"), 1_372_636_800_000);
    assert_eq!(utc("2012-12-31T10:15:07Z"), 1_356_948_907_000);
    assert_eq!(utc("2012-02-29T00:00:00Z") + 24 * HOUR, utc("2012-03-01T00:00:00Z"));
}
