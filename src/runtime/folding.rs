//! A task's stores while its changelogs are folded into them: where each partition is read on, and what its records do. Whoever restores
//! a task does it up to an end; a standby does it for ever.

use tracing::warn;

use crate::base::ids::{Offset, TaskId, Topic, TopicPartition};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::broker::Consumer;
use crate::limits;
use crate::plan::SubTopology;
use crate::runtime::Error;
use crate::runtime::cluster::Cluster;
use crate::store::restore::{Decision, RestoreFacts, decide};
use crate::store::{self, StoreIndex, TaskStores};
use crate::task::{AtRest, TaskMeta};

/// A task's stores, and how far they are.
#[derive(Debug)]
pub(super) struct Folding {
    pub(super) stores: TaskStores,
    pub(super) at_rest: Option<AtRest>,
    pub(super) pending: Vec<Pending>,
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) partition: TopicPartition,
    pub(super) target: Target,
    pub(super) position: Offset,
    /// Where it ended when that was looked at last.
    pub(super) end: Offset,
}

/// What a partition is folded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Store(StoreIndex),
    Meta,
}

impl Folding {
    /// Decides where each of a task's changelogs and its meta are read on; a store that is not believed is set aside.
    ///
    /// # Errors
    /// The broker does not answer; a store fails.
    pub(super) fn begin(
        consumer: &mut dyn Consumer,
        task: &TaskId,
        sub: &SubTopology,
        cluster: &Cluster,
        mut stores: TaskStores,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let topics = sub.stores.iter().map(|store| &store.changelog).chain([&sub.meta_topic]);
        let of_task = |topic: &Topic| TopicPartition { topic: topic.clone(), partition: task.partition };
        let partitions: Vec<_> = topics.map(of_task).collect();
        let all_ends = consumer.watermarks_of(&partitions, limits::BROKER_WAIT_MAX)?;
        let mut partitions = partitions.into_iter().zip(all_ends);
        let mut pending = Vec::new();
        for ((index, store), (partition, ends)) in sub.stores.iter().enumerate().zip(partitions.by_ref()) {
            let index = StoreIndex(index as u16);
            let facts = RestoreFacts {
                local: stores.position(index),
                topic_id: cluster.topic_id(&store.changelog),
                low: ends.low,
                high: ends.high,
                last_durable: stores.last_durable(index),
                now,
                delete_retention_ms: cluster.delete_retention_ms(&store.changelog),
            };
            let from = match decide(&facts) {
                Decision::UpToDate => ends.high,
                Decision::Continue { from } => from,
                Decision::FromStart { set_aside } => {
                    if let Some(reason) = set_aside {
                        warn!(%task, store = %store.name, %reason, "set a store aside, restoring it from its changelog");
                        stores.set_aside(index, reason)?;
                    }
                    ends.low
                }
            };
            stores.set_topic_id(index, facts.topic_id);
            stores.set_changelog_end(index, ends.high);
            stores.set_row_bytes_max(index, cluster.record_bytes_max(&store.changelog));
            stores.begin_restore(index, now);
            pending.push(Pending { partition, target: Target::Store(index), position: from, end: ends.high });
        }
        let at_rest = match stores.committed_meta() {
            Some(bytes) => Some(AtRest::decode(bytes).map_err(|message| store::Error::Corrupt { message })?),
            None => None,
        };
        let (partition, ends) = partitions.next().expect("the meta topic comes behind the changelogs");
        let known = at_rest.as_ref().and_then(|at_rest| at_rest.next_offset).map(Offset);
        let from = known.filter(|offset| (ends.low..=ends.high).contains(offset)).unwrap_or(ends.low);
        pending.push(Pending { partition, target: Target::Meta, position: from, end: ends.high });
        Ok(Self { stores, at_rest, pending })
    }

    /// Returns the offsets between where partitions are read and their ends.
    pub(super) fn remaining(&self) -> u64 {
        self.pending.iter().map(|pending| (pending.end.0 - pending.position.0).max(0).unsigned_abs()).sum()
    }

    /// Takes in records of the partition at `at`, all up to `next`.
    ///
    /// # Errors
    /// Records that are none of ours; the store's.
    pub(super) fn apply(
        &mut self,
        task: &TaskId,
        at: usize,
        records: &[Record],
        next: Offset,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let pending = &mut self.pending[at];
        pending.position = next;
        match pending.target {
            Target::Store(index) => self.stores.restore_batch(index, records, next, now),
            Target::Meta => {
                let key = task.to_string();
                for record in records {
                    let (Some(known), Some(value)) = (&record.key, &record.value) else { continue };
                    if **known == *key.as_bytes() {
                        let meta = TaskMeta::decode(value).map_err(|message| store::Error::Corrupt { message })?;
                        self.at_rest = Some(AtRest { meta, next_offset: None });
                    }
                }
                if let Some(at_rest) = &mut self.at_rest {
                    at_rest.next_offset = Some(next.0);
                }
                Ok(())
            }
        }
    }

    /// Ends it: the stores as they stand, with the meta as far as it was read.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn finish(self) -> Result<(TaskStores, Option<TaskMeta>), store::Error> {
        let Self { mut stores, at_rest, .. } = self;
        if let Some(at_rest) = &at_rest {
            stores.restore_meta(&at_rest.encode())?;
        }
        Ok((stores, at_rest.map(|at_rest| at_rest.meta)))
    }
}
