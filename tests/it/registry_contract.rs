//! What every registry must do, run on the local ones and on a real one over HTTP; and how the HTTP one meets failures.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; waits on real servers are bounded"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidemill::base::ids::SchemaId;
use tidemill::registry::confluent::{Auth, ConfluentRegistry, ConfluentSettings};
use tidemill::registry::local::LocalRegistry;
use tidemill::registry::{Error, Registry, Verdict};

const WAIT: Duration = Duration::from_secs(10);

fn confluent() -> ConfluentRegistry {
    let url = std::env::var("TIDEMILL_TEST_REGISTRY")
        .expect("TIDEMILL_TEST_REGISTRY=url names a real registry: run `make test`");
    at(vec![url])
}

fn at(urls: Vec<String>) -> ConfluentRegistry {
    ConfluentRegistry::new(ConfluentSettings { urls, auth: Auth::None, timeout: Duration::from_secs(5) }).unwrap()
}

/// A record of a name that no other test uses, so that its id is its own.
fn record(name: &str, field: &str) -> String {
    format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"{field}","type":"long"}}]}}"#)
}

fn unique(name: &str) -> String {
    format!("{name}_{}", uuid::Uuid::new_v4().simple())
}

fn same(left: &str, right: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(left).unwrap()
        == serde_json::from_str::<serde_json::Value>(right).unwrap()
}

fn contract(registry: &dyn Registry) {
    let name = unique("Contract");
    // With what a path's segment must not hold as it is.
    let subject = format!("topic/{name} 100%?#ü");
    let (first, second) = (record(&name, "a"), record(&name, "b"));

    assert_eq!(registry.latest(&subject, WAIT).unwrap(), None);
    assert_eq!(registry.versions(&subject, WAIT).unwrap(), []);
    assert_eq!(registry.lookup(&subject, &first, WAIT).unwrap(), None);
    let verdict = registry.compatible(&subject, &first, WAIT).unwrap();
    assert_eq!(verdict, Verdict { compatible: true, messages: Vec::new() });

    let one = registry.register(&subject, &first, WAIT).unwrap();
    assert_eq!(registry.register(&subject, &first, WAIT).unwrap(), one, "registered once");
    assert_eq!(registry.lookup(&subject, &first, WAIT).unwrap(), Some(one));
    assert_eq!(registry.lookup(&subject, &second, WAIT).unwrap(), None, "looking up registers nothing");
    assert!(same(&registry.schema(one, WAIT).unwrap(), &first));

    let two = registry.register(&subject, &second, WAIT).unwrap();
    assert_ne!(one, two);
    let versions = registry.versions(&subject, WAIT).unwrap();
    let found: Vec<_> = versions.iter().map(|v| (v.subject.as_str(), v.version, v.id)).collect();
    assert_eq!(found, [(subject.as_str(), 1, one), (subject.as_str(), 2, two)]);
    assert!(same(&versions[1].schema, &second));
    assert_eq!(registry.latest(&subject, WAIT).unwrap().as_ref(), versions.last());

    let other = format!("{subject}-other");
    assert_eq!(registry.register(&other, &first, WAIT).unwrap(), one, "one id whatever the subject");
    let subjects = registry.subjects(WAIT).unwrap();
    assert!(subjects.is_sorted());
    assert!(subjects.contains(&subject) && subjects.contains(&other));

    // More than are registered at once.
    let mut all: Vec<_> = (0..20).map(|n| (format!("{name}-{n}"), record(&name, &format!("a{n}")))).collect();
    let ids = registry.register_all(&all, WAIT).unwrap();
    for ((subject, schema), id) in all.iter().zip(ids) {
        assert_eq!(registry.lookup(subject, schema, WAIT).unwrap(), Some(id));
    }
    all[7].1 = "not json".to_owned();
    let refused = registry.register_all(&all, WAIT);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");

    let unknown = registry.schema(SchemaId(4_000_000), WAIT);
    assert!(matches!(unknown, Err(Error::UnknownId { id: SchemaId(4_000_000) })), "{unknown:?}");
    let refused = registry.register(&subject, "not json", WAIT);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[test]
fn the_contract_holds_in_memory() {
    contract(&LocalRegistry::in_memory());
}

#[test]
fn the_contract_holds_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    contract(&LocalRegistry::open(folder.path().join("schemas.jsonl")).unwrap());
}

#[test]
fn the_contract_holds_on_a_real_registry() {
    contract(&confluent());
}

#[test]
fn several_register_a_schema_at_once_and_all_are_told_its_id() {
    for round in 0..10 {
        let name = unique("AtOnce");
        let (subject, schema) = (format!("{name}-value"), record(&name, "a"));
        let register = || confluent().register(&subject, &schema, WAIT);
        let told: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(register)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let first = told[0].as_ref().unwrap_or_else(|error| panic!("round {round}: {error}"));
        for other in &told {
            assert_eq!(other.as_ref().ok(), Some(first), "round {round}: {other:?}");
        }
    }
}

#[test]
fn a_real_registry_says_what_breaks() {
    let registry = confluent();
    let name = unique("Breaks");
    let (subject, url) = (format!("{name}-value"), registry_url());
    registry.register(&subject, &record(&name, "a"), WAIT).unwrap();
    let body = r#"{"compatibility":"BACKWARD"}"#;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let put = reqwest::Client::new().put(format!("{url}/config/{subject}"));
        let answer = put.header("content-type", "application/json").body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    });
    let verdict = registry.compatible(&subject, &record(&name, "b"), WAIT).unwrap();
    assert!(!verdict.compatible);
    assert!(!verdict.messages.is_empty());
    let refused = registry.register(&subject, &record(&name, "b"), WAIT);
    let Err(Error::Incompatible { subject: named, message }) = refused else { panic!("{refused:?}") };
    assert_eq!(named, subject);
    assert!(!message.is_empty());
}

fn registry_url() -> String {
    std::env::var("TIDEMILL_TEST_REGISTRY").expect("checked by `confluent`")
}

#[test]
fn references_come_inlined() {
    let registry = confluent();
    let (inner, outer) = (unique("Inner"), unique("Outer"));
    registry.register(&inner, &record(&format!("shop.{inner}"), "a"), WAIT).unwrap();
    let schema = format!(
        r#"{{"type":"record","name":"shop.{outer}","fields":[{{"name":"one","type":"{inner}"}},{{"name":"two","type":"{inner}"}}]}}"#
    );
    let references = serde_json::json!([{"name": format!("shop.{inner}"), "subject": inner, "version": 1}]);
    let body = serde_json::json!({"schema": schema, "references": references}).to_string();
    let url = registry_url();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async {
        let post = reqwest::Client::new().post(format!("{url}/subjects/{outer}/versions"));
        let answer = post.header("content-type", "application/json").body(body).send().await.unwrap();
        answer.text().await.unwrap()
    });
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = SchemaId(u32::try_from(answer["id"].as_u64().expect(&text)).unwrap());
    let found: serde_json::Value = serde_json::from_str(&registry.schema(id, WAIT).unwrap()).unwrap();
    assert_eq!(found["fields"][0]["type"]["name"], format!("shop.{inner}"), "{found}");
    assert_eq!(found["fields"][1]["type"], inner, "defined once");
}

/// Answers requests with these statuses in turn, then with the last one; counts them.
fn server(answers: Vec<(u16, &'static str)>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let at = counted.fetch_add(1, Ordering::SeqCst);
            let (status, body) = answers[at.min(answers.len() - 1)];
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (url, count)
}

#[test]
fn an_answer_of_500_or_429_is_asked_for_again_and_a_schema_is_fetched_once() {
    let (url, count) = server(vec![
        (500, r#"{"error_code":50001,"message":"store"}"#),
        (429, ""),
        (503, "<html>"),
        (200, r#"{"schema":"\"string\""}"#),
    ]);
    let registry = at(vec![url]);
    assert_eq!(registry.schema(SchemaId(7), WAIT).unwrap(), r#""string""#);
    assert_eq!(count.load(Ordering::SeqCst), 4);
    assert_eq!(registry.schema(SchemaId(7), WAIT).unwrap(), r#""string""#);
    assert_eq!(count.load(Ordering::SeqCst), 4, "an id is asked for once");
}

#[test]
fn an_unknown_id_is_asked_for_anew_each_time() {
    let missing = (404, r#"{"error_code":40403,"message":"Schema not found"}"#);
    let (url, count) = server(vec![missing, (200, r#"{"schema":"\"long\""}"#)]);
    let registry = at(vec![url]);
    assert!(matches!(registry.schema(SchemaId(7), WAIT), Err(Error::UnknownId { id: SchemaId(7) })));
    assert_eq!(registry.schema(SchemaId(7), WAIT).unwrap(), r#""long""#, "the failure is not kept");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn many_threads_fetch_an_id_once() {
    let (url, count) = server(vec![(500, ""), (200, r#"{"schema":"\"int\""}"#)]);
    let registry = at(vec![url]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(registry.schema(SchemaId(3), WAIT).unwrap(), r#""int""#));
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_registry_that_is_down_is_unavailable_after_the_wait() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let registry = at(vec![format!("http://{closed}")]);
    let begun = Instant::now();
    let down = registry.lookup("s", r#""int""#, Duration::from_millis(400));
    assert!(matches!(down, Err(Error::Unavailable { .. })), "{down:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn the_second_address_answers_when_the_first_is_down() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, _) = server(vec![(200, r#"{"id":9,"schema":"\"int\"","subject":"s","version":4}"#)]);
    let registry = at(vec![format!("http://{closed}"), url]);
    assert_eq!(registry.lookup("s", r#""int""#, WAIT).unwrap(), Some(SchemaId(9)));
    assert_eq!(registry.latest("s", WAIT).unwrap().map(|latest| latest.version), Some(4));
}

#[test]
fn wrong_credentials_are_not_asked_again() {
    let (url, count) = server(vec![(401, r#"{"error_code":401,"message":"Unauthorized"}"#)]);
    let refused = at(vec![url]).subjects(WAIT);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_from_an_async_thread_does_not_panic() {
    let (url, _) = server(vec![(200, "[]")]);
    let registry = at(vec![url]);
    assert_eq!(registry.subjects(WAIT).unwrap(), Vec::<String>::new());
}
