//! Settings from texts, tables and temporary folders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::error::codes;

const MACHINE: Machine = Machine { memory_bytes: 4 << 30, cpus: 3 };

fn table(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Error> {
    let source = Source { path: PathBuf::from("tidemill.toml"), text: text.to_owned() };
    resolve(Some(source), &table(variables), &table(&[]), MACHINE)
}

/// Findings as `code line:column message | help`.
fn findings(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let error = read(text, variables).unwrap_err();
    let at = |offset: usize| {
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        format!("{}:{}", before.matches('\n').count() + 1, offset - line_start + 1)
    };
    error
        .diagnostics
        .iter()
        .map(|finding| {
            let place = finding.file.map_or_else(|| "-".to_owned(), |_| at(finding.span.start));
            let help = finding.help.as_deref().map(|help| format!(" | {help}")).unwrap_or_default();
            format!("{} {place} {}{help}", finding.code, finding.message)
        })
        .collect()
}

#[test]
fn nothing_said_gives_every_default() {
    let settings = read("", &[]).unwrap();
    assert_eq!(settings.processing_guarantee, Guarantee::ExactlyOnce);
    assert_eq!(settings.commit_interval, Duration::from_millis(100));
    assert_eq!(settings.num_stream_threads, 3);
    assert_eq!(settings.memory.budget_bytes, 2 << 30);
    assert_eq!(settings.http.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(settings.admin.listen.to_string(), "127.0.0.1:7401");
    assert_eq!(settings.topics, Topics { creation: TopicCreation::Create, replication_factor: -1 });
    assert_eq!(settings.registry.timeout, Duration::from_secs(10));
    assert_eq!(settings.bound_topic("orders"), "orders");
}

#[test]
fn every_setting_is_read_from_the_file() {
    let settings = read(
        r#"
application_id = "flights-a"
processing_guarantee = "at_least_once"
commit_interval = "1s500ms"
num_stream_threads = 8
auto_offset_reset = "latest"
instance_id = "pod-0"
[state]
dir = "/var/lib/tidemill"
keep_set_aside = 0
restore_bytes_per_second = "1MiB"
[memory]
budget = "1.5GiB"
[kafka]
bootstrap_servers = "a:9092, b:9092"
"security.protocol" = "SASL_SSL"
sasl.username = "$ConnectionString"
"fetch.min.bytes" = 1
"socket.keepalive.enable" = true
[registry]
url = "http://one:8081/, https://two"
auth = { username = "u", password = { env = "PW" } }
timeout = "2s"
[topics]
create = false
replication_factor = 3
[bind.topics]
"flights.events" = "prod.flights.events"
[http]
listen = "0.0.0.0:80"
advertised = "pod-0.tidemill:80"
[admin]
listen = "0.0.0.0:0"
token = { env = "TOKEN" }
[log]
format = "json"
level = "warn,tidemill=debug"
"#,
        &[("PW", "hunter2"), ("TOKEN", "letmein")],
    )
    .unwrap();
    assert_eq!(settings.commit_interval, Duration::from_millis(1500));
    assert_eq!(settings.auto_offset_reset, OffsetReset::Latest);
    assert_eq!(settings.memory.budget_bytes, 3 << 29);
    assert_eq!(settings.kafka.properties["sasl.username"].expose(), "$ConnectionString");
    assert_eq!(settings.kafka.properties["security.protocol"].expose(), "SASL_SSL");
    assert_eq!(settings.kafka.properties["fetch.min.bytes"].expose(), "1");
    assert_eq!(settings.kafka.properties["socket.keepalive.enable"].expose(), "true");
    assert_eq!(settings.registry.urls, ["http://one:8081", "https://two"]);
    assert_eq!(settings.topics.creation, TopicCreation::Require);
    assert_eq!(settings.bound_topic("flights.events"), "prod.flights.events");
    assert_eq!(settings.state.keep_set_aside, 0);
    assert_eq!(settings.state.restore_bytes_per_second, Some(1 << 20));
    assert!(settings.admin.token.as_ref().unwrap().matches("letmein"));
    assert!(!settings.admin.token.as_ref().unwrap().matches("letmeout"));
    let printed = format!("{settings:?}");
    assert!(!printed.contains("hunter2") && !printed.contains("letmein"), "{printed}");
}

#[test]
fn a_variable_beats_the_file_and_a_flag_beats_both() {
    let source =
        Source { path: "tidemill.toml".into(), text: "application_id = 'file'\nnum_stream_threads = 1".into() };
    let variables = table(&[
        ("TIDEMILL__APPLICATION_ID", "variable"),
        ("TIDEMILL__NUM_STREAM_THREADS", "7"),
        ("TIDEMILL__TOPICS__CREATE", "false"),
        ("TIDEMILL__KAFKA__BOOTSTRAP_SERVERS", "ns.servicebus.windows.net:9093"),
        ("TIDEMILL__KAFKA__SECURITY_PROTOCOL", "SASL_SSL"),
        ("TIDEMILL__KAFKA__SASL_PASSWORD", "hunter2"),
        ("TIDEMILL__BIND__TOPICS", "{ 'a.b' = 'c' }"),
        ("HOME", "/nowhere"),
    ]);
    let settings = resolve(Some(source), &variables, &table(&[("application_id", "flag")]), MACHINE).unwrap();
    assert_eq!(settings.application_id.as_deref(), Some("flag"));
    assert_eq!(settings.num_stream_threads, 7);
    assert_eq!(settings.topics.creation, TopicCreation::Require);
    assert_eq!(settings.bound_topic("a.b"), "c");
    assert_eq!(settings.kafka.properties["security.protocol"].expose(), "SASL_SSL");
    assert_eq!(settings.commit_interval, Duration::from_secs(1), "Event Hubs throttles commits");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"aplication_id = "x"
commit_interval = 100
[http]
listen = "example:7400"
dir = "x"
[state]
directory = "x"
[log]
format = "xml"
[kafka]
"enable.auto.commit" = true
"#;
    let expected = [
        "E0501 - the environment variable `TIDEMILL__HTTP__LISTN` names no setting | did you mean `TIDEMILL__HTTP__LISTEN`?",
        "E0501 1:1 unknown setting `aplication_id` | did you mean `application_id`?",
        "E0502 2:19 `commit_interval`: 100 has no unit: write it like `\"100ms\"`",
        "E0502 4:10 `http.listen`: `example:7400` is not an address to listen on: write it like `127.0.0.1:7400` or \
         `0.0.0.0:7400`",
        "E0501 5:1 unknown setting `http.dir` | did you mean `state.dir`?",
        "E0501 7:1 unknown setting `state.directory` | known: `dir`, `keep_set_aside`, `restore_bytes_per_second`",
        "E0502 9:10 `log.format`: `xml` is none of its values: known: `text`, `json`",
        "E0507 11:24 `enable.auto.commit` is not for settings | take it out: offsets are committed with the results they \
         led to",
    ];
    assert_eq!(findings(text, &[("TIDEMILL__HTTP__LISTN", "x")]), expected);
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (text, part) in [
        ("num_stream_threads = 0", "0 is not within 1 and 256"),
        ("num_stream_threads = '4'", "expected an integer, found a string"),
        ("commit_interval = '1ms'", "`1ms` is not within 10ms and 10m"),
        ("processing_guarantee = 'exactly_onec'", "did you mean `exactly_once`?"),
        ("auto_offset_reset = ['earliest']", "expected a string, found an array"),
        ("application_id = 'a b'", "has ` ` in it"),
        ("memory.budget = '1MiB'", "too few: at least 64MiB"),
        ("state.restore_bytes_per_second = '1KiB'", "too few: at least 64KiB"),
        ("memory.budget = '12 bananas'", "is not a size"),
        ("memory.budget = '99999999TiB'", "is not a size"),
        ("topics.replication_factor = 0", "a replication factor is"),
        ("topics.create = 'yes'", "expected `true` or `false`, found a string"),
        ("kafka.bootstrap_servers = 'host'", "`host` is not `host:port`"),
        ("registry.url = 'ftp://x'", "is not a URL"),
        ("registry.url = 'http://u:p@x'", "a password does not stand in the URL"),
        ("registry.auth = { username = 'u' }", "has a `username` and no `password`"),
        ("log.level = 'verbose'", "`verbose` is no level"),
        ("http = 3", "`http` is a section, not an integer"),
        ("bind.topics = 3", "`bind.topics` is a table"),
        ("bind.topics.x = 3", "the topic bound to `x`: expected a string"),
        ("num_standby_replicas = 17", "17 is not within 0 and 16"),
        ("http.listen = '127.0.0.1:7401'", "are both 127.0.0.1:7401"),
        ("kafka.x = []", "expected a string, an integer or a boolean, found an array"),
    ] {
        let found = findings(text, &[]);
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
}

#[test]
fn a_broken_file_still_tells_its_other_mistakes() {
    let found = findings("[http\nlisten = '127.0.0.1:1'\n[lgo]\nlevel = 'info'\n", &[]);
    assert!(found.iter().any(|finding| finding.starts_with("E0503 1:")), "{found:?}");
    assert!(found.iter().any(|finding| finding.contains("unknown setting `lgo` | did you mean `log`?")), "{found:?}");
}

#[test]
fn the_admin_listener_is_not_opened_without_a_token() {
    let found = findings("admin.listen = '0.0.0.0:7401'", &[]);
    assert!(found[0].starts_with("E0506 1:16"), "{found:?}");
    assert!(read("admin.listen = '0.0.0.0:7401'", &[("TIDEMILL__ADMIN__TOKEN", "t")]).is_ok());
    assert!(read("admin.listen = '[::1]:7401'", &[]).is_ok());
}

#[test]
fn secrets_come_from_files_and_variables_never_from_the_text() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "s3cret\r\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let at = |text: &str| {
        let source = Source { path: folder.path().join("tidemill.toml"), text: text.to_owned() };
        resolve(Some(source), &table(&[]), &table(&[]), MACHINE)
    };
    let read = at("kafka.'sasl.password' = { file = 'pw' }").unwrap();
    assert_eq!(read.kafka.properties["sasl.password"].expose(), "s3cret");
    for (text, part) in [
        ("admin.token = 'abc'", "a secret does not stand in this file"),
        ("kafka.'ssl.key.password' = 'abc'", "a secret does not stand in this file"),
        ("admin.token = { file = 'gone' }", "cannot be read"),
        ("admin.token = { file = 'empty' }", "the secret is empty"),
        ("admin.token = { env = 'NOT_SET' }", "the environment variable `NOT_SET` is not set"),
        ("admin.token = { file = 'a', env = 'b' }", "a secret does not stand in this file"),
    ] {
        let error = at(text).unwrap_err();
        assert_eq!(error.diagnostics.len(), 1, "{text}: {error:?}");
        assert_eq!(error.diagnostics[0].code, codes::SECRET_UNREADABLE);
        assert!(error.diagnostics[0].message.contains(part), "{text}: {error:?}");
    }
}

#[test]
fn a_missing_file_matters_only_when_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.toml");
    let error = load(Some(&gone), &table(&[]), &table(&[]), MACHINE).unwrap_err();
    assert_eq!(error.diagnostics[0].code, codes::SETTINGS_UNREADABLE);
    let there = folder.path().join("there.toml");
    std::fs::write(&there, "instance_id = 'i'").unwrap();
    assert_eq!(load(Some(&there), &table(&[]), &table(&[]), MACHINE).unwrap().instance_id.as_deref(), Some("i"));
}

#[test]
fn every_path_has_a_variable_of_its_own() {
    let names: std::collections::BTreeSet<String> =
        catalog::SETTINGS.iter().map(|setting| variable_name(setting.path)).collect();
    assert_eq!(names.len(), catalog::SETTINGS.len());
    assert!(names.contains("TIDEMILL__REGISTRY__AUTH__PASSWORD"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "[\\[\\]a-z_.=\"'{}0-9 \n]{0,80}") {
        drop(read(&text, &[]));
    }
}

#[test]
fn the_json_schema_of_the_settings_takes_and_refuses_what_the_reader_does() {
    let schema = json_schema();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let says = |text: &str| {
        let document = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
        (read(text, &[]).is_ok(), validator.is_valid(&document))
    };
    // Every setting with a value that its schema names, and with one of a wrong type.
    let mut values = 0;
    for setting in catalog::SETTINGS.iter().filter(|setting| setting.holds != catalog::Holds::NotServed) {
        let good: Vec<String> = match setting.holds {
            catalog::Holds::Choice(words) => words.iter().map(|word| format!("{word:?}")).collect(),
            catalog::Holds::Integer(least, most) => vec![least.to_string(), most.to_string()],
            catalog::Holds::Duration(least, most) => {
                [least, most].map(|span| format!("\"{}\"", crate::base::time::SpanMs(span))).into()
            }
            catalog::Holds::Size => vec!["\"512MiB\"".to_owned(), "200000000".to_owned()],
            catalog::Holds::Boolean => vec!["true".to_owned()],
            catalog::Holds::Address => vec!["\"127.0.0.1:0\"".to_owned()],
            catalog::Holds::Secret | catalog::Holds::Text | catalog::Holds::Name | catalog::Holds::NotServed => {
                Vec::new()
            }
        };
        for value in good {
            let text = format!("{} = {value}\n", setting.path);
            assert_eq!(says(&text), (true, true), "{text}");
            values += 1;
        }
        for wrong in ["1.5", "[]", "\"\"", "99999999999"] {
            let text = format!("{} = {wrong}\n", setting.path);
            // A number of bytes may be any.
            let taken = setting.holds == catalog::Holds::Size && wrong == "99999999999";
            let (read, valid) = says(&text);
            assert!(read == taken && valid == taken, "{text}: {read}, {valid}");
        }
    }
    assert!(values > 20, "{values}");
    for (text, taken) in [
        ("[kafka]\n\"security.protocol\" = \"SASL_SSL\"\nbootstrap_servers = \"a:1\"\n", true),
        ("[bind.topics]\norders = \"orders.eu\"\n", true),
        ("[bind.topics]\norders = 1\n", false),
        ("[bind]\ntopic = 1\n", false),
        ("[http]\nlisten = \"nowhere\"\n", false),
        ("[https]\n", false),
        ("admin.token = \"abc\"\n", false),
        ("http.tls = {}\n", false),
    ] {
        let (read, valid) = says(text);
        assert!(read == taken && valid == taken, "{text}: {read}, {valid}");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/json/settings.schema.json");
    crate::topology::tests::json_schema::compare_or_update(
        &path,
        &(serde_json::to_string_pretty(&schema).unwrap() + "\n"),
    );
}
