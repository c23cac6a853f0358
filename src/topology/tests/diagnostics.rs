//! What users read: one test per kind of mistake, on the rendered text.

use expect_test::{Expect, expect};

use crate::base::diag::Severity;
use crate::topology::{Colour, Sources, check, render, to_json};

const PLACED: &str = r#"{"type": "record", "name": "shop.Placed", "fields": [
    {"name": "customer", "type": "string"}, {"name": "total", "type": "double"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;
const CANCELLED: &str = r#"{"type": "record", "name": "shop.Cancelled", "fields": [
    {"name": "customer", "type": "string"}, {"name": "reason", "type": "string"}]}"#;
const CUSTOMER: &str = r#"{"type": "record", "name": "shop.Customer", "fields": [
    {"name": "name", "type": "string"}, {"name": "town", "type": ["null", "string"], "default": null}]}"#;
const ORDER: &str = r#"{"type": "record", "name": "shop.Order", "fields": [
    {"name": "total", "type": "double", "default": 0},
    {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["OPEN", "SHIPPED"]}, "default": "OPEN"}]}"#;

pub(super) fn sources(text: &str) -> Sources {
    Sources::default()
        .with_file("shop.toml", text)
        .with_schema("Placed.avsc", PLACED)
        .with_schema("Cancelled.avsc", CANCELLED)
        .with_schema("Customer.avsc", CUSTOMER)
        .with_schema("Order.avsc", ORDER)
        .with_schema("Broken.avsc", "{\"type\": \"record\",\n \"name\": \"Broken\"}")
        .with_schema("List.avsc", "{\"type\": \"array\", \"items\": \"string\"}")
}

/// Checks tables behind a sound `[topology]`.
fn told(tables: &str, expected: &Expect) {
    let sources = sources(&format!("[topology]\nformat = 1\napplication_id = \"shop\"\n\n{tables}"));
    let (graph, findings) = check(&sources);
    assert_eq!(graph.is_none(), findings.iter().any(|finding| finding.severity == Severity::Error));
    expected.assert_eq(&render(&findings, &sources, Colour::Never));
}

#[test]
fn a_file_that_is_not_toml_is_told_where_it_stops_being_it() {
    told(
        r#"[stream.orders
topic = "orders"
"#,
        &expect![[""]],
    );
}

#[test]
fn unknown_tables_and_keys_get_the_nearest_name() {
    told(
        r#"[stram.orders]
topic = "orders"

[aggregate.totals]
from = "orders"
groupby = 'value.customer'
select = { n = 'count()' }
window = { tumbling = "1h", grace = "0s", retenton = "1d" }

[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]
"#,
        &expect![[""]],
    );
}

#[test]
fn values_of_the_wrong_type_say_what_they_are() {
    told(
        r#"[stream.orders]
topic = 5
schemas = "Placed.avsc"
idle = 30

[stream.big]
from = "orders"
where = true
select = 'value.total'
on = ["Placed", 1]
"#,
        &expect![[""]],
    );
}

#[test]
fn missing_keys_are_all_told() {
    told(
        r#"[stream.nowhere]

[stream.orders]
topic = "orders"

[entity.order]

[aggregate.totals]
from = "orders"

[merge.all]

[branch.b]
from = "orders"

[join.j]
left = "orders"

[sink.s]
"#,
        &expect![[""]],
    );
}

#[test]
fn one_name_stands_once_in_all_kinds() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[table.orders]
topic = "orders.by_id"
schemas = ["Customer.avsc"]
"#,
        &expect![[""]],
    );
}

#[test]
fn a_name_that_is_nowhere_gets_the_nearest_one() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[sink.out]
from = "order"
topic = "out"

[sink.again]
from = "out"
topic = "again"

[branch.by_size]
from = "orders"
case = [{ name = "large", where = 'value.total > 10.0' }, { name = "small" }]

[sink.more]
from = "by_size"
topic = "more"
"#,
        &expect![[""]],
    );
}

#[test]
fn a_cycle_is_told_once() {
    told(
        r#"[stream.a]
from = "c"

[stream.b]
from = "a"

[stream.c]
from = "b"

[sink.out]
from = "c"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn keys_that_exclude_each_other() {
    told(
        r#"[stream.orders]
topic = "orders"
from = "others"
schemas = ["Placed.avsc"]

[stream.others]
topic = "others"
schemas = ["Placed.avsc"]
where = 'true'

[stream.both]
from = "others"
select = { a = '1' }
set = { b = '2' }
timestamp = 'value.at'

[sink.s]
from = "both"
topic = "s"
record = "shop.S"

[table.two]
topic = "two"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.json]
topic = "json"
value_format = "json"
schemas = ["Placed.avsc", "Cancelled.avsc"]
on_error.decode = { action = "skip", topic = "dlq" }

[sink.j]
from = "json"
topic = "j"
"#,
        &expect![[""]],
    );
}

#[test]
fn values_that_are_not_among_the_choices() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]
key_format = "strng"
subjects = "by_hand"
idle = "half an hour"

[entity.order]
from = "orders"
schema = "Order.avsc"
history = "for ever"
apply.Placed.set = { total = 'event.total' }
"#,
        &expect![[""]],
    );
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    told(
        r#"[global_table.countries]
topic = "countries"
schemas = ["Country.avsc"]

[defaults.on_error]
produce = { action = "retry", attempts = 5 }

[stream.orders]
topic = "orders"
envelope = "cloudevents"
schemas = ["Placed.avsc"]

[aggregate.visits]
from = "orders"
window = { session = "30m", grace = "5m" }
select = { customers = 'count_distinct(value.customer)' }

[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]

[table.others]
topic = "others"
schemas = ["Customer.avsc"]

[join.two_tables]
left = "customers"
right = "others"
kind = "outer"
select = { name = 'left.name' }
"#,
        &expect![[""]],
    );
}

#[test]
fn schemas_that_are_missing_or_wrong() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Plaecd.avsc", "Broken.avsc"]

[table.customers]
topic = "customers"
schemas = ["List.avsc"]
"#,
        &expect![[""]],
    );
}

#[test]
fn event_types_that_are_not_there() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.placed]
from = "orders"
on = ["Plaecd"]

[entity.order]
from = "orders"
schema = "Order.avsc"
apply.Paid.set = { total = '1.0' }

[aggregate.totals]
from = "orders"
on.Shipped.set = { n = 'count()' }

[sink.out]
from = "placed"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn an_expression_is_told_for_the_event_type_that_it_fails_for() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]
timestamp = 'value.customer'

[stream.large]
from = "orders"
where = 'value.total > 10.0'

[sink.out]
from = "large"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn expressions_of_the_wrong_type() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.filtered]
from = "orders"
where = 'value.customer'

[stream.keyed]
from = "orders"
select_key = 'value.note'
select = { a = 'value.customr', b = "value.note == \"x\" ? 1 : 'y'" }

[stream.unstorable]
from = "orders"
select = { a = '1u' }

[aggregate.totals]
from = "orders"
group_by = 'value.total'
select = { n = 'count()' }

[entity.order]
from = "orders"
schema = "Order.avsc"
apply.Placed.set = { total = 'event.customer', status = '"SHIPED"', totl = '1.0' }

[merge.all]
from = ["filtered", "keyed", "unstorable"]

[sink.out]
from = "all"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn aggregates_are_calls_of_their_functions() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.placed]
from = "orders"
on = ["Placed"]

[aggregate.totals]
from = "placed"
select = { a = 'value.total', b = 'sum(value.total) / 2.0', c = 'count(value.total)', d = 'sum()', e = 'sum(value.customer)', f = 'max(value.total, 1.0)', g = 'cuont()', h = 'sum(value.totl)', i = 'avg(value.total)', i_sum = 'count()', j = 'sum(' }

[aggregate.two_ways]
from = "orders"
on.Placed.set = { n = 'count()' }
on.Cancelled.set = { n = 'last(value.reason)' }
"#,
        &expect![[""]],
    );
}

#[test]
fn windows_say_their_grace_and_only_they_close() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[aggregate.hourly]
from = "orders"
window = { tumbling = "1h" }
select = { n = 'count()' }

[aggregate.none]
from = "orders"
window = { tumbling = "0s", grace = "1h", retention = "1m" }
select = { n = 'count()' }

[aggregate.total]
from = "orders"
emit = "on_close"
select = { n = 'count()' }

[table.newest]
from = "hourly"
"#,
        &expect![[""]],
    );
}

#[test]
fn the_sides_of_a_join_must_go_together() {
    told(
        r#"[stream.orders]
topic = "orders"
key_format = "long"
schemas = ["Placed.avsc"]

[table.customers]
topic = "customers"
schemas = ["Customer.avsc"]

[join.by_other_keys]
left = "orders"
right = "customers"
select = { name = 'right.name', total = 'left.totl' }

[join.streams]
left = "orders"
right = "orders"
select = { total = 'left.total' }

[join.maybe]
left = "by_customer"
right = "customers"
kind = "left"
select = { length = 'size(right.name)' }

[stream.by_customer]
from = "orders"
select_key = 'value.customer'

[sink.a]
from = "by_other_keys"
topic = "a"
record = "shop.A"

[sink.b]
from = "streams"
topic = "b"
record = "shop.B"

[sink.c]
from = "maybe"
topic = "c"
record = "shop.C"
"#,
        &expect![[""]],
    );
}

#[test]
fn rows_must_fit_the_schema_of_their_sink() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.made]
from = "orders"
select = { name = 'value.customer', town = '5', street = '"x"' }

[sink.nameless]
from = "made"
topic = "a"

[sink.fields]
from = "made"
topic = "b"
schema = "Customer.avsc"

[sink.two]
from = "made"
topic = "c"
schema = "Customer.avsc"
record = "shop.Other"

[sink.several]
from = "orders"
topic = "d"
record = "shop.Either"

[sink.subject]
from = "orders"
topic = "e"
subjects = "topic_name"

[sink.odd]
from = "made"
topic = "f"
record = "shop.no-name"
"#,
        &expect![[""]],
    );
}

#[test]
fn nodes_that_nobody_reads_are_warned_of() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.large]
from = "orders"
where = 'value.total > 10.0'
"#,
        &expect![[""]],
    );
}

#[test]
fn a_state_needs_a_beginning() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[entity.order]
from = "orders"
schema = "Placed.avsc"
history_headers = ["trace"]
apply.Placed.set = { total = 'event.total' }
"#,
        &expect![[""]],
    );
}

#[test]
fn a_topic_is_read_once() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[table.cancellations]
topic = "orders"
schemas = ["Cancelled.avsc"]

[sink.out]
from = "orders"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn names_must_be_such_that_topics_and_records_can_bear_them() {
    told(
        r#"[stream."late orders"]
topic = "orders"
schemas = ["Placed.avsc"]

[stream.made]
from = "late orders"
select = { _a = '1', "b-c" = '2' }

[sink.out]
from = "made"
topic = "out"
record = "shop.Made"
"#,
        &expect![[""]],
    );
}

#[test]
fn rows_of_different_shapes_do_not_become_one() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc", "Cancelled.avsc"]

[stream.numbered]
topic = "numbered"
key_format = "long"
schemas = ["Customer.avsc"]

[stream.changed]
from = "orders"
on = ["Placed"]
set = { total = 'string(value.total)' }

[merge.all]
from = ["orders", "numbered", "changed"]

[table.several]
from = "orders"

[sink.out]
from = "all"
topic = "out"
"#,
        &expect![[""]],
    );
}

#[test]
fn an_earlier_case_takes_all() {
    told(
        r#"[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[branch.b]
from = "orders"
case = [{ name = "x" }, { name = "y", where = 'value.totl > 1.0' }, { name = "z" }]
"#,
        &expect![[""]],
    );
}

#[test]
fn a_topology_says_its_format_and_application_once() {
    let text = "[topology]\nformat = 7\n\n[defaults.on_error]\nprocess = { action = \"dead_letter\" }\n";
    let sources = sources(text).with_file("more.toml", "[topology]\napplication_id = \"a b\"\n");
    expect![[""]].assert_eq(&render(&check(&sources).1, &sources, Colour::Never));
    let none = Sources::default().with_file("empty.toml", "");
    expect![[""]].assert_eq(&render(&check(&none).1, &none, Colour::Never));
}

#[test]
fn programs_get_lines_and_columns() {
    let sources = sources("[topology]\nformat = 1\napplication_id = \"ä\"");
    let findings: Vec<_> = check(&sources).1.iter().map(|finding| to_json(finding, &sources)).collect();
    expect![[""]].assert_eq(&serde_json::to_string_pretty(&findings).unwrap());
}

#[test]
fn colour_is_an_option() {
    let sources = sources("x");
    let findings = check(&sources).1;
    assert!(render(&findings, &sources, Colour::Always).contains('\u{1b}'));
    assert!(!render(&findings, &sources, Colour::Never).contains('\u{1b}'));
}

#[test]
fn a_folder_is_read_without_hidden_files_and_tests() {
    let folder = tempfile::tempdir().unwrap();
    let (topology, schemas) = (folder.path().join("shop"), folder.path().join("schemas"));
    std::fs::create_dir_all(&topology).unwrap();
    std::fs::create_dir_all(schemas.join("shop")).unwrap();
    let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).unwrap();
    write(topology.join("b.toml"), "[stream.b]\ntopic = \"b\"\nschemas = [\"Near.avsc\", \"Far.avsc\", \"Sub.avsc\"]");
    write(topology.join("a.toml"), "");
    write(topology.join("..data.toml"), "hidden");
    write(topology.join("a.test.toml"), "a test");
    write(topology.join("Near.avsc"), "near");
    write(schemas.join("Near.avsc"), "shadowed");
    write(schemas.join("Far.avsc"), "far");
    write(schemas.join("shop/Sub.avsc"), "sub");
    let sources = crate::topology::load(&topology, &[schemas]).unwrap();
    let files: Vec<_> = sources.files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
    let schemas: Vec<_> = sources.schemas.iter().map(|schema| (schema.name.as_str(), schema.text.as_str())).collect();
    assert_eq!(files, ["a.toml", "b.toml"]);
    assert_eq!(schemas, [("Far.avsc", "far"), ("Near.avsc", "near"), ("Sub.avsc", "sub")]);
}

#[test]
fn a_folder_that_is_not_there_or_empty_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = crate::topology::load(folder.path(), &[]).unwrap_err();
    let missing = crate::topology::load(&folder.path().join("filghts"), &[]).unwrap_err();
    assert!(empty.to_string().ends_with("holds no topology: there is no `*.toml` file in it"));
    assert!(missing.to_string().starts_with("cannot read `"));
    assert_eq!(missing.code().to_string(), "E0124");
}
