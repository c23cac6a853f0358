//! What binds a name: comprehensions over lists and maps, with one variable or two; `cel.bind`, `optMap` and `optFlatMap`.

use std::sync::Arc;

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::expr::ast::{Ast, AstKind, Name};
use crate::expr::tree::{Absence, Binding, Comprehension, Macro, Node, NodeKind, Origin};
use crate::expr::types::is_nothing;

use super::{Checker, Local, problems};

/// The arguments of a comprehension, apart.
struct Parts<'a> {
    kind: Macro,
    /// One name: the item, or the key. Two: the index or the key, and the item.
    names: Vec<&'a str>,
    condition: Option<&'a Ast>,
    body: &'a Ast,
}

/// Tells whether a method is a comprehension.
pub(super) fn is_comprehension(method: &str) -> bool {
    matches!(
        method,
        "all"
            | "exists"
            | "exists_one"
            | "existsOne"
            | "map"
            | "filter"
            | "transformList"
            | "transformMap"
            | "transformMapEntry"
    )
}

fn parts<'a>(function: &str, args: &'a [Ast]) -> Option<Parts<'a>> {
    let (kind, names, conditional) = match (function, args.len()) {
        ("all", 2) => (Macro::All, 1, false),
        ("all", 3) => (Macro::All, 2, false),
        ("exists", 2) => (Macro::Exists, 1, false),
        ("exists", 3) => (Macro::Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (Macro::ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (Macro::ExistsOne, 2, false),
        ("filter", 2) => (Macro::Filter, 1, false),
        ("map", 2) => (Macro::Map, 1, false),
        ("map", 3) => (Macro::Map, 1, true),
        ("transformList", 3) => (Macro::Map, 2, false),
        ("transformList", 4) => (Macro::Map, 2, true),
        ("transformMap", 3) => (Macro::TransformMap, 2, false),
        ("transformMap", 4) => (Macro::TransformMap, 2, true),
        ("transformMapEntry", 3) => (Macro::TransformMapEntry, 2, false),
        ("transformMapEntry", 4) => (Macro::TransformMapEntry, 2, true),
        _ => return None,
    };
    let (bound, rest) = args.split_at(names);
    let names: Vec<&str> = bound.iter().map(|name| identifier(name)).collect::<Option<_>>()?;
    let distinct = names.len() < 2 || names[0] != names[1];
    let condition = if conditional { rest.first() } else { None };
    distinct.then_some(Parts { kind, names, condition, body: rest.last()? })
}

fn identifier(ast: &Ast) -> Option<&str> {
    if let AstKind::Ident(name) = &ast.kind { Some(name) } else { None }
}

impl Checker<'_> {
    pub(super) fn comprehension(&mut self, target: &Ast, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let range = self.node(target).and_then(|range| self.not_null(range));
        let Some(parts) = parts(&function.text, args) else {
            self.problems.push(problems::macro_use(span, &function.text));
            return None;
        };
        let range = range?;
        let types = self.item_types(&range, function, &parts)?;
        let first = self.locals_made;
        for (name, value_type) in parts.names.iter().zip(&types) {
            self.bind(name, value_type.clone());
        }
        let checked = self.condition_and_body(&parts, function);
        self.locals.truncate(self.locals.len() - types.len());
        let (condition, body) = checked?;
        let value_type = match parts.kind {
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::Bool,
            Macro::Filter => Type::List(Arc::new(types[0].clone())),
            Macro::Map => Type::List(Arc::new(body.value_type.clone())),
            Macro::TransformMap => Type::Map(Arc::new(body.value_type.clone())),
            Macro::TransformMapEntry => body.value_type.clone(),
        };
        let (item, key) = if types.len() == 2 { (first + 1, Some(first)) } else { (first, None) };
        let parts = Comprehension { kind: parts.kind, range, item, key, condition, body };
        Some(Node::new(NodeKind::Comprehension(Box::new(parts)), value_type, span))
    }

    /// Returns the types of the variables.
    fn item_types(&mut self, range: &Node, function: &Name, parts: &Parts<'_>) -> Option<Vec<Type>> {
        let one = parts.names.len() == 1;
        let types = if let Type::List(item) = &range.value_type {
            if parts.kind == Macro::TransformMap && !is_nothing(item) {
                // Over a list the keys would be its indexes.
                self.problems.push(problems::key_type(range.span, &Type::Int));
                return None;
            }
            if one { vec![(**item).clone()] } else { vec![Type::Int, (**item).clone()] }
        } else if let Type::Map(value) = &range.value_type {
            if one { vec![Type::String] } else { vec![Type::String, (**value).clone()] }
        } else {
            let role = format!("what `{}` goes over", function.text);
            self.problems.push(problems::mismatch(range.span, &role, &range.value_type, "a list or a map"));
            return None;
        };
        Some(types)
    }

    fn condition_and_body(&mut self, parts: &Parts<'_>, function: &Name) -> Option<(Option<Node>, Node)> {
        let role = format!("the predicate of `{}`", function.text);
        let condition = parts.condition.map(|condition| self.bool_node(condition, &role));
        let facts = condition.iter().flatten().flat_map(|node| node.facts(true)).collect();
        let body = match parts.kind {
            Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter => self.bool_node(parts.body, &role),
            Macro::Map | Macro::TransformMap => self.given(facts, |checker| checker.node(parts.body)),
            Macro::TransformMapEntry => {
                let body = self.given(facts, |checker| checker.node(parts.body));
                body.and_then(|body| self.entries(body, function))
            }
        };
        match condition {
            Some(condition) => Some((Some(condition?), body?)),
            None => Some((None, body?)),
        }
    }

    fn entries(&mut self, body: Node, function: &Name) -> Option<Node> {
        let body = self.not_null(body)?;
        if let Type::Map(_) = body.value_type {
            return Some(body);
        }
        let role = format!("what `{}` makes of an item", function.text);
        self.problems.push(problems::mismatch(body.span, &role, &body.value_type, "a map"));
        None
    }

    /// Gives a name to what a macro binds; it goes with the truncation of `locals`.
    fn bind(&mut self, name: &str, value_type: Type) -> usize {
        let number = self.locals_made;
        self.locals_made += 1;
        self.locals.push(Local { name: name.to_owned(), value_type, number });
        number
    }

    /// `cel.bind(name, value, body)`.
    pub(super) fn bound(&mut self, args: &[Ast], span: Span) -> Option<Node> {
        let [name, value, body] = args else {
            self.problems.push(problems::macro_use(span, "cel.bind"));
            return None;
        };
        let Some(name) = identifier(name) else {
            self.problems.push(problems::macro_use(name.span, "cel.bind"));
            return None;
        };
        let value = self.node(value)?;
        let local = self.bind(name, value.value_type.clone());
        let body = self.node(body);
        self.locals.pop();
        let body = body?;
        let (value_type, origin) = (body.value_type.clone(), body.origin);
        let parts = Binding { value, local, body, absence: Absence::Bound };
        Some(Node { origin, ..Node::new(NodeKind::Binding(Box::new(parts)), value_type, span) })
    }

    /// `optMap` and `optFlatMap`: the body for what is there, null for null.
    pub(super) fn optional_map(&mut self, target: &Ast, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let value = self.node(target);
        let ([name, body], Some(_)) = (args, args.first().and_then(identifier)) else {
            self.problems.push(problems::macro_use(span, &function.text));
            return None;
        };
        let value = self.optional_value(value?)?;
        let local = self.bind(identifier(name)?, value.value_type.required().clone());
        let body = self.node(body);
        self.locals.pop();
        let body = if function.text == "optMap" { self.not_null(body?)? } else { body? };
        let value_type = body.value_type.clone().optional();
        let parts = Binding { value, local, body, absence: Absence::Passed };
        Some(Node { origin: Origin::Chosen, ..Node::new(NodeKind::Binding(Box::new(parts)), value_type, span) })
    }
}
