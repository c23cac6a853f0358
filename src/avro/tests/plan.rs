//! Plans: operations, slots, hostile bytes.

use super::*;
use crate::avro::Encoder;
use crate::base::time::DateTime;
use crate::error::Kind;
use crate::limits::{DATUM_DEPTH_MAX, EMPTY_ITEMS_MAX};

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"order_id","type":"long"},
    {"name":"customer","type":"string"},
    {"name":"amount","type":"double"},
    {"name":"quantity","type":"int"},
    {"name":"currency","type":{"type":"enum","name":"Currency","symbols":["EUR","USD","GBP","JPY"]}},
    {"name":"express","type":"boolean"},
    {"name":"created_at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null}]}"#;

fn schema(text: &str) -> Schema {
    Schema::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn order() -> Vec<u8> {
    let slots = [
        Value::Int(1_000_000),
        Value::text("c0000001"),
        Value::Double(12.5),
        Value::Int(3),
        Value::text("GBP"),
        Value::Bool(true),
        Value::DateTime(DateTime::from_units(1_767_225_600_000, 1000)),
        Value::Null,
    ];
    let mut bytes = Vec::new();
    Encoder::compile(&schema(ORDER)).encode(&slots, &mut bytes).unwrap();
    bytes
}

fn ops(wanted: &[usize]) -> Vec<Op> {
    let writer = schema(ORDER);
    let plan = DecodePlan::compile(&writer, &writer, wanted).unwrap();
    let Root::Record(program) = plan.root else { panic!("an order is a record") };
    plan.machine.programs[program].ops.to_vec()
}

#[test]
fn neighbouring_skips_are_one_operation() {
    assert_eq!(
        ops(&[6]),
        [
            Op::SkipLongs(1),
            Op::SkipBlob,
            Op::SkipBytes(8),
            Op::SkipLongs(2),
            Op::SkipBytes(1),
            Op::Moment(0, crate::avro::logical::Unit::Milli),
            Op::SkipOptionalBlob(0),
        ]
    );
}

#[test]
fn records_in_records_are_skipped_in_line() {
    let writer = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},
            {"name":"b","type":{"type":"record","name":"S","fields":[{"name":"c","type":"int"},{"name":"d","type":"null"}]}},
            {"name":"e","type":"long"}]}"#,
    );
    let plan = DecodePlan::compile(&writer, &writer, &[]).unwrap();
    assert_eq!(*plan.machine.programs.last().unwrap().ops, [Op::SkipLongs(3)]);
}

#[test]
fn wanted_fields_land_in_their_order() {
    let writer = schema(ORDER);
    let plan = DecodePlan::compile(&writer, &writer, &[5, 1, 7]).unwrap();
    let mut slots = [Value::Null, Value::Null, Value::Int(1), Value::text("beyond")];
    plan.decode(&order(), &mut slots).unwrap();
    assert_eq!(slots, [Value::Bool(true), Value::text("c0000001"), Value::Null, Value::text("beyond")]);
    assert_eq!(plan.width(), 3);
    assert_eq!(
        plan.decode_value(&order()),
        Ok(Value::Record([Value::Bool(true), Value::text("c0000001"), Value::Null].into()))
    );
}

#[test]
fn a_question_that_makes_no_sense_is_a_bug() {
    let writer = schema(ORDER);
    for wanted in [[1, 1], [0, 8]] {
        let error = DecodePlan::compile(&writer, &writer, &wanted).unwrap_err();
        assert_eq!(error.kind(), Kind::Bug);
    }
    let error = DecodePlan::compile(&writer, &schema("\"int\""), &[]).unwrap_err();
    assert_eq!(error.to_string(), "the reader's schema `int` is not a record");
}

#[test]
fn a_record_is_read_from_a_union_of_events() {
    let writer =
        schema(&format!(r#"[{{"type":"record","name":"Other","fields":[{{"name":"x","type":"int"}}]}},{ORDER}]"#));
    let plan = DecodePlan::compile(&writer, &schema(ORDER), &[3]).unwrap();
    let mut bytes = vec![2];
    bytes.extend(order());
    let mut slots = [Value::Null];
    plan.decode(&bytes, &mut slots).unwrap();
    assert_eq!(slots, [Value::Int(3)]);
    let error = plan.decode(&[0, 2], &mut slots).unwrap_err();
    assert!(matches!(error.problem(), Problem::Unreadable { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Record);
    let error = plan.decode(&[4], &mut slots).unwrap_err();
    assert_eq!(error.problem(), &Problem::UnionIndex { branches: 2, index: 2 });
}

#[test]
fn an_incompatible_field_that_nobody_wants_still_refuses_the_plan() {
    let reader = schema(
        r#"{"type":"record","name":"Order","fields":[
        {"name":"order_id","type":"long"},{"name":"customer","type":"int"}]}"#,
    );
    assert!(DecodePlan::compile(&schema(ORDER), &reader, &[0]).is_err());
}

#[test]
fn bytes_after_the_datum_and_missing_ones_are_errors_whatever_is_wanted() {
    let writer = schema(ORDER);
    for wanted in [&[] as &[usize], &[1, 2, 6], &[7]] {
        let plan = DecodePlan::compile(&writer, &writer, wanted).unwrap();
        let mut slots = vec![Value::Null; wanted.len()];
        let mut long = order();
        long.push(0);
        let error = plan.decode(&long, &mut slots).unwrap_err();
        assert_eq!((error.problem(), error.position()), (&Problem::Trailing { count: 1 }, long.len() - 1));
        for cut in 0..order().len() {
            let error = plan.decode(&order()[..cut], &mut slots).unwrap_err();
            assert_eq!(error.problem(), &Problem::Truncated, "{cut}");
        }
    }
}

/// Reads and skips by one schema.
fn problem(of: &str, bytes: &[u8]) -> Problem {
    let record = schema(&format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{of}}}]}}"#));
    let problem_of = |wanted: &[usize]| {
        let plan = DecodePlan::compile(&record, &record, wanted).unwrap();
        plan.decode(bytes, &mut vec![Value::Null; wanted.len()]).unwrap_err().problem().clone()
    };
    assert_eq!(problem_of(&[0]), problem_of(&[]), "reading and skipping agree");
    problem_of(&[0])
}

#[test]
fn lengths_and_counts_that_cannot_be_are_refused_before_anything_is_made() {
    let long_max = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    let long_min = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    assert_eq!(problem("\"string\"", &long_max), Problem::Truncated);
    assert_eq!(problem("\"bytes\"", &[1]), Problem::Length { length: -1 });
    assert_eq!(problem(r#"{"type":"array","items":"int"}"#, &long_max), Problem::Count { count: i64::MAX });
    assert_eq!(problem(r#"{"type":"map","values":"null"}"#, &long_max), Problem::Count { count: i64::MAX });
    assert_eq!(problem(r#"{"type":"array","items":"null"}"#, &long_max), Problem::Count { count: i64::MAX });
    assert_eq!(
        problem(r#"{"type":"array","items":"double"}"#, &[4, 0, 0, 0, 0, 0, 0, 0, 0]),
        Problem::Count { count: 2 }
    );
    // A negative count is followed by the block's size in bytes.
    let mut negative = long_min.to_vec();
    negative.push(0);
    assert_eq!(problem(r#"{"type":"array","items":"int"}"#, &negative), Problem::Count { count: i64::MIN });
    assert_eq!(problem(r#"{"type":"array","items":"int"}"#, &[1, 1, 0]), Problem::Length { length: -1 });
    assert_eq!(problem(r#"{"type":"array","items":"int"}"#, &[1, 200, 1, 0]), Problem::Truncated);
    assert_eq!(problem(r#"["null","int"]"#, &[4]), Problem::UnionIndex { branches: 2, index: 2 });
    assert_eq!(problem(r#"["null","string"]"#, &[1]), Problem::UnionIndex { branches: 2, index: -1 });
}

#[test]
fn what_only_a_reader_minds_is_refused_when_read() {
    let read = |of: &str, bytes: &[u8]| {
        let schema = schema(of);
        DecodePlan::whole(&schema, &schema).unwrap().decode_value(bytes).unwrap_err().problem().clone()
    };
    assert_eq!(read("\"boolean\"", &[2]), Problem::Boolean { byte: 2 });
    assert_eq!(read("\"string\"", &[2, 0xFF]), Problem::Utf8);
    assert_eq!(read("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x10]), Problem::IntRange { number: 1 << 31 });
    assert_eq!(read(r#"{"type":"bytes","logicalType":"decimal","precision":4}"#, &[0]), Problem::Decimal);
    assert_eq!(
        read(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2]),
        Problem::EnumIndex { name: "E".into(), index: 1 }
    );
}

#[test]
fn blocks_with_a_size_are_read_and_skipped() {
    let record = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"list","type":{"type":"array","items":"int"}},
            {"name":"map","type":{"type":"map","values":"int"}},{"name":"end","type":"int"}]}"#,
    );
    // Two items in a block of two bytes, one more in a plain block; one entry in a block of three bytes.
    let bytes = [3, 4, 2, 4, 2, 6, 0, 1, 6, 2, b'k', 8, 0, 14];
    let value = DecodePlan::whole(&record, &record).unwrap().decode_value(&bytes).unwrap();
    let list = Value::List([Value::Int(1), Value::Int(2), Value::Int(3)].into());
    let map = Value::Map([(Value::text("k"), Value::Int(4))].into());
    assert_eq!(value, Value::Record([list, map, Value::Int(7)].into()));
    let mut slots = [Value::Null];
    DecodePlan::compile(&record, &record, &[2]).unwrap().decode(&bytes, &mut slots).unwrap();
    assert_eq!(slots, [Value::Int(7)]);
}

#[test]
fn a_key_that_stands_twice_keeps_its_last_value() {
    let map = schema(r#"{"type":"map","values":"int"}"#);
    let bytes = [6, 2, b'b', 2, 2, b'a', 4, 2, b'b', 6, 0];
    let expected = Value::Map([(Value::text("a"), Value::Int(2)), (Value::text("b"), Value::Int(3))].into());
    assert_eq!(DecodePlan::whole(&map, &map).unwrap().decode_value(&bytes), Ok(expected));
}

#[test]
fn nesting_has_a_bound() {
    let node = schema(r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#);
    let nested = |depth: usize| {
        let mut bytes = vec![2; depth - 1];
        bytes.push(0);
        bytes
    };
    let whole = DecodePlan::whole(&node, &node).unwrap();
    let skip = DecodePlan::compile(&node, &node, &[]).unwrap();
    assert!(whole.decode_value(&nested(DATUM_DEPTH_MAX)).is_ok());
    assert!(skip.decode(&nested(DATUM_DEPTH_MAX), &mut []).is_ok());
    for bytes in [nested(DATUM_DEPTH_MAX + 1), nested(1_000_000)] {
        assert_eq!(whole.decode_value(&bytes).unwrap_err().problem(), &Problem::Depth { max: DATUM_DEPTH_MAX });
        assert_eq!(skip.decode(&bytes, &mut []).unwrap_err().problem(), &Problem::Depth { max: DATUM_DEPTH_MAX });
    }
}

#[test]
fn items_without_bytes_are_bounded_over_the_whole_datum() {
    let lists = schema(r#"{"type":"array","items":{"type":"array","items":"null"}}"#);
    let of = |lists: usize, items: i64| {
        let mut bytes = Vec::new();
        crate::avro::encode::write_long(lists as i64, &mut bytes);
        for _ in 0..lists {
            crate::avro::encode::write_long(items, &mut bytes);
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    };
    let plan = DecodePlan::whole(&lists, &lists).unwrap();
    assert!(plan.decode_value(&of(1, EMPTY_ITEMS_MAX as i64)).is_ok());
    assert!(plan.decode_value(&of(2, EMPTY_ITEMS_MAX as i64 / 2)).is_ok());
    assert!(plan.decode_value(&of(3, EMPTY_ITEMS_MAX as i64 / 2)).is_err());
}

#[test]
fn a_constant_record_takes_no_bytes() {
    let writer = schema(r#"{"type":"record","name":"R","fields":[]}"#);
    let reader = schema(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string","default":"x"}]}"#);
    let plan = DecodePlan::compile(&writer, &reader, &[0]).unwrap();
    let mut slots = [Value::Int(9)];
    plan.decode(&[], &mut slots).unwrap();
    assert_eq!(slots, [Value::text("x")]);
}
