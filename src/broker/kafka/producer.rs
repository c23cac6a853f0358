//! A producer: sends on the caller's thread, waits for acknowledgements and ends transactions beside it.
//!
//! Two threads stand behind each producer: one polls librdkafka for delivery reports, one carries out commits. Both share the
//! client and outlive the caller's handle, so that a client that hangs while closing hangs there. Decides what a failed commit
//! means: before the call that ends the transaction went out, "abort"; after it, "unknown" unless the broker says. Invariants: the
//! first record that could not be delivered fails the commit; nothing is sent while a commit is under way. Not here: what the
//! offsets of a commit are.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header as RdHeader, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Statistics, TopicPartitionList};

use super::convert::{check_size, list_at, payload_bytes, timestamp};
use super::figures::FigureSink;
use super::{Cluster, Deadline, SLICE, config, error, native};
use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::base::record::{Outgoing, Written};
use crate::broker::{Acknowledged, Commit, CommitProgress, Error, Producer, ProducerSettings};
use crate::crash::{self, Step};

/// How long adding offsets to a transaction may take.
const OFFSETS_WAIT: Duration = Duration::from_secs(10);

/// librdkafka does not always keep to that: where the group's coordinator moves meanwhile its call may never return (its issue 5511).
/// After this much longer nobody waits for it any more.
const OFFSETS_GRACE: Duration = Duration::from_secs(2);

/// How long the end of a transaction is asked for until its outcome counts as unknown.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// No offset.
const NONE: i64 = -1;

/// A partition that is written to.
#[derive(Debug)]
struct Slot {
    partition: TopicPartition,
    last_offset: AtomicI64,
    /// How many were acknowledged.
    records: AtomicU64,
    /// Somebody waits for this one.
    watched: bool,
}

impl Slot {
    fn new(partition: TopicPartition, watched: bool) -> Self {
        Self { partition, last_offset: AtomicI64::new(NONE), records: AtomicU64::new(0), watched }
    }

    /// What came through; none when nothing did.
    fn written(&self) -> Option<Written> {
        match self.last_offset.load(Ordering::Acquire) {
            NONE => None,
            last => Some(Written {
                partition: self.partition.clone(),
                last: Offset(last),
                records: self.records.load(Ordering::Relaxed),
            }),
        }
    }
}

/// A topic that is written to.
#[derive(Debug)]
struct TopicSlots {
    /// The largest record batch it takes, as far as that is known.
    limit: Option<usize>,
    partitions: Vec<Option<Arc<Slot>>>,
}

/// A record that was given up.
#[derive(Clone, Debug)]
struct Undelivered {
    partition: TopicPartition,
    code: Code,
    size_bytes: usize,
    keyless: bool,
}

/// The callbacks' end.
struct Deliveries {
    /// The first record that could not be delivered since the last commit or abort.
    failed: Mutex<Option<Undelivered>>,
    /// Told when a watched record came through.
    settled: Condvar,
    figures: FigureSink,
}

impl ClientContext for Deliveries {
    fn stats(&self, statistics: Statistics) {
        self.figures.take(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        super::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        super::log_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Arc<Slot>) {
        match result {
            // A report without an offset is of a duplicate that the broker has already: written, but nobody knows where.
            Ok(message) if message.offset() >= 0 => {
                slot.records.fetch_add(1, Ordering::Relaxed);
                slot.last_offset.fetch_max(message.offset(), Ordering::Release);
            }
            Ok(message) => self.fail(&slot, Code::DuplicateSequenceNumber, message),
            Err((error, message)) => self.fail(&slot, error.rdkafka_error_code().unwrap_or(Code::Unknown), message),
        }
        if slot.watched {
            // The waiter holds the lock between looking and waiting.
            drop(self.failed());
            self.settled.notify_all();
        }
    }
}

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Option<Undelivered>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, slot: &Slot, code: Code, message: &BorrowedMessage<'_>) {
        let size_bytes = message.payload_len() + message.key_len();
        let keyless = message.key().is_none();
        let undelivered = Undelivered { partition: slot.partition.clone(), code, size_bytes, keyless };
        self.failed().get_or_insert(undelivered);
    }
}

type Client = BaseProducer<Deliveries>;

/// A commit to carry out.
struct Job {
    commit: Commit,
    written: Vec<Arc<Slot>>,
}

/// Between the caller and the committing thread.
#[derive(Default)]
struct Desk {
    inner: Mutex<DeskInner>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct DeskInner {
    job: Option<Job>,
    done: Option<Result<Acknowledged, Error>>,
    /// By when offsets must have been added, while they are.
    offsets_due: Option<Deadline>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, DeskInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, inner: MutexGuard<'a, DeskInner>, wait: Duration) -> MutexGuard<'a, DeskInner> {
        self.changed.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No transaction; without a transactional id, the only one beside `Committing`.
    Idle,
    Open,
    Committing,
    /// The committing thread does not come back: good for nothing but to be dropped, and fenced by the next one.
    Hung,
}

/// A producer to a Kafka cluster.
pub(super) struct KafkaProducer {
    /// Given up before the threads are told to stop: the last of them closes the client.
    client: Option<Arc<Client>>,
    desk: Arc<Desk>,
    cluster: Arc<Cluster>,
    topics: HashMap<Topic, TopicSlots, ahash::RandomState>,
    /// Written to since the last commit or abort.
    written: Vec<Arc<Slot>>,
    transactional: bool,
    initialised: bool,
    phase: Phase,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl KafkaProducer {
    pub(super) fn new(cluster: Arc<Cluster>, settings: &ProducerSettings) -> Result<Self, Error> {
        let config = config::producer(&cluster.settings, settings, cluster.smallest_limit());
        let figures = FigureSink::new(&cluster.figures);
        let deliveries = Deliveries { failed: Mutex::new(None), settled: Condvar::new(), figures };
        let client = BaseProducer::from_config_and_context(&config, deliveries).map_err(|e| error::refused(&e))?;
        let client = Arc::new(client);
        let desk = Arc::new(Desk::default());
        let name = settings.transactional_id.as_deref().unwrap_or("plain");
        let transactional = settings.transactional_id.is_some();
        let (polled, stop) = (Arc::clone(&client), Arc::clone(&desk));
        spawn(format!("producer-poll-{name}"), move || {
            while !stop.is_stopped() {
                polled.poll(SLICE);
            }
        })?;
        let (committed, orders) = (Arc::clone(&client), Arc::clone(&desk));
        let spawned = spawn(format!("producer-{name}"), move || serve_commits(&committed, &orders, transactional));
        if let Err(error) = spawned {
            desk.stopped.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(Self {
            client: Some(client),
            desk,
            cluster,
            topics: HashMap::default(),
            written: Vec::new(),
            transactional,
            initialised: false,
            phase: Phase::Idle,
        })
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("taken on drop only")
    }

    fn require(&self, phase: Phase) -> Result<(), Error> {
        if self.phase == phase { Ok(()) } else { Err(invalid(format!("the producer is {:?}", self.phase))) }
    }

    fn require_transactional(&self) -> Result<(), Error> {
        if self.transactional { Ok(()) } else { Err(invalid("the producer has no transactional id")) }
    }

    /// Returns the slot of a record's partition, after a look at what the topic takes. The map is emptied by each commit, so a new
    /// slot is a partition first written to since.
    fn slot(&mut self, record: &Outgoing) -> Result<Arc<Slot>, Error> {
        let index = record.partition.index();
        let Self { topics, cluster, written, .. } = self;
        let topic = match topics.get_mut(&record.topic) {
            Some(topic) => topic,
            None => topics
                .entry(record.topic.clone())
                .or_insert_with(|| TopicSlots { limit: cluster.limit(&record.topic), partitions: Vec::new() }),
        };
        check_size(record, topic.limit)?;
        if let Some(Some(slot)) = topic.partitions.get(index) {
            return Ok(Arc::clone(slot));
        }
        let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let slot = Arc::new(Slot::new(partition, false));
        if topic.partitions.len() <= index {
            topic.partitions.resize(index + 1, None);
        }
        topic.partitions[index] = Some(Arc::clone(&slot));
        written.push(Arc::clone(&slot));
        Ok(slot)
    }

    /// Hands one record to librdkafka; none when its queue is full.
    fn send_one(&self, record: &Outgoing, slot: Arc<Slot>) -> Result<Option<()>, Error> {
        let headers = (!record.headers.is_empty()).then(|| {
            record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
                headers.insert(RdHeader { key: &header.name, value: header.value.as_deref() })
            })
        });
        let outgoing = BaseRecord {
            topic: record.topic.as_str(),
            partition: Some(record.partition.0),
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: timestamp(record.timestamp),
            headers,
            delivery_opaque: slot,
        };
        match self.client().send(outgoing) {
            Ok(()) => Ok(Some(())),
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) => Ok(None),
            Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                Err(Error::RecordTooLarge { topic: record.topic.clone(), size_bytes: payload_bytes(record) })
            }
            Err((KafkaError::MessageProduction(code), _)) => {
                let (topic, size_bytes) = (record.topic.clone(), payload_bytes(record));
                Err(self.fatal().unwrap_or_else(|| error::undelivered(code, topic, size_bytes, record.key.is_none())))
            }
            Err((error, _)) => Err(self.fatal().unwrap_or_else(|| error::map(&error, Some(&record.topic)))),
        }
    }

    /// Returns the error that made the client useless, if one has.
    fn fatal(&self) -> Option<Error> {
        let (code, reason) = self.client().client().fatal_error()?;
        Some(error::fatal(code, reason))
    }
}

impl Producer for KafkaProducer {
    fn init_transactions(&mut self, wait: Duration) -> Result<(), Error> {
        self.require_transactional()?;
        // librdkafka takes a second call for a mistake.
        if self.initialised {
            return self.require(Phase::Idle);
        }
        self.client().init_transactions(wait).map_err(|e| error::map(&e, None))?;
        self.initialised = true;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.require_transactional()?;
        self.require(Phase::Idle)?;
        self.client().begin_transaction().map_err(|e| error::map(&e, None))?;
        self.phase = Phase::Open;
        Ok(())
    }

    fn send(&mut self, records: &mut VecDeque<Outgoing>) -> Result<(), Error> {
        self.require(if self.transactional { Phase::Open } else { Phase::Idle })?;
        while let Some(record) = records.front() {
            let slot = self.slot(record)?;
            if self.send_one(record, slot)?.is_none() {
                return Ok(());
            }
            records.pop_front();
        }
        Ok(())
    }

    fn commit(&mut self, commit: Commit) {
        let expected = if self.transactional { Phase::Open } else { Phase::Idle };
        let refused = if self.phase != expected {
            Some(format!("the producer is {:?}", self.phase))
        } else if !self.transactional && !commit.offsets.is_empty() {
            Some("offsets cannot be committed without a transactional id".to_owned())
        } else {
            None
        };
        let written = std::mem::take(&mut self.written);
        self.topics.clear();
        let mut inner = self.desk.lock();
        match refused {
            Some(message) => inner.done = Some(Err(Error::Invalid { message })),
            None => inner.job = Some(Job { commit, written }),
        }
        drop(inner);
        self.desk.changed.notify_all();
        self.phase = Phase::Committing;
    }

    fn poll_commit(&mut self, wait: Duration) -> CommitProgress {
        if self.phase != Phase::Committing {
            return CommitProgress::Idle;
        }
        let deadline = Deadline::after(wait);
        let mut inner = self.desk.lock();
        loop {
            if let Some(done) = inner.done.take() {
                drop(inner);
                // A transaction that was not committed is still open until it is aborted.
                self.phase = if self.transactional && done.is_err() { Phase::Open } else { Phase::Idle };
                return CommitProgress::Finished(done);
            }
            if inner.offsets_due.is_some_and(Deadline::passed) {
                self.phase = Phase::Hung;
                let message = "the client does not come back from adding offsets".to_owned();
                return CommitProgress::Finished(Err(Error::OutcomeUnknown { message }));
            }
            if deadline.passed() {
                return CommitProgress::Pending;
            }
            inner = self.desk.wait(inner, deadline.slice());
        }
    }

    fn abort(&mut self, wait: Duration) -> Result<(), Error> {
        match self.phase {
            Phase::Idle => return Ok(()),
            Phase::Committing => return Err(invalid("a commit is under way")),
            Phase::Hung => return Err(invalid("the producer hangs")),
            Phase::Open => {}
        }
        self.client().abort_transaction(wait).map_err(|e| error::map(&e, None))?;
        failure(self.client()).take();
        self.written.clear();
        self.topics.clear();
        self.phase = Phase::Idle;
        Ok(())
    }

    fn send_and_wait(&mut self, record: Outgoing, wait: Duration) -> Result<Offset, Error> {
        if self.transactional {
            return Err(invalid("the producer is transactional"));
        }
        self.require(Phase::Idle)?;
        check_size(&record, self.cluster.limit(&record.topic))?;
        let partition = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let slot = Arc::new(Slot::new(partition, true));
        let deadline = Deadline::after(wait);
        while self.send_one(&record, Arc::clone(&slot))?.is_none() {
            if deadline.passed() {
                return Err(Error::Unavailable { message: "the producer's queue is full".into() });
            }
            deadline.pause(Duration::from_millis(5));
        }
        let deliveries = self.client().client().context();
        let mut failed = deliveries.failed();
        loop {
            let offset = slot.last_offset.load(Ordering::Acquire);
            if offset != NONE {
                return Ok(Offset(offset));
            }
            if failed.as_ref().is_some_and(|failed| failed.partition == slot.partition)
                && let Some(undelivered) = failed.take()
            {
                return Err(undelivered.into_error());
            }
            if deadline.passed() {
                let message = format!("no acknowledgement of a record for `{}`", slot.partition);
                return Err(Error::Unavailable { message });
            }
            let waited = deliveries.settled.wait_timeout(failed, deadline.slice());
            failed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        drop(self.client.take());
        self.desk.stopped.store(true, Ordering::Release);
        self.desk.changed.notify_all();
    }
}

/// The failure that the callbacks left.
fn failure(client: &Client) -> MutexGuard<'_, Option<Undelivered>> {
    client.client().context().failed()
}

impl Undelivered {
    fn into_error(self) -> Error {
        error::undelivered(self.code, self.partition.topic, self.size_bytes, self.keyless)
    }
}

/// The committing thread: one job at a time until the handle is gone.
fn serve_commits(client: &Client, desk: &Desk, transactional: bool) {
    let mut inner = desk.lock();
    while !desk.is_stopped() {
        match inner.job.take() {
            Some(job) => {
                drop(inner);
                let outcome = carry_out(client, desk, transactional, job);
                inner = desk.lock();
                inner.done = Some(outcome);
                desk.changed.notify_all();
            }
            None => inner = desk.wait(inner, SLICE),
        }
    }
}

fn carry_out(client: &Client, desk: &Desk, transactional: bool, job: Job) -> Result<Acknowledged, Error> {
    while !native::flushed(client) {
        if desk.is_stopped() {
            return Err(Error::OutcomeUnknown { message: "the producer was closed".into() });
        }
    }
    if let Some(undelivered) = failure(client).take() {
        let found = fatal_or(client, undelivered.into_error());
        // Nothing of a transaction that was not ended is seen: starting it again is safe.
        if let (Error::Unavailable { message }, true) = (&found, transactional) {
            return Err(Error::Aborted { message: message.clone() });
        }
        return Err(found);
    }
    crash::at(Step::Delivered);
    if transactional {
        if let (Some(group), false) = (&job.commit.group, job.commit.offsets.is_empty()) {
            let group = group.0.downcast_ref::<ConsumerGroupMetadata>();
            let group = group.ok_or_else(|| invalid("the group's metadata is of another broker"))?;
            send_offsets(client, desk, &job.commit, group)?;
        } else if !job.commit.offsets.is_empty() {
            return Err(invalid("offsets without the group that they belong to"));
        }
        crash::at(Step::OffsetsSent);
        end_transaction(client, desk)?;
        crash::at(Step::Ended);
    }
    let mut written: Vec<Written> = job.written.iter().filter_map(|slot| slot.written()).collect();
    written.sort();
    Ok(Acknowledged { written })
}

/// Returns the fatal error that made another one happen, if there is one.
fn fatal_or(client: &Client, error: Error) -> Error {
    match client.client().fatal_error() {
        Some((code, reason)) => error::fatal(code, reason),
        None => error,
    }
}

fn send_offsets(client: &Client, desk: &Desk, commit: &Commit, group: &ConsumerGroupMetadata) -> Result<(), Error> {
    let offsets = list_at(commit.offsets.iter().map(|(partition, offset)| (partition, *offset)))?;
    desk.lock().offsets_due = Some(Deadline::after(OFFSETS_WAIT + OFFSETS_GRACE));
    let added = add_offsets(client, desk, &offsets, group);
    desk.lock().offsets_due = None;
    added
}

fn add_offsets(
    client: &Client,
    desk: &Desk,
    offsets: &TopicPartitionList,
    group: &ConsumerGroupMetadata,
) -> Result<(), Error> {
    let deadline = Deadline::after(OFFSETS_WAIT);
    loop {
        match client.send_offsets_to_transaction(offsets, group, deadline.left()).map_err(|e| error::map(&e, None)) {
            Ok(()) => return Ok(()),
            Err(Error::Unavailable { message }) if deadline.passed() || desk.is_stopped() => {
                return Err(Error::Aborted { message });
            }
            Err(Error::Unavailable { .. }) => deadline.pause(Duration::from_millis(20)),
            Err(error) => return Err(error),
        }
    }
}

/// Ends the transaction; librdkafka takes a repeated call for a continuation of the first.
fn end_transaction(client: &Client, desk: &Desk) -> Result<(), Error> {
    let deadline = Deadline::after(COMMIT_WAIT);
    loop {
        match client.commit_transaction(SLICE).map_err(|e| error::map(&e, None)) {
            Ok(()) => return Ok(()),
            Err(Error::Unavailable { message }) if deadline.passed() || desk.is_stopped() => {
                return Err(Error::OutcomeUnknown { message });
            }
            Err(Error::Unavailable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let spawned = std::thread::Builder::new().name(name).spawn(work);
    spawned.map(drop).map_err(|error| Error::Unavailable { message: format!("no thread for a producer: {error}") })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::Invalid { message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::broker::kafka::{KafkaBroker, KafkaSettings};

    #[test]
    fn a_client_that_does_not_come_back_from_adding_offsets_is_given_up() {
        let broker = KafkaBroker::new(KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".to_owned(),
            properties: BTreeMap::new(),
            client_id: "test".to_owned(),
        })
        .unwrap();
        let settings = ProducerSettings { transactional_id: Some("t".to_owned()), ..ProducerSettings::default() };
        let mut producer = KafkaProducer::new(Arc::clone(&broker.cluster), &settings).unwrap();
        producer.phase = Phase::Committing;
        producer.desk.lock().offsets_due = Some(Deadline::after(Duration::from_secs(60)));
        assert!(matches!(producer.poll_commit(Duration::ZERO), CommitProgress::Pending));
        producer.desk.lock().offsets_due = Some(Deadline::after(Duration::ZERO));
        let told = producer.poll_commit(Duration::ZERO);
        assert!(matches!(told, CommitProgress::Finished(Err(Error::OutcomeUnknown { .. }))), "{told:?}");
        assert!(matches!(producer.poll_commit(Duration::ZERO), CommitProgress::Idle), "said once");
        assert!(producer.begin().is_err() && producer.abort(Duration::ZERO).is_err(), "good for nothing any more");
    }
}
