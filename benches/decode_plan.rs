//! What a decode plan costs: three fields of an eight-field record, all eight, and evolved readers.
//!
//! Prints nanoseconds per decode: the median of several runs over a buffer of different records.

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
    println!("{RECORDS} records of {} bytes on average, ns per record:", bytes / RECORDS);
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
        println!("{:>8.1}  {name}", median_ns(&plan, &records));
    }
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

fn median_ns(plan: &DecodePlan, records: &[Vec<u8>]) -> f64 {
    let mut slots = vec![Value::Null; plan.width()];
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            for record in records {
                plan.decode(black_box(record), &mut slots).expect("it decodes");
                black_box(&slots);
            }
            start.elapsed().as_nanos() as f64 / records.len() as f64
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs[RUNS / 2]
}
