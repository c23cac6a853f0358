//! Binary operators: arithmetic by the table, comparisons by rules that no table of overloads can say.

use std::sync::Arc;

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::base::value::{Decimal, Value};
use crate::expr::ast::{Ast, AstKind, BinaryOp, Relation};
use crate::expr::functions;
use crate::expr::tree::{Node, NodeKind, Origin};
use crate::expr::types::{Style, fits, is_nothing, is_plain_number, unify};

use super::{Checker, problems};

impl Checker<'_> {
    pub(super) fn binary(&mut self, op: BinaryOp, left: &Ast, right: &Ast, span: Span) -> Option<Node> {
        let (l, r) = (self.node(left), self.node(right));
        let (mut l, mut r) = (l?, r?);
        self.read_as_decimal(&mut l, &r.value_type);
        self.read_as_decimal(&mut r, &l.value_type);
        if let BinaryOp::Compare(relation) = op {
            return self.comparison(relation, (left, l), (right, r), span);
        }
        let (l, r) = (self.not_null(l), self.not_null(r));
        let (l, r) = (l?, r?);
        if op == BinaryOp::In
            && let (Type::Enum(_), Type::List(item)) | (Type::String, Type::List(item)) = (&l.value_type, &r.value_type)
        {
            let known = self.known_symbols(&l.value_type, right) & self.known_symbols(item, left);
            if !known {
                return None;
            }
        }
        let types = [l.value_type.clone(), r.value_type.clone()];
        self.operator(op.symbol(), vec![l, r], &types, span)
    }

    /// Makes the call of an operator; `types` are those the overload is chosen by.
    pub(super) fn operator(&mut self, op: &'static str, args: Vec<Node>, types: &[Type], span: Span) -> Option<Node> {
        let found =
            functions::overloads(Style::Operator, op).find_map(|overload| Some((overload, overload.apply(types)?)));
        if let Some((overload, result)) = found {
            return Some(Node::new(NodeKind::Call { overload, args }, result, span));
        }
        let problem = match (args.as_slice(), op) {
            ([left, right], "+" | "-" | "*" | "/" | "%" | "in") => {
                problems::operands(span, op, left, right, [self.written(left.span), self.written(right.span)])
            }
            _ => {
                let overloads =
                    functions::overloads(Style::Operator, op).filter(|overload| overload.params.len() == args.len());
                problems::wrong_arguments(span, op, types, overloads)
            }
        };
        self.problems.push(problem);
        None
    }

    /// A double literal beside a decimal is the decimal that is written.
    fn read_as_decimal(&self, node: &mut Node, beside: &Type) {
        if !matches!(beside.required(), Type::Decimal { .. }) || !matches!(node.constant(), Some(Value::Double(_))) {
            return;
        }
        if let Some(decimal) = decimal_literal(self.written(node.span)) {
            let precision = decimal.unscaled.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
            node.value_type = Type::Decimal { precision: precision.max(decimal.scale), scale: decimal.scale };
            node.kind = NodeKind::Constant(Value::Decimal(Arc::new(decimal)));
        }
    }

    fn comparison(&mut self, relation: Relation, left: (&Ast, Node), right: (&Ast, Node), span: Span) -> Option<Node> {
        let ((left_ast, left), (right_ast, right)) = (left, right);
        let equality = matches!(relation, Relation::Equal | Relation::NotEqual);
        if equality {
            let expected = relation == Relation::Equal;
            match (left.constant(), right.constant()) {
                (_, Some(Value::Null)) => return self.null_test(left, expected, span),
                (Some(Value::Null), _) => return self.null_test(right, expected, span),
                _ => {}
            }
        }
        let (left, right) = (self.not_null(left), self.not_null(right));
        let (left, right) = (left?, right?);
        let known = self.known_symbols(&left.value_type, right_ast) & self.known_symbols(&right.value_type, left_ast);
        if !known {
            return None;
        }
        let (l, r) = (&left.value_type, &right.value_type);
        let exact = |one: &Type| matches!(one, Type::Decimal { .. } | Type::Int | Type::Uint);
        let numbers = (is_plain_number(l) && is_plain_number(r)) || (exact(l) && exact(r));
        let comparable = numbers || if equality { unify(l, r).is_some() } else { ordered(l, r) };
        if !comparable {
            let op = BinaryOp::Compare(relation).symbol();
            let written = [self.written(left.span), self.written(right.span)];
            self.problems.push(problems::operands(span, op, &left, &right, written));
            return None;
        }
        let kind = NodeKind::Compare { relation, left: Box::new(left), right: Box::new(right) };
        Some(Node::new(kind, Type::Bool, span))
    }

    pub(super) fn null_test(&mut self, of: Node, expected: bool, span: Span) -> Option<Node> {
        if !of.value_type.allows_null() && of.origin != Origin::Narrowed {
            self.problems.push(problems::never_null(of.span, self.written(of.span), &of.value_type));
            return None;
        }
        Some(Node::new(NodeKind::IsNull { of: Box::new(of), expected }, Type::Bool, span))
    }

    /// Checks the literals that stand beside an enum. Tells whether all are symbols of it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other node is no literal")]
    pub(super) fn known_symbols(&mut self, of: &Type, beside: &Ast) -> bool {
        let Type::Enum(symbols) = of.required() else { return true };
        match &beside.kind {
            AstKind::Literal(Value::String(text)) if !symbols.symbols.contains(text) => {
                self.problems.push(problems::unknown_symbol(beside.span, text, symbols));
                false
            }
            AstKind::List(items) => items.iter().fold(true, |known, (_, item)| self.known_symbols(of, item) & known),
            AstKind::Conditional { then, otherwise, .. } => {
                self.known_symbols(of, then) & self.known_symbols(of, otherwise)
            }
            _ => true,
        }
    }

    /// Checks that a whole expression's value may go where `wanted` is.
    pub(super) fn expect_type(&mut self, ast: &Ast, node: &mut Node, wanted: &Type) {
        if matches!(wanted.required(), Type::Enum(_)) && !matches!(node.value_type.required(), Type::Enum(_)) {
            let before = self.problems.len();
            if !self.known_symbols(wanted, ast) {
                return;
            }
            let nullable = node.value_type.allows_null() && !wanted.allows_null();
            if literal_text(node) && !nullable && self.problems.len() == before {
                node.value_type = wanted.clone();
                return;
            }
        }
        if fits(&node.value_type, wanted) {
            return;
        }
        if node.value_type.allows_null() && fits(node.value_type.required(), wanted) {
            let problem = problems::may_be_null(node.span, self.written(node.span), &node.value_type, None);
            self.problems.push(problem);
            return;
        }
        let problem = problems::mismatch(ast.span, "the value", &node.value_type, &wanted.to_string());
        self.problems.push(problem);
    }
}

/// Tells whether the node is literal text or null, or chooses among such.
fn literal_text(node: &Node) -> bool {
    if let NodeKind::Conditional { then, otherwise, .. } = &node.kind {
        return literal_text(then) && literal_text(otherwise);
    }
    matches!(node.constant(), Some(Value::String(_) | Value::Null))
}

/// Tells whether CEL has an order over the two types, numbers apart.
fn ordered(a: &Type, b: &Type) -> bool {
    let text = |one: &Type| fits(one, &Type::String);
    is_nothing(a)
        || is_nothing(b)
        || (text(a) && text(b))
        || (a == b && matches!(a, Type::Bool | Type::Bytes | Type::DateTime | Type::TimeDelta))
}

/// Reads `-12.50` exactly; an exponent is not read.
fn decimal_literal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.trim_matches(['(', ')', ' ']).split_once('.')?;
    let digits = format!("{whole}{fraction}");
    let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= 38)?;
    Some(Decimal { unscaled: digits.parse().ok()?, scale })
}
