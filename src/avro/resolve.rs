//! How a reader's schema sees a writer's data: which field becomes which, which branch, which promotion, which default.
//!
//! Source: Avro 1.12 specification, "Schema Resolution". Choices it leaves open, made here:
//! - A reader's union takes the first branch that matches exactly (named types: by full name or alias, then by unqualified
//!   name), and only when there is none the first that a promotion reaches; so does Java. Java's further rule, that any record
//!   of fitting structure will do, is not followed: it reads an event as another type.
//! - A reader's field takes the writer's field of its name, else the one that one of its aliases names. When the writer has
//!   both, or two of the aliases, it is an error, as in Java.
//! - Two moments (`date`, `timestamp-*`, `local-timestamp-*`) or two times of day are read by the writer's unit: they mean
//!   what their writer meant. Other logical types count as annotations of the reader's, except that decimals of different
//!   scale do not match, as the specification says; a different precision changes no number and passes.
//!
//! Not here: reading bytes (`plan`, `read`).

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

use crate::avro::fingerprint::split;
use crate::avro::schema::{EnumNode, FieldNode, Logical, Named, Node, NodeId, RecordNode, Schema, Shape};
use crate::error::{Code, Kind, codes};

/// One reason why a reader's schema cannot take some or all of a writer's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// Where, by the reader's names: `order.items[].price`; `{}` for a map's values; empty for the whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.path, self.message) }
    }
}

/// The reader's schema cannot take any of the writer's data.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    #[error("a reader of `{reader}` cannot take what a writer of `{writer}` wrote: {}", join(.problems))]
    Incompatible { reader: String, writer: String, problems: Vec<Incompatibility> },
    /// Fields can be picked from a record only.
    #[error("the reader's schema `{reader}` is not a record")]
    NotARecord { reader: String },
    #[error("field number {field} is wanted twice or is not among the {fields} of `{reader}`")]
    Wanted { reader: String, field: usize, fields: usize },
}

impl ResolveError {
    /// A record whose writer's schema does not fit is one record too many; a wrong question is a mistake of ours.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Incompatible { .. } => Kind::Record,
            Self::NotARecord { .. } | Self::Wanted { .. } => Kind::Bug,
        }
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::SCHEMA_INCOMPATIBLE
    }
}

fn join(problems: &[Incompatibility]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Returns every reason why `reader` cannot take all that `writer` may write; none when it can.
pub fn can_read(reader: &Schema, writer: &Schema) -> Vec<Incompatibility> {
    resolve(writer, reader).problems.into_iter().map(|problem| problem.what).collect()
}

/// What becomes of each pair of a writer's and a reader's type.
#[derive(Debug)]
pub(crate) struct Resolution {
    pub(crate) steps: Vec<StepNode>,
    pub(crate) root: StepId,
    pub(crate) problems: Vec<Found>,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) what: Incompatibility,
    pub(crate) reach: Reach,
}

/// Which data a problem spoils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Every,
    /// Only data with a certain union branch or enum symbol.
    Some,
}

/// A step's place in its resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StepId(u32);

impl StepId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(crate) struct StepNode {
    pub(crate) writer: NodeId,
    pub(crate) reader: NodeId,
    pub(crate) step: Step,
}

/// How a writer's datum becomes a reader's.
#[derive(Debug)]
pub(crate) enum Step {
    /// Both are scalars that match or promote.
    Scalar,
    /// For each of the writer's symbols the reader's, if there is one.
    Enum(Vec<Option<usize>>),
    Array(StepId),
    Map(StepId),
    Record(RecordStep),
    /// For each of the writer's branches.
    WriterUnion(Vec<StepId>),
    /// The reader's branch that takes the datum.
    ReaderUnion {
        branch: usize,
        step: StepId,
    },
    Fail(String),
}

#[derive(Debug)]
pub(crate) struct RecordStep {
    /// For each of the writer's fields, in order, the reader's field that it becomes.
    pub(crate) fields: Vec<Option<(usize, StepId)>>,
    /// The reader's fields that take their defaults.
    pub(crate) defaults: Vec<usize>,
    /// Why no datum can be read, if so: a field comes from nowhere or from two places.
    pub(crate) broken: Option<String>,
}

/// Resolves a pair of schemas; problems are in the result, not errors.
pub(crate) fn resolve(writer: &Schema, reader: &Schema) -> Resolution {
    walk(writer, reader, false)
}

/// Resolves a pair of schemas whose roots may be called differently.
pub(crate) fn resolve_rows(writer: &Schema, reader: &Schema) -> Resolution {
    walk(writer, reader, true)
}

fn walk(writer: &Schema, reader: &Schema, any_root: bool) -> Resolution {
    let mut resolver =
        Resolver { writer, reader, any_root, steps: Vec::new(), seen: HashMap::new(), problems: Vec::new() };
    let root = resolver.pair(writer.root(), reader.root(), &Place { path: String::new(), reach: Reach::Every });
    Resolution { steps: resolver.steps, root, problems: resolver.problems }
}

/// Where the walk is.
struct Place {
    path: String,
    reach: Reach,
}

impl Place {
    fn below(&self, suffix: &str) -> Self {
        Self { path: format!("{}{suffix}", self.path), reach: self.reach }
    }

    fn field(&self, name: &str) -> Self {
        if self.path.is_empty() { self.below(name) } else { self.below(&format!(".{name}")) }
    }
}

struct Resolver<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    /// What the roots are called plays no part.
    any_root: bool,
    steps: Vec<StepNode>,
    /// Pairs are entered before their parts, so that recursive types meet themselves.
    seen: HashMap<(NodeId, NodeId), StepId>,
    problems: Vec<Found>,
}

impl Resolver<'_> {
    fn pair(&mut self, writer: NodeId, reader: NodeId, place: &Place) -> StepId {
        if let Some(known) = self.seen.get(&(writer, reader)) {
            return *known;
        }
        let id = StepId(self.steps.len() as u32);
        self.seen.insert((writer, reader), id);
        self.steps.push(StepNode { writer, reader, step: Step::Scalar });
        let step = self.step(writer, reader, place);
        if let Step::Fail(message) = &step {
            self.problem(place, place.reach, message.clone());
        }
        self.steps[id.index()].step = step;
        id
    }

    fn problem(&mut self, place: &Place, reach: Reach, message: String) {
        self.problems.push(Found { what: Incompatibility { path: place.path.clone(), message }, reach });
    }

    fn step(&mut self, writer_id: NodeId, reader_id: NodeId, place: &Place) -> Step {
        let (writer, reader) = (self.writer.node(writer_id), self.reader.node(reader_id));
        match (&writer.shape, &reader.shape) {
            (Shape::Union(branches), _) => self.writer_union(branches, reader_id, place),
            (_, Shape::Union(branches)) => match matching_branch(writer, branches, self.reader.nodes()) {
                Some(branch) => Step::ReaderUnion { branch, step: self.pair(writer_id, branches[branch], place) },
                None => Step::Fail(format!("no branch of the reader's union takes the writer's `{}`", writer.word())),
            },
            (Shape::Array(from), Shape::Array(to)) => Step::Array(self.pair(*from, *to, &place.below("[]"))),
            (Shape::Map(from), Shape::Map(to)) => Step::Map(self.pair(*from, *to, &place.below("{}"))),
            (Shape::Record(from), Shape::Record(to)) => self.record(from, to, place),
            (Shape::Enum(from), Shape::Enum(to)) => self.symbols(from, to, place),
            (Shape::Fixed(from), Shape::Fixed(to)) => {
                if name_match(&from.named, &to.named).is_none() {
                    Step::Fail(other_name(&from.named, &to.named))
                } else if from.size == to.size {
                    scalar(writer, reader)
                } else {
                    Step::Fail(format!("the writer's fixed has {} bytes, the reader's {}", from.size, to.size))
                }
            }
            (from, to) if same_scalar(from, to) || promotes(from, to) => scalar(writer, reader),
            _ => Step::Fail(format!("the writer's `{}` cannot become the reader's `{}`", writer.word(), reader.word())),
        }
    }

    fn writer_union(&mut self, branches: &[NodeId], reader: NodeId, place: &Place) -> Step {
        // A union of one branch is that branch in every datum.
        let reach = if branches.len() == 1 { place.reach } else { Reach::Some };
        let below = Place { path: place.path.clone(), reach };
        let steps: Vec<StepId> = branches.iter().map(|branch| self.pair(*branch, reader, &below)).collect();
        if reach != place.reach && steps.iter().all(|step| matches!(self.steps[step.index()].step, Step::Fail(_))) {
            self.problem(place, place.reach, "the reader takes no branch of the writer's union".to_owned());
        }
        Step::WriterUnion(steps)
    }

    fn record(&mut self, writer: &RecordNode, reader: &RecordNode, place: &Place) -> Step {
        let may_differ = self.any_root && place.path.is_empty();
        if !may_differ && name_match(&writer.named, &reader.named).is_none() {
            return Step::Fail(other_name(&writer.named, &reader.named));
        }
        let mut step = RecordStep { fields: vec![None; writer.fields.len()], defaults: Vec::new(), broken: None };
        for (index, field) in reader.fields.iter().enumerate() {
            let place = place.field(&field.name);
            match source_of(field, writer, reader) {
                Source::Field(position) => {
                    step.fields[position] = Some((index, self.pair(writer.fields[position].node, field.node, &place)));
                }
                Source::Missing if field.default_value.is_some() => step.defaults.push(index),
                Source::Missing => {
                    let message = "the writer has no such field and the reader's has no default".to_owned();
                    step.broken = Some(format!("`{}`: {message}", place.path));
                    self.problem(&place, place.reach, message);
                }
                Source::Ambiguous(one, other) => {
                    let message =
                        format!("the writer's fields `{one}` and `{other}` both are this field by its aliases");
                    step.broken = Some(format!("`{}`: {message}", place.path));
                    self.problem(&place, place.reach, message);
                }
            }
        }
        Step::Record(step)
    }

    fn symbols(&mut self, writer: &EnumNode, reader: &EnumNode, place: &Place) -> Step {
        if name_match(&writer.named, &reader.named).is_none() {
            return Step::Fail(other_name(&writer.named, &reader.named));
        }
        let position = |symbol: &str| reader.symbols.iter().position(|known| known == symbol);
        let default = reader.default.as_ref().and_then(|symbol| position(symbol));
        let table: Vec<_> = writer.symbols.iter().map(|symbol| position(symbol).or(default)).collect();
        let lost = writer.symbols.iter().zip(&table).filter(|(_, found)| found.is_none());
        let lost: Vec<&str> = lost.map(|(symbol, _)| symbol.as_str()).collect();
        if !lost.is_empty() {
            let message = format!("the reader's enum has no symbol `{}` and no default", lost.join("`, `"));
            self.problem(place, Reach::Some, message);
        }
        Step::Enum(table)
    }
}

/// Where a reader's field comes from.
enum Source<'a> {
    Field(usize),
    Missing,
    Ambiguous(&'a str, &'a str),
}

fn source_of<'a>(field: &FieldNode, writer: &'a RecordNode, reader: &RecordNode) -> Source<'a> {
    let mut found = None;
    for (position, candidate) in writer.fields.iter().enumerate() {
        let own_name = candidate.name == field.name;
        // A name that another field of the reader bears is that field's, whatever the aliases say.
        let by_alias = field.aliases.contains(&candidate.name)
            && !reader.fields.iter().any(|other| other.name == candidate.name)
            && first_claimant(&candidate.name, reader).is_some_and(|claimant| claimant.name == field.name);
        match found {
            _ if !own_name && !by_alias => {}
            None => found = Some(position),
            Some(earlier) => return Source::Ambiguous(&writer.fields[earlier].name, &candidate.name),
        }
    }
    found.map_or(Source::Missing, Source::Field)
}

/// The first of the reader's fields that has a name among its aliases: a writer's field becomes one field only.
fn first_claimant<'a>(name: &str, reader: &'a RecordNode) -> Option<&'a FieldNode> {
    reader.fields.iter().find(|field| field.aliases.iter().any(|alias| alias == name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameMatch {
    Full,
    Unqualified,
}

fn name_match(writer: &Named, reader: &Named) -> Option<NameMatch> {
    if writer.name == reader.name || reader.aliases.contains(&writer.name) {
        Some(NameMatch::Full)
    } else if split(&writer.name).1 == split(&reader.name).1 {
        Some(NameMatch::Unqualified)
    } else {
        None
    }
}

fn other_name(writer: &Named, reader: &Named) -> String {
    format!("the writer's `{}` is not the reader's `{}` by name or alias", writer.name, reader.name)
}

fn matching_branch(writer: &Node, branches: &[NodeId], reader: &[Node]) -> Option<usize> {
    let position =
        |matches: &dyn Fn(&Node) -> bool| branches.iter().position(|branch| matches(&reader[branch.index()]));
    let exact = |wanted: NameMatch| {
        position(&|branch| match (writer.named(), branch.named()) {
            (Some(from), Some(to)) => same_kind(&writer.shape, &branch.shape) && name_match(from, to) == Some(wanted),
            (None, None) => same_kind(&writer.shape, &branch.shape),
            (Some(_), None) | (None, Some(_)) => false,
        })
    };
    exact(NameMatch::Full)
        .or_else(|| exact(NameMatch::Unqualified))
        .or_else(|| position(&|branch| promotes(&writer.shape, &branch.shape)))
}

fn same_kind(writer: &Shape, reader: &Shape) -> bool {
    std::mem::discriminant(writer) == std::mem::discriminant(reader)
}

fn same_scalar(writer: &Shape, reader: &Shape) -> bool {
    let scalar = match writer {
        Shape::Null
        | Shape::Bool
        | Shape::Int
        | Shape::Long
        | Shape::Float
        | Shape::Double
        | Shape::Bytes
        | Shape::String => true,
        Shape::Array(_) | Shape::Map(_) | Shape::Union(_) | Shape::Record(_) | Shape::Enum(_) | Shape::Fixed(_) => {
            false
        }
    };
    scalar && same_kind(writer, reader)
}

fn promotes(writer: &Shape, reader: &Shape) -> bool {
    matches!(
        (writer, reader),
        (Shape::Int, Shape::Long | Shape::Float | Shape::Double)
            | (Shape::Long, Shape::Float | Shape::Double)
            | (Shape::Float, Shape::Double)
            | (Shape::String, Shape::Bytes)
            | (Shape::Bytes, Shape::String)
    )
}

fn scalar(writer: &Node, reader: &Node) -> Step {
    match (writer.logical, reader.logical) {
        (Some(Logical::Decimal { scale: from, .. }), Some(Logical::Decimal { scale: to, .. })) if from != to => {
            Step::Fail(format!("the writer's decimal has {from} digits after the point, the reader's {to}"))
        }
        _ => Step::Scalar,
    }
}

#[cfg(test)]
#[path = "tests/resolve.rs"]
mod tests;
