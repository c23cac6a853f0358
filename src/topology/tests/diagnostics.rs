//! What users read: one test per kind of mistake, on the rendered text.

use std::path::Path;

use expect_test::{expect, expect_file};

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

const CANCEL: &str = r#"{"type": "record", "name": "shop.Cancel", "fields": [
    {"name": "reason", "type": "string"}, {"name": "note", "type": ["null", "string"], "default": null}]}"#;

pub(super) fn sources(text: &str) -> Sources {
    Sources::default()
        .with_file("shop.toml", text)
        .with_schema("Placed.avsc", PLACED)
        .with_schema("Cancelled.avsc", CANCELLED)
        .with_schema("Customer.avsc", CUSTOMER)
        .with_schema("Order.avsc", ORDER)
        .with_schema("Cancel.avsc", CANCEL)
        .with_schema("Broken.avsc", "{\"type\": \"record\",\n \"name\": \"Broken\"}")
        .with_schema("List.avsc", "{\"type\": \"array\", \"items\": \"string\"}")
}

/// Checks `cases/<name>.toml` and compares what users read with `cases/<name>.txt`.
fn told(name: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/topology/tests/cases").join(name);
    let sources = sources(&std::fs::read_to_string(case.with_extension("toml")).unwrap());
    let (graph, findings) = check(&sources);
    assert_eq!(graph.is_none(), findings.iter().any(|finding| finding.severity == Severity::Error));
    expect_file![case.with_extension("txt")].assert_eq(&render(&findings, &sources, Colour::Never));
}

#[test]
fn a_file_that_is_not_toml_is_told_where_it_stops_being_it() {
    told("a_file_that_is_not_toml_is_told_where_it_stops_being_it");
}

#[test]
fn unknown_tables_and_keys_get_the_nearest_name() {
    told("unknown_tables_and_keys_get_the_nearest_name");
}

#[test]
fn values_of_the_wrong_type_say_what_they_are() {
    told("values_of_the_wrong_type_say_what_they_are");
}

#[test]
fn missing_keys_are_all_told() {
    told("missing_keys_are_all_told");
}

#[test]
fn one_name_stands_once_in_all_kinds() {
    told("one_name_stands_once_in_all_kinds");
}

#[test]
fn a_name_that_is_nowhere_gets_the_nearest_one() {
    told("a_name_that_is_nowhere_gets_the_nearest_one");
}

#[test]
fn a_cycle_is_told_once() {
    told("a_cycle_is_told_once");
}

#[test]
fn keys_that_exclude_each_other() {
    told("keys_that_exclude_each_other");
}

#[test]
fn values_that_are_not_among_the_choices() {
    told("values_that_are_not_among_the_choices");
}

#[test]
fn lists_and_lines() {
    told("lists_and_lines");
}

#[test]
fn formats_of_keys_and_values() {
    told("formats_of_keys_and_values");
}

#[test]
fn on_error_says_all_it_needs_and_no_more() {
    told("on_error_says_all_it_needs_and_no_more");
}

#[test]
fn what_goes_by_time() {
    told("what_goes_by_time");
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    told("what_is_not_built_yet_is_refused_by_name");
}

#[test]
fn what_an_entity_decides_must_be_whole() {
    told("what_an_entity_decides_must_be_whole");
}

#[test]
fn rules_and_events_of_commands_are_typed() {
    told("rules_and_events_of_commands_are_typed");
}

#[test]
fn schemas_that_are_missing_or_wrong() {
    told("schemas_that_are_missing_or_wrong");
}

#[test]
fn event_types_that_are_not_there() {
    told("event_types_that_are_not_there");
}

#[test]
fn an_expression_is_told_for_the_event_type_that_it_fails_for() {
    told("an_expression_is_told_for_the_event_type_that_it_fails_for");
}

#[test]
fn expressions_of_the_wrong_type() {
    told("expressions_of_the_wrong_type");
}

#[test]
fn aggregates_are_calls_of_their_functions() {
    told("aggregates_are_calls_of_their_functions");
}

#[test]
fn windows_say_their_grace_and_only_they_close() {
    told("windows_say_their_grace_and_only_they_close");
}

#[test]
fn the_sides_of_a_join_must_go_together() {
    told("the_sides_of_a_join_must_go_together");
}

#[test]
fn histories_that_stand_on_tables() {
    told("histories_that_stand_on_tables");
}

#[test]
fn windows_have_one_shape() {
    told("windows_have_one_shape");
}

#[test]
fn folds_and_aggregates_of_tables() {
    told("folds_and_aggregates_of_tables");
}

#[test]
fn joins_of_streams_and_of_tables() {
    told("joins_of_streams_and_of_tables");
}

#[test]
fn rows_must_fit_the_schema_of_their_sink() {
    told("rows_must_fit_the_schema_of_their_sink");
}

#[test]
fn nodes_that_nobody_reads_are_warned_of() {
    told("nodes_that_nobody_reads_are_warned_of");
}

#[test]
fn a_state_needs_a_beginning() {
    told("a_state_needs_a_beginning");
}

#[test]
fn a_topic_is_read_once() {
    told("a_topic_is_read_once");
}

#[test]
fn names_must_be_such_that_topics_and_records_can_bear_them() {
    told("names_must_be_such_that_topics_and_records_can_bear_them");
}

#[test]
fn rows_of_different_shapes_do_not_become_one() {
    told("rows_of_different_shapes_do_not_become_one");
}

#[test]
fn an_earlier_case_takes_all() {
    told("an_earlier_case_takes_all");
}

#[test]
fn a_topology_says_its_format_and_application_once() {
    let text = "[topology]\nformat = 7\n\n[defaults.on_error]\nprocess = { action = \"dead_letter\" }\n";
    let sources = sources(text).with_file("more.toml", "[topology]\napplication_id = \"a b\"\n");
    expect![[r#"
        error[E0104]: [topology] has no `application_id`
         --> shop.toml:1:2
          |
        1 | [topology]
          |  ^^^^^^^^
          |
          = help: it names the consumer group and stands in front of internal topics

        error[E0109]: format 7 is not one this version reads
         --> shop.toml:2:10
          |
        2 | format = 7
          |          ^
          |
          = help: this version of tidemill reads format 1

        error[E0104]: [defaults.on_error.process] has no `topic`
         --> shop.toml:5:1
          |
        5 | process = { action = "dead_letter" }
          | ^^^^^^^
          |
          = help: dead letters need a topic: `topic = "orders.dlq"`

        error[E0104]: [topology] has no `format`
         --> more.toml:1:2
          |
        1 | [topology]
          |  ^^^^^^^^
          |
          = help: write `format = 1`

        error[E0109]: `a b` cannot be an application id
         --> more.toml:2:18
          |
        2 | application_id = "a b"
          |                  ^^^^^
          |
          = help: it stands in topic names: letters, digits, `.`, `_` and `-`, 100 at most
    "#]]
    .assert_eq(&render(&check(&sources).1, &sources, Colour::Never));
    let none = Sources::default().with_file("empty.toml", "");
    expect![[r#"
        error[E0104]: no file has a `[topology]` table
         |
         = help: begin one file with `[topology]`, `format = 1` and `application_id = "…"`
    "#]]
    .assert_eq(&render(&check(&none).1, &none, Colour::Never));
}

#[test]
fn programs_get_lines_and_columns() {
    let sources = sources("[topology]\nformat = 1\napplication_id = \"ä\"");
    let findings: Vec<_> = check(&sources).1.iter().map(|finding| to_json(finding, &sources)).collect();
    expect![[r#"
        [
          {
            "code": "E0109",
            "severity": "error",
            "message": "`ä` cannot be an application id",
            "file": "shop.toml",
            "line": 3,
            "column": 18,
            "end_line": 3,
            "end_column": 21,
            "label": null,
            "help": "it stands in topic names: letters, digits, `.`, `_` and `-`, 100 at most"
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&findings).unwrap());
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
    write(topology.join("tidemill.toml"), "settings");
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

#[test]
fn global_tables_are_only_looked_up_in() {
    told("global_tables_are_only_looked_up_in");
}

#[test]
fn foreign_keys_are_for_two_tables() {
    told("foreign_keys_are_for_two_tables");
}
