//! What the contract does not ask of every broker, on a real Apache Kafka: both group protocols, a rebalance answered long after
//! it was handed out, pausing at the end of a partition, ids of topics, seeks out of range.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests; waits on real servers are bounded"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tidemill::base::ids::{Offset, Partition, Topic, TopicPartition};
use tidemill::base::record::{Header, Headers, Outgoing, Record, Written};
use tidemill::base::time::Timestamp;
use tidemill::broker::kafka::{KafkaBroker, KafkaSettings};
use tidemill::broker::{
    Admin, Broker, Commit, CommitProgress, Consumer, ConsumerSettings, Error, Event, GroupSettings, Isolation, Leave,
    NewTopic, Producer, ProducerSettings, Watermarks,
};

use crate::support::topics;

const WAIT: Duration = Duration::from_secs(20);

fn broker_with(properties: &[(&str, &str)]) -> KafkaBroker {
    let bootstrap_servers = std::env::var("TIDEMILL_TEST_KAFKA")
        .expect("TIDEMILL_TEST_KAFKA=host:port names a real Kafka: run `make test`");
    KafkaBroker::new(KafkaSettings {
        bootstrap_servers,
        properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        client_id: "tidemill-test".into(),
    })
    .unwrap()
}

fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

fn topic(admin: &mut dyn Admin, name: &str, partitions: u32) -> Topic {
    let topic = Topic::new(unique(name));
    let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    admin.create(&NewTopic { topic: topic.clone(), partitions, replication_factor: None, configs }, WAIT).unwrap();
    topic
}

fn record(topic: &Topic, partition: i32, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition: Partition(partition),
        timestamp: Timestamp(1_372_680_000_000),
        key: None,
        value: Some(value.to_owned().into()),
        headers: Headers::default(),
    }
}

fn write(broker: &KafkaBroker, topic: &Topic, partition: i32, values: &[&str]) {
    let mut producer = broker.producer(&ProducerSettings::default()).unwrap();
    let mut records: VecDeque<_> = values.iter().map(|value| record(topic, partition, value)).collect();
    while !records.is_empty() {
        producer.send(&mut records).unwrap();
    }
    producer.commit(Commit::default());
    finish(&mut *producer).unwrap();
}

fn finish(producer: &mut dyn Producer) -> Result<Vec<Written>, Error> {
    let end = Instant::now() + WAIT;
    loop {
        match producer.poll_commit(Duration::from_millis(200)) {
            CommitProgress::Finished(outcome) => return outcome.map(|acknowledged| acknowledged.written),
            CommitProgress::Pending => assert!(Instant::now() < end, "the commit does not end"),
            CommitProgress::Idle => panic!("no commit was started"),
        }
    }
}

fn by_hand(broker: &KafkaBroker) -> Box<dyn Consumer> {
    let settings = ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 1 << 20,
        end_wait: None,
    };
    broker.consumer(&settings).unwrap()
}

fn member(broker: &KafkaBroker, group: &str, instance: Option<&str>) -> Box<dyn Consumer> {
    let settings = ConsumerSettings {
        group: Some(GroupSettings {
            group_id: group.into(),
            instance_id: instance.map(Into::into),
            session_timeout: Duration::from_secs(6),
        }),
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 1 << 20,
        end_wait: None,
    };
    broker.consumer(&settings).unwrap()
}

/// Polls until `enough` says so of everything that came.
fn collect(consumer: &mut dyn Consumer, mut enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let (mut events, end) = (Vec::new(), Instant::now() + WAIT);
    while !enough(&events) {
        assert!(Instant::now() < end, "only these came: {events:?}");
        consumer.poll(Duration::from_millis(100), &mut events).unwrap();
    }
    events
}

fn values(events: &[Event]) -> Vec<String> {
    let records = events.iter().filter_map(|event| if let Event::Records(f) = event { Some(&f.records) } else { None });
    records.flatten().map(text).collect()
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

fn is_end(event: &Event) -> bool {
    matches!(event, Event::EndOfPartition { .. })
}

#[test]
fn pausing_at_the_end_of_a_partition_skips_nothing() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "pause", 1);
    let partition = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    write(&broker, &topic, 0, &["a", "b"]);
    let mut consumer = by_hand(&broker);
    consumer.assign(&[(partition.clone(), Offset(0))]).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    assert_eq!(values(&events), ["a", "b"]);
    consumer.pause(std::slice::from_ref(&partition)).unwrap();
    write(&broker, &topic, 0, &["c", "d"]);
    let mut quiet = Vec::new();
    for _ in 0..10 {
        consumer.poll(Duration::from_millis(50), &mut quiet).unwrap();
    }
    assert_eq!(values(&quiet), Vec::<String>::new());
    consumer.resume(std::slice::from_ref(&partition)).unwrap();
    let events = collect(&mut *consumer, |events| values(events).len() >= 2);
    assert_eq!(values(&events), ["c", "d"]);
    consumer.close(Leave::Keep);
}

#[test]
fn a_seek_drops_what_was_fetched() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "seek", 1);
    let partition = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    write(&broker, &topic, 0, &["a", "b", "c", "d"]);
    let mut consumer = by_hand(&broker);
    consumer.assign(&[(partition.clone(), Offset(1))]).unwrap();
    consumer.seek(&partition, Offset(3)).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    assert_eq!(values(&events), ["d"]);
    consumer.seek(&partition, Offset(0)).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    assert_eq!(values(&events), ["a", "b", "c", "d"]);
}

#[test]
fn an_offset_out_of_range_is_said_and_a_seek_goes_on() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "range", 1);
    let partition = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    write(&broker, &topic, 0, &["a", "b"]);
    let mut consumer = by_hand(&broker);
    consumer.assign(&[(partition.clone(), Offset(99))]).unwrap();
    let end = Instant::now() + WAIT;
    let error = loop {
        assert!(Instant::now() < end, "no error came");
        if let Err(error) = consumer.poll(Duration::from_millis(100), &mut Vec::new()) {
            break error;
        }
    };
    let Error::OffsetOutOfRange { partition: found, offset } = error else { panic!("{error}") };
    assert_eq!((&found, offset), (&partition, Offset(99)));
    consumer.seek(&partition, Offset(1)).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    assert_eq!(values(&events), ["b"]);
}

#[test]
fn a_topic_made_anew_has_another_id() {
    let broker = broker_with(&[]);
    let mut admin = broker.admin().unwrap();
    let topic = topic(&mut *admin, "anew", 2);
    let first = admin.describe(std::slice::from_ref(&topic), WAIT).unwrap().remove(0).unwrap();
    assert_eq!(first.partitions, 2);
    assert_eq!(first.configs.get("retention.ms").map(String::as_str), Some("-1"));
    assert!(first.id.is_some());
    admin.delete(&topic, WAIT).unwrap();
    assert_eq!(admin.describe(std::slice::from_ref(&topic), WAIT).unwrap(), [None]);
    let again = NewTopic { topic: topic.clone(), partitions: 2, replication_factor: None, configs: BTreeMap::new() };
    admin.create(&again, WAIT).unwrap();
    let second = admin.describe(&[topic], WAIT).unwrap().remove(0).unwrap();
    assert_ne!(first.id, second.id);
}

#[test]
fn keys_values_and_headers_come_back_as_they_were() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "bytes", 1);
    let headers = Headers::new(vec![
        Header { name: "a".into(), value: Some("1".into()) },
        Header { name: "a".into(), value: None },
        Header { name: "b".into(), value: Some("".into()) },
    ]);
    let plain = record(&topic, 0, "v");
    let sent = [
        Outgoing { key: Some("".into()), value: None, ..plain.clone() },
        Outgoing { key: None, value: Some("".into()), ..plain.clone() },
        Outgoing { key: Some("k".into()), headers, timestamp: Timestamp(7), ..plain },
    ];
    let mut producer = broker.producer(&ProducerSettings::default()).unwrap();
    for (at, outgoing) in sent.iter().enumerate() {
        assert_eq!(producer.send_and_wait(outgoing.clone(), WAIT).unwrap(), Offset(at as i64));
    }
    let mut consumer = by_hand(&broker);
    consumer.assign(&[(TopicPartition { topic, partition: Partition(0) }, Offset(0))]).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    let mut read = Vec::new();
    for event in events {
        if let Event::Records(fetched) = event {
            read.extend(fetched.records);
        }
    }
    assert_eq!(read.len(), sent.len());
    for (record, sent) in read.iter().zip(&sent) {
        assert_eq!((&record.key, &record.value), (&sent.key, &sent.value));
        assert_eq!((&record.headers, record.timestamp), (&sent.headers, sent.timestamp));
    }
}

/// Answers whatever the group says, and returns the records that came; `late` is how many polls an assignment is left unanswered.
struct Answering {
    consumer: Box<dyn Consumer>,
    owned: Vec<TopicPartition>,
    offered: Option<Vec<TopicPartition>>,
    late: u32,
    read: Vec<(TopicPartition, Offset)>,
    rebalances: usize,
}

impl Answering {
    fn new(mut consumer: Box<dyn Consumer>, topics: &[Topic]) -> Self {
        consumer.subscribe(topics).unwrap();
        Self { consumer, owned: Vec::new(), offered: None, late: 0, read: Vec::new(), rebalances: 0 }
    }

    fn turn(&mut self) {
        let mut events = Vec::new();
        self.consumer.poll(Duration::from_millis(20), &mut events).unwrap();
        self.late = self.late.saturating_sub(1);
        for event in events {
            match event {
                Event::Records(fetched) => {
                    assert!(self.owned.contains(&fetched.partition), "{} is not assigned", fetched.partition);
                    self.read.extend(fetched.records.iter().map(|r| (fetched.partition.clone(), r.offset)));
                }
                Event::EndOfPartition { .. } => {}
                Event::Assigned(partitions) => {
                    self.rebalances += 1;
                    self.late = 10;
                    self.offered = Some(partitions);
                }
                Event::Revoked(partitions) | Event::Lost(partitions) => {
                    self.owned.retain(|owned| !partitions.contains(owned));
                    self.consumer.unassign(&partitions).unwrap();
                }
            }
        }
        if self.late == 0
            && let Some(partitions) = self.offered.take()
        {
            let committed = self.consumer.committed(&partitions, WAIT).unwrap();
            let positions: Vec<_> =
                partitions.iter().cloned().zip(committed.iter().map(|c| c.unwrap_or(Offset(0)))).collect();
            self.consumer.assign(&positions).unwrap();
            self.owned.extend(partitions);
        }
    }
}

fn two_members_share_and_read_everything(properties: &[(&str, &str)], instances: [Option<&str>; 2]) {
    let broker = broker_with(properties);
    let mut admin = broker.admin().unwrap();
    let topics = [topic(&mut *admin, "left", 4), topic(&mut *admin, "right", 4)];
    let group = unique("group");
    for topic in &topics {
        for partition in 0..4 {
            write(&broker, topic, partition, &["1", "2", "3"]);
        }
    }
    let mut first = Answering::new(member(&broker, &group, instances[0]), &topics);
    let end = Instant::now() + WAIT;
    while first.read.len() < 24 {
        assert!(Instant::now() < end, "{:?} of {:?}", first.read, first.owned);
        first.turn();
    }
    let mut second = Answering::new(member(&broker, &group, instances[1]), &topics);
    let end = Instant::now() + Duration::from_secs(40);
    while first.owned.len() != 4 || second.owned.len() != 4 {
        assert!(Instant::now() < end, "{:?} and {:?}", first.owned, second.owned);
        first.turn();
        second.turn();
    }
    for owned in [&first.owned, &second.owned] {
        let numbers = |topic: &Topic| {
            let mut numbers: Vec<_> = owned.iter().filter(|p| &p.topic == topic).map(|p| p.partition).collect();
            numbers.sort();
            numbers
        };
        assert_eq!(numbers(&topics[0]), numbers(&topics[1]), "equal-numbered partitions belong together");
    }
    first.read.clear();
    second.read.clear();
    for topic in &topics {
        for partition in 0..4 {
            write(&broker, topic, partition, &["4", "5"]);
        }
    }
    let end = Instant::now() + WAIT;
    let late = |reads: &[(TopicPartition, Offset)]| reads.iter().filter(|(_, offset)| offset.0 >= 3).count();
    while late(&first.read) + late(&second.read) < 16 {
        assert!(Instant::now() < end, "{:?} and {:?}", first.read, second.read);
        first.turn();
        second.turn();
    }
    first.consumer.close(Leave::Group);
    second.consumer.close(Leave::Group);
}

#[test]
fn a_classic_group_waits_for_answers_that_come_late() {
    two_members_share_and_read_everything(&[], [None, None]);
}

#[test]
fn a_classic_group_of_static_members_shares() {
    two_members_share_and_read_everything(&[], [Some("a-0"), Some("a-1")]);
}

#[test]
fn a_group_of_the_new_protocol_waits_for_answers_that_come_late() {
    two_members_share_and_read_everything(&[("group.protocol", "consumer")], [None, None]);
}

#[test]
fn committed_waits_for_the_transaction_that_is_about_to_change_it() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "stable", 1);
    let partition = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    write(&broker, &topic, 0, &["a"]);
    let group = unique("group");
    let mut consumer = Answering::new(member(&broker, &group, Some("s-0")), std::slice::from_ref(&topic));
    while consumer.owned.is_empty() {
        consumer.turn();
    }
    let settings = ProducerSettings {
        transactional_id: Some(unique("tx")),
        transaction_timeout: Some(WAIT),
        ..ProducerSettings::default()
    };
    let mut producer = broker.producer(&settings).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin().unwrap();
    producer.send(&mut VecDeque::from([record(&topic, 0, "b")])).unwrap();
    let group_metadata = consumer.consumer.group_metadata();
    producer.commit(Commit { offsets: vec![(partition.clone(), Offset(1))], group: group_metadata });
    let last = finish(&mut *producer).unwrap();
    assert_eq!(last, [Written { partition: partition.clone(), last: Offset(1), records: 1 }]);
    let committed = consumer.consumer.committed(std::slice::from_ref(&partition), WAIT).unwrap();
    assert_eq!(committed, [Some(Offset(1))]);
    // The broker answers for a commit before it has written the markers.
    let end = Instant::now() + WAIT;
    while consumer.consumer.watermarks(&partition, WAIT).unwrap().high != Offset(3) {
        assert!(Instant::now() < end, "the marker counts");
    }
}

#[test]
fn watermarks_do_not_stop_at_an_open_transaction() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "open", 1);
    let partition = TopicPartition { topic: topic.clone(), partition: Partition(0) };
    let settings = ProducerSettings {
        transactional_id: Some(unique("tx")),
        transaction_timeout: Some(WAIT),
        ..ProducerSettings::default()
    };
    let mut producer = broker.producer(&settings).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin().unwrap();
    producer.send(&mut VecDeque::from([record(&topic, 0, "a"), record(&topic, 0, "b")])).unwrap();
    let mut consumer = by_hand(&broker);
    let end = Instant::now() + WAIT;
    while consumer.watermarks(&partition, WAIT).unwrap().high != Offset(2) {
        assert!(Instant::now() < end, "the open transaction's records do not count");
    }
    consumer.assign(&[(partition.clone(), Offset(0))]).unwrap();
    let events = collect(&mut *consumer, |events| events.iter().any(is_end));
    assert_eq!(events, [Event::EndOfPartition { partition, position: Offset(0) }]);
    producer.abort(WAIT).unwrap();
}

#[test]
fn a_second_producer_of_an_id_fences_the_first() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "fence", 1);
    let settings = ProducerSettings {
        transactional_id: Some(unique("tx")),
        transaction_timeout: Some(WAIT),
        ..ProducerSettings::default()
    };
    let mut first = broker.producer(&settings).unwrap();
    first.init_transactions(WAIT).unwrap();
    first.begin().unwrap();
    first.send(&mut VecDeque::from([record(&topic, 0, "a")])).unwrap();
    let mut second = broker.producer(&settings).unwrap();
    second.init_transactions(WAIT).unwrap();
    first.commit(Commit::default());
    let error = finish(&mut *first).unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
}

#[test]
fn a_record_above_what_its_topic_takes_is_refused_and_stays_in_front() {
    let broker = broker_with(&[]);
    let topic = Topic::new(unique("small"));
    let configs = BTreeMap::from([("max.message.bytes".to_owned(), "2000".to_owned())]);
    let new = NewTopic { topic: topic.clone(), partitions: 1, replication_factor: None, configs };
    broker.admin().unwrap().create(&new, WAIT).unwrap();
    let mut producer = broker.producer(&ProducerSettings::default()).unwrap();
    let mut records: VecDeque<_> = (0..20).map(|_| record(&topic, 0, &"x".repeat(500))).collect();
    records.push_back(record(&topic, 0, &"y".repeat(3000)));
    let error = producer.send(&mut records).unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { size_bytes: 3000, .. }), "{error:?}");
    assert_eq!(records.len(), 1);
    producer.commit(Commit::default());
    let last = finish(&mut *producer).unwrap();
    let partition = TopicPartition { topic, partition: Partition(0) };
    assert_eq!(last, [Written { partition, last: Offset(19), records: 20 }]);
}

#[test]
fn a_static_member_that_comes_back_fences_the_one_before_and_closing_waits_for_nobody() {
    let broker = broker_with(&[]);
    let topic = topic(&mut *broker.admin().unwrap(), "static", 2);
    let group = unique("group");
    let topics = std::slice::from_ref(&topic);
    let mut old = Answering::new(member(&broker, &group, Some("pod-0")), topics);
    while old.owned.len() < 2 {
        old.turn();
    }
    let mut new = Answering::new(member(&broker, &group, Some("pod-0")), topics);
    let end = Instant::now() + WAIT;
    while new.owned.len() < 2 {
        assert!(Instant::now() < end, "the seat is not given to the one that came back");
        new.turn();
    }
    let error = loop {
        assert!(Instant::now() < end, "the old one is not told");
        if let Err(error) = old.consumer.poll(Duration::from_millis(100), &mut Vec::new()) {
            break error;
        }
    };
    assert!(matches!(error, Error::Fenced { .. }), "{error:?}");
    let refused = old.consumer.commit(&[(TopicPartition { topic, partition: Partition(0) }, Offset(0))], WAIT);
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    // With a revocation that was handed out and never answered, too.
    let unanswered = member(&broker, &group, Some("pod-1"));
    let mut unanswered = Answering::new(unanswered, &[Topic::new("no-such-topic")]);
    let begun = Instant::now();
    drop(unanswered.consumer.poll(Duration::from_millis(200), &mut Vec::new()));
    unanswered.consumer.close(Leave::Group);
    old.consumer.close(Leave::Keep);
    new.consumer.close(Leave::Keep);
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let broker = broker_with(&[]);
    let missing = Topic::new(unique("missing"));
    let partition = TopicPartition { topic: missing.clone(), partition: Partition(0) };
    let first_error = |consumer: &mut dyn Consumer| {
        let end = Instant::now() + WAIT;
        loop {
            assert!(Instant::now() < end, "no error came");
            if let Err(error) = consumer.poll(Duration::from_millis(100), &mut Vec::new()) {
                return error;
            }
        }
    };
    let mut grouped = member(&broker, &unique("group"), None);
    grouped.subscribe(std::slice::from_ref(&missing)).unwrap();
    let mut alone = by_hand(&broker);
    alone.assign(&[(partition.clone(), Offset(0))]).unwrap();
    for error in [first_error(&mut *grouped), first_error(&mut *alone)] {
        assert!(matches!(&error, Error::UnknownTopic { topic } if topic == &missing), "{error:?}");
    }
    let ends = alone.watermarks(&partition, Duration::from_secs(3));
    assert!(matches!(ends, Err(Error::UnknownTopic { .. })), "{ends:?}");
    let mut producer = broker.producer(&ProducerSettings::default()).unwrap();
    let written = producer.send_and_wait(record(&missing, 0, "a"), WAIT);
    assert!(matches!(written, Err(Error::UnknownTopic { .. } | Error::Unavailable { .. })), "{written:?}");
}

#[test]
fn a_topic_that_its_broker_does_not_know_yet_is_asked_for_again() {
    let broker = broker_with(&[]);
    let known = topic(&mut *broker.admin().unwrap(), "known", 1);
    let (known, late) = (TopicPartition::new(known.as_str(), 0), TopicPartition::new(unique("late").as_str(), 0));
    let none = Watermarks { low: Offset(0), high: Offset(0) };
    assert_eq!(by_hand(&broker).watermarks(&known, WAIT).unwrap(), none);
    let ends = std::thread::scope(|scope| {
        let asked = scope.spawn(|| by_hand(&broker).watermarks(&late, WAIT));
        std::thread::park_timeout(Duration::from_secs(1));
        topics::create(&broker, late.topic.as_str(), 1, &[]);
        asked.join().unwrap()
    });
    assert_eq!(ends.unwrap(), none);
}
