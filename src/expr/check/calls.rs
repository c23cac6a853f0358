//! Calls: those of the table, and the ones on optionals, which are lazy.

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::base::value::Value;
use crate::expr::ast::{Access, Ast, AstKind, Name};
use crate::expr::functions;
use crate::expr::tree::{Node, NodeKind, Origin};
use crate::expr::types::{Overload, Style, nothing, unify};

use super::{Checker, problems};

/// Name spaces of global functions.
const NAME_SPACES: [&str; 2] = ["math", "optional"];

/// Tells whether the node is a conversion: of a literal, it has to succeed.
pub(super) fn is_conversion(node: &Node) -> bool {
    let NodeKind::Call { overload, .. } = &node.kind else { return false };
    overload.style == Style::Global
        && matches!(overload.name, "int" | "uint" | "double" | "string" | "bytes" | "bool" | "timestamp" | "duration")
}

impl Checker<'_> {
    pub(super) fn call(&mut self, target: Option<&Ast>, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let Some(target) = target else {
            return if function.text == "has" { self.has(args, span) } else { self.global(function, args, span) };
        };
        if let AstKind::Ident(space) = &target.kind
            && NAME_SPACES.contains(&space.as_str())
            && !self.env.roots.iter().any(|(root, _)| root == space)
        {
            let text = format!("{space}.{}", function.text);
            let name = Name { text, span: Span::new(target.span.start, function.span.end) };
            return self.global(&name, args, span);
        }
        match function.text.as_str() {
            "all" | "exists" | "exists_one" | "existsOne" | "map" | "filter" => {
                self.comprehension(target, function, args, span)
            }
            "orValue" | "or" | "hasValue" | "value" => self.on_optional(target, function, args, span),
            _ => {
                let target = self.node(target);
                let args: Vec<Option<Node>> = args.iter().map(|arg| self.node(arg)).collect();
                let nodes: Vec<Node> = [target].into_iter().chain(args).collect::<Option<_>>()?;
                self.table_call(Style::Method, function, nodes, span)
            }
        }
    }

    fn global(&mut self, name: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let nodes: Vec<Option<Node>> = args.iter().map(|arg| self.node(arg)).collect();
        match (name.text.as_str(), args.len()) {
            ("optional.none", 0) => {
                let mut node = Node::new(NodeKind::Constant(Value::Null), nothing().optional(), span);
                node.origin = Origin::Chosen;
                Some(node)
            }
            ("optional.of", 1) => {
                let mut nodes = nodes;
                let node = nodes.pop()??;
                let node = self.not_null(node)?;
                Some(Node { value_type: node.value_type.clone().optional(), origin: Origin::Chosen, span, ..node })
            }
            ("optional.none" | "optional.of", _) => {
                let wanted = if name.text == "optional.of" { "one argument" } else { "no argument" };
                let message = format!("`{}` takes {wanted}, not {}", name.text, args.len());
                self.problems.push(problems::wrong_use(span, message, "write `optional.of(x)` or `optional.none()`"));
                None
            }
            _ => {
                let known = functions::overloads(Style::Global, &name.text).next().is_some();
                if !known {
                    self.problems.push(problems::unknown_function(name, Style::Global));
                    return None;
                }
                let nodes: Vec<Node> = nodes.into_iter().collect::<Option<_>>()?;
                self.table_call(Style::Global, name, nodes, span)
            }
        }
    }

    fn table_call(&mut self, style: Style, name: &Name, mut args: Vec<Node>, span: Span) -> Option<Node> {
        let overloads = || functions::overloads(style, &name.text);
        if overloads().next().is_none() {
            self.problems.push(problems::unknown_function(name, style));
            return None;
        }
        let types: Vec<Type> = args.iter().map(|arg| arg.value_type.clone()).collect();
        let apply = |types: &[Type]| overloads().find_map(|overload| Some((overload, overload.apply(types)?)));
        let Some((overload, result)) = apply(&types) else {
            let required: Vec<Type> = types.iter().map(|given| given.required().clone()).collect();
            if required != types && apply(&required).is_some() {
                for arg in args {
                    self.not_null(arg);
                }
            } else {
                self.problems.push(problems::wrong_arguments(span, &name.text, &types, overloads()));
            }
            return None;
        };
        self.check_literals(overload, &args)?;
        if overload.name == "matches"
            && let Some(Value::String(pattern)) = args[1].constant()
            && args[0].constant().is_none()
        {
            let pattern = functions::compile_pattern(pattern).ok()?;
            let text = Box::new(args.swap_remove(0));
            return Some(Node::new(NodeKind::Matches { text, pattern }, Type::Bool, span));
        }
        Some(Node::new(NodeKind::Call { overload, args }, result, span))
    }

    /// Refuses patterns and time zones that are literal and wrong.
    fn check_literals(&mut self, overload: &Overload, args: &[Node]) -> Option<()> {
        let [first, literal] = args else { return Some(()) };
        let Some(Value::String(text)) = literal.constant() else { return Some(()) };
        let problem = if overload.name == "matches" {
            let Err(reason) = functions::compile_pattern(text) else { return Some(()) };
            problems::invalid_argument(
                literal.span,
                &reason,
                "the syntax is RE2's; a literal backslash needs `\\\\` or `r\"…\"`",
            )
        } else if first.value_type == Type::DateTime && functions::zone_offset_seconds(text).is_none() {
            let reason = format!("`{text}` is not a time zone");
            problems::invalid_argument(literal.span, &reason, "write `UTC` or a fixed offset like `+02:00`")
        } else {
            return Some(());
        };
        self.problems.push(problem);
        None
    }

    fn on_optional(&mut self, target: &Ast, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let value = self.node(target);
        let args: Vec<Option<Node>> = args.iter().map(|arg| self.node(arg)).collect();
        let value = value?;
        let wanted = usize::from(matches!(function.text.as_str(), "orValue" | "or"));
        if args.len() != wanted {
            let message = format!("`{}` takes {wanted} arguments, not {}", function.text, args.len());
            self.problems.push(problems::wrong_use(
                span,
                message,
                "write `x.orValue(other)`, `x.or(other)`, `x.hasValue()` or `x.value()`",
            ));
            return None;
        }
        if !value.value_type.allows_null() && value.origin != Origin::Narrowed {
            self.problems.push(problems::never_null(value.span, self.written(value.span), &value.value_type));
            return None;
        }
        match function.text.as_str() {
            "hasValue" => self.null_test(value, false, span),
            "value" => {
                let value_type = value.value_type.required().clone();
                Some(Node::new(NodeKind::Unwrap(Box::new(value)), value_type, span))
            }
            name => {
                let otherwise = args.into_iter().next()??;
                let inner = value.value_type.required();
                let Some(common) = unify(inner, &otherwise.value_type) else {
                    let role = format!("the argument of `{name}`");
                    let problem = problems::mismatch(otherwise.span, &role, &otherwise.value_type, &inner.to_string());
                    self.problems.push(problem);
                    return None;
                };
                let origin = if name == "or" { Origin::Chosen } else { Origin::Declared };
                let kind = NodeKind::OrElse { value: Box::new(value), otherwise: Box::new(otherwise) };
                Some(Node { origin, ..Node::new(kind, common, span) })
            }
        }
    }

    /// `has(a.b.c)`: whether all of it is there; null on the way means that it is not.
    fn has(&mut self, args: &[Ast], span: Span) -> Option<Node> {
        let [Ast { kind: AstKind::Select { base, field, .. }, span: whole, .. }] = args else {
            let message = "`has` takes one selection".to_owned();
            self.problems.push(problems::wrong_use(span, message, "write `has(value.x)`"));
            return None;
        };
        let base = self.on_the_way(base)?;
        let node = self.select(base, field, Access::Optional, *whole)?;
        Some(Node::new(NodeKind::IsNull { of: Box::new(node), expected: false }, Type::Bool, span))
    }

    fn on_the_way(&mut self, ast: &Ast) -> Option<Node> {
        let AstKind::Select { base, field, .. } = &ast.kind else { return self.node(ast) };
        let base = self.on_the_way(base)?;
        self.select(base, field, Access::Optional, ast.span)
    }
}
