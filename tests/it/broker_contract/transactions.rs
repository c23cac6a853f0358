//! Transactions: what is seen of them, and who may end them.

use tidemill::base::ids::Offset;
use tidemill::base::record::Written;
use tidemill::broker::{Broker, Commit, Error, Event, Isolation};

use super::kit::*;

pub(crate) fn contract_commit_shows_and_abort_hides(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let mut producer = transactional(broker, unique);
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "a"), record(&topic, 1, "b"), record(&topic, 0, "c")]);
    commit(&mut *producer, Commit::default()).unwrap();
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "never"), record(&topic, 1, "never")]);
    producer.abort(WAIT).unwrap();
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "d")]);
    commit(&mut *producer, Commit::default()).unwrap();
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 0)), ["a", "c", "d"]);
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 1)), ["b"]);
    let offsets = |isolation| -> Vec<i64> {
        read_all(broker, isolation, &place(&topic, 0)).iter().map(|record| record.offset.0).collect()
    };
    // A marker takes an offset: two records, their commit, (an aborted one, its abort,) the last one. An aborted record may
    // never have left the client.
    let committed = offsets(Isolation::ReadCommitted);
    assert_eq!(committed[..2], [0, 1]);
    assert!(committed[2] >= 3, "{committed:?}");
    assert!(offsets(Isolation::ReadUncommitted).len() >= committed.len());
}

pub(crate) fn contract_open_transaction_holds_back_later_records(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let partition = place(&topic, 0);
    let (mut slow, mut quick) = (transactional(broker, unique), plain(broker));
    slow.begin().unwrap();
    send(&mut *slow, [record(&topic, 0, "slow")]);
    let mut dirty = consumer(broker, Isolation::ReadUncommitted);
    dirty.assign(&[(partition.clone(), Offset(0))]).unwrap();
    let mut seen = 0;
    poll_until(&mut *dirty, |event| {
        seen += if let Event::Records(fetched) = event { fetched.records.len() } else { 0 };
        seen == 1
    });
    let offset = quick.send_and_wait(record(&topic, 0, "quick"), WAIT).unwrap();
    assert_eq!(offset, Offset(1));
    let mut clean = consumer(broker, Isolation::ReadCommitted);
    clean.assign(&[(partition.clone(), Offset(0))]).unwrap();
    assert_eq!(read_to(&mut *clean, Offset(0)), [], "nothing is shown while the transaction is open");
    assert_eq!(clean.watermarks(&partition, WAIT).unwrap().high, Offset(2));
    commit(&mut *slow, Commit::default()).unwrap();
    let values: Vec<String> = read_to(&mut *clean, Offset(3)).iter().map(value).collect();
    assert_eq!(values, ["slow", "quick"]);
}

pub(crate) fn contract_newer_producer_fences_the_older(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let mut old = transactional(broker, unique);
    old.begin().unwrap();
    send(&mut *old, [record(&topic, 0, "zombie")]);
    let mut new = transactional(broker, unique);
    new.begin().unwrap();
    send(&mut *new, [record(&topic, 0, "alive")]);
    let sent = try_send(&mut *old, [record(&topic, 0, "zombie too")]);
    let ended = sent.and_then(|()| commit(&mut *old, Commit::default()).map(|_| ()));
    assert!(matches!(ended, Err(Error::Fenced { .. })), "{ended:?}");
    commit(&mut *new, Commit::default()).unwrap();
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&topic, 0)), ["alive"]);
}

pub(crate) fn contract_offsets_commit_with_the_transaction_or_not_at_all(broker: &dyn Broker, unique: &str) {
    let input = create(broker, &format!("{unique}-in"), 1, &[]);
    let output = create(broker, &format!("{unique}-out"), 1, &[]);
    let partition = place(&input, 0);
    let mut reader = member(broker, unique, None);
    join(&mut *reader, std::slice::from_ref(&input), Offset(0));
    let mut producer = transactional(broker, unique);
    let taking = |offset: i64, reader: &dyn tidemill::broker::Consumer| Commit {
        offsets: vec![(partition.clone(), Offset(offset))],
        group: reader.group_metadata(),
    };
    assert_eq!(reader.committed(std::slice::from_ref(&partition), WAIT).unwrap(), [None]);
    producer.begin().unwrap();
    send(&mut *producer, [record(&output, 0, "one")]);
    let with_offsets = taking(5, &*reader);
    commit(&mut *producer, with_offsets).unwrap();
    assert_eq!(reader.committed(std::slice::from_ref(&partition), WAIT).unwrap(), [Some(Offset(5))]);
    producer.begin().unwrap();
    send(&mut *producer, [record(&output, 0, "never")]);
    producer.abort(WAIT).unwrap();
    assert_eq!(reader.committed(std::slice::from_ref(&partition), WAIT).unwrap(), [Some(Offset(5))]);
    // Offsets alone make a transaction, too.
    producer.begin().unwrap();
    let only_offsets = taking(7, &*reader);
    commit(&mut *producer, only_offsets).unwrap();
    assert_eq!(reader.committed(std::slice::from_ref(&partition), WAIT).unwrap(), [Some(Offset(7))]);
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&output, 0)), ["one"]);
}

pub(crate) fn contract_stale_generation_cannot_commit_offsets(broker: &dyn Broker, unique: &str) {
    let input = create(broker, &format!("{unique}-in"), 2, &[]);
    let output = create(broker, &format!("{unique}-out"), 1, &[]);
    let mut first = member(broker, unique, None);
    let owned = join(&mut *first, std::slice::from_ref(&input), Offset(0));
    assert_eq!(owned.len(), 2);
    let stale = first.group_metadata();
    let mut producer = transactional(broker, unique);
    producer.begin().unwrap();
    send(&mut *producer, [record(&output, 0, "zombie")]);
    let mut second = member(broker, unique, None);
    second.subscribe(std::slice::from_ref(&input)).unwrap();
    super::groups::settle(&mut [&mut *first, &mut *second]);
    let offsets = owned.iter().map(|partition| (partition.clone(), Offset(1))).collect();
    let outcome = commit(&mut *producer, Commit { offsets, group: stale });
    assert!(matches!(outcome, Err(Error::Fenced { .. } | Error::Aborted { .. })), "{outcome:?}");
    let fenced = matches!(outcome, Err(Error::Fenced { .. }));
    let aborted = producer.abort(WAIT);
    assert!(fenced || aborted.is_ok(), "{aborted:?}");
    drop(producer);
    // A newer producer ends what the old one may have left open.
    let mut newer = transactional(broker, unique);
    newer.begin().unwrap();
    send(&mut *newer, [record(&output, 0, "alive")]);
    commit(&mut *newer, Commit::default()).unwrap();
    assert_eq!(first.committed(&owned, WAIT).unwrap(), [None, None]);
    assert_eq!(read_values(broker, Isolation::ReadCommitted, &place(&output, 0)), ["alive"]);
}

pub(crate) fn contract_acknowledged_tells_what_was_written(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 3, &[]);
    let mut producer = transactional(broker, unique);
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 2, "a"), record(&topic, 0, "b"), record(&topic, 2, "c")]);
    let written =
        |partition, last, records| Written { partition: place(&topic, partition), last: Offset(last), records };
    let told = commit(&mut *producer, Commit::default()).unwrap().written;
    assert_eq!(told, [written(0, 0, 1), written(2, 1, 2)]);
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 2, "d")]);
    let told = commit(&mut *producer, Commit::default()).unwrap().written;
    assert_eq!(told, [written(2, 3, 1)], "behind the marker at 2, and only of this transaction");
    let mut quick = plain(broker);
    send(&mut *quick, [record(&topic, 1, "e"), record(&topic, 1, "f")]);
    let told = commit(&mut *quick, Commit::default()).unwrap().written;
    assert_eq!(told, [written(1, 1, 2)]);
    assert_eq!(commit(&mut *quick, Commit::default()).unwrap().written, []);
}

pub(crate) fn contract_end_is_said_behind_markers_and_aborted_records(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let partition = place(&topic, 0);
    let mut producer = transactional(broker, unique);
    let mut reader = consumer(broker, Isolation::ReadCommitted);
    reader.assign(&[(partition.clone(), Offset(0))]).unwrap();
    assert_eq!(read_to(&mut *reader, Offset(0)), [], "an empty partition has an end");
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "a")]);
    commit(&mut *producer, Commit::default()).unwrap();
    wait_for_high(&mut *reader, &partition, Offset(2));
    assert_eq!(read_to(&mut *reader, Offset(2)).len(), 1, "the tail is a commit marker");
    let mut quick = plain(broker);
    assert_eq!(quick.send_and_wait(record(&topic, 0, "b"), WAIT).unwrap(), Offset(2));
    producer.begin().unwrap();
    send(&mut *producer, [record(&topic, 0, "never")]);
    // Whoever reads uncommitted records sees that it arrived.
    let mut dirty = consumer(broker, Isolation::ReadUncommitted);
    dirty.assign(&[(partition.clone(), Offset(3))]).unwrap();
    poll_until(&mut *dirty, |event| matches!(event, Event::Records(_)));
    producer.abort(WAIT).unwrap();
    assert_eq!(read_to(&mut *reader, Offset(5)).iter().map(value).collect::<Vec<_>>(), ["b"]);
    wait_for_high(&mut *reader, &partition, Offset(5));
}
