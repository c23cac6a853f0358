//! A row's digest: tells two rows of a table apart, on every machine and in every version, whatever the order of fields. A field that is
//! null counts as one that is not there, so that a field added to the schema changes no digest of rows that do not have it.

use crate::base::value::{Text, Value};

/// Returns the digest of a row with these fields.
pub(super) fn digest(names: &[Text], values: &[Value]) -> i64 {
    let there = names.iter().zip(values).filter(|(_, value)| !value.is_null());
    let field = |(name, value): (&Text, &Value)| {
        let mut hash = Fnv::new();
        hash.part(name.as_bytes());
        hash.value(value);
        hash.mixed()
    };
    there.map(field).fold(0, u64::wrapping_add) as i64
}

/// 64-bit FNV-1a over the parts of a value.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Bytes with their length in front, so that no two lists of parts are the same bytes.
    fn part(&mut self, bytes: &[u8]) {
        self.number(1, bytes.len() as u64);
        self.bytes(bytes);
    }

    fn number(&mut self, kind: u8, number: u64) {
        self.bytes(&[kind]);
        self.bytes(&number.to_be_bytes());
    }

    fn moment(&mut self, kind: u8, seconds: i64, nanos: u32) {
        self.number(kind, seconds as u64);
        self.bytes(&nanos.to_be_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes(&[2]),
            Value::Bool(value) => self.bytes(&[3, u8::from(*value)]),
            Value::Int(number) => self.number(4, *number as u64),
            Value::Uint(number) => self.number(5, *number),
            // 0.0 and -0.0 are equal rows.
            Value::Double(number) => self.number(6, if *number == 0.0 { 0 } else { number.to_bits() }),
            Value::String(text) => self.tagged(7, text.as_bytes()),
            Value::Bytes(bytes) => self.tagged(8, bytes),
            Value::DateTime(moment) => self.moment(9, moment.seconds, moment.nanos),
            Value::TimeDelta(delta) => self.moment(10, delta.seconds, delta.nanos),
            Value::Decimal(decimal) => {
                self.number(11, u64::from(decimal.scale));
                self.bytes(&decimal.unscaled.to_be_bytes());
            }
            Value::List(items) => self.all(12, items),
            Value::Map(entries) => {
                self.number(13, entries.len() as u64);
                for (key, value) in entries.iter() {
                    self.value(key);
                    self.value(value);
                }
            }
            Value::Record(fields) => self.all(14, fields),
            Value::Union(branch) => {
                self.number(15, u64::from(branch.0));
                self.value(&branch.1);
            }
        }
    }

    fn tagged(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes(&[kind]);
        self.part(bytes);
    }

    fn all(&mut self, kind: u8, values: &[Value]) {
        self.number(kind, values.len() as u64);
        values.iter().for_each(|value| self.value(value));
    }

    /// Spreads what differs over all bits, since digests of fields are added up (the last step of MurmurHash3).
    fn mixed(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Text> {
        names.iter().map(Text::new).collect()
    }

    #[test]
    fn a_digest_stays_what_it_is_when_fields_are_added_or_moved() {
        let row = [Value::Int(7), Value::text("a")];
        let before = digest(&names(&["n", "text"]), &row);
        // Stands in topics and stores: a value that changes here makes responses stale that are not.
        assert_eq!(before, digest(&names(&["n", "text"]), &row));
        let moved = [Value::text("a"), Value::Null, Value::Int(7)];
        assert_eq!(before, digest(&names(&["text", "new", "n"]), &moved));
        assert_ne!(before, digest(&names(&["text", "new", "n"]), &[Value::text("a"), Value::Int(0), Value::Int(7)]));
    }

    #[test]
    fn rows_that_differ_have_other_digests() {
        let list = |items: &[&str]| Value::List(items.iter().map(Value::text).collect());
        let rows = [
            [Value::Int(1), Value::Int(2)],
            [Value::Int(2), Value::Int(1)],
            [Value::Uint(1), Value::Int(2)],
            [Value::Double(1.0), Value::Int(2)],
            [Value::text("1"), Value::Int(2)],
            [Value::Null, Value::Int(2)],
            [Value::Int(2), Value::Null],
            [Value::Bool(true), Value::Null],
            [Value::Bool(false), Value::Null],
            [list(&["a", "b"]), Value::Null],
            [list(&["ab"]), Value::Null],
            [list(&["ab", ""]), Value::Null],
            [Value::Bytes([1, 2].as_slice().into()), Value::Null],
        ];
        let digests: std::collections::BTreeSet<i64> =
            rows.iter().map(|row| digest(&names(&["a", "b"]), row)).collect();
        assert_eq!(digests.len(), rows.len());
    }
}
