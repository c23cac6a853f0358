//! The rules of schema resolution, one table each.

use expect_test::{Expect, expect};

use super::*;
use crate::avro::{DecodePlan, Encoder, from_json, to_json};

fn schema(text: &str) -> Schema {
    Schema::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A record `R` with these fields.
fn record(fields: &str) -> Schema {
    schema(&format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#))
}

/// Writes JSON by one schema, reads it by another, and gives the JSON of that, or the error.
fn read(writer: &Schema, reader: &Schema, json: &str) -> String {
    let value = from_json(&json.parse().unwrap(), writer).unwrap();
    let mut bytes = Vec::new();
    Encoder::compile(writer).encode_value(&value, &mut bytes).unwrap();
    match DecodePlan::whole(writer, reader) {
        Err(error) => format!("cannot: {error}"),
        Ok(plan) => match plan.decode_value(&bytes) {
            Err(error) => format!("error {error}"),
            Ok(value) => to_json(&value, &reader.value_type()).to_string(),
        },
    }
}

fn check(writer: &str, reader: &str, json: &str, expected: Expect) {
    expected.assert_eq(&read(&schema(writer), &schema(reader), json));
}

fn check_fields(writer: &str, reader: &str, json: &str, expected: Expect) {
    expected.assert_eq(&read(&record(writer), &record(reader), json));
}

#[test]
fn numbers_promote_upwards_only() {
    let order = ["int", "long", "float", "double"];
    for (from, writer) in order.iter().enumerate() {
        for (to, reader) in order.iter().enumerate() {
            let (writer, reader) = (schema(&format!("\"{writer}\"")), schema(&format!("\"{reader}\"")));
            let expected = if to >= 2 { "7.0" } else { "7" };
            match read(&writer, &reader, "7") {
                text if to >= from => assert_eq!(text, expected),
                text => assert!(text.starts_with("cannot: "), "{text}"),
            }
        }
    }
    check("\"long\"", "\"float\"", "16777217", expect!["16777216.0"]);
}

#[test]
fn strings_and_bytes_become_each_other() {
    check("\"string\"", "\"bytes\"", "\"hi\"", expect![[r#""aGk=""#]]);
    check("\"bytes\"", "\"string\"", "\"aGk=\"", expect![[r#""hi""#]]);
    check("\"bytes\"", "\"string\"", "\"/w==\"", expect!["error at byte 2: a string is not UTF-8"]);
}

#[test]
fn a_field_is_found_by_name_then_by_alias() {
    let writer = r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#;
    let json = r#"{"a":1,"b":2}"#;
    check_fields(writer, r#"{"name":"b","type":"int"},{"name":"a","type":"int"}"#, json, expect![[r#"{"b":2,"a":1}"#]]);
    check_fields(writer, r#"{"name":"c","type":"long","aliases":["x","b"]}"#, json, expect![[r#"{"c":2}"#]]);
    // The alias of one field is the name of another: the name counts.
    check_fields(
        writer,
        r#"{"name":"c","type":"int","aliases":["a"],"default":9},{"name":"a","type":"int"}"#,
        json,
        expect![[r#"{"c":9,"a":1}"#]],
    );
    check_fields(
        writer,
        r#"{"name":"a","type":"int","aliases":["b"]}"#,
        json,
        expect![[
            r#"cannot: a reader of `R` cannot take what a writer of `R` wrote: `a`: the writer's fields `a` and `b` both are this field by its aliases"#
        ]],
    );
}

#[test]
fn a_missing_field_takes_its_default_of_any_branch() {
    let writer = r#"{"name":"a","type":"int"}"#;
    for (field, expected) in [
        (r#"{"name":"n","type":["null","string"],"default":null}"#, "null"),
        (r#"{"name":"n","type":["null","string"],"default":"x"}"#, "\"x\""),
        (r#"{"name":"n","type":["string","null"],"default":null}"#, "null"),
        (r#"{"name":"n","type":["null","long","string"],"default":"x"}"#, "\"x\""),
        (r#"{"name":"n","type":"bytes","default":"\u00ff"}"#, "\"/w==\""),
        (r#"{"name":"n","type":{"type":"int","logicalType":"date"},"default":1}"#, "\"1970-01-02T00:00:00Z\""),
        (r#"{"name":"n","type":{"type":"array","items":"int"},"default":[1,2]}"#, "[1,2]"),
    ] {
        assert_eq!(read(&record(writer), &record(field), r#"{"a":1}"#), format!("{{\"n\":{expected}}}"));
    }
    check_fields(
        writer,
        r#"{"name":"n","type":"int"},{"name":"m","type":"int"}"#,
        r#"{"a":1}"#,
        expect![[
            r#"cannot: a reader of `R` cannot take what a writer of `R` wrote: `n`: the writer has no such field and the reader's has no default; `m`: the writer has no such field and the reader's has no default"#
        ]],
    );
}

#[test]
fn names_match_unqualified_or_by_alias() {
    let of = |name: &str, aliases: &str| {
        schema(&format!(r#"{{"type":"fixed","name":"{name}","size":1,"aliases":[{aliases}]}}"#))
    };
    assert!(can_read(&of("b.F", ""), &of("a.F", "")).is_empty());
    assert!(can_read(&of("b.G", r#""a.F""#), &of("a.F", "")).is_empty());
    assert!(can_read(&of("a.G", r#""F""#), &of("a.F", "")).is_empty());
    assert_eq!(can_read(&of("b.G", r#""F""#), &of("a.F", "")).len(), 1);
    assert_eq!(can_read(&of("G", ""), &of("F", r#""G""#)).len(), 1, "the writer's aliases mean nothing");
}

#[test]
fn fixed_must_have_one_size() {
    let of = |size: u8| schema(&format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#));
    assert_eq!(can_read(&of(2), &of(1))[0].message, "the writer's fixed has 1 bytes, the reader's 2");
}

#[test]
fn symbols_map_by_name_and_unknown_ones_to_the_default() {
    let writer = r#"{"type":"enum","name":"E","symbols":["A","B","C"]}"#;
    let plain = r#"{"type":"enum","name":"E","symbols":["C","A"]}"#;
    let default = r#"{"type":"enum","name":"E","symbols":["C","A"],"default":"A"}"#;
    check(writer, plain, "\"C\"", expect![[r#""C""#]]);
    check(writer, default, "\"B\"", expect![[r#""A""#]]);
    check(
        writer,
        plain,
        "\"B\"",
        expect!["error at byte 1: the reader's schema does not take it: its enum has no symbol `B` and no default"],
    );
    assert_eq!(
        can_read(&schema(plain), &schema(writer))[0].message,
        "the reader's enum has no symbol `B` and no default"
    );
    assert!(can_read(&schema(default), &schema(writer)).is_empty());
}

#[test]
fn a_readers_union_takes_the_exact_branch_before_a_promotion() {
    check("\"int\"", r#"["double","long","int"]"#, "1", expect!["1"]);
    check("\"int\"", r#"["string","double","long"]"#, "1", expect!["1.0"]);
    check("\"int\"", r#"["null","long"]"#, "1", expect!["1"]);
    check("\"string\"", r#"["bytes","string"]"#, "\"hi\"", expect![[r#""hi""#]]);
    check(
        "\"boolean\"",
        r#"["null","int"]"#,
        "true",
        expect![
            "cannot: a reader of `union` cannot take what a writer of `boolean` wrote: no branch of the reader's union takes the writer's `boolean`"
        ],
    );
}

#[test]
fn a_writers_union_is_resolved_branch_by_branch() {
    let writer = r#"["null","int","string"]"#;
    check(writer, "\"long\"", "5", expect!["5"]);
    check(
        writer,
        "\"long\"",
        "\"x\"",
        expect![
            "error at byte 1: the reader's schema does not take it: the writer's `string` cannot become the reader's `long`"
        ],
    );
    check(writer, r#"["string","long","null"]"#, "5", expect!["5"]);
    assert_eq!(can_read(&schema("\"long\""), &schema(writer)).len(), 2);
    check(
        r#"["null","string"]"#,
        "\"long\"",
        "null",
        expect![[
            r#"cannot: a reader of `long` cannot take what a writer of `union` wrote: the reader takes no branch of the writer's union"#
        ]],
    );
}

#[test]
fn an_event_in_a_union_is_read_as_the_record_of_its_name() {
    let event = |name: &str, more: &str| {
        format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"id","type":"int"}}{more}]}}"#)
    };
    let more = r#",{"name":"why","type":"string"}"#;
    let (created, closed) = (event("Created", ""), event("Closed", more));
    let writer = schema(&format!("[{created},{closed}]"));
    // The first branch would fit the structure of both.
    let reader = schema(&format!("[{created},{}]", event("Closed", "")));
    let plan = DecodePlan::whole(&writer, &reader).unwrap();
    let value = from_json(&r#"{"id":7,"why":"done"}"#.parse().unwrap(), &writer).unwrap();
    let mut bytes = Vec::new();
    Encoder::compile(&writer).encode_value(&value, &mut bytes).unwrap();
    let crate::base::value::Value::Union(tagged) = plan.decode_value(&bytes).unwrap() else { panic!("it is a union") };
    assert_eq!(tagged.0, 1);
    // A full name counts before an unqualified one.
    let reader = schema(&format!("[{},{}]", event("old.Closed", ""), event("Closed", "")));
    let plan = DecodePlan::whole(&writer, &reader).unwrap();
    let crate::base::value::Value::Union(tagged) = plan.decode_value(&bytes).unwrap() else { panic!("it is a union") };
    assert_eq!(tagged.0, 1);
}

#[test]
fn a_records_own_problem_inside_a_union_spoils_only_its_data() {
    let writer = schema(
        r#"["null",{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]},
            {"type":"record","name":"B","fields":[{"name":"x","type":"int"}]}]"#,
    );
    let reader = schema(
        r#"["null",{"type":"record","name":"A","fields":[{"name":"y","type":"int"}]},
            {"type":"record","name":"B","fields":[{"name":"x","type":"int"}]}]"#,
    );
    let plan = DecodePlan::whole(&writer, &reader).unwrap();
    assert!(plan.decode_value(&[0]).is_ok());
    assert!(plan.decode_value(&[4, 2]).is_ok());
    let error = plan.decode_value(&[2, 2]).unwrap_err().to_string();
    assert!(error.contains("`y`: the writer has no such field"), "{error}");
}

#[test]
fn moments_keep_their_meaning_across_units() {
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let date = r#"{"type":"int","logicalType":"date"}"#;
    check(millis, micros, "1500", expect![[r#""1970-01-01T00:00:01.5Z""#]]);
    check(date, micros, "1", expect![[r#""1970-01-02T00:00:00Z""#]]);
    check(millis, "\"long\"", "1500", expect!["1500"]);
    check("\"int\"", millis, "1500", expect![[r#""1970-01-01T00:00:01.5Z""#]]);
    let times = [r#"{"type":"int","logicalType":"time-millis"}"#, r#"{"type":"long","logicalType":"time-micros"}"#];
    check(times[0], times[1], "\"1.5s\"", expect![[r#""1.5s""#]]);
}

#[test]
fn decimals_match_by_scale() {
    let of = |precision: u8, scale: u8| {
        schema(&format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#))
    };
    assert_eq!(read(&of(4, 2), &of(9, 2), "\"12.34\""), "\"12.34\"");
    assert_eq!(
        can_read(&of(9, 3), &of(9, 2))[0].message,
        "the writer's decimal has 2 digits after the point, the reader's 3"
    );
    assert_eq!(read(&of(4, 2), &schema("\"bytes\""), "\"12.34\""), "\"BNI=\"");
}

#[test]
fn recursive_types_resolve_against_each_other() {
    let of = |value: &str| {
        schema(&format!(
            r#"{{"type":"record","name":"Node","fields":[{{"name":"value","type":"{value}"}},
                {{"name":"next","type":["null","Node"],"default":null}}]}}"#
        ))
    };
    let json = r#"{"value":1,"next":{"value":2,"next":{"value":3}}}"#;
    assert_eq!(
        read(&of("int"), &of("double"), json),
        r#"{"value":1.0,"next":{"value":2.0,"next":{"value":3.0,"next":null}}}"#
    );
    assert_eq!(can_read(&of("int"), &of("string"))[0].path, "value");
}

#[test]
fn every_problem_is_named_with_its_place() {
    let of = |price: &str, extra: &str| {
        record(&format!(
            r#"{{"name":"items","type":{{"type":"array","items":{{"type":"record","name":"Item","fields":[
                {{"name":"price","type":"{price}"}}]}}}}}},
               {{"name":"tags","type":{{"type":"map","values":"{price}"}}}}{extra}"#
        ))
    };
    let problems = can_read(&of("int", r#",{"name":"new","type":"int"}"#), &of("string", ""));
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "`items[].price`: the writer's `string` cannot become the reader's `int`",
            "`tags{}`: the writer's `string` cannot become the reader's `int`",
            "`new`: the writer has no such field and the reader's has no default",
        ]
    );
}

#[test]
fn other_names_and_shapes_do_not_match() {
    let other = schema(r#"{"type":"record","name":"Other","fields":[]}"#);
    assert_eq!(
        can_read(&other, &record(""))[0].message,
        "the writer's `R` is not the reader's `Other` by name or alias"
    );
    assert_eq!(
        can_read(&schema("\"int\""), &other)[0].message,
        "the writer's `Other` cannot become the reader's `int`"
    );
}
