//! Syntax tree to typed tree. Goes on after a mistake wherever the rest still means something, so that all are told at once.
//!
//! Null: a place whose type is optional has that type until a test around it (`x != null && …`) proves otherwise; the proofs in
//! force are `facts`. A missing node (`None`) means that its mistake was told already.

use std::sync::Arc;

use crate::base::diag::{Diagnostic, Span};
use crate::base::types::Type;
use crate::base::value::Value;

use super::ast::{Access, Ast, AstKind, LogicOp, Name, UnaryOp};
use super::parse::parse;
use super::tree::{Node, NodeKind, Origin, Path};
use super::types::{fits, is_nothing, nothing, unify};
use super::{Env, compile, cost};

mod calls;
mod macros;
mod operators;
mod problems;

/// Checks a text; the value has to fit `wanted` if that is given.
pub(super) fn check(text: &str, env: &Env, wanted: Option<&Type>) -> Result<Node, Vec<Diagnostic>> {
    let (ast, problems) = parse(text);
    let Some(ast) = ast else { return Err(problems) };
    let facts = env.present.iter().map(|root| Path::root(*root)).collect();
    let mut checker = Checker { text, env, problems: Vec::new(), facts, locals: Vec::new(), locals_made: 0 };
    let mut node = checker.node(&ast);
    if let (Some(node), Some(wanted)) = (&mut node, wanted) {
        checker.expect_type(&ast, node, wanted);
    }
    match node {
        Some(node) if checker.problems.is_empty() => match cost::check(&node) {
            Ok(()) => Ok(finished(node)),
            Err(problem) => Err(vec![*problem]),
        },
        _ => Err(checker.problems),
    }
}

/// `optional.none()` alone is null.
fn finished(mut node: Node) -> Node {
    if matches!(&node.value_type, Type::Optional(inner) if is_nothing(inner)) {
        node.value_type = Type::Null;
    }
    node
}

struct Checker<'t> {
    text: &'t str,
    env: &'t Env,
    problems: Vec<Diagnostic>,
    /// Places known not to be null.
    facts: Vec<Path>,
    /// Items of the comprehensions around, innermost last.
    locals: Vec<Local>,
    locals_made: usize,
}

struct Local {
    name: String,
    value_type: Type,
    number: usize,
}

impl Checker<'_> {
    fn written(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }

    fn node(&mut self, ast: &Ast) -> Option<Node> {
        let node = match &ast.kind {
            AstKind::Literal(value) => literal(value, ast.span),
            AstKind::Ident(name) => match self.local(name, ast.span) {
                Some(local) => local,
                None => self.root(name, ast.span)?,
            },
            AstKind::Root(name) => self.root(name, ast.span)?,
            AstKind::Select { base, field, access } => {
                let base = self.node(base)?;
                self.select(base, field, *access, ast.span)?
            }
            AstKind::Index { base, index, access } => self.index(base, index, *access, ast.span)?,
            AstKind::Call { target, function, args } => self.call(target.as_deref(), function, args, ast.span)?,
            AstKind::Unary { op, operand } => self.unary(*op, operand, ast.span)?,
            AstKind::Binary { op, left, right } => self.binary(*op, left, right, ast.span)?,
            AstKind::Logic { op, operands } => self.logic(*op, operands, ast.span)?,
            AstKind::Conditional { condition, then, otherwise } => {
                self.conditional(condition, then, otherwise, ast.span)?
            }
            AstKind::List(items) => self.list(items, ast.span)?,
            AstKind::Map(entries) => self.map(entries, ast.span)?,
        };
        self.folded(node)
    }

    /// Replaces a node over constants by its value. What fails is left to fail where it is evaluated, but for conversions of
    /// literals, which are told.
    fn folded(&mut self, node: Node) -> Option<Node> {
        let children = node.children();
        let constant = !children.is_empty() && children.iter().all(|child| child.constant().is_some());
        if !constant || matches!(node.kind, NodeKind::Comprehension(_)) {
            return Some(node);
        }
        match compile::constant(&node) {
            Ok(value) => Some(Node { kind: NodeKind::Constant(value), ..node }),
            Err(error) if calls::is_conversion(&node) => {
                self.problems.push(problems::invalid_literal(node.span, &error.message));
                None
            }
            Err(_) => Some(node),
        }
    }

    fn local(&self, name: &str, span: Span) -> Option<Node> {
        let local = self.locals.iter().rev().find(|local| local.name == name)?;
        let node = Node::new(NodeKind::Local(local.number), local.value_type.clone(), span);
        Some(self.narrowed(node))
    }

    fn root(&mut self, name: &str, span: Span) -> Option<Node> {
        match self.env.roots.iter().position(|(root, _)| root == name) {
            Some(root) => {
                let root_type = self.env.roots[root].1.clone();
                let kind = if let Type::Record(record) = &root_type {
                    NodeKind::RootRecord { root, fields: record.fields().len() }
                } else {
                    NodeKind::Root(root)
                };
                let node = Node::new(kind, root_type, span);
                Some(self.narrowed(node))
            }
            None => {
                let locals = self.locals.iter().map(|local| local.name.as_str());
                let known: Vec<&str> = self.env.roots.iter().map(|(name, _)| name.as_str()).chain(locals).collect();
                self.problems.push(problems::unknown_name(span, name, &known));
                None
            }
        }
    }

    /// Takes null from the type of a place that is known not to be null.
    fn narrowed(&self, mut node: Node) -> Node {
        if matches!(node.value_type, Type::Optional(_)) && node.path().is_some_and(|path| self.facts.contains(&path)) {
            node.value_type = node.value_type.required().clone();
            node.origin = Origin::Narrowed;
        }
        node
    }

    /// Runs `check` while `facts` hold besides those that do.
    fn given<R>(&mut self, facts: Vec<Path>, check: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.facts.len();
        self.facts.extend(facts);
        let result = check(self);
        self.facts.truncate(before);
        result
    }

    fn select(&mut self, base: Node, field: &Name, access: Access, span: Span) -> Option<Node> {
        let optional = access == Access::Optional || base.origin == Origin::Chosen;
        if base.value_type.allows_null() && !optional {
            let way = format!("{}.?{}", self.written(base.span), field.text);
            self.problems.push(problems::may_be_null(base.span, self.written(base.span), &base.value_type, Some(&way)));
            return None;
        }
        if let Type::Map(_) = base.value_type.required() {
            let key = Node::new(NodeKind::Constant(Value::text(&field.text)), Type::String, field.span);
            return self.element(base, key, if optional { Access::Optional } else { access }, span);
        }
        if optional && is_nothing(base.value_type.required()) {
            // A field of what is never there.
            return Some(Node { origin: Origin::Chosen, span, ..base });
        }
        let Type::Record(record) = base.value_type.required() else {
            self.problems.push(problems::no_fields(field, self.written(base.span), &base.value_type));
            return None;
        };
        let record = Arc::clone(record);
        let Some((position, found)) = record.field(&field.text) else {
            self.problems.push(problems::unknown_field(field, &record));
            return None;
        };
        let declared = found.field_type.clone();
        let kind = if let NodeKind::RootRecord { root, .. } = base.kind {
            NodeKind::Field { root, field: position }
        } else {
            NodeKind::Select { base: Box::new(base), field: position }
        };
        let mut node = Node::new(kind, declared, span);
        if optional {
            node.value_type = node.value_type.optional();
            node.origin = Origin::Chosen;
            return Some(node);
        }
        Some(self.narrowed(node))
    }

    fn index(&mut self, base: &Ast, index: &Ast, access: Access, span: Span) -> Option<Node> {
        let (base, index) = (self.node(base), self.node(index));
        let (base, index) = (base?, index?);
        let optional = access == Access::Optional || base.origin == Origin::Chosen;
        if !optional {
            let way = format!("{}[?{}]", self.written(base.span), self.written(index.span));
            if base.value_type.allows_null() {
                let problem = problems::may_be_null(base.span, self.written(base.span), &base.value_type, Some(&way));
                self.problems.push(problem);
                return None;
            }
        }
        self.element(base, index, if optional { Access::Optional } else { access }, span)
    }

    fn element(&mut self, base: Node, key: Node, access: Access, span: Span) -> Option<Node> {
        let key = self.not_null(key)?;
        if access == Access::Optional && is_nothing(base.value_type.required()) {
            return Some(Node { origin: Origin::Chosen, span, ..base });
        }
        let name = if access == Access::Optional { "[?]" } else { "[]" };
        let types = [base.value_type.required().clone(), key.value_type.clone()];
        let mut node = self.operator(name, vec![base, key], &types, span)?;
        if access == Access::Optional {
            node.origin = Origin::Chosen;
        }
        Some(node)
    }

    /// Refuses a node whose value may be null.
    fn not_null(&mut self, node: Node) -> Option<Node> {
        if !node.value_type.allows_null() {
            return Some(node);
        }
        let problem = problems::may_be_null(node.span, self.written(node.span), &node.value_type, None);
        self.problems.push(problem);
        None
    }

    fn bool_node(&mut self, ast: &Ast, role: &str) -> Option<Node> {
        let node = self.node(ast)?;
        let node = self.not_null(node)?;
        if node.value_type == Type::Bool || is_nothing(&node.value_type) {
            return Some(node);
        }
        self.problems.push(problems::mismatch(node.span, role, &node.value_type, "bool"));
        None
    }

    fn unary(&mut self, op: UnaryOp, operand: &Ast, span: Span) -> Option<Node> {
        match op {
            UnaryOp::Not => {
                let operand = self.bool_node(operand, "the operand of `!`")?;
                Some(Node::new(NodeKind::Not(Box::new(operand)), Type::Bool, span))
            }
            UnaryOp::Negate => {
                let operand = self.node(operand)?;
                let operand = self.not_null(operand)?;
                let types = [operand.value_type.clone()];
                self.operator("-", vec![operand], &types, span)
            }
        }
    }

    /// Each operand is checked with what the ones before it prove.
    fn logic(&mut self, op: LogicOp, operands: &[Ast], span: Span) -> Option<Node> {
        let role = format!("an operand of `{}`", op.symbol());
        let before = self.facts.len();
        let mut nodes = Vec::with_capacity(operands.len());
        let mut sound = true;
        for operand in operands {
            match self.bool_node(operand, &role) {
                Some(node) => {
                    self.facts.extend(node.facts(op == LogicOp::And));
                    nodes.push(node);
                }
                None => sound = false,
            }
        }
        self.facts.truncate(before);
        sound.then(|| Node::new(NodeKind::Logic { op, operands: nodes }, Type::Bool, span))
    }

    fn conditional(&mut self, condition: &Ast, then: &Ast, otherwise: &Ast, span: Span) -> Option<Node> {
        let condition = self.bool_node(condition, "the condition");
        let facts = |outcome| condition.as_ref().map_or_else(Vec::new, |node| node.facts(outcome));
        let (when_true, when_false) = (facts(true), facts(false));
        let then = self.given(when_true, |checker| checker.node(then));
        let otherwise = self.given(when_false, |checker| checker.node(otherwise));
        let (condition, then, otherwise) = (condition?, then?, otherwise?);
        let Some(value_type) = unify(&then.value_type, &otherwise.value_type) else {
            self.problems.push(problems::branches(&then, &otherwise));
            return None;
        };
        if let Some(decided) = condition.constant() {
            let chosen = if *decided == Value::Bool(true) { then } else { otherwise };
            return Some(Node { value_type, span, ..chosen });
        }
        let kind = NodeKind::Conditional {
            condition: Box::new(condition),
            then: Box::new(then),
            otherwise: Box::new(otherwise),
        };
        Some(Node::new(kind, value_type, span))
    }

    fn list(&mut self, items: &[(Access, Ast)], span: Span) -> Option<Node> {
        let nodes: Vec<Option<_>> =
            items.iter().map(|(access, item)| Some((*access, self.item(*access, item)?))).collect();
        let nodes: Vec<(Access, Node)> = nodes.into_iter().collect::<Option<_>>()?;
        let item_type = self.common_type(nodes.iter().map(|(access, node)| (*access, node)), "list")?;
        let list_type = Type::List(Arc::new(item_type));
        if nodes.is_empty() {
            return Some(Node::new(NodeKind::Constant(Value::List(Arc::from([]))), list_type, span));
        }
        Some(Node::new(NodeKind::List(nodes), list_type, span))
    }

    /// Checks an item of a list or the value of an entry: one that may be left out has to be optional.
    fn item(&mut self, access: Access, ast: &Ast) -> Option<Node> {
        let node = self.node(ast)?;
        if access == Access::Optional && !node.value_type.allows_null() && node.origin != Origin::Narrowed {
            self.problems.push(problems::never_absent(node.span, self.written(node.span), &node.value_type));
            return None;
        }
        Some(node)
    }

    fn map(&mut self, entries: &[(Access, Ast, Ast)], span: Span) -> Option<Node> {
        let nodes: Vec<Option<_>> = entries
            .iter()
            .map(|(access, key, value)| {
                let (key, value) = (self.node(key), self.item(*access, value));
                let key = key.and_then(|key| self.not_null(key))?;
                if !fits(&key.value_type, &Type::String) {
                    self.problems.push(problems::key_type(key.span, &key.value_type));
                    return None;
                }
                Some((*access, key, value?))
            })
            .collect();
        let nodes: Vec<(Access, Node, Node)> = nodes.into_iter().collect::<Option<_>>()?;
        let value_type = self.common_type(nodes.iter().map(|(access, _, value)| (*access, value)), "map")?;
        let map_type = Type::Map(Arc::new(value_type));
        if nodes.is_empty() {
            return Some(Node::new(NodeKind::Constant(Value::Map(Arc::from([]))), map_type, span));
        }
        Some(Node::new(NodeKind::Map(nodes), map_type, span))
    }

    /// Returns the type that all have in common; what may be left out counts as what it is when it is there.
    fn common_type<'n>(&mut self, nodes: impl Iterator<Item = (Access, &'n Node)>, of: &str) -> Option<Type> {
        let mut common = nothing();
        for (access, node) in nodes {
            let node_type = match access {
                Access::Required => &node.value_type,
                Access::Optional => node.value_type.required(),
            };
            match unify(&common, node_type) {
                Some(both) => common = both,
                None => {
                    let role = format!("an item of this {of}");
                    self.problems.push(problems::mismatch(node.span, &role, &node.value_type, &common.to_string()));
                    return None;
                }
            }
        }
        Some(common)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the parser makes no other literals")]
fn literal(value: &Value, span: Span) -> Node {
    let value_type = match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Null,
    };
    Node::new(NodeKind::Constant(value.clone()), value_type, span)
}
