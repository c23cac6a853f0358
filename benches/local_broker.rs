//! How many records per second the local broker takes and gives, in memory and on disk.
//!
//! `cargo bench --profile dev --bench local_broker`: the dev profile is optimized, and everything else is built with it.

#![expect(clippy::print_stdout, reason = "the figures are the point")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidemill::base::ids::{Offset, Partition, Topic, TopicPartition};
use tidemill::base::record::{Headers, Outgoing};
use tidemill::base::time::Timestamp;
use tidemill::broker::local::LocalBroker;
use tidemill::broker::{
    Broker, Commit, CommitProgress, ConsumerSettings, Event, Isolation, NewTopic, ProducerSettings,
};

const RECORDS: usize = 2_000_000;
const BATCH: usize = 500;
const COMMIT_EVERY_BATCHES: usize = 20;
const PARTITIONS: usize = 4;
const WAIT: Duration = Duration::from_secs(5);

fn main() {
    run("memory, transactions", &LocalBroker::in_memory(), Mode::Transactions);
    run("memory, no transactions", &LocalBroker::in_memory(), Mode::Plain);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = |name: &str| LocalBroker::open(&directory.path().join(name)).expect("the broker opens");
    run("disk, transactions", &open("transactions"), Mode::Transactions);
    run("disk, no transactions", &open("plain"), Mode::Plain);
    let started = Instant::now();
    let _reopened = open("transactions");
    println!("{:<26}{:>8.2} s", "disk, opened again", started.elapsed().as_secs_f64());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Transactions,
    Plain,
}

fn run(name: &str, broker: &dyn Broker, mode: Mode) {
    let topic = Topic::from("bench");
    let new = NewTopic {
        topic: topic.clone(),
        partitions: PARTITIONS as u32,
        replication_factor: None,
        configs: BTreeMap::new(),
    };
    broker.admin().and_then(|mut admin| admin.create(&new, WAIT)).expect("the topic is created");
    let sent = append(broker, &topic, mode);
    let read = consume(broker, &topic);
    println!(
        "{name:<26}{:>8.2} M records/s appended{:>8.2} M records/s consumed",
        RECORDS as f64 / sent.as_secs_f64() / 1e6,
        RECORDS as f64 / read.as_secs_f64() / 1e6,
    );
}

/// Returns the time spent in the broker; making the records is not counted.
fn append(broker: &dyn Broker, topic: &Topic, mode: Mode) -> Duration {
    let transactional_id = (mode == Mode::Transactions).then(|| "bench".to_owned());
    let settings = ProducerSettings { transactional_id, transaction_timeout: None, ..ProducerSettings::default() };
    let mut producer = broker.producer(&settings).expect("a producer");
    if mode == Mode::Transactions {
        producer.init_transactions(WAIT).expect("the session opens");
    }
    let mut spent = Duration::ZERO;
    let value = Bytes::from(vec![7; 80]);
    for batch in 0..RECORDS / BATCH {
        let mut records: VecDeque<Outgoing> = (0..BATCH)
            .map(|index| Outgoing {
                topic: topic.clone(),
                partition: Partition((index % PARTITIONS) as i32),
                timestamp: Timestamp((batch * BATCH + index) as i64),
                key: Some(Bytes::from(((batch * BATCH + index) as u64).to_le_bytes().to_vec())),
                value: Some(value.clone()),
                headers: Headers::default(),
            })
            .collect();
        let started = Instant::now();
        if mode == Mode::Transactions && batch % COMMIT_EVERY_BATCHES == 0 {
            producer.begin().expect("a transaction begins");
        }
        producer.send(&mut records).expect("the records are taken");
        if batch % COMMIT_EVERY_BATCHES == COMMIT_EVERY_BATCHES - 1 {
            producer.commit(Commit::default());
            assert!(matches!(producer.poll_commit(WAIT), CommitProgress::Finished(Ok(_))), "the commit finishes");
        }
        spent += started.elapsed();
    }
    spent
}

fn consume(broker: &dyn Broker, topic: &Topic) -> Duration {
    let settings = ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 64 * 1024 * 1024,
        end_wait: None,
    };
    let mut consumer = broker.consumer(&settings).expect("a consumer");
    let places: Vec<_> = (0..PARTITIONS as i32).map(|p| (TopicPartition::new(topic.clone(), p), Offset(0))).collect();
    consumer.assign(&places).expect("the partitions are assigned");
    let (started, mut seen, mut events) = (Instant::now(), 0, Vec::new());
    while seen < RECORDS {
        consumer.poll(WAIT, &mut events).expect("records come");
        for event in events.drain(..) {
            if let Event::Records(fetched) = event {
                seen += fetched.records.len();
            }
        }
    }
    started.elapsed()
}
