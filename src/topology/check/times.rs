//! Nodes that hold rows until a time comes: what they hold, and what may come in.

use super::super::graph::{Dedupe, Nature, NodeId, NodeKind, Punctuate, Rows, Suppress, Timer, Variant};
use super::super::resolve::Item;
use super::super::spec::{DedupeSpec, PunctuateSpec, SuppressSpec, TimerSpec};
use super::super::terms::SuppressUntil;
use super::expressions::{self, Scope, all, some};
use super::{Checker, Made};
use crate::base::types::Type;
use crate::error::codes;

impl Checker<'_> {
    pub(super) fn suppress(&self, suppress: &SuppressSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let of = &self.nodes[from.0].kind;
        let window = if let NodeKind::Aggregate(aggregate) = of { aggregate.window } else { None };
        if input.nature != Nature::Table && window.is_none() {
            let message =
                format!("`{}` is a stream: each of its rows is a fact, none replaces another", suppress.from.value);
            let help = "suppress holds the changes of a table or of an aggregate back";
            self.error(codes::SHAPES_DIFFER, suppress.from.place, message, help);
            return None;
        }
        let until = match (suppress.until.value, window) {
            (Some(span), _) => SuppressUntil::Time(span),
            (None, Some(window)) => SuppressUntil::WindowClose(window),
            (None, None) => {
                let message = format!("rows of `{}` have no window that could close", suppress.from.value);
                let help = "name a windowed aggregate, or a span of time: `until = \"10s\"`";
                self.error(codes::WINDOW_MISUSE, suppress.until.place, message, help);
                return None;
            }
        };
        let kind = NodeKind::Suppress(Suppress { from, until, bounds: suppress.bounds });
        Some((kind, input.clone()))
    }

    pub(super) fn dedupe(&self, dedupe: &DedupeSpec, from: NodeId) -> Made {
        let input = self.rows(from);
        let taken = match &dedupe.on {
            Some(names) => self.variants_named(input, names, &dedupe.from.value)?,
            None => (0..input.variants.len()).collect(),
        };
        let taking = some(&input.variants, &taken);
        let id = self.expression_of_kind(&dedupe.id, &taking, &Scope::row("value", input), &expressions::KEY)?;
        let variants = taken.iter().map(|index| input.variants[*index].clone()).collect();
        let rows = Rows { variants, nature: Nature::Stream, ..input.clone() };
        Some((NodeKind::Dedupe(Dedupe { from, id, within: dedupe.within }), rows))
    }

    pub(super) fn punctuate(&self, item: &Item<'_>, punctuate: &PunctuateSpec, table: NodeId) -> Made {
        let input = self.rows(table);
        let versioned = matches!(&self.nodes[table.0].kind, NodeKind::Table(of) if of.versioned.is_some());
        if input.nature != Nature::Table || versioned {
            let what = if versioned { "a table of versions" } else { "a stream" };
            let message = format!("`{}` is {what}: it has no one row per key to go through", punctuate.table.value);
            let help = "name a table without `versioned`, an aggregate without `window`, or an entity";
            self.error(codes::SHAPES_DIFFER, punctuate.table.place, message, help);
            return None;
        }
        let (taking, scope) = (all(&input.variants), Scope::row("value", input));
        let filter = punctuate.filter.as_ref().map(|text| self.expression_as(text, &taking, &scope, &Type::Bool));
        let (fields, record) = self.selected(&item.name.value, &punctuate.select, &taking, &scope)?;
        let filter = match filter {
            Some(filter) => filter?.into_iter().next().flatten(),
            None => None,
        };
        let rows = Rows {
            variants: vec![Variant::derived(record)],
            key: input.key.clone(),
            rekeyed: false,
            windowed: None,
            nature: Nature::Stream,
        };
        let fields = fields.into_iter().next().flatten().unwrap_or_default();
        let (every, clock) = (punctuate.every, punctuate.clock);
        Some((NodeKind::Punctuate(Punctuate { table, every, clock, filter, fields }), rows))
    }

    pub(super) fn timer(&self, item: &Item<'_>, timer: &TimerSpec, from: NodeId, cancel: Option<NodeId>) -> Made {
        let input = self.rows(from);
        if let (Some(id), Some(name)) = (cancel, &timer.cancel) {
            let other = self.rows(id);
            if other.key != input.key {
                let message = format!(
                    "the keys do not match: `{}` has {} keys, `{}` has {}",
                    timer.from.value,
                    input.key.name(),
                    name.value,
                    other.key.name()
                );
                let help = "a timer is cancelled by a row of its key: re-key one of them with `select_key`";
                self.error(codes::JOIN_SIDES, name.place, message, help);
            }
        }
        let scope = Scope::row("value", input);
        let scope = if input.rekeyed { scope.rekeyed(input.key.clone()) } else { scope };
        let (fields, record) = self.selected(&item.name.value, &timer.select, &all(&input.variants), &scope)?;
        let rows = Rows {
            variants: vec![Variant::derived(record)],
            key: input.key.clone(),
            rekeyed: false,
            windowed: None,
            nature: Nature::Stream,
        };
        let timer = Timer { from, cancel, after: timer.after, clock: timer.clock, fields };
        Some((NodeKind::Timer(timer), rows))
    }
}
