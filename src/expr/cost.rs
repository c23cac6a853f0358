//! Steps that an expression takes at the worst, as far as its text tells: what macros go through, and macros in macros.
//!
//! A list or map of which no size is known is taken to have `limits::EXPRESSION_ITEMS_ASSUMED` items. What longer ones take, and
//! long text, is counted while evaluating.

use crate::base::diag::Diagnostic;
use crate::base::types::Type;
use crate::base::value::Value;
use crate::error::codes;
use crate::limits::{EXPRESSION_ITEMS_ASSUMED, EXPRESSION_PATTERN_STEPS, EXPRESSION_STEPS_MAX};

use super::tree::{Comprehension, Macro, Node, NodeKind};

/// Refuses an expression that may take more steps than an evaluation has.
pub(super) fn check(node: &Node) -> Result<(), Box<Diagnostic>> {
    let mut estimate = Estimate { locals: Vec::new() };
    let steps = estimate.steps(node);
    if steps <= EXPRESSION_STEPS_MAX {
        return Ok(());
    }
    let message = format!("the expression may take {steps} steps; the limit is {EXPRESSION_STEPS_MAX}");
    let help = format!(
        "nest fewer macros: a list whose size is not known counts {EXPRESSION_ITEMS_ASSUMED} items, and one macro in another \
         multiplies them"
    );
    Err(Box::new(Diagnostic::error(codes::EXPRESSION_TOO_COSTLY, node.span, message).help(help)))
}

struct Estimate {
    /// The sizes of what macros around bind.
    locals: Vec<(usize, u64)>,
}

impl Estimate {
    fn steps(&mut self, node: &Node) -> u64 {
        match &node.kind {
            NodeKind::Comprehension(parts) => self.comprehension(parts),
            NodeKind::Binding(parts) => {
                let value = self.steps(&parts.value);
                let size = self.size(&parts.value);
                let body = self.with(&[(parts.local, size)], |estimate| estimate.steps(&parts.body));
                value.saturating_add(body)
            }
            NodeKind::Call { overload, .. } if overload.name == "matches" => {
                self.below(node).saturating_add(EXPRESSION_PATTERN_STEPS)
            }
            NodeKind::Call { overload, args } if overload.scans() => {
                let scanned = args.iter().map(|arg| self.size(arg)).fold(1, u64::saturating_add);
                self.below(node).saturating_add(scanned)
            }
            NodeKind::Constant(_)
            | NodeKind::Root(_)
            | NodeKind::RootRecord { .. }
            | NodeKind::Field { .. }
            | NodeKind::Local(_)
            | NodeKind::Select { .. }
            | NodeKind::Call { .. }
            | NodeKind::Matches { .. }
            | NodeKind::Compare { .. }
            | NodeKind::IsNull { .. }
            | NodeKind::Not(_)
            | NodeKind::Logic { .. }
            | NodeKind::Conditional { .. }
            | NodeKind::OrElse { .. }
            | NodeKind::Unwrap(_)
            | NodeKind::List(_)
            | NodeKind::Map(_) => self.below(node).saturating_add(1),
        }
    }

    fn below(&mut self, node: &Node) -> u64 {
        node.children().into_iter().map(|child| self.steps(child)).fold(0, u64::saturating_add)
    }

    fn comprehension(&mut self, parts: &Comprehension) -> u64 {
        let (range, turns) = (self.steps(&parts.range), self.size(&parts.range));
        let turn = self.in_turn(parts, |estimate| {
            let condition = parts.condition.as_ref().map_or(0, |condition| estimate.steps(condition));
            estimate.steps(&parts.body).saturating_add(condition).saturating_add(1)
        });
        range.saturating_add(turns.saturating_mul(turn))
    }

    fn in_turn(&mut self, parts: &Comprehension, of: impl FnOnce(&mut Self) -> u64) -> u64 {
        let size = self.item_size(&parts.range);
        self.with(&[(parts.item, size)], of)
    }

    fn with(&mut self, locals: &[(usize, u64)], of: impl FnOnce(&mut Self) -> u64) -> u64 {
        let before = self.locals.len();
        self.locals.extend_from_slice(locals);
        let result = of(self);
        self.locals.truncate(before);
        result
    }

    /// Items of a list or map, at the most; none of what is neither.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of every other node no size is known")]
    fn size(&mut self, node: &Node) -> u64 {
        if !matches!(node.value_type.required(), Type::List(_) | Type::Map(_)) {
            return 0;
        }
        match &node.kind {
            NodeKind::Constant(value) => size_of(value),
            NodeKind::List(items) => items.len() as u64,
            NodeKind::Map(entries) => entries.len() as u64,
            NodeKind::Local(local) => self
                .locals
                .iter()
                .rev()
                .find(|(number, _)| number == local)
                .map_or(EXPRESSION_ITEMS_ASSUMED, |(_, size)| *size),
            NodeKind::Call { overload, args } if overload.name == "+" => {
                args.iter().map(|arg| self.size(arg)).fold(0, u64::saturating_add)
            }
            NodeKind::Conditional { then: one, otherwise: other, .. }
            | NodeKind::OrElse { value: one, otherwise: other } => self.size(one).max(self.size(other)),
            NodeKind::Unwrap(value) => self.size(value),
            NodeKind::Binding(parts) => {
                let size = self.size(&parts.value);
                self.with(&[(parts.local, size)], |estimate| estimate.size(&parts.body))
            }
            NodeKind::Comprehension(parts) => {
                let turns = self.size(&parts.range);
                let each = match parts.kind {
                    Macro::TransformMapEntry => self.in_turn(parts, |estimate| estimate.size(&parts.body)),
                    Macro::All
                    | Macro::Exists
                    | Macro::ExistsOne
                    | Macro::Map
                    | Macro::Filter
                    | Macro::TransformMap => 1,
                };
                turns.saturating_mul(each)
            }
            _ => EXPRESSION_ITEMS_ASSUMED,
        }
    }

    /// Items of each item of a list, or of each value of a map, at the most.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of every other node no size is known")]
    fn item_size(&mut self, node: &Node) -> u64 {
        match &node.kind {
            NodeKind::Constant(Value::List(items)) => items.iter().map(size_of).max().unwrap_or(0),
            NodeKind::Constant(Value::Map(entries)) => {
                entries.iter().map(|(_, value)| size_of(value)).max().unwrap_or(0)
            }
            NodeKind::List(items) => items.iter().map(|(_, item)| self.size(item)).max().unwrap_or(0),
            NodeKind::Map(entries) => entries.iter().map(|(.., value)| self.size(value)).max().unwrap_or(0),
            NodeKind::Comprehension(parts) if parts.kind == Macro::Filter => self.item_size(&parts.range),
            NodeKind::Comprehension(parts) if matches!(parts.kind, Macro::Map | Macro::TransformMap) => {
                self.in_turn(parts, |estimate| estimate.size(&parts.body))
            }
            _ => EXPRESSION_ITEMS_ASSUMED,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other value has items")]
fn size_of(value: &Value) -> u64 {
    match value {
        Value::List(items) => items.len() as u64,
        Value::Map(entries) => entries.len() as u64,
        _ => 0,
    }
}
