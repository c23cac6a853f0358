//! What an entity decides.

use super::{Expression, Held, LayoutId, NodeIndex, PerLayout, SourceIndex};
use crate::avro::Schema;
use crate::base::time::SpanMs;
use crate::base::types::Type;
use crate::base::value::{Text, Value};

/// The commands of an entity and what comes of them.
#[derive(Debug)]
pub struct Deciding {
    /// The source whose topic the events are appended to.
    pub events_source: SourceIndex,
    /// The source of the commands.
    pub commands_source: SourceIndex,
    /// Writes the events.
    pub events: NodeIndex,
    /// Writes the answers, where they go to a topic.
    pub replies: Option<NodeIndex>,
    /// By the command's layout. `ROW` is the command, `OTHER` one slot: the state's record, null before the first event.
    pub decisions: PerLayout<Decision>,
    /// The answers that are remembered: each has one field, text in JSON.
    pub answers: Held,
    pub within: SpanMs,
    /// How the daemon itself writes commands.
    pub commands: Vec<CommandType>,
}

/// A type of command.
#[derive(Debug)]
pub struct CommandType {
    pub schema: Schema,
    pub subject: String,
}

/// What becomes of a command of one type.
#[derive(Debug)]
pub struct Decision {
    /// The command's full name.
    pub command: Text,
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
    /// The event's full name.
    pub event: Text,
    /// All its fields, in the schema's order, and what each is given.
    pub fields: Vec<(Text, Type, Given)>,
    /// The layout of the whole row, for writing it.
    pub written: LayoutId,
    /// The layout of the row as it comes back from the topic.
    pub read: LayoutId,
    /// The fields that such a row has, in the order of its slots.
    pub kept: Vec<usize>,
}

/// What a field of an event is given.
#[derive(Debug)]
pub enum Given {
    Expression(Expression),
    /// Its schema's default.
    Default(Value),
}
