//! Commands to entities.

use super::*;

#[test]
fn a_command_reaches_its_entity_as_it_was_sent() {
    let daemon = Daemon::start(options());
    let sent = "Command-Id: c1\r\nIf-Match: \"2\"\r\nce-correlationid: chain\r\n";
    let answer = daemon.command("a%2Fb/commands/Cancel?wait=2s", sent, r#"{"reason": "late"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("etag: \"3\""), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&body["outcome"], &body["version"], &body["command_id"]),
        (&json!("accepted"), &json!(3), &json!("c1"))
    );
    let wanted = NewCommand {
        entity: "order".to_owned(),
        key: "a/b".to_owned(),
        command: "Cancel".to_owned(),
        value: json!({"reason": "late"}),
        id: "c1".to_owned(),
        expected_version: Some(2),
        headers: [("ce_correlationid".to_owned(), "chain".to_owned())].into(),
    };
    assert_eq!(daemon.fake.commands.lock().unwrap().last(), Some(&(wanted, Duration::from_secs(2))));
    // Without an id each command has one of its own; `If-None-Match: *` is for what is not there yet.
    for headers in ["If-None-Match: *\r\n", ""] {
        assert_eq!(daemon.command("k/commands/Cancel", headers, "{}").status, 200);
    }
    let commands = daemon.fake.commands.lock().unwrap();
    let [.., (first, _), (second, _)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!((first.expected_version, second.expected_version), (Some(0), None));
    assert!(first.id != second.id && !first.id.is_empty());
}

#[test]
fn commands_that_are_not_accepted_say_why() {
    let daemon = Daemon::start(options());
    let answer = daemon.command("refused/commands/Cancel", "Command-Id: c1\r\n", "{}");
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let wanted = json!({
        "type": "urn:tidemill:error:E0922", "title": "a command was refused", "status": 409, "code": "not_open",
        "detail": "it is closed", "command_id": "c1", "entity": "order", "key": "refused", "version": 3
    });
    assert_eq!((answer.status, body), (409, wanted));
    let (status, code, detail) = daemon.command("other/commands/Cancel", "If-Match: 2\r\n", "{}").problem();
    assert_eq!((status, code.as_str()), (412, "E0921"), "{detail}");
    let (status, code, _) = daemon.command("nobody/commands/Cancel", "", "{}").problem();
    assert_eq!((status, code.as_str()), (503, "E0924"));
    for (headers, body, wanted) in [
        ("If-Match: one\r\n", "{}", (400, "E0523")),
        ("If-Match: 1\r\nIf-None-Match: *\r\n", "{}", (400, "E0523")),
        ("If-None-Match: 1\r\n", "{}", (400, "E0523")),
        ("Command-Id: \r\n", "{}", (400, "E0523")),
        ("", "[]", (400, "E0524")),
        ("", "{", (400, "E0524")),
    ] {
        let (status, code, detail) = daemon.command("k/commands/Cancel", headers, body).problem();
        assert_eq!((status, code.as_str()), wanted, "{headers}{body}: {detail}");
    }
}
