//! The words that a topology and its plan share: how keys are written, what happens to a record that fails, when results go
//! on, how long the past is kept, and the places that expressions take their inputs from.

use crate::avro::Datums;
use crate::base::ids::Topic;
use crate::base::time::SpanMs;
use crate::base::types::Type;

/// Places of an expression's inputs: the same for every node, whatever the names (`value`, `event`, `left` are all `ROW`).
pub mod roots {
    /// `value`, `event`, `left`, `command`: the input row's slots.
    pub const ROW: usize = 0;
    /// `state`, `right`: the second row's slots; empty where there is none.
    pub const OTHER: usize = 1;
    /// `key`: one slot, or the fields of a record.
    pub const KEY: usize = 2;
    /// `meta`: topic, partition, offset, timestamp, type; see [`META_FIELDS`].
    pub const META: usize = 3;
    /// `headers`: one slot, a map from text to text (bytes that are not UTF-8 are left out).
    pub const HEADERS: usize = 4;
    /// `window`: start, end.
    pub const WINDOW: usize = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
    /// The fields of `meta` in slot order.
    pub const META_FIELDS: [&str; 5] = ["topic", "partition", "offset", "timestamp", "type"];
}

/// How a topic's keys are written. Inside, keys are always the bare bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// UTF-8.
    String,
    /// 8 bytes, big-endian, as Kafka's `LongSerializer`.
    Long,
    Bytes,
    /// A record, as a bare Avro datum.
    Record(Datums),
}

impl KeyFormat {
    /// Returns the type of `key` in expressions.
    pub fn key_type(&self) -> Type {
        match self {
            Self::String => Type::String,
            Self::Long => Type::Int,
            Self::Bytes => Type::Bytes,
            Self::Record(datums) => datums.schema().value_type(),
        }
    }

    /// Returns the word that the topology uses for it.
    pub fn name(&self) -> &str {
        match self {
            Self::String => "string",
            Self::Long => "long",
            Self::Bytes => "bytes",
            Self::Record(datums) => datums.schema().full_name().unwrap_or("record"),
        }
    }

    /// Returns the text of the schema that keys are written under where they are Avro.
    pub fn schema_text(&self) -> &str {
        match self {
            Self::String => "\"string\"",
            Self::Long => "\"long\"",
            Self::Bytes => "\"bytes\"",
            Self::Record(datums) => datums.schema().text(),
        }
    }
}

/// What to do with a record that fails: try again, where that is said, then the action.
#[derive(Clone, Debug, PartialEq)]
pub struct OnError {
    pub retry: Option<Retry>,
    pub action: ErrorAction,
}

impl Default for OnError {
    /// Nothing is lost, and nothing is passed over.
    fn default() -> Self {
        Self { retry: None, action: ErrorAction::StopTask }
    }
}

/// How often to try again, and how long to wait before the first time; each further wait is twice the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub attempts: u32,
    pub backoff: SpanMs,
}

/// What to do with a record that is given up.
#[derive(Clone, Debug, PartialEq)]
pub enum ErrorAction {
    /// Stop this task, keep the record unconsumed, leave the others running.
    StopTask,
    /// Drop the record, counted with its reason.
    Skip,
    /// Write the original bytes with the reason in headers to this topic, then go on.
    DeadLetter { topic: Topic },
}

/// The aggregate functions. Null arguments are passed by, except by `count()`, which has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    Count,
    /// Of `int` (overflow is an error of the record) or `double`.
    Sum,
    /// Keeps sum (double) and count (int).
    Avg,
    Min,
    Max,
    /// The first value in processing order.
    First,
    /// The last value in processing order.
    Last,
    /// All values in processing order, `limits::COLLECT_VALUES_MAX` a key at most.
    Collect,
    /// How many different values there were, exactly; it keeps them, `limits::COLLECT_VALUES_MAX` a key at most.
    CountDistinct,
    /// An expression of the topology's own, over the row and the state.
    Fold,
}

impl AggregateFunction {
    /// Every function, by its name in expressions.
    pub const ALL: [(&'static str, Self); 9] = [
        ("avg", Self::Avg),
        ("collect", Self::Collect),
        ("count", Self::Count),
        ("count_distinct", Self::CountDistinct),
        ("first", Self::First),
        ("last", Self::Last),
        ("max", Self::Max),
        ("min", Self::Min),
        ("sum", Self::Sum),
    ];

    /// Finds a function by its name in expressions.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, function)| *function)
    }

    /// Tells whether a row can be taken out again: what an aggregate of a table needs (Kafka Streams' subtractor).
    pub fn can_retract(self) -> bool {
        matches!(self, Self::Count | Self::Sum | Self::Avg | Self::Min | Self::Max | Self::CountDistinct)
    }

    /// Returns the function's name in expressions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Collect => "collect",
            Self::CountDistinct => "count_distinct",
            Self::Fold => "fold",
        }
    }
}

/// Spans of time that rows are gathered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub shape: WindowShape,
    /// How long a window waits for late rows; when it closes is `operator::WindowSpan::closes_at` (D3).
    pub grace: SpanMs,
    /// Rows of closed windows stay readable until `end + retention <= operator time`; at least `grace`.
    pub retention: SpanMs,
}

/// Which spans of time there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowShape {
    /// `[start, start + size)` from each multiple of `advance` on; tumbling where the two are equal (Kafka Streams'
    /// `TimeWindows`).
    Hopping { size: SpanMs, advance: SpanMs },
    /// `[end - difference, end]`, both included, for each row: that ends with it, and that begins right after it (Kafka Streams'
    /// `SlidingWindows`).
    Sliding { difference: SpanMs },
    /// From the first row to the last, both included, of rows that are at most `gap` apart (Kafka Streams' `SessionWindows`).
    Session { gap: SpanMs },
}

/// How long a table's changes are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressUntil {
    /// Until the row's window closes; then its result is final.
    WindowClose(Window),
    /// For so long, by stream time, from the first change that is held.
    Time(SpanMs),
}

/// How much of a table's changes is held back (Kafka Streams' `Suppressed.BufferConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuppressBounds {
    pub records_max: Option<u64>,
    pub bytes_max: Option<u64>,
    pub when_full: WhenFull,
}

/// What becomes of a change that there is no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Those that were held first go early.
    EmitEarly,
    /// The record fails (`E1006`).
    Stop,
}

/// Which time a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// That of the rows.
    Stream,
    /// That of the machine.
    Wall,
}

impl Clock {
    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream_time",
            Self::Wall => "wall_clock_time",
        }
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// Every level, by the word that the topology uses for it.
    pub const ALL: [(&'static str, Self); 4] =
        [("debug", Self::Debug), ("info", Self::Info), ("warn", Self::Warn), ("error", Self::Error)];

    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// When an aggregate's results go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Each.
    OnUpdate,
    /// The last value per key and commit, in order of first change.
    OnCommit,
    /// Once, when the window closes, in order of window and key.
    OnClose,
}

impl Emit {
    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnUpdate => "on_update",
            Self::OnCommit => "on_commit",
            Self::OnClose => "on_close",
        }
    }
}

/// What becomes of a row without one on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// It is dropped.
    Inner,
    /// A left row goes on with nulls.
    Left,
    /// A row of either side goes on with nulls.
    Outer,
}

/// How far apart rows of two streams may be to meet: a right row's time is within `[left - before, left + after]`, both included
/// (Kafka Streams' `JoinWindows`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinWindow {
    pub before: SpanMs,
    pub after: SpanMs,
    /// How long a row without a match waits after its window.
    pub grace: SpanMs,
}

impl JoinKind {
    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Left => "left",
            Self::Outer => "outer",
        }
    }

    /// Tells whether left rows go on without a right one.
    pub fn keeps_left(self) -> bool {
        self != Self::Inner
    }

    /// Tells whether right rows go on without a left one.
    pub fn keeps_right(self) -> bool {
        self == Self::Outer
    }
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Forever,
    /// Versions recorded longer ago than this (by stream time) go, all but the newest.
    For(SpanMs),
}

/// How the subject of a topic's schemas is named in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectNaming {
    /// `<topic>-value`: one record type per topic.
    TopicName,
    /// `<record's full name>`.
    RecordName,
    /// `<topic>-<record's full name>`: several record types on one topic.
    TopicRecordName,
}

impl SubjectNaming {
    /// Returns the subject of a record type on a topic.
    pub fn subject(self, topic: &Topic, record: &str) -> String {
        match self {
            Self::TopicName => format!("{topic}-value"),
            Self::RecordName => record.to_owned(),
            Self::TopicRecordName => format!("{topic}-{record}"),
        }
    }

    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopicName => "topic_name",
            Self::RecordName => "record_name",
            Self::TopicRecordName => "topic_record_name",
        }
    }
}

/// How a sink writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKey {
    /// The key's own bytes; a windowed row's base key.
    Plain,
    /// The key, then the start of the window, which is `length` long, as 8 bytes, big-endian (Kafka Streams'
    /// `TimeWindowedSerializer`).
    Start { length: SpanMs },
    /// The key, then the session's end and start as 8 bytes each, big-endian (Kafka Streams' `SessionWindowedSerializer`).
    EndAndStart,
    /// Avro in a registry frame, under the subject `<topic>-key`; the record goes to the partition of the framed key.
    Avro,
}

/// How a sink writes CloudEvents (Kafka protocol binding, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentMode {
    /// Attributes are headers, the value is the data.
    Binary,
    /// The value is a JSON object of both.
    Structured,
}

/// How a topic's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// Avro in registry frames.
    Avro,
    /// One JSON object per record.
    Json,
    /// UTF-8; the row is the text.
    String,
    /// 8 bytes, big-endian, as Kafka's `LongSerializer`.
    Long,
    /// 4 bytes, big-endian, as Kafka's `IntegerSerializer`.
    Int,
    /// 8 bytes of IEEE 754, big-endian, as Kafka's `DoubleSerializer`.
    Double,
    /// As they are.
    Bytes,
}

impl ValueFormat {
    /// Every format, by the word that the topology uses for it.
    pub const ALL: [(&'static str, Self); 7] = [
        ("avro", Self::Avro),
        ("json", Self::Json),
        ("string", Self::String),
        ("long", Self::Long),
        ("int", Self::Int),
        ("double", Self::Double),
        ("bytes", Self::Bytes),
    ];

    /// Returns the word that the topology uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Json => "json",
            Self::String => "string",
            Self::Long => "long",
            Self::Int => "int",
            Self::Double => "double",
            Self::Bytes => "bytes",
        }
    }

    /// Returns the type of a value that is no record, and what its rows are called.
    pub fn scalar(self) -> Option<(&'static str, Type)> {
        match self {
            Self::Avro | Self::Json => None,
            Self::String => Some(("String", Type::String)),
            Self::Long => Some(("Long", Type::Int)),
            Self::Int => Some(("Int", Type::Int)),
            Self::Double => Some(("Double", Type::Double)),
            Self::Bytes => Some(("Bytes", Type::Bytes)),
        }
    }
}
