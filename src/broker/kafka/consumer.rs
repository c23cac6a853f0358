//! A consumer on the calling thread: rebalances are handed out by `poll` and answered by `assign` and `unassign`, records come
//! in batches.
//!
//! Decides how an answer is given (whole assignments to the eager protocol, increments otherwise) and which errors the caller
//! must hear of: those of a connection pass by themselves and are only logged. Invariants: after `unassign`, `pause` or `seek`
//! no record from before is handed out. Not here: reading (`native`), settings (`config`).

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::callbacks::{Callbacks, Inbox, Rebalance, give_up};
use super::convert::{fetched, list_at, list_of, list_without_offsets, offsets_of};
use super::figures::FigureSink;
use super::native::{self, BatchConsumer, Read};
use super::{Cluster, Deadline, SLICE, config, error};
use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::broker::{Consumer, ConsumerSettings, Error, Event, Fetched, GroupMetadata, Leave, Watermarks};

/// Questions after the ends of partitions that are under way at the same time.
const WATERMARKS_AT_ONCE: usize = 8;

/// How long `close` waits for the goodbye to the group; what is left of it goes on in a thread of its own.
const CLOSE_WAIT: Duration = Duration::from_secs(3);

/// What the group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    Assign,
    Unassign,
}

/// Where an assigned partition stands.
#[derive(Debug)]
struct Assigned {
    /// The next offset to hand out.
    position: Offset,
    reading: Reading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Nothing has come since the assignment: forwarding is repeated, for librdkafka stops an earlier fetch in its own time.
    Fresh,
    Flowing,
    /// A seek was not accepted yet; what comes in is from before it.
    Seeking,
    /// The fetcher gave up; only a new assignment starts it.
    Failed,
}

/// A consumer of a Kafka cluster.
#[derive(Debug)]
pub(super) struct KafkaConsumer {
    /// Taken on drop only.
    batches: Option<BatchConsumer<Callbacks>>,
    shared: Shared,
    assigned: BTreeMap<TopicPartition, Assigned>,
    pending: Pending,
    subscribed: Vec<Topic>,
    grouped: bool,
    /// Found beside events or other errors: each comes with a `poll` of its own.
    errors: VecDeque<Error>,
}

/// What outlives a borrow of the client.
struct Shared {
    cluster: Arc<Cluster>,
    inbox: Arc<Mutex<Inbox>>,
    closing: Arc<AtomicBool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl KafkaConsumer {
    pub(super) fn new(cluster: Arc<Cluster>, settings: &ConsumerSettings) -> Result<Self, Error> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let closing = Arc::new(AtomicBool::new(false));
        let figures = FigureSink::new(&cluster.figures);
        let callbacks = Callbacks { inbox: Arc::clone(&inbox), closing: Arc::clone(&closing), figures };
        let config = config::consumer(&cluster.settings, settings);
        let consumer =
            BaseConsumer::from_config_and_context(&config, callbacks).map_err(|error| error::refused(&error))?;
        Ok(Self {
            batches: Some(BatchConsumer::new(consumer)),
            shared: Shared { cluster, inbox, closing },
            assigned: BTreeMap::new(),
            pending: Pending::Nothing,
            subscribed: Vec::new(),
            grouped: settings.group.is_some(),
            errors: VecDeque::new(),
        })
    }

    fn batches(&self) -> &BatchConsumer<Callbacks> {
        self.batches.as_ref().expect("taken on drop only")
    }

    fn consumer(&self) -> &BaseConsumer<Callbacks> {
        self.batches().consumer()
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.shared.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error that made the client useless, if one has; other calls say no more than that one did.
    fn fatal(&self) -> Option<Error> {
        let (code, reason) = self.consumer().client().fatal_error()?;
        Some(error::fatal(code, reason))
    }

    fn require_group(&self) -> Result<(), Error> {
        if self.grouped { Ok(()) } else { Err(invalid("the consumer has no group")) }
    }

    fn require_assigned(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        match partitions.iter().find(|partition| !self.assigned.contains_key(partition)) {
            Some(partition) => Err(invalid(format!("`{partition}` is not assigned"))),
            None => Ok(()),
        }
    }

    /// Tells the client to read these partitions too. The eager protocol takes whole assignments only.
    fn start(&mut self, added: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        let list = match self.consumer().rebalance_protocol() {
            RebalanceProtocol::Eager => {
                // One whose fetcher gave up is assigned already.
                let others =
                    self.assigned.iter().filter(|(partition, _)| added.iter().all(|(new, _)| new != *partition));
                let others = others.map(|(partition, assigned)| (partition, assigned.position));
                list_at(others.chain(added.iter().map(|(partition, offset)| (partition, *offset))))?
            }
            RebalanceProtocol::Cooperative | RebalanceProtocol::None => list_of(added)?,
        };
        for (partition, offset) in added {
            self.assigned.insert(partition.clone(), Assigned { position: *offset, reading: Reading::Fresh });
        }
        // A partition forwarded before it is fetched never sends anything through the consumer's own queue.
        self.forward_fresh();
        let outcome = match self.consumer().rebalance_protocol() {
            RebalanceProtocol::Eager => self.consumer().assign(&list),
            RebalanceProtocol::Cooperative | RebalanceProtocol::None => {
                if added.is_empty() && self.pending == Pending::Nothing {
                    Ok(())
                } else {
                    self.consumer().incremental_assign(&list)
                }
            }
        };
        if let Err(error) = outcome {
            for (partition, _) in added {
                self.assigned.remove(partition);
            }
            return Err(error::map(&error, None));
        }
        self.pending = Pending::Nothing;
        Ok(())
    }

    /// Tells the client to read these partitions no more.
    fn stop(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            self.assigned.remove(partition);
        }
        let consumer = self.consumer();
        let outcome = match consumer.rebalance_protocol() {
            RebalanceProtocol::Eager if self.pending == Pending::Unassign || self.assigned.is_empty() => {
                self.assigned.clear();
                self.consumer().unassign()
            }
            RebalanceProtocol::Eager => {
                let rest = self.assigned.iter().map(|(partition, assigned)| (partition, assigned.position));
                consumer.assign(&list_at(rest)?)
            }
            RebalanceProtocol::Cooperative | RebalanceProtocol::None => {
                let mut list = TopicPartitionList::with_capacity(partitions.len());
                for partition in partitions {
                    list.add_partition(partition.topic.as_str(), partition.partition.0);
                }
                consumer.incremental_unassign(&list)
            }
        };
        self.pending = Pending::Nothing;
        outcome.map_err(|error| error::map(&error, None))
    }

    fn forward_fresh(&self) -> bool {
        let mut any = false;
        for (partition, assigned) in &self.assigned {
            if assigned.reading == Reading::Fresh {
                self.batches().forward(partition);
                any = true;
            }
        }
        any
    }

    /// Serves the consumer's own queue: rebalances, commits, errors, log lines.
    fn serve_own(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut quiet = 0;
        // `None` is also said of an event that was consumed, so once is no proof that the queue is empty.
        while quiet < 3 {
            let stray = match self.consumer().poll(if quiet == 0 { wait } else { Duration::ZERO }) {
                None => {
                    quiet += 1;
                    continue;
                }
                Some(Ok(message)) => fetched(&message),
                Some(Err(error)) => {
                    self.heed(&error)?;
                    continue;
                }
            };
            // Fetched before its partition was forwarded, so it stands before all that comes in a batch.
            self.accept(stray, events);
        }
        let rebalances = mem::take(&mut self.inbox().rebalances);
        for rebalance in rebalances {
            self.note_rebalance(rebalance, events)?;
        }
        Ok(())
    }

    fn note_rebalance(&mut self, rebalance: Rebalance, events: &mut Vec<Event>) -> Result<(), Error> {
        let (pending, event) = match rebalance {
            Rebalance::Assigned(partitions) => (Pending::Assign, Event::Assigned(partitions)),
            Rebalance::Revoked(partitions) => (Pending::Unassign, Event::Revoked(partitions)),
            Rebalance::Lost(partitions) => (Pending::Unassign, Event::Lost(partitions)),
        };
        self.pending = pending;
        let empty = matches!(&event, Event::Assigned(p) | Event::Revoked(p) | Event::Lost(p) if p.is_empty());
        // There is nothing to finish first, and the group waits.
        if empty && self.pending == Pending::Assign {
            self.start(&[])?;
        } else if empty {
            self.stop(&[])?;
        }
        events.push(event);
        Ok(())
    }

    /// Decides whether an error of the whole consumer is the caller's business.
    fn heed(&mut self, error: &KafkaError) -> Result<(), Error> {
        let reason = mem::take(&mut self.inbox().reason);
        let topic = self.subscribed.iter().find(|topic| reason.contains(topic.as_str())).cloned();
        let message = if reason.is_empty() { error.to_string() } else { reason };
        let found = if let KafkaError::MessageConsumptionFatal(code) = error {
            error::fatal(*code, message)
        } else if let Some(code) = error.rdkafka_error_code() {
            error::from_code(code, topic.as_ref(), message)
        } else {
            return Ok(());
        };
        match found {
            Error::Fenced { .. }
            | Error::UnknownTopic { .. }
            | Error::WriteRefused { .. }
            | Error::Unauthorized { .. }
            | Error::Unsupported { .. } => Err(found),
            // librdkafka goes on by itself, and has logged it.
            Error::Unavailable { .. }
            | Error::Aborted { .. }
            | Error::OutcomeUnknown { .. }
            | Error::OffsetOutOfRange { .. }
            | Error::RecordTooLarge { .. }
            | Error::Invalid { .. }
            | Error::Storage { .. } => Ok(()),
        }
    }

    /// Takes records of an assigned partition from its position on.
    fn accept(&mut self, mut fetched: Fetched, events: &mut Vec<Event>) {
        let Some(assigned) = self.assigned.get_mut(&fetched.partition) else { return };
        if matches!(assigned.reading, Reading::Seeking | Reading::Failed) {
            return;
        }
        // A fetch starts at the batch that holds the offset; librdkafka skips the records before it. Proof against a slip there.
        if fetched.records.first().is_some_and(|record| record.offset < assigned.position) {
            fetched.records.retain(|record| record.offset >= assigned.position);
        }
        let Some(last) = fetched.records.last() else { return };
        assigned.position = last.offset.next();
        assigned.reading = Reading::Flowing;
        events.push(Event::Records(fetched));
    }

    fn take_read(&mut self, read: Read, events: &mut Vec<Event>) -> Result<(), Error> {
        match read {
            Read::Records(fetched) => self.accept(fetched, events),
            Read::End { partition, position } => {
                if let Some(assigned) = self.assigned.get_mut(&partition)
                    && matches!(assigned.reading, Reading::Fresh | Reading::Flowing)
                    && position >= assigned.position
                {
                    assigned.position = position;
                    assigned.reading = Reading::Flowing;
                    events.push(Event::EndOfPartition { partition, position });
                }
            }
            Read::Failed { partition, offset, code, message } => {
                let Some(assigned) = self.assigned.get_mut(&partition) else { return Ok(()) };
                let offset = if offset.0 < 0 { assigned.position } else { offset };
                if matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset | Code::LogTruncation)
                {
                    tracing::warn!(%partition, %offset, %code, message, "an offset is not there");
                    assigned.reading = Reading::Failed;
                    return Err(Error::OffsetOutOfRange { partition, offset });
                }
                let found = error::from_code(code, Some(&partition.topic), message);
                if !matches!(found, Error::Unavailable { .. }) {
                    return Err(found);
                }
                tracing::warn!(%partition, error = %found, "fetching failed; it is tried again");
            }
        }
        Ok(())
    }

    /// Has the client go on at the position kept here. Tells whether it took it.
    fn reposition(&mut self, partition: &TopicPartition) -> Result<bool, Error> {
        let Some(assigned) = self.assigned.get(partition) else { return Ok(true) };
        let position = assigned.position;
        if assigned.reading == Reading::Failed {
            let restart = [(partition.clone(), position)];
            if !matches!(self.consumer().rebalance_protocol(), RebalanceProtocol::Eager) {
                self.stop(std::slice::from_ref(partition))?;
            }
            self.start(&restart)?;
            return Ok(true);
        }
        let list = list_of(&[(partition.clone(), position)])?;
        let outcome = match self.consumer().seek_partitions(list, SLICE) {
            Ok(list) => list.elements().first().map_or(Ok(()), |element| element.error()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(true),
            // The fetcher has not started yet, or did not answer in time.
            Err(error) => {
                tracing::debug!(%partition, %error, "seeking is tried again");
                Ok(false)
            }
        }
    }

    fn repeat_seeks(&mut self) -> Result<(), Error> {
        let seeking = |(partition, assigned): (&TopicPartition, &Assigned)| {
            (assigned.reading == Reading::Seeking).then(|| partition.clone())
        };
        let waiting: Vec<TopicPartition> = self.assigned.iter().filter_map(seeking).collect();
        for partition in waiting {
            if self.reposition(&partition)?
                && let Some(assigned) = self.assigned.get_mut(&partition)
            {
                assigned.reading = Reading::Fresh;
            }
        }
        Ok(())
    }

    fn poll_until(&mut self, deadline: Deadline, events: &mut Vec<Event>) -> Result<(), Error> {
        let before = events.len();
        loop {
            self.serve_own(Duration::ZERO, events)?;
            self.repeat_seeks()?;
            let fresh = self.forward_fresh();
            let pause = Duration::from_millis(if fresh { 10 } else { 200 });
            let wait = if events.len() > before { Duration::ZERO } else { deadline.slice().min(pause) };
            for read in self.batches.as_mut().expect("taken on drop only").read(wait) {
                let taken = self.take_read(read, events);
                self.errors.extend(taken.err());
            }
            if events.len() > before || !self.errors.is_empty() || deadline.passed() {
                return Ok(());
            }
        }
    }
}

/// What it may mean that the group's offsets are not told: librdkafka gives one error for both.
fn unstable(message: &str) -> String {
    format!(
        "the group's committed offsets: {message}; the coordinator is away, or a transaction that never ends holds them \
         (`kafka-transactions.sh find-hanging`)"
    )
}

impl Consumer for KafkaConsumer {
    fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Error> {
        self.require_group()?;
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        self.consumer().subscribe(&names).map_err(|error| error::map(&error, None))?;
        self.subscribed = topics.to_vec();
        Ok(())
    }

    fn assign(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        if let Some((partition, _)) = positions.iter().find(|(partition, _)| self.assigned.contains_key(partition)) {
            return Err(invalid(format!("`{partition}` is assigned already")));
        }
        self.start(positions)
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        if partitions.is_empty() && self.pending != Pending::Unassign {
            return Ok(());
        }
        self.stop(partitions)
    }

    fn poll(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        if let Some(error) = self.errors.pop_front() {
            return Err(error);
        }
        let before = events.len();
        let outcome = self.poll_until(Deadline::after(wait), events);
        self.errors.extend(outcome.err());
        // What came in first is handed out first.
        if events.len() > before {
            return Ok(());
        }
        self.errors.pop_front().map_or(Ok(()), Err)
    }

    fn poll_group(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        match self.errors.pop_front() {
            Some(error) => Err(error),
            None => self.serve_own(wait, events),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.require_assigned(partitions)?;
        let list = list_without_offsets(partitions);
        self.consumer().pause(&list).map_err(|error| error::map(&error, None))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.require_assigned(partitions)?;
        let list = list_without_offsets(partitions);
        self.consumer().resume(&list).map_err(|error| error::map(&error, None))
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.require_assigned(std::slice::from_ref(partition))?;
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.position = offset;
        }
        let taken = self.reposition(partition)?;
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.reading = if taken { Reading::Fresh } else { Reading::Seeking };
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Offset>>, Error> {
        self.require_group()?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Deadline::after(wait);
        loop {
            // A `read_committed` consumer asks for stable offsets and is told to come again while a transaction holds them.
            let asked = self.consumer().committed_offsets(list_without_offsets(partitions), deadline.left());
            let found = asked.map_err(|error| error::map(&error, None)).and_then(|list| offsets_of(&list, partitions));
            match found {
                Err(Error::Unavailable { message }) => match self.fatal() {
                    Some(fatal) => return Err(fatal),
                    None if deadline.passed() => return Err(Error::Unavailable { message: unstable(&message) }),
                    None => deadline.pause(Duration::from_millis(50)),
                },
                outcome => return outcome,
            }
        }
    }

    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Error> {
        self.shared.cluster.watermarks(partition, wait)
    }

    fn watermarks_of(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Watermarks>, Error> {
        let cluster = &self.shared.cluster;
        std::thread::scope(|scope| {
            let ask = |some: &[TopicPartition]| some.iter().map(|one| cluster.watermarks(one, wait)).collect();
            let parts = partitions.chunks(partitions.len().div_ceil(WATERMARKS_AT_ONCE).max(1));
            let asked: Vec<_> =
                parts.map(|part| scope.spawn(move || -> Result<Vec<Watermarks>, Error> { ask(part) })).collect();
            let mut all = Vec::with_capacity(partitions.len());
            for part in asked {
                all.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(all)
        })
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Offset)], wait: Duration) -> Result<(), Error> {
        self.require_group()?;
        if offsets.is_empty() {
            return Ok(());
        }
        let list = list_of(offsets)?;
        match native::commit(self.consumer(), &list, wait) {
            Some(Ok(())) => Ok(()),
            Some(Err(code)) => {
                Err(self.fatal().unwrap_or_else(|| error::from_code(code, None, format!("committing offsets: {code}"))))
            }
            None => Err(Error::Unavailable { message: "no answer to an offset commit".into() }),
        }
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        if !self.grouped {
            return None;
        }
        self.consumer().group_metadata().map(|metadata| GroupMetadata(Box::new(metadata)))
    }

    fn close(self: Box<Self>, _leave: Leave) {
        // librdkafka decides by the membership: a dynamic member leaves the group, a static one keeps its seat.
        drop(self);
    }
}

impl Drop for KafkaConsumer {
    /// Closes the client on a thread of its own, and waits for that for a while.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        let Some(batches) = self.batches.take() else { return };
        let (done, closed) = mpsc::channel();
        let work = move || {
            // A rebalance that was handed out and not answered would keep the client from closing.
            let consumer = batches.consumer();
            let given_up = consumer.assignment().and_then(|assignment| give_up(consumer, &assignment));
            if let Err(error) = given_up {
                tracing::debug!(%error, "giving up the assignment while closing");
            }
            drop(batches);
            // Nobody listens any more when it took too long.
            done.send(()).ok();
        };
        match std::thread::Builder::new().name("consumer-close".into()).spawn(work) {
            Ok(_) if closed.recv_timeout(CLOSE_WAIT).is_err() => {
                tracing::warn!("a consumer takes long to close; not waited for");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no thread to close a consumer on"),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid { message: message.into() }
}
