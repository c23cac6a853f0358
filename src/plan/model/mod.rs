//! The executable plan: what the task engine runs, with every name resolved and every expression compiled.
//!
//! Rows travel as slots of values. A *layout* says which field stands in which slot; each record type of a source and each
//! derived row has one, numbered within its sub-topology, so that filters, branches and merges pass rows on unchanged and a
//! node finds its program by the row's layout number. Nothing here is looked up by name while records flow.

mod deciding;
mod foreign;
mod held;
mod joins;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::avro::Schema;
use crate::base::ids::Topic;
use crate::base::time::SpanMs;
use crate::base::types::Field;
use crate::base::value::{Text, Value};
use crate::expr::Program;

pub use deciding::{CommandType, Deciding, Decision, Emission, Given, Rejection};
pub use foreign::{ForeignJoin, RESPONSE_FIELDS, SUBSCRIPTION_FIELDS, Subscribe, SubscriptionAction, Subscriptions};
pub use held::{Dedupe, Expiry, HELD_SYSTEM_FIELDS, Held, Punctuate, Suppress, TIMER_SYSTEM_FIELDS, Timer};
pub use joins::{
    CHANGE_SYSTEM_FIELDS, GlobalJoin, JOIN_SYSTEM_FIELDS, JoinSide, Lookup, RowView, StreamJoin, StreamTableJoin,
    TableJoin, VersionedLookup,
};

pub use rows::{Flatten, Log};

pub use crate::topology::{
    AggregateFunction, Clock, ContentMode, Emit, ErrorAction, JoinKind, JoinWindow, Keep, KeyFormat, LogLevel, OnError,
    Retry, SinkKey, SuppressBounds, SuppressUntil, ValueFormat, WhenFull, Window, WindowShape, roots,
};

/// Everything needed to run a topology.
#[derive(Debug)]
pub struct Plan {
    pub application_id: String,
    pub sub_topologies: Vec<SubTopology>,
    /// By name.
    pub global_tables: Vec<GlobalTable>,
    /// Every topic that is read, written or needed inside, by name.
    pub topics: BTreeMap<Topic, TopicPlan>,
    /// Of the topology's meaning: equal for topologies that differ in order, comments and formatting only.
    pub fingerprint: u64,
}

/// A part of the topology whose tasks run on one partition of each of its sources.
#[derive(Debug)]
pub struct SubTopology {
    /// Named by its first store, else by its first source: adding nodes renames nothing.
    pub name: Text,
    pub meta_topic: Topic,
    pub layouts: Vec<Layout>,
    pub sources: Vec<Source>,
    /// In an order in which every node stands after all that feed it.
    pub nodes: Vec<Node>,
    pub stores: Vec<Store>,
}

/// A table that every instance has whole, beside its tasks: all partitions of a topic.
#[derive(Debug)]
pub struct GlobalTable {
    /// Reads all fields of its one type; the layout is of no sub-topology, and nothing follows.
    pub source: Source,
    /// Its changelog is the topic itself.
    pub store: Store,
}

/// Index into [`Plan::global_tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GlobalRef(pub u16);

/// Which field stands in which slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The record's full name: what `meta.type` says and `on` names.
    pub type_name: Text,
    pub slots: Vec<Field>,
}

/// A layout's number within its sub-topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayoutId(pub u16);

/// Something for each layout a node may meet; none where the node passes that layout by.
#[derive(Clone, Debug)]
pub struct PerLayout<T>(Vec<Option<T>>);

impl<T> Default for PerLayout<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PerLayout<T> {
    /// Sets the entry of a layout.
    pub fn set(&mut self, layout: LayoutId, entry: T) {
        let index = usize::from(layout.0);
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(entry);
    }

    /// Returns the entry of a layout.
    pub fn get(&self, layout: LayoutId) -> Option<&T> {
        self.0.get(usize::from(layout.0))?.as_ref()
    }

    /// Returns all entries in layout order.
    pub fn iter(&self) -> impl Iterator<Item = (LayoutId, &T)> {
        self.0.iter().enumerate().filter_map(|(index, entry)| Some((LayoutId(index as u16), entry.as_ref()?)))
    }
}

/// Index into [`SubTopology::sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceIndex(pub u16);

/// Index into [`SubTopology::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u16);

/// Index into [`SubTopology::stores`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreRef(pub u16);

/// Where a row goes next, and as which of the node's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    pub node: NodeIndex,
    pub input: Input,
}

/// Which of a node's inputs a row comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The only one, or the left one.
    Left,
    Right,
}

/// A topic that a sub-topology reads.
#[derive(Debug)]
pub struct Source {
    /// The stream's or table's name in the topology; a repartition source has its topic's.
    pub name: Text,
    pub topic: Topic,
    pub key: KeyFormat,
    /// Keys are Avro in registry frames; rows have the bare ones.
    pub framed_keys: bool,
    /// Records are CloudEvents.
    pub cloud_events: bool,
    pub payload: Payload,
    /// The record's own time, where the topology takes it from the value (an `int` of milliseconds or a `timestamp`).
    pub timestamp: PerLayout<Expression>,
    /// A partition that is silent for this long by the wall clock no longer holds back the task's time (D5).
    pub idle: Option<SpanMs>,
    pub on_decode_error: OnError,
    pub children: Vec<Child>,
}

/// How a topic's values are written.
#[derive(Debug)]
pub enum Payload {
    /// Avro in registry frames: the writer's record name picks the reader. Names that are not here are passed by, counted.
    Registry { readers: Vec<Reader> },
    /// Avro single-object encoding (Avro specification, section "Single-object encoding"): our own repartition topics. The
    /// fingerprint picks the reader.
    Internal { readers: Vec<Reader>, upstream: Vec<Upstream> },
    /// JSON objects of declared schemas; of several, the event's type says which.
    Json { readers: Vec<Reader> },
    /// Values that are no records: rows of one field.
    Scalar { format: ValueFormat, reader: Reader },
}

impl Payload {
    /// Returns how each record type that may come is read.
    pub fn readers(&self) -> &[Reader] {
        match self {
            Self::Registry { readers } | Self::Internal { readers, .. } | Self::Json { readers } => readers,
            Self::Scalar { reader, .. } => std::slice::from_ref(reader),
        }
    }
}

/// How one record type is read.
#[derive(Debug)]
pub struct Reader {
    pub schema: Schema,
    /// Indices of the schema's fields that somebody uses; the i-th lands in slot i.
    pub wanted: Vec<usize>,
    pub layout: LayoutId,
}

/// Who writes into a repartition topic: its tasks' stream times bound the reader's operator time (D12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub sub_topology: Text,
    /// A source topic of that sub-topology: it has as many tasks as this topic has partitions.
    pub partitions_of: Topic,
    /// Its tasks say how far they are.
    pub marks: bool,
}

/// A node of the graph.
#[derive(Debug)]
pub struct Node {
    pub name: Text,
    /// What the task's meta calls it: its first name, where it was renamed.
    pub kept_as: Text,
    pub kind: NodeKind,
    pub on_process_error: OnError,
    /// Of a node that writes to a topic.
    pub on_produce_error: OnError,
    pub children: Vec<Child>,
}

/// A compiled expression and what must be materialised for it.
#[derive(Clone, Debug)]
pub struct Expression {
    pub program: Arc<Program>,
    pub needs: Needs,
    /// As written, for `graph` and messages.
    pub text: Arc<str>,
}

/// Which inputs besides the rows an expression reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub key: bool,
    pub meta: bool,
    pub headers: bool,
    pub window: bool,
}

/// What a node does.
#[derive(Debug)]
pub enum NodeKind {
    /// Passes rows of the listed layouts, and of these those for which the predicate holds (`on`, `where`).
    Filter {
        predicate: PerLayout<Option<Expression>>,
        /// A row that does not pass deletes what was there: in front of a table.
        deletes: bool,
        /// A row without value, which no predicate can be asked of, passes: not to the later cases of a branch.
        passes_null: bool,
    },
    /// Gives every row a new shape.
    Select {
        fields: PerLayout<Vec<Expression>>,
        layout: LayoutId,
    },
    Flatten(Box<Flatten>),
    Log(Box<Log>),
    /// Gives every row a new key (`select_key`); a repartition follows where something stateful needs it.
    Rekey {
        key: PerLayout<Expression>,
        format: KeyFormat,
    },
    /// Makes of a table's change what it takes out of one group and puts into another.
    Regroup {
        key: Expression,
        format: KeyFormat,
        layout: LayoutId,
    },
    /// Sends rows to a repartition topic, by their key or to the partition that this slot says.
    Repartition {
        topic: Topic,
        writers: PerLayout<Writer>,
        to: Option<usize>,
        /// Tasks say there how far they are. Not between the tables of a join by foreign key: two tasks that tell each other would never
        /// come to rest.
        marks: bool,
    },
    /// Sends rows to a topic.
    Sink {
        topic: Topic,
        format: KeyFormat,
        key: SinkKey,
        /// Records are written as CloudEvents.
        cloud_events: Option<ContentMode>,
        writers: PerLayout<Writer>,
    },
    /// Keeps the newest row per key.
    Table {
        store: StoreRef,
        layout: LayoutId,
        expiry: Option<Expiry>,
    },
    /// Keeps every version of a row per key, by timestamp.
    VersionedTable {
        store: StoreRef,
        layout: LayoutId,
        retention: SpanMs,
    },
    Aggregate(Box<Aggregate>),
    StreamTableJoin(Box<StreamTableJoin>),
    GlobalJoin(Box<GlobalJoin>),
    StreamJoin(Box<StreamJoin>),
    TableJoin(Box<TableJoin>),
    Subscribe(Box<Subscribe>),
    Subscriptions(Box<Subscriptions>),
    ForeignJoin(Box<ForeignJoin>),
    Suppress(Box<Suppress>),
    Dedupe(Box<Dedupe>),
    Timer(Box<Timer>),
    Punctuate(Box<Punctuate>),
    Entity(Box<Entity>),
    /// Passes rows on: the meeting point of several streams.
    Merge,
}

impl NodeKind {
    /// Returns the stores that the node keeps its rows in.
    pub fn keeps(&self) -> Vec<StoreRef> {
        match self {
            Self::Table { store, .. } | Self::VersionedTable { store, .. } => vec![*store],
            Self::Aggregate(aggregate) => vec![aggregate.store],
            Self::StreamJoin(join) => vec![join.left.store, join.right.store],
            Self::Subscriptions(subscriptions) => vec![subscriptions.store],
            Self::Suppress(suppress) => vec![suppress.held.store],
            Self::Dedupe(dedupe) => vec![dedupe.held.store],
            Self::Timer(timer) => vec![timer.held.store],
            Self::Entity(entity) => {
                let answers = entity.deciding.as_ref().map(|deciding| deciding.answers.store);
                let history = entity.history.as_ref().map(|history| history.store);
                std::iter::once(entity.store).chain(history).chain(answers).collect()
            }
            Self::Filter { .. }
            | Self::Select { .. }
            | Self::Flatten(_)
            | Self::Log(_)
            | Self::Rekey { .. }
            | Self::Regroup { .. }
            | Self::Repartition { .. }
            | Self::Sink { .. }
            | Self::StreamTableJoin(_)
            | Self::GlobalJoin(_)
            | Self::TableJoin(_)
            | Self::Subscribe(_)
            | Self::ForeignJoin(_)
            | Self::Punctuate(_)
            | Self::Merge => Vec::new(),
        }
    }

    /// Returns the stores of others that the node looks rows up in.
    pub fn looks_up(&self) -> Vec<StoreRef> {
        match self {
            Self::StreamTableJoin(join) => vec![join.table.store],
            Self::TableJoin(join) => vec![join.left.store, join.right.store],
            Self::Subscriptions(subscriptions) => vec![subscriptions.right.store],
            Self::ForeignJoin(join) => vec![join.left.store],
            Self::Punctuate(punctuate) => vec![punctuate.table.store],
            Self::Filter { .. }
            | Self::Select { .. }
            | Self::Flatten(_)
            | Self::Log(_)
            | Self::Rekey { .. }
            | Self::Regroup { .. }
            | Self::Repartition { .. }
            | Self::Sink { .. }
            | Self::Table { .. }
            | Self::VersionedTable { .. }
            | Self::Aggregate(_)
            | Self::GlobalJoin(_)
            | Self::Subscribe(_)
            | Self::StreamJoin(_)
            | Self::Suppress(_)
            | Self::Dedupe(_)
            | Self::Timer(_)
            | Self::Entity(_)
            | Self::Merge => Vec::new(),
        }
    }
}

impl SubTopology {
    /// Returns, by node, the sources whose rows may reach it.
    pub fn fed_by(&self) -> Vec<Vec<SourceIndex>> {
        let mut fed: Vec<Vec<SourceIndex>> = vec![Vec::new(); self.nodes.len()];
        for (index, source) in self.sources.iter().enumerate() {
            let source_index = SourceIndex(index as u16);
            let mut open: Vec<NodeIndex> = source.children.iter().map(|child| child.node).collect();
            while let Some(node) = open.pop() {
                let at = usize::from(node.0);
                if !fed[at].contains(&source_index) {
                    fed[at].push(source_index);
                    open.extend(self.nodes[at].children.iter().map(|child| child.node));
                }
            }
        }
        fed
    }
}

/// How rows of one layout are written to a topic.
#[derive(Debug)]
pub struct Writer {
    pub schema: Schema,
    /// Registry subject; none for internal topics, which carry the fingerprint, and for what is no Avro.
    pub subject: Option<String>,
    pub format: ValueFormat,
    /// Slot of each of the schema's fields, in the schema's order.
    pub slots: Vec<usize>,
}

/// State per key, folded from rows.
#[derive(Debug)]
pub struct Aggregate {
    pub store: StoreRef,
    pub window: Option<Window>,
    /// When to look at which window, where windows begin anywhere (sessions, sliding).
    pub due: Option<StoreRef>,
    /// Rows without value take part: `count()` counts them.
    pub counts_null: bool,
    /// Rows are changes of a table: [`CHANGE_SYSTEM_FIELDS`], then the old row's fields, then the new one's.
    pub of_table: bool,
    /// Expressions see the state as it was before the row.
    pub folds: bool,
    pub emit: Emit,
    /// Which functions a row of a layout feeds, each with its argument (none for `count`).
    pub updates: PerLayout<Vec<Update>>,
    /// The state row before the first record.
    pub initial: Vec<Value>,
    /// What the state row is made of.
    pub state: Vec<StateField>,
    /// What folds of two sessions make, by slot: `ROW` is the later state, `OTHER` the earlier one.
    pub merges: Vec<(usize, Expression)>,
    /// How the state row becomes the result row.
    pub results: Vec<ResultField>,
    /// Of the result row.
    pub layout: LayoutId,
}

/// A function's place in the state row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateField {
    pub function: AggregateFunction,
    /// Its first slot.
    pub slot: usize,
}

/// One function fed by one row.
#[derive(Debug)]
pub struct Update {
    pub function: AggregateFunction,
    pub argument: Option<Expression>,
    /// The argument of the row that is replaced; of a fold, the state without it.
    pub retracted: Option<Expression>,
    /// First slot of the function's state in the state row; `Avg` takes two: sum and count.
    pub slot: usize,
}

/// How a result field follows from the state row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultField {
    Slot(usize),
    /// Quotient of the double in `sum` and the int in `count`; null when the count is 0.
    Mean {
        sum: usize,
        count: usize,
    },
    /// How many values the list has.
    Size(usize),
    /// Of a sorted list with every value of a table's rows: the first, the last, how many different ones.
    Least(usize),
    Greatest(usize),
    Different(usize),
}

/// Event-sourced state: one per key, with every version kept where `history` is.
#[derive(Debug)]
pub struct Entity {
    /// Row: [`ENTITY_SYSTEM_FIELDS`] first, then the state's fields.
    pub store: StoreRef,
    /// Row: [`HISTORY_SYSTEM_FIELDS`] first, then the state's fields. Key: entity key and version.
    pub history: Option<History>,
    /// By the event's layout: which state fields are set to what. `ROW` is the event, `OTHER` the state's fields.
    pub apply: PerLayout<Vec<(usize, Expression)>>,
    /// The state's fields before the first event.
    pub initial: Vec<Value>,
    /// Of the state's fields, as children see them.
    pub layout: LayoutId,
    /// Of an entity that takes commands.
    pub deciding: Option<Box<Deciding>>,
}

/// Fields in front of the state's own in an entity's store: `_version`.
pub const ENTITY_SYSTEM_FIELDS: [&str; 1] = ["_version"];

/// Fields in front of the state's own in a history store.
pub const HISTORY_SYSTEM_FIELDS: [&str; 9] =
    ["_topic", "_partition", "_offset", "_type", "_schema_id", "_occurred", "_recorded", "_processed", "_headers"];

/// Where an entity's past is kept.
#[derive(Debug)]
pub struct History {
    pub store: StoreRef,
    pub keep: Keep,
    /// Names of the headers that are kept with each version.
    pub headers: Vec<Text>,
}

/// A store of a sub-topology.
#[derive(Debug)]
pub struct Store {
    pub name: Text,
    /// What the state folder and the changelog call it: its first name, where its node was renamed.
    pub kept_as: Text,
    pub changelog: Topic,
    pub key: KeyFormat,
    /// The row's record.
    pub row: Schema,
    pub kind: StoreKind,
}

/// What a store is for, which decides its keys and how it is queried.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreKind {
    KeyValue,
    Window(Window),
    Versioned {
        retention: SpanMs,
    },
    /// Current state of an entity.
    Entity,
    /// Every version of an entity.
    History,
    /// When to look at which row of another store.
    Due,
    /// Which rows of another table refer to a row.
    Subscriptions,
    /// Rows of one side of a stream-stream join, where those of the other side find them.
    JoinSide,
    /// Rows that wait for a time.
    Waiting,
}

/// A topic and what the topology expects of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    pub role: TopicRole,
    pub partitions: Partitions,
    /// Configs that an internal topic is created with and verified against.
    pub configs: BTreeMap<String, String>,
}

/// Whose a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicRole {
    Source,
    Sink,
    DeadLetter,
    Repartition,
    Changelog,
    Meta,
    /// Where each instance of the application says what it is and what it runs.
    Instances,
}

/// How many partitions a topic has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// As many as the broker says it has; it must exist, or is created with the broker's or the setting's default.
    Existing,
    /// As many as the largest of these topics.
    MaxOf(Vec<Topic>),
    Fixed(u32),
}
