//! Recognising aggregate calls. What they compute is the operators' affair; their arguments are expressions of their own.

use crate::base::diag::{Diagnostic, Span};

use super::ast::AstKind;
use super::parse::parse;

/// The aggregates there are.
pub const AGGREGATES: [&str; 9] = ["count", "sum", "avg", "min", "max", "first", "last", "collect", "count_distinct"];

/// An expression that is one call of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateCall {
    pub function: String,
    pub function_span: Span,
    /// Where each argument's text stands.
    pub args: Vec<Span>,
}

/// Tells whether the whole expression is a call of one of [`AGGREGATES`]; how many arguments it takes is not judged here.
///
/// # Errors
/// When the text is not an expression.
pub fn aggregate_call(text: &str) -> Result<Option<AggregateCall>, Vec<Diagnostic>> {
    let (ast, problems) = parse(text);
    let Some(ast) = ast else { return Err(problems) };
    let AstKind::Call { target: None, function, args } = ast.kind else { return Ok(None) };
    if !AGGREGATES.contains(&function.text.as_str()) {
        return Ok(None);
    }
    Ok(Some(AggregateCall {
        function: function.text,
        function_span: function.span,
        args: args.iter().map(|arg| arg.span).collect(),
    }))
}
