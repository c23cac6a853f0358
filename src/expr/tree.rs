//! The typed tree: every name resolved, every overload chosen, every null accounted for, constants folded.

use regex::Regex;

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::base::value::Value;

use super::FieldUse;
use super::ast::{Access, LogicOp, Relation};
use super::types::Overload;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub kind: NodeKind,
    pub value_type: Type,
    pub span: Span,
    pub origin: Origin,
}

/// How the node came by its type, as far as null is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Declared,
    /// Null is among the declared values and was excluded by a test around the node.
    Narrowed,
    /// Optional by the writer's choice (`.?x`, `optional.of(x)`): selections go on from it without complaint.
    Chosen,
}

#[derive(Clone, Debug)]
pub(super) enum NodeKind {
    Constant(Value),
    /// A root of one slot.
    Root(usize),
    /// The whole of a root that is a record: all its slots.
    RootRecord {
        root: usize,
        fields: usize,
    },
    /// A field of a root that is a record.
    Field {
        root: usize,
        field: usize,
    },
    /// The item of a comprehension.
    Local(usize),
    /// A field of any other record; of null, null.
    Select {
        base: Box<Node>,
        field: usize,
    },
    Call {
        overload: &'static Overload,
        args: Vec<Node>,
    },
    /// `matches` with a literal pattern.
    Matches {
        text: Box<Node>,
        pattern: Regex,
    },
    Compare {
        relation: Relation,
        left: Box<Node>,
        right: Box<Node>,
    },
    IsNull {
        of: Box<Node>,
        expected: bool,
    },
    Not(Box<Node>),
    Logic {
        op: LogicOp,
        operands: Vec<Node>,
    },
    Conditional {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
    /// The value, or the other when it is null.
    OrElse {
        value: Box<Node>,
        otherwise: Box<Node>,
    },
    /// The value; null is an error.
    Unwrap(Box<Node>),
    /// An optional item that is null is left out.
    List(Vec<(Access, Node)>),
    /// Keys are strings; an optional entry whose value is null is left out.
    Map(Vec<(Access, Node, Node)>),
    Comprehension(Box<Comprehension>),
    Binding(Box<Binding>),
}

/// A value with a name, for the sake of another expression.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub value: Node,
    pub local: usize,
    pub body: Node,
    pub absence: Absence,
}

/// What becomes of a [`Binding`] whose value is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// The body is for null as well: `cel.bind`.
    Bound,
    /// The whole is null: `optMap`, `optFlatMap`.
    Passed,
}

#[derive(Clone, Debug)]
pub(super) struct Comprehension {
    pub kind: Macro,
    pub range: Node,
    /// The local that holds each item in turn: a list's item, a map's value; a map's key when there is no other local.
    pub item: usize,
    /// The local that holds the index of each item, or its key.
    pub key: Option<usize>,
    /// Which items are looked at; all when there is none. Only what transforms has one.
    pub condition: Option<Node>,
    pub body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    /// `map` and `transformList`.
    Map,
    Filter,
    /// Other values for a map's keys.
    TransformMap,
    /// Other entries: the body is a map.
    TransformMapEntry,
}

/// A place that a name leads to: root or local, then fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub base: PathBase,
    pub fields: Vec<usize>,
}

impl Path {
    /// The place that a root's name leads to.
    pub(super) fn root(number: usize) -> Self {
        Self { base: PathBase::Root(number), fields: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathBase {
    Root(usize),
    Local(usize),
}

impl Node {
    pub(super) fn new(kind: NodeKind, value_type: Type, span: Span) -> Self {
        Self { kind, value_type, span, origin: Origin::Declared }
    }

    pub(super) fn constant(&self) -> Option<&Value> {
        if let NodeKind::Constant(value) = &self.kind { Some(value) } else { None }
    }

    pub(super) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            NodeKind::Constant(_)
            | NodeKind::Root(_)
            | NodeKind::RootRecord { .. }
            | NodeKind::Field { .. }
            | NodeKind::Local(_) => Vec::new(),
            NodeKind::Select { base: only, .. }
            | NodeKind::Matches { text: only, .. }
            | NodeKind::IsNull { of: only, .. }
            | NodeKind::Not(only)
            | NodeKind::Unwrap(only) => vec![only],
            NodeKind::Call { args: many, .. } | NodeKind::Logic { operands: many, .. } => many.iter().collect(),
            NodeKind::List(items) => items.iter().map(|(_, item)| item).collect(),
            NodeKind::Compare { left, right, .. } => vec![left, right],
            NodeKind::OrElse { value, otherwise } => vec![value, otherwise],
            NodeKind::Conditional { condition, then, otherwise } => vec![condition, then, otherwise],
            NodeKind::Map(entries) => entries.iter().flat_map(|(_, key, value)| [key, value]).collect(),
            NodeKind::Binding(parts) => vec![&parts.value, &parts.body],
            NodeKind::Comprehension(parts) => {
                [Some(&parts.range), parts.condition.as_ref(), Some(&parts.body)].into_iter().flatten().collect()
            }
        }
    }

    /// Returns the place that the node names, if that is all it does.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other node names no place")]
    pub(super) fn path(&self) -> Option<Path> {
        match &self.kind {
            NodeKind::Root(root) | NodeKind::RootRecord { root, .. } => {
                Some(Path { base: PathBase::Root(*root), fields: Vec::new() })
            }
            NodeKind::Local(local) => Some(Path { base: PathBase::Local(*local), fields: Vec::new() }),
            NodeKind::Field { root, field } => Some(Path { base: PathBase::Root(*root), fields: vec![*field] }),
            NodeKind::Select { base, field } => {
                let mut path = base.path()?;
                path.fields.push(*field);
                Some(path)
            }
            _ => None,
        }
    }

    /// Returns the places that are not null when the node is `outcome`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other node proves nothing")]
    pub(super) fn facts(&self, outcome: bool) -> Vec<Path> {
        match &self.kind {
            NodeKind::Not(inner) => inner.facts(!outcome),
            NodeKind::IsNull { of, expected } if *expected != outcome => {
                let Some(path) = of.path() else { return Vec::new() };
                // What a place was reached through is not null either.
                (0..=path.fields.len())
                    .map(|length| Path { base: path.base, fields: path.fields[..length].to_vec() })
                    .collect()
            }
            NodeKind::Logic { op, operands } if (*op == LogicOp::And) == outcome => {
                operands.iter().flat_map(|operand| operand.facts(outcome)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Adds what the node reads.
    pub(super) fn collect_uses(&self, uses: &mut Vec<FieldUse>) {
        if let NodeKind::Root(root) | NodeKind::RootRecord { root, .. } = self.kind {
            uses.push(FieldUse { root, field: None });
        } else if let NodeKind::Field { root, field } = self.kind {
            uses.push(FieldUse { root, field: Some(field) });
        }
        self.children().into_iter().for_each(|child| child.collect_uses(uses));
    }

    /// Tells whether evaluation can fail while every slot holds what its type says.
    pub(super) fn may_fail(&self) -> bool {
        let fails = match &self.kind {
            NodeKind::Call { .. } | NodeKind::Unwrap(_) => true,
            // A key may come twice.
            NodeKind::Map(_) => true,
            NodeKind::Comprehension(parts) => parts.kind == Macro::TransformMapEntry,
            NodeKind::Constant(_)
            | NodeKind::Root(_)
            | NodeKind::RootRecord { .. }
            | NodeKind::Field { .. }
            | NodeKind::Local(_)
            | NodeKind::Select { .. }
            | NodeKind::Matches { .. }
            | NodeKind::Compare { .. }
            | NodeKind::IsNull { .. }
            | NodeKind::Not(_)
            | NodeKind::Logic { .. }
            | NodeKind::Conditional { .. }
            | NodeKind::OrElse { .. }
            | NodeKind::List(_)
            | NodeKind::Binding(_) => false,
        };
        fails || self.children().into_iter().any(Self::may_fail)
    }
}
