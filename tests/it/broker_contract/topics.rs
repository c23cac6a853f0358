//! Topics: made, described, deleted, made anew, cut short.

use tidemill::base::ids::{Offset, Topic};
use tidemill::base::record::Outgoing;
use tidemill::base::time::Timestamp;
use tidemill::broker::{Broker, Error, Isolation, TopicDescription, TopicIdentity};

use super::kit::*;

fn describe(broker: &dyn Broker, topic: &Topic) -> Option<TopicDescription> {
    broker.admin().unwrap().describe(std::slice::from_ref(topic), WAIT).unwrap().remove(0)
}

fn identify(broker: &dyn Broker, topic: &Topic) -> Option<TopicIdentity> {
    broker.admin().unwrap().identify(std::slice::from_ref(topic), WAIT).unwrap().remove(0)
}

/// Deletes a topic and asks until it is gone.
fn delete(broker: &dyn Broker, topic: &Topic) {
    broker.admin().unwrap().delete(topic, WAIT).unwrap();
    assert!((0..PATIENCE).any(|_| describe(broker, topic).is_none()), "`{topic}` stays");
}

pub(crate) fn contract_topics_are_created_described_listed_deleted(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 3, &[("retention.ms", "-1"), ("max.message.bytes", "5000")]);
    create(broker, unique, 7, &[]);
    let found = describe(broker, &topic).unwrap();
    assert_eq!((found.topic, found.partitions), (topic.clone(), 3), "one that exists is left as it is");
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("max.message.bytes", "5000"),
        ("message.timestamp.type", "CreateTime"),
        ("delete.retention.ms", "86400000"),
    ] {
        assert_eq!(found.configs.get(name).map(String::as_str), Some(value), "{name}");
    }
    let missing = Topic::new(format!("{unique}-missing"));
    assert_eq!(describe(broker, &missing), None);
    let listed = broker.admin().unwrap().list(WAIT).unwrap();
    assert!(listed.contains(&topic) && !listed.contains(&missing));
    assert!(listed.is_sorted());
    delete(broker, &topic);
    broker.admin().unwrap().delete(&missing, WAIT).unwrap();
    assert!(!broker.admin().unwrap().list(WAIT).unwrap().contains(&topic));
}

pub(crate) fn contract_topic_made_anew_has_another_id(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let before = describe(broker, &topic).unwrap().id;
    assert_eq!(identify(broker, &topic), Some(TopicIdentity { id: before.clone(), partitions: 1 }));
    assert_eq!(describe(broker, &topic).unwrap().id, before, "an id does not change");
    plain(broker).send_and_wait(record(&topic, 0, "old"), WAIT).unwrap();
    delete(broker, &topic);
    assert!((0..PATIENCE).any(|_| identify(broker, &topic).is_none()), "`{topic}` stays");
    create(broker, unique, 2, &[]);
    let after = describe(broker, &topic).unwrap();
    assert_eq!(after.partitions, 2);
    assert!(before.is_none() || before != after.id, "{before:?}");
    assert_eq!(plain(broker).send_and_wait(record(&topic, 0, "new"), WAIT).unwrap(), Offset(0));
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 0)), ["new"]);
}

pub(crate) fn contract_topic_that_is_given_partitions_keeps_what_it_has(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let before = identify(broker, &topic).unwrap();
    plain(broker).send_and_wait(record(&topic, 0, "old"), WAIT).unwrap();
    let mut admin = broker.admin().unwrap();
    admin.add_partitions(&topic, 3, WAIT).unwrap();
    let grown = TopicIdentity { partitions: 3, ..before };
    assert!((0..PATIENCE).any(|_| identify(broker, &topic) == Some(grown.clone())), "it is the same topic");
    assert_eq!(plain(broker).send_and_wait(record(&topic, 2, "new"), WAIT).unwrap(), Offset(0));
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 0)), ["old"]);
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 2)), ["new"]);
    for total in [3, 2] {
        assert!(admin.add_partitions(&topic, total, WAIT).is_err(), "{total} are no more than there are");
    }
    assert!(admin.add_partitions(&Topic::new(format!("{unique}-missing")), 3, WAIT).is_err());
}

pub(crate) fn contract_compacted_topic_is_accepted(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[("cleanup.policy", "compact"), ("delete.retention.ms", "1000")]);
    let found = describe(broker, &topic).unwrap();
    assert_eq!(found.configs["cleanup.policy"], "compact");
    assert_eq!(found.configs["delete.retention.ms"], "1000");
}

pub(crate) fn contract_deleted_records_are_gone(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let partition = place(&topic, 1);
    let mut producer = plain(broker);
    for n in 0..5 {
        producer.send_and_wait(record(&topic, 0, &n.to_string()), WAIT).unwrap();
        producer.send_and_wait(record(&topic, 1, &n.to_string()), WAIT).unwrap();
    }
    let other = place(&topic, 0);
    let before = [(other.clone(), Offset(2)), (partition.clone(), Offset(3))];
    broker.admin().unwrap().delete_records(&before, WAIT).unwrap();
    let mut reader = consumer(broker, Isolation::ReadCommitted);
    let marks = reader.watermarks(&partition, WAIT).unwrap();
    assert_eq!((marks.low, marks.high), (Offset(3), Offset(5)));
    let both = reader.watermarks_of(&[partition.clone(), other.clone()], WAIT).unwrap();
    assert_eq!([both[0].low, both[1].low], [Offset(3), Offset(2)]);
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &partition), ["3", "4"]);
    reader.assign(&[(partition.clone(), Offset(1)), (other.clone(), Offset(1))]).unwrap();
    // Each is said, however close together they are found.
    let mut named: Vec<_> = (0..2)
        .map(|_| match poll_error(&mut *reader) {
            Error::OffsetOutOfRange { partition, offset } => (partition, offset),
            error => panic!("{error}"),
        })
        .collect();
    named.sort();
    assert_eq!(named, [(other, Offset(1)), (partition, Offset(1))]);
}

pub(crate) fn contract_append_time_never_goes_back(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[("message.timestamp.type", "LogAppendTime")]);
    assert_eq!(describe(broker, &topic).unwrap().configs["message.timestamp.type"], "LogAppendTime");
    let mut writers = [plain(broker), plain(broker)];
    let sent = record(&topic, 0, "x");
    for days_ago in 0..4 {
        let timestamp = Timestamp(sent.timestamp.0 - days_ago * 86_400_000);
        writers[days_ago as usize % 2].send_and_wait(Outgoing { timestamp, ..sent.clone() }, WAIT).unwrap();
    }
    let times: Vec<_> =
        read_all(broker, Isolation::ReadCommitted, &place(&topic, 0)).iter().map(|r| r.timestamp).collect();
    assert_eq!(times.len(), 4);
    assert!(times.is_sorted() && times[0] >= sent.timestamp, "{times:?}");
}
