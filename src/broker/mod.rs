//! L4: the seam to event brokers. What a stream thread needs and no more, batched so that `dyn` costs nothing per record.
//!
//! Implementations: [`local`] (one process, in memory or on disk) and [`kafka`] (rdkafka). One contract suite runs on all of
//! them (`tests/it/broker_contract.rs`). The words are Kafka's and so is the meaning: a transaction's records are visible to a
//! `ReadCommitted` consumer once it is committed, never before and never when aborted, in the order of the partition.
//!
//! Nothing here decides partitions, offsets to start from, or what to do about an error: the callers do.

pub mod kafka;
pub mod local;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::base::record::{Outgoing, Record, Written};
use crate::error::{Code, Kind, codes};

/// A broker or cluster that consumers, producers and admin clients connect to.
pub trait Broker: Send + Sync + fmt::Debug {
    /// Makes a consumer; nothing is contacted yet.
    ///
    /// # Errors
    /// Settings that the broker's client refuses.
    fn consumer(&self, settings: &ConsumerSettings) -> Result<Box<dyn Consumer>, Error>;

    /// Makes a producer; nothing is contacted yet.
    ///
    /// # Errors
    /// Settings that the broker's client refuses.
    fn producer(&self, settings: &ProducerSettings) -> Result<Box<dyn Producer>, Error>;

    /// Makes an admin client.
    ///
    /// # Errors
    /// Settings that the broker's client refuses.
    fn admin(&self) -> Result<Box<dyn Admin>, Error>;

    /// Returns what the clients have counted so far, for metrics; nothing where there is no network between.
    fn client_figures(&self) -> Vec<ClientFigures> {
        Vec::new()
    }
}

/// What one client has counted since it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientFigures {
    /// The client's name, unique in the process.
    pub client: String,
    pub requests: u64,
    pub sent_bytes: u64,
    pub responses: u64,
    pub received_bytes: u64,
    /// Records written and not confirmed yet.
    pub output_records: u64,
    /// The same in bytes.
    pub output_bytes: u64,
    /// Operations that wait for the application to poll.
    pub reply_operations: u64,
    pub brokers: Vec<BrokerFigures>,
}

/// How one client sees one broker.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerFigures {
    /// `host:port`.
    pub broker: String,
    /// Mean time from request to response in the latest interval; none without requests.
    pub round_trip_seconds: Option<f64>,
    pub connected: bool,
}

/// What a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the last stable offset, without aborted records.
    ReadCommitted,
    /// Up to the high watermark, everything.
    ReadUncommitted,
}

/// How to make a [`Consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// None: no group; partitions are assigned by hand.
    pub group: Option<GroupSettings>,
    pub isolation: Isolation,
    /// Bytes fetched ahead of `poll`, for the whole consumer.
    pub prefetch_bytes_max: usize,
    /// How long the broker may wait for more before it says that a partition is at its end; none: as long as suits one that reads on.
    pub end_wait: Option<Duration>,
}

/// Membership of a consumer group.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub group_id: String,
    /// Static membership (KIP-345): the member that comes back under this id takes its seat at once.
    pub instance_id: Option<String>,
    /// Without a heartbeat for this long the member is out.
    pub session_timeout: Duration,
}

/// How to make a [`Producer`].
#[derive(Clone, Debug, Default)]
pub struct ProducerSettings {
    /// None: idempotent, without transactions.
    pub transactional_id: Option<String>,
    /// The broker aborts a transaction that is open for longer.
    pub transaction_timeout: Option<Duration>,
    /// Bytes that wait in the client to be sent; none: the client's own bound.
    pub queue_bytes_max: Option<usize>,
}

/// What `poll` hands out, in the order in which it must be handled.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Records(Fetched),
    /// Everything up to `position` has been handed out and there is no more for now (of what the isolation shows).
    EndOfPartition {
        partition: TopicPartition,
        position: Offset,
    },
    /// The group gave these partitions. Answer with one [`Consumer::assign`] of them all; nothing is read before.
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions. Finish with them, then answer with one [`Consumer::unassign`] of them all.
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to another member already: nothing may be committed for them. Answer with [`Consumer::unassign`].
    Lost(Vec<TopicPartition>),
}

/// Records of one partition, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    pub partition: TopicPartition,
    pub records: Vec<Record>,
}

/// The ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the first record still there.
    pub low: Offset,
    /// Offset that the next appended record gets.
    pub high: Offset,
}

/// Reads partitions, as a member of a group or by hand.
///
/// Waits are upper bounds; no call blocks for longer than its `wait` plus a slice of 200 ms.
pub trait Consumer: Send {
    /// Joins the group for these topics; assignments come as events from `poll`.
    ///
    /// # Errors
    /// The consumer has no group, or the broker refuses.
    fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Error>;

    /// Reads these partitions from these offsets on, beside those that are assigned already.
    ///
    /// # Errors
    /// An unknown partition, or one that is assigned already.
    fn assign(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), Error>;

    /// Stops reading these partitions; records of them that were fetched are dropped.
    ///
    /// # Errors
    /// The broker refuses.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Appends what has come in to `events`, waiting up to `wait` for the first thing. Also keeps the membership alive.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`] for an assigned position; [`Error::Fenced`] when another member took the static id.
    fn poll(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error>;

    /// As [`Consumer::poll`] without records and ends of partitions, which stay: for a caller that has enough of them. Unlike a pause
    /// it gives up nothing that was fetched.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    fn poll_group(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), Error>;

    /// Stops handing out these partitions, without giving up what was fetched where the client can keep it.
    ///
    /// # Errors
    /// An unknown partition.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Hands out these partitions again.
    ///
    /// # Errors
    /// An unknown partition.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Goes on reading an assigned partition at another offset.
    ///
    /// # Errors
    /// The partition is not assigned.
    fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error>;

    /// Returns the group's committed offsets, waiting for transactions that are about to change them (KIP-447).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when they are not stable within `wait`.
    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Offset>>, Error>;

    /// Returns the ends of a partition, whatever the isolation.
    ///
    /// # Errors
    /// No answer within `wait`, or [`Error::UnknownTopic`]; a broker that has just started may say so of a topic that there is, and is asked
    /// again for a while where `wait` allows for it.
    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Error>;

    /// Returns the ends of several partitions, in their order: each is a question of its own, and a broker may answer several at once.
    ///
    /// # Errors
    /// As [`Consumer::watermarks`], for any of them.
    fn watermarks_of(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Watermarks>, Error> {
        partitions.iter().map(|partition| self.watermarks(partition, wait)).collect()
    }

    /// Commits offsets for the group, without a transaction.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the group has moved on.
    fn commit(&mut self, offsets: &[(TopicPartition, Offset)], wait: Duration) -> Result<(), Error>;

    /// Returns the membership that a transaction's offsets are fenced by; none without a group.
    fn group_metadata(&self) -> Option<GroupMetadata>;

    /// Closes the consumer. A static member keeps its seat until the session times out; `Leave::Group` gives it up at once
    /// where the client can.
    fn close(self: Box<Self>, leave: Leave);
}

/// Whether closing a consumer gives up its seat in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Another member may take over now.
    Group,
    /// The same static member will be back.
    Keep,
}

/// A member's identity and generation, opaque to everybody but the implementation that made it.
pub struct GroupMetadata(pub Box<dyn Any + Send>);

impl fmt::Debug for GroupMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupMetadata")
    }
}

/// What a commit takes along.
#[derive(Debug, Default)]
pub struct Commit {
    /// Next offset to read of each input partition.
    pub offsets: Vec<(TopicPartition, Offset)>,
    /// The membership to fence them by; none when there are no offsets.
    pub group: Option<GroupMetadata>,
}

/// How far a commit has come.
#[derive(Debug)]
pub enum CommitProgress {
    /// None was started, or its end was reported already.
    Idle,
    Pending,
    /// Said once per commit.
    Finished(Result<Acknowledged, Error>),
}

/// The partitions that were written to since the last commit, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub written: Vec<Written>,
}

/// Writes records, in transactions where it has a transactional id.
///
/// Order per partition is the order of `send`. A transaction is `begin`, `send`…, then `commit` or `abort`.
pub trait Producer: Send {
    /// Fences older producers of the same transactional id and finishes what they left open.
    ///
    /// # Errors
    /// No answer within `wait`: call again. [`Error::Unsupported`] where the broker has no transactions.
    fn init_transactions(&mut self, wait: Duration) -> Result<(), Error>;

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`Error::Fenced`]; a transaction is open already.
    fn begin(&mut self) -> Result<(), Error>;

    /// Takes records from the front until all are taken or the client's queue is full; what is left stays in `records`.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] for the record at the front, which stays there; [`Error::Fenced`].
    fn send(&mut self, records: &mut VecDeque<Outgoing>) -> Result<(), Error>;

    /// Starts to commit: waits for all sends, adds the offsets, ends the transaction. Returns at once; the work is done beside
    /// the caller, who asks [`Producer::poll_commit`]. Nothing may be sent before it has finished.
    ///
    /// Without a transactional id it only waits for all sends; `commit` must then be empty.
    fn commit(&mut self, commit: Commit);

    /// Reports on the commit that was started, waiting up to `wait` for its end.
    ///
    /// Errors inside `Finished`: [`Error::Aborted`] (abort, then start again), [`Error::Fenced`],
    /// [`Error::OutcomeUnknown`] (a new producer's `init_transactions` settles it).
    fn poll_commit(&mut self, wait: Duration) -> CommitProgress;

    /// Ends the open transaction without a trace for `ReadCommitted` readers. No transaction open: does nothing.
    ///
    /// # Errors
    /// [`Error::Fenced`]; no answer within `wait`: call again.
    fn abort(&mut self, wait: Duration) -> Result<(), Error>;

    /// Writes one record outside any transaction and returns its offset once it is acknowledged.
    ///
    /// # Errors
    /// The producer is transactional; no acknowledgement within `wait` (it may still be written).
    fn send_and_wait(&mut self, record: Outgoing, wait: Duration) -> Result<Offset, Error>;
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub topic: Topic,
    pub partitions: u32,
    /// None: the broker's default.
    pub replication_factor: Option<u16>,
    /// Kafka's topic configs by name: `cleanup.policy`, `retention.ms`, …
    pub configs: BTreeMap<String, String>,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    pub topic: Topic,
    /// The broker's id of this incarnation of the topic; another one means it was deleted and made anew.
    pub id: Option<String>,
    pub partitions: u32,
    /// At least `cleanup.policy`, `retention.ms`, `max.message.bytes`, `message.timestamp.type`, `delete.retention.ms` where
    /// the broker tells them.
    pub configs: BTreeMap<String, String>,
}

/// Which incarnation of a topic there is, and how it is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicIdentity {
    /// The broker's id of this incarnation of the topic; none where the broker has no such ids.
    pub id: Option<String>,
    pub partitions: u32,
}

/// Looks at and changes topics and groups.
pub trait Admin: Send {
    /// Returns what there is of each topic asked for; none where there is no such topic.
    ///
    /// # Errors
    /// No answer within `wait`.
    fn describe(&mut self, topics: &[Topic], wait: Duration) -> Result<Vec<Option<TopicDescription>>, Error>;

    /// Returns the identity of each topic asked for; none where there is no such topic. Cheaper than [`Admin::describe`], for
    /// whoever looks again and again.
    ///
    /// # Errors
    /// No answer within `wait`, or none about one of the topics.
    fn identify(&mut self, topics: &[Topic], wait: Duration) -> Result<Vec<Option<TopicIdentity>>, Error> {
        let described = self.describe(topics, wait)?;
        let identity = |found: TopicDescription| TopicIdentity { id: found.id, partitions: found.partitions };
        Ok(described.into_iter().map(|found| found.map(identity)).collect())
    }

    /// Returns the names of all topics, sorted, without the broker's own (`__…`).
    ///
    /// # Errors
    /// No answer within `wait`.
    fn list(&mut self, wait: Duration) -> Result<Vec<Topic>, Error>;

    /// Creates a topic and waits until it can be used. One that exists already is left as it is and is no error.
    ///
    /// # Errors
    /// The broker refuses; no answer within `wait`.
    fn create(&mut self, topic: &NewTopic, wait: Duration) -> Result<(), Error>;

    /// Gives a topic more partitions, `total` in all, and waits until they can be used.
    ///
    /// # Errors
    /// There is no such topic, or it has that many already; no answer within `wait`.
    fn add_partitions(&mut self, topic: &Topic, total: u32, wait: Duration) -> Result<(), Error>;

    /// Deletes a topic; one that does not exist is no error.
    ///
    /// # Errors
    /// The broker refuses; no answer within `wait`.
    fn delete(&mut self, topic: &Topic, wait: Duration) -> Result<(), Error>;

    /// Removes the records before each offset.
    ///
    /// # Errors
    /// The broker refuses or cannot; no answer within `wait`.
    fn delete_records(&mut self, before: &[(TopicPartition, Offset)], wait: Duration) -> Result<(), Error>;

    /// Deletes a group and its committed offsets; one that does not exist is no error.
    ///
    /// # Errors
    /// The group has members; no answer within `wait`.
    fn delete_group(&mut self, group_id: &str, wait: Duration) -> Result<(), Error>;
}

/// What went wrong at the broker, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the broker is not available: {message}")]
    Unavailable { message: String },
    #[error("another instance took over: {message}")]
    Fenced { message: String },
    #[error("the transaction must be aborted: {message}")]
    Aborted { message: String },
    #[error("the outcome of the commit is unknown: {message}")]
    OutcomeUnknown { message: String },
    #[error("there is no topic `{topic}`")]
    UnknownTopic { topic: Topic },
    #[error("offset {offset} of `{partition}` is not there any more, or not yet")]
    OffsetOutOfRange { partition: TopicPartition, offset: Offset },
    #[error("a record of {size_bytes} bytes is larger than topic `{topic}` takes")]
    RecordTooLarge { topic: Topic, size_bytes: usize },
    /// The broker takes no such records for this topic, now or when they are sent again.
    #[error("topic `{topic}` takes no {}: {message}", if *.keyless { "records without key" } else { "records of ours" })]
    WriteRefused { topic: Topic, keyless: bool, message: String },
    #[error("not allowed: {message}")]
    Unauthorized { message: String },
    #[error("the broker cannot do this: {message}")]
    Unsupported { message: String },
    #[error("the broker's client refuses: {message}")]
    Invalid { message: String },
    #[error("the broker's files: {message}")]
    Storage { message: String },
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unavailable { .. } | Self::Aborted { .. } | Self::OutcomeUnknown { .. } => Kind::Retry,
            Self::Fenced { .. } => Kind::Fenced,
            Self::RecordTooLarge { .. } => Kind::Record,
            Self::UnknownTopic { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::WriteRefused { .. }
            | Self::Unauthorized { .. }
            | Self::Unsupported { .. } => Kind::Config,
            Self::Storage { .. } => Kind::Corrupt,
            Self::Invalid { .. } => Kind::Bug,
        }
    }

    /// Returns the code of the page that helps, where there is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Unavailable { .. } => Some(codes::BROKER_UNAVAILABLE),
            Self::UnknownTopic { .. } => Some(codes::TOPIC_MISSING),
            Self::OffsetOutOfRange { .. } => Some(codes::OFFSET_OUT_OF_RANGE),
            Self::RecordTooLarge { .. } => Some(codes::RECORD_TOO_LARGE),
            Self::WriteRefused { .. } => Some(codes::WRITE_REFUSED),
            Self::Fenced { .. }
            | Self::Aborted { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Unauthorized { .. }
            | Self::Unsupported { .. }
            | Self::Invalid { .. }
            | Self::Storage { .. } => None,
        }
    }
}
