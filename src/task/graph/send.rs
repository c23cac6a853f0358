//! Rows on their way out: encoded for their topic, put into its partition, waiting until the thread may send them.

use bytes::Bytes;

use crate::base::hash::partition_of;
use crate::base::ids::{Partition, Topic};
use crate::base::record::{Headers, Outgoing};
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::{RecordContext, Row};
use crate::plan::{LayoutId, NodeKind, SinkKey, SubTopology, ValueFormat, Writer};
use crate::task::{cloud_event, marker};

use super::{At, Graph, NodeError, Sent, Step};

/// How a row is written beside its value.
pub(super) struct Out<'a> {
    pub(super) topic: &'a Topic,
    pub(super) key: SinkKey,
    pub(super) headers: Headers,
    /// Other than where its key belongs.
    pub(super) to: Option<Partition>,
    /// Where headers and value become one structured CloudEvent: what its data is.
    pub(super) data: Option<ValueFormat>,
}

impl Graph {
    /// Tells every partition of every repartition topic how far this task is; `time` is none when it is idle.
    pub(in crate::task) fn send_markers(&mut self, plan: &SubTopology, time: Option<Timestamp>) {
        for (at, node) in plan.nodes.iter().enumerate() {
            let NodeKind::Repartition { topic, marks: true, .. } = &node.kind else { continue };
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
        let Out { topic, key, mut headers, to, data } = out;
        let value = match row.slots {
            None => None,
            Some(slots) => match self.encoded(at, row.layout, slots)? {
                None => return Ok(Sent::No),
                Some(value) if let Some(format) = data => {
                    let (event, headers_of_event) = cloud_event::structured(&headers, format, &value);
                    headers = headers_of_event;
                    Some(event)
                }
                value @ Some(_) => value,
            },
        };
        let Self { resolved, packer, .. } = self;
        let partitions = resolved.partitions[at.slot()].max(1);
        let framed = match (row.key, &resolved.key_writers[at.slot()]) {
            (Some(key), Some(writer)) => Some(writer.encode(key).map_err(|error| at.failed(error))?),
            (_, _) => None,
        };
        let partition = match (to, framed.as_deref().or(row.key)) {
            (Some(to), _) => Partition(to.0.rem_euclid(partitions as i32)),
            (None, Some(key)) => partition_of(key, partitions),
            (None, None) => Partition(context.partition.0.rem_euclid(partitions as i32)),
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
        self.checked(at, record)?;
        Ok(Sent::Yes)
    }

    /// The headers of a row that is written as a CloudEvent. Its id counts the events of the sink and the task, which is committed with
    /// them: no two have one, and what is written again has the same.
    pub(super) fn event_headers(
        &mut self,
        at: At<'_>,
        writer: Option<&Writer>,
        row: &Row<'_>,
        lineage: &Headers,
    ) -> Headers {
        let number = &mut self.times.sequence[at.slot()];
        *number += 1;
        let id = format!("{}/{}/{}/{number}", self.application, at.node.name, self.task.partition);
        let source = format!("/{}/{}", self.application, at.node.name);
        let kind = writer.and_then(|writer| writer.schema.full_name()).unwrap_or(&at.node.name);
        let time = Value::DateTime(row.timestamp.to_date_time());
        cloud_event::headers(id, source, kind, time, lineage)
    }

    /// Encodes a row as the node writes rows of its layout; none where it writes no such rows.
    pub(super) fn encoded(
        &mut self,
        at: At<'_>,
        layout: LayoutId,
        slots: &[Value],
    ) -> Result<Option<Bytes>, NodeError> {
        let Self { resolved, buffer, packer, .. } = self;
        let Some(writer) = resolved.writers[at.slot()].get(layout) else { return Ok(None) };
        writer.encode(slots, buffer).map_err(|error| at.failed(error))?;
        Ok(Some(packer.pack(buffer)))
    }

    /// Sends a record that its topic takes.
    pub(super) fn checked(&mut self, at: At<'_>, record: Outgoing) -> Step {
        let (slot, keyless, size) = (at.slot(), record.key.is_none(), record.size_bytes());
        self.refusals.check(slot, &record.topic, keyless, size).map_err(|error| at.failed(error))?;
        self.produced[at.slot()] += 1;
        self.push_out(record);
        Ok(())
    }

    pub(in crate::task) fn push_out(&mut self, record: Outgoing) {
        self.out_bytes += record.size_bytes();
        self.out.push_back(record);
    }
}
