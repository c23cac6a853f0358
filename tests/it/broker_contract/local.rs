//! What only the local broker can be asked: its files, its end at any moment, and what follows from having no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill::base::ids::{Offset, Topic};
use tidemill::base::record::Outgoing;
use tidemill::base::rng::Rng;
use tidemill::broker::local::{DiskOptions, Durability, Faults, LocalBroker, Step};
use tidemill::broker::{Broker, Commit, CommitProgress, Consumer, Error, Event, Isolation, ProducerSettings};

use super::kit::*;

const NOW: Duration = Duration::ZERO;
const CRASH_DIRECTORY: &str = "TIDEMILL_TEST_CRASH_DIRECTORY";
const CRASH_FIRST: &str = "TIDEMILL_TEST_CRASH_FIRST";

/// Everything that `poll` has at once.
fn poll(consumer: &mut dyn Consumer) -> Vec<Event> {
    let mut events = Vec::new();
    consumer.poll(NOW, &mut events).unwrap();
    events
}

fn assigned(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| if let Event::Assigned(partitions) = event { Some(partitions) } else { None })
        .flatten()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn committed_offsets_wait_for_the_transaction_that_changes_them() {
    let broker = LocalBroker::in_memory();
    let topic = create(&broker, "in", 1, &[]);
    let mut reader = member(&broker, "g", None);
    join(&mut *reader, std::slice::from_ref(&topic), Offset(0));
    let mut producer = transactional(&broker, "t");
    producer.begin().unwrap();
    let offsets = vec![(place(&topic, 0), Offset(1))];
    producer.commit(Commit { offsets, group: reader.group_metadata() });
    let partition = [place(&topic, 0)];
    assert!(matches!(reader.committed(&partition, NOW), Err(Error::Unavailable { .. })));
    assert!(matches!(producer.poll_commit(NOW), CommitProgress::Finished(Ok(_))));
    assert!(matches!(producer.poll_commit(NOW), CommitProgress::Idle));
    assert_eq!(reader.committed(&partition, NOW).unwrap(), [Some(Offset(1))]);
}

#[test]
fn topic_created_after_the_subscription_is_assigned() {
    let broker = LocalBroker::in_memory();
    let mut reader = member(&broker, "g", None);
    reader.subscribe(&[Topic::from("late")]).unwrap();
    assert_eq!(poll(&mut *reader), [Event::Assigned(Vec::new())]);
    let topic = create(&broker, "late", 2, &[]);
    assert_eq!(assigned(&poll(&mut *reader)), ["late-0", "late-1"]);
    let places = [(place(&topic, 0), Offset(0)), (place(&topic, 1), Offset(0))];
    reader.assign(&places).unwrap();
    broker.admin().unwrap().delete(&topic, WAIT).unwrap();
    let revoked = poll(&mut *reader);
    assert!(matches!(&revoked[..], [Event::Revoked(partitions)] if partitions.len() == 2), "{revoked:?}");
    reader.unassign(&[place(&topic, 0), place(&topic, 1)]).unwrap();
    assert_eq!(poll(&mut *reader), [Event::Assigned(Vec::new())]);
}

#[test]
fn dropped_consumer_leaves_and_dropped_producer_aborts() {
    let broker = LocalBroker::in_memory();
    let topic = create(&broker, "t", 1, &[]);
    let (mut first, mut second) = (member(&broker, "g", None), member(&broker, "g", None));
    assert_eq!(join(&mut *first, std::slice::from_ref(&topic), Offset(0)).len(), 1);
    second.subscribe(std::slice::from_ref(&topic)).unwrap();
    assert_eq!(poll(&mut *second), []);
    drop(first);
    assert_eq!(assigned(&poll(&mut *second)), ["t-0"]);
    let mut producer = transactional(&broker, "p");
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "never")]);
    drop(producer);
    assert_eq!(read_values(&broker, Isolation::ReadCommitted, &place(&topic, 0)), [""; 0]);
    assert_eq!(read_values(&broker, Isolation::ReadUncommitted, &place(&topic, 0)), ["never"]);
}

#[test]
fn static_member_that_comes_back_fences_the_one_before() {
    let broker = LocalBroker::in_memory();
    let topic = create(&broker, "t", 2, &[]);
    let mut old = member(&broker, "g", Some("pod-0"));
    join(&mut *old, std::slice::from_ref(&topic), Offset(0));
    let mut new = member(&broker, "g", Some("pod-0"));
    new.subscribe(std::slice::from_ref(&topic)).unwrap();
    assert_eq!(assigned(&poll(&mut *new)), ["t-0", "t-1"]);
    assert!(matches!(old.poll(NOW, &mut Vec::new()), Err(Error::Fenced { .. })));
    assert!(matches!(old.commit(&[(place(&topic, 0), Offset(1))], WAIT), Err(Error::Fenced { .. })));
}

#[test]
fn a_thread_that_waits_wakes_when_a_record_comes() {
    let broker = LocalBroker::in_memory();
    let topic = create(&broker, "t", 1, &[]);
    let mut reader = consumer(&broker, Isolation::ReadCommitted);
    reader.assign(&[(place(&topic, 0), Offset(0))]).unwrap();
    assert!(matches!(poll(&mut *reader)[..], [Event::EndOfPartition { .. }]));
    let waiting = std::thread::spawn(move || {
        let mut events = Vec::new();
        reader.poll(WAIT, &mut events).unwrap();
        events
    });
    plain(&broker).send_and_wait(record(&topic, 0, "a"), WAIT).unwrap();
    let events = waiting.join().unwrap();
    assert!(matches!(&events[..], [Event::Records(fetched)] if fetched.records.len() == 1), "{events:?}");
}

#[derive(Debug)]
struct FailOnce(Step, std::sync::atomic::AtomicBool);

impl Faults for FailOnce {
    fn strike(&self, step: Step) -> Option<Error> {
        let strikes = step == self.0 && !self.1.swap(true, std::sync::atomic::Ordering::SeqCst);
        strikes.then(|| Error::OutcomeUnknown { message: "the simulation said so".to_owned() })
    }
}

#[test]
fn faults_strike_before_or_after_the_commit_is_decided() {
    for (step, expected) in [(Step::Commit, vec![]), (Step::Acknowledge, vec!["a"])] {
        let broker = LocalBroker::in_memory_with_faults(Arc::new(FailOnce(step, false.into())));
        let topic = create(&broker, "t", 1, &[]);
        let mut producer = transactional(&broker, "p");
        producer.begin().unwrap();
        send(&mut *producer, [record(&topic, 0, "a")]);
        let outcome = commit(&mut *producer, Commit::default());
        assert!(matches!(outcome, Err(Error::OutcomeUnknown { .. })), "{outcome:?}");
        producer.init_transactions(WAIT).unwrap();
        assert_eq!(read_values(&broker, Isolation::ReadCommitted, &place(&topic, 0)), expected, "{step:?}");
    }
}

#[test]
fn a_directory_is_open_once_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(directory.path()).unwrap();
    let refused = LocalBroker::open(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    drop(broker);
    LocalBroker::open(directory.path()).unwrap();
}

#[test]
fn everything_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = DiskOptions { durability: Durability::Disk, ..DiskOptions::default() };
    let broker = LocalBroker::open_with(directory.path(), options).unwrap();
    let topic = create(&broker, "t", 2, &[("max.message.bytes", "5000")]);
    let gone = create(&broker, "gone", 1, &[]);
    plain(&broker).send_and_wait(record(&gone, 0, "gone"), WAIT).unwrap();
    let mut producer = transactional(&broker, "p");
    for n in 0..20 {
        producer.begin().unwrap();
        send(&mut *producer, (0..50).map(|m| record(&topic, m % 2, &format!("{n}:{m}"))));
        if n % 3 == 0 {
            producer.abort(WAIT).unwrap();
        } else {
            let reader = member(&broker, "g", None);
            let offsets = vec![(place(&topic, 0), Offset(n)), (place(&gone, 0), Offset(1))];
            commit(&mut *producer, Commit { offsets, group: reader.group_metadata() }).unwrap();
        }
    }
    broker.admin().unwrap().delete(&gone, WAIT).unwrap();
    broker.admin().unwrap().add_partitions(&topic, 3, WAIT).unwrap();
    plain(&broker).send_and_wait(record(&topic, 2, "added"), WAIT).unwrap();
    broker.admin().unwrap().delete_records(&[(place(&topic, 1), Offset(30))], WAIT).unwrap();
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "open")]);
    let facts = |broker: &LocalBroker| {
        let mut reader = member(broker, "g", None);
        let committed = reader.committed(&[place(&topic, 0), place(&gone, 0)], WAIT).unwrap();
        let low = reader.watermarks(&place(&topic, 1), WAIT).unwrap().low;
        let described = broker.admin().unwrap().describe(std::slice::from_ref(&topic), WAIT).unwrap();
        (committed, low, described, broker.admin().unwrap().list(WAIT).unwrap())
    };
    let records = |broker: &LocalBroker, isolation| -> Vec<_> {
        (0..3).map(|partition| read_all(broker, isolation, &place(&topic, partition))).collect()
    };
    let before = facts(&broker);
    assert_eq!(before.0, [Some(Offset(19)), None]);
    drop(producer);
    let shown = records(&broker, Isolation::ReadCommitted);
    drop(broker);
    for _ in 0..2 {
        let broker = LocalBroker::open_with(directory.path(), options).unwrap();
        assert_eq!(facts(&broker), before);
        assert_eq!(records(&broker, Isolation::ReadCommitted), shown);
        assert!(records(&broker, Isolation::ReadUncommitted)[0].len() > shown[0].len());
    }
}

#[test]
fn records_beyond_what_memory_keeps_are_read_from_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(directory.path()).unwrap();
    let topic = create(&broker, "t", 1, &[]);
    let mut rng = Rng::new(7);
    let filler = "x".repeat(900);
    let mut expected = Vec::new();
    let mut producer = transactional(&broker, "p");
    for n in 0..400 {
        producer.begin().unwrap();
        let count = 1 + rng.below(40);
        let values: Vec<String> = (0..count).map(|m| format!("{n}:{m}:{filler}")).collect();
        send(&mut *producer, values.iter().map(|value| record(&topic, 0, value)));
        if rng.chance(1, 5) {
            producer.abort(WAIT).unwrap();
        } else {
            commit(&mut *producer, Commit::default()).unwrap();
            expected.extend(values);
        }
    }
    let read = read_all(&broker, Isolation::ReadCommitted, &place(&topic, 0));
    assert!(read.iter().map(value).eq(expected.iter().cloned()), "in order, complete, without aborted ones");
    for _ in 0..50 {
        let index = rng.below(read.len() as u64) as usize;
        let mut reader = consumer(&broker, Isolation::ReadCommitted);
        reader.assign(&[(place(&topic, 0), read[index].offset)]).unwrap();
        let events = poll(&mut *reader);
        let Some(Event::Records(fetched)) = events.first() else { panic!("{events:?}") };
        assert_eq!(fetched.records[0], read[index]);
    }
}

#[test]
fn a_record_of_a_megabyte_is_read_back_from_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let large = Bytes::from(vec![9; 1_048_000]);
    for round in 1..=3 {
        let broker = LocalBroker::open(directory.path()).unwrap();
        let topic = create(&broker, "t", 1, &[]);
        let outgoing = Outgoing { value: Some(large.clone()), ..record(&topic, 0, "") };
        plain(&broker).send_and_wait(outgoing, WAIT).unwrap();
        let read = read_all(&broker, Isolation::ReadCommitted, &place(&topic, 0));
        assert_eq!(read.len(), round);
        assert!(read.iter().all(|record| record.value.as_ref() == Some(&large)));
    }
}

/// The files of the only topic.
fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let topic = fs::read_dir(directory.join("topics")).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<PathBuf> = fs::read_dir(topic).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn compaction_keeps_the_last_committed_value_per_key_at_its_offset() {
    let directory = tempfile::tempdir().unwrap();
    let options = DiskOptions { compact_bytes_min: 0, ..DiskOptions::default() };
    let open = || LocalBroker::open_with(directory.path(), options).unwrap();
    let broker = open();
    let topic = create(&broker, "t", 1, &[("cleanup.policy", "compact"), ("delete.retention.ms", "0")]);
    let keyed = |key: u64, value: Option<String>| Outgoing {
        key: Some(Bytes::from(format!("k{key}"))),
        value: value.map(Bytes::from),
        ..record(&topic, 0, "")
    };
    let mut model: BTreeMap<u64, Option<String>> = BTreeMap::new();
    let mut rng = Rng::new(3);
    let mut producer = transactional(&broker, "p");
    for n in 0..100 {
        producer.begin().unwrap();
        let mut changes = Vec::new();
        for m in 0..10 {
            let value = (!rng.chance(1, 6)).then(|| format!("{n}:{m}"));
            changes.push((rng.below(30), value));
        }
        send(&mut *producer, changes.iter().map(|(key, value)| keyed(*key, value.clone())));
        if n % 10 == 9 {
            producer.abort(WAIT).unwrap();
        } else {
            commit(&mut *producer, Commit::default()).unwrap();
            model.extend(changes);
        }
    }
    let partition = place(&topic, 0);
    let read = |broker: &LocalBroker| read_all(broker, Isolation::ReadCommitted, &partition);
    let high = |broker: &LocalBroker| consumer(broker, Isolation::ReadCommitted).watermarks(&partition, WAIT).unwrap();
    let (before, end) = (read(&broker), high(&broker));
    drop((producer, broker));
    let broker = open();
    let once = read(&broker);
    assert_eq!(high(&broker), end, "the end stays where it was");
    assert_eq!(once.len(), model.len(), "tombstones stay the first time");
    for kept in &once {
        assert!(before.contains(kept), "as it was, at its offset");
        let key: u64 = std::str::from_utf8(&kept.key.as_ref().unwrap()[1..]).unwrap().parse().unwrap();
        assert_eq!(kept.value.as_ref().map(|_| value(kept)), model[&key]);
    }
    // Something new makes it worth compacting again; the tombstones go with it.
    let mut quick = plain(&broker);
    send(&mut *quick, (0..100).map(|_| keyed(99, Some("new".to_owned()))));
    commit(&mut *quick, Commit::default()).unwrap();
    drop((quick, broker));
    let broker = open();
    let twice = read(&broker);
    let live = once.iter().filter(|record| record.value.is_some()).count();
    assert_eq!(twice.len(), live + 1);
    assert_eq!(high(&broker).high, Offset(end.high.0 + 100));
    assert_eq!(plain(&broker).send_and_wait(keyed(1, None), WAIT).unwrap(), Offset(end.high.0 + 100));
}

#[test]
fn a_torn_end_is_cut_off_and_damage_elsewhere_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let open = || LocalBroker::open(directory.path());
    let broker = open().unwrap();
    let topic = create(&broker, "t", 1, &[]);
    for text in ["a", "b"] {
        plain(&broker).send_and_wait(record(&topic, 0, text), WAIT).unwrap();
    }
    drop(broker);
    let [segment] = &segment_files(directory.path())[..] else { panic!("one file was expected") };
    let whole = fs::read(segment).unwrap();
    for torn in [&whole[..whole.len() - 1], &whole[..whole.len() - 60]] {
        fs::write(segment, torn).unwrap();
        let broker = open().unwrap();
        assert_eq!(read_values(&broker, Isolation::ReadCommitted, &place(&topic, 0)), ["a"]);
    }
    fs::write(segment, &whole).unwrap();
    let journal = directory.path().join("journal.log");
    OpenOptions::new().append(true).open(&journal).unwrap().write_all(&[40, 0, 0, 0, 1, 2]).unwrap();
    let broker = open().unwrap();
    assert_eq!(read_values(&broker, Isolation::ReadCommitted, &place(&topic, 0)), ["a", "b"]);
    drop(broker);
    let mut damaged = whole;
    damaged[32 + 40 + 5] ^= 1;
    fs::write(segment, &damaged).unwrap();
    let error = open().unwrap_err();
    assert!(matches!(&error, Error::Storage { message } if message.contains("is damaged at byte 32")), "{error}");
}

/// Not a test: the process that the next one kills. Says what was acknowledged, one line each.
#[test]
#[ignore = "run by `nothing_acknowledged_is_lost_when_the_process_is_killed`"]
#[expect(clippy::disallowed_methods, reason = "how the parent tells its child what to do")]
fn child_that_writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CRASH_DIRECTORY) else { return };
    let first: i64 = std::env::var(CRASH_FIRST).unwrap().parse().unwrap();
    let broker = LocalBroker::open(Path::new(&directory)).unwrap();
    let [input, output, events] = ["in", "out", "events"].map(Topic::from);
    let settings = ProducerSettings {
        transactional_id: Some("crash".to_owned()),
        transaction_timeout: None,
        ..ProducerSettings::default()
    };
    let mut producer = broker.producer(&settings).unwrap();
    producer.init_transactions(WAIT).unwrap();
    let (mut quick, reader) = (plain(&broker), member(&broker, "g", None));
    let filler = "x".repeat(3000);
    let mut stdout = std::io::stdout();
    for n in first.. {
        producer.begin().unwrap();
        let tag = if n % 5 == 4 { "aborted" } else { "kept" };
        send(&mut *producer, (0..6).map(|m| record(&output, m % 2, &format!("{tag}:{n}:{m}:{filler}"))));
        if n % 5 == 4 {
            producer.abort(WAIT).unwrap();
            continue;
        }
        let offsets = vec![(place(&input, 0), Offset(n))];
        commit(&mut *producer, Commit { offsets, group: reader.group_metadata() }).unwrap();
        writeln!(stdout, "committed {n}").unwrap();
        if n % 3 == 0 {
            let offset = quick.send_and_wait(record(&events, 0, &n.to_string()), WAIT).unwrap();
            writeln!(stdout, "sent {n} {offset}").unwrap();
        }
        stdout.flush().unwrap();
    }
}

/// What a killed child had said.
#[derive(Debug, Default)]
struct Acknowledged {
    committed: BTreeSet<i64>,
    /// Number and offset.
    sent: BTreeSet<(i64, i64)>,
}

/// Runs the child and kills it once it has said `lines` lines.
fn run_and_kill(directory: &Path, first: i64, lines: u64, told: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "broker_contract::local::child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(CRASH_DIRECTORY, directory)
        .env(CRASH_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["committed", n] => {
                told.committed.insert(n.parse().unwrap());
            }
            ["sent", n, offset] => {
                told.sent.insert((n.parse().unwrap(), offset.parse().unwrap()));
            }
            _ => continue,
        }
        seen += 1;
        if seen == lines {
            // What it says until the signal arrives is read on, and counts.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= lines, "the child ended by itself");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(directory.path()).unwrap();
    create(&broker, "in", 1, &[]);
    let output = create(&broker, "out", 2, &[]);
    let events = create(&broker, "events", 1, &[]);
    drop(broker);
    let (mut rng, mut told, mut first) = (Rng::new(11), Acknowledged::default(), 0);
    let mut before: BTreeSet<i64> = BTreeSet::new();
    for round in 0..25 {
        run_and_kill(directory.path(), first, 1 + rng.below(60), &mut told);
        let broker = LocalBroker::open(directory.path()).unwrap();
        let mut parts: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for partition in 0..2 {
            for text in read_values(&broker, Isolation::ReadCommitted, &place(&output, partition)) {
                let words: Vec<&str> = text.split(':').collect();
                assert_eq!(words[0], "kept", "round {round}: nothing aborted appears");
                parts.entry(words[1].parse().unwrap()).or_default().push(words[2].parse().unwrap());
            }
        }
        for (n, parts) in &parts {
            assert_eq!(parts, &[0, 2, 4, 1, 3, 5], "round {round}: transaction {n} is whole, once");
        }
        let found: BTreeSet<i64> = parts.keys().copied().collect();
        let lost: Vec<&i64> = told.committed.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} were acknowledged");
        let unsaid: Vec<&i64> = found.difference(&told.committed).filter(|n| !before.contains(n)).collect();
        assert!(unsaid.len() <= 1, "round {round}: only the last one may have been cut off from its word: {unsaid:?}");
        let committed = member(&broker, "g", None).committed(&[place(&Topic::from("in"), 0)], WAIT).unwrap();
        assert_eq!(committed, [found.last().copied().map(Offset)], "round {round}: offsets are the last transaction's");
        let sent: BTreeSet<(i64, i64)> = read_all(&broker, Isolation::ReadCommitted, &place(&events, 0))
            .iter()
            .map(|record| (value(record).parse().unwrap(), record.offset.0))
            .collect();
        assert!(told.sent.is_subset(&sent), "round {round}: {:?}", told.sent.difference(&sent));
        first = found.last().map_or(first, |last| last + 1);
        before = found;
    }
    assert!(told.committed.len() > 200, "the child got to work: {}", told.committed.len());
}
