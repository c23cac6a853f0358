//! Compiles a pair of schemas and the wanted fields into a plan that decodes datums.
//!
//! A record becomes a flat list of operations in the order of the writer's bytes. What nobody wants is skipped, and
//! neighbouring skips are one operation: eight longs in a row cost about what one does. Symbols, defaults and branches are
//! looked up here, once.
//!
//! Invariant: a plan exists only when every wanted field has a source in every datum; what only some data spoil (a branch or
//! symbol that the reader lacks) is an error of those data.
//! Not here: the rules of resolution (`resolve`), the loop over bytes (`read`).

use std::sync::Arc;

use crate::avro::decode::{DecodeError, Decoded, Input, Problem};
use crate::avro::logical::{moment_unit, time_unit};
use crate::avro::read::{Machine, Op, Program, Read, Slot};
use crate::avro::resolve::{self, Incompatibility, Reach, RecordStep, Resolution, ResolveError, Step, StepId};
use crate::avro::schema::{Logical, Node, NodeId, Schema, Shape, UnionForm, union_form};
use crate::base::value::Value;

/// Decodes what one writer's schema wrote as one reader's schema sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DecodePlan {
    machine: Arc<Machine>,
    root: Root,
    width: usize,
}

#[derive(Clone, Debug)]
enum Root {
    /// The writer's schema is a record.
    Record(usize),
    /// The writer's schema is a union of records: for each branch its program, or why the reader does not take it.
    Records(Arc<[Result<usize, String>]>),
    /// One value.
    Whole(StepId),
}

impl DecodePlan {
    /// Compiles a plan for some top-level fields of the reader's record: the i-th of `wanted` lands in slot i.
    ///
    /// # Errors
    /// The reader cannot take any of the writer's data, whichever fields are wanted; the reader's schema is not a record; or
    /// `wanted` names a field twice or beyond the last.
    pub fn compile(writer: &Schema, reader: &Schema, wanted: &[usize]) -> Result<Self, ResolveError> {
        let Shape::Record(record) = &reader.root_node().shape else {
            return Err(ResolveError::NotARecord { reader: name(reader) });
        };
        let mut slots = vec![None; record.fields.len()];
        for (slot, field) in wanted.iter().enumerate() {
            match slots.get_mut(*field) {
                Some(free @ None) => *free = Some(slot as Slot),
                Some(Some(_)) | None => {
                    let (field, fields) = (*field, record.fields.len());
                    return Err(ResolveError::Wanted { reader: name(reader), field, fields });
                }
            }
        }
        Self::lower(writer, reader, &checked(writer, reader, resolve::resolve(writer, reader))?, &slots, wanted.len())
    }

    /// Compiles a plan for all fields of rows that were written under another schema of the same rows: what their records are
    /// called plays no part.
    ///
    /// # Errors
    /// The reader cannot take any of the writer's rows.
    pub fn of_rows(writer: &Schema, reader: &Schema) -> Result<Self, ResolveError> {
        let width = reader.fields().len();
        let slots: Vec<Option<Slot>> = (0..width).map(|slot| Some(slot as Slot)).collect();
        Self::lower(writer, reader, &checked(writer, reader, resolve::resolve_rows(writer, reader))?, &slots, width)
    }

    fn lower(
        writer: &Schema,
        reader: &Schema,
        resolution: &Resolution,
        slots: &[Option<Slot>],
        width: usize,
    ) -> Result<Self, ResolveError> {
        let mut lowering = Lowering::new(writer, reader, resolution);
        let root = if let Step::WriterUnion(branches) = &resolution.steps[resolution.root.index()].step {
            let branches = branches.iter().map(|branch| lowering.root_program(*branch, slots));
            Root::Records(branches.collect())
        } else {
            let program = lowering.root_program(resolution.root, slots).map_err(|message| {
                let problems = vec![Incompatibility { path: String::new(), message }];
                ResolveError::Incompatible { reader: name(reader), writer: name(writer), problems }
            });
            Root::Record(program?)
        };
        Ok(Self { machine: Arc::new(lowering.machine()), root, width })
    }

    /// Compiles a plan for the whole datum, of whatever type.
    ///
    /// # Errors
    /// The reader cannot take any of the writer's data.
    pub fn whole(writer: &Schema, reader: &Schema) -> Result<Self, ResolveError> {
        let resolution = checked(writer, reader, resolve::resolve(writer, reader))?;
        let lowering = Lowering::new(writer, reader, &resolution);
        let root = Root::Whole(lowering.target(resolution.root));
        Ok(Self { machine: Arc::new(lowering.machine()), root, width: 1 })
    }

    /// Returns how many slots [`DecodePlan::decode`] fills: as many as fields are wanted; 1 for a plan of the whole.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Decodes a datum into the first [`DecodePlan::width`] slots. After an error their contents are unspecified.
    ///
    /// # Errors
    /// The bytes are not one datum of the writer's schema, all of them, or the reader does not take this one.
    ///
    /// # Panics
    /// When there are fewer slots than wanted fields.
    pub fn decode(&self, bytes: &[u8], slots: &mut [Value]) -> Result<(), DecodeError> {
        let mut input = Input::new(bytes);
        let slots = &mut slots[..self.width];
        match &self.root {
            Root::Record(program) => self.machine.run(&self.machine.programs[*program], &mut input, slots, 1)?,
            Root::Records(branches) => self.decode_branch(branches, &mut input, slots)?,
            Root::Whole(step) => slots[0] = self.machine.read(*step, &mut input, 0)?,
        }
        input.end()
    }

    /// Decodes a datum as one value: the whole, or a record of the wanted fields.
    ///
    /// # Errors
    /// As [`DecodePlan::decode`].
    pub fn decode_value(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut slots = vec![Value::Null; self.width];
        self.decode(bytes, &mut slots)?;
        Ok(match (&self.root, slots.pop()) {
            (Root::Whole(_), Some(value)) => value,
            (_, last) => Value::Record(slots.into_iter().chain(last).collect()),
        })
    }

    #[inline(never)]
    fn decode_branch(
        &self,
        branches: &[Result<usize, String>],
        input: &mut Input<'_>,
        slots: &mut [Value],
    ) -> Decoded<()> {
        let index = input.long()?;
        match usize::try_from(index).ok().and_then(|branch| branches.get(branch)) {
            Some(Ok(program)) => self.machine.run(&self.machine.programs[*program], input, slots, 1),
            Some(Err(message)) => input.fail(Problem::Unreadable { message: message.clone() }),
            None => input.fail(Problem::UnionIndex { branches: branches.len(), index }),
        }
    }
}

fn name(schema: &Schema) -> String {
    schema.root_node().word().to_owned()
}

fn checked(writer: &Schema, reader: &Schema, resolution: Resolution) -> Result<Resolution, ResolveError> {
    let spoiled = resolution.problems.iter().filter(|problem| problem.reach == Reach::Every);
    let problems: Vec<Incompatibility> = spoiled.map(|problem| problem.what.clone()).collect();
    if problems.is_empty() {
        Ok(resolution)
    } else {
        Err(ResolveError::Incompatible { reader: name(reader), writer: name(writer), problems })
    }
}

/// From a resolution to operations.
struct Lowering<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    resolution: &'a Resolution,
    bytes_min: Vec<usize>,
    reads: Vec<Read>,
    programs: Vec<Program>,
}

impl<'a> Lowering<'a> {
    fn new(writer: &'a Schema, reader: &'a Schema, resolution: &'a Resolution) -> Self {
        let bytes_min = bytes_min(writer.nodes());
        let mut lowering = Self { writer, reader, resolution, bytes_min, reads: Vec::new(), programs: Vec::new() };
        for step in &resolution.steps {
            let read = lowering.read(step.writer, step.reader, &step.step);
            lowering.reads.push(read);
        }
        lowering
    }

    fn machine(self) -> Machine {
        Machine { writer: self.writer.clone(), bytes_min: self.bytes_min, reads: self.reads, programs: self.programs }
    }

    /// The step that really reads: reader's unions without a wrapper are passed through.
    fn target(&self, step: StepId) -> StepId {
        let node = &self.resolution.steps[step.index()];
        let (Step::ReaderUnion { step: inner, .. }, Shape::Union(branches)) =
            (&node.step, &self.reader.node(node.reader).shape)
        else {
            return step;
        };
        match union_form(self.reader.nodes(), branches) {
            UnionForm::Optional { .. } | UnionForm::Single => self.target(*inner),
            UnionForm::General => step,
        }
    }

    fn read(&mut self, writer: NodeId, reader: NodeId, step: &Step) -> Read {
        match step {
            Step::Scalar => scalar_read(self.writer.node(writer), self.reader.node(reader)),
            Step::Enum(table) => {
                let Shape::Enum(symbols) = &self.reader.node(reader).shape else {
                    unreachable!("an enum becomes an enum");
                };
                let texts = table.iter().map(|symbol| symbol.map(|index| symbols.symbols[index].clone()));
                Read::Enum(writer, texts.collect())
            }
            Step::Array(item) => Read::Array { item: self.target(*item), bytes_min: self.step_bytes_min(*item) },
            Step::Map(value) => Read::Map { value: self.target(*value), bytes_min: self.step_bytes_min(*value) },
            Step::Record(RecordStep { broken: Some(message), .. }) => Read::Fail(message.clone()),
            Step::Record(record) => {
                let Shape::Record(node) = &self.reader.node(reader).shape else {
                    unreachable!("a record becomes a record");
                };
                let slots: Vec<Option<Slot>> = (0..node.fields.len()).map(|index| Some(index as Slot)).collect();
                Read::Record(self.program(writer, reader, record, &slots))
            }
            Step::WriterUnion(branches) => Read::Union(branches.iter().map(|branch| self.target(*branch)).collect()),
            Step::ReaderUnion { branch, step } => Read::Wrap(*branch as u32, self.target(*step)),
            Step::Fail(message) => Read::Fail(message.clone()),
        }
    }

    fn step_bytes_min(&self, step: StepId) -> usize {
        self.bytes_min[self.resolution.steps[step.index()].writer.index()]
    }

    fn root_program(&mut self, step: StepId, slots: &[Option<Slot>]) -> Result<usize, String> {
        let resolution = self.resolution;
        let node = &resolution.steps[step.index()];
        if let Step::Record(RecordStep { broken: Some(message), .. }) | Step::Fail(message) = &node.step {
            return Err(message.clone());
        }
        let Step::Record(record) = &node.step else { unreachable!("a record is read from a record") };
        Ok(self.program(node.writer, node.reader, record, slots))
    }

    /// Adds a program that puts each reader's field into its slot, and skips the fields without one.
    fn program(&mut self, writer: NodeId, reader: NodeId, step: &RecordStep, slots: &[Option<Slot>]) -> usize {
        let (Shape::Record(from), Shape::Record(to)) =
            (&self.writer.node(writer).shape, &self.reader.node(reader).shape)
        else {
            unreachable!("a record becomes a record");
        };
        let mut ops = Vec::new();
        for (field, target) in from.fields.iter().zip(&step.fields) {
            match target.and_then(|(index, step)| Some((slots[index]?, step))) {
                Some((slot, step)) => ops.push(self.op(slot, self.target(step))),
                None => push_skip(self.writer.nodes(), field.node, &mut ops, 0),
            }
        }
        let constants = step.defaults.iter().filter_map(|index| {
            let default = to.fields[*index].default_value.clone().expect("resolution found a default");
            Some((slots[*index]?, default))
        });
        let width = slots.iter().flatten().count();
        self.programs.push(Program { ops: ops.into(), constants: constants.collect(), width });
        self.programs.len() - 1
    }

    /// The operation for one field: one of its own for the common scalars.
    fn op(&self, slot: Slot, step: StepId) -> Op {
        let node = &self.resolution.steps[step.index()];
        let Step::Scalar = node.step else { return Op::Read(slot, step) };
        #[expect(clippy::wildcard_enum_match_arm, reason = "all that has no operation of its own is read by its step")]
        match scalar_read(self.writer.node(node.writer), self.reader.node(node.reader)) {
            Read::Int => Op::Int(slot),
            Read::Long => Op::Long(slot),
            Read::Double => Op::Double(slot),
            Read::Bool => Op::Bool(slot),
            Read::Text => Op::Text(slot),
            Read::Moment(unit) => Op::Moment(slot, unit),
            _ => Op::Read(slot, step),
        }
    }
}

fn scalar_read(writer: &Node, reader: &Node) -> Read {
    let decimal_scale = if let Some(Logical::Decimal { scale, .. }) = reader.logical { Some(scale) } else { None };
    match (&writer.shape, &reader.shape) {
        (Shape::Null, _) => Read::Null,
        (Shape::Bool, _) => Read::Bool,
        (Shape::Int | Shape::Long, Shape::Float) => Read::IntegerAsFloat,
        (Shape::Int | Shape::Long, Shape::Double) => Read::IntegerAsDouble,
        (Shape::Int, _) => integer_read(writer, reader, Read::ShortMoment, Read::ShortTime, Read::Int),
        (Shape::Long, _) => integer_read(writer, reader, Read::Moment, Read::Time, Read::Long),
        (Shape::Float, _) => Read::Float,
        (Shape::Double, _) => Read::Double,
        (Shape::Fixed(fixed), _) => match (decimal_scale, reader.logical) {
            (Some(scale), _) => Read::FixedDecimal { size: fixed.size, scale },
            (None, Some(Logical::Uuid)) => Read::FixedUuid,
            (None, _) => Read::Fixed(fixed.size),
        },
        (_, Shape::String) => Read::Text,
        _ => decimal_scale.map_or(Read::Bytes, |scale| Read::Decimal { scale }),
    }
}

/// The reader's logical type says what the number is; when the writer's is of the same family, its unit counts.
fn integer_read(
    writer: &Node,
    reader: &Node,
    as_moment: fn(crate::avro::logical::Unit) -> Read,
    as_time: fn(crate::avro::logical::Unit) -> Read,
    plain: Read,
) -> Read {
    if let Some(unit) = moment_unit(reader.logical) {
        return as_moment(moment_unit(writer.logical).unwrap_or(unit));
    }
    match time_unit(reader.logical) {
        Some(unit) => as_time(time_unit(writer.logical).unwrap_or(unit)),
        None => plain,
    }
}

/// Records in records are skipped in line down to this depth; deeper, by a call.
const INLINE_DEPTH_MAX: usize = 8;

/// Adds what skips one datum, melted into the skip before it where possible.
fn push_skip(nodes: &[Node], id: NodeId, ops: &mut Vec<Op>, depth: usize) {
    let op = match &nodes[id.index()].shape {
        Shape::Null => return,
        Shape::Bool => Op::SkipBytes(1),
        Shape::Int | Shape::Long | Shape::Enum(_) => Op::SkipLongs(1),
        Shape::Float => Op::SkipBytes(4),
        Shape::Double => Op::SkipBytes(8),
        Shape::Bytes | Shape::String => Op::SkipBlob,
        Shape::Fixed(fixed) => match u32::try_from(fixed.size) {
            Ok(size) => Op::SkipBytes(size),
            Err(_) => Op::Skip(id),
        },
        Shape::Record(record) if depth < INLINE_DEPTH_MAX && ops.len() < INLINE_OPS_MAX => {
            return record.fields.iter().for_each(|field| push_skip(nodes, field.node, ops, depth + 1));
        }
        Shape::Union(branches) => match (union_form(nodes, branches), optional_blob(nodes, branches)) {
            (UnionForm::Optional { null, .. }, true) => Op::SkipOptionalBlob(null as u8),
            _ => Op::Skip(id),
        },
        Shape::Array(_) | Shape::Map(_) | Shape::Record(_) => Op::Skip(id),
    };
    let melted = match (ops.last(), op) {
        (Some(Op::SkipLongs(before)), Op::SkipLongs(more)) => before.checked_add(more).map(Op::SkipLongs),
        (Some(Op::SkipBytes(before)), Op::SkipBytes(more)) => before.checked_add(more).map(Op::SkipBytes),
        _ => None,
    };
    match (melted, ops.last_mut()) {
        (Some(melted), Some(last)) => *last = melted,
        _ => ops.push(op),
    }
}

/// A record with this many operations gets no more of them from the records inside it.
const INLINE_OPS_MAX: usize = 256;

fn optional_blob(nodes: &[Node], branches: &[NodeId]) -> bool {
    let blob = |branch: &NodeId| matches!(nodes[branch.index()].shape, Shape::Bytes | Shape::String);
    branches.iter().any(blob)
}

/// The least bytes that a datum of each type takes. A type inside itself counts as nothing, which is never too much.
fn bytes_min(nodes: &[Node]) -> Vec<usize> {
    fn of(nodes: &[Node], index: usize, known: &mut [Option<usize>]) -> usize {
        if let Some(known) = known[index] {
            return known;
        }
        known[index] = Some(0);
        let least = match &nodes[index].shape {
            Shape::Null => 0,
            Shape::Bool
            | Shape::Int
            | Shape::Long
            | Shape::Enum(_)
            | Shape::Bytes
            | Shape::String
            | Shape::Array(_)
            | Shape::Map(_) => 1,
            Shape::Float => 4,
            Shape::Double => 8,
            Shape::Fixed(fixed) => fixed.size,
            Shape::Union(branches) => {
                let least = branches.iter().map(|branch| of(nodes, branch.index(), known)).min();
                least.unwrap_or(0).saturating_add(1)
            }
            Shape::Record(record) => {
                let fields = record.fields.iter().map(|field| of(nodes, field.node.index(), known));
                fields.fold(0, usize::saturating_add)
            }
        };
        known[index] = Some(least);
        least
    }
    let mut known = vec![None; nodes.len()];
    (0..nodes.len()).map(|index| of(nodes, index, &mut known)).collect()
}

#[cfg(test)]
#[path = "tests/plan.rs"]
mod tests;
