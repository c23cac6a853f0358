//! Comprehensions: `all`, `exists`, `exists_one`, `map` and `filter` over lists, and over the keys of maps.

use std::sync::Arc;

use crate::base::diag::Span;
use crate::base::types::Type;
use crate::expr::ast::{Ast, AstKind, Name};
use crate::expr::tree::{Comprehension, Macro, Node, NodeKind};

use super::{Checker, Local, problems};

impl Checker<'_> {
    pub(super) fn comprehension(&mut self, target: &Ast, function: &Name, args: &[Ast], span: Span) -> Option<Node> {
        let kind = match function.text.as_str() {
            "all" => Macro::All,
            "exists" => Macro::Exists,
            "exists_one" | "existsOne" => Macro::ExistsOne,
            "map" => Macro::Map,
            _ => Macro::Filter,
        };
        let range = self.node(target).and_then(|range| self.not_null(range));
        let (item, condition, body) = match (kind, args) {
            (_, [item, body]) => (item, None, body),
            (Macro::Map, [item, condition, body]) => (item, Some(condition), body),
            _ => return self.misused(function, span),
        };
        let AstKind::Ident(name) = &item.kind else { return self.misused(function, item.span) };
        let range = range?;
        let item_type = if let Type::List(item) = &range.value_type {
            (**item).clone()
        } else if let Type::Map(_) = range.value_type {
            Type::String
        } else {
            let role = format!("what `{}` goes over", function.text);
            self.problems.push(problems::mismatch(range.span, &role, &range.value_type, "a list or a map"));
            return None;
        };
        let number = self.locals_made;
        self.locals_made += 1;
        self.locals.push(Local { name: name.clone(), value_type: item_type.clone(), number });
        let parts = self.parts(kind, condition, body, function);
        self.locals.pop();
        let (condition, body) = parts?;
        let value_type = match kind {
            Macro::All | Macro::Exists | Macro::ExistsOne => Type::Bool,
            Macro::Filter => Type::List(Arc::new(item_type)),
            Macro::Map => Type::List(Arc::new(body.value_type.clone())),
        };
        let parts = Comprehension { kind, range, item: number, condition, body };
        Some(Node::new(NodeKind::Comprehension(Box::new(parts)), value_type, span))
    }

    fn parts(
        &mut self,
        kind: Macro,
        condition: Option<&Ast>,
        body: &Ast,
        function: &Name,
    ) -> Option<(Option<Node>, Node)> {
        let role = format!("the predicate of `{}`", function.text);
        let Some(condition) = condition else {
            let body = if kind == Macro::Map { self.node(body) } else { self.bool_node(body, &role) };
            return Some((None, body?));
        };
        let condition = self.bool_node(condition, &role);
        let facts = condition.as_ref().map_or_else(Vec::new, |node| node.facts(true));
        let body = self.given(facts, |checker| checker.node(body));
        Some((Some(condition?), body?))
    }

    fn misused(&mut self, function: &Name, span: Span) -> Option<Node> {
        let name = &function.text;
        let message = format!("`{name}` takes a name and an expression over it");
        self.problems.push(problems::wrong_use(span, message, &format!("write `list.{name}(x, … x …)`")));
        None
    }
}
