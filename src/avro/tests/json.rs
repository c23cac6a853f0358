//! JSON of values, both ways.

use super::*;
use serde_json::json;

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"long"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"day","type":{"type":"int","logicalType":"date"},"default":0},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2},"default":"\u0000"},
    {"name":"took","type":{"type":"int","logicalType":"time-millis"},"default":1500},
    {"name":"data","type":"bytes","default":""},
    {"name":"tier","type":{"type":"enum","name":"Tier","symbols":["BASIC","GOLD"]},"default":"BASIC"},
    {"name":"note","type":["null","string"],"default":null},
    {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
        {"name":"sku","type":"string"},{"name":"count","type":"int"}]}},"default":[]}]}"#;

fn schema(text: &str) -> Schema {
    Schema::parse(text).unwrap()
}

fn again(text: &str, json: &Json) -> Json {
    let schema = schema(text);
    to_json(&from_json(json, &schema).unwrap_or_else(|error| panic!("{error}: {json}")), &schema.value_type())
}

fn refused(text: &str, json: &Json) -> String {
    from_json(json, &schema(text)).unwrap_err().to_string()
}

#[test]
fn values_are_written_for_people_in_the_schemas_order() {
    let json = json!({
        "lines": [{"count": 2, "sku": "a"}], "note": "hi", "tier": "GOLD", "data": "AQI=", "took": "0.25s",
        "price": "12.34", "day": "2013-07-01", "at": "2013-07-01T12:00:00.5Z", "id": 7});
    let expected = r#"{"id":7,"at":"2013-07-01T12:00:00.5Z","day":"2013-07-01T00:00:00Z","price":"12.34","took":"0.25s","data":"AQI=","tier":"GOLD","note":"hi","lines":[{"sku":"a","count":2}]}"#;
    assert_eq!(again(ORDER, &json).to_string(), expected);
}

#[test]
fn missing_fields_take_their_defaults() {
    let expected = r#"{"id":7,"at":"1970-01-01T00:00:00.001Z","day":"1970-01-01T00:00:00Z","price":"0.00","took":"1.5s","data":"","tier":"BASIC","note":null,"lines":[]}"#;
    assert_eq!(again(ORDER, &json!({"id": 7, "at": 1})).to_string(), expected);
}

#[test]
fn errors_name_the_place_and_the_nearest_name() {
    assert_eq!(
        refused(ORDER, &json!({"id": 7, "at": 1, "lines": [{"sku": "a", "cuont": 1}]})),
        "`lines[0]`: `Line` has no field `cuont`: did you mean `count`?"
    );
    assert_eq!(refused(ORDER, &json!({"id": 7})), "`at`: `Order` needs it: it has no default");
    assert_eq!(
        refused(ORDER, &json!({"id": 7, "at": "noon"})),
        "`at`: `\"noon\"` is not a time: write it like `2013-07-01T12:00:00Z` (RFC 3339)"
    );
    assert_eq!(
        refused(ORDER, &json!({"id": 7, "at": 1, "tier": "GLOD"})),
        "`tier`: enum `Tier` has no symbol `GLOD`: did you mean `GOLD`?"
    );
    assert_eq!(
        refused(ORDER, &json!({"id": 7, "at": 1, "lines": [{"sku": "a", "count": 3_000_000_000_u64}]})),
        "`lines[0].count`: `3000000000` is not of type `int`"
    );
    assert!(
        refused(ORDER, &json!({"id": 7, "at": 1, "price": "1.234"}))
            .starts_with("`price`: `\"1.234\"` is not a decimal")
    );
    assert_eq!(refused("\"int\"", &json!([1])), "a list is not of type `int`");
    assert_eq!(refused("\"bytes\"", &json!("AQ")), "`\"AQ\"` is not base64");
}

#[test]
fn a_unions_branch_is_chosen_by_fit() {
    let branch = |text: &str, json: Json| {
        let Value::Union(tagged) = from_json(&json, &schema(text)).unwrap() else { panic!("it is a union") };
        tagged.0
    };
    assert_eq!(branch(r#"["double","long","string"]"#, json!(5)), 1);
    assert_eq!(branch(r#"["double","long","string"]"#, json!(5.5)), 0);
    assert_eq!(branch(r#"["null","double","string"]"#, json!(5)), 1);
    assert_eq!(branch(r#"["int","long","string"]"#, json!(5_000_000_000_i64)), 1);
    let moment = r#"[{"type":"long","logicalType":"timestamp-millis"},"string","boolean"]"#;
    assert_eq!(branch(moment, json!("2013-07-01T12:00:00Z")), 0);
    assert_eq!(branch(moment, json!("noon")), 1);
    let events = r#"[{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]},
        {"type":"record","name":"B","fields":[{"name":"b","type":"int"}]}]"#;
    assert_eq!(branch(events, json!({"b": 1})), 1);
    assert_eq!(refused(events, &json!({"c": 1})), "an object is none of `A`, `B`");
    assert_eq!(refused(r#"["null","int","boolean"]"#, &json!(1.5)), "`1.5` is none of `null`, `int`, `boolean`");
}

#[test]
fn numbers_that_json_lacks_are_text() {
    for number in ["NaN", "Infinity", "-Infinity"] {
        assert_eq!(again("\"double\"", &json!(number)), json!(number));
    }
    assert!(refused("\"double\"", &json!("1")).contains("`double`"));
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(base64_encode(bytes.as_bytes()), text);
        assert_eq!(base64_decode(text).as_deref(), Some(bytes.as_bytes()));
    }
    for wrong in ["Zg=", "Zg", "Z", "Zg==Zg==", "Z!==", "====", "=", "Zm9v="] {
        assert_eq!(base64_decode(wrong), None, "{wrong}");
    }
}

#[test]
fn decimals_and_durations_are_read_from_text() {
    let decimal = |text| parse_decimal(text).map(|decimal| (decimal.unscaled, decimal.scale));
    assert_eq!(decimal("-12.34"), Some((-1234, 2)));
    assert_eq!(decimal("1.5e3"), Some((1500, 0)));
    assert_eq!(decimal("5e-2"), Some((5, 2)));
    for wrong in ["", "-", ".", "1.2.3", "1,5", "+1", "0x1", "1e", "1e999999999999", "--1"] {
        assert_eq!(decimal(wrong), None, "{wrong}");
    }
    for text in ["1.5s", "-0.25s", "0s", "86400s"] {
        assert_eq!(parse_time_delta(text).map(|time| time.to_string()).as_deref(), Some(text));
    }
    assert_eq!(parse_time_delta("1.5"), None);
}

#[test]
fn text_nested_without_end_is_refused() {
    let schema = schema(r#"{"type":"record","name":"N","fields":[{"name":"n","type":["null","N"],"default":null}]}"#);
    let mut json = json!({});
    for _ in 0..100 {
        json = json!({"n": json});
    }
    assert!(from_json(&json, &schema).unwrap_err().to_string().contains("nested"));
}
