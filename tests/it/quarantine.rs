//! A task that cannot go on is seen, stands alone, and is let go on; a daemon lives whatever its broker does.

use crate::support::kafka_server::KafkaServer;
use crate::support::notes::{self, AT, TOPOLOGY, key_of};
use crate::support::{Launch, Place, topics, until};

#[expect(clippy::disallowed_methods, reason = "a record that is a little ahead of the clock needs the clock")]
fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn a_stopped_task_is_seen_stands_alone_and_goes_on_when_it_is_released() {
    for place in [Place::Embedded, Place::kafka()] {
        let app = notes::open(&place, TOPOLOGY);
        let (stopped, other) = (key_of(0), key_of(1));
        let until_ms = now_ms() + 3_600_000 + 15_000;
        let records = [
            notes::note(&app, &stopped, AT, r#"{"n": 1}"#),
            notes::note(&app, &stopped, until_ms, r#"{"n": 2}"#),
            notes::note(&app, &stopped, AT, r#"{"n": 4}"#),
            notes::note(&app, &other, AT, r#"{"n": 8}"#),
        ];
        topics::write(&*app.broker(), records);
        let mut run = app.start(&Launch::default());
        notes::wait_for(&mut run, &other, (1, 8));
        notes::wait_for(&mut run, &stopped, (1, 1));
        let find = |tasks: &serde_json::Value| {
            let all = tasks["tasks"].as_array().unwrap();
            all.iter().find(|task| task["state"] == "quarantined").cloned()
        };
        let task = until("it is seen", || find(&run.json("/v1/tasks")?));
        let name = task["task"].as_str().unwrap().to_owned();
        let quarantine = &task["quarantine"];
        assert_eq!((quarantine["reason"].as_str(), quarantine["code"].as_str()), (Some("future"), Some("E1002")));
        assert_eq!(quarantine["record"]["topic"], app.topic("notes"));
        assert_eq!(
            (quarantine["record"]["partition"].as_i64(), quarantine["record"]["offset"].as_i64()),
            (Some(0), Some(1))
        );
        assert_eq!(quarantine["node"], "notes");
        assert!(quarantine["since"].as_str().unwrap().ends_with('Z'));
        let metrics = run.ask("/metrics").1;
        for sample in [
            &format!("tidemill_task_quarantined{{task=\"{name}\",reason=\"future\"}} 1"),
            "tidemill_tasks{state=\"quarantined\"} 1",
        ] {
            assert!(metrics.contains(sample), "{sample} in\n{metrics}");
        }
        let said = run.said();
        let line = said.lines().find(|line| line.contains("a task stops, the others go on")).unwrap();
        for part in ["\"reason\":\"future\"", "\"offset\":1", "\"code\":\"E1002\"", "\"node\":\"notes\""] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert_eq!((run.ask("/livez").0, run.ask("/readyz").0), (200, 200));
        // Too early: it stops at the same record again. Then the clock has come near enough.
        assert_eq!(run.command(&["task", "release", &name]).1["released"], true);
        let again = until("it has stopped again", || find(&run.json("/v1/tasks")?));
        assert_eq!(again["quarantine"]["record"], quarantine["record"]);
        until("its time has come", || (now_ms() + 3_600_000 > until_ms).then_some(()));
        assert_eq!(run.command(&["task", "release", &name]).1["released"], true);
        notes::wait_for(&mut run, &stopped, (3, 7));
        notes::wait_for(&mut run, &other, (1, 8));
        assert_eq!(run.command(&["task", "release", &name]).1["released"], false);
        let (code, answer) = run.command(&["task", "release", "nobody_0"]);
        assert_eq!(code, Some(1), "{answer}");
        until("no task stands still", || run.stopped_tasks().is_empty().then_some(()));
        run.stop();
    }
}

#[test]
fn a_daemon_lives_for_as_long_as_its_broker_is_away() {
    let mut kafka = KafkaServer::start();
    let app = notes::open(&kafka.place(), TOPOLOGY);
    let key = key_of(0);
    topics::write(&*app.broker(), [notes::note(&app, &key, AT, r#"{"n": 1}"#)]);
    let mut run = app.start(&Launch::default());
    notes::wait_for(&mut run, &key, (1, 1));
    kafka.kill_at_rest();
    // Longer than a thread may go without a beat.
    let end = now_ms() + 80_000;
    until("the broker is away for long", || {
        let (status, text) = run.ask("/livez?verbose");
        assert_eq!(status, 200, "{text}");
        (now_ms() > end).then_some(())
    });
    kafka.resume();
    topics::write(&*app.broker(), [notes::note(&app, &key, AT, r#"{"n": 2}"#)]);
    notes::wait_for(&mut run, &key, (2, 3));
    run.stop();
}
