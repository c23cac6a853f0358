//! Tables of expressions with their values and mistakes; random ones against a tree-walking model.

mod conformance;
mod docs;
mod fuzz;
mod macros;
mod model;
mod nulls;
mod problems;
mod syntax;
mod values;

use std::sync::Arc;

use crate::base::time::{DateTime, TimeDelta};
use crate::base::types::{EnumType, Field, RecordType, Type};
use crate::base::value::{Decimal, Value};

use super::{Checked, Env, EvalError, FieldUse, Scratch, check};

fn field(name: &str, field_type: Type) -> Field {
    Field { name: name.into(), field_type }
}

fn aircraft_type() -> Type {
    Type::Record(RecordType::new(
        "flights.Aircraft",
        vec![field("maker", Type::String), field("seats", Type::Int.optional())],
    ))
}

fn env() -> Env {
    let status = EnumType { name: "Status".into(), symbols: vec!["OPEN".into(), "CLOSED".into()] };
    let value = RecordType::new(
        "flights.Departed",
        vec![
            field("delay", Type::Int),
            field("limit", Type::Int),
            field("ratio", Type::Double),
            field("carrier", Type::String),
            field("status", Type::Enum(Arc::new(status))),
            field("note", Type::String.optional()),
            field("at", Type::DateTime),
            field("took", Type::TimeDelta),
            field("price", Type::Decimal { precision: 9, scale: 2 }),
            field("tags", Type::List(Arc::new(Type::String))),
            field("counts", Type::Map(Arc::new(Type::Int))),
            field("aircraft", aircraft_type().optional()),
            field("count", Type::Uint),
            field("raw", Type::Bytes),
            field("cancelled", Type::Bool),
            field("rating", Type::Int.optional()),
            field("plane", aircraft_type()),
        ],
    );
    let weather =
        RecordType::new("weather.Hour", vec![field("wind", Type::Double), field("gust", Type::Double.optional())]);
    Env::new()
        .root("value", Type::Record(value))
        .root("key", Type::String)
        .root("right", Type::Record(weather).optional())
}

fn record(values: Vec<Value>) -> Value {
    Value::Record(values.into())
}

fn row() -> Vec<Value> {
    vec![
        Value::Int(20),
        Value::Int(15),
        Value::Double(0.5),
        Value::text("UA"),
        Value::text("OPEN"),
        Value::Null,
        Value::DateTime(DateTime::parse("2013-07-01T22:30:05.25Z").unwrap()),
        Value::TimeDelta(TimeDelta::from_units(5_400_500, 1000)),
        Value::Decimal(Arc::new(Decimal { unscaled: 1250, scale: 2 })),
        Value::List(["red", "blue"].map(Value::text).to_vec().into()),
        Value::Map(vec![(Value::text("a"), Value::Int(1)), (Value::text("b"), Value::Int(2))].into()),
        record(vec![Value::text("BOEING"), Value::Int(180)]),
        Value::Uint(7),
        Value::Bytes(Arc::from(*b"\x00\xff")),
        Value::Bool(false),
        Value::Int(4),
        record(vec![Value::text("AIRBUS"), Value::Null]),
    ]
}

fn checked(text: &str) -> Checked {
    check(text, &env()).unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

fn eval(text: &str) -> Result<Value, EvalError> {
    let program = checked(text).compile(&|field: FieldUse| field.field.unwrap_or(0));
    let (row, key, right) = (row(), [Value::text("UA1-JFK")], [Value::Null]);
    program.eval(&[&row, &key, &right], &mut Scratch::new())
}

/// The value as the CEL literal that would give it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Uint(uint) => format!("{uint}u"),
        Value::Double(double) => format!("{double:?}"),
        Value::String(text) => format!("{text:?}"),
        Value::Bytes(bytes) => format!("b{bytes:?}"),
        Value::DateTime(moment) => moment.to_string(),
        Value::TimeDelta(delta) => delta.to_string(),
        Value::Decimal(decimal) => format!("{decimal}d"),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", shown(key), shown(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Record(fields) => format!("({})", fields.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Union(branch) => format!("{}:{}", branch.0, shown(&branch.1)),
    }
}

fn outcome(text: &str) -> String {
    match eval(text) {
        Ok(value) => shown(&value),
        Err(error) => format!("{}..{} {}", error.span.start, error.span.end, error.message),
    }
}

fn table(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter(|(text, expected)| outcome(text) != *expected)
        .map(|(text, expected)| format!("{text}\n  gives {}\n  not   {expected}", outcome(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
