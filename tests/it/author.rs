//! The commands of who writes a topology: `new`, `plan`, `schema`, `completions`, `check --registry`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use tidemill::registry::Registry as _;
use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};

use crate::support::{App, Launch, Place, shop};

fn tidemill(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill")).current_dir(folder).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(folder: &Path, args: &[&str]) -> (i32, Json) {
    let (code, out, err) = tidemill(folder, &[args, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}\n{out}\n{err}")))
}

/// A project in a folder of its own.
fn project() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = tidemill(folder.path(), &["new", "shop"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("tidemill test topology"), "{out}");
    let project = folder.path().join("shop");
    (folder, project)
}

#[test]
fn a_new_project_passes_its_own_checks_and_tests() {
    let (folder, project) = project();
    let (code, out, err) = tidemill(&project, &["check", "topology"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("ok: `shop`"), "{out}");
    let (code, report) = json(&project, &["test", "topology"]);
    assert_eq!((code, report["passed"].as_u64()), (0, Some(2)), "{report}");
    // What editors are told stands where the files say.
    for file in ["topology/topology.toml", "topology/topology.test.toml", "tidemill.toml"] {
        let text = std::fs::read_to_string(project.join(file)).unwrap();
        let schema = text.lines().next().unwrap().strip_prefix("#:schema ").unwrap();
        let schema = project.join(file).parent().unwrap().join(schema);
        let schema: Json = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
        let document: toml::Table = toml::from_str(&text).unwrap();
        let document = serde_json::to_value(document).unwrap();
        let problems: Vec<String> =
            jsonschema::draft7::new(&schema).unwrap().iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{file}: {problems:?}");
    }
    let (code, _, err) = tidemill(folder.path(), &["new", "shop"]);
    assert_eq!(code, 2);
    assert!(err.contains("not empty"), "{err}");
    assert_eq!(tidemill(folder.path(), &["new", "a b"]).0, 2);
}

#[test]
fn a_schema_file_that_is_not_there_is_told_by_its_nearest_name() {
    let (_folder, project) = project();
    let topology = project.join("topology/topology.toml");
    let text = std::fs::read_to_string(&topology).unwrap();
    std::fs::write(&topology, text.replace("Order.avsc", "Ordr.avsc")).unwrap();
    let (code, report) = json(&project, &["check", "topology"]);
    let finding = &report["findings"][0];
    assert_eq!((code, finding["code"].as_str()), (1, Some("E0111")), "{report:#}");
    assert!(finding["help"].as_str().unwrap().contains("`Order.avsc`"), "{finding:#}");
}

#[test]
fn a_new_project_runs_with_its_settings() {
    let (_folder, project) = project();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["dev", "topology"]).current_dir(&project);
    command.env("TIDEMILL__HTTP__LISTEN", "127.0.0.1:0").env("TIDEMILL__ADMIN__LISTEN", "127.0.0.1:0");
    command.env("TIDEMILL__LOG__FORMAT", "json");
    let mut run = crate::support::process::Run::start(command);
    let body = "{\"key\": \"o1\", \"value\": {\"customer\": \"ada\", \"amount\": 12.5, \"note\": null}}\n";
    let admin = run.address("admin");
    let request = format!(
        "POST /v1/topics/orders HTTP/1.1\r\nhost: {admin}\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    crate::support::until("the order is counted", || {
        let (status, answer) = crate::support::process::exchange(&admin, &request).ok()?;
        assert!(status == 200 || status == 503, "{status} {answer}");
        run.json("/v1/stores/spending/keys/ada").filter(|row| row["value"]["total"].as_f64().unwrap() >= 12.5)
    });
    run.stop();
}

#[test]
fn shipped_topologies_say_which_schema_they_have() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = 0;
    for folder in std::fs::read_dir(root.join("topologies")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let kind = if path.display().to_string().ends_with(".test.toml") { "test" } else { "topology" };
            let line = format!("#:schema ../../schemas/json/{kind}.schema.json");
            assert_eq!(text.lines().next(), Some(line.as_str()), "the first line of {}", path.display());
            files += 1;
        }
    }
    assert!(files >= 4, "{files}");
    for kind in ["topology", "test", "settings"] {
        let (code, out, err) = tidemill(root, &["schema", "json", kind]);
        let committed = std::fs::read_to_string(root.join(format!("schemas/json/{kind}.schema.json"))).unwrap();
        assert_eq!((code, out == committed), (0, true), "{kind}: {err}");
    }
}

#[test]
fn shells_complete_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, err) = tidemill(folder.path(), &["completions", shell]);
        assert_eq!(code, 0, "{err}");
        for word in ["tidemill", "schema", "plan", "new", "--json"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(out.contains(word), "{shell}: no `{word}`");
        }
    }
    assert_eq!(tidemill(folder.path(), &["completions", "tcsh"]).0, 2);
}

#[test]
fn a_plan_exits_with_the_worst_that_becomes_of_anything() {
    let (folder, project) = project();
    let topology = project.join("topology/topology.toml");
    let text = std::fs::read_to_string(&topology).unwrap();
    let next = folder.path().join("next");
    std::fs::create_dir_all(&next).unwrap();
    let cases = [
        (text.clone(), 0, "same"),
        // Comments and order mean nothing.
        (text.replace("# Each change", "# Every change"), 0, "same"),
        (
            text.replace("customer = 'key', total", "customer = 'key', orders = 'value.orders', total"),
            12,
            "breaks_readers",
        ),
        (text.replace("where = 'value.total >= 1000.0'", "where = 'value.total >= 2000.0'"), 10, "upgrades_in_place"),
        (
            text.replace("[aggregate.spending]\n", "[aggregate.spent]\nwas = \"spending\"\n")
                .replace("\"spending\"\n\n", "\"spent\"\n\n")
                .replace("from = \"spending\"", "from = \"spent\""),
            10,
            "upgrades_in_place",
        ),
        (text.replace("'sum(value.amount)'", "'sum(value.amount * 2.0)'"), 11, "needs_rebuild"),
        (
            text.replace("total = 'sum(value.amount)', ", "")
                .replace("value.total", "value.largest")
                .replace("'value.largest >= 1000.0'", "'value.orders > 10'")
                .replace("total = 'value.largest'", "total = 'value.orders'"),
            12,
            "breaks_readers",
        ),
    ];
    for (changed, code, verdict) in cases {
        std::fs::write(next.join("topology.toml"), &changed).unwrap();
        let args = ["plan", "topology", "../next"];
        let (found, report) = json(&project, &args);
        assert_eq!((found, report["verdict"].as_str()), (code, Some(verdict)), "{report:#}\n{changed}");
        let (found, out, err) = tidemill(&project, &args);
        assert_eq!(found, code, "{out}{err}");
    }
    assert_eq!(tidemill(&project, &["plan", "topology"]).0, 2);
    assert_eq!(tidemill(&project, &["plan", "topology", "nowhere"]).0, 2);
}

#[test]
fn a_plan_looks_into_the_state_that_a_daemon_left() {
    let app = shop::open(Place::Embedded);
    shop::place_orders(&app, &shop::orders(300));
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, 300);
    run.stop();
    let plan = |app: &App| {
        let state = app.state("a").display().to_string();
        json(app.folder.path(), &["plan", "topology", "--schemas", "topology", "--state", &state])
    };
    let verdict = |report: &Json, store: &str| {
        let changes = report["changes"].as_array().unwrap();
        changes.iter().find(|change| change["name"] == store).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    let (code, report) = plan(&app);
    assert_eq!((code, report["verdict"].as_str()), (0, Some("same")), "{report:#}");
    app.rewrite(&shop::TOPOLOGY.replacen("orders = 'count()'", "orders = 'count()', least = 'min(value.amount)'", 1));
    let (code, report) = plan(&app);
    assert_eq!((code, verdict(&report, "items").as_str()), (10, "upgrades_in_place"), "{report:#}");
    assert_eq!(verdict(&report, "spans"), "same");
    app.rewrite(&shop::TOPOLOGY.replacen("amount = 'sum(value.amount)'", "amount = 'last(value.item)'", 1));
    let (code, report) = plan(&app);
    assert_eq!((code, verdict(&report, "items").as_str()), (11, "needs_rebuild"), "{report:#}");
    assert!(report.to_string().contains("`amount`"), "{report:#}");
}

/// Says that new schemas of a subject must read what the newest version wrote.
fn hold_backward(url: &str, subject: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let put =
            reqwest::Client::new().put(format!("{url}/config/{subject}")).header("content-type", "application/json");
        let answer = put.body(r#"{"compatibility":"BACKWARD"}"#).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    });
}

const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "NAMESPACE", "fields": [
    {"name": "customer", "type": "string"}, {"name": "amount", "type": "double"}]}"#;

#[test]
fn a_registry_is_asked_about_sinks_and_sources_and_gives_its_schemas() {
    let url = crate::provided("TIDEMILL_TEST_REGISTRY");
    let wait = std::time::Duration::from_secs(10);
    let settings = ConfluentSettings { urls: vec![url.clone()], auth: Auth::None, timeout: wait };
    let registry = ConfluentRegistry::new(settings).unwrap();
    let id = format!("author{}", uuid::Uuid::new_v4().simple());
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    std::fs::create_dir_all(at("topology")).unwrap();
    let topology = |select: &str| {
        format!(
            "[topology]\nformat = 1\napplication_id = \"{id}\"\n[stream.orders]\ntopic = \"{id}-orders\"\n\
             subjects = \"topic_record_name\"\nschemas = [\"Order.avsc\"]\n[stream.made]\nfrom = \"orders\"\nselect = {{ {select} }}\n\
             [sink.out]\nfrom = \"made\"\ntopic = \"{id}-out\"\nrecord = \"{id}.Made\"\n"
        )
    };
    std::fs::write(at("topology/a.toml"), topology("customer = 'value.customer'")).unwrap();
    let registered = format!("--registry={url}");
    let order = ORDER.replace("NAMESPACE", &id);
    let subject = format!("{id}-orders-{id}.Order");
    registry.register(&subject, &order, wait).unwrap();

    // Pulled by the record's short name, since nobody knows its namespace yet.
    assert_eq!(tidemill(folder.path(), &["check", "topology"]).0, 1);
    let (code, report) = json(folder.path(), &["schema", "pull", "topology", &registered]);
    assert_eq!((code, report["schemas"][0]["subject"].as_str()), (0, Some(subject.as_str())), "{report}");
    let (code, report) = json(folder.path(), &["schema", "pull", "topology", &registered]);
    assert_eq!((code, report["schemas"][0]["result"].as_str()), (0, Some("the same")), "{report}");
    assert_eq!(json(folder.path(), &["schema", "diff", "topology", &registered]).0, 0);
    let (code, report) = json(folder.path(), &["check", "topology", &registered]);
    assert_eq!((code, report["ok"].as_bool()), (0, Some(true)), "{report:#}");
    let asked = |report: &Json, used: &str| {
        let all = report["registry"].as_array().unwrap();
        all.iter().find(|one| one["used"] == used).unwrap().clone()
    };
    assert_eq!(asked(&report, "read")["latest"], 1);
    assert_eq!(asked(&report, "written")["latest"], Json::Null);

    // A sink that would need what earlier records do not have, and a file that lacks what events have.
    registry.register(&format!("{id}-out-value"), &format!(
        r#"{{"type": "record", "name": "Made", "namespace": "{id}", "fields": [{{"name": "customer", "type": "string"}}]}}"#
    ), wait).unwrap();
    hold_backward(&url, &format!("{id}-out-value"));
    std::fs::write(at("topology/a.toml"), topology("customer = 'value.customer', amount = 'value.amount'")).unwrap();
    let (code, report) = json(folder.path(), &["check", "topology", &registered]);
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(asked(&report, "written")["level"], "BACKWARD");
    let said = asked(&report, "written")["problems"][0].as_str().unwrap().to_owned();
    assert!(said.contains("version 1") && said.contains("`amount`"), "{said}");
    let newer = order.replace(
        "{\"name\": \"amount\", \"type\": \"double\"}",
        "{\"name\": \"total\", \"type\": \"double\", \"default\": 0}",
    );
    registry.register(&subject, &newer, wait).unwrap();
    let (code, report) = json(folder.path(), &["check", "topology", &registered]);
    assert_eq!(code, 1);
    let said = asked(&report, "read")["problems"][0].as_str().unwrap().to_owned();
    assert!(said.contains("`amount`"), "{said}");
    let (code, out, _) = tidemill(folder.path(), &["schema", "diff", "topology", &registered]);
    assert_eq!(code, 1);
    assert!(out.contains("- `amount` (double)") && out.contains("+ `total` (double)"), "{out}");
    let (code, out, _) = tidemill(folder.path(), &["check", "topology", &registered]);
    assert_eq!(code, 1);
    assert!(out.contains("BACKWARD") && out.contains(&subject), "{out}");
    // Nobody answers, and nobody is named.
    assert_eq!(tidemill(folder.path(), &["check", "topology"]).0, 0);
    assert_eq!(tidemill(folder.path(), &["check", "topology", "--registry"]).0, 78);
}
