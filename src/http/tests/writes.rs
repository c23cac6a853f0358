//! Events that are written: bodies, their bounds, and who may.

use super::*;

#[test]
fn events_are_written_from_an_object_an_array_or_lines() {
    let daemon = Daemon::start(options());
    let full = r#"{"key":"k","type":"T","value":{"n":1},"timestamp":"2013-01-01T10:00:00Z","headers":{"h":"v"}}"#;
    for (body, count) in [
        (full.to_owned(), 1),
        (format!("[{full},{{\"value\":null}}]"), 2),
        (format!("{full}\n\n{{\"value\":[1]}}\r\n{full}\n"), 3),
    ] {
        let answer = daemon.post(LOCAL_JSON, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer["records"].as_array().unwrap().len(), count);
        assert_eq!(answer["records"][0], json!({"partition": 2, "offset": 0}));
    }
    let events = daemon.fake.events.lock().unwrap();
    let (topic, written) = &events[1];
    assert_eq!(topic, "flights.events");
    assert_eq!(written[0].key.as_deref(), Some("k"));
    assert_eq!(written[0].timestamp, Some(DateTime::parse("2013-01-01T10:00:00Z").unwrap()));
    assert_eq!(written[0].headers["h"], "v");
    assert_eq!(written[1], NewEvent { key: None, event_type: None, value: None, timestamp: None, headers: [].into() });
}

#[test]
fn a_body_with_one_mistake_writes_nothing() {
    let daemon = Daemon::start(options());
    for (body, part) in [
        ("", "has no events"),
        ("[]", "has no events"),
        ("{\"value\":1}\n{\"value\":", "not JSON"),
        ("3", "event 1: it is not an object"),
        ("{\"value\":1}\n{\"key\":\"k\"}", "event 2: `value` is missing"),
        ("{\"value\":1,\"vlaue\":2}", "unknown field `vlaue`: did you mean `value`?"),
        ("{\"value\":1,\"key\":7}", "`key` is a string, not `7`"),
        ("{\"value\":1,\"timestamp\":\"noon\"}", "`noon` is not a time"),
        ("{\"value\":1,\"headers\":{\"a\":1}}", "header `a` is a string"),
    ] {
        let (status, code, detail) = daemon.post(LOCAL_JSON, body).problem();
        assert_eq!((status, code.as_str()), (400, "E0524"), "{body}");
        assert!(detail.contains(part), "{body}: {detail}");
    }
    assert!(daemon.fake.events.lock().unwrap().is_empty());
}

#[test]
fn bodies_are_bounded_in_bytes_and_events() {
    let daemon = Daemon::start(options());
    let many = "{\"value\":null}\n".repeat(crate::limits::HTTP_EVENTS_MAX + 1);
    let (status, code, _) = daemon.post(LOCAL_JSON, &many).problem();
    assert_eq!((status, code.as_str()), (413, "E0525"));
    let array = format!("[{}{{\"value\":null}}]", "{\"value\":null},".repeat(crate::limits::HTTP_EVENTS_MAX));
    assert_eq!(daemon.post(LOCAL_JSON, &array).problem().0, 413);
    let head = "POST /v1/topics/t HTTP/1.1\r\nConnection: close\r\nContent-Length: 99999999\r\n";
    assert_eq!(exchange(daemon.admin(), &format!("{head}{LOCAL_JSON}\r\n{{")).problem().1, "E0525");
}

#[test]
fn web_pages_cannot_write() {
    let daemon = Daemon::start(options());
    let form = "Host: localhost\r\nContent-Type: text/plain\r\n";
    assert_eq!(daemon.post(form, "{\"value\":1}").problem().1, "E0528");
    let rebound = "Host: evil.example:7401\r\nContent-Type: application/json\r\n";
    assert_eq!(daemon.post(rebound, "{\"value\":1}").problem().0, 403);
    for host in ["localhost:7401", "127.0.0.1", "[::1]:7401"] {
        let headers = format!("Host: {host}\r\nContent-Type: application/json; charset=utf-8\r\n");
        assert_eq!(daemon.post(&headers, "{\"value\":1}").status, 200, "{host}");
    }
}

#[test]
fn the_admin_token_is_asked_for() {
    let daemon = Daemon::start(Options { admin_token: Some(Secret::new("t0ken")), ..options() });
    for headers in ["", "Authorization: Bearer t0ke\r\n", "Authorization: Basic t0ken\r\n", "Authorization: t0ken\r\n"]
    {
        let answer = daemon.post(&format!("{LOCAL_JSON}{headers}"), "{\"value\":1}");
        assert_eq!(answer.problem().1, "E0526", "{headers}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    }
    let right = "Host: any.example\r\nContent-Type: application/json\r\nAuthorization: bearer t0ken\r\n";
    assert_eq!(daemon.post(right, "{\"value\":1}").status, 200);
}
