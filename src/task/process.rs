//! What happens to one record: a marker moves the upstream's time, a row walks the graph, a record that cannot be worked on goes
//! where its `on_error` says.

use std::ops::Deref;

use super::decode::{Decoded, SourceDecoder};
use super::failure::{Failures, Letter, Retrying};
use super::graph::{Graph, NodeError, too_large};
use super::marker;
use super::queue::Head;
use super::times::UpstreamTime;
use super::{Error, Seen, Task};
use crate::base::ids::{Offset, Partition, TaskId, Topic, TopicPartition};
use crate::base::record::{Headers, Record};
use crate::base::time::Timestamp;
use crate::base::value::{Text, Value};
use crate::operator::{self, DropReason, Evaluator, RecordContext, Row};
use crate::plan::{ErrorAction, Expression, LayoutId, NodeIndex, OnError, Source, SourceIndex, SubTopology};
use crate::planted::{self, Mistake};

/// Whether a record is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Yes,
    /// It is tried again later; until then nothing of its task is worked on.
    Later,
}

/// A record that failed: where, why, and what is to be done about it.
struct Failed<'a> {
    on_error: &'a OnError,
    name: &'a str,
    /// None: before a node saw it.
    node: Option<NodeIndex>,
    reason: DropReason,
    message: String,
}

impl Task {
    pub(super) fn process(
        &mut self,
        sub: &SubTopology,
        index: SourceIndex,
        head: Head,
        now: Timestamp,
    ) -> Result<Done, Error> {
        let at = usize::from(index.0);
        let source = &sub.sources[at];
        self.dirty = true;
        if !self.resolved.upstream[at].is_empty()
            && let Some((task, time)) = marker::decode(&head.record.headers)
        {
            return self.take_marker(sub, index, &task, time, head, now);
        }
        self.stats.consumed[at] += 1;
        let (reason, message) = match &head.decoded {
            Decoded::NeedsSchema(_) => return Err(self.bug("a record without its schema was chosen to be next")),
            Decoded::Undeclared => {
                self.stats.failures[at].drop_one(DropReason::UndeclaredType);
                self.queues[at].recycle(head.slots);
                return Ok(Done::Yes);
            }
            Decoded::Failed(message) => (DropReason::Decode, message.clone()),
            Decoded::Row { .. } | Decoded::Tombstone if head.timestamp > now.saturating_add(self.max_future) => (
                DropReason::Future,
                format!(
                    "the record is dated {}, more than {} ahead of the clock (E1002)",
                    head.timestamp, self.max_future
                ),
            ),
            Decoded::Row { .. } | Decoded::Tombstone => return self.walk(sub, index, head, now),
        };
        let failed = Failed { on_error: &source.on_decode_error, name: &source.name, node: None, reason, message };
        self.fail(&failed, at, head, now)
    }

    /// Walks a decoded record through the graph; all its effects stand or fall together.
    fn walk(&mut self, sub: &SubTopology, index: SourceIndex, head: Head, now: Timestamp) -> Result<Done, Error> {
        let at = usize::from(index.0);
        let source = &sub.sources[at];
        let (layout, slots) = match &head.decoded {
            Decoded::Row { layout, .. } => (*layout, Some(head.slots.as_slice())),
            Decoded::Tombstone | Decoded::Undeclared | Decoded::NeedsSchema(_) | Decoded::Failed(_) => {
                (first_layout(source), None)
            }
        };
        let seen = head.opened.as_deref().unwrap_or(&head.record);
        self.contexts[at].take(seen, head.timestamp, &head.decoded, &self.decoders[at]);
        self.last_source = at;
        let row = Row {
            key: head.bare_key.as_deref().or(head.record.key.as_deref()),
            key_format: &source.key,
            layout,
            slots,
            timestamp: head.timestamp,
            window: None,
            previous: None,
            latest: true,
        };
        self.graph.begin(now);
        self.graph.times.stream = self.graph.times.stream.max(head.timestamp);
        self.graph.times.recorded = self.graph.times.recorded.max(head.timestamp);
        let (graph, context) = (&mut self.graph, &self.contexts[at]);
        let walked = graph.expire(sub, context).and_then(|()| graph.forward(sub, &source.children, &row, context));
        let Err(failed) = walked else {
            self.graph.finish();
            self.queues[at].recycle(head.slots);
            return Ok(Done::Yes);
        };
        self.graph.undo();
        let NodeError { node, error } = failed;
        let name = &*sub.nodes[usize::from(node.0)].name;
        let (on_error, reason, message) = match error {
            operator::Error::Record { message } => {
                (&sub.nodes[usize::from(node.0)].on_process_error, DropReason::Process, message)
            }
            operator::Error::Produce { reason, message } => {
                (&sub.nodes[usize::from(node.0)].on_produce_error, reason, message)
            }
            operator::Error::Stop { message } => return self.stop_at(at, name, DropReason::Process, message, head),
            operator::Error::Store(source) => {
                self.queues[at].put_back(head);
                return Err(Error::Store { task: self.id.clone(), source });
            }
        };
        self.fail(&Failed { on_error, name, node: Some(node), reason, message }, at, head, now)
    }

    fn take_marker(
        &mut self,
        sub: &SubTopology,
        source: SourceIndex,
        task: &TaskId,
        time: UpstreamTime,
        head: Head,
        now: Timestamp,
    ) -> Result<Done, Error> {
        let at = usize::from(source.0);
        let mut first = 0;
        for (name, tasks) in &self.resolved.upstream[at] {
            if *name == *task.sub_topology && task.partition.index() < *tasks {
                self.graph.times.upstream[at][first + task.partition.index()] = time;
            }
            first += tasks;
        }
        // What a window that closes now sends on is no record's: the marker's header must not go with it.
        self.contexts[at].take_marker(head.record.offset, head.timestamp);
        let moved = self.beside_records(sub, at, now, |graph, context| {
            graph.expire(sub, context)?;
            graph.upstream_moved(sub, source, context)
        });
        match moved {
            Ok(()) => {
                self.queues[at].recycle(head.slots);
                Ok(Done::Yes)
            }
            Err(error) => {
                self.queues[at].put_back(head);
                Err(error)
            }
        }
    }

    /// Does what no record asks for; its effects stand or fall together. `context` is the source whose last record is at hand.
    fn beside_records(
        &mut self,
        sub: &SubTopology,
        context: usize,
        now: Timestamp,
        work: impl FnOnce(&mut Graph, &RecordContext) -> Result<(), NodeError>,
    ) -> Result<(), Error> {
        self.graph.begin(now);
        match work(&mut self.graph, &self.contexts[context]) {
            Ok(()) => {
                self.graph.finish();
                Ok(())
            }
            Err(failed) => {
                self.graph.undo();
                Err(self.node_failed(sub, failed, &self.contexts[context]))
            }
        }
    }

    /// Lets the timers ring that go by the wall clock.
    pub(super) fn ring(&mut self, sub: &SubTopology, now: Timestamp) -> Result<(), Error> {
        if !self.graph.rings_at(sub, now) {
            return Ok(());
        }
        self.dirty = true;
        self.beside_records(sub, self.last_source, now, |graph, context| graph.ring_all(sub, context))?;
        self.show(Seen::Rang { now });
        Ok(())
    }

    /// Tells whether a record is to be tried again and its time has not come.
    pub(super) fn waits_to_retry(&mut self, now: Timestamp) -> bool {
        self.graph.forget_refusals(now, false);
        let Some(retrying) = &mut self.retrying else { return false };
        if retrying.waits(now) {
            return true;
        }
        if retrying.begin() {
            self.decoders[retrying.source].forget_failures();
            self.graph.forget_refusals(now, true);
        }
        false
    }

    /// Does a part of what a node has to do before the next record.
    pub(super) fn chore(&mut self, sub: &SubTopology, node: NodeIndex, now: Timestamp) -> Result<(), Error> {
        self.dirty = true;
        self.beside_records(sub, self.last_source, now, |graph, _| graph.chore(sub, node))?;
        self.show(Seen::DidChore { now });
        Ok(())
    }

    /// Does with a record that cannot be worked on what the topology says.
    fn fail(&mut self, failed: &Failed<'_>, source: usize, head: Head, now: Timestamp) -> Result<Done, Error> {
        let Failed { on_error, name, node, reason, message } = failed;
        let offset = head.record.offset;
        let again = |retry| Retrying::plan(self.retrying, source, offset, retry, now);
        if let Some(retrying) = on_error.retry.and_then(again) {
            self.retrying = Some(retrying);
            self.failures(source, *node).retried[*reason as usize] += 1;
            self.stats.consumed[source] -= 1;
            self.queues[source].put_back_encoded(head);
            return Ok(Done::Later);
        }
        match &on_error.action {
            ErrorAction::StopTask => return self.stop_at(source, name, *reason, message.clone(), head),
            ErrorAction::Skip => {}
            ErrorAction::DeadLetter { topic } => {
                let target = match self.graph.dead_letter_topic(topic, head.record.key.is_none()) {
                    Ok(target) => target,
                    Err(why) => return self.stop_at(source, name, *reason, format!("{message}; {why}"), head),
                };
                let letter = Letter {
                    task: &self.id,
                    node: name,
                    reason: *reason,
                    message,
                    topic: &self.queues[source].partition.topic,
                    partition: self.id.partition,
                    offset,
                };
                let letter = letter.of_record(&target, &head.record);
                if letter.size_bytes() > target.record_bytes_max {
                    let message = format!("{message}; {}", too_large(letter.size_bytes(), &target));
                    return self.stop_at(source, name, DropReason::TooLarge, message, head);
                }
                if !planted::is(Mistake::DeadLetterForgotten) {
                    self.graph.push_out(letter);
                }
                self.failures(source, *node).dead_letters[*reason as usize] += 1;
            }
        }
        self.failures(source, *node).drop_one(*reason);
        self.queues[source].recycle(head.slots);
        Ok(Done::Yes)
    }

    /// Puts the record back, and says why its task stops at it.
    fn stop_at(
        &mut self,
        source: usize,
        node: &str,
        reason: DropReason,
        message: String,
        head: Head,
    ) -> Result<Done, Error> {
        let TopicPartition { topic, partition } = self.queues[source].partition.clone();
        let (task, node, offset) = (self.id.clone(), node.to_owned(), head.record.offset);
        self.queues[source].put_back(head);
        Err(Error::Stopped { task, node, topic, partition, offset, reason, message })
    }

    fn failures(&mut self, source: usize, node: Option<NodeIndex>) -> &mut Failures {
        match node {
            Some(node) => &mut self.graph.failures[usize::from(node.0)],
            None => &mut self.stats.failures[source],
        }
    }

    pub(super) fn node_failed(&self, sub: &SubTopology, failed: NodeError, context: &RecordContext) -> Error {
        let NodeError { node: NodeIndex(node), error } = failed;
        let (reason, message) = match error {
            operator::Error::Store(source) => return Error::Store { task: self.id.clone(), source },
            operator::Error::Record { message } | operator::Error::Stop { message } => (DropReason::Process, message),
            operator::Error::Produce { reason, message } => (reason, message),
        };
        Error::Stopped {
            task: self.id.clone(),
            node: sub.nodes[usize::from(node)].name.to_string(),
            topic: context.topic.clone(),
            partition: context.partition,
            offset: context.offset,
            reason,
            message,
        }
    }

    pub(super) fn bug(&self, message: &str) -> Error {
        Error::Bug { task: self.id.clone(), message: message.to_owned() }
    }
}

/// Where a source's record comes from and what it is, for expressions and histories: filled in for one record after the other.
#[derive(Debug)]
pub(super) struct Context {
    record: RecordContext,
    /// Whose name stands in the record's type.
    layout: Option<LayoutId>,
}

impl Context {
    /// The context of a source's records before the first one.
    pub(super) fn new(topic: Topic, partition: Partition, timestamp: Timestamp) -> Self {
        let record = RecordContext {
            topic,
            partition,
            offset: Offset(-1),
            timestamp,
            type_name: Text::default(),
            schema_id: None,
            headers: Headers::default(),
        };
        Self { record, layout: None }
    }

    fn take(&mut self, record: &Record, timestamp: Timestamp, decoded: &Decoded, decoder: &SourceDecoder) {
        let (layout, schema_id) = match decoded {
            Decoded::Row { layout, schema_id } => (Some(*layout), *schema_id),
            Decoded::Tombstone | Decoded::Undeclared | Decoded::NeedsSchema(_) | Decoded::Failed(_) => (None, None),
        };
        (self.record.offset, self.record.timestamp, self.record.schema_id) = (record.offset, timestamp, schema_id);
        self.record.headers.clone_from(&record.headers);
        if self.layout != layout {
            self.layout = layout;
            self.record.type_name = layout.map(|layout| decoder.type_name(layout)).unwrap_or_default();
        }
    }

    fn take_marker(&mut self, offset: Offset, timestamp: Timestamp) {
        let RecordContext { topic, partition, .. } = &self.record;
        *self = Self::new(topic.clone(), *partition, timestamp);
        self.record.offset = offset;
    }
}

impl Deref for Context {
    type Target = RecordContext;

    fn deref(&self) -> &RecordContext {
        &self.record
    }
}

/// A deletion has no type of its own: it takes the source's first.
fn first_layout(source: &Source) -> LayoutId {
    source.payload.readers().first().map_or(LayoutId(0), |reader| reader.layout)
}

/// The timestamp a record is ordered by: its own, or the one that the topology takes from its value.
pub(super) fn own_timestamp(
    source: &Source,
    record: &Record,
    (key, decoded, slots): (Option<&[u8]>, &Decoded, &[Value]),
    decoder: &SourceDecoder,
    context: &mut Context,
    evaluator: &mut Evaluator,
) -> Result<Timestamp, String> {
    let missing = || "the record has no timestamp".to_owned();
    let of_record = || if record.timestamp.0 < 0 { Err(missing()) } else { Ok(record.timestamp) };
    let Decoded::Row { layout, .. } = decoded else {
        return Ok(Timestamp(record.timestamp.0.max(0)));
    };
    let Some(expression) = source.timestamp.get(*layout) else { return of_record() };
    let row = Row {
        key,
        key_format: &source.key,
        layout: *layout,
        slots: Some(slots),
        timestamp: record.timestamp,
        window: None,
        previous: None,
        latest: true,
    };
    if expression.needs.meta || expression.needs.headers {
        context.take(record, record.timestamp, decoded, decoder);
    }
    timestamp_in(expression, &row, context, evaluator)?.map_or_else(of_record, Ok)
}

/// The time that a row's own expression gives; none where it gives null.
pub(super) fn timestamp_in(
    expression: &Expression,
    row: &Row<'_>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Option<Timestamp>, String> {
    match evaluator.eval(expression, row, &[], context).map_err(|error| error.to_string())? {
        Value::Int(ms) if ms >= 0 => Ok(Some(Timestamp(ms))),
        Value::DateTime(moment) if moment.seconds >= 0 => Ok(Some(moment.to_timestamp())),
        Value::Null => Ok(None),
        other @ (Value::Int(_)
        | Value::DateTime(_)
        | Value::Bool(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::TimeDelta(_)
        | Value::Decimal(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Record(_)
        | Value::Union(_)) => Err(format!("`{}` gives {other:?}, which is no timestamp", expression.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::record::Header;
    use crate::plan::{KeyFormat, Payload, PerLayout};

    #[test]
    fn what_a_marker_lets_go_on_carries_nothing_of_a_record() {
        let mut context = Context::new(Topic::new("t"), Partition(3), Timestamp(1));
        let name = Text::new("a");
        let record = Record {
            offset: Offset(7),
            timestamp: Timestamp(2),
            key: None,
            value: None,
            headers: Headers::new(vec![Header { name, value: None }]),
        };
        let source = Source {
            name: Text::new("t"),
            topic: Topic::new("t"),
            key: KeyFormat::String,
            framed_keys: false,
            cloud_events: false,
            payload: Payload::Registry { readers: Vec::new() },
            timestamp: PerLayout::default(),
            idle: None,
            on_decode_error: OnError::default(),
            children: Vec::new(),
        };
        let decoder = SourceDecoder::new(&source).unwrap();
        context.take(&record, Timestamp(5), &Decoded::Row { layout: LayoutId(0), schema_id: Some(9) }, &decoder);
        assert_eq!((context.offset, context.timestamp, context.schema_id), (Offset(7), Timestamp(5), Some(9)));
        assert!(!context.headers.is_empty());
        context.take_marker(Offset(8), Timestamp(6));
        assert_eq!((context.offset, context.timestamp, context.schema_id), (Offset(8), Timestamp(6), None));
        assert!(context.headers.is_empty() && context.type_name.is_empty());
        assert_eq!((context.topic.as_str(), context.partition), ("t", Partition(3)));
    }
}
