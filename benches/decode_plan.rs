//! What a decode plan costs: three fields of an eight-field record, all eight, and evolved readers.
//!
//! Prints nanoseconds per decode, median and least of many short runs over a buffer of different records.

#![expect(clippy::print_stdout, reason = "a benchmark reports to its terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use tidemill::avro::{DecodePlan, Encoder, Schema};
use tidemill::base::rng::Rng;
use tidemill::base::time::DateTime;
use tidemill::base::value::Value;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"bench","fields":[
    {"name":"order_id","type":"long"},
    {"name":"customer","type":"string"},
    {"name":"amount","type":"double"},
    {"name":"quantity","type":"int"},
    {"name":"currency","type":{"type":"enum","name":"Currency","symbols":["EUR","USD","GBP","JPY"]}},
    {"name":"express","type":"boolean"},
    {"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null}]}"#;

/// The same order as a later version has it: a field renamed, one promoted, one added, one dropped.
const ORDER_LATER: &str = r#"{"type":"record","name":"Order","namespace":"bench","fields":[
    {"name":"order_id","type":"long"},
    {"name":"client","aliases":["customer"],"type":"string"},
    {"name":"amount","type":"double"},
    {"name":"quantity","type":"double"},
    {"name":"currency","type":{"type":"enum","name":"Currency","symbols":["USD","GBP","EUR","OTHER"],"default":"OTHER"}},
    {"name":"channel","type":"string","default":"shop"},
    {"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null}]}"#;

const RECORDS: usize = 1024;
/// Short runs and many of them: on a busy machine most are undisturbed, so that the median is the program's own time.
const RUNS: usize = 3001;

fn main() {
    let writer = Schema::parse(ORDER).expect("it parses");
    let later = Schema::parse(ORDER_LATER).expect("it parses");
    let records = orders(&writer);
    let bytes: usize = records.iter().map(Vec::len).sum();
    println!("{RECORDS} records of {} bytes on average, ns per record, median and least:", bytes / RECORDS);
    let cases: [(&str, &Schema, &[&str]); 6] = [
        ("skip all", &writer, &[]),
        ("customer, amount, created_at", &writer, &["customer", "amount", "created_at"]),
        ("order_id, amount, express", &writer, &["order_id", "amount", "express"]),
        ("all 8 fields", &writer, &FIELDS),
        ("later reader: client, amount, created_at", &later, &["client", "amount", "created_at"]),
        (
            "later reader: all 8 fields",
            &later,
            &["order_id", "client", "amount", "quantity", "currency", "channel", "created_at", "note"],
        ),
    ];
    for (name, reader, wanted) in cases {
        let wanted: Vec<usize> =
            wanted.iter().map(|field| reader.field_index(field).expect("the field is there")).collect();
        let plan = DecodePlan::compile(&writer, reader, &wanted).expect("it resolves");
        let mut slots = vec![Value::Null; plan.width()];
        report(name, &records, |record| {
            plan.decode(black_box(record), &mut slots).expect("it decodes");
            black_box(&slots);
        });
    }
    let mut slots = vec![Value::Null; 3];
    report("customer, amount, created_at by hand, nothing checked", &records, |record| {
        by_hand(black_box(record), &mut slots);
        black_box(&slots);
    });
}

/// The yardstick: the same three fields by a program that knows the schema and trusts the bytes.
fn by_hand(bytes: &[u8], slots: &mut [Value]) {
    fn long(bytes: &[u8], at: &mut usize) -> i64 {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return (number >> 1) as i64 ^ -((number & 1) as i64);
            }
            shift += 7;
        }
    }
    let mut at = 0;
    long(bytes, &mut at);
    let length = long(bytes, &mut at) as usize;
    slots[0] = Value::text(std::str::from_utf8(&bytes[at..at + length]).expect("it is text"));
    at += length;
    slots[1] = Value::Double(f64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")));
    at += 8;
    long(bytes, &mut at);
    long(bytes, &mut at);
    at += 1;
    slots[2] = Value::DateTime(DateTime::from_units(long(bytes, &mut at), 1000));
}

const FIELDS: [&str; 8] = ["order_id", "customer", "amount", "quantity", "currency", "express", "created_at", "note"];

fn orders(writer: &Schema) -> Vec<Vec<u8>> {
    let encoder = Encoder::compile(writer);
    let mut rng = Rng::new(42);
    let mut records = Vec::with_capacity(RECORDS);
    for index in 0..RECORDS as i64 {
        let note = if rng.chance(1, 10) { Value::text("leave at door") } else { Value::Null };
        let slots = [
            Value::Int(1_000_000 + index),
            Value::text(format!("c{:07}", rng.below(10_000))),
            Value::Double(rng.below(100_000) as f64 / 100.0),
            Value::Int(1 + rng.below(9) as i64),
            Value::text(["EUR", "USD", "GBP", "JPY"][rng.below(4) as usize]),
            Value::Bool(rng.chance(1, 5)),
            Value::DateTime(DateTime::from_units(1_767_225_600_000 + index, 1000)),
            note,
        ];
        let mut bytes = Vec::new();
        encoder.encode(&slots, &mut bytes).expect("it fits");
        records.push(bytes);
    }
    records
}

/// Prints the median and the least time per record.
fn report(name: &str, records: &[Vec<u8>], mut decode: impl FnMut(&[u8])) {
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            records.iter().for_each(|record| decode(record));
            start.elapsed().as_nanos() as f64 / records.len() as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{:>8.1} {:>8.1}  {name}", runs[RUNS / 2], runs[0]);
}
