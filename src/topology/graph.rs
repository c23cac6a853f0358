//! A topology with every name resolved, every row's shape known and every expression checked: what plans are made of.
//!
//! Invariants: each node stands after all that feed it, ties by name; a node's per-variant lists have one entry for each
//! variant of its input's rows. Not here: partitions, internal topics, slots; see `plan`.

use std::sync::Arc;

use super::sources::Place;
use super::terms::{
    AggregateFunction, Clock, ContentMode, Emit, JoinKind, JoinWindow, Keep, KeyFormat, LogLevel, OnError, SinkKey,
    SubjectNaming, SuppressBounds, SuppressUntil, ValueFormat, Window, WindowShape,
};
use crate::avro::Schema;
use crate::base::ids::Topic;
use crate::base::time::SpanMs;
use crate::base::types::{Field, RecordType, Type, short_name};
use crate::base::value::{Text, Value};
use crate::expr::Checked;

/// A checked topology.
#[derive(Debug)]
pub struct Graph {
    pub application_id: String,
    /// In an order in which every node stands after all that feed it; ties by name.
    pub nodes: Vec<Node>,
}

/// Index into [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A node: what it does and what rows it gives.
#[derive(Debug)]
pub struct Node {
    pub name: Text,
    /// The name that it had, under which its state is kept.
    pub was: Option<Text>,
    /// Where its name stands.
    pub place: Place,
    pub kind: NodeKind,
    /// What those that name it as their input see; a sink's are what it writes.
    pub rows: Rows,
    pub on_process_error: OnError,
    pub on_produce_error: OnError,
}

impl Node {
    /// Returns the name that its state, its topics and its part of the task's meta are kept under.
    pub fn kept_name(&self) -> &Text {
        self.was.as_ref().unwrap_or(&self.name)
    }
}

/// The rows that a node gives.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The record types that rows may have, each name once.
    pub variants: Vec<Variant>,
    pub key: KeyFormat,
    /// The key is not the one that the rows were partitioned by: something stateful needs a repartition first.
    pub rekeyed: bool,
    /// Rows belong to a window of this shape: `window` may be used.
    pub windowed: Option<WindowShape>,
    pub nature: Nature,
}

/// Whether rows are facts or the newest state of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    Stream,
    /// Rows replace one another by key.
    Table,
    /// A table that every instance has whole: there to be looked up in, it gives no rows.
    Global,
}

/// What the one field of a row is called that is no record.
pub const SCALAR_FIELD: &str = "value";

/// One record type of a node's rows.
#[derive(Clone, Debug)]
pub struct Variant {
    pub record: Arc<RecordType>,
    /// Where the rows are as a schema file has them.
    pub schema: Option<Schema>,
    /// Its rows are no records but the value of the one field.
    pub scalar: bool,
}

impl Variant {
    /// A row that is no record but a value of this type.
    pub(super) fn scalar(name: &str, of: Type) -> Self {
        let field = Field { name: Text::new(SCALAR_FIELD), field_type: of };
        let schema = Schema::record_of(name, &[(field.name.clone(), field.field_type.clone())]).ok();
        Self { record: RecordType::new(name, vec![field]), schema, scalar: true }
    }

    /// A record that the topology makes.
    pub(super) fn derived(record: Arc<RecordType>) -> Self {
        Self { record, schema: None, scalar: false }
    }

    /// Returns the type of a row in expressions.
    pub fn row_type(&self) -> Type {
        match self.record.fields() {
            [only] if self.scalar => only.field_type.clone(),
            _ => Type::Record(Arc::clone(&self.record)),
        }
    }

    /// Returns the full name: what `meta.type` says and `on` names.
    pub fn name(&self) -> &Text {
        &self.record.name
    }

    /// Returns the name without its namespace.
    pub fn short_name(&self) -> &str {
        short_name(&self.record.name)
    }

    /// Returns the fields in order.
    pub fn fields(&self) -> &[Field] {
        self.record.fields()
    }
}

/// One entry for each variant of the input's rows; none where rows of that type do not take part.
pub type ByVariant<T> = Vec<Option<T>>;

/// An expression and what is known of it.
#[derive(Clone, Debug)]
pub struct Expression {
    pub text: Arc<str>,
    pub checked: Arc<Checked>,
}

/// What a node does.
#[derive(Debug)]
pub enum NodeKind {
    /// Reads a topic.
    Source(Source),
    Stream(Stream),
    /// A case of a branch: rows that no earlier case took.
    Case {
        from: NodeId,
        /// From 0 on.
        number: usize,
        filter: ByVariant<Option<Expression>>,
    },
    Merge {
        from: Vec<NodeId>,
    },
    /// Keeps the newest row per key, of a topic or a stream.
    Table(Table),
    /// Keeps the newest row per key of a whole topic, on every instance.
    GlobalTable(Source),
    Entity(Entity),
    Aggregate(Aggregate),
    Join(Join),
    Suppress(Suppress),
    Dedupe(Dedupe),
    Timer(Timer),
    Punctuate(Punctuate),
    Log(Log),
    Sink(Sink),
}

/// A topic and how its records are read.
#[derive(Debug)]
pub struct Source {
    pub topic: Topic,
    pub subjects: SubjectNaming,
    pub value_format: ValueFormat,
    /// Keys are Avro in registry frames; inside they are bare.
    pub framed_keys: bool,
    /// Records are CloudEvents: their attributes are headers, and say the type of JSON values.
    pub cloud_events: bool,
    pub timestamp: Option<ByVariant<Expression>>,
    pub idle: Option<SpanMs>,
    pub on_decode_error: OnError,
}

/// A stream made of another: which rows, with which key, in which shape. All expressions see the input's row and key.
#[derive(Debug)]
pub struct Stream {
    pub from: NodeId,
    pub filter: Option<ByVariant<Option<Expression>>>,
    /// A list: each element becomes a row, and expressions behind it see the element beside the row.
    pub flatten: Option<Flatten>,
    pub key: Option<ByVariant<Expression>>,
    pub shape: Option<Shape>,
}

/// How a row becomes several.
#[derive(Debug)]
pub struct Flatten {
    pub list: ByVariant<Expression>,
    /// Elements are records: each of their fields has a slot.
    pub of_records: bool,
}

/// How rows get a new shape: an expression for each field of the output, in its order.
#[derive(Debug)]
pub enum Shape {
    /// All variants become the one variant of the output.
    Select(ByVariant<Vec<Expression>>),
    /// Each variant becomes the output's variant of the same name.
    Set(ByVariant<Vec<Expression>>),
}

/// A table: of a topic, or of a stream's rows.
#[derive(Debug)]
pub struct Table {
    pub input: TableInput,
    /// Rows that it does not hold for are not in the table.
    pub filter: Option<ByVariant<Option<Expression>>>,
    pub shape: Option<Shape>,
    /// Keeps every row this long by stream time, for look-ups as of a moment.
    pub versioned: Option<SpanMs>,
    /// Rows go this long after their last change, by stream time.
    pub ttl: Option<SpanMs>,
}

/// Where a table's rows come from.
#[derive(Debug)]
pub enum TableInput {
    Topic(Source),
    From(NodeId),
}

/// State per key, folded from events.
#[derive(Debug)]
pub struct Entity {
    pub from: NodeId,
    pub state: Schema,
    /// The state's fields before the first event.
    pub initial: Vec<Value>,
    pub history: Option<Keep>,
    /// Headers that are kept with each version.
    pub history_headers: Vec<Text>,
    /// Which fields of the state are set to what.
    pub apply: ByVariant<Vec<(usize, Expression)>>,
    /// Of an entity that takes commands.
    pub deciding: Option<Deciding>,
}

/// What an entity decides. Its events go to the topic that its stream reads.
#[derive(Debug)]
pub struct Deciding {
    /// The stream of the commands.
    pub commands: NodeId,
    /// By the command's variant.
    pub decisions: ByVariant<Decision>,
    /// How long the answer to a command is remembered.
    pub within: SpanMs,
    pub replies: Option<Topic>,
    /// By the event's variant; none for events that no command gives.
    pub writers: ByVariant<SinkWriter>,
    /// By the command's variant: how the daemon itself writes it.
    pub command_writers: Vec<SinkWriter>,
}

/// What becomes of a command of one type.
#[derive(Debug)]
pub struct Decision {
    /// In order; the first that holds refuses.
    pub reject: Vec<Rejection>,
    pub emit: Vec<Emission>,
}

/// A rule that refuses.
#[derive(Debug)]
pub struct Rejection {
    pub when: Expression,
    pub code: Text,
    pub message: Option<Text>,
}

/// An event that a command gives.
#[derive(Debug)]
pub struct Emission {
    pub when: Option<Expression>,
    /// The event's variant.
    pub event: usize,
    /// In the order of the event's schema.
    pub fields: Vec<Given>,
}

/// What a field of an event is given.
#[derive(Debug)]
pub enum Given {
    Expression(Expression),
    /// Its schema's default.
    Default(Value),
}

/// Results per key, and per window where there is one.
#[derive(Debug)]
pub struct Aggregate {
    pub from: NodeId,
    /// Its input is a table: what a row replaces is taken out of the group that it was in.
    pub of_table: bool,
    pub group_by: Option<ByVariant<Expression>>,
    pub window: Option<Window>,
    pub emit: Emit,
    /// In the order of the result's fields.
    pub fields: Vec<AggregateField>,
    /// Which fields a row feeds.
    pub updates: ByVariant<Vec<Update>>,
}

/// A field of an aggregate's result.
#[derive(Clone, Debug)]
pub struct AggregateField {
    pub name: Text,
    pub function: AggregateFunction,
    /// Of the argument, null left out; `count()` has none and says `null`; of a fold, what it holds.
    pub argument: Type,
    /// Of a fold: what it holds before the first row.
    pub initial: Option<Value>,
    /// Of a fold in sessions: what two states make, `other` the later one and `state` the earlier.
    pub merge: Option<Expression>,
}

/// A field that a row feeds, and with what.
#[derive(Clone, Debug)]
pub struct Update {
    /// Index into [`Aggregate::fields`].
    pub field: usize,
    pub argument: Option<Expression>,
    /// Of a fold over a table: the state without the row.
    pub retract: Option<Expression>,
}

/// Brings rows of two nodes together by their keys.
#[derive(Debug)]
pub struct Join {
    pub left: NodeId,
    pub right: NodeId,
    pub kind: JoinKind,
    pub form: JoinForm,
    /// How long a stream's rows wait for a table.
    pub grace: Option<SpanMs>,
    /// The key of the right row that a left one refers to; empty where rows meet by their own keys.
    pub refers_to: ByVariant<Expression>,
    /// An expression for each field of the output, by the left row's variant.
    pub fields: ByVariant<Vec<Expression>>,
}

/// What kind of rows meet, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinForm {
    /// Each row of a stream looks a table's row up.
    StreamTable,
    /// Each row of a stream looks a global table's row up.
    StreamGlobal,
    /// Rows of two streams meet when they are near in time.
    StreamStream(JoinWindow),
    /// The newest rows of two tables; a change of either changes the result.
    TableTable,
    /// The same, where a left row refers to a right one by another key than its own.
    ForeignKey,
}

/// Holds changes back and lets the last one of a while through.
#[derive(Debug)]
pub struct Suppress {
    pub from: NodeId,
    pub until: SuppressUntil,
    pub bounds: SuppressBounds,
}

/// Passes the first row of each id within a span of time.
#[derive(Debug)]
pub struct Dedupe {
    pub from: NodeId,
    /// None for rows that are passed on unseen.
    pub id: ByVariant<Expression>,
    pub within: SpanMs,
}

/// Gives a row some time after another, unless it is cancelled.
#[derive(Debug)]
pub struct Timer {
    pub from: NodeId,
    pub cancel: Option<NodeId>,
    pub after: SpanMs,
    pub clock: Clock,
    /// An expression for each field of the output.
    pub fields: ByVariant<Vec<Expression>>,
}

/// Goes through a table again and again, and gives a row for each of its rows that the filter holds for.
#[derive(Debug)]
pub struct Punctuate {
    pub table: NodeId,
    pub every: SpanMs,
    pub clock: Clock,
    pub filter: Option<Expression>,
    /// An expression for each field of the output.
    pub fields: Vec<Expression>,
}

/// Passes rows on and writes a line of the log for each, so many a second at most.
#[derive(Debug)]
pub struct Log {
    pub from: NodeId,
    pub message: ByVariant<Expression>,
    pub level: LogLevel,
    pub lines_per_second: u32,
}

/// Writes rows to a topic.
#[derive(Debug)]
pub struct Sink {
    pub from: NodeId,
    pub topic: Topic,
    pub key: SinkKey,
    pub value_format: ValueFormat,
    /// Records are written as CloudEvents.
    pub cloud_events: Option<ContentMode>,
    pub writers: ByVariant<SinkWriter>,
}

/// How rows of one variant are written.
#[derive(Clone, Debug)]
pub struct SinkWriter {
    pub schema: Schema,
    pub subject: String,
    /// For each field of the schema, the row's field that it is written from.
    pub columns: Vec<usize>,
}

impl Decision {
    /// Returns every expression.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let rejecting = self.reject.iter().map(|rule| &rule.when);
        let emitting = self.emit.iter().flat_map(|emit| {
            let given = emit.fields.iter().filter_map(|given| match given {
                Given::Expression(expression) => Some(expression),
                Given::Default(_) => None,
            });
            emit.when.iter().chain(given)
        });
        rejecting.chain(emitting)
    }
}

impl Graph {
    /// Returns a node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Returns all nodes with their ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }
}

impl NodeKind {
    /// Returns the nodes that feed it, in the order that they are written.
    pub fn inputs(&self) -> Vec<NodeId> {
        match self {
            Self::Source(_) | Self::GlobalTable(_) | Self::Table(Table { input: TableInput::Topic(_), .. }) => {
                Vec::new()
            }
            Self::Table(Table { input: TableInput::From(from), .. }) => vec![*from],
            Self::Stream(stream) => vec![stream.from],
            Self::Case { from, .. } => vec![*from],
            Self::Merge { from } => from.clone(),
            Self::Entity(entity) => {
                std::iter::once(entity.from).chain(entity.deciding.as_ref().map(|deciding| deciding.commands)).collect()
            }
            Self::Aggregate(aggregate) => vec![aggregate.from],
            Self::Join(join) => vec![join.left, join.right],
            Self::Suppress(suppress) => vec![suppress.from],
            Self::Dedupe(dedupe) => vec![dedupe.from],
            Self::Timer(timer) => std::iter::once(timer.from).chain(timer.cancel).collect(),
            Self::Punctuate(punctuate) => vec![punctuate.table],
            Self::Log(log) => vec![log.from],
            Self::Sink(sink) => vec![sink.from],
        }
    }

    /// Returns the topic that it reads, if it does.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Source(source)
            | Self::GlobalTable(source)
            | Self::Table(Table { input: TableInput::Topic(source), .. }) => Some(source),
            Self::Table(Table { input: TableInput::From(_), .. })
            | Self::Stream(_)
            | Self::Case { .. }
            | Self::Merge { .. }
            | Self::Entity(_)
            | Self::Aggregate(_)
            | Self::Join(_)
            | Self::Suppress(_)
            | Self::Dedupe(_)
            | Self::Timer(_)
            | Self::Punctuate(_)
            | Self::Log(_)
            | Self::Sink(_) => None,
        }
    }
}
