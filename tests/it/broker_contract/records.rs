//! Records: what comes back, from where, and what is refused.

use bytes::Bytes;
use tidemill::base::ids::{Offset, Partition};
use tidemill::base::record::{Header, Headers, Outgoing};
use tidemill::base::rng::Rng;
use tidemill::base::time::Timestamp;
use tidemill::base::value::Text;
use tidemill::broker::{Broker, Commit, Error, Event, Isolation};

use super::kit::*;

pub(crate) fn contract_records_come_back_as_they_were_sent(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[("retention.ms", "-1")]);
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: Text::from(name),
        value: value.map(Bytes::from_static),
    };
    let all_headers = vec![
        header("trace", Some(b"1")),
        header("empty", Some(b"")),
        header("null", None),
        header("trace", Some(b"2")),
        header("ünïcode", Some(&[0, 255])),
    ];
    let outgoing =
        |timestamp: i64, key: Option<&'static [u8]>, value: Option<&'static [u8]>, headers: Vec<Header>| Outgoing {
            topic: topic.clone(),
            partition: Partition(0),
            timestamp: Timestamp(timestamp),
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: Headers::new(headers),
        };
    let sent = vec![
        outgoing(1_372_636_800_000, Some(b"k"), Some(b"v"), all_headers),
        outgoing(1, Some(b"k"), None, Vec::new()),
        outgoing(1_700_000_000_123, None, Some(b"v"), Vec::new()),
        outgoing(1_372_636_800_000, None, None, vec![header("only", None)]),
        outgoing(1_372_636_800_000, Some(b""), Some(b""), Vec::new()),
    ];
    let mut producer = transactional(broker, unique);
    producer.begin().unwrap();
    send(&mut *producer, sent.clone());
    commit(&mut *producer, Commit::default()).unwrap();
    let read = read_all(broker, Isolation::ReadCommitted, &place(&topic, 0));
    assert_eq!(read.len(), sent.len());
    for (index, (read, sent)) in read.into_iter().zip(sent).enumerate() {
        assert_eq!(read.offset, Offset(index as i64));
        assert_eq!(
            (read.timestamp, read.key, read.value, read.headers),
            (sent.timestamp, sent.key, sent.value, sent.headers)
        );
    }
}

pub(crate) fn contract_send_and_wait_returns_the_offset(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let mut producer = plain(broker);
    for expected in 0..3 {
        let offset = producer.send_and_wait(record(&topic, 1, &expected.to_string()), WAIT).unwrap();
        assert_eq!(offset, Offset(expected));
    }
    assert_eq!(producer.send_and_wait(record(&topic, 0, "other"), WAIT).unwrap(), Offset(0));
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 1)), ["0", "1", "2"]);
    let mut in_transactions = transactional(broker, unique);
    assert!(in_transactions.send_and_wait(record(&topic, 0, "refused"), WAIT).is_err());
    assert!(in_transactions.init_transactions(WAIT).is_ok(), "and nothing is broken by it");
}

pub(crate) fn contract_seek_pause_and_resume(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let (one, two) = (place(&topic, 0), place(&topic, 1));
    let mut producer = plain(broker);
    send(&mut *producer, (0..10).flat_map(|n| [record(&topic, 0, &n.to_string()), record(&topic, 1, &n.to_string())]));
    commit(&mut *producer, Commit::default()).unwrap();
    let mut reader = consumer(broker, Isolation::ReadCommitted);
    reader.assign(&[(one.clone(), Offset(4)), (two.clone(), Offset(0))]).unwrap();
    assert!(reader.assign(&[(two.clone(), Offset(0))]).is_err(), "it is assigned already");
    reader.pause(std::slice::from_ref(&two)).unwrap();
    let mut read = Vec::new();
    let mut take = |event| match event {
        Event::Records(fetched) => {
            assert_eq!(fetched.partition.partition, Partition(0), "the other one is paused");
            read.extend(fetched.records.iter().map(|record| record.offset.0));
            false
        }
        Event::EndOfPartition { partition, .. } => partition.partition == Partition(0),
        Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => panic!("there is no group"),
    };
    poll_until(&mut *reader, &mut take);
    reader.seek(&one, Offset(8)).unwrap();
    poll_until(&mut *reader, &mut take);
    assert_eq!(read, [4, 5, 6, 7, 8, 9, 8, 9]);
    reader.unassign(std::slice::from_ref(&one)).unwrap();
    assert!(reader.seek(&one, Offset(0)).is_err(), "it is not assigned");
    reader.resume(std::slice::from_ref(&two)).unwrap();
    let values: Vec<String> = read_to(&mut *reader, Offset(10)).iter().map(value).collect();
    assert_eq!(values, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

pub(crate) fn contract_records_stay_while_only_the_group_is_asked(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let mut producer = plain(broker);
    let mut reader = member(broker, unique, None);
    send(&mut *producer, [record(&topic, 0, "0")]);
    commit(&mut *producer, Commit::default()).unwrap();
    join(&mut *reader, std::slice::from_ref(&topic), Offset(0));
    poll_until(&mut *reader, |event| matches!(event, Event::EndOfPartition { position: Offset(1), .. }));
    send(&mut *producer, (1..10).map(|n| record(&topic, 0, &n.to_string())));
    commit(&mut *producer, Commit::default()).unwrap();
    let mut events = Vec::new();
    for _ in 0..5 {
        reader.poll_group(SLICE, &mut events).unwrap();
    }
    assert_eq!(events, []);
    let mut read = Vec::new();
    poll_until(&mut *reader, |event| {
        if let Event::Records(fetched) = event {
            read.extend(fetched.records.iter().map(value));
        }
        read.len() == 9
    });
    assert_eq!(read, (1..10).map(|n| n.to_string()).collect::<Vec<_>>());
    // A second member: the first hears of it though it asks for no records.
    let mut other = member(broker, unique, None);
    other.subscribe(&[topic]).unwrap();
    for _ in 0..PATIENCE {
        other.poll_group(SLICE, &mut Vec::new()).unwrap();
        reader.poll_group(SLICE, &mut events).unwrap();
        if events.iter().any(|event| matches!(event, Event::Revoked(_))) {
            return;
        }
    }
    panic!("nothing is said of the second member, but {events:?}");
}

pub(crate) fn contract_offset_that_is_not_there_is_an_error(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let partition = place(&topic, 0);
    plain(broker).send_and_wait(record(&topic, 0, "a"), WAIT).unwrap();
    let mut reader = consumer(broker, Isolation::ReadCommitted);
    reader.assign(&[(partition.clone(), Offset(1000))]).unwrap();
    let error = poll_error(&mut *reader);
    let Error::OffsetOutOfRange { partition: named, offset } = error else { panic!("{error}") };
    assert_eq!((named, offset), (partition, Offset(1000)));
}

pub(crate) fn contract_record_above_the_limit_is_refused(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[("max.message.bytes", "2000")]);
    let mut rng = Rng::new(1);
    // Random, or it would be small enough once compressed.
    let large: Vec<u8> = (0..5000).map(|_| rng.next_u64() as u8).collect();
    let mut producer = transactional(broker, unique);
    producer.begin().unwrap();
    let too_large = Outgoing { value: Some(Bytes::from(large)), ..record(&topic, 0, "") };
    let outcome =
        try_send(&mut *producer, [too_large]).and_then(|()| commit(&mut *producer, Commit::default()).map(|_| ()));
    assert!(matches!(outcome, Err(Error::RecordTooLarge { .. } | Error::Aborted { .. })), "{outcome:?}");
    producer.abort(WAIT).unwrap();
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "small")]);
    commit(&mut *producer, Commit::default()).unwrap();
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 0)), ["small"]);
}
