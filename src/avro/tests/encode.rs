//! Encoding: the specification's examples, unions, errors.

use super::*;
use crate::base::time::{DateTime, TimeDelta};
use crate::base::value::Decimal;

fn encode(schema: &str, value: &Value) -> Result<Vec<u8>, String> {
    let encoder = Encoder::compile(&Schema::parse(schema).unwrap());
    let mut out = b"before".to_vec();
    match encoder.encode_value(value, &mut out) {
        Ok(()) => Ok(out[6..].to_vec()),
        Err(error) => {
            assert_eq!(out, b"before");
            assert_eq!(error.kind(), Kind::Record);
            Err(error.to_string())
        }
    }
}

/// From the specification's own examples, "Binary Encoding".
#[test]
fn the_examples_of_the_specification_are_encoded_as_it_says() {
    for (number, bytes) in [(0, vec![0]), (-1, vec![1]), (1, vec![2]), (-64, vec![0x7F]), (64, vec![0x80, 0x01])] {
        assert_eq!(encode("\"long\"", &Value::Int(number)), Ok(bytes));
    }
    assert_eq!(encode("\"string\"", &Value::text("foo")), Ok(vec![6, b'f', b'o', b'o']));
    let record =
        r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    assert_eq!(
        encode(record, &Value::Record([Value::Int(27), Value::text("foo")].into())),
        Ok(vec![0x36, 6, b'f', b'o', b'o'])
    );
    let list = Value::List([Value::Int(3), Value::Int(27)].into());
    assert_eq!(encode(r#"{"type":"array","items":"long"}"#, &list), Ok(vec![4, 6, 0x36, 0]));
    assert_eq!(encode(r#"{"type":"array","items":"long"}"#, &Value::List([].into())), Ok(vec![0]));
    assert_eq!(encode(r#"["null","string"]"#, &Value::Null), Ok(vec![0]));
    assert_eq!(encode(r#"["null","string"]"#, &Value::text("a")), Ok(vec![2, 2, b'a']));
}

#[test]
fn a_union_takes_its_branch_or_the_first_that_fits() {
    let union = r#"["null","int","long","string",{"type":"enum","name":"E","symbols":["A"]}]"#;
    assert_eq!(encode(union, &Value::Int(1)), Ok(vec![2, 2]));
    assert_eq!(encode(union, &Value::Int(1 << 31)), Ok(vec![4, 0x80, 0x80, 0x80, 0x80, 0x10]));
    assert_eq!(encode(union, &Value::Union((2, Value::Int(1)).into())), Ok(vec![4, 2]));
    assert_eq!(encode(union, &Value::Union((4, Value::text("A")).into())), Ok(vec![8, 0]));
    assert_eq!(encode(union, &Value::Null), Ok(vec![0]));
    assert_eq!(
        encode(union, &Value::Bool(true)),
        Err("a bool cannot be written as one of `null`, `int`, `long`, `string`, `E`".into())
    );
    assert_eq!(encode(union, &Value::Union((5, Value::Null).into())), Err("a union of 5 has no branch 5".into()));
}

#[test]
fn errors_name_the_place_the_kind_and_the_wanted_type() {
    let schema = r#"{"type":"record","name":"Order","fields":[{"name":"items","type":{"type":"array","items":
        {"type":"record","name":"Item","fields":[{"name":"price","type":"double"},
        {"name":"tags","type":{"type":"map","values":"int"}}]}}}]}"#;
    let item = |price: Value, tag: Value| {
        let tags = Value::Map([(Value::text("k"), tag)].into());
        Value::Record([Value::List([Value::Record([price, tags].into())].into())].into())
    };
    assert_eq!(
        encode(schema, &item(Value::text("1"), Value::Int(1))),
        Err("`items[0].price`: a string cannot be written as `double`".into())
    );
    assert_eq!(
        encode(schema, &item(Value::Double(1.0), Value::Int(1 << 40))),
        Err("`items[0].tags[\"k\"]`: 1099511627776 is out of the range of `int`".into())
    );
    assert_eq!(encode(schema, &Value::Record([].into())), Err("record `Order` has 1 fields, 0 were given".into()));
    assert_eq!(
        encode(r#"{"type":"enum","name":"E","symbols":["BLUE","RED"]}"#, &Value::text("BLU")),
        Err("enum `E` has no symbol `BLU`: did you mean `BLUE`?".into())
    );
    assert_eq!(
        encode(r#"{"type":"fixed","name":"F","size":2}"#, &Value::Bytes([1].as_slice().into())),
        Err("1 bytes were given, `F` has 2".into())
    );
}

#[test]
fn logical_types_take_their_values_and_no_others() {
    let moment = Value::DateTime(DateTime::from_units(1_500, 1000));
    assert_eq!(encode(r#"{"type":"long","logicalType":"timestamp-millis"}"#, &moment), Ok(vec![0xB8, 0x17]));
    assert_eq!(encode(r#"{"type":"int","logicalType":"date"}"#, &moment), Ok(vec![0]));
    assert_eq!(
        encode(r#"{"type":"long","logicalType":"timestamp-millis"}"#, &Value::Int(1)),
        Err("an int cannot be written as `timestamp`".into())
    );
    let time = Value::TimeDelta(TimeDelta::from_units(3, 1000));
    assert_eq!(encode(r#"{"type":"int","logicalType":"time-millis"}"#, &time), Ok(vec![6]));
    let decimal = |unscaled, scale| Value::Decimal(Decimal { unscaled, scale }.into());
    let schema = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    assert_eq!(encode(schema, &decimal(-1, 2)), Ok(vec![2, 0xFF]));
    assert_eq!(encode(schema, &decimal(5, 1)), Ok(vec![2, 50]));
    assert_eq!(
        encode(schema, &decimal(10_000, 2)),
        Err("100.00 does not fit a decimal of 4 digits, 2 of them after the point".into())
    );
    let fixed = r#"{"type":"fixed","name":"F","size":3,"logicalType":"decimal","precision":4,"scale":2}"#;
    assert_eq!(encode(fixed, &decimal(-1, 2)), Ok(vec![0xFF, 0xFF, 0xFF]));
    let uuid = r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#;
    assert_eq!(encode(uuid, &Value::text("00000000-0000-0000-0000-000000000001")).unwrap()[15], 1);
    assert_eq!(encode(uuid, &Value::text("x")), Err("`x` is not a UUID".into()));
}

#[test]
fn a_row_of_slots_is_a_record() {
    let schema = Schema::parse(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#).unwrap();
    let mut out = Vec::new();
    Encoder::compile(&schema).encode(&[Value::Int(1)], &mut out).unwrap();
    assert_eq!(out, [2]);
    let other = Encoder::compile(&Schema::parse("\"int\"").unwrap());
    assert_eq!(other.encode(&[], &mut out).unwrap_err().to_string(), "the schema is `int`, not a record");
    assert_eq!(out, [2]);
}
