//! The binary as a process: what it prints where, and how it exits.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::support::until;

fn tidemill(arguments: &[&str]) -> Output {
    with_input(arguments, "")
}

fn with_input(arguments: &[&str], input: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("TIDEMILL__ADMIN__TOKEN")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that ends before it has read its input is no failure of the test.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A listener that gives each connection the next of these answers and returns what it was asked.
struct Fake {
    address: SocketAddr,
    serving: JoinHandle<Vec<String>>,
}

impl Fake {
    fn answering(answers: Vec<(u16, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            answers.into_iter().map(|(status, body)| Self::answer(&listener, status, body)).collect()
        });
        Self { address, serving }
    }

    fn answer(listener: &TcpListener, status: u16, body: &str) -> String {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            asked.extend_from_slice(&buffer[..count]);
            let request = String::from_utf8_lossy(&asked).into_owned();
            if let Some((head, rest)) = request.split_once("\r\n\r\n") {
                let length =
                    head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if count == 0 || rest.len() >= length.unwrap_or(0) {
                    break;
                }
            }
        }
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(self) -> Vec<String> {
        self.serving.join().unwrap()
    }
}

#[test]
fn help_goes_to_stdout_and_shows_an_example_of_each_command() {
    let output = tidemill(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for command in ["check", "graph", "query", "history", "produce", "consume", "explain"] {
        assert!(text(&output.stdout).contains(&format!("  {command} ")), "{command}");
        let help = tidemill(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        assert!(text(&help.stdout).contains(&format!("  tidemill {command}")), "{}", text(&help.stdout));
        assert!(help.stderr.is_empty());
    }
    assert!(text(&tidemill(&["--version"]).stdout).starts_with("tidemill 0."));
}

#[test]
fn a_wrong_command_line_is_2_and_leaves_stdout_empty() {
    for arguments in
        [&["querry"][..], &[], &["query"], &["query", "s", "k", "--prefix", "x"], &["query", "s", "--url", "x"]]
    {
        let output = tidemill(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
        assert!(!text(&output.stderr).contains('\u{1b}'), "no colour where no terminal is");
    }
}

#[test]
fn explain_prints_a_page_and_lists_all() {
    let page = tidemill(&["explain", "e0501"]);
    assert_eq!(page.status.code(), Some(0));
    assert!(text(&page.stdout).starts_with("# E0501: a setting has an unknown name\n"));
    let unknown = tidemill(&["explain", "E501"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("did you mean `E0501`?"), "{}", text(&unknown.stderr));
    let list: Value = serde_json::from_slice(&tidemill(&["explain", "--json"]).stdout).unwrap();
    let codes = list["codes"].as_array().unwrap();
    assert_eq!(codes.len(), tidemill::error::codes::PAGES.len());
    assert!(codes.iter().all(|code| !code["title"].as_str().unwrap().is_empty()));
}

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/flights");
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");

#[test]
fn the_flights_topology_is_sound_and_can_be_drawn() {
    let check = tidemill(&["check", FLIGHTS, "--schemas", SCHEMAS]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
    assert!(text(&check.stdout).contains("ok: `flights`"), "{}", text(&check.stdout));
    let dot = text(&tidemill(&["graph", FLIGHTS, "--schemas", SCHEMAS, "--dot"]).stdout);
    assert!(dot.starts_with("digraph"), "{dot}");
    let graph: Value =
        serde_json::from_slice(&tidemill(&["graph", FLIGHTS, "--schemas", SCHEMAS, "--json"]).stdout).unwrap();
    assert_eq!(graph["application_id"], "flights");
    let explained = text(&tidemill(&["graph", FLIGHTS, "--schemas", SCHEMAS]).stdout);
    assert!(explained.contains("origin_totals"), "{explained}");
}

#[test]
fn check_reports_every_mistake_with_its_place_and_exits_1() {
    let folder = tempfile::tempdir().unwrap();
    let topology =
        "[topology]\nformat = 1\napplication_id = \"a\"\n[stream.s]\ntopci = \"t\"\n[strem.x]\ntopic = \"u\"\n";
    std::fs::write(folder.path().join("a.toml"), topology).unwrap();
    let path = folder.path().to_str().unwrap();
    let check = tidemill(&["check", path]);
    let said = text(&check.stdout);
    assert_eq!(check.status.code(), Some(1), "{said}{}", text(&check.stderr));
    for part in ["a.toml:5:1", "a.toml:6:", "`topic`", "tidemill explain E01"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json: Value = serde_json::from_slice(&tidemill(&["check", path, "--json"]).stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert!(json["findings"].as_array().unwrap().iter().any(|finding| finding["line"] == 5), "{json}");
    let graph = tidemill(&["graph", path]);
    assert_eq!(graph.status.code(), Some(1));
    assert!(graph.stdout.is_empty() && text(&graph.stderr).contains("a.toml:5:1"), "{}", text(&graph.stderr));
    assert_eq!(tidemill(&["check", "/nowhere"]).status.code(), Some(2));
}

#[test]
fn no_daemon_is_69_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    for arguments in [
        &["query", "s", "k", "--url", url.as_str()][..],
        &["history", "flight", "k", "--url", url.as_str()],
        &["consume", "t", "--url", url.as_str()],
        &["produce", "t", "--admin-url", url.as_str()],
    ] {
        let output = with_input(arguments, "{\"value\": 1}\n");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}: {said}");
        assert!(said.contains("error[E0530]: nothing answers at http://127.0.0.1:"), "{said}");
        assert!(said.contains("start a daemon (`tidemill dev TOPOLOGY`)"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn something_else_at_the_url_is_said_to_be_no_tidemill() {
    let fake = Fake::answering(vec![(200, "<html>")]);
    let output = tidemill(&["query", "s", "k", "--url", &fake.url()]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("is not tidemill"), "{}", text(&output.stderr));
}

#[test]
fn a_problem_of_the_daemon_becomes_its_exit_code() {
    for (status, body, exit) in [
        (404, r#"{"code":"E0521","detail":"no key `X`"}"#, 1),
        (400, r#"{"code":"E0523","detail":"bad time"}"#, 2),
        (503, r#"{"code":"E0527","detail":"busy"}"#, 69),
        (500, r#"{"code":"E0529","detail":"panicked"}"#, 70),
    ] {
        let fake = Fake::answering(vec![(status, body)]);
        let output = tidemill(&["query", "s", "k", "--url", &fake.url()]);
        let body: Value = serde_json::from_str(body).unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        let wanted = format!("error[{}]: {}", body["code"].as_str().unwrap(), body["detail"].as_str().unwrap());
        assert!(said.contains(&wanted), "{said}");
    }
}

#[test]
fn query_prints_a_table_for_people_and_json_for_programs() {
    let answer = r#"{"key":"a/b","value":{"scheduled":7,"mean":1.5},"timestamp":"2013-01-01T10:00:00Z"}"#;
    let fake = Fake::answering(vec![(200, answer), (200, answer)]);
    let url = fake.url();
    let table = text(&tidemill(&["query", "origin_totals", "a/b", "--wait-for", "t:0:9", "--url", &url]).stdout);
    assert!(table.contains("scheduled") && table.contains("as of 2013-01-01T10:00:00Z"), "{table}");
    let json = tidemill(&["query", "origin_totals", "a/b", "--json", "--url", &url]).stdout;
    assert_eq!(text(&json), format!("{answer}\n"));
    let asked = fake.asked();
    assert!(
        asked[0].starts_with("GET /v1/stores/origin_totals/keys/a%2Fb?wait_for=t%3A0%3A9 HTTP/1.1"),
        "{}",
        asked[0]
    );
}

#[test]
fn history_shows_what_each_event_changed() {
    let answer = r#"{"versions":[
        {"version":1,"state":{"status":"SCHEDULED","delay":null},
         "event":{"topic":"flights.events","partition":3,"offset":17,"type":"FlightScheduled",
                  "timestamp":"2013-01-01T10:00:00Z","recorded":"2013-01-01T10:00:00Z"}},
        {"version":2,"state":{"status":"AIRBORNE","delay":3},
         "event":{"topic":"flights.events","partition":3,"offset":20,"type":"FlightDeparted",
                  "timestamp":"2013-01-01T11:00:00Z","recorded":"2013-01-01T11:00:00Z"}}]}"#;
    let fake = Fake::answering(vec![(200, answer)]);
    let output = tidemill(&["history", "flight", "UA1", "--limit", "5", "--url", &fake.url()]);
    let table = text(&output.stdout);
    for part in ["FlightScheduled", "status: SCHEDULED", "flights.events-3@20", "delay: 3"] {
        assert!(table.contains(part), "{part}: {table}\n{}", text(&output.stderr));
    }
    assert!(fake.asked()[0].starts_with("GET /v1/entities/flight/keys/UA1/history?limit=5 HTTP/1.1"));
}

#[test]
fn produce_sends_lines_and_says_where_they_went() {
    let fake = Fake::answering(vec![(200, r#"{"records":[{"partition":2,"offset":5},{"partition":0,"offset":9}]}"#)]);
    let lines = "{\"value\": 1}\n\n {\"value\": 2}";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let path = file.path().to_str().unwrap();
    let output = tidemill(&["produce", "flights.events", "--admin-url", &fake.url(), "--file", path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "partition 2 offset 5\npartition 0 offset 9\n");
    let asked = fake.asked().remove(0);
    assert!(asked.starts_with("POST /v1/topics/flights.events HTTP/1.1"), "{asked}");
    assert!(asked.ends_with("\r\n\r\n{\"value\": 1}\n{\"value\": 2}\n"), "{asked}");
}

#[test]
fn produce_stops_at_a_line_that_is_no_object() {
    let output = with_input(&["produce", "t", "--admin-url", "http://127.0.0.1:1"], "[1]\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("line 1 is not a JSON object"), "{}", text(&output.stderr));
    assert_eq!(with_input(&["produce", "t", "--admin-url", "http://127.0.0.1:1"], "\n").status.code(), Some(2));
}

#[test]
fn ctrl_c_ends_consume_in_the_middle_of_a_backlog() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // There is always more.
    std::thread::spawn(move || {
        let end = i64::MAX;
        Fake::answer(
            &listener,
            200,
            &format!(r#"{{"topic":"t","partitions":[{{"partition":0,"start":0,"end":{end}}}]}}"#),
        );
        for next in 1.. {
            let record =
                format!(r#"{{"offset":{},"timestamp":"2013-01-01T10:00:00Z","key":"a","value":{{}}}}"#, next - 1);
            Fake::answer(&listener, 200, &format!(r#"{{"next":{next},"records":[{record}]}}"#));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["consume", "t", "--from-beginning", "--json", "--url", &url]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let draining = std::thread::spawn(move || lines.count());
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    let status = until("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    draining.join().unwrap();
}

#[test]
fn consume_reads_every_partition_to_its_end() {
    let fake = Fake::answering(vec![
        (200, r#"{"topic":"t","partitions":[{"partition":0,"start":4,"end":6},{"partition":1,"start":0,"end":0}]}"#),
        (
            200,
            r#"{"next":7,"records":[
                {"offset":4,"timestamp":"2013-01-01T10:00:00Z","key":"a","type":"T","value":{"n":1},"headers":{}},
                {"offset":5,"timestamp":"2013-01-01T10:00:01Z","key":"b","type":"T","value":null,"headers":{}},
                {"offset":6,"timestamp":"2013-01-01T10:00:02Z","key":"c","type":"T","value":{"n":3},"headers":{}}]}"#,
        ),
    ]);
    let output = tidemill(&["consume", "t", "--from-beginning", "--until-end", "--json", "--url", &fake.url()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<_> = lines.iter().map(|line| (line["partition"].as_i64(), line["offset"].as_i64())).collect();
    assert_eq!(places, [(Some(0), Some(4)), (Some(0), Some(5))]);
    assert!(fake.asked()[1].starts_with("GET /v1/topics/t/records?partition=0&offset=4 HTTP/1.1"));
}
