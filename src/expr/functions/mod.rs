//! The one table of built-in operators and functions. What is lazy, or binds a name, is the checker's and not here.

use crate::base::value::Value;

use super::types::{Arity, Failure, Overload, Run, Shape, Style};

mod collection;
mod format;
mod number;
mod text;
mod time;

pub(super) use collection::equal;
pub(super) use format::{FORMAT_ITEMS, TemplateProblem, check_template};
pub(super) use number::compare;
pub(super) use text::compile_pattern;
pub(super) use time::zone_offset_seconds;

use Shape::{
    Bool, Bytes, DateTime, Decimal, Double, Int, List, Map, Optional, Product, String, Sum, T, TimeDelta, Uint,
};

/// Every overload of every built-in, those of one name together.
pub(super) static BUILT_INS: &[&[Overload]] =
    &[ARITHMETIC, CONVERSIONS, MATH, BITS, TEXT, TEXT_METHODS, COLLECTIONS, TIMES, LENGTHS_OF_TIME];

/// Returns the overloads of a name in a style.
pub(super) fn overloads(style: Style, name: &str) -> impl Iterator<Item = &'static Overload> {
    all().filter(move |overload| overload.style == style && overload.name == name)
}

/// Returns the names there are in a style, each once.
pub(super) fn names(style: Style) -> Vec<&'static str> {
    let mut names: Vec<&str> = all().filter(|overload| overload.style == style).map(|overload| overload.name).collect();
    names.dedup();
    names
}

fn all() -> impl Iterator<Item = &'static Overload> {
    BUILT_INS.iter().flat_map(|part| part.iter())
}

const fn operator(name: &'static str, params: &'static [Shape], result: Shape, run: Run) -> Overload {
    Overload { name, style: Style::Operator, params, arity: Arity::Exact, result, run }
}

const fn global(name: &'static str, params: &'static [Shape], result: Shape, run: Run) -> Overload {
    Overload { name, style: Style::Global, params, arity: Arity::Exact, result, run }
}

const fn repeated(name: &'static str, params: &'static [Shape], result: Shape, run: Run) -> Overload {
    Overload { name, style: Style::Global, params, arity: Arity::Repeated, result, run }
}

const fn method(name: &'static str, params: &'static [Shape], result: Shape, run: Run) -> Overload {
    Overload { name, style: Style::Method, params, arity: Arity::Exact, result, run }
}

/// Decimals take integers beside them, exactly; doubles are converted by hand, since that rounds.
static ARITHMETIC: &[Overload] = &[
    operator("+", &[Int, Int], Int, number::add),
    operator("+", &[Uint, Uint], Uint, number::add),
    operator("+", &[Double, Double], Double, number::add),
    operator("+", &[Decimal, Decimal], Sum, number::add),
    operator("+", &[Decimal, Int], Sum, number::add),
    operator("+", &[Int, Decimal], Sum, number::add),
    operator("+", &[String, String], String, text::concatenate),
    operator("+", &[Bytes, Bytes], Bytes, text::concatenate_bytes),
    operator("+", &[List(&T), List(&T)], List(&T), collection::concatenate),
    operator("+", &[DateTime, TimeDelta], DateTime, time::later),
    operator("+", &[TimeDelta, DateTime], DateTime, time::later),
    operator("+", &[TimeDelta, TimeDelta], TimeDelta, time::sum),
    operator("-", &[Int, Int], Int, number::subtract),
    operator("-", &[Uint, Uint], Uint, number::subtract),
    operator("-", &[Double, Double], Double, number::subtract),
    operator("-", &[Decimal, Decimal], Sum, number::subtract),
    operator("-", &[Decimal, Int], Sum, number::subtract),
    operator("-", &[Int, Decimal], Sum, number::subtract),
    operator("-", &[DateTime, DateTime], TimeDelta, time::between),
    operator("-", &[DateTime, TimeDelta], DateTime, time::earlier),
    operator("-", &[TimeDelta, TimeDelta], TimeDelta, time::difference),
    operator("*", &[Int, Int], Int, number::multiply),
    operator("*", &[Uint, Uint], Uint, number::multiply),
    operator("*", &[Double, Double], Double, number::multiply),
    operator("*", &[Decimal, Decimal], Product, number::multiply),
    operator("*", &[Decimal, Int], Product, number::multiply),
    operator("*", &[Int, Decimal], Product, number::multiply),
    operator("/", &[Int, Int], Int, number::divide),
    operator("/", &[Uint, Uint], Uint, number::divide),
    operator("/", &[Double, Double], Double, number::divide),
    operator("%", &[Int, Int], Int, number::remainder),
    operator("%", &[Uint, Uint], Uint, number::remainder),
    operator("-", &[Int], Int, number::negate),
    operator("-", &[Double], Double, number::negate),
    operator("-", &[Decimal], Decimal, number::negate),
    operator("in", &[T, List(&T)], Bool, collection::is_in),
    operator("in", &[String, Map(&T)], Bool, collection::has_key),
    operator("[]", &[List(&T), Int], T, collection::item),
    operator("[]", &[List(&T), Uint], T, collection::item),
    operator("[]", &[Map(&T), String], T, collection::entry),
    operator("[?]", &[List(&T), Int], Optional(&T), collection::item_or_null),
    operator("[?]", &[List(&T), Uint], Optional(&T), collection::item_or_null),
    operator("[?]", &[Map(&T), String], Optional(&T), collection::entry_or_null),
];

static CONVERSIONS: &[Overload] = &[
    global("int", &[Int], Int, same),
    global("int", &[Uint], Int, number::to_int),
    global("int", &[Double], Int, number::to_int),
    global("int", &[Decimal], Int, number::to_int),
    global("int", &[String], Int, number::to_int),
    global("int", &[DateTime], Int, number::to_int),
    global("uint", &[Uint], Uint, same),
    global("uint", &[Int], Uint, number::to_uint),
    global("uint", &[Double], Uint, number::to_uint),
    global("uint", &[String], Uint, number::to_uint),
    global("double", &[Double], Double, same),
    global("double", &[Int], Double, number::to_double),
    global("double", &[Uint], Double, number::to_double),
    global("double", &[Decimal], Double, number::to_double),
    global("double", &[String], Double, number::to_double),
    global("string", &[String], String, same),
    global("string", &[Bool], String, text::to_string),
    global("string", &[Int], String, text::to_string),
    global("string", &[Uint], String, text::to_string),
    global("string", &[Double], String, text::to_string),
    global("string", &[Decimal], String, text::to_string),
    global("string", &[Bytes], String, text::to_string),
    global("string", &[DateTime], String, text::to_string),
    global("string", &[TimeDelta], String, text::to_string),
    global("bytes", &[Bytes], Bytes, same),
    global("bytes", &[String], Bytes, text::to_bytes),
    global("bool", &[Bool], Bool, same),
    global("bool", &[String], Bool, text::to_bool),
    global("timestamp", &[DateTime], DateTime, same),
    global("timestamp", &[String], DateTime, time::to_timestamp),
    global("timestamp", &[Int], DateTime, time::to_timestamp),
    global("duration", &[TimeDelta], TimeDelta, same),
    global("duration", &[String], TimeDelta, time::to_duration),
    global("decimal", &[Decimal, Int, Int], Decimal, number::to_decimal),
    global("decimal", &[Int, Int, Int], Decimal, number::to_decimal),
    global("decimal", &[Uint, Int, Int], Decimal, number::to_decimal),
    global("decimal", &[Double, Int, Int], Decimal, number::to_decimal),
    global("decimal", &[String, Int, Int], Decimal, number::to_decimal),
];

static MATH: &[Overload] = &[
    global("math.greatest", &[List(&Int)], Int, number::greatest),
    global("math.greatest", &[List(&Uint)], Uint, number::greatest),
    global("math.greatest", &[List(&Double)], Double, number::greatest),
    repeated("math.greatest", &[Int], Int, number::greatest),
    repeated("math.greatest", &[Uint], Uint, number::greatest),
    repeated("math.greatest", &[Double], Double, number::greatest),
    global("math.least", &[List(&Int)], Int, number::least),
    global("math.least", &[List(&Uint)], Uint, number::least),
    global("math.least", &[List(&Double)], Double, number::least),
    repeated("math.least", &[Int], Int, number::least),
    repeated("math.least", &[Uint], Uint, number::least),
    repeated("math.least", &[Double], Double, number::least),
    global("math.abs", &[Int], Int, number::absolute),
    global("math.abs", &[Uint], Uint, number::absolute),
    global("math.abs", &[Double], Double, number::absolute),
    global("math.ceil", &[Double], Double, number::ceil),
    global("math.floor", &[Double], Double, number::floor),
    global("math.round", &[Double], Double, number::round),
    global("math.trunc", &[Double], Double, number::trunc),
    global("math.isNaN", &[Double], Bool, number::is_nan),
    global("math.isInf", &[Double], Bool, number::is_infinite),
    global("math.isFinite", &[Double], Bool, number::is_finite),
    global("math.sign", &[Int], Int, number::sign),
    global("math.sign", &[Uint], Uint, number::sign),
    global("math.sign", &[Double], Double, number::sign),
    global("math.sqrt", &[Int], Double, number::square_root),
    global("math.sqrt", &[Uint], Double, number::square_root),
    global("math.sqrt", &[Double], Double, number::square_root),
];

static BITS: &[Overload] = &[
    global("math.bitAnd", &[Int, Int], Int, number::bit_and),
    global("math.bitAnd", &[Uint, Uint], Uint, number::bit_and),
    global("math.bitOr", &[Int, Int], Int, number::bit_or),
    global("math.bitOr", &[Uint, Uint], Uint, number::bit_or),
    global("math.bitXor", &[Int, Int], Int, number::bit_xor),
    global("math.bitXor", &[Uint, Uint], Uint, number::bit_xor),
    global("math.bitNot", &[Int], Int, number::bit_not),
    global("math.bitNot", &[Uint], Uint, number::bit_not),
    global("math.bitShiftLeft", &[Int, Int], Int, number::shift_left),
    global("math.bitShiftLeft", &[Uint, Int], Uint, number::shift_left),
    global("math.bitShiftRight", &[Int, Int], Int, number::shift_right),
    global("math.bitShiftRight", &[Uint, Int], Uint, number::shift_right),
];

static TEXT: &[Overload] = &[
    global("size", &[String], Int, text::size),
    global("size", &[Bytes], Int, text::size),
    global("size", &[List(&T)], Int, collection::size),
    global("size", &[Map(&T)], Int, collection::size),
    method("size", &[String], Int, text::size),
    method("size", &[Bytes], Int, text::size),
    method("size", &[List(&T)], Int, collection::size),
    method("size", &[Map(&T)], Int, collection::size),
    global("matches", &[String, String], Bool, text::matches),
    method("matches", &[String, String], Bool, text::matches),
];

static TEXT_METHODS: &[Overload] = &[
    method("contains", &[String, String], Bool, text::contains),
    method("startsWith", &[String, String], Bool, text::starts_with),
    method("endsWith", &[String, String], Bool, text::ends_with),
    method("lowerAscii", &[String], String, text::lower_ascii),
    method("upperAscii", &[String], String, text::upper_ascii),
    method("trim", &[String], String, text::trim),
    method("split", &[String, String], List(&String), text::split),
    method("split", &[String, String, Int], List(&String), text::split),
    method("join", &[List(&String)], String, text::join),
    method("join", &[List(&String), String], String, text::join),
    method("replace", &[String, String, String], String, text::replace),
    method("replace", &[String, String, String, Int], String, text::replace),
    method("substring", &[String, Int], String, text::substring),
    method("substring", &[String, Int, Int], String, text::substring),
    method("charAt", &[String, Int], String, text::char_at),
    method("indexOf", &[String, String], Int, text::index_of),
    method("indexOf", &[String, String, Int], Int, text::index_of),
    method("lastIndexOf", &[String, String], Int, text::last_index_of),
    method("lastIndexOf", &[String, String, Int], Int, text::last_index_of),
    method("reverse", &[String], String, text::reverse),
    global("strings.quote", &[String], String, text::quote),
    method("format", &[String, List(&T)], String, format::with_list),
];

static COLLECTIONS: &[Overload] = &[
    method("contains", &[List(&T), T], Bool, collection::contains),
    method("first", &[List(&T)], Optional(&T), collection::first),
    method("last", &[List(&T)], Optional(&T), collection::last),
    global("optional.ofNonZeroValue", &[T], Optional(&T), collection::not_zero),
];

static TIMES: &[Overload] = &[
    method("getFullYear", &[DateTime], Int, time::full_year),
    method("getFullYear", &[DateTime, String], Int, time::full_year),
    method("getMonth", &[DateTime], Int, time::month),
    method("getMonth", &[DateTime, String], Int, time::month),
    method("getDate", &[DateTime], Int, time::date),
    method("getDate", &[DateTime, String], Int, time::date),
    method("getDayOfMonth", &[DateTime], Int, time::day_of_month),
    method("getDayOfMonth", &[DateTime, String], Int, time::day_of_month),
    method("getDayOfWeek", &[DateTime], Int, time::day_of_week),
    method("getDayOfWeek", &[DateTime, String], Int, time::day_of_week),
    method("getDayOfYear", &[DateTime], Int, time::day_of_year),
    method("getDayOfYear", &[DateTime, String], Int, time::day_of_year),
    method("getHours", &[DateTime], Int, time::hours),
    method("getHours", &[DateTime, String], Int, time::hours),
    method("getMinutes", &[DateTime], Int, time::minutes),
    method("getMinutes", &[DateTime, String], Int, time::minutes),
    method("getSeconds", &[DateTime], Int, time::seconds),
    method("getSeconds", &[DateTime, String], Int, time::seconds),
    method("getMilliseconds", &[DateTime], Int, time::milliseconds),
    method("getMilliseconds", &[DateTime, String], Int, time::milliseconds),
];

static LENGTHS_OF_TIME: &[Overload] = &[
    method("getHours", &[TimeDelta], Int, time::whole_hours),
    method("getMinutes", &[TimeDelta], Int, time::whole_minutes),
    method("getSeconds", &[TimeDelta], Int, time::whole_seconds),
    method("getMilliseconds", &[TimeDelta], Int, time::milliseconds_part),
];

fn same(args: &[&Value]) -> Result<Value, Failure> {
    args.first().map(|value| (*value).clone()).ok_or_else(|| mismatch(args))
}

/// An argument is not of the type that the checker was told: a slot holds something else than its type says.
#[cold]
fn mismatch(args: &[&Value]) -> Failure {
    let kinds: Vec<&str> = args.iter().map(|value| kind_name(value)).collect();
    Failure::Owned(format!("values of unexpected types: {}", kinds.join(", ")))
}

/// Returns the name of a value's kind, as messages have it.
pub(super) fn kind_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Double(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::DateTime(_) => "timestamp",
        Value::TimeDelta(_) => "duration",
        Value::Decimal(_) => "decimal",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Record(_) => "record",
        Value::Union(_) => "union",
    }
}
