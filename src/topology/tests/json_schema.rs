//! The JSON Schema of topology files: it accepts what the reader accepts, refuses what the reader refuses, and describes every key.

use serde_json::{Value as Json, json};

use super::super::json_schema::{PAGES, json_schema, undescribed};
use super::super::{SourceFile, Sources, check};
use crate::error::{Code, codes};

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft7::new(&json_schema()).unwrap()
}

fn document(text: &str) -> Json {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// All topology files that are shipped, documented or compared with Kafka Streams.
fn shipped() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = ["topologies", "docs/language/examples", "tests/conformance/scenarios"]
        .map(|folder| root().join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".toml") && !name.ends_with(".test.toml") {
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_topology_that_is_shipped_or_documented_is_accepted() {
    let (validator, mut count) = (validator(), 0);
    for (name, text) in shipped() {
        let mut document = document(&text);
        if findings(&text).contains(&codes::NOT_YET_SUPPORTED) {
            continue;
        }
        // A scenario has its inputs beside its topology.
        document.as_object_mut().unwrap().remove("scenario");
        let problems: Vec<String> =
            validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(
            problems.is_empty(),
            "{name}: {problems:#?}\nA key that the reader asks for only after an early return is not seen: read all keys first"
        );
        count += 1;
    }
    assert!(count > 250, "{count} topologies");
}

const HEAD: &str = "[topology]\nformat = 1\napplication_id = \"app\"\n";

fn findings(text: &str) -> Vec<Code> {
    let files = vec![SourceFile { path: "a.toml".to_owned(), text: text.to_owned() }];
    let found = check(&Sources { files, ..Sources::default() }).1;
    found.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn what_is_wrong_is_refused_as_the_reader_refuses_it() {
    let cases: [(&str, Code); 16] = [
        ("[strem.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\n", codes::TOML_UNKNOWN_KEY),
        ("[stream.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\nshcema = \"x\"\n", codes::TOML_UNKNOWN_KEY),
        ("[stream.a]\nwhere = 'true'\n", codes::TOML_MISSING_KEY),
        ("[stream.a]\ntopic = \"t\"\nschemas = \"X.avsc\"\n", codes::TOML_TYPE),
        ("[stream.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\nwhere = 'true'\n", codes::TOML_CONFLICT),
        ("[stream.a]\ntopic = \"t\"\nfrom = \"b\"\nschemas = [\"X.avsc\"]\n", codes::TOML_CONFLICT),
        ("[stream.a]\nfrom = \"b\"\nselect = { x = 'key' }\nset = { y = 'key' }\n", codes::TOML_CONFLICT),
        ("[stream.a]\nfrom = \"b\"\nwhere = true\n", codes::TOML_TYPE),
        ("[stream.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\nidle = \"soon\"\n", codes::TOML_VALUE),
        ("[stream.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\nkey_format = \"text\"\n", codes::TOML_VALUE),
        ("[global_table.a]\ntopic = \"t\"\nschemas = [\"X.avsc\"]\nidle = \"1m\"\n", codes::TOML_CONFLICT),
        ("[aggregate.a]\nfrom = \"b\"\n", codes::TOML_MISSING_KEY),
        (
            "[aggregate.a]\nfrom = \"b\"\nselect = { n = 'count()' }\nwindow = { tumbling = \"1h\" }\n",
            codes::WINDOW_MISUSE,
        ),
        (
            "[aggregate.a]\nfrom = \"b\"\nfold.n = { type = \"number\", initial = '0', update = 'state.n' }\n",
            codes::TOML_VALUE,
        ),
        ("[stream.a-b]\nfrom = \"b\"\n", codes::NAME_NOT_ALLOWED),
        ("[stream.a]\nfrom = \"b\"\non_error.process = { action = \"drop\" }\n", codes::TOML_VALUE),
    ];
    let validator = validator();
    for (text, code) in cases {
        let text = format!("{HEAD}{text}");
        assert!(findings(&text).contains(&code), "{text}: {:?}", findings(&text));
        assert!(!validator.is_valid(&document(&text)), "{text}");
    }
}

#[test]
fn every_key_of_the_wrong_type_is_refused_by_both() {
    let schema = json_schema();
    let validator = validator();
    let mut keys = 0;
    for (kind, table) in schema["properties"].as_object().unwrap() {
        let Some(node) = table.get("additionalProperties").filter(|node| node.is_object()) else { continue };
        let variants = node["anyOf"].as_array().cloned().unwrap_or_else(|| vec![node.clone()]);
        for key in variants.iter().flat_map(|variant| variant["properties"].as_object().unwrap().keys()) {
            let text = format!("{HEAD}[{kind}.a]\n{key} = 1.5\n");
            assert!(
                findings(&text).contains(&codes::TOML_TYPE)
                    || key == "from"
                    || key == "topic"
                    || findings(&text).contains(&codes::TOML_MISSING_KEY),
                "{text}: {:?}",
                findings(&text)
            );
            assert!(!validator.is_valid(&document(&text)), "{text}");
            keys += 1;
        }
    }
    assert!(keys > 40, "{keys} keys");
}

#[test]
fn every_key_is_described_on_a_page_of_the_language() {
    let missing = undescribed();
    assert!(
        missing.is_empty(),
        "editors show what the pages say: add a row `| `key` | takes | default | what it does |` to the table of keys in \
         docs/language (under a heading that names the kind, or in a table `| key of `window` | … |`) for: {missing:#?}"
    );
    let mut pages: Vec<String> = std::fs::read_dir(root().join("docs/language"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.sort();
    let mut known: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(known, pages, "list every page of docs/language in topology/json_schema.rs");
}

#[test]
fn descriptions_and_examples_stand_where_editors_look() {
    let schema = json_schema();
    let from = &schema["properties"]["aggregate"]["additionalProperties"]["properties"];
    assert_eq!(from["from"]["description"], "Whose rows it aggregates. Takes a node or a case. It must be there.");
    assert_eq!(from["window"]["properties"]["grace"]["examples"], json!(["10m"]));
    assert_eq!(from["window"]["required"], json!(["grace"]));
    assert!(schema["properties"]["aggregate"]["additionalProperties"]["examples"][0]["from"].is_string());
    assert!(schema["properties"]["join"]["description"].is_string());
}

#[test]
fn the_committed_file_is_what_the_reader_says_of_itself() {
    let path = root().join("schemas/json/topology.schema.json");
    let made = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    compare_or_update(&path, &made);
}

/// Compares a generated file; `UPDATE_EXPECT=1` writes it.
pub(crate) fn compare_or_update(path: &std::path::Path, made: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == made, "{} is out of date: run the tests with UPDATE_EXPECT=1", path.display());
}
