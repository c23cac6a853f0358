//! Consumer groups: assignment, rebalances, committed offsets.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::base::ids::{Offset, TopicPartition};
use tidemill::broker::{Broker, Commit, Consumer, Error, Event, Isolation, Leave};

use super::kit::*;

/// Polls the members in turn, answering everything at offset 0, until each holds partitions of one generation; returns what
/// each holds.
pub(crate) fn settle(members: &mut [&mut dyn Consumer]) -> Vec<BTreeSet<TopicPartition>> {
    let mut held: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); members.len()];
    let mut fresh = vec![false; members.len()];
    for _ in 0..PATIENCE {
        for (index, member) in members.iter_mut().enumerate() {
            let mut events = Vec::new();
            member.poll(SLICE, &mut events).unwrap();
            for event in events {
                match event {
                    Event::Assigned(partitions) => {
                        let positions: Vec<_> = partitions.iter().map(|p| (p.clone(), Offset(0))).collect();
                        member.assign(&positions).unwrap();
                        held[index].extend(partitions);
                        fresh[index] = true;
                    }
                    Event::Revoked(partitions) | Event::Lost(partitions) => {
                        member.unassign(&partitions).unwrap();
                        partitions.iter().for_each(|partition| {
                            held[index].remove(partition);
                        });
                    }
                    Event::Records(_) | Event::EndOfPartition { .. } => {}
                }
            }
        }
        let all = held.iter().map(BTreeSet::len).sum::<usize>();
        let union: BTreeSet<_> = held.iter().flatten().collect();
        if fresh.iter().all(|fresh| *fresh) && held.iter().all(|held| !held.is_empty()) && all == union.len() {
            return held;
        }
    }
    panic!("the group does not settle: {held:?}");
}

/// A member that commits what it processed when it is asked to give it back.
struct Worker<'a> {
    consumer: Box<dyn Consumer>,
    positions: BTreeMap<TopicPartition, Offset>,
    seen: &'a std::cell::RefCell<Vec<String>>,
}

impl Worker<'_> {
    fn turn(&mut self) {
        let mut events = Vec::new();
        self.consumer.poll(SLICE, &mut events).unwrap();
        for event in events {
            match event {
                Event::Assigned(partitions) => {
                    let committed = self.consumer.committed(&partitions, WAIT).unwrap();
                    let from = committed.into_iter().map(|offset| offset.unwrap_or(Offset(0)));
                    let positions: Vec<_> = partitions.into_iter().zip(from).collect();
                    self.consumer.assign(&positions).unwrap();
                    self.positions.extend(positions);
                }
                Event::Revoked(partitions) => {
                    let offsets: Vec<_> =
                        partitions.iter().map(|p| (p.clone(), self.positions.remove(p).unwrap())).collect();
                    self.consumer.commit(&offsets, WAIT).unwrap();
                    self.consumer.unassign(&partitions).unwrap();
                }
                Event::Records(fetched) => {
                    self.seen.borrow_mut().extend(fetched.records.iter().map(value));
                    let last = fetched.records.last().unwrap().offset;
                    assert!(self.positions.insert(fetched.partition, last.next()).is_some(), "read before assigned");
                }
                Event::EndOfPartition { .. } => {}
                Event::Lost(partitions) => panic!("{partitions:?} were lost"),
            }
        }
    }
}

pub(crate) fn contract_each_record_is_processed_once_across_a_rebalance(broker: &dyn Broker, unique: &str) {
    const RECORDS: i32 = 40_000;
    let topic = create(broker, unique, 4, &[]);
    let mut producer = plain(broker);
    send(&mut *producer, (0..RECORDS).map(|n| record(&topic, n % 4, &n.to_string())));
    commit(&mut *producer, Commit::default()).unwrap();
    let seen = std::cell::RefCell::new(Vec::new());
    let worker = || {
        let mut consumer = member(broker, unique, None);
        consumer.subscribe(std::slice::from_ref(&topic)).unwrap();
        Worker { consumer, positions: BTreeMap::new(), seen: &seen }
    };
    let mut first = worker();
    for _ in 0..PATIENCE {
        first.turn();
        if !seen.borrow().is_empty() {
            break;
        }
    }
    assert!(seen.borrow().len() < RECORDS as usize, "the second member comes in the middle");
    let mut second = worker();
    for _ in 0..PATIENCE {
        first.turn();
        second.turn();
        let shared = (first.positions.len(), second.positions.len()) == (2, 2);
        if seen.borrow().len() >= RECORDS as usize && shared {
            break;
        }
    }
    let mut numbers: Vec<i32> = seen.borrow().iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.len(), RECORDS as usize);
    assert!(numbers.into_iter().eq(0..RECORDS), "each exactly once");
    assert_eq!((first.positions.len(), second.positions.len()), (2, 2));
}

pub(crate) fn contract_range_aligns_equal_numbers_of_two_topics(broker: &dyn Broker, unique: &str) {
    let (left, right) =
        (create(broker, &format!("{unique}-l"), 5, &[]), create(broker, &format!("{unique}-r"), 5, &[]));
    let topics = [left.clone(), right.clone()];
    let (mut first, mut second) = (member(broker, unique, None), member(broker, unique, None));
    first.subscribe(&topics).unwrap();
    second.subscribe(&topics).unwrap();
    let held = settle(&mut [&mut *first, &mut *second]);
    let numbers = |held: &BTreeSet<TopicPartition>, topic| -> Vec<i32> {
        held.iter().filter(|place| place.topic == topic).map(|place| place.partition.0).collect()
    };
    for held in &held {
        assert_eq!(numbers(held, left.clone()), numbers(held, right.clone()));
    }
    let mut sizes: Vec<usize> = held.iter().map(BTreeSet::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4, 6]);
}

pub(crate) fn contract_member_that_leaves_is_replaced(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let (mut first, mut second) = (member(broker, unique, None), member(broker, unique, None));
    first.subscribe(std::slice::from_ref(&topic)).unwrap();
    second.subscribe(std::slice::from_ref(&topic)).unwrap();
    assert_eq!(settle(&mut [&mut *first, &mut *second]).iter().map(BTreeSet::len).collect::<Vec<_>>(), [1, 1]);
    first.close(Leave::Group);
    let mut held = 0;
    for _ in 0..PATIENCE {
        let mut events = Vec::new();
        second.poll(SLICE, &mut events).unwrap();
        for event in events {
            match event {
                Event::Revoked(partitions) | Event::Lost(partitions) => second.unassign(&partitions).unwrap(),
                Event::Assigned(partitions) => {
                    let positions: Vec<_> = partitions.iter().map(|p| (p.clone(), Offset(0))).collect();
                    second.assign(&positions).unwrap();
                    held = partitions.len();
                }
                Event::Records(_) | Event::EndOfPartition { .. } => {}
            }
        }
        if held == 2 {
            return;
        }
    }
    panic!("the one that stayed holds {held}");
}

pub(crate) fn contract_group_with_members_is_not_deleted(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 1, &[]);
    let partition = [place(&topic, 0)];
    let mut admin = broker.admin().unwrap();
    admin.delete_group(&format!("{unique}-none"), WAIT).unwrap();
    let mut reader = member(broker, unique, None);
    join(&mut *reader, std::slice::from_ref(&topic), Offset(0));
    reader.commit(&[(partition[0].clone(), Offset(0))], WAIT).unwrap();
    assert!(admin.delete_group(unique, WAIT).is_err());
    reader.close(Leave::Group);
    // The broker may learn of the leave a moment later.
    let deleted = (0..PATIENCE).any(|_| admin.delete_group(unique, WAIT).is_ok());
    assert!(deleted, "the group is empty");
    let mut other = member(broker, unique, None);
    assert_eq!(other.committed(&partition, WAIT).unwrap(), [None]);
}

pub(crate) fn contract_consumer_commits_are_kept_and_fenced(broker: &dyn Broker, unique: &str) {
    let topic = create(broker, unique, 2, &[]);
    let places = [place(&topic, 0), place(&topic, 1)];
    let mut first = member(broker, unique, None);
    join(&mut *first, std::slice::from_ref(&topic), Offset(0));
    first.commit(&[(places[1].clone(), Offset(3))], WAIT).unwrap();
    assert_eq!(first.committed(&places, WAIT).unwrap(), [None, Some(Offset(3))]);
    let mut outsider = member(broker, unique, None);
    assert_eq!(outsider.committed(&places, WAIT).unwrap(), [None, Some(Offset(3))]);
    let refused = outsider.commit(&[(places[1].clone(), Offset(9))], WAIT);
    assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    assert_eq!(first.committed(&places, WAIT).unwrap(), [None, Some(Offset(3))]);
    let mut loner = consumer(broker, Isolation::ReadCommitted);
    assert!(loner.subscribe(std::slice::from_ref(&topic)).is_err(), "without a group nothing is subscribed to");
    assert!(loner.group_metadata().is_none());
}
