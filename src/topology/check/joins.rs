//! Joins: what the sides must be, which form of join that makes, and what the joined row holds.

use super::super::graph::{ByVariant, Expression, Join, JoinForm, Nature, NodeId, NodeKind, Rows, Variant};
use super::super::resolve::Item;
use super::super::sources::Located;
use super::super::spec::JoinSpec;
use super::super::terms::{JoinKind, roots};
use super::expressions::{REFERENCE, Scope, all, key_format, present};
use super::{Checker, Made};
use crate::base::time::SpanMs;
use crate::base::types::{Field, RecordType};
use crate::error::codes;

impl Checker<'_> {
    pub(super) fn join(&self, item: &Item<'_>, join: &JoinSpec, left_id: NodeId, right_id: NodeId) -> Made {
        let (left, right) = (self.rows(left_id), self.rows(right_id));
        let form = self.form(join, left, right)?;
        let looks_up = matches!(form, JoinForm::StreamTable | JoinForm::StreamGlobal);
        let refers_to = self.refers_to(join, form, left, right)?;
        if refers_to.is_empty() {
            self.same_keys(join, left, right);
        }
        if !looks_up {
            self.one_type(&join.left, left);
            self.one_type(&join.right, right);
        }
        let row = right.variants.first()?;
        let row = if join.kind.keeps_left() { maybe_absent(row) } else { row.clone() }.row_type();
        // Behind a repartition there is no window, and what two rows make has none.
        let scope = Scope::row("left", left).with("right", row);
        let one_window = form == JoinForm::StreamGlobal || form == JoinForm::StreamTable && !left.rekeyed;
        let scope = if one_window { scope } else { scope.rekeyed(left.key.clone()) };
        let absent: Vec<Variant> = left.variants.iter().map(maybe_absent).collect();
        let lefts = if join.kind.keeps_right() { &absent } else { &left.variants };
        let (fields, record) = self.selected(&item.name.value, &join.select, &all(lefts), &scope)?;
        let rows = Rows {
            variants: vec![Variant::derived(record)],
            key: left.key.clone(),
            rekeyed: left.rekeyed && form == JoinForm::StreamGlobal,
            windowed: left.windowed.filter(|_| looks_up),
            nature: if matches!(form, JoinForm::TableTable | JoinForm::ForeignKey) {
                Nature::Table
            } else {
                Nature::Stream
            },
        };
        if form == JoinForm::ForeignKey {
            self.reads_no_record(join, refers_to.iter().flatten().chain(fields.iter().flatten().flatten()));
        }
        let grace = self.join_grace(join, form, left, right_id, &fields);
        Some((
            NodeKind::Join(Join { left: left_id, right: right_id, kind: join.kind, form, grace, refers_to, fields }),
            rows,
        ))
    }

    /// The key of the right row that a left one refers to, by the left row's type; empty where rows meet by their own keys.
    fn refers_to(&self, join: &JoinSpec, form: JoinForm, left: &Rows, right: &Rows) -> Option<ByVariant<Expression>> {
        let text = match form {
            JoinForm::StreamGlobal if join.key.is_none() => {
                let message = format!("`{}` is a global table: the join has no `key`", join.right.value);
                let help = "say which of its rows a row refers to: `key = 'left.country'`, or `key = 'key'`";
                self.error(codes::JOIN_SIDES, join.right.place, message, help);
                return None;
            }
            JoinForm::StreamGlobal => join.key.as_ref(),
            JoinForm::ForeignKey => join.foreign_key.as_ref(),
            JoinForm::StreamTable | JoinForm::StreamStream(_) | JoinForm::TableTable => None,
        };
        if let (Some(key), false) = (&join.key, form == JoinForm::StreamGlobal) {
            let message = "a `key` is for a join with a global table";
            let help =
                "rows meet by their own keys: re-key one side with `select_key`; of two tables say `foreign_key`";
            self.error(codes::JOIN_SIDES, key.place, message, help);
        }
        if let (Some(key), false) = (&join.foreign_key, form == JoinForm::ForeignKey) {
            let message = "a `foreign_key` is for a join of two tables";
            let help = "rows meet by their own keys: re-key one side with `select_key`; of a global table say `key`";
            self.error(codes::JOIN_SIDES, key.place, message, help);
        }
        let Some(text) = text else { return Some(Vec::new()) };
        let scope = Scope::row("left", left);
        let found = self.expression_of_kind(text, &all(&left.variants), &scope, &REFERENCE)?;
        let format = |expression: &Expression| key_format(present(expression.checked.value_type())).ok();
        if let Some(other) = found.iter().flatten().filter_map(format).find(|format| *format != right.key) {
            let message =
                format!("the key is {}, the keys of `{}` are {}", other.name(), join.right.value, right.key.name());
            let help = "convert it, `string(…)` or `int(…)`, or mend `key_format`";
            self.error(codes::JOIN_SIDES, super::text_place(text), message, help);
        }
        Some(found)
    }

    /// What kind of join the sides make.
    fn form(&self, join: &JoinSpec, left: &Rows, right: &Rows) -> Option<JoinForm> {
        let window = |form: JoinForm| {
            if let Some((_, place)) = join.window {
                let help = "a `window` is for two streams: leave it out";
                self.error(codes::JOIN_SIDES, place, "a join with a table has no `window`", help);
            }
            Some(form)
        };
        match (left.nature, right.nature, &join.window) {
            (Nature::Stream, Nature::Table | Nature::Global, _) if join.kind == JoinKind::Outer => {
                let message = format!(
                    "`{}` is a stream and `{}` a table: only the stream's rows set the join off",
                    join.left.value, join.right.value
                );
                self.error(
                    codes::JOIN_SIDES,
                    join.left.place,
                    message,
                    "`kind = \"left\"` keeps every row of the stream",
                );
                None
            }
            (Nature::Stream, Nature::Table, _) => window(JoinForm::StreamTable),
            (Nature::Stream, Nature::Global, _) => window(JoinForm::StreamGlobal),
            (Nature::Table, Nature::Global, _) => {
                let message = format!(
                    "`{}` is a table and `{}` a global table: its changes set nothing off, so the result would not follow it",
                    join.left.value, join.right.value
                );
                let help = "put a stream on the left (`[stream.…]` with `from` the table gives its changes), or make the right one a `[table.…]`";
                self.error(codes::JOIN_SIDES, join.left.place, message, help);
                None
            }
            // Reported where inputs are looked at.
            (Nature::Global, ..) => None,
            (Nature::Table, Nature::Table, _) if join.foreign_key.is_none() => window(JoinForm::TableTable),
            (Nature::Table, Nature::Table, _) if join.kind == JoinKind::Outer => {
                let place = join.foreign_key.as_ref().map_or(join.left.place, |key| key.place);
                let message = "a join by `foreign_key` is inner or left: a row of the right has no key of the result's";
                let help = "`kind = \"left\"` keeps every row of the left table";
                self.error(codes::JOIN_SIDES, place, message, help);
                None
            }
            (Nature::Table, Nature::Table, _) => window(JoinForm::ForeignKey),
            (Nature::Stream, Nature::Stream, Some((window, _))) => Some(JoinForm::StreamStream(*window)),
            (Nature::Stream, Nature::Stream, None) => {
                let message = format!(
                    "`{}` and `{}` are streams: their join needs a `window`",
                    join.left.value, join.right.value
                );
                let help = "say how far apart two rows may be: `window = { before = \"5m\", after = \"5m\", grace = \"1m\" }`; or make one a `[table.…]`";
                self.error(codes::JOIN_SIDES, join.right.place, message, help);
                None
            }
            (Nature::Table, Nature::Stream, _) => {
                let message = format!("`{}` is a table and `{}` a stream", join.left.value, join.right.value);
                self.error(
                    codes::JOIN_SIDES,
                    join.left.place,
                    message,
                    "swap the sides: the stream stands on the left",
                );
                None
            }
        }
    }

    /// Rows may wait for versions of a table that come late (Kafka Streams' `Joined.withGracePeriod`).
    fn join_grace(
        &self,
        join: &JoinSpec,
        form: JoinForm,
        left: &Rows,
        right: NodeId,
        fields: &ByVariant<Vec<Expression>>,
    ) -> Option<SpanMs> {
        let grace = join.grace.as_ref()?;
        let history = match (&self.nodes[right.0].kind, form) {
            (NodeKind::Table(table), JoinForm::StreamTable) => table.versioned,
            (_, _) => None,
        };
        let Some(history) = history else {
            let message = format!(
                "`{}` keeps no versions: rows that wait would find what is newest all the same",
                join.right.value
            );
            let help = "`grace` is for a join with a versioned table: `versioned = \"1h\"`; a stream's grace stands in its `window`";
            self.error(codes::JOIN_SIDES, grace.place, message, help);
            return None;
        };
        if grace.value > history {
            let message = format!("rows wait {}, the table keeps {history}", grace.value);
            let help = "a row must find its version when it has waited: let the table keep more, or rows wait less";
            self.error(codes::JOIN_SIDES, grace.place, message, help);
        }
        self.one_type(&join.left, left);
        if fields.iter().flatten().flatten().any(reads_record) {
            let message = "`meta`, `headers` and `window` are not known any more when a row has waited";
            let help = "take them into the row first: a stream with `set` in front";
            self.error(codes::JOIN_SIDES, grace.place, message, help);
        }
        Some(grace.value)
    }

    /// What is asked of another task comes back with nothing of the record that the question was about.
    fn reads_no_record<'e>(&self, join: &JoinSpec, expressions: impl Iterator<Item = &'e Expression>) {
        if expressions.into_iter().any(reads_record) {
            let message = "`meta`, `headers` and `window` are not known in a join by `foreign_key`";
            let help =
                "its rows are those of tables, whatever record changed them: take what is needed into the rows first";
            let place = join.foreign_key.as_ref().map_or(join.left.place, |key| key.place);
            self.error(codes::JOIN_SIDES, place, message, help);
        }
    }

    /// Rows that are kept for the join have one shape.
    fn one_type(&self, name: &Located<String>, rows: &Rows) {
        if let [_, _, ..] = rows.variants.as_slice() {
            let names: Vec<&str> = rows.variants.iter().map(Variant::short_name).collect();
            let message = format!("the rows of `{}` have several types: `{}`", name.value, names.join("`, `"));
            let help = "put a stream between that keeps one type (`on`) or gives one (`select`)";
            self.error(codes::SHAPES_DIFFER, name.place, message, help);
        }
    }

    fn same_keys(&self, join: &JoinSpec, left: &Rows, right: &Rows) {
        if left.key != right.key {
            let message = format!(
                "the keys do not match: `{}` has {} keys, `{}` has {}",
                join.left.value,
                left.key.name(),
                join.right.value,
                right.key.name()
            );
            let help = "rows meet by the bytes of their keys: re-key one side with `select_key`, or mend `key_format`";
            self.error(codes::JOIN_SIDES, join.left.place, message, help);
        }
    }
}

/// Tells whether an expression reads something of the record that a row came with.
fn reads_record(expression: &Expression) -> bool {
    let used = expression.checked.fields_used();
    used.iter().any(|used| matches!(used.root, roots::META | roots::HEADERS | roots::WINDOW))
}

/// A row that may not be there: each of its fields is null then.
fn maybe_absent(row: &Variant) -> Variant {
    let optional = |field: &Field| Field { name: field.name.clone(), field_type: field.field_type.clone().optional() };
    let fields = row.fields().iter().map(optional).collect();
    Variant { record: RecordType::new(row.name(), fields), schema: None, scalar: row.scalar }
}
