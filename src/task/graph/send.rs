//! Rows on their way out: encoded for their topic, put into its partition, waiting until the thread may send them.

use crate::base::hash::partition_of;
use crate::base::ids::{Partition, Topic};
use crate::base::record::{Headers, Outgoing};
use crate::base::time::Timestamp;
use crate::operator::{RecordContext, Row};
use crate::plan::{NodeKind, SinkKey, SubTopology};
use crate::task::marker;

use super::{At, Graph, NodeError, Sent};

/// How a row is written beside its value.
pub(super) struct Out<'a> {
    pub(super) topic: &'a Topic,
    pub(super) key: SinkKey,
    pub(super) headers: Headers,
}

impl Graph {
    /// Tells every partition of every repartition topic how far this task is; `time` is none when it is idle.
    pub(in crate::task) fn send_markers(&mut self, plan: &SubTopology, time: Option<Timestamp>) {
        for (at, node) in plan.nodes.iter().enumerate() {
            let NodeKind::Repartition { topic, .. } = &node.kind else { continue };
            for partition in 0..self.resolved.partitions[at] {
                let record = Outgoing {
                    topic: topic.clone(),
                    partition: Partition(partition as i32),
                    timestamp: Timestamp(time.unwrap_or(self.times.stream).0.max(0)),
                    key: None,
                    value: None,
                    headers: marker::encode(&self.task, time),
                };
                self.push_out(record);
            }
        }
    }

    /// Encodes a row for its topic. It goes to the partition of its base key, whatever else its written key has; a key
    /// in a registry frame is what its readers partition by.
    pub(super) fn send(
        &mut self,
        at: At<'_>,
        out: Out<'_>,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Result<Sent, NodeError> {
        let slot = at.slot();
        let Out { topic, key, headers } = out;
        let Self { resolved, buffer, packer, .. } = self;
        let value = match row.slots {
            None => None,
            Some(slots) => {
                let Some(writer) = resolved.writers[slot].get(row.layout) else { return Ok(Sent::No) };
                writer.encode(slots, buffer).map_err(|error| at.failed(error))?;
                Some(packer.pack(buffer))
            }
        };
        let partitions = resolved.partitions[slot].max(1);
        let framed = match (row.key, &resolved.key_writers[slot]) {
            (Some(key), Some(writer)) => Some(writer.encode(key).map_err(|error| at.failed(error))?),
            (_, _) => None,
        };
        let partition = match framed.as_deref().or(row.key) {
            Some(key) => partition_of(key, partitions),
            None => Partition(context.partition.0.rem_euclid(partitions as i32)),
        };
        let written_key = row.key.map(|base| match (key, row.window) {
            (SinkKey::Avro, _) => packer.pack(framed.as_deref().unwrap_or(base)),
            (SinkKey::Plain, _) | (_, None) => packer.pack(base),
            (SinkKey::Start { .. }, Some(window)) => packer.pack(&[base, &window.start.0.to_be_bytes()].concat()),
            (SinkKey::EndAndStart, Some(window)) => {
                packer.pack(&[base, &window.end.0.to_be_bytes(), &window.start.0.to_be_bytes()].concat())
            }
        });
        let record =
            Outgoing { topic: topic.clone(), partition, timestamp: row.timestamp, key: written_key, value, headers };
        let size = record.size_bytes();
        self.refusals.check(slot, topic, row.key.is_none(), size).map_err(|error| at.failed(error))?;
        self.produced[slot] += 1;
        self.push_out(record);
        Ok(Sent::Yes)
    }

    pub(in crate::task) fn push_out(&mut self, record: Outgoing) {
        self.out_bytes += record.size_bytes();
        self.out.push_back(record);
    }
}
