//! Rows that outlive the topology that wrote them.

use std::sync::Arc;

use super::*;
use crate::avro::{DecodePlan, Encoder};
use crate::base::time::DateTime;
use crate::base::types::EnumType;
use crate::base::value::Decimal;

fn with(name: &str, field_type: Type, initial: Value) -> RowField {
    RowField { initial: Some(initial), ..RowField::new(name, field_type) }
}

/// What a row of `then` says under `now`.
fn read(then: &Schema, row: &[Value], now: &Schema) -> Vec<Value> {
    let mut bytes = Vec::new();
    Encoder::compile(then).encode(row, &mut bytes).unwrap();
    let mut slots = vec![Value::Null; now.fields().len()];
    DecodePlan::of_rows(then, now).unwrap().decode(&bytes, &mut slots).unwrap();
    slots
}

#[test]
fn a_field_of_every_type_has_what_a_fresh_row_has_in_it() {
    let symbols = Arc::new(EnumType { name: Text::new("Size"), symbols: vec![Text::new("S"), Text::new("L")] });
    let point = RecordType::new("Point", vec![Field { name: Text::new("x"), field_type: Type::Int }]);
    let added = [
        with("b", Type::Bool, Value::Bool(true)),
        with("i", Type::Int, Value::Int(-7)),
        with("d", Type::Double, Value::Double(0.5)),
        with("s", Type::String, Value::text("é\n")),
        with("y", Type::Bytes, Value::Bytes(Arc::from([0, 200, 255]))),
        with("t", Type::DateTime, Value::DateTime(DateTime::parse("2013-01-01T10:00:00.000001Z").unwrap())),
        with(
            "m",
            Type::Decimal { precision: 9, scale: 2 },
            Value::Decimal(Arc::new(Decimal { unscaled: -12_345, scale: 2 })),
        ),
        with("e", Type::Enum(symbols), Value::text("L")),
        with("l", Type::List(Arc::new(Type::Int)), Value::List(Arc::from([Value::Int(1)]))),
        with("r", Type::Record(point), Value::Record(Arc::from([Value::Int(3)]))),
        with("o", Type::String.optional(), Value::Null),
        with("q", Type::Int.optional(), Value::Int(5)),
    ];
    let kept = RowField::new("kept", Type::Int);
    let then = Schema::row_of("store", std::slice::from_ref(&kept)).unwrap();
    let now = Schema::row_of("store", &[&[kept][..], &added].concat()).unwrap();
    assert_eq!(carries(&now, &then), []);
    let mut wanted = vec![Value::Int(1)];
    wanted.extend(added.iter().filter_map(|field| field.initial.clone()));
    assert_eq!(read(&then, &[Value::Int(1)], &now), wanted);
    // And back: what is no longer there is passed over.
    assert_eq!(read(&now, &wanted, &then), [Value::Int(1)]);
}

#[test]
fn a_default_that_no_schema_can_say_is_none() {
    let now = Schema::row_of("store", &[with("d", Type::Double, Value::Double(f64::NAN))]).unwrap();
    assert!(!now.has_default(0));
    let either = Type::Union(Arc::from([Type::Int, Type::Double]));
    let second = Value::Union(Arc::new((1, Value::Double(2.0))));
    let now = Schema::row_of("store", &[with("u", either.clone(), second)]).unwrap();
    assert!(now.has_default(0), "2.0 is no integer");
    let first = Value::Union(Arc::new((0, Value::Int(2))));
    assert!(Schema::row_of("store", &[with("u", either, first)]).unwrap().has_default(0));
}

#[test]
fn defaults_and_aliases_of_the_schema_that_a_field_stands_for_are_kept() {
    let state = |inner: &str, name: &str| {
        let text = r#"{"type": "record", "name": "State", "fields": [{"name": "NAME", "default": null, "aliases": ["place"],
            "type": ["null", {"type": "record", "name": "Place", "fields": [{"name": "x", "type": "int"}INNER]}]}]}"#;
        let state = Schema::parse(&text.replace("INNER", inner).replace("NAME", name)).unwrap();
        let field =
            RowField { origin: Some((state.clone(), 0)), ..RowField::new(name, state.fields()[0].field_type.clone()) };
        Schema::row_of("store", &[field]).unwrap()
    };
    let then = state("", "place");
    let now = state(
        r#", {"name": "y", "type": "int", "default": 9}, {"name": "at", "default": 1,
        "type": {"type": "long", "logicalType": "timestamp-millis"}}"#,
        "location",
    );
    assert_eq!(carries(&now, &then), []);
    let row = [Value::Record(Arc::from([Value::Int(4)]))];
    let at = Value::DateTime(DateTime::parse("1970-01-01T00:00:00.001Z").unwrap());
    assert_eq!(read(&then, &row, &now), [Value::Record(Arc::from([Value::Int(4), Value::Int(9), at]))]);
}

#[test]
fn a_store_that_is_called_otherwise_takes_its_rows_over() {
    let field = [RowField::new("n", Type::Int)];
    let (then, now) = (Schema::row_of("old", &field).unwrap(), Schema::row_of("new", &field).unwrap());
    assert_eq!(carries(&now, &then), []);
    assert_eq!(read(&then, &[Value::Int(1)], &now), [Value::Int(1)]);
}

fn problems(now: &Schema, then: &Schema) -> Vec<String> {
    carries(now, then).iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_taken_over_names_the_field() {
    let counted = RowField { meaning: Some("count"), ..with("n", Type::Int, Value::Int(0)) };
    let summed = RowField { meaning: Some("sum"), ..counted.clone() };
    let then = Schema::row_of("store", &[counted]).unwrap();
    let now = Schema::row_of("store", &[summed, RowField::new("note", Type::String)]).unwrap();
    assert_eq!(
        problems(&now, &then),
        [
            "`note`: the writer has no such field and the reader's has no default",
            "`n`: it was `count`, and is `sum` now"
        ]
    );
    let (by_hour, by_day) = (then.with_meaning("windows of 1h").unwrap(), then.with_meaning("windows of 1d").unwrap());
    assert_eq!(problems(&by_day, &by_hour), ["they were kept by windows of 1h, not by windows of 1d"]);
    assert_eq!(problems(&by_day, &then), Vec::<String>::new(), "rows of before meanings were noted");
    let nullable = Schema::row_of("store", &[RowField::new("n", Type::Int.optional())]).unwrap();
    assert_eq!(problems(&then, &nullable).len(), 1, "null would not read");
}
