//! Topics as other programs see them: made, written and read through the broker seam, raw.

use std::collections::{BTreeMap, VecDeque};

use tidemill::base::ids::{Offset, Partition, Topic, TopicPartition};
use tidemill::base::record::{Headers, Outgoing, Record};
use tidemill::base::time::Timestamp;
use tidemill::broker::{
    Broker, Commit, CommitProgress, ConsumerSettings, Event, Isolation, Leave, NewTopic, ProducerSettings,
};

use super::{DEADLINE, until};

/// Makes a topic that keeps everything; `configs` say more.
pub(crate) fn create(broker: &dyn Broker, topic: &str, partitions: u32, configs: &[(&str, &str)]) {
    let mut all = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    all.extend(configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let topic = NewTopic { topic: Topic::new(topic), partitions, replication_factor: None, configs: all };
    broker.admin().unwrap().create(&topic, DEADLINE).unwrap();
}

pub(crate) fn record(topic: &str, partition: i32, at: i64, key: Option<&str>, value: Option<Vec<u8>>) -> Outgoing {
    Outgoing {
        topic: Topic::new(topic),
        partition: Partition(partition),
        timestamp: Timestamp(at),
        key: key.map(|key| key.to_owned().into()),
        value: value.map(Into::into),
        headers: Headers::default(),
    }
}

/// Writes records, all acknowledged when it returns.
pub(crate) fn write(broker: &dyn Broker, records: impl IntoIterator<Item = Outgoing>) {
    let mut producer = broker.producer(&ProducerSettings::default()).unwrap();
    let mut records: VecDeque<Outgoing> = records.into_iter().collect();
    loop {
        producer.send(&mut records).unwrap();
        producer.commit(Commit::default());
        until("records are acknowledged", || match producer.poll_commit(DEADLINE) {
            CommitProgress::Finished(outcome) => Some(outcome.unwrap()),
            CommitProgress::Pending => None,
            CommitProgress::Idle => panic!("no commit was started"),
        });
        if records.is_empty() {
            return;
        }
    }
}

/// All committed records of a topic's first `partitions` partitions.
pub(crate) fn read(broker: &dyn Broker, topic: &str, partitions: i32) -> Vec<Record> {
    let settings = ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: 1 << 20,
        end_wait: None,
    };
    let mut consumer = broker.consumer(&settings).unwrap();
    let mut open: Vec<TopicPartition> =
        (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    let from: Vec<_> = open.iter().map(|partition| (partition.clone(), Offset(0))).collect();
    consumer.assign(&from).unwrap();
    let (mut records, mut events) = (Vec::new(), Vec::new());
    until("the ends of a topic", || {
        consumer.poll(std::time::Duration::from_millis(200), &mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => records.extend(fetched.records),
                Event::EndOfPartition { partition, .. } => open.retain(|other| *other != partition),
                other => panic!("{other:?} without a group"),
            }
        }
        open.is_empty().then_some(())
    });
    consumer.close(Leave::Group);
    records
}
