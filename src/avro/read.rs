//! Runs a decode plan's operations over a datum's bytes.
//!
//! A flat record is one loop over its operations; only types that hold other types recurse, and no deeper than
//! `DATUM_DEPTH_MAX`. Which operations a pair of schemas needs is decided in `plan`.

use std::sync::Arc;

use crate::avro::decode::{Decoded, Input, Problem};
use crate::avro::logical::{self, Unit};
use crate::avro::resolve::StepId;
use crate::avro::schema::{NodeId, Schema, Shape};
use crate::base::value::{Decimal, Text, Value};
use crate::limits::DATUM_DEPTH_MAX;

/// Everything that a plan runs on.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) writer: Schema,
    /// The least bytes that a datum of each of the writer's types takes.
    pub(crate) bytes_min: Vec<usize>,
    /// How to read each pair of types, by step.
    pub(crate) reads: Vec<Read>,
    pub(crate) programs: Vec<Program>,
}

/// How to read the fields of a record into slots.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) ops: Box<[Op]>,
    /// Defaults.
    pub(crate) constants: Box<[(Slot, Value)]>,
    pub(crate) width: usize,
}

/// Where a record's field lands.
pub(crate) type Slot = u32;

/// One step through a record's bytes. The common scalars stand here so that a flat record needs no call per field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    /// This many zig-zag numbers.
    SkipLongs(u32),
    SkipBytes(u32),
    /// A length and as many bytes.
    SkipBlob,
    /// A union of null and a length with as many bytes; the number is null's branch.
    SkipOptionalBlob(u8),
    Skip(NodeId),
    Int(Slot),
    Long(Slot),
    Double(Slot),
    Bool(Slot),
    Text(Slot),
    Moment(Slot, Unit),
    Read(Slot, StepId),
}

/// How to read one datum of the writer's as a value of the reader's.
#[derive(Debug)]
pub(crate) enum Read {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    /// `int` or `long` as `float`: what a 32-bit float keeps of it.
    IntegerAsFloat,
    IntegerAsDouble,
    Moment(Unit),
    /// As `Moment`, from an `int`.
    ShortMoment(Unit),
    Time(Unit),
    ShortTime(Unit),
    Text,
    Bytes,
    Fixed(usize),
    Decimal {
        scale: u32,
    },
    FixedDecimal {
        size: usize,
        scale: u32,
    },
    FixedUuid,
    /// The reader's symbol for each of the writer's.
    Enum(NodeId, Box<[Option<Text>]>),
    Array {
        item: StepId,
        bytes_min: usize,
    },
    Map {
        value: StepId,
        bytes_min: usize,
    },
    Record(usize),
    /// For each of the writer's branches.
    Union(Box<[StepId]>),
    /// The reader's branch, in a union that needs telling.
    Wrap(u32, StepId),
    Fail(String),
}

impl Machine {
    /// Reads a record's fields into `slots`, which are at least the program's width.
    pub(crate) fn run(
        &self,
        program: &Program,
        from: &mut Input<'_>,
        slots: &mut [Value],
        depth: usize,
    ) -> Decoded<()> {
        let mut input = *from;
        for op in &program.ops {
            match *op {
                Op::SkipLongs(count) => input.skip_longs(count)?,
                Op::SkipBytes(count) => {
                    input.take(count as usize)?;
                }
                Op::SkipBlob => {
                    input.blob()?;
                }
                Op::SkipOptionalBlob(null) => {
                    if branch(&mut input, 2)? != usize::from(null) {
                        input.blob()?;
                    }
                }
                Op::Skip(node) => {
                    let mut away = input;
                    self.skip(node, &mut away, depth)?;
                    input = away;
                }
                Op::Int(slot) => put(&mut slots[slot as usize], Value::Int(input.int()?)),
                Op::Long(slot) => put(&mut slots[slot as usize], Value::Int(input.long()?)),
                Op::Double(slot) => put(&mut slots[slot as usize], Value::Double(input.double()?)),
                Op::Bool(slot) => put(&mut slots[slot as usize], Value::Bool(input.bool()?)),
                Op::Text(slot) => put(&mut slots[slot as usize], text(&mut input)?),
                Op::Moment(slot, unit) => {
                    put(&mut slots[slot as usize], Value::DateTime(logical::moment(input.long()?, unit)))
                }
                Op::Read(slot, step) => {
                    let mut away = input;
                    put(&mut slots[slot as usize], self.read(step, &mut away, depth)?);
                    input = away;
                }
            }
        }
        for (slot, value) in &program.constants {
            slots[*slot as usize] = value.clone();
        }
        *from = input;
        Ok(())
    }

    /// Reads one datum.
    pub(crate) fn read(&self, step: StepId, input: &mut Input<'_>, depth: usize) -> Decoded<Value> {
        Ok(match &self.reads[step.index()] {
            Read::Null => Value::Null,
            Read::Bool => Value::Bool(input.bool()?),
            Read::Int => Value::Int(input.int()?),
            Read::Long => Value::Int(input.long()?),
            Read::Float => Value::Double(f64::from(input.float()?)),
            Read::Double => Value::Double(input.double()?),
            Read::IntegerAsFloat => Value::Double(f64::from(input.long()? as f32)),
            Read::IntegerAsDouble => Value::Double(input.long()? as f64),
            Read::Moment(unit) => Value::DateTime(logical::moment(input.long()?, *unit)),
            Read::ShortMoment(unit) => Value::DateTime(logical::moment(input.int()?, *unit)),
            Read::Time(unit) => Value::TimeDelta(logical::time_of_day(input.long()?, *unit)),
            Read::ShortTime(unit) => Value::TimeDelta(logical::time_of_day(input.int()?, *unit)),
            Read::Text => text(input)?,
            Read::Bytes => Value::Bytes(input.blob()?.into()),
            Read::Fixed(size) => Value::Bytes(input.take(*size)?.into()),
            Read::Decimal { scale } => {
                let bytes = input.blob()?;
                decimal(input, bytes, *scale)?
            }
            Read::FixedDecimal { size, scale } => {
                let bytes = input.take(*size)?;
                decimal(input, bytes, *scale)?
            }
            Read::FixedUuid => Value::String(logical::uuid_text(input.array()?)),
            Read::Enum(node, symbols) => self.symbol(*node, symbols, input)?,
            Read::Array { item, bytes_min } => self.list(*item, *bytes_min, input, deeper(input, depth)?)?,
            Read::Map { value, bytes_min } => self.map(*value, *bytes_min, input, deeper(input, depth)?)?,
            Read::Record(program) => {
                let depth = deeper(input, depth)?;
                let program = &self.programs[*program];
                let mut fields: Arc<[Value]> = std::iter::repeat_n(Value::Null, program.width).collect();
                let slots = Arc::get_mut(&mut fields).expect("nobody else has it yet");
                self.run(program, input, slots, depth)?;
                Value::Record(fields)
            }
            Read::Union(steps) => {
                let branch = branch(input, steps.len())?;
                self.read(steps[branch], input, depth)?
            }
            Read::Wrap(branch, step) => Value::Union((*branch, self.read(*step, input, depth)?).into()),
            Read::Fail(message) => return input.fail(Problem::Unreadable { message: message.clone() }),
        })
    }

    fn symbol(&self, node: NodeId, symbols: &[Option<Text>], input: &mut Input<'_>) -> Decoded<Value> {
        let index = input.long()?;
        let found = usize::try_from(index).ok().and_then(|index| Some((index, symbols.get(index)?)));
        match found {
            Some((_, Some(symbol))) => Ok(Value::String(symbol.clone())),
            Some((index, None)) => {
                let Shape::Enum(node) = &self.writer.node(node).shape else {
                    unreachable!("an enum is read from an enum");
                };
                let message = format!("its enum has no symbol `{}` and no default", node.symbols[index]);
                input.fail(Problem::Unreadable { message })
            }
            None => input.fail(Problem::EnumIndex { name: self.writer.node(node).word().to_owned(), index }),
        }
    }

    fn list(&self, item: StepId, bytes_min: usize, input: &mut Input<'_>, depth: usize) -> Decoded<Value> {
        let mut items = Vec::new();
        while let Some(count) = input.block(bytes_min)? {
            items.reserve_exact(count);
            for _ in 0..count {
                items.push(self.read(item, input, depth)?);
            }
        }
        Ok(Value::List(items.into()))
    }

    /// A key that stands twice keeps its last value, as Java's map does.
    fn map(&self, value: StepId, bytes_min: usize, input: &mut Input<'_>, depth: usize) -> Decoded<Value> {
        let mut entries = Vec::new();
        while let Some(count) = input.block(bytes_min.saturating_add(1))? {
            entries.reserve_exact(count);
            for _ in 0..count {
                let key = text(input)?;
                entries.push((key, self.read(value, input, depth)?));
            }
        }
        entries.sort_by(|(a, _), (b, _)| a.order(b));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Ok(Value::Map(entries.into()))
    }

    /// Passes over one datum of the writer's.
    pub(crate) fn skip(&self, node: NodeId, input: &mut Input<'_>, depth: usize) -> Decoded<()> {
        match &self.writer.node(node).shape {
            Shape::Null => Ok(()),
            Shape::Bool => input.take(1).map(drop),
            Shape::Int | Shape::Long | Shape::Enum(_) => input.skip_longs(1),
            Shape::Float => input.take(4).map(drop),
            Shape::Double => input.take(8).map(drop),
            Shape::Bytes | Shape::String => input.blob().map(drop),
            Shape::Fixed(fixed) => input.take(fixed.size).map(drop),
            Shape::Array(item) => {
                let depth = deeper(input, depth)?;
                while let Some(count) = input.block_to_skip(self.bytes_min[item.index()])? {
                    for _ in 0..count {
                        self.skip(*item, input, depth)?;
                    }
                }
                Ok(())
            }
            Shape::Map(value) => {
                let depth = deeper(input, depth)?;
                while let Some(count) = input.block_to_skip(self.bytes_min[value.index()].saturating_add(1))? {
                    for _ in 0..count {
                        input.blob()?;
                        self.skip(*value, input, depth)?;
                    }
                }
                Ok(())
            }
            Shape::Union(branches) => {
                let branch = branch(input, branches.len())?;
                self.skip(branches[branch], input, depth)
            }
            Shape::Record(record) => {
                let depth = deeper(input, depth)?;
                record.fields.iter().try_for_each(|field| self.skip(field.node, input, depth))
            }
        }
    }
}

/// Puts a value into a slot. Dropping what a slot holds is a call; most of it owns nothing, and is forgotten without one.
#[inline(always)]
fn put(slot: &mut Value, value: Value) {
    let old = std::mem::replace(slot, value);
    let owns_nothing = match &old {
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::DateTime(_)
        | Value::TimeDelta(_) => true,
        Value::String(text) => !text.is_heap_allocated(),
        Value::Bytes(_) | Value::Decimal(_) | Value::List(_) | Value::Map(_) | Value::Record(_) | Value::Union(_) => {
            false
        }
    };
    if owns_nothing {
        std::mem::forget(old);
    }
}

#[inline(always)]
fn text(input: &mut Input<'_>) -> Decoded<Value> {
    let bytes = input.blob()?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Value::String(Text::new(text))),
        Err(_) => input.fail(Problem::Utf8),
    }
}

fn decimal(input: &Input<'_>, bytes: &[u8], scale: u32) -> Decoded<Value> {
    match logical::unscaled_from_bytes(bytes) {
        Some(unscaled) => Ok(Value::Decimal(Decimal { unscaled, scale }.into())),
        None => input.fail(Problem::Decimal),
    }
}

#[inline(always)]
fn branch(input: &mut Input<'_>, branches: usize) -> Decoded<usize> {
    let index = input.long()?;
    match usize::try_from(index) {
        Ok(branch) if branch < branches => Ok(branch),
        Ok(_) | Err(_) => input.fail(Problem::UnionIndex { branches, index }),
    }
}

#[inline]
fn deeper(input: &Input<'_>, depth: usize) -> Decoded<usize> {
    if depth < DATUM_DEPTH_MAX { Ok(depth + 1) } else { input.fail(Problem::Depth { max: DATUM_DEPTH_MAX }) }
}
