//! Calls: those of the table, the ones on optionals, which are lazy, and the ones whose types hang on literals.

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::base::value::Value;
use crate::expr::ast::{Access, Ast, AstKind, Name};
use crate::expr::functions;
use crate::expr::tree::{Node, NodeKind, Origin};
use crate::expr::types::{DECIMAL_DIGITS_MAX, Overload, Shape, Style, fits, nothing, unify};

use super::{Checker, macros, problems};

/// Name spaces of global functions; of some, only that they are not there is known.
const NAME_SPACES: [&str; 10] =
    ["math", "optional", "strings", "cel", "base64", "sets", "lists", "regex", "net", "proto"];

/// Tells whether the node is a conversion: of a literal, it has to succeed.
pub(super) fn is_conversion(node: &Node) -> bool {
    let NodeKind::Call { overload, .. } = &node.kind else { return false };
    overload.style == Style::Global
        && matches!(
            overload.name,
            "int" | "uint" | "double" | "string" | "bytes" | "bool" | "timestamp" | "duration" | "decimal"
        )
}

/// Tells whether the arguments are one list that is written down, with nothing to leave out.
fn is_plain_list(args: &[Ast]) -> bool {
    let [Ast { kind: AstKind::List(items), .. }] = args else { return false };
    items.iter().all(|(access, _)| *access == Access::Required)
}

impl Checker<'_> {
    pub(super) fn call(&mut self, target: Option<&Ast>, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let Some(target) = target else {
            return if function.text == "has" { self.has(args, span) } else { self.global(function, args, span) };
        };
        if let AstKind::Ident(space) = &target.kind
            && NAME_SPACES.contains(&space.as_str())
            && !self.env.roots.iter().any(|(root, _)| root == space)
            && !self.locals.iter().any(|local| local.name == *space)
        {
            let text = format!("{space}.{}", function.text);
            let name = Name { text, span: Span::new(target.span.start, function.span.end) };
            return if name.text == "cel.bind" { self.bound(args, span) } else { self.global(&name, args, span) };
        }
        match function.text.as_str() {
            name if macros::is_comprehension(name) => self.comprehension(target, function, args, span),
            "optMap" | "optFlatMap" => self.optional_map(target, function, args, span),
            "orValue" | "or" | "hasValue" | "value" => self.on_optional(target, function, args, span),
            "format" if is_plain_list(args) => self.formatted(target, &args[0], span),
            _ => {
                let target = self.node(target);
                if functions::overloads(Style::Method, &function.text).next().is_none() {
                    // The arguments are not looked at: they may hold names that a macro meant here would bind.
                    self.problems.push(problems::unknown_function(function, Style::Method));
                    return None;
                }
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
            ("decimal", _) => self.decimal(nodes.into_iter().collect::<Option<_>>()?, span),
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
        let origin = if let Shape::Optional(_) = overload.result { Origin::Chosen } else { Origin::Declared };
        Some(Node { origin, ..Node::new(NodeKind::Call { overload, args }, result, span) })
    }

    /// Refuses a value that is never null where an optional is meant.
    pub(super) fn optional_value(&mut self, value: Node) -> Option<Node> {
        if value.value_type.allows_null() || value.origin == Origin::Narrowed {
            return Some(value);
        }
        self.problems.push(problems::never_null(value.span, self.written(value.span), &value.value_type));
        None
    }

    /// `template.format([items])`: the items may be of different types; against a literal template they are checked.
    fn formatted(&mut self, template: &Ast, items: &Ast, span: Span) -> Option<Node> {
        let AstKind::List(items) = &items.kind else { return None };
        let template = self.node(template).and_then(|node| self.not_null(node));
        let items: Vec<Option<Node>> = items
            .iter()
            .map(|(_, item)| {
                let node = self.node(item)?;
                // What is null for certain may be written; what may be null has to be handled.
                if node.value_type == Type::Null { Some(node) } else { self.not_null(node) }
            })
            .collect();
        let template = template?;
        let items: Vec<Node> = items.into_iter().collect::<Option<_>>()?;
        if !fits(&template.value_type, &Type::String) {
            let types = [template.value_type, Type::List(nothing().into())];
            let known = functions::overloads(Style::Method, "format");
            self.problems.push(problems::wrong_arguments(span, "format", &types, known));
            return None;
        }
        if let Some(Value::String(text)) = template.constant() {
            let types: Vec<&Type> = items.iter().map(|item| &item.value_type).collect();
            if let Err(problem) = functions::check_template(text, &types) {
                let place = problem.item.map_or(template.span, |item| items[item].span);
                self.problems.push(problems::template(place, &problem));
                return None;
            }
        }
        let args = [template].into_iter().chain(items).collect();
        Some(Node::new(NodeKind::Call { overload: &functions::FORMAT_ITEMS, args }, Type::String, span))
    }

    /// `decimal(x, precision, scale)`: the type hangs on the literals.
    fn decimal(&mut self, args: Vec<Node>, span: Span) -> Option<Node> {
        let number =
            |node: &Node| node.constant().and_then(Value::as_int).and_then(|number| u32::try_from(number).ok());
        let parts = match args.as_slice() {
            [_, precision, scale] => number(precision).zip(number(scale)),
            _ => None,
        };
        let Some((precision, scale)) =
            parts.filter(|(precision, scale)| (1..=DECIMAL_DIGITS_MAX).contains(precision) && scale <= precision)
        else {
            let message = "`decimal` takes a value, and its digits in all and behind the point as literals".to_owned();
            let help = format!(
                "write `decimal(x, 9, 2)`: at most {DECIMAL_DIGITS_MAX} digits, those behind the point included"
            );
            self.problems.push(problems::wrong_use(span, message, &help));
            return None;
        };
        let name = Name { text: "decimal".to_owned(), span };
        let node = self.table_call(Style::Global, &name, args, span)?;
        Some(Node { value_type: Type::Decimal { precision, scale }, ..node })
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
        let value = self.optional_value(value)?;
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
