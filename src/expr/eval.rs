//! The register machine that runs programs. Its hot ops neither allocate nor clone; operands are read where they lie.
//!
//! A slot that holds something else than its type says gives an error, never a panic. What loops do is counted in steps; an
//! evaluation that takes too many ends with an error that nothing absorbs.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::base::diag::Span;
use crate::base::value::Value;
use crate::error::Kind;
use crate::limits::{EXPRESSION_PATTERN_STEPS, EXPRESSION_STEPS_MAX};

use super::ast::Relation;
use super::compile::sorted_entries;
use super::functions::{compare, equal, kind_name};
use super::program::{ArithmeticOp, Charge, Handler, Op, Operand, Place, PlacePath, Program, Test};
use super::types::{Failure, Run};

/// What programs work in. Kept between runs so that nothing is allocated; it may hold on to the last run's values.
#[derive(Debug, Default)]
pub struct Scratch {
    registers: Vec<Value>,
    errors: Vec<Option<EvalError>>,
    lists: Vec<Vec<Value>>,
    /// Which item each loop is at.
    positions: Vec<usize>,
}

/// An evaluation that failed: overflow, division by zero, a missing key or item, a conversion that does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// The part of the expression's text that failed.
    pub span: Span,
    pub message: Cow<'static, str>,
}

impl EvalError {
    /// The record at hand cannot be worked on.
    pub fn kind(&self) -> Kind {
        Kind::Record
    }
}

enum Step {
    Next,
    Jump(u32),
}

static NULL: Value = Value::Null;

impl Scratch {
    /// Makes an empty one; it grows to what the programs need.
    pub fn new() -> Self {
        Self::default()
    }

    fn fit(&mut self, program: &Program) {
        if self.registers.len() < program.registers {
            self.registers.resize(program.registers, Value::Null);
        }
        if self.errors.len() < program.errors {
            self.errors.resize(program.errors, None);
        }
        if self.lists.len() < program.lists {
            self.lists.resize_with(program.lists, Vec::new);
        }
        if self.positions.len() < program.loops.len() {
            self.positions.resize(program.loops.len(), 0);
        }
    }
}

impl Program {
    /// Computes the value; `roots[r][s]` is slot `s` of root `r`. A slot that is not there reads as null.
    ///
    /// # Errors
    /// When an operation fails; see [`EvalError`].
    pub fn eval(&self, roots: &[&[Value]], scratch: &mut Scratch) -> Result<Value, EvalError> {
        self.run(roots, scratch)?;
        if let Operand::Register(register) = self.result {
            return Ok(std::mem::take(&mut scratch.registers[register as usize]));
        }
        Ok(Machine::new(self, roots, scratch).read(self.result).clone())
    }

    /// Computes the value of an expression of type bool.
    ///
    /// # Errors
    /// When an operation fails, or the value is no bool.
    pub fn eval_bool(&self, roots: &[&[Value]], scratch: &mut Scratch) -> Result<bool, EvalError> {
        if let [Op::Test { test, .. }] = self.ops.as_slice() {
            let outcome = Machine::new(self, roots, scratch).test(test);
            return outcome.map_err(|message| EvalError { span: self.spans[0], message });
        }
        self.run(roots, scratch)?;
        let machine = Machine::new(self, roots, scratch);
        machine.bool(self.result).map_err(|message| EvalError { span: self.whole, message })
    }

    fn run(&self, roots: &[&[Value]], scratch: &mut Scratch) -> Result<(), EvalError> {
        scratch.fit(self);
        let mut machine = Machine::new(self, roots, scratch);
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            at = match machine.step(op) {
                Ok(Step::Next) => at + 1,
                Ok(Step::Jump(target)) => target as usize,
                Err(failure) => machine.handle(at, failure)?,
            };
        }
        Ok(())
    }
}

struct Machine<'a> {
    program: &'a Program,
    roots: &'a [&'a [Value]],
    scratch: &'a mut Scratch,
    steps_left: u64,
}

impl<'a> Machine<'a> {
    #[inline(always)]
    fn new(program: &'a Program, roots: &'a [&'a [Value]], scratch: &'a mut Scratch) -> Self {
        Self { program, roots, scratch, steps_left: EXPRESSION_STEPS_MAX }
    }
}

impl Machine<'_> {
    #[inline(always)]
    fn spend(&mut self, steps: u64) -> Result<(), Failure> {
        match self.steps_left.checked_sub(steps) {
            Some(left) if left > 0 => {
                self.steps_left = left;
                Ok(())
            }
            Some(_) | None => Err(self.exhausted()),
        }
    }

    #[cold]
    fn exhausted(&mut self) -> Failure {
        self.steps_left = 0;
        Failure::Owned(format!("the evaluation takes more than {EXPRESSION_STEPS_MAX} steps"))
    }

    #[inline(always)]
    fn read(&self, operand: Operand) -> &Value {
        match operand {
            Operand::Slot { root, slot } => {
                self.roots.get(root as usize).and_then(|slots| slots.get(slot as usize)).unwrap_or(&NULL)
            }
            Operand::Register(register) => &self.scratch.registers[register as usize],
            Operand::Constant(constant) => &self.program.constants[constant as usize],
            Operand::Path(path) => self.follow(&self.program.paths[path as usize]),
            Operand::Item(turn) => self.item(turn),
            Operand::Key(turn) => self.key(turn),
            Operand::Null => &NULL,
        }
    }

    fn item(&self, turn: u32) -> &Value {
        let position = self.scratch.positions[turn as usize];
        let range = self.read(self.program.loops[turn as usize]);
        if let Value::List(items) = range {
            return items.get(position).unwrap_or(&NULL);
        }
        let Value::Map(entries) = range else { return &NULL };
        entries.get(position).map_or(&NULL, |(_, value)| value)
    }

    fn key(&self, turn: u32) -> &Value {
        let position = self.scratch.positions[turn as usize];
        let Value::Map(entries) = self.read(self.program.loops[turn as usize]) else { return &NULL };
        entries.get(position).map_or(&NULL, |(key, _)| key)
    }

    /// Reads a field of records; what is no record has null for every field.
    fn follow(&self, path: &PlacePath) -> &Value {
        let mut value = self.read(path.base);
        for field in &path.fields {
            let Value::Record(fields) = value else { return &NULL };
            value = fields.get(*field as usize).unwrap_or(&NULL);
        }
        value
    }

    #[inline(always)]
    fn set_bool(&mut self, to: u32, outcome: bool) {
        let register = &mut self.scratch.registers[to as usize];
        // Most registers hold a bool already: then there is nothing to drop.
        if let Value::Bool(held) = register { *held = outcome } else { *register = Value::Bool(outcome) }
    }

    fn set(&mut self, to: u32, value: Value) {
        self.scratch.registers[to as usize] = value;
    }

    #[cold]
    fn handle(&mut self, at: usize, failure: Failure) -> Result<usize, EvalError> {
        let kept = if let Op::Raise { error } = self.program.ops[at] {
            self.scratch.errors[error as usize].take()
        } else {
            None
        };
        let error = kept.unwrap_or_else(|| EvalError { span: self.program.spans[at], message: failure });
        // No handler takes the error of a program that is at the end of its steps.
        if self.steps_left == 0 {
            return Err(error);
        }
        let covers = |handler: &&Handler| (handler.start as usize..handler.end as usize).contains(&at);
        let Some(handler) = self.program.handlers.iter().find(covers) else { return Err(error) };
        self.scratch.errors[handler.error as usize].get_or_insert(error);
        Ok(handler.target as usize)
    }

    /// Makes a decision.
    #[inline(always)]
    fn test(&self, test: &Test) -> Result<bool, Failure> {
        match *test {
            Test::IntConstant { relation, left, constant } => {
                let value = self.read(left);
                let Value::Int(left) = value else { return Err(unexpected("int", value)) };
                Ok(holds(relation, left, &constant))
            }
            Test::Int { relation, left, right } => {
                let pair = (self.read(left), self.read(right));
                let (Value::Int(left), Value::Int(right)) = pair else { return Err(unexpected_pair("int", pair)) };
                Ok(holds(relation, left, right))
            }
            Test::DoubleConstant { relation, left, constant } => {
                let value = self.read(left);
                let Value::Double(left) = value else { return Err(unexpected("double", value)) };
                Ok(holds(relation, left, &constant))
            }
            Test::Double { relation, left, right } => {
                let pair = (self.read(left), self.read(right));
                let (Value::Double(left), Value::Double(right)) = pair else {
                    return Err(unexpected_pair("double", pair));
                };
                Ok(holds(relation, left, right))
            }
            Test::Text { relation, left, right } => {
                let pair = (self.read(left), self.read(right));
                let (Value::String(left), Value::String(right)) = pair else {
                    return Err(unexpected_pair("string", pair));
                };
                Ok(holds(relation, left.as_bytes(), right.as_bytes()))
            }
            Test::Part { place, text, part } => {
                let pair = (self.read(text), self.read(part));
                let (Value::String(text), Value::String(part)) = pair else {
                    return Err(unexpected_pair("string", pair));
                };
                Ok(match place {
                    Place::Start => text.as_bytes().starts_with(part.as_bytes()),
                    Place::End => text.as_bytes().ends_with(part.as_bytes()),
                    Place::Anywhere => text.contains(part.as_str()),
                })
            }
            Test::IsNull { of, expected } => Ok(self.read(of).is_null() == expected),
        }
    }

    /// The ops that decide and jump. They stand apart so that the loop stays small.
    #[inline(always)]
    #[expect(clippy::wildcard_enum_match_arm, reason = "`compute` has the other ops")]
    fn step(&mut self, op: &Op) -> Result<Step, Failure> {
        match *op {
            Op::Test { to, ref test } => {
                let outcome = self.test(test)?;
                self.set_bool(to, outcome);
            }
            Op::TestJump { to, ref test, expected, target } => {
                let outcome = self.test(test)?;
                self.set_bool(to, outcome);
                if outcome == expected {
                    return Ok(Step::Jump(target));
                }
            }
            Op::Not { to, of } => {
                let outcome = self.bool(of)?;
                self.set_bool(to, !outcome);
            }
            Op::Jump { target } => return Ok(Step::Jump(target)),
            Op::JumpIf { of, expected, target } => {
                if self.bool(of)? == expected {
                    return Ok(Step::Jump(target));
                }
            }
            Op::StartLoop { turn, next } => {
                // One turn leads to the first item.
                self.scratch.positions[turn as usize] = usize::MAX;
                return Ok(Step::Jump(next));
            }
            Op::NextItem { turn, index, steps, body } => {
                self.spend(u64::from(steps))?;
                return self.next_item(turn, index, body);
            }
            Op::PushItem { list, from } => self.push_item(list, from)?,
            Op::Call1 { to, run, of, charge } => self.call_1(to, run, of, charge)?,
            Op::Call2 { to, run, left, right, charge } => self.call_2(to, run, [left, right], charge)?,
            _ => return self.compute(op),
        }
        Ok(Step::Next)
    }

    #[inline(always)]
    fn bool(&self, operand: Operand) -> Result<bool, Failure> {
        let value = self.read(operand);
        if let Value::Bool(outcome) = value { Ok(*outcome) } else { Err(unexpected("bool", value)) }
    }

    /// The ops that give any value.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`steer` has the other ops; slots may hold any value")]
    fn compute(&mut self, op: &Op) -> Result<Step, Failure> {
        let (to, value) = match *op {
            Op::ArithmeticInt { to, op, left, right } => match (self.read(left), self.read(right)) {
                (Value::Int(left), Value::Int(right)) => (to, Value::Int(arithmetic_int(op, *left, *right)?)),
                pair => return Err(unexpected_pair("int", pair)),
            },
            Op::ArithmeticDouble { to, op, left, right } => match (self.read(left), self.read(right)) {
                (Value::Double(left), Value::Double(right)) => {
                    (to, Value::Double(arithmetic_double(op, *left, *right)))
                }
                pair => return Err(unexpected_pair("double", pair)),
            },
            Op::Compare { to, relation, left, right } => {
                let (left, right) = (self.read(left), self.read(right));
                (to, Value::Bool(in_order(relation, left, right)?))
            }
            Op::Equal { to, expected, left, right } => {
                (to, Value::Bool(equal(self.read(left), self.read(right)) == expected))
            }
            Op::Copy { to, from } => {
                let value = self.read(from).clone();
                self.spend(copied(&value))?;
                (to, value)
            }
            Op::SetInt { to, value } => (to, Value::Int(value)),
            Op::Increment { register } => match self.scratch.registers[register as usize] {
                Value::Int(count) => (register, Value::Int(count + 1)),
                ref other => return Err(unexpected("int", other)),
            },
            Op::Call { to, run, first, count, charge } => (to, self.call(run, first, count, charge)?),
            Op::Matches { to, text, pattern } => match self.read(text) {
                Value::String(text) => (to, Value::Bool(self.program.patterns[pattern as usize].is_match(text))),
                other => return Err(unexpected("string", other)),
            },
            Op::MakeList { to, first, count } => (to, Value::List(self.values(first, count)?.into())),
            Op::MakeRecord { to, first, count } => (to, Value::Record(self.values(first, count)?.into())),
            Op::MakeMap { to, first, count } => {
                let parts = self.values(first, count)?;
                (to, map_of(parts)?)
            }
            Op::FinishList { to, list } => {
                // The list keeps its space for the next time.
                (to, Value::List(self.scratch.lists[list as usize].drain(..).collect()))
            }
            Op::FinishMap { to, list } => (to, map_of(std::mem::take(&mut self.scratch.lists[list as usize]))?),
            _ => return self.steer(op),
        };
        self.set(to, value);
        Ok(Step::Next)
    }

    /// The ops of optionals, loops and errors.
    #[expect(clippy::wildcard_enum_match_arm, reason = "`step` and `compute` had the other ops")]
    fn steer(&mut self, op: &Op) -> Result<Step, Failure> {
        match *op {
            Op::JumpIfPresent { of, target } if !self.read(of).is_null() => return Ok(Step::Jump(target)),
            Op::RequirePresent { of } if self.read(of).is_null() => return Err("the value is null".into()),
            Op::StartList { list } => self.scratch.lists[list as usize].clear(),
            Op::PushEntries { list, from } => {
                let value = self.read(from).clone();
                let Value::Map(entries) = &value else { return Err(unexpected("map", &value)) };
                self.spend(weight(&value))?;
                let parts = entries.iter().flat_map(|(key, value)| [key.clone(), value.clone()]);
                self.scratch.lists[list as usize].extend(parts);
            }
            Op::Charge { of } => {
                let passed = weight(self.read(of));
                self.spend(passed)?;
            }
            Op::ForgetError { error } => self.scratch.errors[error as usize] = None,
            // The handling takes the kept error itself.
            Op::Raise { error } if self.scratch.errors[error as usize].is_some() => {
                return Err(Failure::Borrowed(""));
            }
            _ => {}
        }
        Ok(Step::Next)
    }

    #[inline(always)]
    fn next_item(&mut self, turn: u32, index: Option<u32>, body: u32) -> Result<Step, Failure> {
        let position = self.scratch.positions[turn as usize].wrapping_add(1);
        let range = self.read(self.program.loops[turn as usize]);
        let length = if let Value::List(items) = range {
            items.len()
        } else if let Value::Map(entries) = range {
            entries.len()
        } else {
            return Err(unexpected("list", range));
        };
        if position >= length {
            return Ok(Step::Next);
        }
        self.scratch.positions[turn as usize] = position;
        if let Some(index) = index {
            self.set(index, Value::Int(position as i64));
        }
        Ok(Step::Jump(body))
    }

    #[inline(never)]
    fn push_item(&mut self, list: u32, from: Operand) -> Result<(), Failure> {
        let value = self.read(from).clone();
        self.spend(copied(&value))?;
        self.scratch.lists[list as usize].push(value);
        Ok(())
    }

    fn values(&mut self, first: u32, count: u32) -> Result<Vec<Value>, Failure> {
        let operands = &self.program.operands[first as usize..(first + count) as usize];
        let values: Vec<Value> = operands.iter().map(|operand| self.read(*operand).clone()).collect();
        self.spend(values.iter().map(copied).sum())?;
        Ok(values)
    }

    #[inline(never)]
    fn call_1(&mut self, to: u32, run: Run, of: Operand, charge: Charge) -> Result<(), Failure> {
        let value = self.read(of);
        let result = run(&[value])?;
        if charge != Charge::Nothing {
            let passed = weight(value);
            self.spend(passed + weight(&result))?;
        }
        self.set(to, result);
        Ok(())
    }

    #[inline(never)]
    fn call_2(&mut self, to: u32, run: Run, [left, right]: [Operand; 2], charge: Charge) -> Result<(), Failure> {
        // Constants are short, as the expression's text is.
        let passed = |operand, value| if let Operand::Constant(_) = operand { 0 } else { weight(value) };
        let (a, b) = (self.read(left), self.read(right));
        let result = run(&[a, b])?;
        let steps = match charge {
            Charge::Nothing => 0,
            Charge::Everything => passed(left, a) + passed(right, b) + weight(&result),
            Charge::Pattern => passed(left, a) + EXPRESSION_PATTERN_STEPS,
        };
        if steps > 0 {
            self.spend(steps)?;
        }
        self.set(to, result);
        Ok(())
    }

    fn call(&mut self, run: Run, first: u32, count: u32, charge: Charge) -> Result<Value, Failure> {
        let operands = &self.program.operands[first as usize..(first + count) as usize];
        let values = operands.iter().map(|operand| self.read(*operand));
        let (result, passed) = if let [a, b, c] = *operands {
            let values = [self.read(a), self.read(b), self.read(c)];
            (run(&values)?, values.map(weight))
        } else {
            let values: Vec<&Value> = values.collect();
            (run(&values)?, [values.iter().map(|value| weight(value)).sum(), 0, 0])
        };
        if charge != Charge::Nothing {
            self.spend(passed.iter().sum::<u64>() + weight(&result))?;
        }
        Ok(result)
    }
}

/// Bytes that are gone through in one step.
const BYTES_PER_STEP: usize = 16;

/// Steps that going through a value takes.
#[inline(always)]
fn weight(value: &Value) -> u64 {
    match value {
        Value::String(text) => (text.len() / BYTES_PER_STEP) as u64,
        Value::Bytes(bytes) => (bytes.len() / BYTES_PER_STEP) as u64,
        Value::List(_) | Value::Record(_) | Value::Map(_) | Value::Union(_) => weight_within(value),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::DateTime(_)
        | Value::TimeDelta(_)
        | Value::Decimal(_) => 0,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other value has values within")]
fn weight_within(value: &Value) -> u64 {
    match value {
        Value::List(items) | Value::Record(items) => items.iter().map(|item| 1 + weight(item)).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| 2 + weight(key) + weight(value)).sum(),
        Value::Union(branch) => weight(&branch.1),
        _ => 0,
    }
}

/// Steps that copying a value takes: all but text is shared.
#[inline(always)]
fn copied(value: &Value) -> u64 {
    if let Value::String(text) = value { (text.len() / BYTES_PER_STEP) as u64 } else { 0 }
}

fn map_of(parts: Vec<Value>) -> Result<Value, Failure> {
    let mut parts = parts.into_iter();
    let mut entries = Vec::with_capacity(parts.len() / 2);
    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
        entries.push((key, value));
    }
    sorted_entries(entries).map_err(Failure::Owned)
}

#[inline(always)]
fn holds<T: PartialOrd + ?Sized>(relation: Relation, left: &T, right: &T) -> bool {
    match relation {
        Relation::Equal => left == right,
        Relation::NotEqual => left != right,
        Relation::Less => left < right,
        Relation::LessOrEqual => left <= right,
        Relation::Greater => left > right,
        Relation::GreaterOrEqual => left >= right,
    }
}

fn in_order(relation: Relation, left: &Value, right: &Value) -> Result<bool, Failure> {
    let Some(order) = compare(left, right) else {
        // NaN is neither less nor more than anything; other kinds without an order are not what their types say.
        let number = |value: &Value| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
        if number(left) && number(right) {
            return Ok(relation == Relation::NotEqual);
        }
        return Err(unexpected_pair("values with an order", (left, right)));
    };
    Ok(holds(relation, &order, &Ordering::Equal))
}

#[inline]
fn arithmetic_int(op: ArithmeticOp, left: i64, right: i64) -> Result<i64, Failure> {
    let result = match op {
        ArithmeticOp::Add => left.checked_add(right),
        ArithmeticOp::Subtract => left.checked_sub(right),
        ArithmeticOp::Multiply => left.checked_mul(right),
        ArithmeticOp::Divide | ArithmeticOp::Remainder if right == 0 => return Err("division by zero".into()),
        ArithmeticOp::Divide => left.checked_div(right),
        ArithmeticOp::Remainder => left.checked_rem(right),
    };
    result.ok_or(Cow::Borrowed("the result does not fit an int"))
}

#[inline]
fn arithmetic_double(op: ArithmeticOp, left: f64, right: f64) -> f64 {
    match op {
        ArithmeticOp::Add => left + right,
        ArithmeticOp::Subtract => left - right,
        ArithmeticOp::Multiply => left * right,
        ArithmeticOp::Divide => left / right,
        ArithmeticOp::Remainder => left % right,
    }
}

#[cold]
fn unexpected(wanted: &str, found: &Value) -> Failure {
    Failure::Owned(format!("expected {wanted}, found {}", kind_name(found)))
}

#[cold]
fn unexpected_pair(wanted: &str, (left, right): (&Value, &Value)) -> Failure {
    Failure::Owned(format!("expected {wanted}, found {} and {}", kind_name(left), kind_name(right)))
}
