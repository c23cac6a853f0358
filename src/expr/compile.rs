//! Typed tree to flat program. Places are read where they lie; only results of operations take a register.
//!
//! Errors and CEL's `&&` and `||`: an operand that may fail is covered by a handler, which keeps the first error aside and goes
//! on with the next operand; the kept error is raised when no operand decides the outcome.

use std::sync::Arc;

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::base::value::Value;

use super::FieldUse;
use super::ast::{Access, LogicOp, Relation};
use super::eval::{EvalError, Scratch};
use super::program::{ArithmeticOp, Charge, Handler, Op, Operand, Place, PlacePath, Program, Test};
use super::tree::{Absence, Binding, Comprehension, Macro, Node, NodeKind};
use super::types::{Overload, Shape, Style};

pub(super) fn compile(tree: &Node, layout: &dyn Fn(FieldUse) -> usize) -> Program {
    let mut compiler = Compiler {
        layout,
        program: Program::default(),
        spans: Vec::new(),
        next_register: 0,
        landed: 0,
        locals: Vec::new(),
        loops: 0,
    };
    let result = compiler.operand(tree);
    compiler.program.result = result;
    compiler.program.spans = compiler.spans.into();
    compiler.program.whole = tree.span;
    compiler.program
}

/// Evaluates a node that reads no slots.
pub(super) fn constant(node: &Node) -> Result<Value, EvalError> {
    compile(node, &|_| 0).eval(&[], &mut Scratch::new())
}

struct Compiler<'l> {
    layout: &'l dyn Fn(FieldUse) -> usize,
    program: Program,
    /// Of each op, the text it came from.
    spans: Vec<Span>,
    next_register: u32,
    /// The last op that some jump goes to.
    landed: u32,
    /// Where the names that macros around bind lie.
    locals: Vec<(usize, Operand)>,
    /// How many comprehensions there are around.
    loops: usize,
}

impl Compiler<'_> {
    fn push(&mut self, op: Op, span: Span) -> usize {
        self.program.ops.push(op);
        self.spans.push(span);
        self.program.ops.len() - 1
    }

    fn here(&self) -> u32 {
        self.program.ops.len() as u32
    }

    /// Gives a jump its target: the next op.
    fn land(&mut self, jump: usize) {
        let here = self.here();
        self.landed = here;
        if let Op::Jump { target }
        | Op::JumpIf { target, .. }
        | Op::TestJump { target, .. }
        | Op::JumpIfPresent { target, .. }
        | Op::StartLoop { next: target, .. } = &mut self.program.ops[jump]
        {
            *target = here;
        }
    }

    fn register(&mut self) -> u32 {
        let register = self.next_register;
        self.next_register += 1;
        self.program.registers = self.program.registers.max(self.next_register as usize);
        register
    }

    fn constant(&mut self, value: Value) -> Operand {
        self.program.constants.push(value);
        Operand::Constant(self.program.constants.len() as u32 - 1)
    }

    fn slot(&self, root: usize, field: Option<usize>) -> Operand {
        let slot = (self.layout)(FieldUse { root, field });
        // What no layout has reads as absent.
        Operand::Slot { root: u16::try_from(root).unwrap_or(u16::MAX), slot: u32::try_from(slot).unwrap_or(u32::MAX) }
    }

    /// Returns where a node's value lies, if it need not be computed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other node is computed")]
    fn place(&mut self, node: &Node) -> Option<Operand> {
        match &node.kind {
            NodeKind::Constant(value) => Some(self.constant(value.clone())),
            NodeKind::Root(root) => Some(self.slot(*root, None)),
            NodeKind::Field { root, field } => Some(self.slot(*root, Some(*field))),
            NodeKind::Local(number) => {
                self.locals.iter().rev().find(|(local, _)| local == number).map(|(_, operand)| *operand)
            }
            NodeKind::Select { .. } => {
                let mut fields = Vec::new();
                let mut base = node;
                while let NodeKind::Select { base: below, field } = &base.kind {
                    fields.push(*field as u32);
                    base = below;
                }
                fields.reverse();
                let base = self.operand(base);
                self.program.paths.push(PlacePath { base, fields: fields.into() });
                Some(Operand::Path(self.program.paths.len() as u32 - 1))
            }
            _ => None,
        }
    }

    fn operand(&mut self, node: &Node) -> Operand {
        if let Some(place) = self.place(node) {
            return place;
        }
        let register = self.register();
        self.emit(node, register);
        Operand::Register(register)
    }

    /// Computes a node into a register; registers taken on the way are free afterwards.
    fn emit(&mut self, node: &Node, to: u32) {
        let mark = self.next_register;
        let span = node.span;
        match &node.kind {
            NodeKind::RootRecord { root, fields } => self.record(*root, *fields, span, to),
            NodeKind::Constant(_)
            | NodeKind::Root(_)
            | NodeKind::Field { .. }
            | NodeKind::Local(_)
            | NodeKind::Select { .. } => {
                let from = self.place(node).unwrap_or(Operand::Null);
                self.push(Op::Copy { to, from }, span);
            }
            NodeKind::Call { overload, args } => self.call(overload, args, span, to),
            NodeKind::Matches { text, pattern } => {
                let text = self.charged(text);
                self.program.patterns.push(pattern.clone());
                let pattern = self.program.patterns.len() as u32 - 1;
                self.push(Op::Matches { to, text, pattern }, span);
            }
            NodeKind::Compare { relation, left, right } => self.compare(*relation, left, right, span, to),
            NodeKind::IsNull { of, expected } => {
                let of = self.operand(of);
                self.push(Op::Test { to, test: Test::IsNull { of, expected: *expected } }, span);
            }
            NodeKind::Not(of) => {
                let of = self.operand(of);
                self.push(Op::Not { to, of }, span);
            }
            NodeKind::Logic { op, operands } => self.logic(*op, operands, span, to),
            NodeKind::Conditional { condition, then, otherwise } => {
                let condition = self.operand(condition);
                let to_otherwise = self.jump_if(condition, false, 0, span);
                self.emit(then, to);
                let to_end = self.push(Op::Jump { target: 0 }, span);
                self.land(to_otherwise);
                self.emit(otherwise, to);
                self.land(to_end);
            }
            NodeKind::OrElse { value, otherwise } => {
                self.emit(value, to);
                let present = self.push(Op::JumpIfPresent { of: Operand::Register(to), target: 0 }, span);
                self.emit(otherwise, to);
                self.land(present);
            }
            NodeKind::Unwrap(value) => {
                self.emit(value, to);
                self.push(Op::RequirePresent { of: Operand::Register(to) }, span);
            }
            NodeKind::List(items) => self.list(items, span, to),
            NodeKind::Map(entries) => self.map(entries, span, to),
            NodeKind::Comprehension(parts) => self.comprehension(parts, span, to),
            NodeKind::Binding(parts) => self.binding(parts, span, to),
        }
        self.next_register = mark;
    }

    fn list(&mut self, items: &[(Access, Node)], span: Span, to: u32) {
        if items.iter().all(|(access, _)| *access == Access::Required) {
            let (first, count) = self.operands(items.iter().map(|(_, item)| item));
            self.push(Op::MakeList { to, first, count }, span);
            return;
        }
        let list = self.start_list(span);
        for (access, item) in items {
            let from = self.operand(item);
            let absent = self.jump_if_absent(*access, from, to, item.span);
            self.push(Op::PushItem { list, from }, item.span);
            absent.into_iter().for_each(|jump| self.land(jump));
        }
        self.push(Op::FinishList { to, list }, span);
    }

    fn map(&mut self, entries: &[(Access, Node, Node)], span: Span, to: u32) {
        if entries.iter().all(|(access, ..)| *access == Access::Required) {
            let (first, count) = self.operands(entries.iter().flat_map(|(_, key, value)| [key, value]));
            self.push(Op::MakeMap { to, first, count }, span);
            return;
        }
        let list = self.start_list(span);
        for (access, key, value) in entries {
            let (key, from) = (self.operand(key), self.operand(value));
            let absent = self.jump_if_absent(*access, from, to, value.span);
            self.push(Op::PushItem { list, from: key }, value.span);
            self.push(Op::PushItem { list, from }, value.span);
            absent.into_iter().for_each(|jump| self.land(jump));
        }
        self.push(Op::FinishMap { to, list }, span);
    }

    fn start_list(&mut self, span: Span) -> u32 {
        let list = self.program.lists as u32;
        self.program.lists += 1;
        self.push(Op::StartList { list }, span);
        list
    }

    fn jump_if_absent(&mut self, access: Access, of: Operand, to: u32, span: Span) -> Option<usize> {
        let test = Test::IsNull { of, expected: true };
        let jump = Op::TestJump { to, test, expected: true, target: 0 };
        (access == Access::Optional).then(|| self.push(jump, span))
    }

    fn binding(&mut self, parts: &Binding, span: Span, to: u32) {
        let value = self.operand(&parts.value);
        self.locals.push((parts.local, value));
        match parts.absence {
            Absence::Bound => self.emit(&parts.body, to),
            Absence::Passed => {
                let present = self.push(Op::JumpIfPresent { of: value, target: 0 }, span);
                self.push(Op::Copy { to, from: Operand::Null }, span);
                let absent = self.push(Op::Jump { target: 0 }, span);
                self.land(present);
                self.emit(&parts.body, to);
                self.land(absent);
            }
        }
        self.locals.pop();
    }

    /// Puts the operands of one op side by side.
    fn operands<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>) -> (u32, u32) {
        let operands: Vec<Operand> = nodes.map(|node| self.operand(node)).collect();
        let first = self.program.operands.len() as u32;
        self.program.operands.extend_from_slice(&operands);
        (first, operands.len() as u32)
    }

    fn record(&mut self, root: usize, fields: usize, span: Span, to: u32) {
        let first = self.program.operands.len() as u32;
        for field in 0..fields {
            let slot = self.slot(root, Some(field));
            self.program.operands.push(slot);
        }
        self.push(Op::MakeRecord { to, first, count: fields as u32 }, span);
    }

    fn call(&mut self, overload: &'static Overload, args: &[Node], span: Span, to: u32) {
        if let ([left, right], Some((op, shape))) = (args, arithmetic(overload)) {
            let (left, right) = (self.operand(left), self.operand(right));
            let op = if shape == Shape::Int {
                Op::ArithmeticInt { to, op, left, right }
            } else {
                Op::ArithmeticDouble { to, op, left, right }
            };
            self.push(op, span);
            return;
        }
        if let ([text, part], Some(place)) = (args, part(overload)) {
            // At either end no more of the text is looked at than the part has.
            let text = if place == Place::Anywhere { self.charged(text) } else { self.operand(text) };
            let part = self.charged(part);
            self.push(Op::Test { to, test: Test::Part { place, text, part } }, span);
            return;
        }
        let run = overload.run;
        let charge = match overload.name {
            _ if self.loops == 0 || !overload.scans() => Charge::Nothing,
            "matches" => Charge::Pattern,
            _ => Charge::Everything,
        };
        let op = match args {
            [of] => Op::Call1 { to, run, of: self.operand(of), charge },
            [left, right] => {
                let (left, right) = (self.operand(left), self.operand(right));
                Op::Call2 { to, run, left, right, charge }
            }
            _ => {
                let (first, count) = self.operands(args.iter());
                Op::Call { to, run, first, count, charge }
            }
        };
        self.push(op, span);
    }

    /// Returns an operand that the next op goes through, however long it is.
    fn charged(&mut self, node: &Node) -> Operand {
        let of = self.operand(node);
        if self.loops > 0 && node.constant().is_none() && has_length(&node.value_type) {
            self.push(Op::Charge { of }, node.span);
        }
        of
    }

    fn compare(&mut self, relation: Relation, left: &Node, right: &Node, span: Span, to: u32) {
        if left.constant().is_some() && right.constant().is_none() {
            return self.compare(relation.swapped(), right, left, span, to);
        }
        // Against a constant no more is looked at than the constant has.
        let a = if right.constant().is_some() { self.operand(left) } else { self.charged(left) };
        let test = match (&left.value_type, &right.value_type, right.constant()) {
            (Type::Int, Type::Int, Some(Value::Int(constant))) => {
                Test::IntConstant { relation, left: a, constant: *constant }
            }
            (Type::Double, Type::Double, Some(Value::Double(constant))) => {
                Test::DoubleConstant { relation, left: a, constant: *constant }
            }
            // Below 2^53 the double is exactly the int.
            (Type::Double, Type::Int, Some(Value::Int(constant))) if constant.unsigned_abs() < 1 << 53 => {
                Test::DoubleConstant { relation, left: a, constant: *constant as f64 }
            }
            (l, r, _) => {
                let right = self.operand(right);
                match (l, r) {
                    (Type::Int, Type::Int) => Test::Int { relation, left: a, right },
                    (Type::Double, Type::Double) => Test::Double { relation, left: a, right },
                    (Type::String | Type::Enum(_), Type::String | Type::Enum(_)) => {
                        Test::Text { relation, left: a, right }
                    }
                    _ => {
                        let equality = matches!(relation, Relation::Equal | Relation::NotEqual);
                        let expected = relation == Relation::Equal;
                        let op = if equality {
                            Op::Equal { to, expected, left: a, right }
                        } else {
                            Op::Compare { to, relation, left: a, right }
                        };
                        self.push(op, span);
                        return;
                    }
                }
            }
        };
        self.push(Op::Test { to, test }, span);
    }

    /// Jumps when a register holds `expected`; joins with the test that was just compiled, if that is where it comes from and
    /// nothing lands between the two.
    fn jump_if(&mut self, of: Operand, expected: bool, target: u32, span: Span) -> usize {
        if let Some(Op::Test { to, test }) = self.program.ops.last().copied()
            && of == Operand::Register(to)
            && self.landed < self.here()
        {
            let last = self.program.ops.len() - 1;
            self.program.ops[last] = Op::TestJump { to, test, expected, target };
            return last;
        }
        self.push(Op::JumpIf { of, expected, target }, span)
    }

    fn logic(&mut self, op: LogicOp, operands: &[Node], span: Span, to: u32) {
        let decisive = op == LogicOp::Or;
        let last = operands.len().saturating_sub(1);
        let aside = operands[..last].iter().any(Node::may_fail).then(|| self.error(span));
        let mut exits = Vec::new();
        for (index, operand) in operands.iter().enumerate() {
            let start = self.here();
            self.emit(operand, to);
            if index < last || aside.is_some() {
                let of = Operand::Register(to);
                exits.push(self.jump_if(of, decisive, 0, operand.span));
            }
            if let Some(error) = aside {
                let end = self.here();
                self.program.handlers.push(Handler { start, end, target: end, error });
            }
        }
        if let Some(error) = aside {
            self.push(Op::Raise { error }, span);
        }
        for exit in exits {
            self.land(exit);
        }
    }

    /// Takes a place for an error that is kept aside, empty from here on.
    fn error(&mut self, span: Span) -> u32 {
        let error = self.program.errors as u32;
        self.program.errors += 1;
        self.push(Op::ForgetError { error }, span);
        error
    }

    fn comprehension(&mut self, parts: &Comprehension, span: Span, to: u32) {
        let range = self.operand(&parts.range);
        let turn = self.program.loops.len() as u32;
        self.program.loops.push(range);
        let over_map = matches!(parts.range.value_type, Type::Map(_));
        let around = self.locals.len();
        let mut index = None;
        let item = if over_map && parts.key.is_none() { Operand::Key(turn) } else { Operand::Item(turn) };
        self.locals.push((parts.item, item));
        if let Some(key) = parts.key {
            let place = if over_map { Operand::Key(turn) } else { Operand::Register(self.register()) };
            if let Operand::Register(register) = place {
                index = Some(register);
            }
            self.locals.push((key, place));
        }
        self.loops += 1;
        let next = Op::NextItem { turn, index, steps: 0, body: 0 };
        match parts.kind {
            Macro::All | Macro::Exists => self.quantifier(parts, next, span, to),
            Macro::ExistsOne => self.exists_one(parts, next, span, to),
            Macro::Map | Macro::Filter | Macro::TransformMap | Macro::TransformMapEntry => {
                self.transform(parts, next, span, to);
            }
        }
        self.loops -= 1;
        self.locals.truncate(around);
    }

    /// Begins a loop; what comes next is done for each item.
    fn start_loop(&mut self, span: Span) -> usize {
        let turn = self.program.loops.len() as u32 - 1;
        self.push(Op::StartLoop { turn, next: 0 }, span)
    }

    /// Ends a loop: jumps and handlers that leave a turn early go on here. A turn costs as many steps as it has ops.
    fn end_loop(&mut self, start: usize, mut next: Op, leaves: &[usize], span: Span) {
        for jump in leaves.iter().chain([&start]) {
            self.land(*jump);
        }
        let length = self.here() - start as u32;
        if let Op::NextItem { steps, body, .. } = &mut next {
            (*steps, *body) = (length, start as u32 + 1);
        }
        self.push(next, span);
    }

    fn quantifier(&mut self, parts: &Comprehension, next: Op, span: Span, to: u32) {
        let decisive = parts.kind == Macro::Exists;
        let outcome = self.constant(Value::Bool(!decisive));
        let aside = parts.body.may_fail().then(|| self.error(span));
        let start = self.start_loop(parts.range.span);
        let first = self.here();
        self.emit(&parts.body, to);
        let of = Operand::Register(to);
        let decided = self.jump_if(of, decisive, 0, parts.body.span);
        let end = self.here();
        self.end_loop(start, next, &[], parts.range.span);
        if let Some(error) = aside {
            self.program.handlers.push(Handler { start: first, end, target: end, error });
            self.push(Op::Raise { error }, span);
        }
        self.push(Op::Copy { to, from: outcome }, span);
        self.land(decided);
    }

    fn exists_one(&mut self, parts: &Comprehension, next: Op, span: Span, to: u32) {
        let (count, found) = (self.register(), self.register());
        self.push(Op::SetInt { to: count, value: 0 }, span);
        let start = self.start_loop(parts.range.span);
        self.emit(&parts.body, found);
        let other = self.jump_if(Operand::Register(found), false, 0, parts.body.span);
        self.push(Op::Increment { register: count }, span);
        self.end_loop(start, next, &[other], parts.range.span);
        let left = Operand::Register(count);
        let test = Test::IntConstant { relation: Relation::Equal, left, constant: 1 };
        self.push(Op::Test { to, test }, span);
    }

    fn transform(&mut self, parts: &Comprehension, next: Op, span: Span, to: u32) {
        let list = self.start_list(span);
        let start = self.start_loop(parts.range.span);
        let condition = if parts.kind == Macro::Filter { Some(&parts.body) } else { parts.condition.as_ref() };
        let left_out = condition.map(|condition| {
            let of = self.operand(condition);
            self.jump_if(of, false, 0, condition.span)
        });
        let local = |local: usize| self.locals.iter().rev().find(|(number, _)| *number == local).map(|(_, of)| *of);
        let (item, key) = (local(parts.item), parts.key.and_then(local));
        let from = if parts.kind == Macro::Filter { item.unwrap_or_default() } else { self.operand(&parts.body) };
        match parts.kind {
            Macro::TransformMapEntry => self.push(Op::PushEntries { list, from }, span),
            Macro::TransformMap => {
                self.push(Op::PushItem { list, from: key.unwrap_or_default() }, span);
                self.push(Op::PushItem { list, from }, span)
            }
            Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Map | Macro::Filter => {
                self.push(Op::PushItem { list, from }, span)
            }
        };
        self.end_loop(start, next, left_out.as_slice(), parts.range.span);
        let makes_map = matches!(parts.kind, Macro::TransformMap | Macro::TransformMapEntry);
        self.push(if makes_map { Op::FinishMap { to, list } } else { Op::FinishList { to, list } }, span);
    }
}

/// Tells whether values of the type may be long.
fn has_length(of: &Type) -> bool {
    matches!(
        of.required(),
        Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Record(_) | Type::Union(_)
    )
}

/// Returns the op that does what an overload of the table does, for int and double.
fn arithmetic(overload: &Overload) -> Option<(ArithmeticOp, Shape)> {
    let op = match overload.name {
        "+" => ArithmeticOp::Add,
        "-" => ArithmeticOp::Subtract,
        "*" => ArithmeticOp::Multiply,
        "/" => ArithmeticOp::Divide,
        "%" => ArithmeticOp::Remainder,
        _ => return None,
    };
    match overload.params {
        [Shape::Int, Shape::Int] | [Shape::Double, Shape::Double] if overload.style == Style::Operator => {
            Some((op, overload.params[0]))
        }
        _ => None,
    }
}

/// Returns where an overload looks for a text in another, if that is what it does.
fn part(overload: &Overload) -> Option<Place> {
    if overload.params != [Shape::String, Shape::String] {
        return None;
    }
    match overload.name {
        "startsWith" => Some(Place::Start),
        "endsWith" => Some(Place::End),
        "contains" => Some(Place::Anywhere),
        _ => None,
    }
}

/// Sorts entries by key; a key that comes twice is an error.
pub(super) fn sorted_entries(mut entries: Vec<(Value, Value)>) -> Result<Value, String> {
    entries.sort_by(|a, b| a.0.order(&b.0));
    match entries.windows(2).find(|pair| pair[0].0.order(&pair[1].0).is_eq()) {
        Some(pair) => Err(format!("the key `{}` comes twice", pair[0].0.as_str().unwrap_or_default())),
        None => Ok(Value::Map(Arc::from(entries))),
    }
}
