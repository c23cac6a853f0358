//! Both listeners on real sockets, before a service that answers from a table.

mod commands;
mod writes;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::base::ids::{Offset, Partition, TopicPartition};
use crate::base::time::DateTime;
use crate::runtime::service::{
    At, Health, InstanceStatus, LetterAction, LetterPlace, LetterQuery, Letters, Measurements, NewCommand, NewEvent,
    Produced, Reach, Read, ReadError, ReadKind, Sample, StoreStatus, TaskStatus, TopicPage,
};
use crate::runtime::{Peer, Peers as _};
use crate::task::ReadFrom;

/// Remembers what it was asked; knows the key `JFK`, panics at `panic`, blocks at `slow`.
#[derive(Default)]
struct Fake {
    health: Mutex<Health>,
    reads: Mutex<Vec<(Read, Duration)>>,
    events: Mutex<Vec<(String, Vec<NewEvent>)>>,
    commands: Mutex<Vec<(NewCommand, Duration)>>,
    /// True lets the reads of `slow` end.
    open: Mutex<bool>,
    opened: Condvar,
}

impl Service for Fake {
    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    fn topology(&self) -> Value {
        json!({"nodes": []})
    }

    fn tasks(&self) -> Vec<TaskStatus> {
        Vec::new()
    }

    fn release(&self, task: &str, inputs: Option<ReadFrom>, _: Duration) -> Result<bool, ReadError> {
        Ok(task == "s_1" && inputs != Some(ReadFrom::Latest))
    }

    fn instances(&self) -> Vec<InstanceStatus> {
        Vec::new()
    }

    fn stores(&self) -> Vec<StoreStatus> {
        let kind = "key_value".to_owned();
        vec![StoreStatus {
            store: "s".into(),
            partition: 1,
            task: "s_1".into(),
            kind,
            bytes: 7,
            changelog_offset: None,
        }]
    }

    fn read(&self, read: &Read, wait: Duration) -> Result<Value, ReadError> {
        self.reads.lock().unwrap().push((read.clone(), wait));
        let ReadKind::Key { store, key, .. } = &read.what else { return Ok(json!({})) };
        match key.as_str() {
            "panic" => panic!("as asked"),
            "slow" => {
                let open = self.open.lock().unwrap();
                drop(self.opened.wait_timeout_while(open, Duration::from_secs(20), |open| !*open).unwrap());
                Ok(json!({}))
            }
            "gone" => {
                let detail = format!("`{store}` has no key `{key}`");
                Err(ReadError::NotFound { code: codes::PATH_UNKNOWN, detail })
            }
            "elsewhere" => {
                Err(ReadError::Unavailable { code: codes::TOO_BUSY, detail: "another instance owns it".into() })
            }
            _ => Ok(json!({"key": key})),
        }
    }

    fn topic(&self, topic: &str, _: Duration) -> Result<Value, ReadError> {
        Ok(json!({ "topic": topic }))
    }

    fn records(&self, page: &TopicPage, _: Duration) -> Result<Value, ReadError> {
        Ok(json!({ "asked": format!("{page:?}") }))
    }

    fn produce(&self, topic: &str, events: &[NewEvent], _: Duration) -> Result<Vec<Produced>, ReadError> {
        self.events.lock().unwrap().push((topic.to_owned(), events.to_vec()));
        Ok((0..events.len()).map(|offset| Produced { partition: 2, offset: offset as i64 }).collect())
    }

    fn dead_letter_topics(&self, _: Duration) -> Result<Value, ReadError> {
        Ok(json!({ "topics": [] }))
    }

    fn dead_letters(&self, topic: &str, query: &LetterQuery, _: Duration) -> Result<Value, ReadError> {
        Ok(json!({ "topic": topic, "asked": format!("{query:?}") }))
    }

    fn dead_letter(&self, _: &str, letter: &LetterPlace, _: Duration) -> Result<Value, ReadError> {
        Ok(json!({ "letter": letter.to_string() }))
    }

    fn settle_letters(
        &self,
        _: &str,
        letters: &Letters,
        action: LetterAction,
        _: Duration,
    ) -> Result<Value, ReadError> {
        Ok(json!({ "asked": format!("{action:?} {letters:?}") }))
    }

    fn command(&self, command: &NewCommand, wait: Duration) -> Result<Value, ReadError> {
        self.commands.lock().unwrap().push((command.clone(), wait));
        let answer = |outcome: &str, code: Value, message: Value| {
            json!({
                "command_id": command.id, "command": "shop.Cancel", "entity": command.entity, "key": command.key, "version": 3,
                "outcome": outcome, "events": [], "code": code, "message": message, "expected_version": null
            })
        };
        match command.key.as_str() {
            "refused" => Ok(answer("refused", json!("not_open"), json!("it is closed"))),
            "other" => Ok(answer("wrong_version", Value::Null, Value::Null)),
            "nobody" => {
                Err(ReadError::Unavailable { code: codes::COMMAND_PENDING, detail: "written, not answered".to_owned() })
            }
            _ => Ok(answer("accepted", Value::Null, Value::Null)),
        }
    }

    fn measurements(&self) -> Measurements {
        let labels = vec!["running".to_owned()];
        Measurements { samples: vec![Sample { name: "tasks", labels, value: 3.0 }], histograms: Vec::new() }
    }
}

struct Daemon {
    runtime: Runtime,
    server: Option<Server>,
    fake: Arc<Fake>,
}

fn options() -> Options {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Options { http: any, admin: any, admin_token: None, build: BuildInfo::compiled(), topology: None }
}

impl Daemon {
    fn start(options: Options) -> Self {
        let runtime = Runtime::new().unwrap();
        let fake = Arc::new(Fake::default());
        let server = runtime.block_on(start(options, Arc::clone(&fake) as Arc<dyn Service>)).unwrap();
        Self { runtime, server: Some(server), fake }
    }

    fn http(&self) -> SocketAddr {
        self.server.as_ref().unwrap().http_address()
    }

    fn admin(&self) -> SocketAddr {
        self.server.as_ref().unwrap().admin_address()
    }

    fn get(&self, path: &str) -> Answer {
        exchange(self.http(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    fn post(&self, headers: &str, body: &str) -> Answer {
        self.post_to("/v1/topics/flights.events", headers, body)
    }

    fn post_to(&self, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n");
        exchange(self.admin(), &format!("{head}{headers}\r\n{body}"))
    }

    fn command(&self, place: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!(
            "POST /v1/entities/order/keys/{place} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{LOCAL_JSON}"
        );
        exchange(self.admin(), &format!("{head}{headers}\r\n{body}"))
    }

    /// Has it asked as another instance would.
    fn forward(&self, instance: &str, read: &Read) -> Result<Value, ReadError> {
        self.ask_at(self.http(), instance, read)
    }

    fn ask_at(&self, address: SocketAddr, instance: &str, read: &Read) -> Result<Value, ReadError> {
        let peers = HttpPeers::new(self.runtime.handle().clone()).unwrap();
        let peer = Peer { instance: instance.to_owned(), http: address.to_string() };
        peers.read(&peer, read, Duration::from_millis(1500))
    }

    fn last_read(&self) -> (Read, Duration) {
        self.fake.reads.lock().unwrap().last().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop(Duration::from_secs(1)));
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// Status, media type and code of a problem, which must be whole.
    fn problem(&self) -> (u16, String, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["status"], self.status, "{self:?}");
        let code = body["code"].as_str().unwrap().to_owned();
        assert_eq!(body["title"].as_str(), crate::error::title(&code), "{self:?}");
        (self.status, code, body["detail"].as_str().unwrap().to_owned())
    }
}

fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may answer and close before it has read a body that it refuses.
    drop(stream.write_all(request.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

const LOCAL_JSON: &str = "Host: 127.0.0.1:7401\r\nContent-Type: application/json\r\n";

#[test]
fn keys_are_decoded_whatever_is_in_them() {
    let daemon = Daemon::start(options());
    for (path, expected) in
        [("a%2Fb", "a/b"), ("50%25", "50%"), ("%C3%A9%20x", "é x"), ("a+b", "a+b"), ("a:b@c", "a:b@c")]
    {
        assert_eq!(daemon.get(&format!("/v1/stores/s/keys/{path}")).status, 200);
        let (read, _) = daemon.last_read();
        let wanted = ReadKind::Key { store: "s".into(), key: expected.into(), from: None, to: None };
        assert_eq!(read.what, wanted);
    }
    let (status, code, _) = daemon.get("/v1/stores/s/keys/%FF").problem();
    assert_eq!((status, code.as_str()), (400, "E0523"));
}

#[test]
fn dead_letters_are_named_by_their_place() {
    let daemon = Daemon::start(options());
    let body = |answer: Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let page = body(daemon.get("/v1/dlq/d?reason=decode&limit=7&cursor=1%402"));
    let wanted =
        r#"LetterQuery { reason: Some("decode"), after: Some(LetterPlace { partition: 1, offset: 2 }), limit: 7 }"#;
    assert_eq!(page["asked"], wanted);
    assert_eq!(body(daemon.get("/v1/dlq/d/0@17"))["letter"], "0@17");
    assert_eq!(daemon.get("/v1/dlq/d/17").problem().0, 400);
    let asked = |path: &str, text: &str| body(daemon.post_to(path, LOCAL_JSON, text))["asked"].clone();
    let named = "Replay Named([LetterPlace { partition: 0, offset: 3 }])";
    assert_eq!(asked("/v1/dlq/d/replay", r#"{"letters": ["0@3"]}"#), named);
    assert_eq!(
        asked("/v1/dlq/d/drop", r#"{"all": true, "reason": "decode"}"#),
        r#"Drop All { reason: Some("decode") }"#
    );
    for wrong in ["{}", r#"{"all": false}"#, r#"{"letters": []}"#, r#"{"letters": ["x"]}"#, r#"{"every": true}"#, "all"]
    {
        assert_eq!(daemon.post_to("/v1/dlq/d/replay", LOCAL_JSON, wrong).status, 400, "{wrong}");
    }
    let plain = "Host: 127.0.0.1:7401\r\nContent-Type: text/plain\r\n";
    assert_eq!(daemon.post_to("/v1/dlq/d/replay", plain, r#"{"all": true}"#).problem().0, 415);
}

#[test]
fn a_task_is_released_by_the_admin_listener_alone() {
    let daemon = Daemon::start(options());
    let released = daemon.post_to("/v1/tasks/s_1/release", LOCAL_JSON, "{}");
    assert_eq!((released.status, released.body.contains("\"released\":true")), (200, true), "{released:?}");
    assert!(daemon.post_to("/v1/tasks/s_2/release", LOCAL_JSON, "{}").body.contains("\"released\":false"));
    let told = |inputs| daemon.post_to(&format!("/v1/tasks/s_1/release?inputs={inputs}"), LOCAL_JSON, "{}");
    assert!(told("earliest").body.contains("\"released\":true"));
    assert!(told("latest").body.contains("\"released\":false"), "what is said arrives");
    let (status, code, detail) = told("first").problem();
    assert_eq!((status, &*code), (400, "E0523"), "{detail}");
    assert_eq!(daemon.get("/v1/tasks/s_1/release").problem().0, 404);
    let elsewhere = "Host: evil.example\r\nContent-Type: application/json\r\n";
    assert_eq!(daemon.post_to("/v1/tasks/s_1/release", elsewhere, "{}").problem().0, 403);
}

#[test]
fn every_read_reaches_the_service_as_it_was_asked() {
    let daemon = Daemon::start(options());
    let moment = DateTime::parse("2013-07-01T12:00:00Z").unwrap();
    let text = str::to_owned;
    let (entity, key) = (text("flight"), text("UA1"));
    for (path, expected) in [
        (
            "/v1/stores/s/keys/k?from=2013-07-01T12:00:00Z&to=2013-07-01T14:00:00%2B02:00",
            ReadKind::Key { store: text("s"), key: text("k"), from: Some(moment), to: Some(moment) },
        ),
        (
            "/v1/stores/s/keys?prefix=a%26b&limit=7&cursor=c",
            ReadKind::Keys { store: text("s"), prefix: text("a&b"), limit: 7, cursor: Some(text("c")) },
        ),
        ("/v1/stores/s/keys", ReadKind::Keys { store: text("s"), prefix: text(""), limit: 100, cursor: None }),
        ("/v1/entities/flight/keys/UA1", ReadKind::Entity { entity: entity.clone(), key: key.clone(), at: At::Now }),
        (
            "/v1/entities/flight/keys/UA1?as_of=2013-07-01T12:00:00Z",
            ReadKind::Entity { entity: entity.clone(), key: key.clone(), at: At::AsOf(moment) },
        ),
        (
            "/v1/entities/flight/keys/UA1?version=2",
            ReadKind::Entity { entity: entity.clone(), key: key.clone(), at: At::Version(2) },
        ),
        (
            "/v1/entities/flight/keys/UA1/history?limit=1000",
            ReadKind::History { entity: entity.clone(), key: key.clone(), limit: 1000, cursor: None },
        ),
        (
            "/v1/entities/flight/keys/UA1/commands/c%2F1",
            ReadKind::Answer { entity: entity.clone(), key: key.clone(), id: text("c/1") },
        ),
        ("/v1/entities/flight/keys/UA1/blame", ReadKind::Blame { entity, key }),
    ] {
        let answer = daemon.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let read = daemon.last_read().0;
        assert_eq!((&read.what, &read.reach), (&expected, &Reach::Anywhere), "{path}");
        // Another instance that is asked the same on behalf of this one understands the same, and asks nobody in turn.
        let reach = Reach::Here { instance: text("b"), partitions: Some(vec![Partition(0), Partition(2)]) };
        let read = Read { reach, wait_for: vec![(TopicPartition::new("t", 1), Offset(7))], ..read };
        daemon.forward("b", &read).unwrap();
        assert_eq!(daemon.last_read(), (read.clone(), Duration::from_millis(1500)), "{path}");
        let read = Read { wait_for: Vec::new(), stale: true, ..read };
        daemon.forward("b", &read).unwrap();
        assert_eq!(daemon.last_read().0, read, "{path}");
    }
}

#[test]
fn what_another_instance_says_is_said_as_if_it_were_here() {
    let daemon = Daemon::start(options());
    let key = |key: &str| Read::of(ReadKind::Key { store: "s".into(), key: key.into(), from: None, to: None });
    assert_eq!(daemon.forward("b", &key("k%/ö")).unwrap(), json!({"key": "k%/ö"}));
    let error = daemon.forward("b", &key("gone")).unwrap_err();
    assert!(matches!(&error, ReadError::NotFound { code, .. } if *code == codes::PATH_UNKNOWN), "{error:?}");
    let error = daemon.forward("b", &key("elsewhere")).unwrap_err();
    assert!(matches!(&error, ReadError::Unavailable { code, .. } if *code == codes::TOO_BUSY), "{error:?}");
    let error = daemon.forward("b", &key("..")).unwrap_err();
    assert!(matches!(&error, ReadError::Invalid { .. }), "{error:?}");
    let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = daemon.ask_at(closed, "b", &key("k")).unwrap_err();
    assert!(matches!(&error, ReadError::Unavailable { code, .. } if *code == codes::OWNER_UNREACHABLE), "{error:?}");
    let wrong = "GET /v1/stores/s/keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\ntidemill-instance: b\r\n\
                 tidemill-partitions: 1,x\r\n\r\n";
    assert_eq!(exchange(daemon.http(), wrong).problem().0, 400);
}

#[test]
fn topics_are_read_a_page_at_a_time() {
    let daemon = Daemon::start(options());
    assert_eq!(daemon.get("/v1/topics/a%2Fb").body, r#"{"topic":"a/b"}"#);
    let page = daemon.get("/v1/topics/t/records?partition=3&offset=9&limit=5");
    let expected = TopicPage { topic: "t".into(), partition: 3, offset: 9, limit: 5 };
    assert_eq!(page.body, json!({ "asked": format!("{expected:?}") }).to_string());
}

#[test]
fn a_read_waits_for_the_inputs_it_names() {
    let daemon = Daemon::start(options());
    let path = "/v1/stores/s/keys/k?wait_for=flights.events:3:17&wait_for=b:0:0&wait=250ms";
    assert_eq!(daemon.get(path).status, 200);
    let (read, wait) = daemon.last_read();
    let inputs = [(TopicPartition::new("flights.events", 3), Offset(17)), (TopicPartition::new("b", 0), Offset(0))];
    assert_eq!(read.wait_for, inputs);
    assert_eq!(wait, Duration::from_millis(250));
}

#[test]
fn wrong_parameters_are_400_and_say_why() {
    let daemon = Daemon::start(options());
    for (path, part) in [
        ("/v1/entities/f/keys/k?as_of=yesterday", "`as_of`: `yesterday` is not a time"),
        ("/v1/entities/f/keys/k?version=0", "`version=0`: it is a whole number from 1 on"),
        ("/v1/entities/f/keys/k?version=1&as_of=2013-01-01T00:00:00Z", "exclude each other"),
        ("/v1/entities/f/keys/k?asof=2013-01-01T00:00:00Z", "did you mean `as_of`?"),
        ("/v1/entities/f/keys/k/history?limit=0", "from 1 to 1000"),
        ("/v1/entities/f/keys/k/history?limit=1001", "from 1 to 1000"),
        ("/v1/stores/s/keys?limit=many", "from 1 to 1000"),
        ("/v1/stores/s/keys?limit=1&limit=2", "`limit` stands twice"),
        ("/v1/stores/s/keys/k?from=2013-01-02T00:00:00Z&to=2013-01-01T00:00:00Z", "`to` is before `from`"),
        ("/v1/stores/s/keys/k?wait_for=flights.events", "`topic:partition:offset`"),
        ("/v1/stores/s/keys/k?wait_for=t:-1:0", "`topic:partition:offset`"),
        ("/v1/stores/s/keys/k?wait=1h", "more than 30s"),
        ("/v1/topics/t/records", "`partition` is missing"),
        ("/readyz?require=everything", "`assigned` or `restored`"),
    ] {
        let (status, code, detail) = daemon.get(path).problem();
        assert_eq!((status, code.as_str()), (400, "E0523"), "{path}");
        assert!(detail.contains(part), "{path}: {detail}");
    }
    assert!(daemon.fake.reads.lock().unwrap().is_empty(), "a wrong request reached the service");
}

#[test]
fn errors_of_the_service_keep_their_status_and_code() {
    let daemon = Daemon::start(options());
    assert_eq!(daemon.get("/v1/stores/s/keys/gone").problem().0, 404);
    let elsewhere = daemon.get("/v1/stores/s/keys/elsewhere");
    assert_eq!(elsewhere.problem().0, 503);
    assert!(elsewhere.head.contains("retry-after: 1"));
    let (status, code, _) = daemon.get("/v1/stores/s/keys/panic").problem();
    assert_eq!((status, code.as_str()), (500, "E0529"));
    assert_eq!(daemon.get("/v1/stores/s/keys/JFK").status, 200, "one panic harms no other request");
}

#[test]
fn unknown_paths_and_methods_are_problems_too() {
    let daemon = Daemon::start(options());
    for path in ["/", "/v1", "/v1/store/s", "/v1/stores/s/keys/a/b", "/metrics/"] {
        let (status, code, _) = daemon.get(path).problem();
        assert_eq!((status, code.as_str()), (404, "E0521"), "{path}");
    }
    let request = "POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let answer = exchange(daemon.http(), request);
    let (status, code, detail) = answer.problem();
    assert_eq!((status, code.as_str()), (405, "E0522"));
    assert!(detail.contains(&daemon.admin().to_string()), "{detail}");
    assert!(answer.head.contains("allow: get"), "{answer:?}");
}

#[test]
fn probes_follow_the_health_of_the_service() {
    let daemon = Daemon::start(options());
    assert_eq!(daemon.get("/livez").status, 503);
    let health = |live, assigned, restored| {
        *daemon.fake.health.lock().unwrap() = Health { live, assigned, restored, reasons: vec!["s_1: 5 to go".into()] };
    };
    health(true, true, false);
    assert_eq!(daemon.get("/livez").body, "ok");
    assert_eq!(daemon.get("/readyz?require=assigned").status, 200);
    let answer = daemon.get("/readyz?verbose");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, "[+]live ok\n[+]assigned ok\n[-]restored failed\n    s_1: 5 to go\nreadyz check failed\n");
    health(true, true, true);
    assert_eq!(daemon.get("/readyz").body, "ok");
    assert!(daemon.get("/readyz?verbose").body.ends_with("readyz check passed\n"));
}

#[test]
fn a_scrape_counts_the_answers_before_it() {
    let daemon = Daemon::start(options());
    assert_eq!(daemon.get("/nothing").status, 404);
    let answer = daemon.get("/metrics");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{answer:?}");
    assert!(answer.body.contains("tidemill_tasks{state=\"running\"} 3\n"), "{answer:?}");
    assert!(answer.body.contains("tidemill_http_requests_total{listener=\"http\",status=\"4xx\"} 1\n"), "{answer:?}");
}

#[test]
fn a_taken_port_names_the_setting_to_change() {
    let taken = StdListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let runtime = Runtime::new().unwrap();
    let fake = || Arc::new(Fake::default()) as Arc<dyn Service>;
    let error = runtime.block_on(start(Options { admin: address, ..options() }, fake())).unwrap_err();
    assert_eq!(error.code(), codes::LISTEN_FAILED);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot listen on {address}; change `admin.listen` (`TIDEMILL__ADMIN__LISTEN`), or stop what listens there"
        )
    );
    let open = Options { admin: SocketAddr::from(([0, 0, 0, 0], 0)), ..options() };
    assert_eq!(runtime.block_on(start(open, fake())).unwrap_err().code(), codes::ADMIN_OPEN);
}

#[test]
fn probes_answer_while_every_turn_is_taken() {
    let daemon = Daemon::start(options());
    let address = daemon.http();
    let slow = format!("GET /v1/stores/s/keys/slow HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let held: Vec<TcpStream> = (0..crate::limits::HTTP_REQUESTS_AT_ONCE_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(slow.as_bytes()).unwrap();
            stream
        })
        .collect();
    while daemon.fake.reads.lock().unwrap().len() < held.len() {
        std::thread::yield_now();
    }
    let (status, code, _) = daemon.get("/v1/stores/s/keys/JFK").problem();
    assert_eq!((status, code.as_str()), (503, "E0527"));
    assert_eq!(daemon.get("/livez").status, 503);
    assert_eq!(daemon.get("/metrics").status, 200);
    drop(held);
    let mut daemon = daemon;
    let server = daemon.server.take().unwrap();
    daemon.runtime.block_on(server.stop(Duration::from_millis(100)));
    assert!(TcpStream::connect(address).is_err(), "a stopped listener takes no connections");
    *daemon.fake.open.lock().unwrap() = true;
    daemon.fake.opened.notify_all();
}
