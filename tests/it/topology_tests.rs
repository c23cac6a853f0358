//! `tidemill test` as a process: the shipped topologies pass their own tests, and a test that fails says where.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

fn tidemill(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill")).args(arguments).current_dir(folder).output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_shipped_topologies_pass_their_own_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tested = 0;
    for folder in fs::read_dir(root.join("topologies")).unwrap() {
        let folder = folder.unwrap().path();
        let output = tidemill(root, &["test", folder.to_str().unwrap(), "--json"]);
        assert!(output.status.success(), "{}: {}", folder.display(), shown(&output));
        let report: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["passed"].as_u64().unwrap() >= 5, "{}: {report}", folder.display());
        tested += 1;
    }
    assert!(tested >= 2, "{tested} topologies were found");
}

const SCHEMA: &str = r#"{"type": "record", "name": "shop.Placed", "fields": [
    {"name": "customer", "type": "string"}, {"name": "total", "type": "long", "default": 1}]}"#;
const TOPOLOGY: &str = r#"
[topology]
format = 1
application_id = "shop"

[stream.orders]
topic = "orders"
schemas = ["Placed.avsc"]

[aggregate.spent]
from = "orders"
group_by = 'value.customer'
emit = "on_update"
select = { orders = 'count()', total = 'sum(value.total)' }

[sink.spent_out]
from = "spent"
topic = "spent"
record = "shop.Spent"
"#;

fn shop(tests: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Placed.avsc"), SCHEMA).unwrap();
    fs::write(folder.path().join("shop.toml"), TOPOLOGY).unwrap();
    fs::write(folder.path().join("shop.test.toml"), tests).unwrap();
    folder
}

#[test]
fn a_red_test_says_what_was_expected_where_and_what_was_found() {
    let folder = shop(
        r#"
[[test]]
name = "green"
given = [{ to = "orders", key = "o1", value = { customer = "ann" } }]
then.outputs.spent = [{ key = "ann", value = { orders = 1, total = 1 } }]

[[test]]
name = "red"
given = [{ to = "orders", key = "o1", value = { customer = "ann", total = 7 } }]
then.outputs.spent = [{ key = "ann", value = { total = 8 } }, { key = "bob" }]
then.state.spent.ann = { orders = 1, totl = 7 }
then.state.spent.bob = { orders = 1 }

[[test]]
name = "wrong"
given = [{ to = "order", key = "o1", value = { customer = "ann" } }]

[[test]]
name = "wrong value"
given = [{ to = "orders", key = "o1", value = { custmer = "ann" } }]
"#,
    );
    let report = folder.path().join("report.xml");
    let output = tidemill(folder.path(), &["test", ".", "--junit", report.to_str().unwrap()]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "ok    shop.test.toml: green",
        "FAIL  shop.test.toml: red",
        "outputs.spent[0].value.total: expected 8, found 7",
        "outputs.spent[1]: expected null, and nothing more was written",
        "state.spent.ann.totl: there is no such field; did you mean `total`?",
        r#"state.spent.bob: expected {"orders":1}, there is no such key"#,
        "no stream or table `order` reads a topic; did you mean `orders`?",
        "`custmer`",
        "1 passed, 3 failed",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    assert!(fs::read_to_string(report).unwrap().contains(r#"<testsuites tests="4" failures="3""#));
}

#[test]
fn a_file_of_tests_that_is_none_says_the_line_and_what_was_expected() {
    let folder = shop("[[test]]\nnme = \"x\"\n");
    let text = shown(&tidemill(folder.path(), &["test"]));
    assert!(text.contains("line 2") && text.contains("unknown field `nme`, expected one of `name`"), "{text}");
    let folder = shop("");
    let output = tidemill(folder.path(), &["test"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(shown(&output).contains("there are no tests in `.`"), "{}", shown(&output));
}

#[test]
fn a_case_is_run_for_each_of_its_values() {
    let folder = shop(
        r#"
[[test]]
name = "sums"
given = [{ to = "orders", key = "o1", value = { customer = "ann", total = "$total" } }]
then.exact = true
then.outputs.spent = [{ value = { orders = 1, total = "$total" } }]
cases = [{ total = 3 }, { total = 4 }]
"#,
    );
    let output = tidemill(folder.path(), &["test", "--filter", "total = 4", "--json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["passed"].as_u64(), report["failed"].as_u64()), (Some(1), Some(0)), "{report}");
    assert_eq!(report["tests"][0]["name"], "sums [total = 4]");
}
