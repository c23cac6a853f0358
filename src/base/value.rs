//! The datum that schemas, expressions, stores and the record path share: 24 bytes, cheap to clone.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::time::{DateTime, TimeDelta};

/// Text of a value: up to 24 bytes inline, so that most keys and codes never allocate.
pub type Text = compact_str::CompactString;

/// One datum. What type it is supposed to be stands in a [`Type`](crate::base::types::Type); a record's field names, too.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// Avro `null`; a table row's absence.
    #[default]
    Null,
    Bool(bool),
    /// Avro `int` and `long`.
    Int(i64),
    /// CEL's `uint`; no Avro type gives it.
    Uint(u64),
    /// Avro `float` and `double`.
    Double(f64),
    /// Avro `string`, `uuid`, and an `enum`'s symbol.
    String(Text),
    /// Avro `bytes` and `fixed`.
    Bytes(Arc<[u8]>),
    /// Avro `timestamp-*`, `local-timestamp-*` and `date` (its midnight in UTC).
    DateTime(DateTime),
    /// Avro `time-*` (since midnight).
    TimeDelta(TimeDelta),
    Decimal(Arc<Decimal>),
    List(Arc<[Value]>),
    /// Entries in [`Value::order`] of their keys, each key once.
    Map(Arc<[(Value, Value)]>),
    /// Field values in the order of the record's type.
    Record(Arc<[Value]>),
    /// A union of more than null and one type: the branch's index in its type, and the datum. A nullable type has no wrapper.
    Union(Arc<(u32, Value)>),
}

/// An exact decimal: `unscaled / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    pub unscaled: i128,
    pub scale: u32,
}

impl Value {
    /// Wraps text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::String(Text::new(text))
    }

    /// Tells whether this is `Null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the text of a `String`.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// Returns the number of an `Int`.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// Returns the number of a `Double`.
    pub fn as_double(&self) -> Option<f64> {
        if let Self::Double(number) = self { Some(*number) } else { None }
    }

    /// A total order over all values: by kind, then by content; doubles by `f64::total_cmp`, decimals by their number.
    ///
    /// It orders map keys and makes `min`, `max` and `distinct` repeatable; it is not CEL's `<`, which has no order across kinds.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Uint(a), Self::Uint(b)) => a.cmp(b),
            (Self::Double(a), Self::Double(b)) => a.total_cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::DateTime(a), Self::DateTime(b)) => a.cmp(b),
            (Self::TimeDelta(a), Self::TimeDelta(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.order(b),
            (Self::List(a), Self::List(b)) | (Self::Record(a), Self::Record(b)) => order_all(a.iter(), b.iter()),
            (Self::Map(a), Self::Map(b)) => order_all(
                a.iter().flat_map(|(key, value)| [key, value]),
                b.iter().flat_map(|(key, value)| [key, value]),
            ),
            (Self::Union(a), Self::Union(b)) => a.0.cmp(&b.0).then_with(|| a.1.order(&b.1)),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Uint(_) => 3,
            Self::Double(_) => 4,
            Self::String(_) => 5,
            Self::Bytes(_) => 6,
            Self::DateTime(_) => 7,
            Self::TimeDelta(_) => 8,
            Self::Decimal(_) => 9,
            Self::List(_) => 10,
            Self::Map(_) => 11,
            Self::Record(_) => 12,
            Self::Union(_) => 13,
        }
    }

    /// Returns the bytes this value holds on the heap and in itself, roughly: what a bounded cache counts.
    pub fn size_bytes(&self) -> usize {
        let heap = match self {
            Self::String(text) if text.is_heap_allocated() => text.capacity(),
            Self::Bytes(bytes) => bytes.len() + 16,
            Self::Decimal(_) => 48,
            Self::List(items) | Self::Record(items) => 16 + items.iter().map(Self::size_bytes).sum::<usize>(),
            Self::Map(entries) => {
                16 + entries.iter().map(|(key, value)| key.size_bytes() + value.size_bytes()).sum::<usize>()
            }
            Self::Union(branch) => 24 + branch.1.size_bytes(),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::String(_)
            | Self::DateTime(_)
            | Self::TimeDelta(_) => 0,
        };
        size_of::<Self>() + heap
    }
}

impl Decimal {
    /// Orders by the number meant, whatever the scales: 1.0 and 1.00 are equal.
    pub fn order(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.unscaled.cmp(&other.unscaled);
        }
        let (less, more, flipped) = if self.scale < other.scale { (self, other, false) } else { (other, self, true) };
        let widened = 10_i128.checked_pow(more.scale - less.scale).and_then(|power| less.unscaled.checked_mul(power));
        let order = match widened {
            Some(unscaled) => unscaled.cmp(&more.unscaled),
            None if less.unscaled < 0 => Ordering::Less,
            None => Ordering::Greater,
        };
        if flipped { order.reverse() } else { order }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = format!("{:0>width$}", self.unscaled.unsigned_abs(), width = self.scale as usize + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.scale as usize);
        let sign = if self.unscaled < 0 { "-" } else { "" };
        if fraction.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{fraction}") }
    }
}

fn order_all<'a>(mut a: impl Iterator<Item = &'a Value>, mut b: impl Iterator<Item = &'a Value>) -> Ordering {
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => match left.order(right) {
                Ordering::Equal => {}
                unequal @ (Ordering::Less | Ordering::Greater) => return unequal,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_24_bytes() {
        assert_eq!(size_of::<Value>(), 24);
        assert_eq!(size_of::<Option<Value>>(), 24);
    }

    #[test]
    fn decimals_print_and_order_by_their_number() {
        let decimal = |unscaled, scale| Decimal { unscaled, scale };
        assert_eq!(decimal(-5, 2).to_string(), "-0.05");
        assert_eq!(decimal(1234, 2).to_string(), "12.34");
        assert_eq!(decimal(7, 0).to_string(), "7");
        assert_eq!(decimal(10, 1).order(&decimal(100, 2)), Ordering::Equal);
        assert_eq!(decimal(i128::MAX, 0).order(&decimal(1, 30)), Ordering::Greater);
        assert_eq!(decimal(1, 30).order(&decimal(i128::MIN, 0)), Ordering::Greater);
    }
}
