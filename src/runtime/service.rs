//! What a running daemon offers to those who look at it: the HTTP listeners and the commands that run one in-process.
//!
//! Everything here is data; the stream threads answer reads from committed rows between two batches.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use crate::metrics::{HistogramSample, Measurements, Sample};

use crate::base::ids::{Offset, TopicPartition};
use crate::base::time::DateTime;
use crate::error::{Code, Kind};

/// A running daemon, seen from outside. Calls may block for up to the wait they are given: never call from an async task.
pub trait Service: Send + Sync {
    /// Returns whether the threads beat, partitions are assigned and stores restored.
    fn health(&self) -> Health;

    /// Returns the topology: nodes, sub-topologies, topics, fingerprint.
    fn topology(&self) -> serde_json::Value;

    /// Returns the tasks of this instance, sorted by id.
    fn tasks(&self) -> Vec<TaskStatus>;

    /// Returns the stores of this instance, sorted by name and partition.
    fn stores(&self) -> Vec<StoreStatus>;

    /// Answers a read in the JSON form of the HTTP interface.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read(&self, read: &Read, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Looks at a topic: `{"topic":…,"partitions":[{"partition":0,"start":…,"end":…}]}`, offsets.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn topic(&self, topic: &str, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Reads committed records of a partition, decoded:
    /// `{"topic":…,"partition":0,"records":[{"offset":…,"timestamp":…,"key":…,"type":…,"value":…,"headers":{…}}],"next":…}`, where
    /// `next` is the offset to go on from. A record that cannot be decoded has `error` in place of `type` and `value`.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn records(&self, page: &TopicPage, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Writes JSON events to a topic as Avro by its subjects' schemas; all or none is encoded before the first is sent.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn produce(&self, topic: &str, events: &[NewEvent], wait: Duration) -> Result<Vec<Produced>, ReadError>;

    /// Returns the counters as they stand, for the metrics exporter.
    fn measurements(&self) -> Measurements;
}

/// An event to write.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Text of the key as in URLs; none for a record without key.
    pub key: Option<String>,
    /// Record type; may be left out where the topic has one only.
    pub event_type: Option<String>,
    /// None is a tombstone.
    pub value: Option<serde_json::Value>,
    /// None: now.
    pub timestamp: Option<DateTime>,
    pub headers: BTreeMap<String, String>,
}

/// Where an event was written.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Produced {
    pub partition: i32,
    pub offset: i64,
}

/// A read of committed state.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    pub what: ReadKind,
    /// Wait until these inputs are in (read your writes).
    pub wait_for: Vec<(TopicPartition, Offset)>,
}

/// What is read.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadKind {
    /// `/v1/stores/{store}/keys/{key}`; of a windowed store the windows that start in the range.
    Key { store: String, key: String, from: Option<DateTime>, to: Option<DateTime> },
    /// `/v1/stores/{store}/keys`
    Keys { store: String, prefix: String, limit: usize, cursor: Option<String> },
    /// `/v1/entities/{entity}/keys/{key}`
    Entity { entity: String, key: String, at: At },
    /// `…/history`
    History { entity: String, key: String, limit: usize, cursor: Option<String> },
    /// `…/blame`
    Blame { entity: String, key: String },
}

/// Which records of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPage {
    pub topic: String,
    pub partition: i32,
    /// The first offset wanted; one that is gone begins at the first record there is.
    pub offset: i64,
    /// Most records.
    pub limit: usize,
}

/// Which version of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Now,
    /// After everything recorded up to this moment.
    AsOf(DateTime),
    /// After this many events.
    Version(u64),
}

/// Why a read or a write was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing of that name; `detail` names the nearest.
    #[error("{detail}")]
    NotFound { code: Code, detail: String },
    #[error("{detail}")]
    Invalid { code: Code, detail: String },
    /// Another instance owns the key, or this one has not restored it yet.
    #[error("{detail}")]
    Unavailable { code: Code, detail: String },
    #[error("{detail}")]
    Failed { code: Code, detail: String, kind: Kind },
}

/// Whether the daemon lives and whether it can be asked.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Health {
    /// Every stream thread has beaten lately.
    pub live: bool,
    /// The group has given this instance its partitions (perhaps none).
    pub assigned: bool,
    /// Every assigned task has its stores.
    pub restored: bool,
    /// What is missing, for people.
    pub reasons: Vec<String>,
}

/// A task as `/v1/tasks` shows it.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct TaskStatus {
    pub task: String,
    pub thread: usize,
    /// `created`, `restoring`, `running`, `suspended`, `quarantined`, `closed`.
    pub state: String,
    /// RFC 3339; none before the first record.
    pub stream_time: Option<String>,
    pub records: u64,
    pub lag: u64,
    pub restore_remaining: u64,
    /// Why it is quarantined.
    pub error: Option<String>,
}

/// A store as `/v1/stores` shows it.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct StoreStatus {
    pub store: String,
    pub partition: i32,
    pub task: String,
    /// `key_value`, `window`, `versioned`, `entity`, `history`.
    pub kind: String,
    pub bytes: u64,
    /// Next offset of the changelog that the state at rest stands at.
    pub changelog_offset: Option<i64>,
}
