//! Schemas: parsing, fingerprints, value types, defaults, schemas made of types.

use super::*;
use crate::avro::fingerprint;

fn parse(text: &str) -> Schema {
    Schema::parse(text).unwrap()
}

fn refused(text: &str) -> String {
    Schema::parse(text).unwrap_err().to_string()
}

/// From the cases that Avro's implementations share (`schema-tests.txt`).
#[test]
fn fingerprints_are_those_of_the_shared_cases() {
    for (text, fingerprint) in [
        (r#""null""#, 7_195_948_357_588_979_594_i64),
        (r#"{"type":"boolean"}"#, -6_970_731_678_124_411_036),
        (r#""int""#, 8_247_732_601_305_521_295),
        (r#""long""#, -3_434_872_931_120_570_953),
        (r#""float""#, 5_583_340_709_985_441_680),
        (r#""double""#, -8_181_574_048_448_539_266),
        (r#""bytes""#, 5_746_618_253_357_095_269),
        (r#""string""#, -8_142_146_995_180_207_161),
    ] {
        assert_eq!(parse(text).fingerprint() as i64, fingerprint, "{text}");
    }
}

#[test]
fn the_canonical_form_keeps_names_shapes_and_symbols_only() {
    let schema = parse(
        r#"{"doc":"x", "namespace":"a.b", "name":"R", "aliases":["Old"], "type":"record", "fields":[
            {"default":3, "name":"n", "type":{"type":"int","logicalType":"date"}, "doc":"y"},
            {"name":"e", "type":{"type":"enum","name":"E","symbols":["X","Y"],"default":"X"}},
            {"name":"f", "type":{"type":"fixed","name":"c.F","size":4}},
            {"name":"again", "type":["null","E"]},
            {"name":"next", "type":["null","R"]}]}"#,
    );
    let expected = concat!(
        r#"{"name":"a.b.R","type":"record","fields":[{"name":"n","type":"int"},"#,
        r#"{"name":"e","type":{"name":"a.b.E","type":"enum","symbols":["X","Y"]}},"#,
        r#"{"name":"f","type":{"name":"c.F","type":"fixed","size":4}},"#,
        r#"{"name":"again","type":["null","a.b.E"]},{"name":"next","type":["null","a.b.R"]}]}"#
    );
    assert_eq!(schema.canonical_form(), expected);
    assert_eq!(parse(expected).fingerprint(), schema.fingerprint());
}

#[test]
fn every_logical_type_has_its_value_type() {
    let of = |text: &str| parse(text).value_type().to_string();
    for (text, expected) in [
        (r#"{"type":"int","logicalType":"date"}"#, "timestamp"),
        (r#"{"type":"int","logicalType":"time-millis"}"#, "duration"),
        (r#"{"type":"long","logicalType":"time-micros"}"#, "duration"),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, "timestamp"),
        (r#"{"type":"long","logicalType":"timestamp-micros"}"#, "timestamp"),
        (r#"{"type":"long","logicalType":"timestamp-nanos"}"#, "timestamp"),
        (r#"{"type":"long","logicalType":"local-timestamp-millis"}"#, "timestamp"),
        (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, "timestamp"),
        (r#"{"type":"long","logicalType":"local-timestamp-nanos"}"#, "timestamp"),
        (r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#, "decimal(9, 2)"),
        (r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":9}"#, "decimal(9, 0)"),
        (r#"{"type":"string","logicalType":"uuid"}"#, "string"),
        (r#"{"type":"fixed","name":"F","size":16,"logicalType":"uuid"}"#, "string"),
        (r#"{"type":"fixed","name":"F","size":12,"logicalType":"duration"}"#, "bytes"),
        // Unknown, or on a type where it says nothing: the underlying type.
        (r#"{"type":"string","logicalType":"date"}"#, "string"),
        (r#"{"type":"long","logicalType":"made-up"}"#, "int"),
        (r#"{"type":"fixed","name":"F","size":8,"logicalType":"uuid"}"#, "bytes"),
        (r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#, "bytes"),
        (r#"["null","string"]"#, "optional(string)"),
        (r#"["string","null"]"#, "optional(string)"),
        (r#"["string"]"#, "string"),
        (r#"["null","string","long"]"#, "union(null, string, int)"),
        (r#"{"type":"map","values":{"type":"array","items":"float"}}"#, "map(string, list(double))"),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn a_recursive_record_has_a_type_that_holds_itself() {
    let schema = parse(
        r#"{"type":"record","name":"Node","fields":[{"name":"value","type":"int"},{"name":"next","type":["null","Node"]}]}"#,
    );
    let Type::Record(record) = schema.value_type() else { panic!("a record is a record") };
    let Type::Record(next) = record.fields()[1].field_type.required().clone() else { panic!("next is a record") };
    assert!(Arc::ptr_eq(&record, &next));
    assert_eq!(schema.fields().len(), 2);
    assert_eq!(schema.field_index("next"), Some(1));
}

#[test]
fn schemas_of_a_list_find_each_other_in_any_order_and_become_self_contained() {
    let customer = r#"{"type":"record","name":"Customer","namespace":"shop","doc":"who","fields":[
        {"name":"tier","type":"Tier","default":"BASIC","aliases":["level"]}]}"#;
    let order = r#"{"type":"record","name":"Order","namespace":"sales","aliases":["Purchase"],"fields":[
        {"name":"customer","type":"shop.Customer"},{"name":"second","type":["null","shop.Customer"],"default":null}]}"#;
    let tier = r#"{"type":"enum","name":"Tier","namespace":"shop","symbols":["BASIC","GOLD"]}"#;
    for texts in [[order, customer, tier], [tier, customer, order], [customer, order, tier]] {
        let schemas = Schema::parse_list(&texts).unwrap();
        for (schema, text) in schemas.iter().zip(texts) {
            let again = parse(schema.text());
            assert_eq!(again.canonical_form(), schema.canonical_form());
            assert_eq!(schema.text() == text, text == tier, "only what stands alone keeps its text");
        }
        let order = &schemas[texts.iter().position(|text| *text == order).unwrap()];
        assert_eq!(order.full_name(), Some("sales.Order"));
        for kept in ["\"doc\":\"who\"", "\"default\":\"BASIC\"", "\"level\"", "sales.Purchase"] {
            assert!(order.text().contains(kept), "{kept}: {}", order.text());
        }
    }
}

#[test]
fn what_is_no_schema_is_refused_with_its_reason() {
    assert!(refused("{").contains("does not parse"));
    assert!(refused(r#""strin""#).contains("strin"));
    assert!(refused(r#"[]"#).contains("no branches"));
    assert!(refused(r#"["int","int"]"#).contains("does not parse"));
    let twice = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":{"type":"enum","name":"E","symbols":["X"]}},
        {"name":"b","type":{"type":"enum","name":"E","symbols":["Y"]}}]}"#;
    assert_eq!(refused(twice), "`E` is defined more than once");
    assert_eq!(Schema::parse("{").unwrap_err().kind(), Kind::Config);
}

#[test]
fn defaults_are_judged_by_the_specification() {
    let with = |of: &str, default: &str| {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{of},"default":{default}}}]}}"#
        ))
    };
    for (of, default) in [
        (r#""int""#, "2147483647"),
        (r#""double""#, "1"),
        (r#""bytes""#, r#""\u00ff\u0000""#),
        (r#"["null","string"]"#, r#""text""#),
        (r#"["string","null"]"#, "null"),
        (r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#, r#""\u0001\u0000""#),
        (r#"{"type":"long","logicalType":"timestamp-millis"}"#, "0"),
        (r#"{"type":"fixed","name":"F","size":2}"#, r#""ab""#),
        (r#"{"type":"map","values":"int"}"#, r#"{"a":1}"#),
        (r#"{"type":"record","name":"S","fields":[{"name":"x","type":"int","default":1}]}"#, "{}"),
    ] {
        assert!(with(of, default).is_ok(), "{of} {default} {:?}", with(of, default));
    }
    for (of, default) in [
        (r#""int""#, "2147483648"),
        (r#""int""#, "1.5"),
        (r#""string""#, "null"),
        (r#""bytes""#, r#""\u0100""#),
        (r#"{"type":"enum","name":"E","symbols":["A"]}"#, r#""B""#),
        (r#"{"type":"fixed","name":"F","size":2}"#, r#""abc""#),
        (r#"["null","string"]"#, "1"),
        (r#"{"type":"record","name":"S","fields":[{"name":"x","type":"int"}]}"#, "{}"),
    ] {
        let error = with(of, default).unwrap_err();
        assert!(matches!(error, SchemaError::Default { .. }), "{of} {default}: {error}");
    }
}

#[test]
fn a_record_of_types_reads_back_as_those_types() {
    let tier = Arc::new(crate::base::types::EnumType {
        name: Text::new("shop.Tier"),
        symbols: vec![Text::new("BASIC"), Text::new("GOLD")],
    });
    let inner = crate::base::types::RecordType::new(
        "shop.Inner",
        vec![Field { name: Text::new("tier"), field_type: Type::Enum(tier.clone()) }],
    );
    let types = [
        Type::Null,
        Type::Bool,
        Type::Int,
        Type::Double,
        Type::String,
        Type::Bytes,
        Type::DateTime,
        Type::TimeDelta,
        Type::Decimal { precision: 10, scale: 2 },
        Type::Enum(tier),
        Type::List(Arc::new(Type::Record(inner.clone()))),
        Type::Map(Arc::new(Type::Double)),
        Type::Record(inner.clone()),
        Type::Optional(Arc::new(Type::Record(inner))),
        Type::Union([Type::Int, Type::String, Type::Null].into()),
    ];
    let fields: Vec<(Text, Type)> =
        types.into_iter().enumerate().map(|(index, of)| (Text::new(format!("f{index}")), of)).collect();
    let schema = Schema::record_of("app.Row", &fields).unwrap();
    assert_eq!(schema.full_name(), Some("app.Row"));
    let read: Vec<(Text, Type)> =
        schema.fields().iter().map(|field| (field.name.clone(), field.field_type.clone())).collect();
    assert_eq!(read, fields);
    assert_eq!(schema.text().matches("\"symbols\"").count(), 1);
    assert!(
        schema.text().contains(r#"{"name":"f13","type":["null","shop.Inner"],"default":null}"#),
        "{}",
        schema.text()
    );
}

#[test]
fn types_without_a_counterpart_and_wrong_names_are_refused() {
    let of = |name: &str, field: &str, of: Type| Schema::record_of(name, &[(Text::new(field), of)]).unwrap_err();
    assert!(matches!(of("R", "f", Type::Uint), SchemaError::NoAvroType { .. }));
    assert!(matches!(of("no-name", "f", Type::Int), SchemaError::Syntax { .. }));
    assert!(matches!(of("R", "no field", Type::Int), SchemaError::Syntax { .. }));
    let other = |symbol: &str| {
        Type::Enum(Arc::new(crate::base::types::EnumType { name: Text::new("E"), symbols: vec![Text::new(symbol)] }))
    };
    let two = [(Text::new("a"), other("X")), (Text::new("b"), other("Y"))];
    assert_eq!(Schema::record_of("R", &two), Err(SchemaError::Duplicate { name: "E".into() }));
}

#[test]
fn an_optional_union_keeps_the_numbers_of_its_branches() {
    let union = Type::Optional(Arc::new(Type::Union([Type::Int, Type::String].into())));
    let schema = Schema::record_of("R", &[(Text::new("u"), union)]).unwrap();
    assert_eq!(schema.fields()[0].field_type.to_string(), "union(int, string, null)");
}

#[test]
fn names_without_namespace_survive_inside_one() {
    let texts = [
        r#"{"type":"record","name":"a.R","fields":[{"name":"x","type":".Plain"},{"name":"y","type":".Plain"}]}"#,
        r#"{"type":"fixed","name":"Plain","size":1}"#,
    ];
    let schemas = Schema::parse_list(&texts).unwrap();
    let again = parse(&fingerprint::full_text(schemas[0].nodes(), schemas[0].root()));
    assert_eq!(again.canonical_form(), schemas[0].canonical_form());
    assert!(again.canonical_form().contains(r#""name":"Plain""#));
}
