//! What rdkafka's safe interface lacks: reading in batches, waiting for sends without spinning, commits with a bound and
//! an outcome, topic ids. The one module with
//! unsafe code; what it exports is safe.
//!
//! Batches come from a queue of our own that every assigned partition's queue is forwarded to; the consumer's own queue keeps
//! rebalances and errors and is polled through rdkafka. (Reading the consumer's queue in batches would swallow rebalances.) They are
//! read with `rd_kafka_consume_callback_queue`: its sibling `rd_kafka_consume_batch_queue` takes an end of partition for a record
//! and believes the consumer to be one offset further than it is, so that the next internal pause (every rebalance of the
//! cooperative protocol has one) skips a record. Invariants: the queue is destroyed before its client; a librdkafka message lives
//! only inside the callback, its bytes are copied out into one allocation for a batch.
//!
//! Not here: which partitions are assigned and what an error means (`consumer`).

#![expect(unsafe_code, reason = "rdkafka binds neither batch reads nor bounded commits nor DescribeTopics")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::mem;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use super::{Deadline, SLICE};
use crate::base::ids::{Offset, Partition, Topic, TopicPartition};
use crate::base::record::{Header, Headers, Record};
use crate::base::time::Timestamp;
use crate::base::value::Text;
use crate::broker::{Fetched, TopicIdentity};

/// Bytes of keys, values and header values that share one allocation, except that a larger record has one of its own. It lives as long
/// as the last record in it.
const ARENA_BYTES: usize = 256 * 1024;

/// What came out of the queue.
#[derive(Debug)]
pub(super) enum Read {
    Records(Fetched),
    End { partition: TopicPartition, position: Offset },
    Failed { partition: TopicPartition, offset: Offset, code: RDKafkaErrorCode, message: String },
}

/// A queue of librdkafka's.
struct Queue(NonNull<c::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are locked inside and may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Makes a queue for a client.
    ///
    /// # Safety
    /// `client` is live, and outlives the queue.
    unsafe fn new(client: *mut c::rd_kafka_t) -> Self {
        // SAFETY: the caller vouches for the client.
        let queue = unsafe { c::rd_kafka_queue_new(client) };
        Self(NonNull::new(queue).expect("librdkafka allocates or aborts"))
    }

    fn wake(&self) {
        // SAFETY: the queue is live while `self` is.
        unsafe { c::rd_kafka_queue_yield(self.0.as_ptr()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `rd_kafka_queue_new` and is destroyed once, here.
        unsafe { c::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// A consumer whose partitions are read in batches.
pub(super) struct BatchConsumer<C: ConsumerContext + 'static> {
    // Fields are dropped in this order: the queue goes before its client.
    queue: Option<Arc<Queue>>,
    consumer: BaseConsumer<C>,
    /// Names that came by, so that a batch allocates none.
    names: HashMap<Box<str>, Topic>,
    /// Room for drafts, used again by each batch.
    drafts: Vec<(usize, Draft)>,
}

impl<C: ConsumerContext + 'static> BatchConsumer<C> {
    /// Wraps a consumer. Whatever comes into its own queue ends a wait in [`BatchConsumer::read`].
    pub(super) fn new(mut consumer: BaseConsumer<C>) -> Self {
        // SAFETY: the client lives in `consumer`, which is dropped after the queue; the callback's share of the queue is given up
        // in `drop` before either.
        let queue = Arc::new(unsafe { Queue::new(consumer.client().native_ptr()) });
        let waker = Arc::clone(&queue);
        consumer.set_nonempty_callback(move || waker.wake());
        Self { queue: Some(queue), consumer, names: HashMap::new(), drafts: Vec::new() }
    }

    /// The consumer, for everything but reading.
    pub(super) fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    fn queue(&self) -> *mut c::rd_kafka_queue_t {
        self.queue.as_ref().expect("taken in `drop` only").0.as_ptr()
    }

    /// Lets what is fetched of a partition come out of [`BatchConsumer::read`]. To be called again after each assignment: librdkafka
    /// forgets it when it stops fetching a partition.
    pub(super) fn forward(&self, partition: &TopicPartition) {
        let Ok(topic) = CString::new(partition.topic.as_str()) else { return };
        // SAFETY: client and topic name are live; the returned references are given back below.
        unsafe {
            let client = self.consumer.client().native_ptr();
            // A topic that is new to the client it asks for at once then; of itself it looks once a second for what it does not know.
            let known = c::rd_kafka_topic_new(client, topic.as_ptr(), ptr::null_mut());
            let source = c::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition.partition.0);
            if !source.is_null() {
                c::rd_kafka_queue_forward(source, self.queue());
                c::rd_kafka_queue_destroy(source);
            }
            if !known.is_null() {
                c::rd_kafka_topic_destroy(known);
            }
        }
    }

    /// Takes all that has come in, waiting up to `wait` for the first thing; whatever wakes the consumer ends the wait, too.
    ///
    /// All of it: while librdkafka hands out a part, its fetcher sees an empty queue and asks for more, whatever was left there.
    pub(super) fn read(&mut self, wait: Duration) -> Vec<Read> {
        let mut batch = Batch {
            names: &mut self.names,
            arena: Vec::new(),
            reads: Vec::new(),
            drafts: mem::take(&mut self.drafts),
            open: Vec::new(),
        };
        let queue = self.queue.as_ref().expect("taken in `drop` only").0.as_ptr();
        // SAFETY: the queue is live; the callback runs inside this call only and gets the batch that is borrowed meanwhile.
        unsafe {
            let opaque = (&raw mut batch).cast::<c_void>();
            c::rd_kafka_consume_callback_queue(queue, millis(wait), Some(on_message), opaque);
        }
        batch.settle();
        let Batch { reads, drafts, .. } = batch;
        self.drafts = drafts;
        reads
    }
}

impl<C: ConsumerContext + 'static> Drop for BatchConsumer<C> {
    fn drop(&mut self) {
        // Exchanging the callback drops the old one and its share of the queue; librdkafka holds the queue's lock meanwhile.
        self.consumer.set_nonempty_callback(|| {});
        self.queue = None;
    }
}

impl<C: ConsumerContext + 'static> fmt::Debug for BatchConsumer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchConsumer")
    }
}

/// Takes one message of a batch.
///
/// # Safety
/// `message` is live during the call, `batch` points to a [`Batch`] that nobody else uses meanwhile.
unsafe extern "C" fn on_message(message: *mut c::rd_kafka_message_t, batch: *mut c_void) {
    // SAFETY: the caller vouches for both.
    let (message, batch) = unsafe { (&*message, &mut *batch.cast::<Batch<'_>>()) };
    if !batch.arena.is_empty() && batch.arena.len() + message.len + message.key_len > ARENA_BYTES {
        batch.settle();
        // The next one is likely to be as large as this one.
        batch.arena.reserve(ARENA_BYTES);
    }
    batch.push(message);
}

/// What is being read, in order per partition; records of one partition and arena stand together up to an end or a failure.
struct Batch<'a> {
    names: &'a mut HashMap<Box<str>, Topic>,
    /// The bytes of the records that are drafts, side by side.
    arena: Vec<u8>,
    reads: Vec<Read>,
    /// Records, each with the place in `reads` that it belongs to.
    drafts: Vec<(usize, Draft)>,
    /// Places in `reads` that records of a partition still go to.
    open: Vec<(*mut c::rd_kafka_topic_t, i32, usize)>,
}

impl Batch<'_> {
    fn push(&mut self, message: &c::rd_kafka_message_t) {
        let same =
            |entry: &(*mut c::rd_kafka_topic_t, i32, usize)| (entry.0, entry.1) == (message.rkt, message.partition);
        if message.err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.open.retain(|entry| !same(entry));
            let partition = partition_of(message, self.names);
            self.reads.push(incident(message, partition));
            return;
        }
        let Some(draft) = Draft::of(message, &mut self.arena) else { return };
        let at = match self.open.iter().find(|entry| same(entry)) {
            Some(entry) => entry.2,
            None => {
                let partition = partition_of(message, self.names);
                self.reads.push(Read::Records(Fetched { partition, records: Vec::new() }));
                self.open.push((message.rkt, message.partition, self.reads.len() - 1));
                self.reads.len() - 1
            }
        };
        self.drafts.push((at, draft));
    }

    /// Makes records of the drafts.
    fn settle(&mut self) {
        // Room that is not used would stay as long as the records do.
        self.arena.shrink_to_fit();
        let arena = Bytes::from(mem::take(&mut self.arena));
        let mut counts = vec![0; self.reads.len()];
        self.drafts.iter().for_each(|(at, _)| counts[*at] += 1);
        for (read, count) in self.reads.iter_mut().zip(counts) {
            if let Read::Records(fetched) = read {
                fetched.records.reserve_exact(count);
            }
        }
        for (at, draft) in self.drafts.drain(..) {
            if let Read::Records(fetched) = &mut self.reads[at] {
                fetched.records.push(draft.finish(&arena));
            }
        }
        // What comes behind begins lists of its own: a list that grows is copied.
        self.open.clear();
    }
}

/// What a message with an error code says.
fn incident(message: &c::rd_kafka_message_t, partition: TopicPartition) -> Read {
    let offset = Offset(message.offset);
    if message.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
        return Read::End { partition, position: offset };
    }
    // SAFETY: the payload of an error is its text, or absent.
    let text = unsafe { bytes_of(message.payload.cast(), message.len) }.unwrap_or_default();
    Read::Failed {
        partition,
        offset,
        code: message.err.into(),
        message: String::from_utf8_lossy(text).trim_end_matches('\0').to_owned(),
    }
}

/// Returns the partition of a message; librdkafka knows the topic of whatever comes from a partition's queue.
fn partition_of(message: &c::rd_kafka_message_t, names: &mut HashMap<Box<str>, Topic>) -> TopicPartition {
    let name = if message.rkt.is_null() {
        "".into()
    } else {
        // SAFETY: the topic handle is kept by its message, and its name is a C string that lives as long.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(message.rkt)) }.to_string_lossy()
    };
    let topic = match names.get(name.as_ref()) {
        Some(topic) => topic.clone(),
        None => names.entry(name.as_ref().into()).or_insert_with(|| Topic::new(&name)).clone(),
    };
    TopicPartition { topic, partition: Partition(message.partition) }
}

/// Copies bytes into the arena.
fn keep(arena: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    start..arena.len()
}

/// A record whose bytes stand in the arena.
struct Draft {
    offset: Offset,
    timestamp: Timestamp,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Vec<(Text, Option<Range<usize>>)>,
}

impl Draft {
    /// None for a transaction's marker, which this way of reading does not leave out: it alone has no type of timestamp.
    fn of(message: &c::rd_kafka_message_t, arena: &mut Vec<u8>) -> Option<Self> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live, its key and payload have the lengths it says.
        let (timestamp, key, value) = unsafe {
            let timestamp = c::rd_kafka_message_timestamp(message, &raw mut kind);
            let key = bytes_of(message.key.cast(), message.key_len);
            (timestamp, key, bytes_of(message.payload.cast(), message.len))
        };
        let known = kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        if !known && key.is_none() && value.is_none() {
            return None;
        }
        Some(Self {
            offset: Offset(message.offset),
            timestamp: if known { Timestamp(timestamp) } else { Timestamp::UNKNOWN },
            key: key.map(|bytes| keep(arena, bytes)),
            value: value.map(|bytes| keep(arena, bytes)),
            headers: headers_of(message, arena),
        })
    }

    fn finish(self, arena: &Bytes) -> Record {
        let slice = |range: Range<usize>| arena.slice(range);
        let header = |(name, value): (Text, Option<Range<usize>>)| Header { name, value: value.map(slice) };
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(slice),
            value: self.value.map(slice),
            headers: Headers::new(self.headers.into_iter().map(header).collect()),
        }
    }
}

fn headers_of(message: &c::rd_kafka_message_t, arena: &mut Vec<u8>) -> Vec<(Text, Option<Range<usize>>)> {
    let mut headers = Vec::new();
    let mut list = ptr::null_mut();
    // SAFETY: the message is live; the list, its names (C strings) and values belong to it.
    unsafe {
        let found = c::rd_kafka_message_headers(message, &raw mut list);
        if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        while c::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut size)
            == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let text = Text::from(CStr::from_ptr(name).to_string_lossy());
            headers.push((text, bytes_of(value.cast(), size).map(|bytes| keep(arena, bytes))));
        }
    }
    headers
}

/// Borrows bytes of librdkafka's; none for a null pointer.
///
/// # Safety
/// `start` is null or points to `length` bytes that live for `'a`.
unsafe fn bytes_of<'a>(start: *const u8, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for the bytes.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, length) })
}

fn millis(wait: Duration) -> c_int {
    // Rounded up, so that a wait of less than a millisecond does not spin.
    c_int::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX)
}

/// Waits up to a slice until everything sent was acknowledged or given up; tells whether it was. Another thread polls.
///
/// rdkafka's own `flush` polls in steps of 100 ms, and does not keep librdkafka from waiting for `linger.ms`.
pub(super) fn flushed<C: ProducerContext>(producer: &BaseProducer<C>) -> bool {
    // SAFETY: the client is live while its producer is borrowed.
    let outcome = unsafe { c::rd_kafka_flush(producer.client().native_ptr(), millis(SLICE)) };
    outcome == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Commits offsets for a consumer's group; none when no answer came within `wait`.
///
/// Of rdkafka's two forms one waits without end and the other never tells the outcome.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    wait: Duration,
) -> Option<Result<(), RDKafkaErrorCode>> {
    let client = consumer.client().native_ptr();
    // SAFETY: client and list are live; the list is copied by the call; the event and what it holds are read before it is destroyed.
    // An answer that comes too late goes to a queue that was disabled.
    unsafe {
        let queue = Queue::new(client);
        let sent = c::rd_kafka_commit_queue(client, offsets.ptr(), queue.0.as_ptr(), None, ptr::null_mut());
        if sent != FINE {
            return Some(Err(sent.into()));
        }
        let event = c::rd_kafka_queue_poll(queue.0.as_ptr(), millis(wait));
        if event.is_null() {
            return None;
        }
        let mut error = c::rd_kafka_event_error(event);
        let list = c::rd_kafka_event_topic_partition_list(event);
        if error == FINE && !list.is_null() {
            let elements = slice::from_raw_parts((*list).elems, usize::try_from((*list).cnt).unwrap_or(0));
            error = elements.iter().map(|element| element.err).find(|error| *error != FINE).unwrap_or(FINE);
        }
        c::rd_kafka_event_destroy(event);
        Some(if error == FINE { Ok(()) } else { Err(error.into()) })
    }
}

const FINE: c::rd_kafka_resp_err_t = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// What the broker says of topics, by topic: none is one that is not there. Those that it says nothing of, within `wait`, are left out.
pub(super) type Identities = HashMap<Topic, Option<TopicIdentity>>;

/// Asks which incarnations of topics there are.
pub(super) fn topic_identities<C: rdkafka::ClientContext>(
    client: &Client<C>,
    topics: &[&Topic],
    wait: Duration,
) -> Identities {
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(topic.as_str()).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    if pointers.is_empty() {
        return HashMap::new();
    }
    // SAFETY: the client is live; names outlive the collection, which copies them; collection, options and queue are destroyed
    // once, after their last use. The result of the request, should it come late, goes to a queue that was disabled.
    unsafe {
        let queue = Queue::new(client.native_ptr());
        let collection = c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = c::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
        let mut text = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis(wait), text.as_mut_ptr(), text.len());
        c::rd_kafka_DescribeTopics(client.native_ptr(), collection, options, queue.0.as_ptr());
        c::rd_kafka_AdminOptions_destroy(options);
        c::rd_kafka_TopicCollection_destroy(collection);
        let deadline = Deadline::after(wait);
        loop {
            let event = c::rd_kafka_queue_poll(queue.0.as_ptr(), millis(deadline.slice()));
            if !event.is_null() {
                let told = described(event);
                c::rd_kafka_event_destroy(event);
                return told;
            }
            if deadline.passed() {
                return HashMap::new();
            }
        }
    }
}

/// Reads the identities out of an event.
///
/// # Safety
/// The event is live; it may be of any kind.
unsafe fn described(event: *mut c::rd_kafka_event_t) -> Identities {
    use c::rd_kafka_resp_err_t as Answer;
    let mut told = HashMap::new();
    // SAFETY: everything below is borrowed from the event, which the caller keeps.
    unsafe {
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return told;
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() {
            return told;
        }
        for topic in slice::from_raw_parts(topics, count) {
            let failed = c::rd_kafka_TopicDescription_error(*topic);
            let name = Topic::new(CStr::from_ptr(c::rd_kafka_TopicDescription_name(*topic)).to_string_lossy());
            let answer = if failed.is_null() { FINE } else { c::rd_kafka_error_code(failed) };
            if answer == FINE {
                told.insert(name, Some(identity(*topic)));
            } else if answer == Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                told.insert(name, None);
            }
        }
    }
    told
}

/// Reads one topic's identity.
///
/// # Safety
/// The description is live and without an error.
unsafe fn identity(topic: *const c::rd_kafka_TopicDescription_t) -> TopicIdentity {
    // SAFETY: everything below is borrowed from the description.
    unsafe {
        let mut partitions = 0;
        c::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = c::rd_kafka_TopicDescription_topic_id(topic);
        let text = if id.is_null() { ptr::null() } else { c::rd_kafka_Uuid_base64str(id) };
        let text = if text.is_null() { "".into() } else { CStr::from_ptr(text).to_string_lossy() };
        // A broker from before topic ids (Kafka 2.8) leaves zeros.
        let id = text.bytes().any(|letter| letter != b'A').then(|| text.into_owned());
        TopicIdentity { id, partitions: u32::try_from(partitions).unwrap_or(u32::MAX) }
    }
}
