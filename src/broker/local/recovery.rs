//! Opening a broker's directory: from journal and segment files to the state they stand for.
//!
//! A transaction is committed when the journal says so or its marker is in the partition; every other one that has records
//! is aborted here. Invariant: when this is done every transaction has its markers on disk, so the new journal needs no word
//! about any.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::Error;
use crate::broker::local::DiskOptions;
use crate::broker::local::batch::{Batch, BatchKind, NO_TRANSACTION};
use crate::broker::local::compaction::TombstoneRule;
use crate::broker::local::disk::{Locked, remove_other_topics, topic_directory};
use crate::broker::local::groups::Group;
use crate::broker::local::journal::Entry;
use crate::broker::local::log::PartitionLog;
use crate::broker::local::segments::{Segments, unwritable};
use crate::broker::local::state::{State, TopicState};

/// Opens a directory; returns the state and the broker's id.
pub(super) fn open(directory: &Path, options: DiskOptions) -> Result<(State, u64), Error> {
    let mut locked = Locked::open(directory)?;
    let (broker_id, entries) = match locked.journal.take() {
        Some(journal) => journal,
        None => (new_broker_id(), Vec::new()),
    };
    let facts = Facts::of(entries);
    let mut state = State { incarnations: facts.incarnations, ..State::default() };
    state.transactions.begun = facts.transactions;
    let mut directories = Vec::new();
    for (name, topic) in &facts.topics {
        let path = topic_directory(directory, topic.incarnation, name);
        let mut partitions = Vec::new();
        for number in 0..topic.partitions as i32 {
            let low = facts.lows.get(&TopicPartition::new(name.clone(), number)).map_or(0, |low| low.0);
            let (log, newest) = open_partition(&path, number, low, &facts.committed)?;
            state.transactions.begun = state.transactions.begun.max(newest);
            partitions.push(log);
        }
        directories.push(path);
        let topic = TopicState::new(topic.incarnation, topic.configs.clone(), partitions);
        state.topics.insert(name.clone(), topic);
    }
    remove_other_topics(directory, &directories)?;
    for (group_id, offsets) in facts.groups {
        state.groups.insert(group_id, Group::with_offsets(offsets));
    }
    for topic in state.topics.values_mut().filter(|topic| topic.is_compacted()) {
        compact(topic, options)?;
    }
    state.disk = Some(locked.begin(directory, options.durability, broker_id, &state.snapshot())?);
    Ok((state, broker_id))
}

/// Opens a partition and ends what was open in it; returns the newest transaction seen, too.
fn open_partition(path: &Path, number: i32, low: i64, committed: &BTreeSet<u64>) -> Result<(PartitionLog, u64), Error> {
    let (mut open, mut aborted, mut newest) = (Vec::new(), BTreeSet::new(), 0);
    let segments = Segments::open(path, number, &mut |batch: &Batch| {
        let transaction = batch.transaction;
        newest = newest.max(transaction);
        match batch.kind {
            BatchKind::Data if transaction == NO_TRANSACTION => {}
            BatchKind::Data if open.iter().any(|(known, _)| *known == transaction) => {}
            BatchKind::Data => open.push((transaction, batch.base)),
            BatchKind::CommitMarker => open.retain(|(known, _)| *known != transaction),
            BatchKind::AbortMarker => {
                open.retain(|(known, _)| *known != transaction);
                aborted.insert(transaction);
            }
        }
    })?;
    let mut log = PartitionLog::recovered(segments, low, open, aborted);
    let left: Vec<u64> = log.open_transactions().collect();
    for transaction in left {
        let is_committed = committed.contains(&transaction);
        log.end_transaction(transaction, if is_committed { BatchKind::CommitMarker } else { BatchKind::AbortMarker });
    }
    log.write().and_then(|()| log.sync()).map_err(|error| unwritable(path, &error))?;
    Ok((log, newest))
}

/// Compacts the partitions of a topic of which at least half is new since the last time.
fn compact(topic: &mut TopicState, options: DiskOptions) -> Result<(), Error> {
    let tombstones = TombstoneRule::kept_for_ms(topic.delete_retention_ms());
    for log in &mut topic.partitions {
        let (all, dirty) = log.disk_bytes();
        if dirty > 0 && all >= options.compact_bytes_min && dirty * 2 >= all {
            log.compact(&tombstones)?;
        }
    }
    Ok(())
}

/// Makes an id that no other directory has: the standard library's hash keys are the operating system's randomness.
fn new_broker_id() -> u64 {
    RandomState::new().hash_one("tidemill local broker")
}

/// What a journal comes to.
#[derive(Debug, Default)]
struct Facts {
    topics: BTreeMap<Topic, TopicFacts>,
    lows: BTreeMap<TopicPartition, Offset>,
    groups: BTreeMap<String, BTreeMap<TopicPartition, Offset>>,
    committed: BTreeSet<u64>,
    incarnations: u64,
    transactions: u64,
}

#[derive(Debug)]
struct TopicFacts {
    incarnation: u64,
    partitions: u32,
    configs: BTreeMap<String, String>,
}

impl Facts {
    fn of(entries: Vec<Entry>) -> Self {
        let mut facts = Self::default();
        entries.into_iter().for_each(|entry| facts.add(entry));
        facts
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::TopicCreated { incarnation, topic, partitions, configs } => {
                self.incarnations = self.incarnations.max(incarnation);
                self.topics.insert(topic, TopicFacts { incarnation, partitions, configs });
            }
            Entry::TopicDeleted { topic } => {
                self.topics.remove(&topic);
                self.lows.retain(|place, _| place.topic != topic);
                for offsets in self.groups.values_mut() {
                    offsets.retain(|place, _| place.topic != topic);
                }
            }
            Entry::PartitionsAdded { topic, total } => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.partitions = total;
                }
            }
            Entry::RecordsDeleted { lows } => {
                for (place, low) in lows {
                    let known = self.lows.entry(place).or_insert(low);
                    *known = low.max(*known);
                }
            }
            Entry::TransactionCommitted { transaction, offsets } => {
                self.transactions = self.transactions.max(transaction);
                self.committed.insert(transaction);
                if let Some((group_id, offsets)) = offsets {
                    self.groups.entry(group_id).or_default().extend(offsets);
                }
            }
            Entry::OffsetsCommitted { group_id, offsets } => {
                self.groups.entry(group_id).or_default().extend(offsets);
            }
            Entry::GroupDeleted { group_id } => {
                self.groups.remove(&group_id);
            }
            Entry::Numbers { incarnation, transaction } => {
                self.incarnations = self.incarnations.max(incarnation);
                self.transactions = self.transactions.max(transaction);
            }
        }
    }
}
