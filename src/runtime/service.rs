//! What a running daemon offers to those who look at it: the HTTP listeners and the commands that run one in-process.
//!
//! Everything here is data; the stream threads answer reads from committed rows between two batches.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use crate::metrics::{HistogramSample, Measurements, Sample};

use crate::base::ids::{Offset, Partition, TopicPartition};
use crate::base::time::DateTime;
use crate::error::{Code, Kind};
use crate::instances::{Entry, Roster};
use crate::task::ReadFrom;

/// A running daemon, seen from outside. Calls may block for up to the wait they are given: never call from an async task.
pub trait Service: Send + Sync {
    /// Returns whether the threads beat, partitions are assigned and stores restored.
    fn health(&self) -> Health;

    /// Returns the topology: nodes, sub-topologies, topics, fingerprint.
    fn topology(&self) -> serde_json::Value;

    /// Returns the tasks of this instance, sorted by id.
    fn tasks(&self) -> Vec<TaskStatus>;

    /// Lets a task of this instance go on that is quarantined; tells whether it was.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn release(&self, task: &str, inputs: Option<ReadFrom>, wait: Duration) -> Result<bool, ReadError>;

    /// Returns the stores of this instance, sorted by name and partition.
    fn stores(&self) -> Vec<StoreStatus>;

    /// Returns all instances of the application that have not left, sorted by id; none before it is known.
    fn instances(&self) -> Vec<InstanceStatus>;

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
    /// `next` is the offset to go on from; JSON without a frame has no `type`. A record that cannot be decoded has `error` in place of `type` and `value`.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn records(&self, page: &TopicPage, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Writes JSON events to a topic as Avro by its subjects' schemas; all or none is encoded before the first is sent.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn produce(&self, topic: &str, events: &[NewEvent], wait: Duration) -> Result<Vec<Produced>, ReadError>;

    /// Returns the dead-letter topics of the topology, with the open letters of each by reason.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn dead_letter_topics(&self, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Returns a page of a topic's open dead letters, and all of them counted by reason.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn dead_letters(&self, topic: &str, query: &LetterQuery, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Returns one open dead letter, its value decoded as far as that is possible.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn dead_letter(&self, topic: &str, letter: &LetterPlace, wait: Duration) -> Result<serde_json::Value, ReadError>;

    /// Sends dead letters back to where they came from, or drops them; says which could not be.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn settle_letters(
        &self,
        topic: &str,
        letters: &Letters,
        action: LetterAction,
        wait: Duration,
    ) -> Result<serde_json::Value, ReadError>;

    /// Writes a command to its entity's topic and waits for the answer, which is committed by then: the JSON object of
    /// `docs/language/deciding.md`.
    ///
    /// # Errors
    /// See [`ReadError`]; [`codes::COMMAND_PENDING`](crate::error::codes::COMMAND_PENDING) where the command is written and not answered.
    fn command(&self, command: &NewCommand, wait: Duration) -> Result<serde_json::Value, ReadError>;

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

/// A command to an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCommand {
    pub entity: String,
    /// Text of the key as in URLs.
    pub key: String,
    /// The command's record type, full or short.
    pub command: String,
    pub value: serde_json::Value,
    pub id: String,
    pub expected_version: Option<u64>,
    /// Further headers.
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
    pub reach: Reach,
    /// Where whoever runs the task cannot answer, a standby may: what it says may be old, and is marked as such.
    pub stale: bool,
}

impl Read {
    /// Reads something as it is now, wherever it is.
    pub fn of(what: ReadKind) -> Self {
        Self { what, wait_for: Vec::new(), reach: Reach::Anywhere, stale: false }
    }
}

/// How far a read may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Other instances are asked for what they have.
    Anywhere,
    /// Another instance asks this one, by its id, for what it has; of a scan the part in these partitions.
    Here { instance: String, partitions: Option<Vec<Partition>> },
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
    /// `…/commands/{id}`: the answer to a command.
    Answer { entity: String, key: String, id: String },
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

/// Which open dead letters of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterQuery {
    pub reason: Option<String>,
    /// Only those behind this one.
    pub after: Option<LetterPlace>,
    pub limit: usize,
}

/// A dead letter's place in its topic: `partition@offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterPlace {
    pub partition: i32,
    pub offset: i64,
}

impl LetterPlace {
    /// Reads `partition@offset`.
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, offset) = text.split_once('@')?;
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        (partition >= 0 && offset >= 0).then_some(Self { partition, offset })
    }
}

impl std::fmt::Display for LetterPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// Which dead letters are to be settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    Named(Vec<LetterPlace>),
    /// All that are open, or all with this reason.
    All {
        reason: Option<String>,
    },
}

/// What is done about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterAction {
    /// It goes back to where it came from, as it was.
    Replay,
    Drop,
}

impl LetterAction {
    /// Returns the word of commands and paths.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Drop => "drop",
        }
    }

    /// Returns the word of marks.
    pub fn past(self) -> &'static str {
        match self {
            Self::Replay => "replayed",
            Self::Drop => "dropped",
        }
    }
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
    /// `waiting` (its folder is open elsewhere), `restoring`, `running`, `quarantined`; `standby`: it runs elsewhere, and is followed here.
    pub state: String,
    /// RFC 3339; none before the first record.
    pub stream_time: Option<String>,
    pub records: u64,
    pub lag: u64,
    /// Changelog offsets still to be read.
    pub restore_remaining: u64,
    /// How long that takes at the speed so far; none before there is one.
    pub restore_seconds_left: Option<u64>,
    /// Why it is quarantined.
    pub error: Option<String>,
    pub quarantine: Option<QuarantineStatus>,
}

impl TaskStatus {
    /// A task in a state, of which no more is known.
    pub fn of(task: String, thread: usize, state: &str) -> Self {
        Self {
            task,
            thread,
            state: state.to_owned(),
            stream_time: None,
            records: 0,
            lag: 0,
            restore_remaining: 0,
            restore_seconds_left: None,
            error: None,
            quarantine: None,
        }
    }
}

/// Why a task does not run.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct QuarantineStatus {
    /// One of a closed set, as in `tidemill_task_quarantined`.
    pub reason: String,
    /// The code of the page that helps, where there is one.
    pub code: Option<String>,
    /// The node that failed.
    pub node: Option<String>,
    /// The record that it stopped at.
    pub record: Option<RecordPlace>,
    /// RFC 3339.
    pub since: String,
    /// When it is tried again by itself.
    pub retry_at: Option<String>,
}

/// Where a record stands.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct RecordPlace {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// An instance as `/v1/instances` shows it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct InstanceStatus {
    pub instance: String,
    /// It is the one that answers.
    pub here: bool,
    /// It has spoken lately.
    pub alive: bool,
    /// How long before the newest word of all it spoke last, by the broker's clock.
    pub silence_ms: i64,
    /// `host:port` where it answers reads; none while it does not say.
    pub http: Option<String>,
    pub version: String,
    pub fingerprint: String,
    pub threads: usize,
    /// It processes, or claims that it may; else it waits for instances of another topology to leave.
    pub processes: bool,
    pub active: Vec<String>,
    pub standby: Vec<StandbyStatus>,
}

/// A standby of an instance.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct StandbyStatus {
    pub task: String,
    /// Offsets that it has not read yet; none before it has looked.
    pub behind: Option<u64>,
}

impl InstanceStatus {
    /// Shows an entry of a roster; `here` is the instance that answers.
    pub fn of(roster: &Roster, entry: &Entry, here: &str) -> Self {
        let said = &entry.said;
        Self {
            instance: said.instance.clone(),
            here: said.instance == here,
            alive: roster.is_alive(entry),
            silence_ms: roster.silence_ms(entry),
            http: said.http.clone(),
            version: said.version.clone(),
            fingerprint: said.fingerprint.clone(),
            threads: said.threads,
            processes: said.processes,
            active: said.active.iter().map(ToString::to_string).collect(),
            standby: said
                .standby
                .iter()
                .map(|(task, standby)| StandbyStatus { task: task.to_string(), behind: standby.behind })
                .collect(),
        }
    }
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
