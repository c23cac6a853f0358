//! What the broker's one lock guards: topics, groups, transactions, and the files where there are any.
//!
//! Invariant: what is decided is journalled first (`State::decide`) and only then takes effect in memory. Reads and writes
//! of records are in `log`; here is what spans partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crate::base::ids::{Offset, Partition, Topic, TopicPartition};
use crate::broker::local::disk::Disk;
use crate::broker::local::groups::{Group, Membership};
use crate::broker::local::journal::Entry;
use crate::broker::local::log::PartitionLog;
use crate::broker::local::segments::Segments;
use crate::broker::local::transactions::Transactions;
use crate::broker::{Error, NewTopic};
use crate::limits;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: BTreeMap<Topic, TopicState>,
    /// Incarnations of topics so far.
    pub(super) incarnations: u64,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) members: u64,
    pub(super) transactions: Transactions,
    pub(super) disk: Option<Disk>,
}

/// One incarnation of a topic.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) incarnation: u64,
    /// As they were given; defaults are added by `describe`.
    pub(super) configs: BTreeMap<String, String>,
    pub(super) record_bytes_max: usize,
    /// The newest timestamp so far, of a topic whose records carry the time of their append; none where they keep their own.
    pub(super) append_time: Option<Arc<AtomicI64>>,
    pub(super) partitions: Vec<PartitionLog>,
}

/// Kafka's default of `max.message.bytes`.
pub(super) const RECORD_BYTES_DEFAULT: usize = 1_048_588;
/// Kafka's default of `delete.retention.ms`: one day.
pub(super) const DELETE_RETENTION_MS_DEFAULT: u64 = 86_400_000;

impl TopicState {
    /// Makes a topic of checked configs.
    pub(super) fn new(incarnation: u64, configs: BTreeMap<String, String>, partitions: Vec<PartitionLog>) -> Self {
        let record_bytes_max =
            configs.get("max.message.bytes").and_then(|text| text.parse().ok()).unwrap_or(RECORD_BYTES_DEFAULT);
        let appended = configs.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");
        let append_time = appended.then(|| Arc::new(AtomicI64::new(i64::MIN)));
        Self { incarnation, configs, record_bytes_max, append_time, partitions }
    }

    /// Tells whether compaction keeps only the last value per key.
    pub(super) fn is_compacted(&self) -> bool {
        self.configs.get("cleanup.policy").is_some_and(|policy| policy.split(',').any(|p| p.trim() == "compact"))
    }

    /// Returns how long compaction keeps tombstones, in milliseconds.
    pub(super) fn delete_retention_ms(&self) -> u64 {
        self.configs
            .get("delete.retention.ms")
            .and_then(|text| text.parse().ok())
            .unwrap_or(DELETE_RETENTION_MS_DEFAULT)
    }
}

impl State {
    /// Writes a decision down, where there is a journal. After an error it is as if it had never been.
    pub(super) fn decide(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.disk.as_ref().is_some_and(Disk::journal_is_long) {
            self.checkpoint()?;
        }
        self.disk.as_mut().map_or(Ok(()), |disk| disk.record(entry))
    }

    /// Replaces the journal by what it comes to. The markers of all decided transactions are on disk before, whatever the
    /// durability: they say then what the journal said.
    fn checkpoint(&mut self) -> Result<(), Error> {
        for place in self.places() {
            self.write(&place)?;
            let synced = self.log_mut(&place)?.sync();
            synced.map_err(|error| Error::Unavailable { message: format!("cannot sync `{place}`: {error}") })?;
        }
        let entries = self.snapshot();
        self.disk.as_mut().map_or(Ok(()), |disk| disk.replace_journal(&entries))
    }

    fn places(&self) -> Vec<TopicPartition> {
        let of = |(name, topic): (&Topic, &TopicState)| {
            let name = name.clone();
            (0..topic.partitions.len()).map(move |number| TopicPartition::new(name.clone(), number as i32))
        };
        self.topics.iter().flat_map(of).collect()
    }

    /// Returns the entries that a journal of everything that is so would have.
    pub(super) fn snapshot(&self) -> Vec<Entry> {
        let numbers = Entry::Numbers { incarnation: self.incarnations, transaction: self.transactions.begun };
        let topics = self.topics.iter().map(|(name, topic)| Entry::TopicCreated {
            incarnation: topic.incarnation,
            topic: name.clone(),
            partitions: topic.partitions.len() as u32,
            configs: topic.configs.clone(),
        });
        let lows = self
            .places()
            .into_iter()
            .filter_map(|place| Some((Offset(self.log(&place).ok()?.low()), place)))
            .map(|(low, place)| (place, low))
            .filter(|(_, low)| low.0 > 0)
            .collect();
        let groups = self.groups.iter().map(|(group_id, group)| Entry::OffsetsCommitted {
            group_id: group_id.clone(),
            offsets: group.offsets.iter().map(|(place, offset)| (place.clone(), *offset)).collect(),
        });
        let lows = Entry::RecordsDeleted { lows };
        std::iter::once(numbers).chain(topics).chain(std::iter::once(lows)).chain(groups).collect()
    }

    pub(super) fn log(&self, place: &TopicPartition) -> Result<&PartitionLog, Error> {
        let topic = self.topics.get(&place.topic).ok_or_else(|| unknown(&place.topic))?;
        topic.partitions.get(index_of(place.partition)).ok_or_else(|| no_partition(place))
    }

    pub(super) fn log_mut(&mut self, place: &TopicPartition) -> Result<&mut PartitionLog, Error> {
        let topic = self.topics.get_mut(&place.topic).ok_or_else(|| unknown(&place.topic))?;
        topic.partitions.get_mut(index_of(place.partition)).ok_or_else(|| no_partition(place))
    }

    /// Hands what a partition holds to the operating system, and to the disk where that was asked for.
    pub(super) fn write(&mut self, place: &TopicPartition) -> Result<(), Error> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let (directory, durability) = (disk.directory.clone(), disk.durability);
        let log = self.log_mut(place)?;
        let written = log.write().and_then(|()| if durability.reaches_disk() { log.sync() } else { Ok(()) });
        written.map_err(|error| super::segments::unwritable(&directory, &error))
    }

    /// Changes a group and deals out partitions where that follows.
    pub(super) fn with_group<T>(
        &mut self,
        group_id: &str,
        change: impl FnOnce(&mut Group, &dyn Fn(&Topic) -> Option<u32>) -> T,
    ) -> T {
        let topics = &self.topics;
        let counts = |topic: &Topic| topics.get(topic).map(|topic| topic.partitions.len() as u32);
        if !self.groups.contains_key(group_id) {
            self.groups.insert(group_id.to_owned(), Group::default());
        }
        let group = self.groups.get_mut(group_id).expect("the group was added when it was missing");
        change(group, &counts)
    }

    /// Checks a membership; a group that does not exist has no members.
    pub(super) fn check_membership(&self, membership: &Membership) -> Result<(), String> {
        match self.groups.get(&membership.group_id) {
            Some(group) => group.check(membership),
            None => Group::default().check(membership),
        }
    }

    /// Commits offsets outside any transaction.
    pub(super) fn commit_offsets(&mut self, group_id: &str, offsets: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        self.write_read_positions(offsets)?;
        let entry = Entry::OffsetsCommitted { group_id: group_id.to_owned(), offsets: offsets.to_vec() };
        self.decide(&entry)?;
        self.with_group(group_id, |group, _| group.offsets.extend(offsets.iter().cloned()));
        Ok(())
    }

    /// Writes what lies before committed positions: an offset must never be committed beyond what a crash leaves.
    pub(super) fn write_read_positions(&mut self, offsets: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        for (place, _) in offsets {
            if self.log(place).is_ok() {
                self.write(place)?;
            }
        }
        Ok(())
    }

    /// Creates a topic unless there is one of that name; tells whether it did.
    pub(super) fn create_topic(&mut self, new: &NewTopic) -> Result<(), Error> {
        if self.topics.contains_key(&new.topic) {
            return Ok(());
        }
        check_new_topic(new)?;
        let incarnation = self.incarnations + 1;
        let (topic, configs) = (new.topic.clone(), new.configs.clone());
        self.decide(&Entry::TopicCreated { incarnation, topic, partitions: new.partitions, configs })?;
        self.incarnations = incarnation;
        let partitions = self.empty_logs(&new.topic, incarnation, 0..new.partitions);
        self.topics.insert(new.topic.clone(), TopicState::new(incarnation, new.configs.clone(), partitions));
        self.topic_changed(&new.topic);
        Ok(())
    }

    fn empty_logs(&self, topic: &Topic, incarnation: u64, numbers: std::ops::Range<u32>) -> Vec<PartitionLog> {
        let log = |number: u32| match &self.disk {
            None => PartitionLog::in_memory(),
            Some(disk) => {
                let segments = Segments::empty(&disk.topic_directory(incarnation, topic), number as i32);
                PartitionLog::recovered(segments, 0, Vec::new(), std::collections::BTreeSet::new())
            }
        };
        numbers.map(log).collect()
    }

    /// Gives a topic more partitions, `total` in all.
    pub(super) fn add_partitions(&mut self, topic: &Topic, total: u32) -> Result<(), Error> {
        let found = self.topics.get(topic).ok_or_else(|| unknown(topic))?;
        let (incarnation, before) = (found.incarnation, found.partitions.len() as u32);
        if total <= before || total > limits::LOCAL_PARTITIONS_MAX {
            let most = limits::LOCAL_PARTITIONS_MAX;
            let message =
                format!("topic `{topic}` has {before} partitions: it can get more, up to {most}, not {total}");
            return Err(Error::Invalid { message });
        }
        self.decide(&Entry::PartitionsAdded { topic: topic.clone(), total })?;
        let added = self.empty_logs(topic, incarnation, before..total);
        if let Some(found) = self.topics.get_mut(topic) {
            found.partitions.extend(added);
        }
        self.topic_changed(topic);
        Ok(())
    }

    /// Deletes a topic with the offsets that groups committed for it.
    pub(super) fn delete_topic(&mut self, topic: &Topic) -> Result<(), Error> {
        let Some(incarnation) = self.topics.get(topic).map(|topic| topic.incarnation) else { return Ok(()) };
        self.decide(&Entry::TopicDeleted { topic: topic.clone() })?;
        self.topics.remove(topic);
        self.forget_offsets(topic);
        self.topic_changed(topic);
        match &self.disk {
            None => Ok(()),
            Some(disk) => disk.remove_topic(incarnation, topic),
        }
    }

    /// Drops what groups committed for a topic.
    pub(super) fn forget_offsets(&mut self, topic: &Topic) {
        for group in self.groups.values_mut() {
            group.offsets.retain(|place, _| place.topic != *topic);
        }
    }

    fn topic_changed(&mut self, topic: &Topic) {
        let topics = &self.topics;
        let counts = |topic: &Topic| topics.get(topic).map(|topic| topic.partitions.len() as u32);
        for group in self.groups.values_mut() {
            group.topic_changed(topic, &counts);
        }
    }

    /// Forgets the records before each offset.
    pub(super) fn delete_records(&mut self, before: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        for (place, offset) in before {
            let log = self.log(place)?;
            if offset.0 < 0 || offset.0 > log.high() {
                return Err(Error::OffsetOutOfRange { partition: place.clone(), offset: *offset });
            }
        }
        self.write_read_positions(before)?;
        self.decide(&Entry::RecordsDeleted { lows: before.to_vec() })?;
        for (place, offset) in before {
            let deleted = self.log_mut(place)?.delete_before(offset.0);
            deleted.map_err(|error| Error::Unavailable { message: format!("cannot delete old files: {error}") })?;
        }
        Ok(())
    }

    /// Deletes a group that has no members.
    pub(super) fn delete_group(&mut self, group_id: &str) -> Result<(), Error> {
        let Some(group) = self.groups.get(group_id) else { return Ok(()) };
        if group.has_members() {
            return Err(Error::Invalid { message: format!("group `{group_id}` has members") });
        }
        self.decide(&Entry::GroupDeleted { group_id: group_id.to_owned() })?;
        self.groups.remove(group_id);
        Ok(())
    }
}

/// Refuses what Kafka refuses, and what this broker cannot do.
fn check_new_topic(new: &NewTopic) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::Invalid { message });
    let name = new.topic.as_str();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
        return invalid(format!("`{name}` is no name for a topic: up to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`"));
    }
    if new.partitions == 0 || new.partitions > limits::LOCAL_PARTITIONS_MAX {
        return invalid(format!(
            "a topic has 1 to {} partitions, not {}",
            limits::LOCAL_PARTITIONS_MAX,
            new.partitions
        ));
    }
    let policies = new.configs.get("cleanup.policy").map_or("delete", String::as_str);
    if let Some(other) = policies.split(',').map(str::trim).find(|policy| !matches!(*policy, "delete" | "compact")) {
        return invalid(format!("`cleanup.policy` is `delete`, `compact` or both, not `{other}`"));
    }
    for name in ["max.message.bytes", "delete.retention.ms"] {
        if let Some(text) = new.configs.get(name).filter(|text| text.parse::<u64>().is_err()) {
            return invalid(format!("`{name}` is a number, not `{text}`"));
        }
    }
    let kind = new.configs.get("message.timestamp.type").map_or("CreateTime", String::as_str);
    if !matches!(kind, "CreateTime" | "LogAppendTime") {
        return invalid(format!("`message.timestamp.type` is `CreateTime` or `LogAppendTime`, not `{kind}`"));
    }
    Ok(())
}

fn index_of(partition: Partition) -> usize {
    usize::try_from(partition.0).unwrap_or(usize::MAX)
}

pub(super) fn unknown(topic: &Topic) -> Error {
    Error::UnknownTopic { topic: topic.clone() }
}

pub(super) fn no_partition(place: &TopicPartition) -> Error {
    Error::Invalid { message: format!("there is no partition `{place}`") }
}
