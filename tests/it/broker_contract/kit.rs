//! Shorthand for the cases: topics, records, and reading with bounded patience.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tidemill::base::ids::{Offset, Partition, Topic, TopicPartition};
use tidemill::base::record::{Headers, Outgoing, Record};
use tidemill::base::time::Timestamp;
use tidemill::broker::{
    Acknowledged, Broker, Commit, CommitProgress, Consumer, ConsumerSettings, Error, Event, GroupSettings, Isolation,
    NewTopic, Producer, ProducerSettings,
};

/// For one request.
pub(crate) const WAIT: Duration = Duration::from_secs(30);
/// For one poll of many.
pub(crate) const SLICE: Duration = Duration::from_millis(200);
/// Polls before a case gives up.
pub(crate) const PATIENCE: usize = 300;

/// Tells this run's topics and groups from those of runs before on the same cluster.
pub(crate) fn run_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:08x}", RandomState::new().hash_one(0) as u32)
}

pub(crate) fn create(broker: &dyn Broker, name: &str, partitions: u32, configs: &[(&str, &str)]) -> Topic {
    let topic = Topic::new(name);
    // The records are dated 2013: a topic that forgets by age would forget them at once.
    let configs: BTreeMap<String, String> = [("retention.ms", "-1")]
        .iter()
        .chain(configs)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let new = NewTopic { topic: topic.clone(), partitions, replication_factor: None, configs };
    broker.admin().unwrap().create(&new, WAIT).unwrap();
    topic
}

pub(crate) fn transactional(broker: &dyn Broker, id: &str) -> Box<dyn Producer> {
    let settings = ProducerSettings {
        transactional_id: Some(id.to_owned()),
        transaction_timeout: Some(Duration::from_secs(60)),
        ..ProducerSettings::default()
    };
    let mut producer = broker.producer(&settings).unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer
}

pub(crate) fn plain(broker: &dyn Broker) -> Box<dyn Producer> {
    broker.producer(&ProducerSettings::default()).unwrap()
}

pub(crate) fn record(topic: &Topic, partition: i32, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.clone(),
        partition: Partition(partition),
        timestamp: Timestamp(1_372_636_800_000),
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from(value.to_owned())),
        headers: Headers::default(),
    }
}

/// Sends all of them, however often the client's queue is full.
pub(crate) fn try_send(producer: &mut dyn Producer, records: impl IntoIterator<Item = Outgoing>) -> Result<(), Error> {
    let mut records: VecDeque<Outgoing> = records.into_iter().collect();
    for _ in 0..PATIENCE * 1000 {
        if records.is_empty() {
            return Ok(());
        }
        producer.send(&mut records)?;
    }
    panic!("the producer's queue stays full");
}

pub(crate) fn send(producer: &mut dyn Producer, records: impl IntoIterator<Item = Outgoing>) {
    try_send(producer, records).unwrap();
}

pub(crate) fn commit(producer: &mut dyn Producer, commit: Commit) -> Result<Acknowledged, Error> {
    producer.commit(commit);
    for _ in 0..PATIENCE {
        match producer.poll_commit(SLICE) {
            CommitProgress::Pending => {}
            CommitProgress::Idle => panic!("a commit was started, and its end was not said"),
            CommitProgress::Finished(outcome) => return outcome,
        }
    }
    panic!("the commit does not end");
}

pub(crate) fn consumer(broker: &dyn Broker, isolation: Isolation) -> Box<dyn Consumer> {
    broker
        .consumer(&ConsumerSettings { group: None, isolation, prefetch_bytes_max: 1024 * 1024, end_wait: None })
        .unwrap()
}

pub(crate) fn member(broker: &dyn Broker, group_id: &str, instance_id: Option<&str>) -> Box<dyn Consumer> {
    let group = GroupSettings {
        group_id: group_id.to_owned(),
        instance_id: instance_id.map(str::to_owned),
        session_timeout: Duration::from_secs(10),
    };
    let (group, isolation) = (Some(group), Isolation::ReadCommitted);
    broker.consumer(&ConsumerSettings { group, isolation, prefetch_bytes_max: 1024 * 1024, end_wait: None }).unwrap()
}

pub(crate) fn place(topic: &Topic, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

pub(crate) fn value(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

/// Reads a partition from `start` until nothing more is shown and the end is `high`; returns the records.
pub(crate) fn read_all(broker: &dyn Broker, isolation: Isolation, partition: &TopicPartition) -> Vec<Record> {
    let mut consumer = consumer(broker, isolation);
    let marks = consumer.watermarks(partition, WAIT).unwrap();
    consumer.assign(&[(partition.clone(), marks.low)]).unwrap();
    read_to(&mut *consumer, marks.high)
}

pub(crate) fn read_values(broker: &dyn Broker, isolation: Isolation, partition: &TopicPartition) -> Vec<String> {
    read_all(broker, isolation, partition).iter().map(value).collect()
}

/// Reads a consumer of one partition until its end is said at `end` or beyond.
pub(crate) fn read_to(consumer: &mut dyn Consumer, end: Offset) -> Vec<Record> {
    let mut records = Vec::new();
    poll_until(consumer, |event| match event {
        Event::Records(fetched) => {
            records.extend(fetched.records);
            false
        }
        Event::EndOfPartition { position, .. } => position >= end,
        Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => panic!("a consumer without a group got {event:?}"),
    });
    records
}

/// Polls until `handle` says that it has seen enough.
pub(crate) fn poll_until(consumer: &mut dyn Consumer, mut handle: impl FnMut(Event) -> bool) {
    let mut events = Vec::new();
    for _ in 0..PATIENCE {
        consumer.poll(SLICE, &mut events).unwrap();
        let mut enough = false;
        for event in events.drain(..) {
            enough |= handle(event);
        }
        if enough {
            return;
        }
    }
    panic!("what was waited for does not come");
}

/// Polls until the error comes.
pub(crate) fn poll_error(consumer: &mut dyn Consumer) -> Error {
    let mut events = Vec::new();
    for _ in 0..PATIENCE {
        if let Err(error) = consumer.poll(SLICE, &mut events) {
            return error;
        }
    }
    panic!("no error comes, but {events:?}");
}

/// Polls a member until it is given partitions (an empty assignment does not count) and answers with `positions`.
pub(crate) fn join(consumer: &mut dyn Consumer, topics: &[Topic], from: Offset) -> Vec<TopicPartition> {
    consumer.subscribe(topics).unwrap();
    let mut assigned = Vec::new();
    poll_until(consumer, |event| {
        if let Event::Assigned(partitions) = event {
            assigned = partitions;
        }
        !assigned.is_empty()
    });
    let positions: Vec<_> = assigned.iter().map(|partition| (partition.clone(), from)).collect();
    consumer.assign(&positions).unwrap();
    assigned
}

/// Waits until a partition ends at `high`: a transaction's markers are written after its commit has been answered.
pub(crate) fn wait_for_high(consumer: &mut dyn Consumer, partition: &TopicPartition, high: Offset) {
    let tries = 500;
    for _ in 0..tries {
        if consumer.watermarks(partition, WAIT).unwrap().high == high {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!(consumer.watermarks(partition, WAIT).unwrap().high, high);
}
