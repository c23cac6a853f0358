//! A topology as it is written: every table as a struct, every value with its place, no name resolved yet.
//!
//! What a table must have and did not is reported when it is read; such a node stays in the list without its body, so that
//! others may name it.

use super::sources::{Located, Place};
use super::terms::{
    Clock, ContentMode, Emit, JoinKind, JoinWindow, Keep, KeyFormat, LogLevel, OnError, SubjectNaming, SuppressBounds,
    ValueFormat, Window,
};
use crate::base::time::SpanMs;
use crate::base::types::Type;

/// A whole folder.
#[derive(Debug, Default)]
pub(super) struct Spec {
    pub application_id: Option<Located<String>>,
    pub defaults: ErrorActions,
    /// In the order of files and places.
    pub nodes: Vec<NodeSpec>,
}

/// What to do with records that fail, where it is said.
#[derive(Clone, Debug, Default)]
pub(super) struct ErrorActions {
    pub decode: Option<OnError>,
    pub process: Option<OnError>,
    pub produce: Option<OnError>,
}

/// An expression as it is written.
#[derive(Clone, Debug)]
pub(super) struct ExpressionText {
    pub text: String,
    /// The whole string, quotes and all.
    pub place: Place,
    /// The byte of the file at which `text` begins; none where escapes make the two differ.
    pub start: Option<usize>,
}

pub(super) type Fields = Vec<(Located<String>, ExpressionText)>;

/// A named table.
#[derive(Debug)]
pub(super) struct NodeSpec {
    pub name: Located<String>,
    /// `stream`, `table`, …
    pub kind: &'static str,
    pub on_error: ErrorActions,
    /// The name that it had, under which its state is kept.
    pub was: Option<Located<String>>,
    /// None where something that must be there is not: reported already.
    pub body: Option<Body>,
}

#[derive(Debug)]
pub(super) enum Body {
    StreamOfTopic(TopicSpec),
    StreamFrom(StreamSpec),
    TableOfTopic(TopicSpec),
    TableFrom(FromSpec),
    GlobalTable(TopicSpec),
    Entity(Box<EntitySpec>),
    Aggregate(AggregateSpec),
    Merge { from: Vec<Located<String>> },
    Branch(BranchSpec),
    Join(JoinSpec),
    Suppress(SuppressSpec),
    Dedupe(DedupeSpec),
    Timer(TimerSpec),
    Punctuate(PunctuateSpec),
    Log(LogSpec),
    Sink(SinkSpec),
}

impl Body {
    /// Returns the schema files that the table names.
    pub(super) fn schemas(&self) -> Vec<&Located<String>> {
        match self {
            Self::StreamOfTopic(topic) | Self::TableOfTopic(topic) | Self::GlobalTable(topic) => {
                topic.schemas.iter().chain(&topic.key_schema).collect()
            }
            Self::Entity(entity) => vec![&entity.schema],
            Self::Sink(sink) => sink.schema.iter().collect(),
            Self::StreamFrom(_)
            | Self::TableFrom(_)
            | Self::Aggregate(_)
            | Self::Merge { .. }
            | Self::Branch(_)
            | Self::Join(_)
            | Self::Suppress(_)
            | Self::Dedupe(_)
            | Self::Timer(_)
            | Self::Punctuate(_)
            | Self::Log(_) => Vec::new(),
        }
    }

    /// Returns the nodes that the table names as its inputs.
    pub(super) fn inputs(&self) -> Vec<&Located<String>> {
        match self {
            Self::StreamOfTopic(_) | Self::TableOfTopic(_) | Self::GlobalTable(_) => Vec::new(),
            Self::StreamFrom(stream) => vec![&stream.from],
            Self::TableFrom(table) => vec![&table.from],
            Self::Entity(entity) => {
                std::iter::once(&entity.from).chain(entity.commands.as_ref().map(|commands| &commands.stream)).collect()
            }
            Self::Aggregate(aggregate) => vec![&aggregate.from],
            Self::Merge { from } => from.iter().collect(),
            Self::Branch(branch) => vec![&branch.from],
            Self::Join(join) => vec![&join.left, &join.right],
            Self::Suppress(suppress) => vec![&suppress.from],
            Self::Dedupe(dedupe) => vec![&dedupe.from],
            Self::Timer(timer) => std::iter::once(&timer.from).chain(&timer.cancel).collect(),
            Self::Punctuate(punctuate) => vec![&punctuate.table],
            Self::Log(log) => vec![&log.from],
            Self::Sink(sink) => vec![&sink.from],
        }
    }
}

/// A stream or table that reads a topic.
#[derive(Debug)]
pub(super) struct TopicSpec {
    pub topic: Located<String>,
    pub schemas: Vec<Located<String>>,
    pub subjects: SubjectNaming,
    pub key_format: KeyFormat,
    /// Where it stands that keys are Avro in registry frames.
    pub framed_key: Option<Place>,
    /// Of keys that are records.
    pub key_schema: Option<Located<String>>,
    pub value_format: ValueFormat,
    /// Records are CloudEvents.
    pub cloud_events: bool,
    pub timestamp: Option<ExpressionText>,
    pub idle: Option<SpanMs>,
    /// Tables only.
    pub versioned: Option<SpanMs>,
    /// Tables only.
    pub ttl: Option<SpanMs>,
}

#[derive(Debug)]
pub(super) struct StreamSpec {
    pub from: Located<String>,
    pub on: Option<Vec<Located<String>>>,
    pub filter: Option<ExpressionText>,
    /// A list: each of its elements becomes a row.
    pub flatten: Option<ExpressionText>,
    pub shape: Option<Shape>,
    pub select_key: Option<ExpressionText>,
}

/// How rows get a new shape.
#[derive(Debug)]
pub(super) enum Shape {
    /// The whole row.
    Select(Fields),
    /// The row with some fields changed or added.
    Set(Fields),
}

/// A table kept of a stream's or another table's rows.
#[derive(Debug)]
pub(super) struct FromSpec {
    pub from: Located<String>,
    pub filter: Option<ExpressionText>,
    pub shape: Option<Shape>,
    pub versioned: Option<SpanMs>,
    pub ttl: Option<SpanMs>,
}

#[derive(Debug)]
pub(super) struct EntitySpec {
    pub from: Located<String>,
    pub schema: Located<String>,
    pub history: Option<Keep>,
    pub history_headers: Vec<Located<String>>,
    pub apply: Vec<(Located<String>, Fields)>,
    /// Of an entity that decides.
    pub commands: Option<CommandsSpec>,
}

/// What an entity decides, and how.
#[derive(Debug)]
pub(super) struct CommandsSpec {
    /// The stream of the commands, a node like any other: `<entity>_commands`.
    pub stream: Located<String>,
    /// What that stream reads, until it is a node.
    pub topic: Option<(TopicSpec, ErrorActions)>,
    /// How long the answer to a command is remembered.
    pub within: SpanMs,
    pub replies: Option<Located<String>>,
    /// By the command's type.
    pub decide: Vec<(Located<String>, DecideSpec)>,
}

#[derive(Debug, Default)]
pub(super) struct DecideSpec {
    pub reject: Vec<RejectSpec>,
    pub emit: Vec<EmitSpec>,
}

#[derive(Debug)]
pub(super) struct RejectSpec {
    pub when: ExpressionText,
    pub code: Located<String>,
    pub message: Option<Located<String>>,
}

#[derive(Debug)]
pub(super) struct EmitSpec {
    pub event: Located<String>,
    pub fields: Fields,
    pub when: Option<ExpressionText>,
}

#[derive(Debug)]
pub(super) struct AggregateSpec {
    pub from: Located<String>,
    pub group_by: Option<ExpressionText>,
    pub updates: Updates,
    pub window: Option<Window>,
    pub emit: Emit,
}

/// Which rows feed which fields of an aggregate.
#[derive(Debug)]
pub(super) enum Updates {
    /// Every row feeds all.
    Select(Fields),
    /// By event type.
    On(Vec<(Located<String>, Fields)>),
    /// Every row updates all, each by an expression of its own.
    Fold(Vec<FoldSpec>),
}

/// A field that is folded: what it holds before the first row, and after another.
#[derive(Debug)]
pub(super) struct FoldSpec {
    pub name: Located<String>,
    pub field_type: Type,
    pub initial: ExpressionText,
    pub update: ExpressionText,
    /// What two sessions that become one hold.
    pub merge: Option<ExpressionText>,
    /// What it holds without a table's row that was there.
    pub retract: Option<ExpressionText>,
}

#[derive(Debug)]
pub(super) struct BranchSpec {
    pub from: Located<String>,
    pub cases: Vec<CaseSpec>,
}

#[derive(Debug)]
pub(super) struct CaseSpec {
    pub name: Located<String>,
    /// None for the case that takes the rest.
    pub filter: Option<ExpressionText>,
}

#[derive(Debug)]
pub(super) struct JoinSpec {
    pub left: Located<String>,
    pub right: Located<String>,
    pub kind: JoinKind,
    /// With where it stands.
    pub window: Option<(JoinWindow, Place)>,
    /// How long rows wait for the table, with where it stands.
    pub grace: Option<Located<SpanMs>>,
    /// What is looked up in a global table.
    pub key: Option<ExpressionText>,
    /// The row of the right table that a left one refers to.
    pub foreign_key: Option<ExpressionText>,
    pub select: Fields,
}

#[derive(Debug)]
pub(super) struct SuppressSpec {
    pub from: Located<String>,
    /// None until the window closes.
    pub until: Located<Option<SpanMs>>,
    pub bounds: SuppressBounds,
}

#[derive(Debug)]
pub(super) struct DedupeSpec {
    pub from: Located<String>,
    pub on: Option<Vec<Located<String>>>,
    pub id: ExpressionText,
    pub within: SpanMs,
}

#[derive(Debug)]
pub(super) struct TimerSpec {
    pub from: Located<String>,
    pub cancel: Option<Located<String>>,
    pub after: SpanMs,
    pub clock: Clock,
    pub select: Fields,
}

#[derive(Debug)]
pub(super) struct PunctuateSpec {
    pub table: Located<String>,
    pub every: SpanMs,
    pub clock: Clock,
    pub filter: Option<ExpressionText>,
    pub select: Fields,
}

#[derive(Debug)]
pub(super) struct LogSpec {
    pub from: Located<String>,
    pub message: ExpressionText,
    pub level: LogLevel,
    pub lines_per_second: u32,
}

#[derive(Debug)]
pub(super) struct SinkSpec {
    pub from: Located<String>,
    pub topic: Located<String>,
    pub record: Option<Located<String>>,
    pub schema: Option<Located<String>>,
    pub subjects: Option<SubjectNaming>,
    /// With where it stands.
    pub key: Option<(SinkKeyWord, Place)>,
    pub value_format: Option<(ValueFormat, Place)>,
    /// Records are CloudEvents.
    pub cloud_events: Option<ContentMode>,
}

/// How a sink says that it writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SinkKeyWord {
    Plain,
    Windowed,
    Avro,
}
