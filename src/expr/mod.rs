//! Expressions: CEL text, checked against the types of the data, compiled to flat programs over slots.
//!
//! ```text
//! text ──token──▶ tokens ──parse──▶ Ast ──check──▶ typed tree ──compile──▶ Program ──eval──▶ Value
//! ```
//!
//! Invariants: a program that was compiled from a checked tree never panics, whatever the slots hold; what the checker proved
//! not to be null is never null while the slots hold what their types say; evaluation touches nothing but its arguments, and
//! takes no more steps than `limits::EXPRESSION_STEPS_MAX`, or ends with an error.
//!
//! Deviations from CEL, all on the side of strictness: every type is static (no `dyn`); null is a value of optional types
//! alone and has to be handled; map keys are strings (`docs/expressions.md`; `tests/cel` has the published cases). Aggregates (`count()`, `sum(x)`) are recognised here, by
//! [`aggregate_call`], and computed elsewhere.

mod aggregate;
pub mod ast;
mod check;
mod compile;
mod cost;
mod eval;
mod functions;
mod parse;
mod program;
mod token;
mod tree;
mod types;

#[cfg(test)]
mod tests;

use crate::base::diag::Diagnostic;
use crate::base::types::Type;
use crate::base::value::Value;
use crate::error::codes;

pub use aggregate::{AGGREGATES, AggregateCall, aggregate_call};
pub use ast::Ast;
pub use eval::{EvalError, Scratch};
pub use parse::parse;
pub use program::Program;
pub use types::fits;

/// The names an expression may begin with.
///
/// A root whose type is a record has a slot for each field that is used; any other root has one slot.
#[derive(Clone, Debug, Default)]
pub struct Env {
    roots: Vec<(String, Type)>,
    /// Numbers of roots that are there whatever their type says.
    present: Vec<usize>,
}

impl Env {
    /// Makes an environment without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a root; its number is the count of those before it.
    #[must_use]
    pub fn root(mut self, name: impl Into<String>, root_type: Type) -> Self {
        self.roots.push((name.into(), root_type));
        self
    }

    /// Says that a root whose type is optional is there: something outside the expression has tested it.
    #[must_use]
    pub fn present(mut self, root: usize) -> Self {
        self.present.push(root);
        self
    }

    /// Returns the roots in order.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.roots.iter().map(|(name, root_type)| (name.as_str(), root_type))
    }
}

/// Something that an expression reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldUse {
    /// Number of the root in its [`Env`].
    pub root: usize,
    /// Position of the field in the root's record type; none for the whole root.
    pub field: Option<usize>,
}

/// An expression that passed the checker.
#[derive(Clone, Debug)]
pub struct Checked {
    tree: tree::Node,
}

/// Checks an expression against the types of the roots.
///
/// # Errors
/// Every mistake that was found, with spans in `text`. After a mistake of syntax nothing else is looked for.
pub fn check(text: &str, env: &Env) -> Result<Checked, Vec<Diagnostic>> {
    check::check(text, env, None).map(|tree| Checked { tree })
}

/// Checks an expression whose value goes where `wanted` is.
///
/// Beyond [`fits`], text that is literal may stand for an enum when it is one of the symbols.
///
/// # Errors
/// As [`check`]; also when the value's type is not `wanted`.
pub fn check_as(text: &str, env: &Env, wanted: &Type) -> Result<Checked, Vec<Diagnostic>> {
    check::check(text, env, Some(wanted)).map(|tree| Checked { tree })
}

/// Computes an expression that names nothing, for a place that takes `wanted`.
///
/// # Errors
/// As [`check_as`]; when it cannot be computed.
pub fn constant(text: &str, wanted: &Type) -> Result<Value, Vec<Diagnostic>> {
    let checked = check_as(text, &Env::new(), wanted)?;
    let computed = checked.compile(&|_| 0).eval(&[], &mut Scratch::default());
    computed.map_err(|error| vec![Diagnostic::error(codes::LITERAL_INVALID, error.span, error.message)])
}

impl Checked {
    /// Returns the type of the values.
    pub fn value_type(&self) -> &Type {
        &self.tree.value_type
    }

    /// Returns the value when it is the same whatever the slots hold.
    pub fn constant(&self) -> Option<&Value> {
        self.tree.constant()
    }

    /// Returns what is read, each once, in order.
    pub fn fields_used(&self) -> Vec<FieldUse> {
        let mut uses = Vec::new();
        self.tree.collect_uses(&mut uses);
        uses.sort_unstable();
        uses.dedup();
        uses
    }

    /// Tells whether a root cannot be null when the expression, a predicate, has come to `outcome`.
    pub fn proves_present(&self, root: usize, outcome: bool) -> bool {
        self.tree.facts(outcome).contains(&tree::Path::root(root))
    }

    /// Compiles to a program; `layout` tells the slot of each use within its root.
    ///
    /// For a root that is a record it is asked about single fields only: a use of the whole record is asked about every field.
    pub fn compile(&self, layout: &dyn Fn(FieldUse) -> usize) -> Program {
        compile::compile(&self.tree, layout)
    }
}
