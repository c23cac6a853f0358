//! The syntax tree: what was written and where. No names are resolved and no macro is expanded here.

use crate::base::diag::Span;
use crate::base::value::Value;

/// One node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Ast {
    pub kind: AstKind,
    /// Bytes of the text the node covers, its own parentheses included.
    pub span: Span,
    /// Levels of nodes below and with this one; the parser keeps it within `limits::EXPRESSION_DEPTH_MAX`.
    pub(super) depth: usize,
}

/// A name and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum AstKind {
    Literal(Value),
    Ident(String),
    /// `.name`: never a name that a macro binds.
    Root(String),
    /// `base.field`, or `base.?field`.
    Select {
        base: Box<Ast>,
        field: Name,
        access: Access,
    },
    /// `base[index]`, or `base[?index]`.
    Index {
        base: Box<Ast>,
        index: Box<Ast>,
        access: Access,
    },
    /// `function(args)`, or `target.function(args)`.
    Call {
        target: Option<Box<Ast>>,
        function: Name,
        args: Vec<Ast>,
    },
    Unary {
        op: UnaryOp,
        operand: Box<Ast>,
    },
    Binary {
        op: BinaryOp,
        left: Box<Ast>,
        right: Box<Ast>,
    },
    /// A whole chain `a && b && c`, or `a || b || c`: two operands or more.
    Logic {
        op: LogicOp,
        operands: Vec<Ast>,
    },
    Conditional {
        condition: Box<Ast>,
        then: Box<Ast>,
        otherwise: Box<Ast>,
    },
    /// `[a, ?b]`: an optional item that is absent is left out.
    List(Vec<(Access, Ast)>),
    /// `{'a': b, ?'c': d}`: key and value of each entry.
    Map(Vec<(Access, Ast, Ast)>),
}

/// Whether absence is an error or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Required,
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Not,
    Negate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogicOp {
    And,
    Or,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Compare(Relation),
    In,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    /// Returns the relation with its sides exchanged.
    pub(super) fn swapped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Equal | Self::NotEqual => self,
        }
    }
}

impl BinaryOp {
    /// Returns the operator as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::In => "in",
            Self::Compare(Relation::Equal) => "==",
            Self::Compare(Relation::NotEqual) => "!=",
            Self::Compare(Relation::Less) => "<",
            Self::Compare(Relation::LessOrEqual) => "<=",
            Self::Compare(Relation::Greater) => ">",
            Self::Compare(Relation::GreaterOrEqual) => ">=",
        }
    }
}

impl LogicOp {
    /// Returns the operator as it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::And => "&&",
            Self::Or => "||",
        }
    }
}

impl Ast {
    pub(super) fn new(kind: AstKind, span: Span) -> Self {
        let below = match &kind {
            AstKind::Literal(_) | AstKind::Ident(_) | AstKind::Root(_) => 0,
            AstKind::Select { base, .. } => base.depth,
            AstKind::Index { base, index, .. } => base.depth.max(index.depth),
            AstKind::Call { target, args, .. } => {
                args.iter().chain(target.as_deref()).map(|arg| arg.depth).max().unwrap_or(0)
            }
            AstKind::Unary { operand, .. } => operand.depth,
            AstKind::Binary { left, right, .. } => left.depth.max(right.depth),
            AstKind::Logic { operands, .. } => operands.iter().map(|operand| operand.depth).max().unwrap_or(0),
            AstKind::Conditional { condition, then, otherwise } => condition.depth.max(then.depth).max(otherwise.depth),
            AstKind::List(items) => items.iter().map(|(_, item)| item.depth).max().unwrap_or(0),
            AstKind::Map(entries) => {
                entries.iter().map(|(_, key, value)| key.depth.max(value.depth)).max().unwrap_or(0)
            }
        };
        Self { kind, span, depth: below + 1 }
    }
}
